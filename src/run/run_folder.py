"""A run's folder: what a run leaves behind.

config.json, run.json, metrics.json   sacred's record
metrics.csv                           every metric, one row for each logged step
run_info.json                         at the start: what is run on what, with which versions
summary.json                          at the end: the same, and final, last5 and best of each score
curves.png                            a picture of both
run.log                               the log
tensorboard/, checkpoints/
"""

import csv
import json
import logging
import re
import secrets
import time
from pathlib import Path
from typing import Any

from inspo.envs import game_labels
from inspo.utils.config import RunConfig
from inspo.utils.files import write_atomically

SCORES = ("test_return_mean", "test_battle_won_mean")
log = logging.getLogger(__name__)


def new_run_name(args: RunConfig) -> str:
    """A name nobody else has: algorithm, environment, simulator and map, dataset, seed, time, and a random part."""
    dataset = Path(args.env_args["dataset"]).name.removesuffix(".h5")  # none online
    game = "-".join(game_labels(args.env_args).values())
    moment = time.strftime("%Y%m%d-%H%M%S")
    named = (args.name, args.env_config, game, dataset)
    parts = [re.sub(r"[^\w.+-]", "-", part)[:40] for part in named if part]
    return "_".join([*parts, f"seed{args.seed}", moment, secrets.token_hex(6)])


class Metrics:
    """The record of all metrics: kept in memory, appended to metrics.csv, and passed on to TensorBoard and sacred.

    One row for each step; a metric that is new to the file makes it be written anew with one more column.

    Args:
        labels: what every row of metrics.csv says besides, and TensorBoard and sacred's metrics.json once.
    """

    def __init__(
        self, folder: Path, sacred_run: Any, use_tensorboard: bool, labels: dict[str, str]
    ):
        self.path, self.labels = folder / "metrics.csv", labels
        self.sacred_run = sacred_run
        self.rows: list[dict[str, float]] = []
        self.columns: list[str] = ["step", *labels]
        if sacred_run is not None:
            for name, label in labels.items():
                sacred_run.log_scalar(name, label, 0)  # text among numbers: JSON takes both
        self.writer = None
        if use_tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # slow to import, and optional

            self.writer = SummaryWriter(str(folder / "tensorboard"))
            for name, label in labels.items():
                self.writer.add_text(name, label)

    def log(self, step: int, values: dict[str, float]) -> None:
        """Records the values of one step, all at once."""
        row = {"step": step, **values}
        self.rows.append(row)
        if new := [name for name in row if name not in self.columns]:
            self.columns += new
            self._write_all()
        else:
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(row | self.labels)
        for name, value in values.items():
            if self.writer is not None:
                self.writer.add_scalar(name, value, step)
            if self.sacred_run is not None:
                self.sacred_run.log_scalar(name, value, step)

    def history(self, name: str) -> list[tuple[int, float]]:
        """All records of one metric: (step, value)."""
        return [(int(row["step"]), row[name]) for row in self.rows if name in row]

    def state_dict(self) -> list[dict[str, float]]:
        """All rows so far."""
        return [dict(row) for row in self.rows]

    def load_state_dict(self, rows: list[dict[str, float]]) -> None:
        """Takes over the record of the run that is gone on with."""
        for row in rows:
            self.log(
                int(row["step"]), {name: value for name, value in row.items() if name != "step"}
            )

    def close(self) -> None:
        """Writes what TensorBoard still holds back."""
        if self.writer is not None:
            self.writer.close()

    def _write_all(self) -> None:
        with (
            write_atomically(self.path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            writer = csv.DictWriter(file, self.columns)
            writer.writeheader()
            writer.writerows(row | self.labels for row in self.rows)


def scores(metrics: Metrics) -> dict[str, dict[str, float]]:
    """Final score, mean of the last five evaluations, and best one, by metric.

    The evaluation before the first step is of an untrained policy, often a clone: it counts only
    where there is no other. `best` is selected after the fact and therefore optimistic.
    """
    result = {}
    for name in SCORES:
        history = metrics.history(name)
        if not history:
            continue
        values = [value for step, value in history if step > 0] or [history[0][1]]
        last = values[-5:]
        result[name] = {
            "final": values[-1],
            "last5": sum(last) / len(last),
            "best": max(values),
        }
    return result


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    with write_atomically(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
