"""Each algorithm truly learns: whole runs from the command line, with the settings that ship."""

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch as th
from conftest import main_command

from inspo.run.checkpoint import load_policy
from inspo.tabular.experiment import exact_limits, total_variation


def train(folder: Path, algorithm: str, environment: str, *overrides: str) -> tuple[float, Path]:
    """Final mean test return and the run folder."""
    where = [
        f"local_results_path={folder}",
        f"dataset_root={folder / 'dataset'}",
        "use_tensorboard=False",
    ]
    process = main_command(
        f"--config={algorithm}",
        f"--env-config={environment}",
        "with",
        *where,
        *overrides,
        cwd=folder,
    )
    assert process.returncode == 0, process.stderr
    run = max(folder.glob(f"{algorithm}_*"), key=lambda path: path.stat().st_mtime_ns)
    return json.loads((run / "summary.json").read_text())["scores"]["test_return_mean"][
        "final"
    ], run


def joint_policy(run: Path) -> np.ndarray:
    """Probabilities of joint actions in a matrix game, [A, A]."""
    mac = load_policy(run)
    obs = th.ones(1, 1, mac.info.n_agents, 1)
    available = th.ones(1, 1, mac.info.n_agents, mac.info.n_actions, dtype=th.bool)
    batch = {
        "obs": obs,
        "avail_actions": available,
        "last_actions": th.full((1, 1, mac.info.n_agents), -1),
    }
    first, second = mac.log_probs(batch)[0, 0].exp().numpy()
    return np.outer(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["b", "c"])
def test_inspo_coordinates_on_xor(tmp_path, dataset):
    final, run = train(tmp_path, "inspo", "xor_offline", f"env_args.dataset={dataset}")
    assert final >= 0.95
    if dataset == "c":  # where the exact algorithm ends
        limits = exact_limits("xor", dataset="c", alpha=0.15)
        assert min(total_variation(joint_policy(run), limit) for limit in limits) < 0.1


@pytest.mark.slow
def test_behaviour_cloning_does_not(tmp_path):
    final, run = train(tmp_path, "bc", "xor_offline", "env_args.dataset=c")
    assert abs(final) < 0.25
    np.testing.assert_allclose(joint_policy(run), 0.25, atol=0.05)


@pytest.mark.slow
def test_inspo_finds_the_best_equilibrium_of_mne(tmp_path):
    final, run = train(tmp_path, "inspo", "mne_offline", "env_args.dataset=imbalanced")
    assert final >= 19
    limits = exact_limits(
        "mne", dataset="imbalanced", alpha=0.1
    )  # beta from 20 to 0.1, as the learner's
    assert min(total_variation(joint_policy(run), limit) for limit in limits) < 0.1


@pytest.mark.slow
def test_without_entropy_it_stays_at_the_local_optimum(tmp_path):
    final, _ = train(tmp_path, "inspo", "mne_offline", "env_args.dataset=imbalanced", "beta=0")
    assert final == pytest.approx(5, abs=1)


@pytest.mark.slow
def test_simultaneous_updates_fail_where_sequential_ones_do_not(tmp_path):
    """The ablation, in rounds of many updates. Simultaneous ones cycle; chance may break the tie late in a run."""
    settings = ["env_args.dataset=c", "updates_per_agent=100"]
    assert train(tmp_path, "inspo", "xor_offline", *settings, "update_scheme=sequential")[0] >= 0.95
    _, run = train(tmp_path, "inspo", "xor_offline", *settings, "update_scheme=simultaneous")
    with (run / "metrics.csv").open() as file:
        scores = [
            float(row["test_return_mean"])
            for row in csv.DictReader(file)
            if row["test_return_mean"]
        ]
    assert np.mean(scores[1:]) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "environment", "dataset", "low", "high"),
    [
        ("alberdice", "xor_offline", "b", 0.9, 1.0),
        ("omar", "xor_offline", "b", -0.1, 0.1),  # both A: conservatism prefers what is frequent
        ("omiga", "xor_offline", "b", 0.1, 0.3),  # 0.206, by the best additive fit to the rewards
        (
            "icq",
            "xor_offline",
            "b",
            -2.0,
            -1.9,
        ),  # both B, which the data does not have, is best for that fit
        ("icq", "mne_offline", "balanced", 19.0, 20.0),
        ("omiga", "mne_offline", "imbalanced", 4.0, 6.0),
    ],
)
def test_baselines_end_where_their_theory_says(
    tmp_path, algorithm, environment, dataset, low, high
):
    """See docs/baselines: agents that know nothing of each other, or decompose the value, miss the joint action."""
    final, _ = train(tmp_path, algorithm, environment, f"env_args.dataset={dataset}", "t_max=500")
    assert low <= final <= high


@pytest.mark.slow
def test_inspo_crosses_the_bridge(tmp_path):
    """From a dataset whose clone gets stuck."""
    cloned, _ = train(tmp_path, "bc", "bridge_offline", "env_args.dataset=mixed", "t_max=2000")
    final, _ = train(tmp_path, "inspo", "bridge_offline", "env_args.dataset=mixed")
    assert cloned < -5
    assert final >= -1.35


@pytest.mark.slow
def test_a_recurrent_policy_learns_on_bridge(tmp_path):
    """The GRU path: whole episodes, history as input; well above its clone after a short run."""
    settings = [
        "agent=rnn",
        "hidden_dim=32",
        "batch_unit=episodes",
        "batch_size=16",
        "obs_last_action=True",
    ]
    cloned, _ = train(
        tmp_path, "bc", "bridge_offline", "env_args.dataset=optimal", *settings, "t_max=500"
    )
    final, _ = train(
        tmp_path, "inspo", "bridge_offline", "env_args.dataset=optimal", *settings, "t_max=1200"
    )
    assert final > cloned + 1


@pytest.mark.slow
def test_permuting_the_agents_permutes_the_result(tmp_path):
    """A game with different roles, and the same game with the agents' numbers exchanged."""
    payoff = np.array([[0.0, 0.2, 0.3], [0.1, 0.0, 1.0], [0.4, 0.1, 0.0]])
    weights = np.array([[3, 1, 1], [1, 3, 1], [1, 2, 3]])
    joints, small = [], ["behaviour_steps=300", "critic_hidden_dim=64"]
    for name, table, mix in (("one", payoff, weights), ("two", payoff.T, weights.T)):
        pairs = [list(pair) for pair in itertools.product(range(3), repeat=2)]
        datasets = {"d": {"joint_actions": pairs, "weights": mix.ravel().tolist()}}
        env_args = {
            "n_agents": 2,
            "n_actions": 3,
            "payoff": table.tolist(),
            "dataset": "d",
            "datasets": datasets,
        }
        settings = {
            "env": "matrix_game",
            "env_args": env_args,
            "t_max": 800,
            "lr": 1e-3,
            "hidden_dim": 64,
        }
        settings |= {"batch_size": 64, "test_nepisode": 100, "grad_norm_clip": 0}
        (tmp_path / f"{name}.yaml").write_text(json.dumps(settings))  # JSON is YAML
        final, run = train(tmp_path, "inspo", str(tmp_path / f"{name}.yaml"), *small)
        assert final > 0.9
        joints.append(joint_policy(run))
    assert total_variation(joints[0], joints[1].T) < 0.1
