"""Experiment trackers beside the run folder: Weights & Biases and MLflow.

A tracker works in a thread of its own. Whatever goes wrong there is one warning: it never stops a
run, and never slows it down.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from inspo.utils.config import RunConfig
from inspo.utils.errors import ConfigError

CLOSING_SECONDS = 30.0  # how long a finished run waits for what is not sent yet
SHOWN_LETTERS = 200  # of an error's message
# Setting -> package, and the extra of setup.py that installs it.
PACKAGES = {"use_wandb": ("wandb", "wandb"), "use_mlflow": ("mlflow", "mlflow")}
log = logging.getLogger(__name__)


class Sink(Protocol):
    """A run's record at a tracker."""

    def log(self, step: int, values: dict[str, float]) -> None:
        """Records the metrics of one step."""

    def finish(self, failed: bool) -> None:
        """Sends what is left, and closes the record."""


class Tracker:
    """A sink in a thread of its own, which starts it, too.

    Args:
        name: for messages.
        start: makes the sink. Runs in the thread.
    """

    def __init__(self, name: str, start: Callable[[], Sink]):
        self.name = name
        self.queue: queue.SimpleQueue = queue.SimpleQueue()
        self.abandoned = False
        self.thread = threading.Thread(
            target=self._work, args=(start,), name=f"tracker {name}", daemon=True
        )
        self.thread.start()

    def log(self, step: int, values: dict[str, float]) -> None:
        """Passes the metrics of one step on. Returns at once."""
        if self.thread.is_alive():  # nobody takes them after an error
            self.queue.put((step, dict(values)))

    def close(self, failed: bool, until: float) -> None:
        """Closes the record.

        Args:
            until: waits so long for what is not sent yet, in seconds of `time.monotonic`.
        """
        self.queue.put(failed)
        self.thread.join(max(until - time.monotonic(), 0))
        if self.thread.is_alive():
            self.abandoned = True
            log.warning(
                "%s did not take all metrics within %d s; the run folder has them",
                self.name,
                CLOSING_SECONDS,
            )

    def _work(self, start: Callable[[], Sink]) -> None:
        try:
            sink = start()
            while not isinstance(item := self.queue.get(), bool):
                sink.log(*item)
            sink.finish(failed=item)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - trackers raise any kind
            if self.abandoned:  # there was a warning already
                return
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            log.warning(
                "%s has no complete record of this run; the run folder has it (%s)",
                self.name,
                reason[:SHOWN_LETTERS],
            )


class WandbSink:
    """A run of Weights & Biases. Its files lie in the run folder."""

    def __init__(self, args: RunConfig, folder: Path):
        import wandb

        self.run = wandb.init(
            project=args.wandb_project,
            entity=args.wandb_team,
            mode=args.wandb_mode,
            name=folder.name,
            group=args.group,
            tags=args.tags,
            config=args.model_dump(),
            dir=str(folder),
            settings=wandb.Settings(silent=True, console="off", init_timeout=CLOSING_SECONDS),
        )

    def log(self, step: int, values: dict[str, float]) -> None:
        """Records the metrics of one step."""
        self.run.log(values, step=step)

    def finish(self, failed: bool) -> None:
        """Sends what is left, and closes the record."""
        self.run.finish(exit_code=int(failed))


class MlflowSink:
    """A run of MLflow, in the experiment `mlflow_experiment`."""

    def __init__(self, args: RunConfig, folder: Path):
        from mlflow import MlflowClient
        from mlflow.entities import Metric

        logging.getLogger("urllib3").setLevel(logging.ERROR)  # it warns of every retry
        self.make_metric = Metric
        self.client = MlflowClient(tracking_uri=args.mlflow_tracking_uri)
        tags = {"mlflow.runName": folder.name, "run_folder": str(folder)}
        tags |= dict.fromkeys(args.tags, "true")
        if args.group is not None:
            tags["group"] = args.group
        experiment = self._experiment(args.mlflow_experiment)
        self.run_id = self.client.create_run(experiment, tags=tags).info.run_id
        for key, value in args.model_dump().items():
            self.client.log_param(self.run_id, key, str(value)[:500])

    def log(self, step: int, values: dict[str, float]) -> None:
        """Records the metrics of one step."""
        now = int(time.time() * 1000)
        metrics = [self.make_metric(name, value, now, step) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)

    def finish(self, failed: bool) -> None:
        """Closes the record."""
        self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        return self.client.create_experiment(name) if found is None else found.experiment_id


def check_trackers(args: RunConfig) -> None:
    """Raises ConfigError if a tracker's package is not installed."""
    problems = [
        f"{setting}=True needs the package {package}: pip install -e '.[{extra}]'"
        for setting, (package, extra) in PACKAGES.items()
        if getattr(args, setting) and find_spec(package) is None
    ]
    if problems:
        raise ConfigError("; ".join(problems))


def start_trackers(args: RunConfig, folder: Path) -> list[Tracker]:
    """The trackers that the settings ask for."""
    trackers = []
    if args.use_wandb:
        trackers.append(Tracker("Weights & Biases", lambda: WandbSink(args, folder)))
    if args.use_mlflow:
        trackers.append(Tracker("MLflow", lambda: MlflowSink(args, folder)))
    return trackers


def close_trackers(trackers: Sequence[Tracker], failed: bool) -> None:
    """Closes all records. Waits `CLOSING_SECONDS` at most, for all of them together."""
    until = time.monotonic() + CLOSING_SECONDS
    for tracker in trackers:
        tracker.close(failed, until)
