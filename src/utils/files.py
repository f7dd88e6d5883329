"""Atomic writes, the folders for results and datasets, and the versions of the software."""

import errno
import glob
import hashlib
import json
import math
import os
import platform
import re
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from inspo.utils.addresses import refuse_address
from inspo.utils.errors import ConfigError, StorageError, UserError
from inspo.utils.memory import free_memory

SOURCE = Path(__file__).resolve().parents[1]
# Default folders in `project_root`.
DATASETS = "dataset"
RESULTS = "results"
# What an OSError means to the user, and what to do.
ADVICE = {
    errno.ENOSPC: "the disk is full; free some space, or write to another disk",
    errno.EDQUOT: "the disk quota is used up; free some space, or write to another disk",
    errno.EFBIG: "the file is larger than its disk allows; write to another disk",
    errno.EROFS: "the disk is read-only; write to another folder",
    errno.EACCES: "no permission to write there; write to another folder",
    errno.EPERM: "no permission to write there; write to another folder",
    errno.EIO: "the disk failed (input/output error); write to another disk",
    errno.EISDIR: "a folder of that name is in its place; move it away",
    errno.ENOTDIR: "a file is in the place of its folder; write to another folder",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
TEMPORARY_NAME = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)\.[^.]+\.part")
ABANDONED_SECONDS = 7 * 24 * 3600
# The parts of the source that a run's numbers depend on. The YAMLs are in its settings.
CODE_OF_RUNS = (
    "run",
    "runners",
    "learners",
    "components",
    "controllers",
    "modules",
    "data",
    "envs",
    "utils",
)
SHOWN_LETTERS = 300  # of a path, in messages
NAMED_LETTERS = 40  # of a file's name, in that of its temporary file


def is_checkout() -> bool:
    """Whether this code lies in a checkout of the project, not in site-packages."""
    return SOURCE.name == "src" and (SOURCE.parent / "setup.py").is_file()


def project_root() -> Path:
    """The checkout that this code lies in, or the current folder if there is none."""
    return SOURCE.parent if is_checkout() else Path.cwd()


def results_root(path: str | None) -> Path:
    """The folder of runs: the setting `local_results_path`, or results/ in `project_root`."""
    return writable_folder("local_results_path", path, RESULTS)


def dataset_root(path: str | None) -> Path:
    """The folder of datasets: the setting `dataset_root`, or dataset/ in `project_root`.

    It may be read-only, or not exist yet. Whoever writes there calls `writable_dataset_root`.
    """
    return folder_of(path, DATASETS)


def writable_dataset_root(path: str | Path | None) -> Path:
    """As `dataset_root`. Creates the folder if needed.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    return writable_folder("dataset_root", path, DATASETS)


def user_cache() -> Path:
    """The user's folder for what can be made again, ~/.cache/inspo."""
    root = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if root.startswith("~"):  # the user has no home
        root = tempfile.gettempdir()
    return Path(root).absolute() / "inspo"


def writable_folder(key: str, path: str | Path | None, default: str) -> Path:
    """The folder that the setting `key` names. Creates it if needed.

    Raises:
        ConfigError: the folder cannot be written to, or its disk is full.
    """
    folder = folder_of(path, default)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(b"x")  # an empty file fits on a full disk
            return folder
    except OSError as error:
        shown = short_path(folder)
        raise ConfigError(f"{key}={shown}: cannot be written to: {error.strerror}") from None


def folder_of(path: str | Path | None, default: str) -> Path:
    """`path` as an absolute path, or `default` in `project_root`. It need not exist."""
    refuse_address(path or "")
    return Path(path).absolute() if path else project_root() / default


def found_path(path: str | os.PathLike) -> Path:
    """A path to read: in the current folder or, where it is not there, in `project_root`.

    `results/` therefore means the folder in which runs are written, from anywhere.
    """
    refuse_address(path)
    path = Path(path).expanduser()
    elsewhere = project_root() / path
    return elsewhere if not path.exists() and elsewhere.exists() else path


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turns an error of the disk while `path` is written into a StorageError that names it."""
    try:
        yield
    except OSError as error:
        if error.errno not in ADVICE:
            raise
        raise StorageError(storage_message(error, path)) from None


def storage_message(error: OSError, path: Path | str | None = None) -> str:
    """One line: which file could not be written or read, why, and what to do.

    Args:
        path: of the file; None: as the error names it.
    """
    where = path or error.filename
    advice = ADVICE.get(error.errno) or error.strerror or str(error)
    return f"{short_path(where)}: {advice}" if where else advice


def short_path(path: Path | str) -> str:
    """A path for messages; what is too long is cut."""
    text = os.fsdecode(path)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}..."


@contextmanager
def write_atomically(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path. On success it is renamed to `path`, after an error it is removed.

    Whenever the process is killed, `path` is either the complete old file or the complete new one.
    What killed processes left in the folder is removed.

    Args:
        folder: where the temporary file is made, on the same disk; by default beside `path`.

    Raises:
        ConfigError: `path` is an address on the net.
        StorageError: the disk is full, read-only or failing.
    """
    refuse_address(path)
    path = Path(path)
    folder = path.parent if folder is None else folder
    with storage_errors(path):
        for needed in (path.parent, folder):
            needed.mkdir(parents=True, exist_ok=True)
        remove_stale_files(folder)
        prefix = f".{path.name[:NAMED_LETTERS]}.{_machine()}-{os.getpid()}."
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".part", dir=folder)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_stale_files(folder: Path) -> None:
    """Removes the temporary files of killed processes.

    Their names hold the machine, since its last start, and the process that made them. Those of
    living processes stay. Of other machines and earlier starts nobody knows, so that their files
    stay until nothing was written to them for a week.
    """
    for path in folder.iterdir():
        owner = TEMPORARY_NAME.fullmatch(path.name)
        if owner is None:
            continue
        machine, process = owner.groups()
        with suppress(OSError):
            if machine == _machine():
                stale = not psutil.pid_exists(int(process))
            else:
                stale = time.time() - path.stat().st_mtime > ABANDONED_SECONDS
            if stale:
                path.unlink()


