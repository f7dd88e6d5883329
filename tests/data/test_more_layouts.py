"""npz files and Minari's datasets, and rewards per agent in every layout."""

import json
import re

import h5py
import numpy as np
import pytest
from conftest import make_data
from public_layouts import (
    ended,
    padded_arrays,
    vault_leaves,
    write_cfcql,
    write_minari,
    write_npz,
    write_omiga,
    write_padded_npz,
    write_vault,
)

from inspo.data.formats import ROW_FIELDS, from_episodes, load_dataset, open_dataset
from inspo.data.formats import reader as reader_module
from inspo.utils.errors import DatasetError

pytestmark = pytest.mark.usefixtures("_no_child")


@pytest.fixture(params=[1 << 25, 300], ids=["one block", "many blocks"])
def _block_bytes(request, monkeypatch):
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("_block_bytes")
@pytest.mark.parametrize("write", [write_npz, write_padded_npz])
def test_npz(data, tmp_path, write):
    write(data, tmp_path / "data.npz")
    with open_dataset(tmp_path / "data.npz") as reader:
        assert reader.layout.startswith("npz with")
    assert load_dataset(tmp_path / "data.npz").fingerprint == data.fingerprint
    assert load_dataset(tmp_path / "data.npz", max_episodes=2).n_episodes == 2


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("obs", lambda a: a.astype(object), "field 'obs': holds object, not numbers"),
        ("reward", lambda a: a[:-1], "field 'reward': has shape .*; the episode lengths need 26"),
        ("lengths", lambda a: a * 0, "field 'lengths': episode 0 has 0 steps"),
        ("reward", lambda a: a * np.nan, "field 'reward': NaN or infinity at episode 0, step 0"),
        ("actions", lambda a: a[:, :2], "disagree on the number of agents"),
        ("state", lambda a: np.float64(1), r"field 'state': has shape \(\); expected 2 axes"),
    ],
)
def test_a_wrong_npz_is_refused(data, tmp_path, name, change, message):
    arrays = {field: getattr(data, field) for field in ("lengths", *ROW_FIELDS)}
    arrays[name] = change(arrays[name])
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "data.npz")


@pytest.mark.usefixtures("_block_bytes")
@pytest.mark.parametrize("path", ["", "data", "data/main_data.hdf5"])
def test_minari_is_a_team_of_one(tmp_path, path):
    data = make_data(n_agents=1)
    data.avail_actions[:] = True
    data.state = data.obs[:, 0]
    write_minari(data, tmp_path / "random-v0")
    with open_dataset(tmp_path / "random-v0" / path) as reader:
        assert reader.layout == "Minari's hdf5"
        assert reader.metadata["behaviour"] == "Minari test/random-v0"
    assert load_dataset(tmp_path / "random-v0" / path).fingerprint == data.fingerprint


def edit_minari(folder, name, change):
    with h5py.File(folder / "data" / "main_data.hdf5", "r+") as file:
        for group in file.values():
            values = change(group[name][:])
            del group[name]
            group[name] = values


def test_minari_actions_may_start_at_another_number(tmp_path):
    write_minari(make_data(n_agents=1), tmp_path / "x")
    edit_minari(tmp_path / "x", "actions", lambda actions: actions - 1)
    metadata = tmp_path / "x" / "data" / "metadata.json"
    space = {"type": "Discrete", "dtype": "int64", "start": -1, "n": 4}
    metadata.write_text(json.dumps({"action_space": json.dumps(space)}))
    loaded = load_dataset(tmp_path / "x")
    np.testing.assert_array_equal(loaded.actions, make_data(n_agents=1).actions)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("actions", lambda a: a.astype(np.float32), "episode_0: field 'actions': .* continuous"),
        ("observations", lambda a: a[:-1], "episode_0: field 'observations': has 5 rows; 5 steps"),
        ("observations", lambda a: a.reshape(-1, 5, 1), "flatten each"),
        ("rewards", lambda a: np.stack([a, a], 1), "field 'rewards': has shape"),
        ("rewards", lambda a: a * np.inf, "field 'reward': NaN or infinity"),
        ("terminations", lambda a: a | True, "field 'terminated': set before the last step"),
    ],
)
def test_a_wrong_minari_dataset_is_refused(data, tmp_path, name, change, message):
    write_minari(data, tmp_path / "x")
    edit_minari(tmp_path / "x", name, change)
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "x")


