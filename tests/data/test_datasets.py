"""Dataset files: what is written is read, and bad data is refused with its place."""

import json
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import psutil
import pytest
import torch as th
from public_layouts import write_alberdice

from inspo.data.arrays import compact_actions
from inspo.data.formats import ROW_FIELDS, from_episodes, load_dataset, open_dataset, write_h5
from inspo.envs import EnvInfo
from inspo.envs.bridge import Bridge
from inspo.utils.errors import DatasetError

pytestmark = pytest.mark.usefixtures("_no_child")


def same(first, second) -> bool:
    return first.fingerprint == second.fingerprint and all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("lengths", *ROW_FIELDS)
    )


def test_what_is_written_is_read(data, tmp_path):
    write_h5(data, tmp_path / "data.h5")
    again = load_dataset(tmp_path / "data.h5")
    assert same(data, again)
    metadata = again.metadata
    assert metadata["episodes"] == 6
    assert metadata["return_mean"] == pytest.approx(data.returns.mean())
    assert {*data.metadata, "return_std", "return_min", "return_max"} <= {*metadata}
    assert metadata["format_version"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data.h5"]


def test_writing_replaces_no_file_and_needs_metadata(data, tmp_path):
    write_h5(data, tmp_path / "data.h5")
    with pytest.raises(FileExistsError, match="nothing is written over"):
        write_h5(data, tmp_path / "data.h5")
    del data.metadata["behaviour"]
    with pytest.raises(DatasetError, match="the metadata lacks behaviour"):
        write_h5(data, tmp_path / "other.h5")


def test_the_form_of_episodes_is_checked():
    episode = {name: np.zeros((2, 1, 1)) for name in ROW_FIELDS}
    without_obs = {name: array for name, array in episode.items() if name != "obs"}
    with pytest.raises(DatasetError, match="there is no episode"):
        from_episodes([], {}, "mine")
    with pytest.raises(DatasetError, match="episode 1 lacks obs"):
        from_episodes([episode, without_obs], {}, "mine")
    with pytest.raises(DatasetError, match="fields of episode 0 differ in their number of rows"):
        from_episodes([{**episode, "reward": np.zeros(3)}], {}, "mine")
    with pytest.raises(DatasetError, match="field 'reward' of episode 0 is not an array: None"):
        from_episodes([{**episode, "reward": None}], {}, "mine")
    with pytest.raises(DatasetError, match="field 'obs' of episode 0 is not an array"):
        from_episodes([{**episode, "obs": [[1, 2], [3]]}], {}, "mine")
    with pytest.raises(DatasetError, match="give a list of episodes, not one dict"):
        from_episodes(episode, {}, "mine")
    with pytest.raises(DatasetError, match="episode 0 is a tuple; it must be a dict of arrays"):
        from_episodes([tuple(episode.values())], {}, "mine")
    masked = np.ma.masked_array(episode["obs"], mask=episode["obs"] == 0)
    with pytest.raises(DatasetError, match=r"'obs' of episode 0 has masked values.*filled"):
        from_episodes([{**episode, "obs": masked}], {}, "mine")
    tensor = th.zeros(2, 1, 1, requires_grad=True)
    with pytest.raises(DatasetError, match=r"'obs' of episode 0 is not an array.*detach\(\)"):
        from_episodes([{**episode, "obs": tensor}], {}, "mine")


def test_a_flag_in_the_final_row_has_its_own_message(data):
    data.terminated[data.final_rows[1]] = True
    with pytest.raises(DatasetError, match="set after the last step, in the final row at"):
        data.check()


@pytest.mark.parametrize("wrong", [65536, -65536, 256, -1, 4])
def test_an_action_never_wraps_into_range(wrong):
    compact = compact_actions(np.array([[1], [wrong]]), n_actions=4)
    assert compact[0, 0] == 1
    assert not 0 <= compact[1, 0] < 4


def test_a_dataset_of_other_rules_is_noticed(data):
    env_args = {"episode_limit": 50, "start": "bridge"}
    data.metadata.update(environment="bridge", env_args={**env_args, "dataset": "mixed"})
    assert data.made_elsewhere("bridge", {**env_args, "dataset": "optimal"}) == ""
    told = data.made_elsewhere("bridge", {"episode_limit": 20, "start": "bridge"})
    assert told == "env_args.episode_limit was 50, is 20"
    assert data.made_elsewhere("matrix_game", {}) == "environment was bridge, is matrix_game"


def test_max_episodes_takes_the_first(data, tmp_path):
    write_h5(data, tmp_path / "data.h5")
    part = load_dataset(tmp_path / "data.h5", max_episodes=2)
    assert part.n_episodes == 2
    np.testing.assert_array_equal(part.obs, data.obs[: part.lengths.sum() + 2])


@pytest.mark.parametrize(
    ("stated", "known"), [(0.25, 0.25), (0, 0.0), (25.0, None), ("0.25", None), (None, None)]
)
def test_the_share_of_battles_won_is_that_of_the_metadata(data, tmp_path, stated, known):
    path = tmp_path / "data.h5"
    data.metadata["battle_won_mean"] = stated
    write_h5(data, path)
    assert load_dataset(path).score_statistics().get("battle_won_mean") == known
    assert "battle_won_mean" not in load_dataset(path, max_episodes=2).score_statistics()


def test_alberdice_layout_gives_the_same_data(data, tmp_path):
    write_alberdice(data, tmp_path / "buffer")
    assert same(load_dataset(tmp_path / "buffer"), data)


@pytest.mark.parametrize(
    ("buffer", "episodes", "transitions", "mean"),
    [
        ("bridge_from_start/buffer_optimal", 500, 4000, -1.262),
        ("bridge_from_start/buffer_mix", 1000, 28885, -9.464),
    ]
    + [
        (f"mmdp_game_1_from_start/buffer_{name}", 100, 5000, None)
        for name in ("02", "02_20", "00_02_20", "random")
    ],
)
def test_recorded_buffers_load(recorded, buffer, episodes, transitions, mean):
    data = load_dataset(recorded / buffer)
    assert (data.n_episodes, data.n_transitions) == (episodes, transitions)
    if mean is not None:
        assert data.returns.mean() == pytest.approx(mean, abs=1e-3)
        data.check_env(EnvInfo(**Bridge().get_env_info()))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("reward", np.nan, r"'reward': NaN or infinity at episode 2, step 1"),
        ("obs", np.inf, r"'obs': NaN or infinity at episode 2, step 1, agent 0"),
        ("state", -np.inf, r"'state': NaN or infinity at episode 2, step 1"),
        ("actions", 200, r"'actions': an action outside 0..3 at episode 2, step 1, agent 0"),
        (
            "avail_actions",
            False,
            r"'actions': the action taken was not available at episode 2, step 1, agent 0",
        ),
        ("terminated", True, r"'terminated': set before the last step at episode 2, step 1"),
        ("truncated", True, r"'truncated': set before the last step at episode 2, step 1"),
    ],
)
def test_a_bad_value_is_refused_with_its_place(data, tmp_path, field, value, message):
    getattr(data, field)[data.starts[2] + 1] = value
    with pytest.raises(DatasetError, match=message):
        data.check()
    with pytest.raises(DatasetError):
        write_h5(data, tmp_path / "data.h5")
    assert not list(tmp_path.iterdir())


