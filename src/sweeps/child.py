"""A process of a sweep: trains one run as `python src/main.py` does, or prepares a dataset."""

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch as th

from inspo.data.catalogue import resolve_dataset
from inspo.run.offline_session import OfflineSession
from inspo.run.run import run
from inspo.run.settings import settings_of
from inspo.sweeps.worker import end_with_parent
from inspo.utils.command import run_command
from inspo.utils.config import RunConfig
from inspo.utils.files import dataset_root, write_json

Job = dict[str, Any]


def main() -> int:
    """Does the job that stands in the first line of the standard input."""
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=end_with_parent, daemon=True).start()
    # Ray's workers ignore Ctrl-C, and children inherit that.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run_command(lambda _: JOBS[job["kind"]](job), [])


def _settings(job: Job, words: list[str]) -> RunConfig:
    return settings_of(job["config"], job["env_config"], words)


def train(job: Job) -> None:
    """One run."""
    run(_settings(job, job["words"]))


def prepare(job: Job) -> None:
    """Makes a dataset and the behaviour models of several runs on it, as far as they are missing.

    Writes to job["output"] which dataset it is (`fingerprint`, `path`) and for which models it is
    ready.
    """
    for member in job["members"]:
        args = _settings(member, member["words"])
        args = resolve_dataset(args, dataset_root(args.dataset_root))
        if args.num_threads:  # as in the run, for the same numbers
            th.set_num_threads(args.num_threads)
        session = OfflineSession(args)
        try:
            if session.learner.behaviour_models:
                session.attach_behaviour()
            data = session.data
            found = {"fingerprint": session.fingerprint, "path": str(Path(data.path).absolute())}
        finally:
            session.close()
    about = {"signature": signature(Path(found["path"])), "models": job["models"]}
    write_json(Path(job["output"]), {**found, **about})


def signature(path: Path) -> list[list[Any]]:
    """Names, sizes and times of a dataset's files: what changes if the dataset does."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    stats = [(file, file.stat()) for file in files]
    return [[str(file), stat.st_size, stat.st_mtime_ns] for file, stat in stats]


JOBS: dict[str, Callable[[Job], None]] = {"train": train, "prepare": prepare}
