"""One run from start to end, for `python src/main.py` and `inspo.train`."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from sacred import SETTINGS, Experiment
from sacred.observers import FileStorageObserver
from sacred.serializer import flatten

from inspo.data.catalogue import resolve_dataset
from inspo.run.evaluation import EvaluationSession
from inspo.run.offline_session import OfflineSession
from inspo.run.on_policy_session import OnPolicySession
from inspo.run.replay_session import ReplaySession
from inspo.run.run_folder import check_folder, tensorboard_writer
from inspo.run.session import Session
from inspo.utils.config import OnPolicyConfig, ReplayConfig, RunConfig
from inspo.utils.errors import UserError
from inspo.utils.files import (
    dataset_root,
    results_root,
    storage_errors,
    storage_message,
    write_json,
)

SETTINGS.CAPTURE_MODE = "no"  # sacred would capture the progress bar; run.log has the log
LOG_FORMAT = logging.Formatter("[%(levelname)s %(asctime)s] %(message)s")
MAX_EARLY_RECORDS = 10_000  # log records before the run folder is made
log = logging.getLogger(__name__)


def run(args: RunConfig) -> Path:
    """Trains and evaluates, or with `evaluate` only evaluates. Returns the run folder.

    Environment, dataset and checkpoint are checked before the run folder is made.

    Raises:
        UserError: the run is impossible with these settings, training diverged, or the disk is
            full.
        Interrupted: the run was stopped; a checkpoint is saved.
    """
    root = results_root(args.local_results_path)
    with _disk_errors_in_threads(), _early_log() as write_log_to:
        for remark in args.remarks:
            log.info("%s", remark)
        args = resolve_dataset(args, dataset_root(args.dataset_root))
        session = make_session(args)
        try:
            if args.use_tensorboard:
                tensorboard_writer()  # fails before there is a run folder
            return _record(args, session, root, write_log_to)
        finally:
            session.close()


def make_session(args: RunConfig) -> Session:
    """The session for these settings. Checks environment, dataset and checkpoint."""
    if args.evaluate:
        return EvaluationSession(args)
    if isinstance(args, ReplayConfig):
        return ReplaySession(args)
    if isinstance(args, OnPolicyConfig):
        return OnPolicySession(args)
    return OfflineSession(args)


def _record(
    args: RunConfig, session: Session, root: Path, write_log_to: Callable[[Path], None]
) -> Path:
    """Runs the session as a sacred experiment, which makes the run folder."""
    experiment = Experiment(args.name, save_git_info=False)
    experiment.logger = logging.getLogger("sacred")
    experiment.logger.setLevel(logging.CRITICAL)  # the command reports errors itself
    experiment.add_config(args.model_dump())
    observer = RunObserver(root, copy_sources=False)
    experiment.observers.append(observer)

    @experiment.main
    def main(_run: Any) -> float | None:
        folder = Path(observer.dir)
        write_log_to(folder / "run.log")
        log.info("Run folder: %s", folder)
        session.start(folder, _run)
        score = session.summary["scores"].get("test_return_mean")
        return score["final"] if score else None

    name = session.run_name()
    with storage_errors(root / name):
        experiment.run(options={"--id": name, "--debug": True})
    if observer.error is not None:
        log.warning("Sacred's record of the run is incomplete: %s", observer.error)
    return Path(observer.dir)


class RunObserver(FileStorageObserver):
    """Sacred's record of a run. Its files are written atomically."""

    error: UserError | None = None  # the last one; sacred itself keeps quiet about most

    def save_json(self, obj: Any, filename: str) -> None:
        """Writes one of sacred's JSON files."""
        try:
            check_folder(Path(self.dir))
            write_json(Path(self.dir) / filename, flatten(obj), sort_keys=True)
        except UserError as error:
            self.error = error
            raise


class LogFile(logging.FileHandler):
    """run.log. If the disk is full, it ends there with a single warning."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Called for an error while a record is written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.addFilter(lambda _: False)
        log.warning("The log ends here: %s", storage_message(error, self.baseFilename))

    def close(self) -> None:
        """What could not be written is lost."""
        with suppress(OSError):
            super().close()


@contextmanager
def _early_log() -> Iterator[Callable[[Path], None]]:
    """Keeps log records in memory. Yields a function that writes them to a file from then on."""
    memory = MemoryHandler(MAX_EARLY_RECORDS, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    root = logging.getLogger()
    root.addHandler(memory)

    def write_to(path: Path) -> None:
        with storage_errors(path):
            file = LogFile(path, encoding="utf-8")
        file.setFormatter(LOG_FORMAT)
        memory.setTarget(file)
        memory.flush()
        memory.capacity = 1  # from now on, records are written at once

    try:
        yield write_to
    finally:
        root.removeHandler(memory)
        if memory.target is not None:
            memory.target.close()
        memory.close()


@contextmanager
def _disk_errors_in_threads() -> Iterator[None]:
    """Makes a warning of a disk's error in a thread, instead of a traceback.

    TensorBoard's thread passes the error on when the next metric is written, and the warning comes
    then.
    """
    before = threading.excepthook

    def show(event: threading.ExceptHookArgs) -> None:
        passed_on = type(event.thread).__module__.startswith("tensorboard.")
        if isinstance(event.exc_value, OSError) and passed_on:
            return
        if isinstance(event.exc_value, OSError):
            log.warning("A file is incomplete: %s", storage_message(event.exc_value))
        else:
            before(event)

    threading.excepthook = show
    try:
        yield
    finally:
        threading.excepthook = before
