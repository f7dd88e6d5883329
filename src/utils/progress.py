"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

import logging
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0
log = logging.getLogger(__name__)


class Progress:
    """Counts towards `total`. Shows done, speed, time left, and the latest `note`.

    Args:
        total: the number of steps to do.
        title: what is being done.
        done: steps already done by an earlier run.
    """

    def __init__(self, total: int, title: str, done: int = 0):
        self.total, self.title, self.first, self.done = total, title, done, done
        self.note = ""
        self.started = self.last_line = time.monotonic()
        self.bar = (
            tqdm(total=total, desc=title, initial=done, unit="step", dynamic_ncols=True)
            if _terminal()
            else None
        )

    def advance(self, steps: int = 1) -> None:
        """`steps` more are done."""
        self.done += steps
        if self.bar is not None:
            self.bar.update(steps)
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.line()

    def set_note(self, note: str) -> None:
        """Shows the latest score beside the bar; in a log file it gets its own line."""
        self.note = note
        if self.bar is not None:
            self.bar.set_postfix_str(note)
        else:
            self.line()

    def line(self) -> None:
        """One line for a log file."""
        self.last_line = time.monotonic()
        elapsed = self.last_line - self.started
        speed = (self.done - self.first) / elapsed if elapsed > 0 else 0.0
        left = tqdm.format_interval(max(self.total - self.done, 0) / speed) if speed > 0 else "?"
        share = 100 * self.done / self.total
        note = f", {self.note}" if self.note else ""
        log.info(
            "%s: %d/%d (%.0f %%), %.1f steps/s, %s left%s",
            self.title,
            self.done,
            self.total,
            share,
            speed,
            left,
            note,
        )

    def close(self) -> None:
        """Leaves the terminal's line as it is."""
        if self.bar is not None:
            self.bar.close()


def progress(total: int, title: str) -> Iterator[int]:
    """`range(total)` with its progress shown."""
    shown = Progress(total, title)
    try:
        for step in range(total):
            yield step
            shown.advance()
    finally:
        shown.close()


def _terminal() -> bool:
    return sys.stderr.isatty()
