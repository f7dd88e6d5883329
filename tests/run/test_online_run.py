"""Online runs: QMIX on a small game."""

import json

import pytest
import torch as th
from conftest import metrics
from online_game import FAST, train_qmix, write_game

from inspo import main
from inspo.envs import REGISTRY as ENVS
from inspo.envs.matrix_game import MatrixGame
from inspo.utils.files import _machine

MILESTONES = ["standardise_rewards=True", "medium_score=5", "expert_score=15"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from start to end."""
    return train_qmix(tmp_path_factory.mktemp("online"), *MILESTONES)


def newest_checkpoint(run) -> dict:
    return th.load(sorted((run / "checkpoints").glob("step_*.pt"))[-1], weights_only=True)


def test_qmix_learns_a_monotonic_game(whole):
    assert whole.name.startswith("qmix_game_seed0_")
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["scores"]["test_return_mean"]["final"] == 18
    assert summary["step_unit"] == "environment steps"
    assert summary["milestones"]["expert"]["score"] >= 15


def test_steps_and_epsilon(whole):
    rows = metrics(whole)
    tested = [int(row["step"]) for row in rows if row["test_return_mean"]]
    assert tested[0] == 0
    # A round is 16 episodes of 2 steps.
    assert all(250 * k <= step < 250 * k + 32 for k, step in enumerate(tested))
    epsilons = [float(row["epsilon"]) for row in rows if row["epsilon"]]
    assert epsilons[-1] == pytest.approx(0.05)
    assert epsilons == sorted(epsilons, reverse=True)


def test_what_is_kept_for_datasets(whole):
    kept = {path.name for path in (whole / "checkpoints").iterdir()}
    assert {"medium.pt", "medium.replay", "expert.pt"} <= kept
    assert len(list((whole / "checkpoints").glob("step_*.replay"))) == 1


class Costly(MatrixGame):
    """Like StarCraft II: no more than three games in parallel."""

    def make_batch(self, n_envs):
        return super().make_batch(min(n_envs, 3))


def test_a_round_has_its_episodes_however_few_games_run_in_parallel(tmp_path, monkeypatch):
    """Otherwise the gradient steps per episode would depend on the machine."""
    monkeypatch.setitem(ENVS, "matrix_game", Costly)
    settings = ["n_parallel=6", "t_max=24", "learning_starts=0", "test_nepisode=3"]
    run = train_qmix(tmp_path, *settings)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["episodes"] == 12  # of two steps
    assert summary["gradient_steps"] == 2 * 3  # two rounds


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The first half of the run."""
    return train_qmix(tmp_path_factory.mktemp("half"), "t_max=500", *MILESTONES)


def test_a_resumed_run_reproduces_the_numbers(whole, half, tmp_path):
    left = half / "checkpoints" / f".step.pt.{_machine()}-{2**30}.abc.part"  # of a killed process
    left.touch()
    resumed = train_qmix(tmp_path, f"checkpoint_path={half}", *MILESTONES)
    assert not left.exists()
    assert metrics(resumed) == metrics(whole)
    expected, found = newest_checkpoint(whole), newest_checkpoint(resumed)
    assert found["milestones"] == expected["milestones"]
    for name, module in expected["learner"]["modules"].items():
        for key, value in module.items():
            assert th.equal(value, found["learner"]["modules"][name][key]), (name, key)
    for name in expected["milestones"]:
        assert (resumed / "checkpoints" / f"{name}.pt").exists()


def test_an_older_checkpoint_has_no_replay_buffer_to_resume_with(half, tmp_path, capsys):
    older = sorted((half / "checkpoints").glob("step_*.pt"))[0]
    where = f"local_results_path={tmp_path / 'results'}"
    settings = [f"checkpoint_path={older}", where, *MILESTONES]
    assert main.main(["--config=qmix", write_game(tmp_path), "with", *FAST, *settings]) == 2
    assert str(older.with_suffix(".replay")) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["test_greedy=False"], "test_greedy=False samples from a policy"),
        (["buffer_size=8"], "must hold a round of n_parallel=16 episodes"),
        (["batch_unit=transitions", "agent=mlp"], "learn from whole episodes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, capsys, settings, message):
    assert main.main(["--config=qmix", write_game(tmp_path), "with", *FAST, *settings]) == 2
    assert message in capsys.readouterr().err
