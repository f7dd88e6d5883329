"""One run from start to end, for `python src/main.py` and `inspo.train`."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from sacred import SETTINGS, Experiment
from sacred.observers import FileStorageObserver

from inspo.data.catalogue import resolve_dataset
from inspo.run.evaluation import EvaluationSession
from inspo.run.offline_session import OfflineSession
from inspo.run.online_session import OnlineSession
from inspo.run.run_folder import new_run_name
from inspo.run.session import Session
from inspo.utils.config import OnlineConfig, RunConfig
from inspo.utils.files import dataset_root, results_root

SETTINGS.CAPTURE_MODE = "no"  # sacred would capture the progress bar; run.log has the log
LOG_FORMAT = logging.Formatter("[%(levelname)s %(asctime)s] %(message)s")
MAX_EARLY_RECORDS = 10_000  # log records before the run folder is made
log = logging.getLogger(__name__)


def run(args: RunConfig) -> Path:
    """Trains and evaluates, or with `evaluate` only evaluates. Returns the run folder.

    Environment, dataset and checkpoint are checked before the run folder is made.

    Raises:
        UserError: the run is impossible with these settings.
        Interrupted: the run was stopped; a checkpoint is saved.
    """
    root = results_root(args.local_results_path)
    with _early_log() as write_log_to:
        for remark in args.remarks:
            log.info("%s", remark)
        args = resolve_dataset(args, dataset_root(args.dataset_root))
        session = make_session(args)
        try:
            return _record(args, session, root, write_log_to)
        finally:
            session.close()


def make_session(args: RunConfig) -> Session:
    """The session for these settings. Checks environment, dataset and checkpoint."""
    if args.evaluate:
        return EvaluationSession(args)
    if isinstance(args, OnlineConfig):
        return OnlineSession(args)
    return OfflineSession(args)


def _record(
    args: RunConfig, session: Session, root: Path, write_log_to: Callable[[Path], None]
) -> Path:
    """Runs the session as a sacred experiment, which makes the run folder."""
    experiment = Experiment(args.name, save_git_info=False)
    experiment.logger = logging.getLogger("sacred")
    experiment.logger.setLevel(logging.CRITICAL)  # the command reports errors itself
    experiment.add_config(args.model_dump())
    observer = FileStorageObserver(root, copy_sources=False)
    experiment.observers.append(observer)

    @experiment.main
    def main(_run: Any) -> float | None:
        folder = Path(observer.dir)
        write_log_to(folder / "run.log")
        log.info("Run folder: %s", folder)
        session.start(folder, _run)
        score = session.summary["scores"].get("test_return_mean")
        return score["final"] if score else None

    experiment.run(options={"--id": new_run_name(args), "--debug": True})
    return Path(observer.dir)


@contextmanager
def _early_log() -> Iterator[Callable[[Path], None]]:
    """Keeps log records in memory. Yields a function that writes them to a file from then on."""
    memory = MemoryHandler(MAX_EARLY_RECORDS, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    root = logging.getLogger()
    root.addHandler(memory)

    def write_to(path: Path) -> None:
        file = logging.FileHandler(path, encoding="utf-8")
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
