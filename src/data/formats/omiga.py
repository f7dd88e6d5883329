"""OMIGA's hdf5 (Wang et al. 2023) with discrete actions: `s`, `o`, `a`, `r`, `d` in one timeline.

An episode of L steps has L + 1 rows. The last one has `d` set, and only its observation counts. So
`d` is one row later than in a Vault. It is set both at the end of the game and at the time limit.
Rows after the last `d` are a truncated episode; a single such row is left out.
"""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inspo.data.arrays import Sizes, in_parts
from inspo.data.episode_data import Finding, differing_agents
from inspo.data.formats.h5_files import find_fields, h5_errors, h5_keys, open_h5, reading
from inspo.data.formats.reader import BLOCK_BYTES
from inspo.data.formats.schema import check_index, raise_problems
from inspo.data.formats.timeline import CONTINUOUS, TimelineReader, not_flags
from inspo.utils.errors import DatasetError

# The last axis of `r` and `d` may be left out, and that of `a` where it is 1.
AXES = {"s": 3, "o": 3, "a": None, "r": None, "d": None}
log = logging.getLogger(__name__)


class OmigaReader(TimelineReader):
    """Reads a file of OMIGA's. All actions count as available: the layout has no masks.

    If all agents see the same state, it is taken once. Otherwise their states are joined.
    """

    layout = "OMIGA's hdf5"

    def __init__(self, path: Path, *arguments: Any):
        super().__init__(path, *arguments)
        self.file = open_h5(path)
        with reading(self.file, path):
            self.fields, problems = find_fields(self.file, AXES)
            raise_problems(path, problems)
            raise_problems(path, list(self._wrong_shapes()))
            check_index(path, len(self.fields["d"]), "rows")
            self._find_episodes()
            self.sizes = self._find_sizes()
            raise_problems(path, self._unusable_sizes())
        self.metadata = {"behaviour": self.layout, "source": str(path)}
        self._note_scalarisation(math.prod(self.fields["r"].shape[1:]))

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_file() and len(h5_keys(path, AXES)) == len(AXES)

    def close(self) -> None:
        self.file.close()

    def _wrong_shapes(self) -> Iterator[Finding]:
        n_rows = {name: field.shape[0] for name, field in self.fields.items()}
        if len(set(n_rows.values())) > 1:
            yield Finding("d", f"the fields disagree on the number of rows: {n_rows}")
        if self.fields["a"].ndim not in (2, 3):
            yield Finding("a", f"has shape {self.fields['a'].shape}; expected 3 axes")
            return
        yield from differing_agents({name: self.fields[name] for name in ("o", "s", "a")})
        n_agents = self.fields["o"].shape[1]
        for name, sizes in (("r", {1, n_agents}), ("d", {1})):
            shape = self.fields[name].shape
            if math.prod(shape[1:]) not in sizes or len(shape) > 3:
                yield Finding(name, f"has shape {shape}; its last axis must be 1")

    def _find_episodes(self) -> None:
        """Sets `begins`, `lengths`, `cut` and `has_final`."""
        done = np.concatenate([part.ravel() for part in self._parts("d")])
        raise_problems(self.path, list(not_flags("d", done)))
        ends = np.flatnonzero(done)
        self.cut = np.zeros(len(ends), dtype=bool)
        last_row = len(done) - 1
        rest = last_row - (ends[-1] if len(ends) else -1)
        if rest == 1:
            log.warning("%s: the last row begins an episode without a step; left out", self.path)
        elif rest:
            ends = np.append(ends, last_row)
            self.cut = np.append(self.cut, True)
        if not len(ends):
            problem = "there is one row only: no step with what followed it"
            raise_problems(self.path, [Finding("d", problem)])
        self.begins = np.concatenate(([0], ends[:-1] + 1))
        self.lengths = (ends - self.begins).astype(np.int64)
        self.has_final = np.ones(len(ends), dtype=bool)
        too_short = np.flatnonzero(self.lengths < 1)
        if too_short.size:
            problem = "an episode of one row: no step with what followed it"
            place = f"row {ends[too_short[0]]}"
            raise_problems(self.path, [Finding("d", problem, (place,), len(too_short))])

    def _find_sizes(self) -> Sizes:
        n_actions, self.onehot = self._find_actions()
        n_agents, n_obs = self.fields["o"].shape[1:]
        n_state = self.fields["s"].shape[2]
        self.one_state = all((part == part[:, :1]).all() for part in self._parts("s"))
        if not self.one_state:
            n_state *= n_agents
        return Sizes(n_agents, n_actions, n_obs, n_state)

    def _find_actions(self) -> tuple[int, bool]:
        """The number of actions, and whether they are stored one-hot."""
        shape, dtype = self.fields["a"].shape, self.fields["a"].dtype
        if len(shape) == 3 and shape[2] > 1:
            if all(_is_onehot(part) for part in self._parts("a")):
                return shape[2], True
        elif all((part == np.rint(part)).all() for part in self._parts("a")):
            return int(max(part.max() for part in self._parts("a"))) + 1, False
        problem = CONTINUOUS.format(shape=shape, dtype=dtype)
        raise DatasetError(f"{self.path}: {Finding('a', problem)}")

    def _parts(self, name: str) -> Iterator[np.ndarray]:
        return in_parts(self.fields[name], BLOCK_BYTES)

    def _slice(self, start: int, end: int) -> dict[str, np.ndarray]:
        with h5_errors(self.path):
            raw = {name: field[start:end] for name, field in self.fields.items()}
        n_rows = end - start
        n_agents, n_actions = self.sizes.n_agents, self.sizes.n_actions
        state, actions = raw["s"], raw["a"]
        return {
            "state": state[:, 0] if self.one_state else state.reshape(n_rows, -1),
            "obs": raw["o"],
            "actions": actions.argmax(-1) if self.onehot else actions.reshape(n_rows, n_agents),
            "avail_actions": np.ones((n_rows, n_agents, n_actions), dtype=bool),
            "reward": raw["r"].reshape(n_rows, -1),
        }


def _is_onehot(values: np.ndarray) -> bool:
    binary = (values == 0) | (values == 1)
    return bool(binary.all() and (values.sum(-1) == 1).all())
