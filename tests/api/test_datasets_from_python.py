"""One's own arrays become a dataset that trains."""

import sys
from pathlib import Path

import numpy as np
import pytest

import inspo
from inspo.data.formats import ROW_FIELDS
from inspo.utils.errors import DatasetError

FIELDS = ("lengths", *ROW_FIELDS)


def episodes(actions=((0, 1), (1, 0))) -> list[dict[str, np.ndarray]]:
    """One-step episodes of the XOR game."""
    payoff = np.array([[0.0, 1.0], [1.0, -2.0]])
    return [
        {
            "state": np.ones((2, 1)),
            "obs": np.ones((2, 2, 1)),
            "actions": np.array([joint, (0, 0)]),
            "avail_actions": np.ones((2, 2, 2), dtype=bool),
            "reward": np.array([payoff[joint], 0.0]),
            "terminated": np.array([True, False]),
            "truncated": np.array([False, False]),
        }
        for joint in actions
    ]


def test_what_is_not_said_about_a_dataset():
    data = inspo.from_episodes(episodes())
    assert data.path == "dataset"
    assert data.metadata == {
        "environment": "unknown",
        "env_args": {},
        "behaviour": "unknown",
        "command": " ".join(sys.argv),
    }


def test_what_is_said_stays(tmp_path):
    described = {
        "environment": "matrix_game",
        "env_args": {"n_agents": 2},
        "behaviour": "by hand",
        "command": "none",
        "note": [1, 2],
    }
    data = inspo.from_episodes(episodes(), described, "mine")
    assert data.path == "mine"
    path = inspo.write_dataset(data, tmp_path / "mine.h5")
    assert path == tmp_path / "mine.h5"
    read = inspo.load_dataset(path)
    assert read.metadata.items() >= described.items()
    assert isinstance(read, inspo.EpisodeData)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(read, name), getattr(data, name))
    assert inspo.load_dataset(path, max_episodes=1).n_episodes == 1


def test_a_dataset_that_was_read_can_be_written_again(tmp_path):
    first = inspo.write_dataset(inspo.from_episodes(episodes()), tmp_path / "one.h5")
    second = inspo.write_dataset(inspo.load_dataset(first), tmp_path / "two.h5")
    assert inspo.load_dataset(second).fingerprint == inspo.load_dataset(first).fingerprint


def test_nothing_is_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = inspo.from_episodes(episodes())
    assert inspo.write_dataset(data, "mine.h5") == Path(tmp_path, "mine.h5")
    with pytest.raises(FileExistsError, match=r"mine\.h5 exists already"):
        inspo.write_dataset(data, "mine.h5")


def test_wrong_episodes_are_refused_at_once(tmp_path):
    wrong = episodes()
    wrong[1]["actions"][0, 1] = 2
    with pytest.raises(DatasetError, match=r"mine: field 'actions'.*outside 0\.\.1 at episode 1"):
        inspo.from_episodes(wrong, {}, "mine")
    with pytest.raises(DatasetError, match="there is no episode"):
        inspo.from_episodes([])
    data = inspo.from_episodes(episodes(), {"behaviour": 3})
    with pytest.raises(inspo.UserError, match="'behaviour' must be text, not 3"):
        inspo.write_dataset(data, tmp_path / "wrong.h5")
    assert not [*tmp_path.iterdir()]


def test_it_can_be_trained_on(tmp_path):
    """A clone of agents that always play A and B earns 1."""
    data = inspo.from_episodes(episodes(actions=[(0, 1)] * 50))
    run = inspo.train(
        "bc",
        "xor_offline",
        env_args={"dataset": inspo.write_dataset(data, tmp_path / "mine.h5")},
        t_max=50,
        test_nepisode=200,
        use_tensorboard=False,
        local_results_path=tmp_path,
        dataset_root=tmp_path,
    )
    assert run.summary["dataset_fingerprint"] == data.fingerprint
    assert run.scores["test_return_mean"]["final"] > 0.9


def test_agents_of_an_environment_are_recorded(tmp_path):
    """The project's own games, played through the recorder of Gymnasium-style environments."""

    class Game:
        def __init__(self):
            self.env = inspo.make_env("xor_offline")
            sizes = np.full(self.env.n_agents, self.env.n_actions)
            self.action_space = type("MultiDiscrete", (), {"nvec": sizes})()

        def reset(self, seed=None):
            return self.env.reset(seed), {"state": self.env.get_state()}

        def step(self, actions):
            obs, *outcome, info = self.env.step(actions)
            return obs, *outcome, {**info, "state": self.env.get_state()}

    recorded = inspo.record_gymnasium(Game(), lambda obs, masks: np.array([1, 1]), n_episodes=3)
    data = inspo.from_episodes(recorded, {"environment": "matrix_game"})
    assert data.returns.tolist() == [-2.0] * 3
