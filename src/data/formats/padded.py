"""PyMARL's episode batches, which CFCQL, OffPyMARL and AlberDICE store: padded arrays [E, T, ...] with a mask `filled`.

An episode of L steps fills L + 1 rows, the last with its final observation and an action never executed; `terminated`
is set in row L - 1, or nowhere if the recording was cut. Files converted from Vaults fill L rows and have no final
observation: `terminated` is set in their last row.
"""

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from inspo.data.episode_data import Finding
from inspo.data.formats.reader import BLOCK_BYTES, Reader
from inspo.data.formats.schema import Sizes, cast, raise_problems
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
log = logging.getLogger(__name__)


class PaddedReader(Reader):
    """Reads padded arrays, which subclasses open as `self.parts`."""

    parts: list[dict[str, Any]]  # of each file: field name -> array, sliced by episode

    def _prepare(self, what: str) -> None:
        """Checks the shapes of all parts, and finds out every episode's length."""
        raise_problems(self.path, list(self._wrong_shapes()))
        first = self.parts[0]
        self.stored_rows = first["filled"].shape[1]
        self.sizes = Sizes(
            *first["avail_actions"].shape[2:], first["obs"].shape[3], first["state"].shape[2]
        )
        self.raw_bytes_per_row = sum(
            math.prod(array.shape[2:]) * array.dtype.itemsize for array in first.values()
        )
        raise_problems(self.path, self._unusable_sizes())
        self.part_ends = np.cumsum([len(part["filled"]) for part in self.parts])
        filled, ends = self._scan()
        self.no_final = self._without_final_row(filled, ends)
        # Without a final row a cut episode's last action has no outcome: its row serves as the final observation.
        self.lengths = filled - 1 + (self.no_final & (ends >= 0))
        self.cut = ends < 0
        if (short := np.flatnonzero(self.lengths < 1)).size:
            problem = "nothing filled: no step with what followed it"
            raise_problems(
                self.path, [Finding("filled", problem, (f"episode {short[0]}",), len(short))]
            )
        self.metadata = {"behaviour": what, "source": str(self.path)}
        if self.no_final:
            log.warning(
                "%s holds no final observations (converted from a Vault?); zeros stand for them",
                self.path,
            )
            self.metadata["final_observation"] = "zeros: the source has none"

    def _wrong_shapes(self) -> Iterator[Finding | str]:
        for number, part in enumerate(self.parts):
            where = f"part {number}: " if len(self.parts) > 1 else ""
            leading = {name: tuple(array.shape[:2]) for name, array in part.items()}
            if len(set(leading.values())) > 1:
                yield f"{where}the fields disagree on episodes and steps: {leading}"
            for name in ("actions", "reward", "terminated", "filled"):
                if part[name].shape[-1] != 1:
                    yield f"{where}{Finding(name, f'has shape {part[name].shape}; its last axis must be 1')}"
            agents = {name: part[name].shape[2] for name in ("obs", "actions", "avail_actions")}
            if len(set(agents.values())) > 1:
                yield f"{where}{Finding('obs', f'the fields disagree on the number of agents: {agents}')}"
            for name, array in part.items():
                if (shape := array.shape[1:]) != (expected := self.parts[0][name].shape[1:]):
                    problem = f"has episodes of shape {shape}, those of the first part {expected}"
                    yield f"{where}{Finding(name, problem)}"

    def _scan(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each episode: the number of filled rows, and the row of `terminated` (-1: none), both int64 [E]."""
        filled_rows, ends, step = [], [], max(1, BLOCK_BYTES // (16 * self.stored_rows))
        for first in range(0, int(self.part_ends[-1]), step):
            last = min(first + step, int(self.part_ends[-1]))

            def report_problem(
                field: str, problem: str, bad: np.ndarray | None, first: int = first
            ) -> None:
                place = f"episode {first + int(np.argmax(bad))}"
                raise_problems(self.path, [Finding(field, problem, (place,), int(bad.sum()))])

            filled = cast("filled", self._padded("filled", first, last)[..., 0], report_problem)
            terminated = cast(
                "terminated", self._padded("terminated", first, last)[..., 0], report_problem
            )
            rows = filled.sum(axis=1)
            gaps = (filled != (np.arange(filled.shape[1]) < rows[:, None])).any(axis=1)
            if gaps.any():
                report_problem("filled", "has gaps: only an episode's end may be unfilled", gaps)
            filled_rows.append(rows)
            ends.append(np.where(terminated.any(axis=1), terminated.argmax(axis=1), -1))
        return np.concatenate(filled_rows).astype(np.int64), np.concatenate(ends)

    def _without_final_row(self, filled: np.ndarray, ends: np.ndarray) -> bool:
        with_end = ends >= 0
        none, some = with_end & (ends == filled - 1), with_end & (ends == filled - 2)
        if none.any() and some.any():
            first, second = int(np.argmax(none)), int(np.argmax(some))
            raise DatasetError(
                f"{self.path}: field 'terminated': set in the last filled row of episode {first}, "
                f"in the last but one of episode {second}: it cannot be told whether there is a final observation"
            )
        return bool(none.any())

    def _padded(self, name: str, first: int, last: int) -> np.ndarray:
        """Field `name` of episodes first..last-1, [episodes, T, ...], from one part or several."""
        pieces = []
        for part, end in zip(self.parts, self.part_ends, strict=True):
            begin = end - len(part["filled"])
            if begin < last and first < end:
                pieces.append(part[name][max(first - begin, 0) : min(last, end) - begin])
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        lengths = self.lengths[first:last]
        steps = np.arange(self.stored_rows + self.no_final)
        kept = steps <= lengths[:, None]
        final = np.cumsum(lengths + 1) - 1
        rows = {}
        for name in PADDED_AXES:
            if name == "filled":
                continue
            padded = np.asarray(self._padded(name, first, last))
            if self.no_final:
                padded = np.concatenate([padded, np.zeros_like(padded[:, :1])], axis=1)
            rows[name] = padded[kept]
        for name in ("actions", "reward", "terminated"):
            rows[name] = rows[name][..., 0]
        rows["actions"][final] = 0  # one more is stored, never executed
        if self.no_final:
            rows["reward"][final] = 0
            rows["avail_actions"][final[~self.cut[first:last]]] = (
                np.arange(self.sizes.n_actions) == 0
            )
        rows["truncated"] = np.zeros(len(kept[kept]), dtype=bool)
        rows["truncated"][final - 1] = self.cut[first:last]
        return rows
