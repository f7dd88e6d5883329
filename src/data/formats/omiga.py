"""OMIGA's hdf5 (Wang et al. 2023), where its actions are discrete: `s`, `o`, `a`, `r`, `d` in one timeline.

An episode of L steps has L + 1 rows: the last has `d` set and only its observation counts, so `d` sits one row later
than in a Vault. The end of the game and the time limit are one flag. Rows after the last `d` are an episode cut short;
a single one is left out.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from inspo.data.episode_data import Finding
from inspo.data.formats.h5_files import find_fields, h5_errors, h5_keys, open_h5, reading, rows_of
from inspo.data.formats.reader import BLOCK_BYTES
from inspo.data.formats.schema import Sizes, raise_problems
from inspo.data.formats.timeline import CONTINUOUS, TimelineReader, not_flags

KEYS = ("s", "o", "a", "r", "d")
log = logging.getLogger(__name__)


class OmigaReader(TimelineReader):
    """Reads a file of OMIGA's. All actions are taken to be available at all times: the layout has no word of it.

    Agents that see one state have it once; states of their own are put side by side.
    """

    layout = "OMIGA's hdf5"

    def __init__(self, path: Path, findings: list[Finding] | None = None):
        super().__init__(path, findings)
        self.file = open_h5(path)
        with reading(self.file, path):
            axes = {"s": 3, "o": 3, "a": 3, "r": 1, "d": 1}
            # The last axis of `r` and `d` may be left out, and that of `a` where it is 1.
            for name, ndim in (("r", 2), ("d", 2), ("a", 2)):
                if getattr(self.file.get(name), "ndim", None) == ndim:
                    axes[name] = ndim
            self.fields, problems = find_fields(self.file, axes)
            raise_problems(path, problems or list(self._wrong_shapes()))
            self._find_episodes()
            n_actions, self.onehot = self._actions()
            self.one_state = all((part == part[:, :1]).all() for part in self._parts("s"))
            n_agents, n_obs = self.fields["o"].shape[1:]
            n_state = self.fields["s"].shape[2] * (1 if self.one_state else n_agents)
            self.sizes = Sizes(n_agents, n_actions, n_obs, n_state)
            raise_problems(path, self._unusable_sizes())
        self.metadata = {"behaviour": self.layout, "source": str(path)}

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return path.is_file() and len(h5_keys(path, KEYS)) == len(KEYS)

    def close(self) -> None:
        self.file.close()

    def _wrong_shapes(self) -> Iterator[Finding]:
        rows = {name: field.shape[0] for name, field in self.fields.items()}
        if len(set(rows.values())) > 1:
            yield Finding("d", f"the fields disagree on the number of rows: {rows}")
        agents = {name: self.fields[name].shape[1] for name in ("s", "o", "a")}
        if len(set(agents.values())) > 1:
            yield Finding("o", f"the fields disagree on the number of agents: {agents}")
        for name in ("r", "d"):
            if self.fields[name].shape[1:] not in ((), (1,)):
                yield Finding(name, f"has shape {self.fields[name].shape}; its last axis must be 1")

    def _find_episodes(self) -> None:
        flags = np.concatenate([part.ravel() for part in self._parts("d")])
        raise_problems(self.path, list(not_flags("d", flags)))
        ends = np.flatnonzero(flags)
        self.cut = np.zeros(len(ends), dtype=bool)
        tail = len(flags) - 1 - (ends[-1] if len(ends) else -1)
        if tail == 1:
            log.warning(
                "%s: its last row begins an episode of which nothing followed; it is left out",
                self.path,
            )
        elif tail:
            ends, self.cut = np.append(ends, len(flags) - 1), np.append(self.cut, True)
        if not len(ends):
            raise_problems(
                self.path, [Finding("d", "there is one row only: no step with what followed it")]
            )
        self.begins = np.concatenate(([0], ends[:-1] + 1))
        self.lengths = (ends - self.begins).astype(np.int64)
        self.has_final = np.ones(len(ends), dtype=bool)
        if (short := np.flatnonzero(self.lengths < 1)).size:
            problem = "an episode of one row: no step with what followed it"
            raise_problems(
                self.path, [Finding("d", problem, (f"row {ends[short[0]]}",), len(short))]
            )

    def _actions(self) -> tuple[int, bool]:
        """The number of actions, and whether they are stored one-hot."""
        shape, dtype = self.fields["a"].shape, self.fields["a"].dtype
        if len(shape) == 3 and shape[2] > 1:
            if all(
                (((p == 0) | (p == 1)).all(-1) & (p.sum(-1) == 1)).all() for p in self._parts("a")
            ):
                return shape[2], True
        elif all((part == np.rint(part)).all() for part in self._parts("a")):
            return int(max(part.max() for part in self._parts("a"))) + 1, False
        raise_problems(self.path, [Finding("a", CONTINUOUS.format(shape=shape, dtype=dtype))])

    def _parts(self, name: str) -> Iterator[np.ndarray]:
        return rows_of(self.fields[name], BLOCK_BYTES)

    def _slice(self, start: int, end: int) -> dict[str, np.ndarray]:
        with h5_errors(self.path):
            raw = {name: field[start:end] for name, field in self.fields.items()}
        n_agents = self.sizes.n_agents
        actions = raw["a"].argmax(-1) if self.onehot else raw["a"].reshape(end - start, n_agents)
        return {
            "state": raw["s"][:, 0] if self.one_state else raw["s"].reshape(end - start, -1),
            "obs": raw["o"],
            "actions": actions,
            "avail_actions": np.ones((end - start, n_agents, self.sizes.n_actions), dtype=bool),
            "reward": raw["r"].reshape(end - start),
        }
