"""Layouts that store one long timeline of rows, episodes back to back, without lengths: OG-MARL's and OMIGA's."""

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np

from inspo.data.episode_data import Finding
from inspo.data.formats.reader import Reader

CONTINUOUS = "has shape {shape} of {dtype}: continuous actions; this project learns discrete ones"


def not_flags(name: str, values: np.ndarray, first_row: int = 0) -> Iterator[Finding]:
    """What is wrong where a timeline's flags, [rows, ...], are neither 0 nor 1."""
    bad = (values != 0) & (values != 1)
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        yield Finding(
            name,
            f"must hold 0 and 1 only, not {values[bad][0]}",
            (f"row {first_row + rows[0]}",),
            len(rows),
        )


class TimelineReader(Reader):
    """Reads episodes out of a timeline. Subclasses find them and set these, beside what every reader has:

    begins: row of each episode's first step, int64 [E].
    has_final: whether the row after its last step is its final observation, bool [E]. Zeros stand for a missing one.
    cut: whether the recording ends there but the game does not, bool [E]. A cut episode has its final observation.
    """

    begins: np.ndarray
    has_final: np.ndarray
    cut: np.ndarray

    @abstractmethod
    def _slice(self, start: int, end: int) -> dict[str, np.ndarray]:
        """State, obs, actions, avail_actions and reward of the timeline's rows start..end-1, in any numeric dtype."""

    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        lengths, begins = self.lengths[first:last], self.begins[first:last]
        final = np.cumsum(lengths + 1) - 1
        within = np.arange(int(final[-1]) + 1) - np.repeat(final - lengths, lengths + 1)
        start, end = int(begins[0]), int(begins[-1] + lengths[-1] + self.has_final[last - 1])
        place = np.repeat(begins - start, lengths + 1) + within
        rows = {
            name: array[place.clip(max=end - start - 1)]
            for name, array in self._slice(start, end).items()
        }
        missing = final[~self.has_final[first:last]]
        for name in ("state", "obs", "avail_actions"):
            rows[name][missing] = 0
        rows["avail_actions"][missing, :, 0] = 1
        for name in ("actions", "reward"):
            rows[name][final] = 0
        for name in ("terminated", "truncated"):
            rows[name] = np.zeros(len(place), dtype=bool)
            rows[name][final - 1] = self.cut[first:last] == (name == "truncated")
        return rows
