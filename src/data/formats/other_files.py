"""Says what a file is that no reader recognises, what it holds, and how its data can be used."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

from inspo.data.formats.h5_files import H5_ERRORS, open_h5
from inspo.utils.errors import DatasetError

KEYS_SHOWN = 20
DEPTH = 3  # of groups in a h5 file that are searched
START = 4096  # bytes of the file that are looked at
FROM_PYTHON = (
    "load it in Python and give its episodes to inspo.from_episodes (docs/datasets.md), "
    "then write them with inspo.write_dataset"
)
UNPACK = "unpack it, and give the path of what was inside"
# First bytes of a file: what it is, and the way in.
MAGIC = {
    b"\x93NUMPY": ("a single NumPy array (npy)", FROM_PYTHON),
    b"\x1f\x8b": ("a gzip archive", UNPACK),
    b"BZh": ("a bzip2 archive", UNPACK),
    b"\xfd7zXZ\x00": ("an xz archive", UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", UNPACK),
    b"Rar!": ("a rar archive", UNPACK),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", UNPACK),
    b"PAR1": ("a Parquet table", FROM_PYTHON),
    b"ARROW1": ("an Arrow table", FROM_PYTHON),
    b"SQLite format 3": ("an SQLite database", FROM_PYTHON),
    b"MATLAB 5.0 MAT-file": ("a MATLAB file", FROM_PYTHON),
    b"%PDF": ("a PDF document", "download the data themselves"),
}
PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def describe_file(path: Path) -> str:
    """What a file of an unknown layout is, and the way in."""
    about = _describe(path)
    if path.suffix in (".h5", ".hdf5") and about.startswith("is ") and not h5py.is_hdf5(path):
        return f"cannot be read as h5: it {about}"
    return about


def _describe(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(START)
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not start:
        return "is empty (0 bytes). Was the download or the recording interrupted?"
    if h5py.is_hdf5(path):
        return _describe_h5(path)
    if zipfile.is_zipfile(path):
        return _describe_zip(path)
    if start.startswith(b"version https://git-lfs"):
        return _describe_pointer(start)
    for magic, (kind, way) in MAGIC.items():
        if start.startswith(magic):
            return f"is {kind}, which is not read here; {way}"
    if start[257:262] == b"ustar":
        return f"is a tar archive; {UNPACK}"
    if start.startswith(PICKLE):
        return (
            "is a Python pickle, which is never opened here because it can run any code; if you "
            f"trust it, {FROM_PYTHON}"
        )
    if text := _describe_text(start):
        return text
    if start.startswith(b"\x89HDF"):
        return "cannot be read as h5 (truncated or damaged?)"
    if start.startswith(b"PK\x03\x04"):
        return "is an npz or zip archive that is cut off or damaged; copy or download it again"
    return f"is of an unknown kind (it begins with {start[:8]!r}). If you can, {FROM_PYTHON}"


def _describe_pointer(start: bytes) -> str:
    words = start.decode(errors="replace").split()
    size = words[words.index("size") + 1] if "size" in words[:-1] else "?"
    return (
        f"is a Git LFS pointer: the data themselves ({size} bytes) were not downloaded; "
        "run `git lfs pull` in that repository"
    )


def _describe_text(start: bytes) -> str:
    """What a text file is; empty if the file is no text."""
    try:
        text = start.decode().lstrip("\ufeff \r\n\t")
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:
            return ""
        text = start[: error.start].decode()
    if "\0" in text:
        return ""
    if text[:200].lower().startswith(("<!doctype html", "<html", "<?xml", "<head")):
        return (
            "is an HTML page, not data: the download saved a web page, as for a login, a "
            "confirmation or an error. Open the address in a browser"
        )
    first = text.partition("\n")[0].strip()
    if text.startswith(("{", "[")):
        return f"is a JSON text, which is not read here; {FROM_PYTHON}"
    separator = max(",;\t", key=first.count)
    if separator in first:
        columns = _listed(name.strip() for name in first.split(separator))
        return f"is a table of text (CSV) with the columns {columns}; {FROM_PYTHON}"
    return f"is a text, which begins with {first[:60]!r}"


def _describe_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as content:
            names = [name for name in content.namelist() if not name.endswith("/")]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        return f"is a damaged zip archive: {error}"
    if any(name.endswith("/data.pkl") for name in names):
        return (
            "is a PyTorch file; load it with torch.load(weights_only=True) and give its episodes "
            "to inspo.from_episodes (docs/datasets.md)"
        )
    if names and all(name.endswith(".npy") for name in names):
        keys = _listed(name.removesuffix(".npy") for name in names)
        return (
            f"is an npz file with the arrays {keys}. It needs either those of this project's "
            "format (lengths, state, obs, ...: docs/dataset-format.md) or padded ones with "
            f"'filled'. Rename them so, or {FROM_PYTHON}"
        )
    return f"is a zip archive of {_listed(names)}; {UNPACK}"


def _describe_h5(path: Path) -> str:
    """The arrays of a h5 file, and the group they lie in."""
    try:
        with open_h5(path) as file:
            arrays = dict(_arrays_in(file, "", DEPTH, set()))
    except DatasetError as error:
        return str(error).removeprefix(f"{path}:").strip()
    except H5_ERRORS as error:
        return f"cannot be read as h5 (truncated or damaged?): {error}"
    if not arrays:
        return "is an h5 file without arrays"
    shapes = _listed(f"{name} {shape}" for name, shape in arrays.items())
    groups = {name.rpartition("/")[0] for name in arrays}
    inside = ""
    if groups and "" not in groups:
        inside = f" in the group {_listed(sorted(groups))}, not at its root"
    return f"is an h5 file with the arrays {shapes}{inside}; {FROM_PYTHON}"


def _arrays_in(
    group: h5py.Group, prefix: str, depth: int, seen: set[tuple[int, int]]
) -> Iterator[tuple[str, Any]]:
    """Name and shape of each array in the group and the groups below it.

    Args:
        seen: address and depth of the groups visited so far. Links may lead back to them.
    """
    place = h5py.h5o.get_info(group.id).addr, depth
    if place in seen:
        return
    seen.add(place)
    for name in group:
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            continue
        item = group[name]
        if isinstance(item, h5py.Dataset):
            shape = "" if item.is_virtual else item.shape
            yield prefix + name, shape
        elif isinstance(item, h5py.Group) and depth:
            yield from _arrays_in(item, f"{prefix}{name}/", depth - 1, seen)


def _listed(names: Any) -> str:
    """Names joined by commas, the first KEYS_SHOWN of them."""
    names = [str(name) for name in names]
    more = f", ... ({len(names)} in all)" if len(names) > KEYS_SHOWN else ""
    return ", ".join(names[:KEYS_SHOWN]) + more
