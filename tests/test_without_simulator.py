"""Training needs no simulator: what happens where none can be started."""

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
}
TINY |= {"use_tensorboard": False, "save_model_interval": 100, "max_episodes": 10}


class Missing(Bridge):
    """A game that is not there at all."""

    def __init__(self, episode_limit=50, start="bridge"):
        raise SimulatorError("the game is not there")


class Unplayable(Bridge):
    """Its sizes are known, but no game of it starts."""

    def make_batch(self, n_envs):
        batch = super().make_batch(n_envs)
        batch.reset = lambda seed: Missing()
        return batch


@pytest.fixture
def train(tmp_path, monkeypatch):
    """Runs BC on a Bridge dataset with another environment in Bridge's place; returns the run folder."""
    args = make_args("bc", dataset_root=str(tmp_path))
    path = find_dataset(args, Bridge(), tmp_path).path

    def train(env, **settings):
        monkeypatch.setitem(REGISTRY, "bridge", env)
        env_args = {"dataset": path, **settings.pop("env_args", {})}
        where = {"dataset_root": str(tmp_path), "local_results_path": str(tmp_path / "results")}
        return run(make_args("bc", **{**TINY, **where, "env_args": env_args, **settings}))

    return train


def columns(folder: Path) -> list[str]:
    with (folder / "metrics.csv").open() as file:
        return next(csv.reader(file))


def test_a_simulator_is_required_unless_the_user_says_otherwise(train):
    for env in (Missing, Unplayable):
        with pytest.raises(SimulatorError, match="the game is not there"):
            train(env)


@pytest.mark.parametrize("env", [Missing, Unplayable])
def test_training_goes_on_without_one_after_a_loud_warning(train, caplog, env):
    folder = train(env, require_simulator=False)
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "WITHOUT EVALUATION" in warnings[0]
    assert "the game is not there" in warnings[0]
    assert columns(folder) == [
        "step",
        *(name for name in columns(folder) if "loss" in name or "entropy" in name),
    ]
    assert json.loads((folder / "summary.json").read_text())["scores"] == {}
    # Where there is a simulator, the policy can be played.
    with pytest.raises(SimulatorError):
        train(Missing, checkpoint_path=str(folder), evaluate=True, require_simulator=False)
    played = train(Bridge, checkpoint_path=str(folder), evaluate=True)
    assert "test_return_mean" in columns(played)


def test_no_evaluation_needs_no_simulator_and_no_warning(train, caplog):
    folder = train(Missing, test_nepisode=0)
    assert "test_return_mean" not in columns(folder)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def warnings_of(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.levelno == logging.WARNING]


def test_a_policy_evaluated_elsewhere_than_its_data_was_recorded(train, caplog):
    """Trained where there is no game, played where there is one: what was not known then is said now."""
    folder = train(Missing, test_nepisode=0)
    train(Bridge, checkpoint_path=str(folder), evaluate=True)
    assert warnings_of(caplog) == []
    train(Bridge, checkpoint_path=str(folder), evaluate=True, env_args={"start": "apart"})
    assert len(warnings_of(caplog)) == 1
    assert "played elsewhere: env_args.start was 'bridge', is 'apart'" in caplog.text


def test_data_of_another_simulator_is_noticed_without_any(train, caplog, tmp_path):
    """Else SMAX's episodes would be on record as StarCraft II's."""
    data = make_data()
    data.metadata |= {"environment": "sc2", "simulator": "smax"}
    write_h5(data, tmp_path / "smax.h5")
    settings = {
        "dataset_root": str(tmp_path),
        "test_nepisode": 0,
        "agent": "mlp",
        "batch_unit": "transitions",
    }
    env_args = {"simulator": "starcraft2", "map_name": "3m", "dataset": str(tmp_path / "smax.h5")}
    settings["local_results_path"] = str(tmp_path / "results")
    run(make_args("bc", "sc2_offline", **{**TINY, **settings, "env_args": env_args}))
    assert len(warnings_of(caplog)) == 1
    assert (
        "recorded elsewhere than this run is played: simulator was smax, is starcraft2"
        in caplog.text
    )


def test_datasets_are_not_made_without_one(train):
    with pytest.raises(ConfigError, match=r"env_args\.dataset=mixed: neither a dataset"):
        train(Missing, test_nepisode=0, env_args={"dataset": "mixed"})
