"""The part of gpu_check.py that trains, resumes and evaluates every learner on small games."""

import argparse
from pathlib import Path
from typing import Any

import torch as th
from gpu_report import Report, Row

import inspo
from inspo.run.settings import checked_settings

ONLINE = ["qmix", "vdn", "iql", "mappo"]
GAME = """
env: matrix_game
env_args: {n_agents: 2, n_actions: 3, episode_limit: 2, payoff: [[0, 1, 2], [1, 3, 5], [2, 5, 9]]}
"""
BRIEF = {
    "behaviour_steps": 20,
    "learning_starts": 10,
    "n_parallel": 8,
    "buffer_size": 64,
    "epsilon_anneal_time": 50,
    "target_update_interval": 5,
}


def check_games(
    report: Report, device: th.device, options: argparse.Namespace, folder: Path
) -> None:
    """Trains, resumes and evaluates every learner."""
    game = folder / "game.yaml"
    game.write_text(GAME, encoding="utf-8")
    for algorithm in options.algorithms:
        online = algorithm in ONLINE
        environments = [str(game)] if online else ["xor_offline", "bridge_offline"]
        for environment in environments[: 1 if options.small else None]:
            name = f"{algorithm}, {Path(environment).stem}"
            # ICQ needs whole episodes.
            settings = {"batch_unit": "episodes"} if algorithm == "icq" else {}
            runs = Runs(algorithm, environment, folder, device, options, settings)
            report.add("Games", name, runs.check)
    if "inspo" in options.algorithms:
        runs = Runs("inspo", "xor_offline", folder, device, options, {})
        report.add("Games", "inspo, xor_offline, resumed on the CPU", runs.check_other_device)


class Runs:
    """Runs of one algorithm in one environment, with checkpoints in the middle and at the end."""

    def __init__(
        self,
        algorithm: str,
        environment: str,
        folder: Path,
        device: th.device,
        options: argparse.Namespace,
        settings: Row,
    ):
        self.algorithm, self.environment = algorithm, environment
        t_max = 20 if options.small else 100
        brief = {name: value for name, value in BRIEF.items() if name in fields_of(algorithm)}
        self.t_max = t_max
        self.settings = (
            settings
            | brief
            | {
                "device": str(device),
                "use_cuda_graphs": True,
                "t_max": t_max,
                "lr_decay_steps": None,
                "hidden_dim": 16 if options.small else 64,
                "batch_size": 8,
                "test_nepisode": 8,
                "test_interval": t_max,
                "log_interval": t_max,
                "save_model_interval": t_max // 2,
                "keep_checkpoints": 0,
                "use_tensorboard": False,
                "local_results_path": str(folder),
            }
        )

    def train(self, **changed: Any) -> inspo.Run:
        """A run with these settings over the usual ones."""
        return inspo.train(self.algorithm, self.environment, **{**self.settings, **changed})

    def check(self) -> Row:
        """A run, the same again from its first half, and an evaluation."""
        whole = self.train()
        middle = sorted((whole.folder / "checkpoints").glob("step_*.pt"))[1]
        again = whole
        if self.algorithm not in ONLINE:  # whose replay buffer is kept for the end only
            again = self.train(checkpoint_path=str(middle))
        difference = largest_difference(whole, again)
        row = {"result": "bit-exact" if not difference else f"resumed: {difference:.1e} apart"}
        if self.algorithm in ONLINE:
            row["result"] = "trained"
        scores = inspo.evaluate(whole)
        row["return"] = round(scores["test_return_mean"], 3)
        row["on"] = whole.summary["device"]
        return row

    def check_other_device(self) -> Row:
        """The second half of a run on the CPU."""
        first = self.train()
        middle = sorted((first.folder / "checkpoints").glob("step_*.pt"))[1]
        second = self.train(checkpoint_path=str(middle), device="cpu")
        difference = largest_difference(first, second)
        return {"result": f"goes on, {difference:.1e} apart", "on": second.summary["device"]}


def fields_of(algorithm: str) -> set[str]:
    """The settings that the algorithm has."""
    return set(type(checked_settings(algorithm, "sc2_offline", {})).model_fields)


def largest_difference(one: inspo.Run, other: inspo.Run) -> float:
    """Between the parameters of two runs' policies."""
    pairs = zip(one.policy().parameters(), other.policy().parameters(), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)
