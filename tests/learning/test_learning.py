"""Each algorithm truly learns, with the settings that ship. Runs are as short as that allows."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch as th
from exact_limits import exact_limits, total_variation

import inspo

pytestmark = pytest.mark.slow


@pytest.fixture
def train(tmp_path) -> Callable[..., inspo.Run]:
    """`inspo.train` in a folder of the test's own."""

    def call(algorithm: str, environment: str | Path, **settings) -> inspo.Run:
        places = {"local_results_path": tmp_path, "dataset_root": tmp_path / "dataset"}
        return inspo.train(algorithm, environment, **places, use_tensorboard=False, **settings)

    return call


def final(run: inspo.Run) -> float:
    return run.scores["test_return_mean"]["final"]


def joint_policy(run: inspo.Run) -> np.ndarray:
    """Probabilities of joint actions in a matrix game, [A, A]."""
    policy = run.policy()
    n_agents, n_actions = policy.info.n_agents, policy.info.n_actions
    batch = {
        "obs": th.ones(1, 1, n_agents, 1),
        "avail_actions": th.ones(1, 1, n_agents, n_actions, dtype=th.bool),
        "last_actions": th.full((1, 1, n_agents), -1),
    }
    first, second = policy.log_probs(batch)[0, 0].exp().numpy()
    return np.outer(first, second)


def distance_to(limits: list[np.ndarray], run: inspo.Run) -> float:
    """Of the run's joint policy to the nearest limit of the exact algorithm."""
    joint = joint_policy(run)
    return min(total_variation(joint, limit) for limit in limits)


@pytest.mark.parametrize("dataset", ["b", "c"])
def test_inspo_coordinates_on_xor(train, dataset):
    run = train("inspo", "xor_offline", env_args={"dataset": dataset}, t_max=600)
    assert final(run) >= 0.95
    if dataset == "c":  # where the exact algorithm ends
        assert distance_to(exact_limits("xor", dataset="c", alpha=0.15), run) < 0.1


def test_behaviour_cloning_does_not(train):
    run = train("bc", "xor_offline", env_args={"dataset": "c"}, t_max=600)
    assert abs(final(run)) < 0.25
    np.testing.assert_allclose(joint_policy(run), 0.25, atol=0.05)


def test_inspo_finds_the_best_equilibrium_of_mne(train):
    run = train("inspo", "mne_offline", env_args={"dataset": "imbalanced"}, t_max=1000)
    assert final(run) >= 19
    # Its beta falls from 20 to 0.1, as the learner's does.
    assert distance_to(exact_limits("mne", dataset="imbalanced", alpha=0.1), run) < 0.1


def test_without_entropy_it_stays_at_the_local_optimum(train):
    run = train("inspo", "mne_offline", env_args={"dataset": "imbalanced"}, beta=0, t_max=1000)
    assert final(run) == pytest.approx(5, abs=1)


def test_simultaneous_updates_fail_where_sequential_ones_do_not(train):
    """The ablation, in rounds of many updates: simultaneous ones cycle.

    Chance may break the tie late in a run, so it is the mean over the run that is low.
    """
    settings = {"env_args": {"dataset": "c"}, "updates_per_agent": 100, "t_max": 800}
    sequential = train("inspo", "xor_offline", update_scheme="sequential", **settings)
    assert final(sequential) >= 0.95
    simultaneous = train("inspo", "xor_offline", update_scheme="simultaneous", **settings)
    scores = [row["test_return_mean"] for row in simultaneous.metrics if "test_return_mean" in row]
    assert np.mean(scores[1:]) < 0.7


@pytest.mark.parametrize(
    ("algorithm", "environment", "dataset", "low", "high"),
    [
        ("alberdice", "xor_offline", "b", 0.9, 1.0),
        # Both A: conservatism prefers what is frequent.
        ("omar", "xor_offline", "b", -0.1, 0.1),
        # 0.206, by the best additive fit to the rewards.
        ("omiga", "xor_offline", "b", 0.1, 0.3),
        # Both B, which the data does not have, is best for that fit.
        ("icq", "xor_offline", "b", -2.0, -1.9),
        ("icq", "mne_offline", "balanced", 19.0, 20.0),
        ("omiga", "mne_offline", "imbalanced", 4.0, 6.0),
    ],
)
def test_baselines_end_where_their_theory_says(train, algorithm, environment, dataset, low, high):
    """See docs/baselines: independent agents, or a decomposed value, miss the joint action."""
    run = train(algorithm, environment, env_args={"dataset": dataset}, t_max=500)
    assert low <= final(run) <= high


def test_inspo_crosses_the_bridge(train):
    """From a dataset whose clone gets stuck."""
    mixed = {"dataset": "mixed"}
    assert final(train("bc", "bridge_offline", env_args=mixed, t_max=500)) < -5
    assert final(train("inspo", "bridge_offline", env_args=mixed)) >= -1.35


def test_a_recurrent_policy_learns_on_bridge(train):
    """The GRU path: whole episodes, history as input; well above its clone in the end.

    In the first 600 steps, the agents may block each other. It depends on the processor's rounding.
    """
    settings = {
        "env_args": {"dataset": "optimal"},
        "agent": "rnn",
        "hidden_dim": 32,
        "batch_unit": "episodes",
        "batch_size": 16,
        "obs_last_action": True,
    }
    run = train("inspo", "bridge_offline", t_max=1600, **settings)
    clone = run.metrics[0]["test_return_mean"]  # where it starts
    assert final(run) > clone + 2


def test_permuting_the_agents_permutes_the_result(train, tmp_path):
    """A game with different roles, and the same game with the agents' numbers exchanged."""
    payoff = np.array([[0.0, 0.2, 0.3], [0.1, 0.0, 1.0], [0.4, 0.1, 0.0]])
    weights = np.array([[3, 1, 1], [1, 3, 1], [1, 2, 3]])
    joints = []
    for name, table, mix in (("one", payoff, weights), ("two", payoff.T, weights.T)):
        game = tmp_path / f"{name}.yaml"
        game.write_text(json.dumps(_matrix_game(table, mix)))  # JSON is YAML
        run = train("inspo", game, behaviour_steps=300, critic_hidden_dim=64)
        assert final(run) > 0.9
        joints.append(joint_policy(run))
    assert total_variation(joints[0], joints[1].T) < 0.1


def _matrix_game(payoff: np.ndarray, weights: np.ndarray) -> dict:
    """Settings of a game of two agents with three actions, and a dataset of these joint actions."""
    pairs = [list(pair) for pair in itertools.product(range(3), repeat=2)]
    dataset = {"joint_actions": pairs, "weights": weights.ravel().tolist()}
    env_args = {
        "n_agents": 2,
        "n_actions": 3,
        "payoff": payoff.tolist(),
        "dataset": "d",
        "datasets": {"d": dataset},
    }
    return {
        "env": "matrix_game",
        "env_args": env_args,
        "t_max": 800,
        "lr": 1e-3,
        "hidden_dim": 64,
        "batch_size": 64,
        "test_nepisode": 100,
        "grad_norm_clip": 0,
    }
