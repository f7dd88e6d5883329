"""What all readers have in common: a dataset opened without reading it, then read in blocks of whole episodes."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from inspo.data.episode_data import EpisodeData, Finding, compact_actions
from inspo.data.formats.schema import ROW_FIELDS, Sizes, cast, check_memory, empty_data
from inspo.utils.errors import DatasetError

BLOCK_BYTES = 1 << 23  # of raw data read at once: bounds the memory beside the dataset's own
ALIGNED_BLOCKS = 16  # so many times as much where a block must be larger to end with a chunk
ACTIONS_LIMIT = 1 << 24  # no game has as many; a claim to the contrary is not allocated either
EPISODE_BYTES = 1 << 30  # no recorded episode takes more; a claim to the contrary is not allocated


class Reader(ABC):
    """An open dataset in one layout. Opening reads and checks its structure, `read` and `blocks` its rows.

    Subclasses set in `__init__`: `lengths`, `sizes`, `metadata`, and where padding is read too, `stored_rows`.

    Args:
        path: file or folder.
        findings: a list that collects what is wrong with the rows, instead of an error at the first such thing.

    Raises:
        DatasetError: the structure is not that of the layout: all that is wrong with it, in one message.
    """

    layout: ClassVar[str]  # for the user
    lengths: np.ndarray  # int64 [E], steps of every episode
    sizes: Sizes
    metadata: dict[str, Any]

    def __init__(self, path: Path, findings: list[Finding] | None = None):
        self.path = path
        self.findings = findings
        self.stored_rows: int | None = None  # rows of an episode in the file, if padded
        self.raw_bytes_per_row = 0  # in the file's dtypes; 0: as in memory
        self.align = 1  # blocks begin at multiples of so many episodes: where the file's chunks do

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the content of `path` is of this layout, however it is named. Raises nothing."""

    @abstractmethod
    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        """The row fields of episodes first..last-1, laid end to end as in EpisodeData, in any dtype of numbers."""

    def close(self) -> None:
        """Frees files. Nothing by default."""

    def verify(self) -> None:
        """Raises DatasetError if the content is not what was written, as far as the layout can tell. Most cannot."""

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_episodes(self) -> int:
        return len(self.lengths)

    @cached_property
    def row_ends(self) -> np.ndarray:
        """Rows up to and with each episode, int64 [E]."""
        return np.cumsum(self.lengths + 1)

    def read(self, first: int, last: int) -> EpisodeData:
        """Episodes first..last-1, in compact dtypes, not yet checked."""
        lengths = self.lengths[first:last]
        block = EpisodeData(
            lengths,
            **dict.fromkeys(ROW_FIELDS),
            metadata=self.metadata,
            path=str(self.path),
            first_episode=first,
        )

        def report_problem(field: str, problem: str, bad: np.ndarray | None) -> None:
            rows = np.flatnonzero(bad)
            places = tuple(block.locate(int(row)) for row in rows[:3])
            self.report_problem(Finding(field, problem, places, len(rows)))

        rows = self._rows(first, last)
        for name in ROW_FIELDS:
            setattr(block, name, cast(name, rows.pop(name), report_problem))
        block.actions = compact_actions(block.actions, self.sizes.n_actions)
        return block

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[EpisodeData]:
        """All episodes from `first` on, a bounded number of bytes at a time. The cuts do not depend on `first`'s past
        reading: two passes from the same episode give the same blocks."""
        last = self.n_episodes if last is None else min(last, self.n_episodes)
        while first < last:
            end = min(self._block_end(first), last)
            yield self.read(first, end)
            first = end

    def load(self, max_episodes: int | None = None) -> EpisodeData:
        """The first `max_episodes` episodes, or all, checked, in memory; each block goes straight to its final place.

        Raises:
            DatasetError: a check fails, or the memory does not suffice.
        """
        lengths = self.lengths[:max_episodes]
        check_memory(self.path, self.sizes.bytes_per_row() * int((lengths + 1).sum()))
        data = empty_data(self.sizes, lengths, self.metadata, str(self.path))
        row = 0
        for block in self.blocks(0, len(lengths)):
            for name in ROW_FIELDS:
                getattr(data, name)[row : row + len(block.reward)] = getattr(block, name)
            row += len(block.reward)
        data.check()
        return data

    def report_problem(self, finding: Finding) -> None:
        """Collects the finding, or raises it where nobody collects."""
        if self.findings is None:
            raise DatasetError(f"{self.path}: {finding}")
        self.findings.append(finding)

    def _block_end(self, first: int) -> int:
        row_bytes = self.raw_bytes_per_row or self.sizes.bytes_per_row()
        if self.stored_rows is not None:
            episodes = max(1, BLOCK_BYTES // max(1, row_bytes * self.stored_rows))
        else:
            begin = self.row_ends[first] - self.lengths[first] - 1
            fitting = np.searchsorted(
                self.row_ends, begin + BLOCK_BYTES // max(1, row_bytes), side="right"
            )
            episodes = max(1, int(fitting) - first)
        end = first + episodes
        if (aligned := end // self.align * self.align) > first:
            return aligned
        # A part of a chunk costs as much as the whole of it: rather a larger block, within bounds.
        aligned = -(-end // self.align) * self.align
        larger = (aligned - first) * row_bytes * (self.stored_rows or 0)
        return aligned if larger <= ALIGNED_BLOCKS * BLOCK_BYTES else end

    def _unusable_sizes(self) -> list[Finding]:
        """A finding if there is no action or too large a one, or if an episode claims more than any block may take."""
        if self.sizes.n_actions < 1:
            return [Finding("actions", "every action is negative")]
        if self.sizes.n_actions > ACTIONS_LIMIT:
            return [
                Finding(
                    "actions",
                    f"the largest is {self.sizes.n_actions - 1}; at most {ACTIONS_LIMIT} are read",
                )
            ]
        rows = (
            self.stored_rows
            if self.stored_rows is not None
            else int(self.lengths.max(initial=0)) + 1
        )
        n_bytes = rows * max(self.raw_bytes_per_row, self.sizes.bytes_per_row())
        if n_bytes <= EPISODE_BYTES:
            return []
        return [
            Finding(
                "lengths",
                f"one episode claims {n_bytes / 2**30:.1f} GiB; no recorded episode takes so much",
            )
        ]
