"""Layouts that store one long timeline of rows, without lengths: OG-MARL's and OMIGA's."""

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np

from inspo.data.episode_data import Finding
from inspo.data.formats.reader import Reader

CONTINUOUS = "has shape {shape} of {dtype}: continuous actions; this project learns discrete ones"


def not_flags(name: str, values: np.ndarray, first_row: int = 0) -> Iterator[Finding]:
    """A finding if a timeline's flags, [rows, ...], are not all 0 or 1."""
    bad = (values != 0) & (values != 1)
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        problem = f"must hold 0 and 1 only, not {values[bad][0]}"
        yield Finding(name, problem, (f"row {first_row + rows[0]}",), len(rows))


class TimelineReader(Reader):
    """Reads episodes from a timeline. Subclasses find the episodes and set these attributes too.

    Attributes:
        begins: row of each episode's first step, int64 [E].
        has_final: whether the row after the last step is the final observation, bool [E]. A missing
            one is replaced by zeros.
        cut: truncated episodes, bool [E]. They must have a final observation.
    """

    begins: np.ndarray
    has_final: np.ndarray
    cut: np.ndarray

    @abstractmethod
    def _slice(self, start: int, end: int) -> dict[str, np.ndarray]:
        """State, obs, actions, avail_actions and reward of the timeline's rows start..end-1.

        They may have any dtype of numbers.
        """

    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        lengths, begins = self.lengths[first:last], self.begins[first:last]
        start = int(begins[0])
        end = int(begins[-1] + lengths[-1] + self.has_final[last - 1])
        n_rows = lengths + 1
        final = np.cumsum(n_rows) - 1
        step = np.arange(int(n_rows.sum())) - np.repeat(final - lengths, n_rows)
        source = np.repeat(begins - start, n_rows) + step
        # The final row of the last episode may be missing.
        source = source.clip(max=end - start - 1)
        rows = {name: array[source] for name, array in self._slice(start, end).items()}
        missing = final[~self.has_final[first:last]]
        for name in ("state", "obs", "avail_actions"):
            rows[name][missing] = 0
        rows["avail_actions"][missing, :, 0] = 1
        for name in ("actions", "reward"):
            rows[name][final] = 0
        for name in ("terminated", "truncated"):
            rows[name] = np.zeros(len(source), dtype=bool)
        rows["terminated"][final - 1] = ~self.cut[first:last]
        rows["truncated"][final - 1] = self.cut[first:last]
        return rows
