"""Atomic writes, the folders for results and datasets, and the versions of the software."""

import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from inspo.utils.errors import ConfigError

SOURCE = Path(__file__).resolve().parents[1]
# Default folders in `project_root`.
DATASETS = "dataset"
RESULTS = "results"


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
    """The folder of datasets: the setting `dataset_root`, or dataset/ in `project_root`."""
    return writable_folder("dataset_root", path, DATASETS)


def writable_folder(key: str, path: str | None, default: str) -> Path:
    """The folder that the setting `key` names. Creates it if needed.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    folder = folder_of(path, default)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ConfigError(f"{key}={folder}: cannot be written to: {error.strerror}") from None


def folder_of(path: str | None, default: str) -> Path:
    """`path` as an absolute path, or `default` in `project_root`. It need not exist."""
    return Path(path).absolute() if path else project_root() / default


@contextmanager
def write_atomically(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path. On success it is renamed to `path`, after an error it is removed.

    Whenever the process is killed, `path` is either the complete old file or the complete new one.

    Args:
        folder: where the temporary file is made, on the same disk; by default beside `path`.
    """
    path = Path(path)
    folder = path.parent if folder is None else folder
    for needed in (path.parent, folder):
        needed.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=folder)
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


def load_torch(path: Path, device: Any = "cpu") -> Any:
    """Reads a file of `torch.save` that holds tensors and plain values. Executes nothing in it.

    Raises:
        ValueError: the file is of another kind, or damaged.
    """
    import torch as th  # not at the top: dataset commands start a second faster without torch

    try:
        return th.load(path, map_location=device, weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds for a damaged file
        kind = type(error).__name__
        raise ValueError(f"{path} is damaged, or no file of tensors ({kind})") from None


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results, and the git commit."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "numpy", "jax", "h5py", "sacred", "pydantic"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions | {"git_commit": git_commit()}


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
