"""A run's folder:

config.json, run.json, metrics.json   sacred's record
metrics.csv                           every metric, one row for each logged step
run_info.json                         at the start: algorithm, dataset, software versions, ...
summary.json                          at the end: the same, with the scores
curves.png                            scores and losses
run.log                               the log
tensorboard/, checkpoints/
"""

import csv
import io
import logging
import math
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from inspo.envs import game_labels
from inspo.run.trackers import Tracker, close_trackers
from inspo.utils.config import RunConfig
from inspo.utils.errors import ConfigError, DivergenceError, StorageError
from inspo.utils.files import append_text, short_path, storage_message, write_atomically

SCORES = ("test_return_mean", "test_battle_won_mean")
OF_TESTS = "test_"  # how the metrics of evaluations begin
log = logging.getLogger(__name__)


def new_run_name(args: RunConfig) -> str:
    """A unique name: algorithm, environment, simulator, map, dataset, seed, time, random part."""
    dataset = Path(args.env_args["dataset"]).name.removesuffix(".h5")  # empty online
    game = "-".join(game_labels(args.env_args).values())
    names = [name for name in (args.name, args.env_config, game, dataset) if name]
    parts = [re.sub(r"[^\w.+-]", "-", name)[:40] for name in names]
    moment = time.strftime("%Y%m%d-%H%M%S")
    return "_".join([*parts, f"seed{args.seed}", moment, secrets.token_hex(6)])


def run_title(summary: dict[str, Any]) -> str:
    """Of a run's summary, such as `inspo on xor_offline, dataset c, seed 0`."""
    game = " ".join([summary["environment"], *game_labels(summary["env_args"]).values()])
    parts = [f"{summary['algorithm']} on {game}"]
    if summary["dataset"]:
        parts.append(f"dataset {Path(summary['dataset']).name}")
    return ", ".join([*parts, f"seed {summary['seed']}"])


class Metrics:
    """All metrics of a run, one row per step, kept in memory and in metrics.csv.

    A new metric adds a column to the file. TensorBoard, sacred and trackers get the metrics, too.

    Args:
        sacred_run: sacred's record; None: without sacred.
        labels: text for every row of metrics.csv, such as simulator and map.
        trackers: see `inspo.run.trackers`.
    """

    def __init__(
        self,
        folder: Path,
        sacred_run: Any,
        use_tensorboard: bool,
        labels: dict[str, str],
        trackers: Sequence[Tracker] = (),
    ):
        self.path = folder / "metrics.csv"
        self.labels = labels
        self.rows: list[dict[str, float]] = []
        self.columns: list[str] = ["step", *labels]
        self.trackers = trackers
        self.sacred_run = sacred_run
        if sacred_run is not None:
            for name, label in labels.items():
                sacred_run.log_scalar(name, label, 0)
        self.writer = None
        if use_tensorboard:
            self._start_tensorboard()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Records the values of one step. Call it once per step.

        Raises:
            DivergenceError: a value is NaN or infinite. Nothing is recorded then.
            StorageError: the disk is full, read-only or failing, or the run folder is gone.
        """
        check_finite(step, values)
        check_folder(self.path.parent)
        row = {"step": step, **values}
        self.rows.append(row)
        new = [name for name in row if name not in self.columns]
        removed = len(self.rows) > 1 and not self.path.exists()
        if removed:
            log.warning("%s was removed during the run; it is written anew", self.path)
        if new or removed:
            self.columns += new
            with write_atomically(self.path) as temporary:
                temporary.write_bytes(self._as_csv(self.rows, header=True).encode())
        else:
            append_text(self.path, self._as_csv([row]))
        for name, value in values.items():
            if self.sacred_run is not None:
                self.sacred_run.log_scalar(name, value, step)
        for tracker in self.trackers:
            tracker.log(step, values)
        self._to_tensorboard(step, values)

    def history(self, name: str) -> list[tuple[int, float]]:
        """All values of one metric, as (step, value)."""
        return [(int(row["step"]), row[name]) for row in self.rows if name in row]

    def state_dict(self) -> list[dict[str, float]]:
        """All rows so far."""
        return [dict(row) for row in self.rows]

    def load_state_dict(self, rows: list[dict[str, float]]) -> None:
        """Logs the rows of the run that is resumed."""
        for row in rows:
            values = {name: value for name, value in row.items() if name != "step"}
            self.log(int(row["step"]), values)

    def close(self, failed: bool = False) -> None:
        """Flushes and closes TensorBoard's file and the trackers' records.

        Args:
            failed: the run has not come to its end.
        """
        close_trackers(self.trackers, failed)
        if self.writer is not None:
            with self._tensorboard_errors():
                self.writer.close()

    def _start_tensorboard(self) -> None:
        make_writer = tensorboard_writer()
        with self._tensorboard_errors():
            self.writer = make_writer(str(self.path.parent / "tensorboard"))
            for name, label in self.labels.items():
                self.writer.add_text(name, label)

    def _to_tensorboard(self, step: int, values: dict[str, float]) -> None:
        if self.writer is None:
            return
        with self._tensorboard_errors():
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    @contextmanager
    def _tensorboard_errors(self) -> Iterator[None]:
        """Ends TensorBoard's record with one warning where its disk fails. The run goes on."""
        try:
            yield
        except OSError as error:
            self.writer = None
            folder = self.path.parent / "tensorboard"
            log.warning("TensorBoard's record is incomplete: %s", storage_message(error, folder))

    def _as_csv(self, rows: list[dict[str, float]], header: bool = False) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        if header:
            writer.writeheader()
        writer.writerows(row | self.labels for row in rows)
        return text.getvalue()


