"""Safe reading of h5 files: damaged or hostile ones give an error message.

They cause no traceback, and no memory is allocated that a file only claims to need.
"""

import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from inspo.data.episode_data import Finding
from inspo.data.formats.schema import array_problem
from inspo.utils.errors import DatasetError

CHUNK_BYTES = 1 << 28  # a compressed chunk is unpacked as a whole
COMPRESSION_LIMIT = 1100  # gzip compresses at most 1032-fold
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
    """Raises DatasetError for a file on which the h5 library hangs or crashes.

    HDF5's old structures have no checksums, so damage can do that. A child process therefore opens
    such files first. In the format of HDF5 1.10, which this project writes, damage is detected.
    """
    with h5_errors(path), path.open("rb") as file:
        start = file.read(9)
    if not start.startswith(b"\x89HDF\r\n\x1a\n") or start[8:] >= b"\x02":
        return
    command = [sys.executable, "-c", PROBE, str(path)]
    try:
        probe = subprocess.run(command, capture_output=True, timeout=PROBE_SECONDS)
        failed = probe.returncode < 0
    except subprocess.TimeoutExpired:
        failed = True
    if failed:
        problem = "the h5 library hangs or crashes on it"
        raise DatasetError(f"{path}: cannot be read as h5 (damaged?): {problem}")


@contextmanager
def h5_errors(path: Path) -> Iterator[None]:
    """Turns any error of h5py about a damaged file into a DatasetError."""
    try:
        yield
    except PermissionError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except (*H5_ERRORS, MemoryError) as error:
        reason = str(error) or type(error).__name__
        problem = "cannot be read as h5 (truncated or damaged?)"
        raise DatasetError(f"{path}: {problem}: {reason}") from None


def open_h5(path: Path) -> h5py.File:
    """The file, open for reading."""
    with h5_errors(path):
        return h5py.File(path, "r")


@contextmanager
def reading(file: h5py.File, path: Path) -> Iterator[None]:
    """`h5_errors` for the start of a reader; closes the file after an error."""
    try:
        with h5_errors(path):
            yield
    except DatasetError:
        file.close()
        raise


def h5_keys(path: Path, names: Iterable[str]) -> set[str]:
    """Which of `names` are at the root of an h5 file; none if the file cannot be read.

    Each name is looked up by itself, because listing a damaged file may not terminate.
    """
    try:
        with h5py.File(path, "r") as file:
            return {name for name in names if name in file}
    except H5_ERRORS:
        return set()


def find_fields(
    file: h5py.File, axes: dict[str, int]
) -> tuple[dict[str, h5py.Dataset], list[Finding]]:
    """The arrays with these names and numbers of axes, and the problems of all other ones."""
    found: dict[str, h5py.Dataset] = {}
    findings = []
    for name, n_axes in axes.items():
        try:
            item = file[name]
        except KeyError:  # missing, or a link to nowhere
            findings.append(Finding(name, "missing"))
            continue
        if problem := _problem(item, n_axes):
            findings.append(Finding(name, problem))
        else:
            found[name] = item
    return found, findings


def _problem(item: Any, n_axes: int) -> str:
    """Why an h5 object is not a readable array of numbers; empty if it is one."""
    if not isinstance(item, h5py.Dataset):
        return f"a {type(item).__name__}, not an array"
    if item.shape is None or item.dtype.shape:
        return f"holds {item.dtype}, not numbers"
    return array_problem(item, n_axes) or _false_claim(item)


def _false_claim(field: h5py.Dataset) -> str:
    """Why an array cannot hold what it claims; empty if it can."""
    claimed = math.prod(field.shape) * field.dtype.itemsize
    stored = field.id.get_storage_size()
    if field.is_virtual or field.external:
        return "lies in other files (virtual or external storage)"
    if claimed > COMPRESSION_LIMIT * stored:
        return f"claims shape {field.shape}, {claimed} bytes, but the file stores {stored} of them"
    chunk = math.prod(field.chunks or ()) * field.dtype.itemsize
    if chunk > CHUNK_BYTES:
        return f"packed in chunks of {chunk} bytes; at most {CHUNK_BYTES} are unpacked at once"
    return ""
