"""PyMARL's episode batches: padded arrays [E, T, ...] with a mask `filled`.

CFCQL, OffPyMARL and AlberDICE store them. An episode of L steps fills L + 1 rows: the last has its
final observation, and an action that was never executed. `terminated` is set in row L - 1, or
nowhere if the recording was cut. Files converted from Vaults fill L rows and have no final
observation: `terminated` is set in their last row.
"""

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from inspo.data.arrays import Sizes
from inspo.data.episode_data import PER_AGENT, Finding, differing_agents
from inspo.data.formats.assume import complete, needed, way_out, with_way_out
from inspo.data.formats.reader import BLOCK_BYTES, Reader
from inspo.data.formats.schema import array_problem, cast, check_index, raise_problems
from inspo.utils.errors import DatasetError

PADDED_AXES = {
    "state": 3,
    "obs": 4,
    "actions": 4,
    "avail_actions": 4,
    "reward": 3,
    "terminated": 3,
    "filled": 3,
}
ONE_NUMBER = ("actions", "reward", "terminated", "filled")  # their last axis has size 1
log = logging.getLogger(__name__)


class PaddedReader(Reader):
    """Reads padded arrays, which subclasses open as `self.parts`."""

    parts: list[dict[str, Any]]  # of each file: field name -> array, sliced by episode
    hint = staticmethod(way_out)

    def _prepare(self, behaviour: str) -> None:
        """Checks the shapes of all parts, and finds every episode's length."""
        self.parts = [self._complete(part) for part in self.parts]
        raise_problems(self.path, list(self._wrong_shapes()))
        first = self.parts[0]
        self.stored_rows = first["filled"].shape[1]
        self.sizes = Sizes.of(first)
        self.raw_bytes_per_row = sum(
            math.prod(array.shape[2:]) * array.dtype.itemsize for array in first.values()
        )
        raise_problems(self.path, self._unusable_sizes())
        n_episodes = sum(len(part["filled"]) for part in self.parts)
        check_index(self.path, n_episodes, "episodes")
        self.part_ends = np.cumsum([len(part["filled"]) for part in self.parts])
        self.metadata = {"behaviour": behaviour, "source": str(self.path)}
        self._note_scalarisation(first["reward"].shape[2])
        if self.options.assume:
            self.metadata["assumed"] = sorted(self.options.assume)
        self._find_lengths()
        if self.no_final:
            log.warning(
                "%s holds no final observations (converted from a Vault?); zeros replace them",
                self.path,
            )
            self.metadata["final_observation"] = "zeros: the source has none"

    @property
    def stored_names(self) -> list[str]:
        """The arrays that must be stored: those of the layout that are not assumed."""
        return needed(PADDED_AXES, self.options.assume)

    def _complete(self, part: dict[str, Any]) -> dict[str, Any]:
        """The part with what the user assumes, and the right numbers of axes."""
        arrays = part
        if self.options.assume:
            try:
                arrays = complete(part, self.options.assume)
            except DatasetError as error:
                raise DatasetError(f"{self.path}: {error}") from None
            except (LookupError, ValueError, TypeError, AttributeError) as error:
                shapes = {name: tuple(array.shape) for name, array in part.items()}
                problem = f"the assumptions do not fit arrays of the shapes {shapes}: {error}"
                raise DatasetError(f"{self.path}: {problem}") from None
        problems = []
        for name, n_axes in PADDED_AXES.items():
            if problem := array_problem(arrays[name], n_axes):
                problems.append(with_way_out(Finding(name, problem)))
        raise_problems(self.path, problems)
        return arrays

    def _find_lengths(self) -> None:
        """Sets `lengths`, `cut` (bool [E], truncated episodes) and `no_final`."""
        filled, ends = self._scan()
        self.cut = ends < 0
        self.no_final = self._without_final_row(filled, ends)
        # In a file without final rows, the last row of a cut episode is its final observation: the
        # outcome of its last action was not recorded.
        self.lengths = filled - 1 + (self.no_final & ~self.cut)
        too_short = np.flatnonzero(self.lengths < 1)
        if too_short.size:
            problem = "nothing filled: no step with what followed it"
            place = f"episode {too_short[0]}"
            raise_problems(self.path, [Finding("filled", problem, (place,), len(too_short))])

    def _wrong_shapes(self) -> Iterator[str]:
        for number, part in enumerate(self.parts):
            where = f"part {number}: " if len(self.parts) > 1 else ""
            leading = {name: tuple(array.shape[:2]) for name, array in part.items()}
            if len(set(leading.values())) > 1:
                yield f"{where}the fields disagree on episodes and steps: {leading}"
            for finding in self._wrong_axes(part):
                yield f"{where}{with_way_out(finding)}"

    def _wrong_axes(self, part: dict[str, Any]) -> Iterator[Finding]:
        n_agents = part["actions"].shape[2]
        for name in ONE_NUMBER:
            shape = part[name].shape
            if name == "reward" and shape[-1] == n_agents:
                continue
            if shape[-1] != 1:
                yield Finding(name, f"has shape {shape}; its last axis must be 1")
        yield from differing_agents({name: part[name] for name in PER_AGENT}, axis=2)
        for name, array in part.items():
            shape, expected = array.shape[1:], self.parts[0][name].shape[1:]
            if shape != expected:
                problem = f"has episodes of shape {shape}, those of the first part {expected}"
                yield Finding(name, problem)

    def _scan(self) -> tuple[np.ndarray, np.ndarray]:
        """Reads `filled` and `terminated` of all episodes.

        Returns:
            the number of filled rows and the row of `terminated` (-1: none), both int64 [E].
        """
        n_episodes = int(self.part_ends[-1])
        step = max(1, BLOCK_BYTES // (16 * self.stored_rows))
        filled_rows, ends = [], []
        for first in range(0, n_episodes, step):
            last = min(first + step, n_episodes)
            filled = self._flags("filled", first, last)
            terminated = self._flags("terminated", first, last)
            n_filled = filled.sum(axis=1)
            gaps = (filled != (np.arange(self.stored_rows) < n_filled[:, None])).any(axis=1)
            if gaps.any():
                problem = "has gaps: only an episode's end may be unfilled"
                self._refuse("filled", problem, gaps, first)
            filled_rows.append(n_filled)
            ends.append(np.where(terminated.any(axis=1), terminated.argmax(axis=1), -1))
        return np.concatenate(filled_rows).astype(np.int64), np.concatenate(ends)

    def _flags(self, name: str, first: int, last: int) -> np.ndarray:
        """A field of flags of episodes first..last-1, bool [episodes, T]."""

        def report_problem(field: str, problem: str, bad: np.ndarray) -> None:
            self._refuse(field, problem, bad, first)

        return cast(name, self._padded(name, first, last)[..., 0], report_problem)

    def _refuse(self, field: str, problem: str, bad: np.ndarray, first: int) -> None:
        """Raises DatasetError; `bad` marks episodes from `first` on."""
        place = f"episode {first + int(np.argmax(bad))}"
        finding = Finding(field, problem, (place,), int(bad.sum()))
        raise_problems(self.path, [with_way_out(finding)])

    def _without_final_row(self, filled: np.ndarray, ends: np.ndarray) -> bool:
        """Whether final observations are missing: `terminated` is then set in the last row."""
        in_last = (ends >= 0) & (ends == filled - 1)
        in_last_but_one = (ends >= 0) & (ends == filled - 2)
        if in_last.any() and in_last_but_one.any():
            first, second = int(np.argmax(in_last)), int(np.argmax(in_last_but_one))
            problem = (
                f"set in the last filled row of episode {first}, "
                f"but in the last but one of episode {second}: "
                "it is unclear whether there are final observations"
            )
            raise_problems(self.path, [with_way_out(Finding("terminated", problem))])
        return bool(in_last.any())

    def _padded(self, name: str, first: int, last: int) -> np.ndarray:
        """Field `name` of episodes first..last-1, [episodes, T, ...], from one part or several."""
        pieces = []
        for part, end in zip(self.parts, self.part_ends, strict=True):
            begin = end - len(part["filled"])
            if begin < last and first < end:
                pieces.append(part[name][max(first - begin, 0) : min(last, end) - begin])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        lengths, cut = self.lengths[first:last], self.cut[first:last]
        kept = np.arange(self.stored_rows + self.no_final) <= lengths[:, None]
        final = np.cumsum(lengths + 1) - 1
        rows = {}
        for name in PADDED_AXES:
            if name == "filled":
                continue
            padded = np.asarray(self._padded(name, first, last))
            if self.no_final:
                padded = np.concatenate([padded, np.zeros_like(padded[:, :1])], axis=1)
            rows[name] = padded[kept]
        for name in ("actions", "terminated"):
            rows[name] = rows[name][..., 0]
        rows["actions"][final] = 0  # stored, but never executed
        if self.no_final:
            rows["reward"][final] = 0
            rows["avail_actions"][final[~cut]] = np.arange(self.sizes.n_actions) == 0
        rows["truncated"] = np.zeros(len(rows["reward"]), dtype=bool)
        rows["truncated"][final - 1] = cut
        return rows