def test_an_end_must_be_one_of_two(data):
    data.terminated[:] = False
    message = "must be either terminated or truncated at episode 0, step 4"
    with pytest.raises(DatasetError, match=message):
        data.check()


def test_small_chunks_find_the_same_place(data, monkeypatch):
    monkeypatch.setattr("inspo.data.episode_data.ROWS_PER_CHECK", 3)
    data.reward[data.starts[4] + 2] = np.nan
    with pytest.raises(DatasetError, match="episode 4, step 2"):
        data.check()


def attribute(name, value):
    """Sets an attribute of a file; None deletes it."""

    def edit(file):
        if value is None:
            del file.attrs[name]
        else:
            file.attrs[name] = value

    return edit


def metadata(**values):
    """Changes the file's metadata."""

    def edit(file):
        file.attrs["metadata"] = json.dumps(json.loads(file.attrs["metadata"]) | values)

    return edit


def array(name, values):
    """Replaces an array."""

    def edit(file):
        del file[name]
        file[name] = values

    return edit


# More broken arrays are in test_broken_files.py.
DAMAGES = [
    (attribute("metadata", None), "'metadata' is missing"),
    (attribute("metadata", "{}"), "the metadata lacks environment, env_args, behaviour, command"),
    (attribute("metadata", '["environment"]'), "'metadata' is missing or no JSON record"),
    (metadata(env_args=None), "the metadata's 'env_args' must be a record, not None"),
    (metadata(env_args=["map_name"]), "'env_args' must be a record"),
    (metadata(environment=3), "the metadata's 'environment' must be text, not 3"),
    (metadata(episodes=[6]), "the metadata's 'episodes' must be a number"),
    (attribute("format_version", 9), "format version 9"),
    (attribute("format_version", np.array([1, 2])), r"format version \[1 2\]; this code"),
    (attribute("format", None), "not a dataset of this project"),
    (array("reward", np.zeros(3)), r"'reward': has shape \(3,\); the episode lengths need 26 rows"),
    (array("lengths", np.array([5, 1, 3, 4, 2, 6])), "the episode lengths need 27 rows"),
    (array("lengths", np.array([5, 1])), "2 episodes, but the metadata says 6"),
    (array("lengths", np.array([5, 1, -1, 8, 2, 5])), "episode 2 has -1 steps"),
    (array("lengths", 5), r"'lengths': has shape \(\); expected 1 axes"),
    (array("lengths", np.ones((2, 3), dtype=int)), "'lengths': has shape"),
    (
        array("reward", np.arange(26.0)),
        "'reward': a reward after the last step at episode 0, step 5",
    ),
    (array("reward", np.zeros(26, np.float32)), "the content was changed after it was written"),
]