def scratch_folder(kind: str) -> str:
    """Makes a folder for temporary files. Removes those of its kind that killed processes left.

    Args:
        kind: begins the folder's name. The name also holds machine and process, as those of
            temporary files do. Folders of other machines and earlier starts stay.
    """
    parent = Path(tempfile.gettempdir())
    prefix = f"{kind}.{_machine()}-"
    for path in parent.glob(f"{glob.escape(prefix)}*.*"):
        process = path.name.removeprefix(prefix).partition(".")[0]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            shutil.rmtree(path, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}.", dir=parent)


@cache
def _machine() -> str:
    """Identifies the machine since its last start, and the container: where numbers of processes
    are unique.
    """
    parts = [platform.node()]
    with suppress(OSError):  # other systems than Linux have neither file
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()


def append_text(path: Path, text: str) -> None:
    """Adds text to a file: all of it, or none if the disk is full.

    Raises:
        StorageError: the disk is full, read-only or failing.
    """
    with storage_errors(path), path.open("ab", buffering=0) as file:
        before = file.tell()
        remaining = text.encode()
        try:
            while remaining:
                remaining = remaining[file.write(remaining) :]
        except OSError:
            file.truncate(before)
            raise


def write_json(path: Path, content: Any, sort_keys: bool = False) -> None:
    """Writes a JSON file atomically.

    Raises:
        UserError: a number is not finite, which JSON cannot hold. Says which one.
        StorageError: the disk is full, read-only or failing.
    """
    if broken := not_finite(content):
        raise UserError(f"{path}: {', '.join(broken)}: NaN or infinite; no such number is written")
    text = json.dumps(content, indent=2, allow_nan=False, sort_keys=sort_keys)
    with write_atomically(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file; empty if the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def not_finite(content: Any, name: str = "") -> list[str]:
    """Where nested mappings and lists hold NaN or infinite numbers, as in `scores.best`."""
    if isinstance(content, float):
        return [] if math.isfinite(content) else [name]
    entries: Any = ()
    if isinstance(content, dict):
        entries = content.items()
    elif isinstance(content, list | tuple):
        entries = enumerate(content)
    found = []
    for key, value in entries:
        found += not_finite(value, f"{name}.{key}" if name else str(key))
    return found


def save_torch(content: Any, path: Path) -> None:
    """Writes a file of `torch.save` atomically.

    Raises:
        StorageError: the disk is full, read-only or failing.
    """
    import torch as th

    with write_atomically(path) as temporary, temporary.open("wb") as file:
        try:
            th.save(content, file)
        except RuntimeError as error:
            # Torch closes its archive after the disk's error, and hides that behind its own.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_torch(path: Path) -> Any:
    """Reads a file of `torch.save` that holds tensors and plain values, to the CPU.

    Executes nothing in it.

    Raises:
        ValueError: the file is of another kind, damaged, or does not fit into the memory.
    """
    import torch as th  # not at the top: dataset commands start a second faster without torch

    _check_unpacked(path)
    try:
        return th.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
        kind = type(error).__name__
        raise ValueError(f"{path} is damaged, or no file of tensors ({kind})") from None


def _check_unpacked(path: Path) -> None:
    """Raises ValueError if a zip archive unpacks to more than the free memory.

    Torch itself does not compress, but reads what is compressed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # torch says what is wrong
    free = free_memory()
    if unpacked > free:
        problem = f"unpacks to {unpacked / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free"
        raise ValueError(f"{path} {problem}")


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results, and the git commit."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "numpy", "jax", "h5py", "sacred", "pydantic"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions | {"git_commit": git_commit()}


@cache
def code_hash() -> str:
    """Identifies the project's code that runs use, with changes that are in no commit."""
    code = hashlib.blake2b(digest_size=8)
    files = [path for part in CODE_OF_RUNS for path in (SOURCE / part).rglob("*.py")]
    for path in sorted(files):
        code.update(path.relative_to(SOURCE).as_posix().encode() + b"\0")
        code.update(path.read_bytes() + b"\0")
    return code.hexdigest()


def git_commit() -> str:
    """The checkout's commit, with `+changes` if files differ from it; `unknown` if none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(SOURCE), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.strip()

    if not is_checkout():
        return "unknown"
    try:
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changes else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
