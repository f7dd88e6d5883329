"""A pool without Ray: jobs are done in this process, one after the other."""

from collections.abc import Callable

from inspo.sweeps.child import JOBS
from inspo.sweeps.pool import Job, Outcome
from inspo.utils.errors import UserError


class FakePool:
    """Does each job when it is asked for finished ones.

    Args:
        do: carries out a job and returns its exit status; None: the job was lost.
    """

    def __init__(self, do: Callable[[Job], int | None], n_slots: int = 2):
        self.do = do
        self.n_slots = n_slots
        self.waiting: list[Job] = []
        self.done: list[Job] = []
        self.stopped = False
        self.most_at_once = 0

    def slots(self) -> int:
        return self.n_slots

    def submit(self, job: Job) -> None:
        self.waiting.append(job)
        self.most_at_once = max(self.most_at_once, len(self.waiting))

    def finished(self, seconds: float) -> list[Outcome]:
        job = self.waiting.pop(0)
        self.done.append(job)
        status = self.do(job)
        return [Outcome(job["id"], status, 1.0, [f"status {status}"])]

    def stop(self) -> None:
        self.stopped = True

    def ids(self, kind: str = "train") -> list[str]:
        """The jobs that were done, by id."""
        return [job["id"] for job in self.done if job.get("kind") == kind]


def do(job: Job) -> int:
    """Does a job of a sweep here, as its process would."""
    try:
        JOBS[job["kind"]](job)
    except UserError:
        return 2
    return 0
