"""The base class of all readers: opens a dataset, then reads it in blocks of whole episodes."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from inspo.data.arrays import ROW_FIELDS, Sizes, compact_actions
from inspo.data.episode_data import PLACES_NAMED, EpisodeData, Finding
from inspo.data.formats.schema import (
    JOIN_REWARDS,
    REWARDS_DIFFER,
    ReadOptions,
    cast,
    check_memory,
    empty_data,
    team_reward,
)
from inspo.utils.errors import DatasetError
from inspo.utils.progress import Progress

BLOCK_BYTES = 1 << 23  # of raw data read at once: bounds the memory beside the dataset's own
ALIGNED_BLOCKS = 16  # a block may be so many times larger in order to end with a chunk
ACTIONS_LIMIT = 1 << 24  # more actions than any game has: not allocated
DEFAULT_OPTIONS = ReadOptions()
EPISODE_BYTES = 1 << 30  # larger than any recorded episode: not allocated


class Reader(ABC):
    """An open dataset in one layout.

    Opening it reads and checks its structure. `read` and `blocks` read its rows.
    Subclasses set `lengths`, `sizes` and `metadata` in `__init__`, and `stored_rows` where padding
    is read too.

    Args:
        path: file or folder.
        findings: collects problems of the rows, which otherwise raise an error at the first one.
        options: what the user states about the data.

    Raises:
        DatasetError: the structure is not that of the layout. The message lists all its problems.
    """

    layout: ClassVar[str]  # for the user
    lengths: np.ndarray  # int64 [E], steps of every episode
    sizes: Sizes
    metadata: dict[str, Any]
    hint: Callable[[str, str], str] | None = None  # from a field and its problem to what helps

    def __init__(
        self,
        path: Path,
        findings: list[Finding] | None = None,
        options: ReadOptions = DEFAULT_OPTIONS,
    ):
        self.path = path
        self.findings = findings
        self.options = options
        self.stored_rows: int | None = None  # rows of an episode in the file, if padded
        self.raw_bytes_per_row = 0  # in the file's dtypes; 0: as in memory
        self.held_bytes = 0  # of the file's arrays, which stay in memory beside the episodes
        self.align = 1  # blocks begin at multiples of so many episodes, as the file's chunks do

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether the content of `path` is of this layout, whatever its name. Raises nothing."""

    @abstractmethod
    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        """The row fields of episodes first..last-1, end to end as in EpisodeData.

        They may have any dtype of numbers.
        """

    def close(self) -> None:
        """Closes files. Nothing by default."""

    def verify(self) -> None:
        """Raises DatasetError if the content was changed after it was written.

        Most layouts cannot tell.
        """

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def n_episodes(self) -> int:
        """Number of episodes E."""
        return len(self.lengths)

    @cached_property
    def row_ends(self) -> np.ndarray:
        """Number of rows up to and including each episode, int64 [E]."""
        return np.cumsum(self.lengths + 1)

    def read(self, first: int, last: int) -> EpisodeData:
        """Episodes first..last-1, in compact dtypes, not yet checked."""
        block = EpisodeData(
            self.lengths[first:last],
            **dict.fromkeys(ROW_FIELDS),
            metadata=self.metadata,
            path=str(self.path),
            first_episode=first,
            hint=self.hint,
        )

        def report_problem(field: str, problem: str, bad: np.ndarray) -> None:
            rows = np.flatnonzero(bad)
            places = tuple(block.locate(int(row)) for row in rows[:PLACES_NAMED])
            hint = self.hint(field, problem) if self.hint else ""
            if problem == REWARDS_DIFFER:
                hint = JOIN_REWARDS
            self.report_problem(Finding(field, problem, places, len(rows), hint))

        rows = self._rows(first, last)
        if rows["reward"].ndim > 1:
            scalarisation = self.options.reward_scalarisation
            rows["reward"] = team_reward(rows["reward"], scalarisation, report_problem)
        for name in ROW_FIELDS:
            setattr(block, name, cast(name, rows.pop(name), report_problem))
        block.actions = compact_actions(block.actions, self.sizes.n_actions)
        return block

    def blocks(self, first: int = 0, last: int | None = None) -> Iterator[EpisodeData]:
        """Episodes first..last-1, or all from `first` on, a few MiB at a time.

        Two passes from the same episode give the same blocks.
        """
        last = self.n_episodes if last is None else min(last, self.n_episodes)
        while first < last:
            end = min(self._block_end(first), last)
            yield self.read(first, end)
            first = end

    def shown_blocks(self, title: str) -> Iterator[EpisodeData]:
        """All blocks, with the progress shown."""
        return with_progress(self.blocks(), self.n_episodes, title)

    def load(self, max_episodes: int | None = None) -> EpisodeData:
        """The first `max_episodes` episodes, or all, checked, in memory.

        Raises:
            DatasetError: a check fails, or the memory does not suffice.
        """
        lengths = self.lengths[:max_episodes]
        n_bytes = self.sizes.bytes_per_row() * int((lengths + 1).sum())
        check_memory(self.path, n_bytes + self.held_bytes)
        data = empty_data(self.sizes, lengths, self.metadata, str(self.path))
        data.hint = self.hint
        row = 0
        for block in self.blocks(0, len(lengths)):
            end = row + len(block.reward)
            for name in ROW_FIELDS:
                getattr(data, name)[row:end] = getattr(block, name)
            row = end
        data.check()
        return data

    def report_problem(self, finding: Finding) -> None:
        """Collects the finding if `findings` was given, and raises it otherwise."""
        if self.findings is None:
            raise DatasetError(f"{self.path}: {finding}")
        self.findings.append(finding)

    def _block_end(self, first: int) -> int:
        """The end of the block that begins with episode `first`, aligned with the file's chunks."""
        end = first + self._episodes_per_block(first)
        aligned = end // self.align * self.align
        if aligned > first:
            return aligned
        # Reading part of a chunk costs as much as all of it: rather a larger block, within bounds.
        aligned = -(-end // self.align) * self.align
        row_bytes = self.raw_bytes_per_row or self.sizes.bytes_per_row()
        n_bytes = (aligned - first) * row_bytes * (self.stored_rows or 0)
        return aligned if n_bytes <= ALIGNED_BLOCKS * BLOCK_BYTES else end

    def _episodes_per_block(self, first: int) -> int:
        """How many episodes from `first` on fit into BLOCK_BYTES, at least one."""
        row_bytes = self.raw_bytes_per_row or self.sizes.bytes_per_row()
        if self.stored_rows is not None:
            return max(1, BLOCK_BYTES // max(1, row_bytes * self.stored_rows))
        begin = self.row_ends[first] - self.lengths[first] - 1
        n_rows = BLOCK_BYTES // max(1, row_bytes)
        end = np.searchsorted(self.row_ends, begin + n_rows, side="right")
        return max(1, int(end) - first)

    def _note_scalarisation(self, n_rewards: int) -> None:
        """Adds to the metadata how so many rewards of each step became one."""
        scalarisation = self.options.reward_scalarisation
        if n_rewards > 1 and scalarisation is not None:
            self.metadata["reward_scalarisation"] = scalarisation

    def _unusable_sizes(self) -> list[Finding]:
        """A finding if there is no action, or too large an action or episode to be real."""
        n_actions = self.sizes.n_actions
        if n_actions < 1:
            return [Finding("actions", "every action is negative")]
        if n_actions > ACTIONS_LIMIT:
            problem = f"the largest is {n_actions - 1}; at most {ACTIONS_LIMIT} are read"
            return [Finding("actions", problem)]
        n_rows = self.stored_rows
        if n_rows is None:
            n_rows = int(self.lengths.max(initial=0)) + 1
        n_bytes = n_rows * max(self.raw_bytes_per_row, self.sizes.bytes_per_row())
        if n_bytes > EPISODE_BYTES:
            problem = f"one episode claims {n_bytes / 2**30:.1f} GiB; no recorded one takes so much"
            return [Finding("lengths", problem)]
        return []


def with_progress(
    blocks: Iterable[EpisodeData], n_episodes: int, title: str
) -> Iterator[EpisodeData]:
    """Blocks of `n_episodes` episodes in all, with the progress shown."""
    shown = Progress(n_episodes, title)
    try:
        for block in blocks:
            yield block
            shown.advance(block.n_episodes)
    finally:
        shown.close()
