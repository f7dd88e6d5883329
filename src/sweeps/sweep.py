"""A sweep from its description to its last run."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from inspo.run.finished_run import Run
from inspo.sweeps.datasets import described, prepare, shared_datasets
from inspo.sweeps.display import Display
from inspo.sweeps.estimate import Estimate, duration
from inspo.sweeps.folder import FoundRun, SweepFolder, finished_run, run_to_resume
from inspo.sweeps.jobs import State, Task, carry_out
from inspo.sweeps.plan import PlannedRun, make_plan, runs_folder
from inspo.sweeps.pool import Job, Pool, RayPool, available_cpus, fitting
from inspo.sweeps.spec import Spec
from inspo.utils.errors import UserError
from inspo.utils.files import storage_errors, writable_folder
from inspo.utils.words import as_word

LOG_FORMAT = logging.Formatter("[%(levelname)s %(asctime)s] %(message)s")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """What a sweep left behind.

    Args:
        folder: that of its runs.
        runs: the finished ones, by seed.
        failed: what failed, with the last lines of the output.
    """

    folder: Path
    runs: list[Run]
    failed: dict[str, list[str]]


class Sweep:
    """The runs of a specification, and what of them is there already.

    Raises:
        ConfigError: lists what is wrong in any run.
    """

    def __init__(self, spec: Spec):
        self.spec = spec
        self.plan = make_plan(spec)
        self.folder = SweepFolder(runs_folder(spec))
        self.datasets = shared_datasets(self.plan, self.folder)
        self.estimate = Estimate(self.folder.path.parent)
        self.fingerprints: dict[str, str | None] = {}  # by id of the run
        self._learn_fingerprints()

    def finished(self, run: PlannedRun) -> FoundRun | None:
        """The finished run of these settings, this dataset and this code."""
        return finished_run(self.folder.runs_of(run.identity), self._fingerprint(run))

    def resumable(self, run: PlannedRun) -> FoundRun | None:
        """The unfinished one that has come furthest."""
        return run_to_resume(self.folder.runs_of(run.identity), self._fingerprint(run))

    def left(self) -> list[PlannedRun]:
        """The runs that are still to be done."""
        return [run for run in self.plan if not self.finished(run)]

    def describe(self) -> str:
        """What `--dry-run` shows: the runs, their number and the time they take."""
        left = self.left()
        lines = [self._described(run) for run in self.plan]
        slots = self._local_slots()
        known = all(self.estimate.knows(run.config) for run in left)
        basis = "as finished runs took" if known else "roughly: not every kind has a finished run"
        total = duration(self.estimate.total(left, slots))
        n_done = len(self.plan) - len(left)
        lines.append(f"\n{len(self.plan)} runs, {n_done} of them finished, in {self.folder.path}")
        if left:
            lines.append(f"{total} for {len(left)} runs, {slots} at a time ({basis})")
        return "\n".join(lines)

    def run(self, address: str | None = None, pool: Pool | None = None) -> SweepResult:
        """Does what is left.

        Args:
            address: of a Ray cluster; None: this machine.
            pool: what carries out the runs; None: Ray.

        Raises:
            UserError: Ray or a dataset is missing, or another sweep runs in the folder.
            KeyboardInterrupt: the sweep was stopped; its runs have saved checkpoints.
        """
        with _locked(self.folder), _log_file(self.folder.work / "sweep.log"):
            left = self.left()
            log.info("%d runs, %d of them finished", len(self.plan), len(self.plan) - len(left))
            unknown = [dataset for dataset in self.datasets if dataset.fingerprint is None]
            if not left and not unknown:
                return self._result([])
            own = RayPool(self.spec.resources, self.spec.at_once, address) if pool is None else None
            try:
                return self._run(pool or own)
            finally:
                if own is not None:
                    own.close()

    def _run(self, pool: Pool) -> SweepResult:
        self._warn_of_unused_gpus(pool)
        prepare([*self._preparations()], pool)
        self._learn_fingerprints()
        tasks = {run.id: self._task(run) for run in self.left()}
        display = Display(self.plan, tasks, self.folder, self.estimate, pool)
        with display:
            carry_out([*tasks.values()], pool, display.look)
        return self._result([*tasks.values()])

    def _preparations(self) -> Iterator[Task]:
        """Of datasets that are not known yet, and of behaviour models that runs still need."""
        left = {run.id for run in self.left()}
        for dataset in self.datasets:
            task = dataset.preparation([run for run in dataset.runs if run.id in left])
            if task is not None:
                yield task

    def _task(self, run: PlannedRun) -> Task:
        return Task(
            run.id,
            f"{run.cell.label} seed {run.seed}",
            make=lambda: self._job(run),
            step=lambda: _step(self.resumable(run)),
            succeeded=lambda: self.finished(run) is not None,
        )

    def _job(self, run: PlannedRun) -> Job:
        """What a process is told. It resumes where an earlier attempt left off."""
        job = {**described(run), "kind": "train", "log": str(self.folder.work / f"{run.id}.log")}
        if earlier := self.resumable(run):
            job["words"] = [*run.words, as_word("checkpoint_path", str(earlier.folder))]
            job["note"] = f"resumed from step {earlier.step} of {earlier.folder.name}"
        return job

    def _result(self, tasks: Sequence[Task]) -> SweepResult:
        found = [self.finished(run) for run in self.plan]
        runs = [Run(run.folder) for run in found if run]
        failed = {task.label: task.lines for task in tasks if task.state is State.FAILED}
        return SweepResult(self.folder.path, runs, failed)

    def _learn_fingerprints(self) -> None:
        for dataset in self.datasets:
            fingerprint = dataset.fingerprint
            self.fingerprints |= {run.id: fingerprint for run in dataset.runs}

    def _fingerprint(self, run: PlannedRun) -> str | None:
        """None as long as the dataset is not known; online there is none."""
        return self.fingerprints.get(run.id, "")

    def _described(self, run: PlannedRun) -> str:
        label = f"{run.cell.label} seed={run.seed}"
        if self.finished(run):
            return f"{label}: finished"
        if earlier := self.resumable(run):
            return f"{label}: resumes at step {earlier.step} of {run.config.t_max}"
        others = any(found.finished for found in self.folder.runs_of(run.identity))
        why = ", finished with other code or data" if others else ""
        return f"{label}: {run.config.t_max} steps{why}"

    def _local_slots(self) -> int:
        """Runs at a time on this machine."""
        slots = fitting({"CPU": available_cpus()}, {"CPU": self.spec.resources.cpus})
        return min(slots, self.spec.at_once or slots) or 1

    def _warn_of_unused_gpus(self, pool: Pool) -> None:
        wanted = any(run.config.use_cuda for run in self.plan)
        if wanted and not self.spec.resources.gpus and getattr(pool, "has_gpus", False):
            log.warning(
                "There are GPUs, but `resources` gives none to the runs: they train on the CPU. "
                "`gpus: 0.5` lets two runs share one"
            )


def _step(found: FoundRun | None) -> int:
    return -1 if found is None else found.step


@contextmanager
def _locked(folder: SweepFolder) -> Iterator[None]:
    """One sweep at a time in a folder. The lock ends with the process."""
    writable_folder("the sweep's folder", folder.path, "")
    folder.work.mkdir(exist_ok=True)
    lock = FileLock(folder.work / "lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise UserError(
            f"{folder.path}: another sweep runs there; wait for it, or give this one another name"
        ) from None


@contextmanager
def _log_file(path: Path) -> Iterator[None]:
    """Adds what is logged to a file."""
    with storage_errors(path):
        handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(LOG_FORMAT)
    logger = logging.getLogger("inspo.sweeps")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        handler.close()