def last_step(folder: Path) -> int:
    """The step of the last row of a run's metrics.csv; -1 if there is none, or it is damaged."""
    try:
        with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            return max((int(row["step"]) for row in csv.DictReader(file)), default=-1)
    except (OSError, ValueError, TypeError, KeyError, csv.Error):
        return -1


def check_folder(folder: Path) -> None:
    """Raises StorageError if the run folder is gone. It must not be made again half empty."""
    if not folder.is_dir():
        raise StorageError(
            f"{short_path(folder)}: the run folder was removed or moved while the run wrote to it. "
            "The run ends here. Start it again, or resume from a checkpoint in the moved folder"
        )


def tensorboard_writer() -> Callable:
    """TensorBoard's class SummaryWriter, which is slow to import.

    Raises:
        ConfigError: it cannot be imported, as with an old protobuf.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except (ImportError, TypeError, AttributeError) as error:
        found = [one.version for one in distributions(name="protobuf")]
        raise ConfigError(
            f"TensorBoard cannot be imported (protobuf {found[0] if found else 'is missing'}): "
            f"{error}. "
            "SMAC, installed without --no-deps, puts an old protobuf in its place: "
            "pip install -r requirements.txt; or set use_tensorboard=False"
        ) from None
    return SummaryWriter


def check_finite(step: int, values: dict[str, float]) -> None:
    """Raises DivergenceError, which says what to look at, if a metric is NaN or infinite."""
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if not broken:
        return
    listed = ", ".join(broken)
    if all(name.startswith(OF_TESTS) for name in broken):
        raise DivergenceError(
            f"{listed} not finite; the environment returned rewards "
            "that are NaN, infinite or too large to be added up"
        )
    raise DivergenceError(
        f"training diverged by step {step}: {listed} not finite; try lower learning rates; "
        "if a dataset's rewards or observations are very large, set "
        "standardise_rewards=True or standardise_obs=True"
    )


def final_scores(metrics: Metrics) -> dict[str, dict[str, float]]:
    """By metric: the final score, the mean of the last five evaluations, and the best score.

    The evaluation at step 0 is of an untrained or cloned policy and counts only if there is no
    other. `best` is selected after the fact and therefore optimistic.
    """
    result = {}
    for name in SCORES:
        history = metrics.history(name)
        if not history:
            continue
        trained = [value for step, value in history if step > 0]
        values = trained or [history[0][1]]
        last = values[-5:]
        result[name] = {
            "final": values[-1],
            "last5": sum(last) / len(last),
            "best": max(values),
        }
    return result
