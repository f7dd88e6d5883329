"""The datasets that the project makes itself."""

import numpy as np
import pytest
from conftest import make_args

from inspo.data.builtin_datasets import bridge_optimal_actions, make_builtin
from inspo.data.catalogue import find_dataset
from inspo.data.formats import load_dataset
from inspo.envs import REGISTRY, without_dataset
from inspo.envs.matrix_game import MatrixGame
from inspo.utils.errors import ConfigError


@pytest.fixture(autouse=True)
def _made_anew(monkeypatch):
    monkeypatch.setattr("inspo.data.catalogue.make_builtin", make_builtin)


def make_env(args):
    return REGISTRY[args.env](**without_dataset(args.env_args))


@pytest.mark.parametrize(
    ("environment", "dataset", "distribution"),
    [
        ("xor_offline", "a", [[0, 1 / 2], [1 / 2, 0]]),
        ("xor_offline", "b", [[1 / 3, 1 / 3], [1 / 3, 0]]),
        ("xor_offline", "c", [[1 / 4, 1 / 4], [1 / 4, 1 / 4]]),
        ("mne_offline", "balanced", np.full((3, 3), 1 / 9)),
        ("mne_offline", "imbalanced", np.outer([0.8, 0.1, 0.1], [0.8, 0.1, 0.1])),
    ],
)
def test_matrix_datasets_have_the_yaml_s_distribution(tmp_path, environment, dataset, distribution):
    args = make_args("bc", environment, env_args={"dataset": dataset})
    env = make_env(args)
    data = find_dataset(args, env, tmp_path)
    actions = np.delete(data.actions, data.final_rows, axis=0)
    counts = np.zeros(env.payoff.shape)
    np.add.at(counts, tuple(actions.T), 1)
    np.testing.assert_allclose(counts / counts.sum(), distribution, atol=1e-4)
    expected = (np.array(distribution) * env.payoff).sum()
    assert data.returns.mean() == pytest.approx(expected, abs=0.01)


def test_bridge_datasets_are_made_once_and_always_the_same(tmp_path):
    args = make_args("bc", "bridge_offline", env_args={"dataset": "mixed"})
    made = find_dataset(args, make_env(args), tmp_path / "one")
    again = find_dataset(args, make_env(args), tmp_path / "two")
    assert made.fingerprint == again.fingerprint
    assert (made.n_episodes, made.metadata["environment"]) == (1000, "bridge")
    np.testing.assert_array_equal(made.lengths[:500], 8)
    assert made.returns[:500].mean() == pytest.approx(-1.262, abs=0.005)
    assert (made.returns[:500].round(4) >= -1.2904).all()
    written = next((tmp_path / "one").rglob("*.h5"))
    stamp = written.stat().st_mtime_ns
    assert find_dataset(args, make_env(args), tmp_path / "one").fingerprint == made.fingerprint
    assert written.stat().st_mtime_ns == stamp
    # A Bridge with other rules has another dataset.
    shorter = make_args("bc", "bridge_offline", env_args={"dataset": "mixed", "episode_limit": 20})
    assert find_dataset(shorter, make_env(shorter), tmp_path / "one").lengths.max() == 20


def test_an_unknown_dataset_names_the_nearest(tmp_path):
    args = make_args("bc", "bridge_offline", env_args={"dataset": "mixd"})
    with pytest.raises(ConfigError, match="did you mean 'mixed'"):
        find_dataset(args, make_env(args), tmp_path)


def test_any_game_of_n_agents_gets_its_dataset(tmp_path):
    env_args = {
        "n_agents": 3,
        "n_actions": [2, 2, 3],
        "payoff": np.arange(12).reshape(2, 2, 3).tolist(),
    }
    mine = {"joint_actions": [[0, 1, 2], [1, 1, 0]], "weights": [3, 1]}
    env_args |= {"dataset": "mine", "datasets": {"mine": mine}}
    args = make_args("bc", "xor_offline", env_args=env_args)
    data = find_dataset(args, MatrixGame(**without_dataset(env_args)), tmp_path)
    assert data.returns.mean() == pytest.approx(0.75 * 5 + 0.25 * 9)


def test_the_optimal_recipe_has_the_support_of_the_recorded_data(recorded):
    """AlberDICE's recorded joint actions in each state are exactly those of the recipe."""
    data = load_dataset(recorded / "bridge_from_start" / "buffer_optimal")
    choices = bridge_optimal_actions()
    seen: dict[tuple, set] = {}
    for row in np.setdiff1d(np.arange(len(data.state)), data.final_rows):
        state = data.state[row].astype(int).tolist()
        positions = ((state[0], state[1]), (state[4], state[5]))
        seen.setdefault(positions, set()).add(tuple(data.actions[row].tolist()))
    for positions, actions in seen.items():
        assert actions == {tuple(choice) for choice in choices[positions].tolist()}
