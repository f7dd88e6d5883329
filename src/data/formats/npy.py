"""NumPy's npy files, each with one array."""

import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from inspo.utils.errors import DatasetError

HEADER_LIMIT = 1 << 16  # bytes


def read_npy_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether the order is Fortran's, and dtype of an npy file. Reads it up to its data.

    Raises:
        ValueError: no such file, or a header that is longer than any real one. NumPy unpacks the
            whole header before it looks at its length.
    """
    start = file.read(12)
    file.seek(0)
    n_bytes = int.from_bytes(start[8:12], "little")
    if start[6:7] > b"\x01" and n_bytes > HEADER_LIMIT:
        raise ValueError(f"its header claims {n_bytes} bytes")
    if npy.read_magic(file) == (1, 0):
        return npy.read_array_header_1_0(file)
    return npy.read_array_header_2_0(file)


class NpyArray:
    """An array in an npy file, of which slices of the first axis are read when they are needed.

    It is not mapped into memory: the system kills a process that reads from a mapped file whose
    end has been cut off. An array in Fortran's order is read as a whole.

    Raises:
        ValueError, OSError: the file cannot be read.
    """

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            self.shape, fortran, self.dtype = read_npy_header(file)
            self.start = file.tell()
            self.version = _version(file)
            stored = os.fstat(file.fileno()).st_size - self.start
        if self.dtype.hasobject:
            raise ValueError("it holds pickled objects, which are never loaded")
        if min(self.shape, default=0) < 0:
            raise ValueError(f"its header claims shape {self.shape}")
        if stored < self.size * self.dtype.itemsize:
            n_bytes = self.size * self.dtype.itemsize
            raise ValueError(f"its header claims {n_bytes} bytes of data; it stores {stored}")
        in_order = not fortran or self.ndim < 2
        self.values = None if in_order else np.load(path, allow_pickle=False)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def keep_first(self, n_rows: int) -> None:
        """Leaves out all rows but the first ones."""
        self.shape = (n_rows, *self.shape[1:])

    def __getitem__(self, part: slice) -> np.ndarray:
        if self.values is not None:
            return self.values[: len(self)][part]
        first, last, _ = part.indices(len(self))
        shape = (max(0, last - first), *self.shape[1:])
        n_bytes = math.prod(shape[1:]) * self.dtype.itemsize
        try:
            with self.path.open("rb") as file:
                if _version(file) != self.version:
                    raise ValueError("it was written again")
                file.seek(self.start + first * n_bytes)
                values = np.fromfile(file, self.dtype, math.prod(shape))
            return values.reshape(shape)
        except (OSError, ValueError) as error:
            problem = "cannot be read any more"
            raise DatasetError(f"{self.path}: {problem}: {error}") from None


def _version(file: BinaryIO) -> tuple[int, int, int]:
    """Differs after the file was replaced or written to."""
    status = os.fstat(file.fileno())
    return status.st_ino, status.st_size, status.st_mtime_ns
