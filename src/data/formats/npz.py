"""NumPy's npz files: this project's arrays with `lengths`, or padded ones with `filled`.

Arrays are never unpickled. Each is read as a whole, because npz files may be compressed.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from inspo.data.arrays import AXES, ROW_FIELDS, Sizes
from inspo.data.episode_data import PER_AGENT, Finding, differing_agents
from inspo.data.formats.assume import with_way_out
from inspo.data.formats.h5_files import COMPRESSION_LIMIT
from inspo.data.formats.npy import read_npy_header
from inspo.data.formats.padded import PADDED_AXES, PaddedReader
from inspo.data.formats.reader import Reader
from inspo.data.formats.schema import (
    array_problem,
    cast,
    check_index,
    check_memory,
    count_rows,
    raise_problems,
)
from inspo.utils.errors import DatasetError

# What zipfile and NumPy raise for damaged files.
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    OverflowError,
    MemoryError,
)


class NpzArray:
    """An array in an npz file, read when it is first needed."""

    def __init__(self, path: Path, member: zipfile.ZipInfo):
        self.path = path
        self.member = member
        self.name = member.filename.removesuffix(".npy")
        self.values: np.ndarray | None = None
        with self._opened() as file:
            self.shape, _, self.dtype = read_npy_header(file)
        self.ndim = len(self.shape)
        self.size = math.prod(self.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of the unpacked array, as its header claims."""
        return self.size * self.dtype.itemsize

    def false_claim(self) -> str:
        """Why the array cannot hold what it claims; empty if it can."""
        # Neither of the sizes that the archive states need be true.
        stored = min(self.member.compress_size, self.path.stat().st_size)
        if self.n_bytes > COMPRESSION_LIMIT * stored or self.n_bytes > self.member.file_size:
            return f"claims shape {self.shape}, {self.n_bytes} bytes; the file stores {stored}"
        return ""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: slice) -> np.ndarray:
        if self.values is None:
            with self._opened() as file:
                self.values = npy.read_array(file, allow_pickle=False)
        return self.values[part]

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        with (
            npz_errors(self.path, self.name),
            zipfile.ZipFile(self.path) as content,
            content.open(self.member) as file,
        ):
            yield file


@contextmanager
def npz_errors(path: Path, name: str) -> Iterator[None]:
    """Turns any error about a damaged array into a DatasetError."""
    try:
        yield
    except DAMAGED as error:
        reason = str(error)[:200] or type(error).__name__
        problem = f"cannot be read (truncated or damaged?): {reason}"
        raise DatasetError(f"{path}: {Finding(name, problem)}") from None


def npz_keys(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The arrays in an npz file; none if it is no such file."""
    try:
        if not path.is_file() or not zipfile.is_zipfile(path):
            return {}
        with zipfile.ZipFile(path) as content:
            members = content.infolist()
    except DAMAGED:
        return {}
    return {
        member.filename.removesuffix(".npy"): member
        for member in members
        if member.filename.endswith(".npy")
    }


def _open_arrays(path: Path, axes: dict[str, int | None]) -> dict[str, NpzArray]:
    """The arrays of these names and numbers of axes, not read yet.

    Raises:
        DatasetError: lists what is missing or unusable.
    """
    members = npz_keys(path)
    arrays, problems = {}, []
    for name, n_axes in axes.items():
        if name not in members:
            problems.append(with_way_out(Finding(name, "missing")))
            continue
        array = NpzArray(path, members[name])
        if problem := array_problem(array, n_axes) or array.false_claim():
            problems.append(with_way_out(Finding(name, problem)))
        arrays[name] = array
    raise_problems(path, problems)
    check_memory(path, sum(array.n_bytes for array in arrays.values()))
    return arrays


class NpzReader(Reader):
    """Reads an npz file with the arrays of this project's format, episodes end to end."""

    layout = "npz with lengths"

    def __init__(self, path: Path, *arguments: Any):
        super().__init__(path, *arguments)
        self.arrays = _open_arrays(path, {**AXES, "reward": None})
        self.metadata = {"behaviour": self.layout, "source": str(path)}
        raise_problems(path, self._read_lengths())
        raise_problems(path, list(self._wrong_shapes()))
        self.sizes = Sizes.of(self.arrays)
        raise_problems(path, self._unusable_sizes())
        self._note_scalarisation(math.prod(self.arrays["reward"].shape[1:]))
        self.held_bytes = sum(array.n_bytes for array in self.arrays.values())

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return npz_keys(path).keys() >= AXES.keys()

    def _read_lengths(self) -> list[Finding]:
        problems: list[Finding] = []

        def report_problem(name: str, problem: str, _: np.ndarray) -> None:
            problems.append(Finding(name, problem))

        field = self.arrays.pop("lengths")
        check_index(self.path, len(field), "episodes")
        self.lengths = cast("lengths", field[:], report_problem)
        if (too_short := np.flatnonzero(self.lengths < 1)).size:
            episode = too_short[0]
            problem = f"episode {episode} has {self.lengths[episode]} steps"
            problems.append(Finding("lengths", problem))
        return problems

    def _wrong_shapes(self) -> Iterator[Finding]:
        n_rows = count_rows(self.lengths)
        for name, array in self.arrays.items():
            if array.shape[0] != n_rows:
                problem = f"has shape {array.shape}; the episode lengths need {n_rows} rows"
                yield Finding(name, problem)
        yield from differing_agents({name: self.arrays[name] for name in PER_AGENT})
        n_agents = self.arrays["actions"].shape[1]
        shape = self.arrays["reward"].shape
        if shape[1:] not in ((), (1,), (n_agents,)):
            yield Finding("reward", f"has shape {shape}; one number a step, or one for each agent")

    def _rows(self, first: int, last: int) -> dict[str, np.ndarray]:
        start = int(self.row_ends[first] - self.lengths[first] - 1)
        end = int(self.row_ends[last - 1])
        return {name: self.arrays[name][start:end] for name in ROW_FIELDS}


class NpzPaddedReader(PaddedReader):
    """Reads an npz file of padded arrays, as PyMARL's episode batches."""

    layout = "npz with padded arrays"

    def __init__(self, path: Path, *arguments: Any):
        super().__init__(path, *arguments)
        stored = self.stored_names
        keys = npz_keys(path)
        if self.options.assume and "actions_onehot" in keys:
            stored.append("actions_onehot")
            if "actions=onehot" in self.options.assume and "actions" not in keys:
                stored.remove("actions")
        self.parts = [_open_arrays(path, dict.fromkeys(stored))]
        self.held_bytes = sum(array.n_bytes for array in self.parts[0].values())
        self._prepare(self.layout)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return npz_keys(path).keys() >= PADDED_AXES.keys()

    @classmethod
    def resembles(cls, path: Path) -> bool:
        """Whether some of the arrays are there, so that others can be assumed."""
        return len(npz_keys(path).keys() & {*PADDED_AXES, "actions_onehot"}) >= 3
