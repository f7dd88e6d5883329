"""h5 files opened so that a damaged or hostile one costs a message: no traceback, no memory that it merely claims."""

import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from inspo.data.episode_data import Finding
from inspo.utils.errors import DatasetError

CHUNK_BYTES = 1 << 28  # a compressed chunk is unpacked as a whole
COMPRESSION_LIMIT = 1100  # gzip packs no more than 1032 bytes into one
PROBE_SECONDS = 60
PROBE = """
import sys, h5py
with h5py.File(sys.argv[1], "r") as file:
    for name in file:
        if isinstance(field := file[name], h5py.Dataset) and field.chunks:
            field.id.get_num_chunks()
"""
H5_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
)


def check_in_child(path: Path) -> None:
    """Raises DatasetError for a file in which the h5 library walks in circles or dies.

    HDF5's old structures carry no checksums, and damaged ones can do that to it: a child process looks at them first.
    Files written in the format of HDF5 1.10, such as this project's, notice damage by themselves.
    """
    with h5_errors(path), path.open("rb") as file:
        start = file.read(9)
    if not start.startswith(b"\x89HDF\r\n\x1a\n") or start[8:] >= b"\x02":
        return
    command = [sys.executable, "-c", PROBE, str(path)]
    try:
        died = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS).returncode < 0
    except subprocess.TimeoutExpired:
        died = True
    if died:
        raise DatasetError(
            f"{path}: cannot be read as h5 (damaged?): the h5 library does not come back from it"
        )


@contextmanager
def h5_errors(path: Path) -> Iterator[None]:
    """Turns whatever h5py raises over a damaged file into a DatasetError."""
    try:
        yield
    except PermissionError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except (*H5_ERRORS, MemoryError) as error:
        said = str(error) or type(error).__name__
        raise DatasetError(
            f"{path}: cannot be read as h5 (truncated or damaged?): {said}"
        ) from None


def open_h5(path: Path) -> h5py.File:
    """The file, open for reading."""
    with h5_errors(path):
        return h5py.File(path, "r")


@contextmanager
def reading(file: h5py.File, path: Path) -> Iterator[None]:
    """`h5_errors` for a reader that begins to use its file; closes it if the reader cannot."""
    try:
        with h5_errors(path):
            yield
    except DatasetError:
        file.close()
        raise


def rows_of(field: h5py.Dataset, n_bytes: int) -> Iterator[np.ndarray]:
    """An array in parts of whole rows, each of so many bytes at most, or of one row."""
    step = max(1, n_bytes // max(1, math.prod(field.shape[1:]) * field.dtype.itemsize))
    for start in range(0, len(field), step):
        yield field[start : start + step]


def h5_keys(path: Path, names: Iterable[str]) -> set[str]:
    """Which of `names` lie at the root of an h5 file; none if it is no such file.

    Asked one by one: going through all that is there need not come to an end in a damaged file.
    """
    try:
        with h5py.File(path, "r") as file:
            return {name for name in names if name in file}
    except H5_ERRORS:
        return set()


def find_fields(
    file: h5py.File, axes: dict[str, int]
) -> tuple[dict[str, h5py.Dataset], list[Finding]]:
    """The arrays with these names and numbers of axes, and what is wrong with those that cannot be had."""
    found: dict[str, h5py.Dataset] = {}
    findings = []
    for name, ndim in axes.items():
        problem, item = "", _item(file, name)
        if item is None:
            problem = "missing"
        elif not isinstance(item, h5py.Dataset):
            problem = f"a {type(item).__name__}, not an array"
        elif item.shape is None or item.dtype.kind not in "biuf" or item.dtype.shape:
            problem = f"holds {item.dtype}, not numbers"
        elif len(item.shape) != ndim:
            problem = f"has shape {item.shape}; expected {ndim} axes"
        elif not item.size:
            problem = f"has shape {item.shape}: there is nothing in it"
        else:
            problem = _false_claim(item)
        if problem:
            findings.append(Finding(name, problem))
        else:
            found[name] = item
    return found, findings


def _item(file: h5py.File, name: str) -> object | None:
    """What lies there, if anything: a link may lead nowhere."""
    try:
        return file[name]
    except KeyError:
        return None


def _false_claim(field: h5py.Dataset) -> str:
    """What is wrong if an array claims to hold more than the file can."""
    claimed = math.prod(field.shape) * field.dtype.itemsize
    stored = field.id.get_storage_size()
    if field.is_virtual or field.external:
        return "lies in other files (virtual or external storage)"
    if claimed > COMPRESSION_LIMIT * stored:
        return (
            f"claims shape {field.shape}, {claimed} bytes, but the file stores {stored} bytes of it"
        )
    chunk = math.prod(field.chunks or ()) * field.dtype.itemsize
    if chunk > CHUNK_BYTES:
        return f"packed in chunks of {chunk} bytes; at most {CHUNK_BYTES} are unpacked at once"
    return ""