@pytest.mark.parametrize(("edit", "message"), DAMAGES)
def test_a_damaged_h5_is_refused(data, tmp_path, edit, message):
    path = tmp_path / "data.h5"
    write_h5(data, path)
    with h5py.File(path, "r+") as file:
        edit(file)
    before = path.read_bytes()
    with pytest.raises(DatasetError, match=message):
        load_dataset(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_h5_is_refused(data, tmp_path, share):
    path = tmp_path / "data.h5"
    write_h5(data, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match=r"data\.h5: cannot be read as h5"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reward": None}, "field 'reward': missing"),
        ({"filled": np.zeros((6, 6, 1))}, "'filled': nothing filled.* at episode 0"),
        (
            {"filled": np.tile([1, 0, 1, 1, 1, 1], (6, 1))[..., None]},
            "'filled': has gaps.* at episode 0",
        ),
        ({"reward": np.zeros((6, 5, 1))}, "disagree on episodes and steps"),
        ({"reward": np.zeros((6, 6))}, r"'reward': has shape \(6, 6\); expected 3 axes"),
        ({"actions": np.zeros((6, 6, 2, 1), dtype=int)}, "disagree on the number of agents"),
        (
            {"reward": np.zeros((6, 6, 2))},
            r"'reward': has shape \(6, 6, 2\); its last axis must be 1",
        ),
        ({"filled": np.full((6, 6, 1), 0.5)}, "'filled': must hold 0 and 1 only"),
        ({"state": np.array([[["a"] * 7] * 6] * 6)}, "'state': holds <U1, not numbers"),
    ],
)
def test_a_damaged_npy_folder_is_refused(data, tmp_path, change, message):
    write_alberdice(data, tmp_path / "buffer", **change)
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "buffer")


def test_a_truncated_npy_and_a_wrong_count_are_refused(data, tmp_path):
    folder = tmp_path / "buffer"
    write_alberdice(data, folder)
    (folder / "meta.json").write_text(json.dumps({"episodes_in_buffer": 7}))
    with pytest.raises(DatasetError, match=r"meta\.json says 7 episodes, the arrays hold 6"):
        load_dataset(folder)
    (folder / "meta.json").write_text(json.dumps({"episodes_in_buffer": True}))
    with pytest.raises(DatasetError, match="'episodes_in_buffer': not a whole number: True"):
        load_dataset(folder)
    (folder / "obs.npy").write_bytes((folder / "obs.npy").read_bytes()[:300])
    with pytest.raises(DatasetError, match=r"obs\.npy: cannot be read"):
        load_dataset(folder)
    shutil.rmtree(folder)
    with pytest.raises(DatasetError, match="there is no such dataset"):
        load_dataset(folder)
    folder.mkdir()
    with pytest.raises(DatasetError, match="this folder is no dataset"):
        load_dataset(folder)


@pytest.mark.parametrize("shape", [(6, 0), (6, 6, 3, 5)])
def test_a_npy_file_that_is_written_while_it_is_open_is_refused(data, tmp_path, shape):
    """The end of a mapped file may be missing then, which would end the process."""
    folder = tmp_path / "buffer"
    write_alberdice(data, folder)
    with open_dataset(folder) as reader:
        np.save(folder / "obs.npy", np.zeros(shape))
        with pytest.raises(DatasetError, match=r"obs\.npy: cannot be read any more"):
            reader.load()


def test_a_npy_file_in_fortran_order_is_read(data, tmp_path):
    folder = tmp_path / "buffer"
    write_alberdice(data, folder)
    plain = load_dataset(folder)
    np.save(folder / "obs.npy", np.asfortranarray(np.load(folder / "obs.npy")))
    assert load_dataset(folder).fingerprint == plain.fingerprint


def test_pickled_arrays_are_never_loaded(data, tmp_path):
    write_alberdice(data, tmp_path / "buffer")
    np.save(tmp_path / "buffer" / "reward.npy", np.array([print], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"reward\.npy: cannot be read"):
        load_dataset(tmp_path / "buffer")


def test_too_large_a_dataset_is_refused_before_it_is_read(data, tmp_path, monkeypatch):
    write_h5(data, tmp_path / "data.h5")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100))
    with pytest.raises(DatasetError, match="train on a part of it with max_episodes=N"):
        load_dataset(tmp_path / "data.h5")


def test_a_dataset_of_another_game_is_refused(data):
    with pytest.raises(DatasetError, match="n_agents is 3, the environment's is 2; n_actions is 4"):
        data.check_env(EnvInfo(**Bridge().get_env_info()))
