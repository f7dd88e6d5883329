"""Starts a run, offline or online as its learner asks for."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch as th

from run.offline_run import OfflineSession
from run.online_run import OnlineSession
from utils.config import OnlineConfig, RunConfig

log = logging.getLogger(__name__)


def run(args: RunConfig, sacred_run: Any, folder: str) -> float | None:
    """Trains, evaluates and records; with `evaluate` only evaluates. Returns the final mean test return."""
    run_folder = Path(folder)
    with _log_file(run_folder / "run.log"):
        log.info("Run folder: %s", run_folder)
        th.manual_seed(args.seed)
        if args.num_threads:
            th.set_num_threads(args.num_threads)
        kind = OnlineSession if isinstance(args, OnlineConfig) else OfflineSession
        session = kind(args, sacred_run, run_folder)
        try:
            session.evaluate_only() if args.evaluate else session.train()
        finally:
            session.close()
        result = session.summary["scores"].get("test_return_mean")
        return result["final"] if result else None


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(levelname)s %(asctime)s] %(message)s"))
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
