"""Safe reading of h5 files: damaged or hostile ones give an error message.

They cause no traceback and do not hang. No other file is opened, and no memory is allocated that a
file only claims to need.
"""

import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from inspo.data.arrays import AXES
from inspo.data.episode_data import Finding
from inspo.data.formats.schema import array_problem
from inspo.utils.errors import DatasetError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
OUR_ATTRIBUTES = (b"format", b"sums")  # of finished datasets, and of blocks being recorded
CHUNK_BYTES = 1 << 28  # a compressed chunk is unpacked as a whole
COMPRESSION_LIMIT = 1100  # gzip compresses at most 1032-fold
LOCKED = (
    "another program is writing this h5 file and has locked it; wait until it closes the file "
    "(HDF5_USE_FILE_LOCKING=FALSE ignores the lock, and may read half-written data)"
)
PROBE_SECONDS = 60
LINKS_FOLLOWED = 8  # soft links that lead from one to the next
# Names at the root of the known layouts. Each is looked up by itself: listing may fail.
NAMES = (*AXES, "filled", "actions_onehot", "probs", *"soard", "episode_0")
# Visits whatever the readers visit: attributes, groups, and the index of each array's chunks.
PROBE = """
import sys, h5py
from contextlib import suppress

seen = set()  # links may lead back to a group

def visit(group, names, depth):
    place = h5py.h5o.get_info(group.id).addr, depth
    if place in seen:
        return
    seen.add(place)
    with suppress(Exception):
        for name in list(group.attrs):
            with suppress(Exception):
                group.attrs[name]
    with suppress(Exception):
        names = {*names, *group}
    for name in names:
        with suppress(Exception):
            link = group.id.links.get_info(name.encode())
            if link.type != h5py.h5l.TYPE_HARD:
                continue
            item = group[name]
            if isinstance(item, h5py.Group) and depth:
                visit(item, [], depth - 1)
            elif item.chunks:
                item.id.get_num_chunks()

with h5py.File(sys.argv[1], "r") as file:
    visit(file, sys.argv[2:], 3)
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

    HDF5's old structures have no checksums, nor has the global heap, which holds text attributes of
    variable length. Damage there can do that. A child process therefore opens such files first, for
    at most PROBE_SECONDS. Ctrl-C ends the wait. The files of this project have checksums instead.
    """
    with h5_errors(path):
        if not h5py.is_hdf5(path) or _has_checksums(path):
            return
    state = path.stat()
    version = (state.st_ino, state.st_size, state.st_mtime_ns)
    if _stops_the_library(path, version, PROBE, PROBE_SECONDS):
        problem = "the h5 library hangs or crashes on it"
        raise DatasetError(f"{path}: cannot be read as h5 (damaged?): {problem}")


@lru_cache(maxsize=1024)
def _stops_the_library(path: Path, version: tuple, program: str, seconds: float) -> bool:
    """Whether `program` hangs or crashes on the file. `version` changes when the file does."""
    command = [sys.executable, "-c", program, str(path), *NAMES]
    try:
        probe = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
        )
        return probe.returncode < 0
    except subprocess.TimeoutExpired:
        return True


def _has_checksums(path: Path) -> bool:
    """Whether damage is always detected: this project's files, without text in the global heap."""
    with path.open("rb") as file:
        start = file.read(9)
    if not start.startswith(SIGNATURE) or start[8:] < b"\x02":
        return False
    with h5py.File(path, "r") as file:
        # Types are in the checksummed headers, values of variable length are not.
        n_attributes = h5py.h5a.get_num_attrs(file.id)
        found = [h5py.h5a.open(file.id, index=number) for number in range(n_attributes)]
        ours = any(attribute.name in OUR_ATTRIBUTES for attribute in found)
        return ours and not any(_is_variable(attribute.get_type()) for attribute in found)


def _is_variable(kind: h5py.h5t.TypeID) -> bool:
    """Whether values of this type may lie in the global heap."""
    if isinstance(kind, h5py.h5t.TypeStringID):
        return kind.is_variable_str()
    return not isinstance(kind, h5py.h5t.TypeIntegerID)


def read_text(file: h5py.File, name: str) -> str | None:
    """A text attribute of the file, of fixed or of variable length; None if there is none."""
    value = file.attrs.get(name)
    if isinstance(value, bytes):
        return value.decode()
    return value if isinstance(value, str) else None


def write_text(file: h5py.File, name: str, text: str) -> None:
    """Writes a text attribute of fixed length: it then lies in the checksummed header."""
    file.attrs[name] = np.bytes_(text.encode())