def test_a_missing_minari_episode_is_told(data, tmp_path):
    write_minari(data, tmp_path / "x")
    with h5py.File(tmp_path / "x" / "data" / "main_data.hdf5", "r+") as file:
        del file["episode_2"]
    with pytest.raises(DatasetError, match="'episode_2': missing, though the file has 5 episodes"):
        load_dataset(tmp_path / "x")


def per_agent(reward):
    """Rewards of three agents, whose mean is `reward`."""
    return reward[..., None] * np.array([0, 1, 2], dtype=reward.dtype)


def write_rewards(layout, data, path, spread):
    """Writes the data with the rewards that `spread` makes of the team's."""
    if layout == "padded h5":
        write_cfcql(data, path)
        with h5py.File(path, "r+") as file:
            reward = spread(file["reward"][..., 0])
            del file["reward"]
            file["reward"] = reward
    elif layout == "omiga":
        write_omiga(data, path)
        with h5py.File(path, "r+") as file:
            reward = spread(file["r"][:])
            del file["r"]
            file["r"] = reward
    elif layout == "vault":
        leaves = vault_leaves(data)
        leaves["rewards"] = spread(data.reward[data.is_step])
        write_vault(leaves, path)
    elif layout == "npz":
        arrays = {name: getattr(data, name) for name in ("lengths", *ROW_FIELDS)}
        arrays["reward"] = spread(data.reward)
        np.savez(path.open("wb"), **arrays)
    else:
        arrays = padded_arrays(data)
        arrays["reward"] = spread(arrays["reward"][..., 0])
        np.savez(path.open("wb"), **arrays)


LAYOUTS = ["padded h5", "omiga", "vault", "npz", "padded npz"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rewards_per_agent_become_the_teams_as_the_setting_says(tmp_path, layout):
    data = ended(make_data())
    data.avail_actions[:] = True
    path = tmp_path / "data"
    write_rewards(layout, data, path, per_agent)
    with pytest.raises(
        DatasetError, match=r"rewards differ at .*reward_scalarisation=mean, or =sum"
    ):
        load_dataset(path)
    for scalarisation, factor in (("mean", 1), ("sum", 3)):
        loaded = load_dataset(path, reward_scalarisation=scalarisation)
        np.testing.assert_allclose(loaded.reward, factor * data.reward, rtol=1e-6)
        assert loaded.metadata["reward_scalarisation"] == scalarisation


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_rewards_of_all_agents_are_the_teams(tmp_path, layout):
    data = ended(make_data())
    data.avail_actions[:] = True

    def equal(reward):
        return np.repeat(reward[..., None], 3, axis=-1)

    write_rewards(layout, data, tmp_path / "data", equal)
    loaded = load_dataset(tmp_path / "data")
    np.testing.assert_array_equal(loaded.reward, data.reward)
    assert "reward_scalarisation" not in loaded.metadata


def test_rewards_per_agent_of_episodes_from_python(data):
    rows = slice(0, data.lengths[0] + 1)
    episode = {name: getattr(data, name)[rows] for name in ROW_FIELDS}
    episode["reward"] = per_agent(data.reward[rows])
    with pytest.raises(DatasetError, match=re.escape("the agents' rewards differ")):
        from_episodes([episode], {}, "mine")
    for scalarisation, factor in (("mean", 1), ("sum", 3)):
        joined = from_episodes([episode], {}, "mine", scalarisation)
        np.testing.assert_allclose(joined.reward, factor * data.reward[rows], rtol=1e-6)
    episode["reward"] = data.reward[rows, None]
    np.testing.assert_array_equal(from_episodes([episode], {}, "mine").reward, data.reward[rows])
