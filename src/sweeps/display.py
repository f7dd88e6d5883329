"""How a sweep stands: a table on a terminal, lines in a log file."""

import logging
import shutil
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from types import TracebackType
from typing import Any

from inspo.run.run_folder import SCORES
from inspo.sweeps.estimate import Estimate, duration
from inspo.sweeps.folder import SweepFolder, finished_run
from inspo.sweeps.jobs import State, Task
from inspo.sweeps.plan import Cell, PlannedRun
from inspo.sweeps.pool import Pool

SECONDS_BETWEEN_TABLES = 2.0
SECONDS_BETWEEN_LINES = 60.0
MESSAGES = 5  # below the table
log = logging.getLogger(__name__)


class Display:
    """Shows how far the runs of a sweep are.

    Args:
        plan: all runs.
        tasks: those that are done now, by the runs' ids. The others were finished before.
    """

    def __init__(
        self,
        plan: Sequence[PlannedRun],
        tasks: Mapping[str, Task],
        folder: SweepFolder,
        estimate: Estimate,
        pool: Pool,
    ):
        self.plan = plan
        self.tasks = tasks
        self.folder = folder
        self.estimate = estimate
        self.pool = pool
        self.cells: dict[int, list[PlannedRun]] = {}
        for run in plan:
            self.cells.setdefault(id(run.cell), []).append(run)
        self.scores: dict[str, float] = {}  # of finished runs, by their ids
        self.on_terminal = sys.stderr.isatty()
        self.shown = 0  # lines of the table on the terminal
        self.last = 0.0
        self.last_counts: dict[State, int] = {}
        self.messages = _Messages()

    def __enter__(self) -> "Display":
        if self.on_terminal:  # the table tells the rest
            logger = logging.getLogger("inspo.sweeps")
            logger.addHandler(self.messages)
            logger.propagate = False
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        logger = logging.getLogger("inspo.sweeps")
        logger.removeHandler(self.messages)
        logger.propagate = True

    def look(self) -> None:
        """Shows the table again, or adds a line to the log, if it is time."""
        counts = self.counts()
        done = counts[State.DONE] != self.last_counts.get(State.DONE)
        waits = SECONDS_BETWEEN_TABLES if self.on_terminal else SECONDS_BETWEEN_LINES
        over = not counts[State.WAITING] + counts[State.RUNNING]
        if not (done or over) and time.monotonic() - self.last < waits:
            return
        self.last = time.monotonic()
        self.last_counts = counts
        log.info("%s", self.line())
        if self.on_terminal:
            self._draw(self.table(shutil.get_terminal_size().lines))

    def counts(self) -> dict[State, int]:
        """The number of runs in each state."""
        states = [self._state(run) for run in self.plan]
        return {state: states.count(state) for state in State}

    def line(self) -> str:
        """All of it in one line."""
        counts = self.counts()
        parts = [f"{counts[state]} {state.value}" for state in State if counts[state]]
        return f"{len(self.plan)} runs: {', '.join(parts)}, {duration(self.seconds_left())} left"

    def table(self, height: int) -> list[str]:
        """A row for each cell; on a low terminal, first of all those with running runs."""
        rows = [self._row(runs[0].cell, runs) for runs in self.cells.values()]
        rows.sort(key=lambda row: not row[3])  # stable
        room = max(height - MESSAGES - 5, 5)
        hidden = len(rows) - room
        header = ("", "done", "failed", "running", "score")
        lines = _aligned([header, *rows[:room]])
        if hidden > 0:
            lines.append(f"... and {hidden} more")
        return [*lines, "", self.line(), *self.messages.texts]

    def seconds_left(self) -> float:
        """As the runs that ended here took, else as estimated."""
        took: dict[str, list[float]] = {}
        for run in self.plan:
            task = self.tasks.get(run.id)
            if task and task.state is State.DONE and not task.losses:
                took.setdefault(run.cell.label, []).append(task.seconds)
        left = 0.0
        for run in self.plan:
            state = self._state(run)
            if state in (State.WAITING, State.RUNNING):
                known = took.get(run.cell.label)
                whole = fmean(known) if known else self.estimate.seconds(run.config)
                left += whole * (1 - self._share(run) if state is State.RUNNING else 1)
        return left / max(self.pool.slots(), 1)

    def _state(self, run: PlannedRun) -> State:
        task = self.tasks.get(run.id)
        return State.DONE if task is None else task.state

    def _share(self, run: PlannedRun) -> float:
        """How much of a running run is done, from 0 to 1."""
        return min(max(self.folder.progress(run.identity), 0) / run.config.t_max, 1.0)

    def _row(self, cell: Cell, runs: Sequence[PlannedRun]) -> tuple[str, ...]:
        states = [self._state(run) for run in runs]
        failed = states.count(State.FAILED)
        running = [run for run in runs if self._state(run) is State.RUNNING]
        shares = " ".join(f"{self._share(run):.0%}" for run in running)
        done = f"{states.count(State.DONE)}/{len(runs)}"
        return cell.label, done, str(failed or ""), shares, self._score(runs)

    def _score(self, runs: Sequence[PlannedRun]) -> str:
        """Mean and standard deviation of the finished runs' final scores."""
        scores = []
        for run in runs:
            if self._state(run) is State.DONE and run.id not in self.scores:
                found = finished_run(self.folder.runs_of(run.identity), None)
                self.scores[run.id] = main_score(found.summary) if found else float("nan")
            if run.id in self.scores:
                scores.append(self.scores[run.id])
        if not scores:
            return ""
        spread = f" ± {stdev(scores):.2f}" if len(scores) > 1 else ""
        return f"{fmean(scores):.2f}{spread}"

    def _draw(self, lines: Sequence[str]) -> None:
        """Replaces the table on the terminal."""
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self.shown}F\x1b[J" if self.shown else ""
        text = "".join(f"{line[:width]}\n" for line in lines)
        sys.stderr.write(up + text)
        sys.stderr.flush()
        self.shown = len(lines)


def main_score(summary: Mapping[str, Any], which: str = "final") -> float:
    """The win rate where there are battles, else the return: final, last5 or best."""
    scores = summary.get("scores", {})
    for name in reversed(SCORES):
        if name in scores:
            return scores[name][which]
    return float("nan")


class _Messages(logging.Handler):
    """Keeps the last warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: deque[str] = deque(maxlen=MESSAGES)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