@contextmanager
def h5_errors(path: Path) -> Iterator[None]:
    """Turns any error of h5py about a damaged file into a DatasetError."""
    try:
        yield
    except PermissionError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from None
    except BlockingIOError:
        raise DatasetError(f"{path}: {LOCKED}") from None
    except MemoryError as error:
        about = f": {error}" if str(error) else ""
        problem = "there is not enough memory to read it (or it is damaged, and claims to be large)"
        raise DatasetError(f"{path}: {problem}{about}") from None
    except H5_ERRORS as error:
        reason = str(error) or type(error).__name__
        problem = "cannot be read as h5 (truncated or damaged?)"
        raise DatasetError(f"{path}: {problem}: {reason}") from None


def open_h5(path: Path) -> h5py.File:
    """The file, open for reading.

    Raises:
        DatasetError: it cannot be opened, or opening it hangs.
    """
    check_in_child(path)
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
        with open_h5(path) as file:
            return {name for name in names if has_link(file, name)}
    except (*H5_ERRORS, DatasetError):
        return set()


def has_link(group: h5py.Group, name: str) -> bool:
    """Whether a group has a link of this name. The link is not followed."""
    return group.id.links.exists(name.encode())


def find_item(group: h5py.Group, name: str, n_links: int = LINKS_FOLLOWED) -> Any:
    """The object of this name. No link to another file is followed.

    Args:
        name: or a path of names from the group on, or from the root if it begins with a slash.

    Raises:
        KeyError: there is none.
        DatasetError: it is in another file. The message lacks the path of this one.
    """
    item = group.file if name.startswith("/") else group
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if not isinstance(item, h5py.Group) or not has_link(item, part):
            raise KeyError(name)
        kind = item.id.links.get_info(part.encode()).type
        if kind == h5py.h5l.TYPE_SOFT:
            target = item.id.links.get_val(part.encode()).decode()
            if not n_links:
                raise KeyError(name)
            item = find_item(item, target, n_links - 1)
        elif kind == h5py.h5l.TYPE_HARD:
            item = item[part]
        else:
            raise DatasetError("a link to another file, which is not followed")
    return item


def find_fields(
    file: h5py.Group, axes: dict[str, int | None]
) -> tuple[dict[str, h5py.Dataset], list[Finding]]:
    """The arrays with these names and numbers of axes (None: any), and the problems of others."""
    found: dict[str, h5py.Dataset] = {}
    findings = []
    for name, n_axes in axes.items():
        try:
            item = find_item(file, name)
        except KeyError:  # missing, or a link to nowhere
            findings.append(Finding(name, "missing"))
            continue
        except DatasetError as error:
            findings.append(Finding(name, str(error)))
            continue
        if problem := _problem(item, n_axes):
            findings.append(Finding(name, problem))
        else:
            found[name] = item
    return found, findings


def _problem(item: Any, n_axes: int | None) -> str:
    """Why an h5 object is not a readable array of numbers; empty if it is one."""
    if not isinstance(item, h5py.Dataset):
        return f"a {type(item).__name__}, not an array"
    if item.is_virtual or item.external:
        return "lies in other files (virtual or external storage), which are not opened"
    if item.shape is None:
        return "an empty dataset (there is nothing in it), not numbers"
    try:
        dtype = item.dtype
    except (TypeError, ValueError) as error:
        return f"holds no numbers that NumPy knows: {error}"
    if dtype.shape:
        return f"holds {dtype}, not numbers"
    return array_problem(item, n_axes) or _false_claim(item) or _missing_filter(item)


def _missing_filter(field: h5py.Dataset) -> str:
    """By which filter an array is packed that cannot be unpacked here; empty if there is none."""
    about = field.id.get_create_plist()
    for number in range(about.get_nfilters()):
        code, _, _, name = about.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            known = name.decode(errors="replace") or "of unknown name"
            return (
                f"packed with the h5 filter {code} ({known}), which is not installed here; where "
                "it is, pack the file anew with gzip: h5repack -f GZIP=4 OLD NEW"
            )
    return ""


def _false_claim(field: h5py.Dataset) -> str:
    """Why an array cannot hold what it claims; empty if it can."""
    claimed = math.prod(field.shape) * field.dtype.itemsize
    # A damaged file may also say wrongly how much it stores.
    stored = min(field.id.get_storage_size(), Path(field.file.filename).stat().st_size)
    if claimed > COMPRESSION_LIMIT * stored:
        return f"claims shape {field.shape}, {claimed} bytes, but the file stores {stored} of them"
    return large_chunk(field.chunks or (), field.dtype)


def large_chunk(shape: tuple[int, ...], dtype: np.dtype) -> str:
    """Why a chunk of an array is not unpacked; empty if it is."""
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > CHUNK_BYTES:
        return f"packed in chunks of {n_bytes} bytes; at most {CHUNK_BYTES} are unpacked at once"
    return ""
