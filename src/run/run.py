"""One run from start to end: what `python src/main.py` and `inspo.train` do."""

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

SETTINGS.CAPTURE_MODE = "no"  # the run folder's run.log holds the log; a bar stays a bar
LOG_FORMAT = logging.Formatter("[%(levelname)s %(asctime)s] %(message)s")
MOST_EARLY_RECORDS = 10_000  # of the log, before there is a run folder
log = logging.getLogger(__name__)


def run(args: RunConfig) -> Path:
    """Trains, evaluates and records; with `evaluate` it only evaluates. Returns the run folder.

    Environment, dataset and checkpoint are checked before there is a run folder.

    Raises:
        UserError: what the settings ask for cannot be run.
        Interrupted: asked to stop; what was learnt is saved.
    """
    root = results_root(args.local_results_path)
    with _early_log() as write_log_to:
        args = resolve_dataset(args, dataset_root(args.dataset_root))
        session = make_session(args)
        try:
            return _record(args, session, root, write_log_to)
        finally:
            session.close()


def make_session(args: RunConfig) -> Session:
    """The session that the settings ask for, with everything that it needs checked."""
    if args.evaluate:
        return EvaluationSession(args)
    kind = OnlineSession if isinstance(args, OnlineConfig) else OfflineSession
    return kind(args)


def _record(
    args: RunConfig, session: Session, root: Path, write_log_to: Callable[[Path], None]
) -> Path:
    """Hands the run to sacred, which keeps config.json, run.json and metrics.json in its folder."""
    experiment = Experiment(args.name, save_git_info=False)
    experiment.logger = logging.getLogger("sacred")
    experiment.logger.setLevel(logging.CRITICAL)  # the command says what went wrong, once
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
    """Keeps the log until there is a file for it, which the function that it yields opens."""
    memory = MemoryHandler(MOST_EARLY_RECORDS, flushLevel=logging.CRITICAL + 1, flushOnClose=False)
    root = logging.getLogger()
    root.addHandler(memory)

    def write_to(path: Path) -> None:
        file = logging.FileHandler(path, encoding="utf-8")
        file.setFormatter(LOG_FORMAT)
        memory.setTarget(file)
        memory.flush()
        memory.capacity = 1  # from now on every record goes straight through

    try:
        yield write_to
    finally:
        root.removeHandler(memory)
        if memory.target is not None:
            memory.target.close()
        memory.close()
