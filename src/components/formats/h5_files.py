"""h5 files opened so that a damaged or hostile one costs a message: no traceback, no memory that it merely claims."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from components.episode_data import Finding
from utils.errors import DatasetError

CHUNK_BYTES = 1 << 28  # a compressed chunk is unpacked as a whole
COMPRESSION_LIMIT = 1100  # gzip packs no more than 1032 bytes into one
H5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError)


@contextmanager
def h5_errors(path: Path) -> Iterator[None]:
    """Turns whatever h5py raises over a damaged file into a DatasetError."""
    try:
        yield
    except (*H5_ERRORS, MemoryError) as error:
        said = str(error) or type(error).__name__
        raise DatasetError(f"{path}: cannot be read as h5 (truncated or damaged?): {said}") from None


def open_h5(path: Path) -> h5py.File:
    """The file, open for reading."""
    with h5_errors(path):
        return h5py.File(path, "r")


def h5_keys(path: Path) -> frozenset[str]:
    """What lies at the root of an h5 file; nothing if it is none."""
    try:
        with h5py.File(path, "r") as file:
            return frozenset(file.keys())
    except H5_ERRORS:
        return frozenset()


def find_fields(file: h5py.File, axes: dict[str, int]) -> tuple[dict[str, h5py.Dataset], list[Finding]]:
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
    claimed = int(np.prod([int(size) for size in field.shape], dtype=object)) * field.dtype.itemsize
    stored = field.id.get_storage_size()
    if field.is_virtual or field.external:
        return "lies in other files (virtual or external storage)"
    if claimed > COMPRESSION_LIMIT * stored:
        return f"claims shape {field.shape}, {claimed} bytes, but the file stores {stored} bytes of it"
    chunk = int(np.prod([int(size) for size in field.chunks or ()], dtype=object)) * field.dtype.itemsize
    if chunk > CHUNK_BYTES:
        return f"packed in chunks of {chunk} bytes; at most {CHUNK_BYTES} are unpacked at once"
    return ""
