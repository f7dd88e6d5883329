"""Progress of long work: a bar on a terminal, a line every few seconds in a log file."""

import logging
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 15.0
log = logging.getLogger(__name__)


class Progress:
    """Shows the steps done of `total`, the speed, the time left, and the latest note.

    Args:
        total: number of steps to do.
        title: what is being done.
        done: steps already done by an earlier run.
    """

    def __init__(self, total: int, title: str, done: int = 0):
        self.total = total
        self.title = title
        self.done_before = done
        self.done = done
        self.note = ""
        self.started = time.monotonic()
        self.last_line = self.started
        self.bar: tqdm | None = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, desc=title, initial=done, unit="step", dynamic_ncols=True)

    def advance(self, steps: int = 1) -> None:
        """Counts `steps` more steps. Those beyond the total, of a last episode, are not shown."""
        self.done += steps
        if self.bar is not None:
            self.bar.update(min(steps, self.total - self.bar.n))
        elif time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._log_line()

    def set_note(self, note: str) -> None:
        """Shows `note`, such as the latest score. In a log file it gets a line of its own."""
        self.note = note
        if self.bar is not None:
            self.bar.set_postfix_str(note)
        else:
            self._log_line()

    def close(self) -> None:
        """Finishes the bar and leaves it on the terminal."""
        if self.bar is not None:
            self.bar.close()

    def _log_line(self) -> None:
        self.last_line = time.monotonic()
        elapsed = self.last_line - self.started
        speed = (self.done - self.done_before) / elapsed if elapsed > 0 else 0.0
        shown = min(self.done, self.total)
        left = "?"
        if speed > 0:
            left = tqdm.format_interval((self.total - shown) / speed)
        log.info(
            "%s: %d/%d (%.0f %%), %.1f steps/s, %s left%s",
            self.title,
            shown,
            self.total,
            100 * shown / self.total,
            speed,
            left,
            f", {self.note}" if self.note else "",
        )


def progress(total: int, title: str) -> Iterator[int]:
    """Yields from `range(total)` and shows the progress."""
    shown = Progress(total, title)
    try:
        for step in range(total):
            yield step
            shown.advance()
    finally:
        shown.close()
