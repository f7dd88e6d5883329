"""Run folders made by hand, with scores whose statistics are known."""

import json
from pathlib import Path

from inspo.comparison.tables import ComparisonTable

SETTINGS = {
    "name": "bc",
    "learner": "bc_learner",
    "env": "matrix_game",
    "env_config": "xor_offline",
    "env_args": {"n_agents": 2, "dataset": "c", "datasets": {"c": "a recipe"}},
    "seed": 0,
    "lr": 0.005,
    "t_max": 300,
    "test_interval": 100,
    "test_nepisode": 1000,
    "test_greedy": False,
    "max_episodes": None,
    "evaluate": False,
    "checkpoint_path": None,
    "use_cuda": True,
    "local_results_path": "/here",
    "log_interval": 100,
}
WIN_RATE = "test_battle_won_mean"
SMAX = {"simulator": "smax", "map_name": "2s3z", "dataset": "medium"}
BATTLE = {"env_config": "sc2_offline", "env_args": SMAX, "metric": WIN_RATE}


def make_run(
    root: Path,
    final: float,
    *,
    folder: str = "",
    metric: str = "test_return_mean",
    fingerprint: str = "f" * 16,
    dataset_return: dict | None = None,
    game_version: str = "",
    **changes,
) -> Path:
    """A finished run whose score rises from 0 to `final`; `changes` are of its settings."""
    config = {**SETTINGS, **changes}
    number = len(list(root.glob("*")))
    path = root / (folder or f"{config['name']}_seed{config['seed']}_{number:03}")
    path.mkdir(parents=True)
    env_args = {key: value for key, value in config["env_args"].items() if key != "dataset"}
    summary = {
        "env_args": env_args,
        "game_version": game_version,
        "dataset": config["env_args"]["dataset"],
        "dataset_fingerprint": fingerprint,
        "dataset_return": dataset_return,
        "software": {"torch": "2.13.0"},
        "scores": {metric: {"final": final, "last5": final - 0.5, "best": final + 0.5}},
    }
    t_max = config["t_max"]
    rows = [f"step,{metric},loss"]
    for step in range(0, t_max + 1, config["test_interval"]):
        rows.append(f"{step},{final * step / t_max},{'' if step else 9}")
    (path / "config.json").write_text(json.dumps(config))
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "run.json").write_text('{"status": "COMPLETED"}')
    (path / "metrics.csv").write_text("\n".join(rows) + "\n")
    return path


def make_runs(root: Path, scores: list[float], **changes) -> list[Path]:
    """A run for each score, with seeds 0, 1, ..."""
    return [make_run(root, score, seed=seed, **changes) for seed, score in enumerate(scores)]


def shown_scores(table: ComparisonTable) -> dict[tuple[str, str], tuple[float, ...]]:
    """Each cell's scores, by the row's label and the column's title."""
    return {(row.label, column.title): cell.scores for (row, column), cell in table.cells.items()}


def skip_reasons(table: ComparisonTable) -> dict[str, str]:
    """Why each folder was skipped, by its name."""
    return {folder.name: reason for folder, reason in table.skipped}
