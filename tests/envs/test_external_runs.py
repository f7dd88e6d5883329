"""Runs on environments of other projects, from collecting to evaluating, and runs without any."""

import json
import logging

import pytest
from conftest import metrics

from inspo import collect
from inspo.data.formats import load_dataset
from inspo.envs import REGISTRY
from inspo.envs.bridge import Bridge
from inspo.main import main

GAME = """
env: pettingzoo
env_args:
  key: duck_games:Meeting
  episode_limit: 8
  reward_scalarisation: sum
  dataset: random
agent: mlp
"""
SMALL = [
    "t_max=40",
    "hidden_dim=16",
    "batch_size=32",
    "lr=0.003",
    "test_interval=20",
    "log_interval=20",
    "test_nepisode=40",
    "num_threads=1",
    "use_tensorboard=False",
    "local_results_path=results",
    "dataset_root=data",
]
INSPO = ["behaviour_steps=40", "critic_hidden_dim=16", "updates_per_agent=5"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the YAML of a game, as the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "meeting.yaml").write_text(GAME)
    return tmp_path


def collected(folder):
    """The file of a random dataset."""
    words = ["--random", "--env-config=meeting.yaml", "--name=random", "--episodes=300"]
    assert collect.main([*words, "with", "dataset_root=data"]) == 0
    return folder / "data" / "pettingzoo" / "duck_games-Meeting" / "random.h5"


def train(folder, algorithm, env_config="meeting.yaml", *settings):
    """Runs main.py and returns the run's folder."""
    before = set(folder.glob("results/*"))
    words = ["with", *SMALL, *settings]
    assert main([f"--config={algorithm}", f"--env-config={env_config}", *words]) == 0
    (run,) = set(folder.glob("results/*")) - before
    return run


def test_collect_train_and_evaluate(folder):
    file = collected(folder)
    data = load_dataset(file)
    data.check()
    assert data.metadata["env_args"]["key"] == "duck_games:Meeting"
    assert (data.sizes.n_agents, data.lengths.max()) == (2, 8)
    for algorithm, settings in (("bc", []), ("inspo", INSPO)):
        run = train(folder, algorithm, "meeting.yaml", *settings)
        rows = metrics(run)
        assert [row["step"] for row in rows if row["test_return_mean"]] == ["0", "20", "40"]
        # Random play returns about 0.5: meeting is worth 2, a step costs 0.1.
        assert all(-0.8 <= float(row["test_return_mean"]) <= 1.9 for row in rows)
        checkpoint = [f"checkpoint_path={run}", "evaluate=True"]
        again = train(folder, algorithm, "meeting.yaml", *settings, *checkpoint)
        assert metrics(again)[0]["test_return_mean"] == rows[-1]["test_return_mean"]


def test_data_only_trains_without_evaluation_and_says_so(folder, caplog):
    file = collected(folder)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        run = train(folder, "bc", "data_only", "test_nepisode=0", f"env_args.dataset={file}")
    assert "env: none is data without a game" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["environment"], summary["scores"]) == ("data_only", {})
    assert "test_return_mean" not in metrics(run)[0]
    # Its policy can be evaluated where there is a game.
    scores = train(folder, "bc", "meeting.yaml", f"checkpoint_path={run}", "evaluate=True")
    assert "test_return_mean" in metrics(scores)[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config=qmix", "--env-config=data_only"], "env: none is data without a game"),
        (["--config=bc", "--env-config=data_only"], "names no dataset"),
    ],
)
def test_data_only_cannot_play(folder, capsys, words, message):
    assert main([*words, "with", "dataset_root=data", "local_results_path=results"]) == 2
    assert message in capsys.readouterr().err


class BrokenBridge(Bridge):
    """Its tenth reward is NaN."""

    def step(self, actions):
        obs, reward, *rest = super().step(actions)
        return obs, float("nan") if self.steps == 10 else reward, *rest


def test_a_reward_that_is_not_finite_stops_the_run(folder, monkeypatch, capsys):
    """What is left behind is JSON: Python would write NaN, which is none."""
    monkeypatch.setitem(REGISTRY, "bridge", BrokenBridge)
    (folder / "bridge.yaml").write_text("base: bridge_offline\n")
    assert main(["--config=bc", "--env-config=bridge.yaml", "with", *SMALL]) == 2
    error = capsys.readouterr().err
    assert "environment BrokenBridge: step() (step 10 of the episode with seed 1000003)" in error
    assert "the reward is nan, not a finite number" in error
    (run,) = folder.glob("results/*/run_info.json")
    for file in run.parent.glob("*.json"):
        json.loads(file.read_text(), parse_constant=pytest.fail)
    assert not (run.parent / "summary.json").exists()


def test_a_broken_game_stops_the_run_before_its_folder_is_made(folder, capsys):
    (folder / "broken.yaml").write_text("env: habits:NaNObservation\nenv_args: {dataset: x}\n")
    (folder / "worse.yaml").write_text("env: habits:TextState\nenv_args: {dataset: x}\n")
    for name, message in (("broken", "dataset"), ("worse", r"get_state()")):
        assert main(["--config=bc", f"--env-config={name}.yaml", "with", *SMALL]) == 2
        assert message in capsys.readouterr().err
    assert not list(folder.glob("results/*"))
