"""Training needs no simulator: what happens if none can be started."""

import csv
import json
import logging
from pathlib import Path

import pytest
from conftest import make_args, make_data

from inspo.data.catalogue import find_dataset
from inspo.data.formats import write_h5
from inspo.envs import REGISTRY
from inspo.envs.bridge import Bridge
from inspo.run.run import run
from inspo.utils.errors import ConfigError, SimulatorError

TINY = {
    "hidden_dim": 16,
    "batch_size": 16,
    "t_max": 6,
    "test_interval": 3,
    "log_interval": 2,
    "test_nepisode": 4,
    "use_tensorboard": False,
    "save_model_interval": 100,
    "max_episodes": 10,
}


class Missing(Bridge):
    """A game that is not installed."""

    def __init__(self, episode_limit=50, start="bridge"):
        raise SimulatorError("the game is not there")


class Unplayable(Bridge):
    """Its sizes are known, but no game can be started."""

    def make_batch(self, n_envs):
        batch = super().make_batch(n_envs)
        batch.reset = lambda seed: Missing()
        return batch


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Runs BC on a Bridge dataset with another environment in Bridge's place."""
    args = make_args("bc", dataset_root=str(tmp_path))
    path = find_dataset(args, Bridge(), tmp_path).path

    def train(env, **settings) -> Path:
        monkeypatch.setitem(REGISTRY, "bridge", env)
        env_args = {"dataset": path, **settings.pop("env_args", {})}
        where = {"dataset_root": str(tmp_path), "local_results_path": str(tmp_path / "results")}
        return run(make_args("bc", **{**TINY, **where, "env_args": env_args, **settings}))

    return train


def columns(folder: Path) -> list[str]:
    with (folder / "metrics.csv").open() as file:
        return next(csv.reader(file))


def warnings_of(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("env", [Missing, Unplayable])
def test_a_simulator_is_required_by_default(train, env):
    with pytest.raises(SimulatorError, match="the game is not there"):
        train(env)


@pytest.mark.parametrize("env", [Missing, Unplayable])
def test_training_without_a_simulator_warns_once(train, caplog, env):
    folder = train(env, require_simulator=False)
    (warning,) = warnings_of(caplog)
    assert "WITHOUT EVALUATION" in warning
    assert "the game is not there" in warning
    first, *metrics = columns(folder)
    assert first == "step"
    assert all("loss" in name or "entropy" in name for name in metrics)
    assert json.loads((folder / "summary.json").read_text())["scores"] == {}


def test_a_policy_that_was_trained_without_a_simulator_can_be_evaluated(train):
    folder = train(Missing, test_nepisode=0)
    checkpoint = {"checkpoint_path": str(folder), "evaluate": True}
    with pytest.raises(SimulatorError):
        train(Missing, **checkpoint, require_simulator=False)
    assert "test_return_mean" in columns(train(Bridge, **checkpoint))


def test_no_evaluation_needs_no_simulator_and_no_warning(train, caplog):
    folder = train(Missing, test_nepisode=0)
    assert "test_return_mean" not in columns(folder)
    assert warnings_of(caplog) == []


def test_a_policy_evaluated_in_another_game_than_its_data(train, caplog):
    """Without a simulator, training could not compare the two. The evaluation can."""
    folder = train(Missing, test_nepisode=0)
    checkpoint = {"checkpoint_path": str(folder), "evaluate": True}
    train(Bridge, **checkpoint)
    assert warnings_of(caplog) == []
    train(Bridge, **checkpoint, env_args={"start": "apart"})
    (warning,) = warnings_of(caplog)
    assert "another game: env_args.start was 'bridge', is 'apart'" in warning


def test_data_of_another_simulator_is_noticed_without_any(caplog, tmp_path):
    """Otherwise SMAX's episodes would be recorded as StarCraft II's."""
    data = make_data()
    data.metadata |= {"environment": "sc2", "simulator": "smax"}
    path = tmp_path / "smax.h5"
    write_h5(data, path)
    settings = {
        **TINY,
        "dataset_root": str(tmp_path),
        "local_results_path": str(tmp_path / "results"),
        "test_nepisode": 0,
        "agent": "mlp",
        "batch_unit": "transitions",
        "env_args": {"simulator": "starcraft2", "map_name": "3m", "dataset": str(path)},
    }
    run(make_args("bc", "sc2_offline", **settings))
    (warning,) = warnings_of(caplog)
    assert "recorded in another game: simulator was smax, is starcraft2" in warning


def test_datasets_are_not_made_without_a_simulator(train):
    with pytest.raises(ConfigError, match=r"env_args\.dataset=mixed: neither a dataset"):
        train(Missing, test_nepisode=0, env_args={"dataset": "mixed"})
