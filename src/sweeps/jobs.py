"""Carries out jobs on a pool: starts them, tries again what failed, and reports what happened."""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from inspo.sweeps.pool import Job, Outcome, Pool
from inspo.utils.command import INTERRUPTED

MAX_LOSSES = 3  # of a job at the same step: then something about it kills it
CHANGED = "it ended, but not with this code and data: were they changed while it ran?"
SECONDS_BETWEEN_LOOKS = 1.0
log = logging.getLogger(__name__)


class State(Enum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass
class Task:
    """A job and its history.

    Args:
        make: the job's content, made anew for each attempt: a later one resumes.
        step: how far the job has come, to tell whether an attempt got anywhere.
        succeeded: whether it has left behind what it should.
        retries: how often it is tried again after an error.
    """

    id: str
    label: str
    make: Callable[[], Job]
    step: Callable[[], int] = lambda: 0
    succeeded: Callable[[], bool] = lambda: True
    retries: int = 1
    state: State = State.WAITING
    errors: int = 0
    losses: int = 0  # at the same step
    lost_at: int = -1
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)  # the last ones of its output


def carry_out(
    tasks: Sequence[Task], pool: Pool, look: Callable[[], None] = lambda: None
) -> list[Task]:
    """Runs all tasks, in order, as many at a time as fit.

    Args:
        look: called every second, and after each change, to show how things stand.

    Returns:
        the tasks that failed.

    Raises:
        KeyboardInterrupt: all runs have been stopped.
    """
    by_id: dict[str, Task] = {task.id: task for task in tasks}
    waiting = deque(tasks)
    n_running = 0
    if waiting and not pool.slots():
        log.warning("No machine has room for a run now; waiting for one")
    try:
        while waiting or n_running:
            while waiting and n_running < pool.slots():
                _start(waiting.popleft(), pool)
                n_running += 1
            look()
            for outcome in pool.finished(SECONDS_BETWEEN_LOOKS):
                n_running -= 1
                task = by_id[outcome.id]
                _judge(task, outcome)
                if task.state is State.WAITING:
                    waiting.appendleft(task)
    except KeyboardInterrupt:
        log.warning("Stopping: the runs save their checkpoints")
        pool.stop()
        raise
    look()
    return [task for task in tasks if task.state is State.FAILED]


def _start(task: Task, pool: Pool) -> None:
    job: dict[str, Any] = task.make()
    pool.submit({**job, "id": task.id})
    task.state = State.RUNNING
    log.info("%s: %s", task.label, job.get("note", "started"))


def _judge(task: Task, outcome: Outcome) -> None:
    """Whether a job is done, has failed, or is tried again."""
    task.seconds += outcome.seconds
    task.lines = outcome.lines
    lost = outcome.status in (None, INTERRUPTED)
    if (outcome.status == 0 or lost) and task.succeeded():  # it may be lost after its last step
        task.state = State.DONE
        return
    if outcome.status == 0:
        task.lines = [CHANGED]
    if lost:
        _lost(task)
    else:
        task.errors += 1
    again = task.errors <= task.retries and task.losses < MAX_LOSSES
    task.state = State.WAITING if again else State.FAILED
    what = "tried again" if again else "FAILED"
    last = task.lines[-1] if task.lines else "no output"
    log.warning("%s: %s: %s", task.label, what, last)


def _lost(task: Task) -> None:
    """Counts a job that was killed. One that has come further since starts from 0."""
    step = task.step()
    task.losses = task.losses + 1 if step == task.lost_at else 1
    task.lost_at = step
