"""Atomic writes, and the folders in which the project keeps what it makes."""

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
DATASETS, RESULTS = "dataset", "results"  # default folders, in `project_root`


def is_checkout() -> bool:
    """Whether this code lies in a checkout of the project, not in an environment's packages."""
    return SOURCE.name == "src" and (SOURCE.parent / "setup.py").is_file()


def project_root() -> Path:
    """The checkout that this code lies in; without one, the current folder."""
    return SOURCE.parent if is_checkout() else Path.cwd()


def results_root(path: str | None) -> Path:
    """Where run folders go: the setting `local_results_path`, or results/ in the project's folder."""
    return writable_folder("local_results_path", path, RESULTS)


def dataset_root(path: str | None) -> Path:
    """Where datasets and behaviour models are kept: `dataset_root`, or dataset/ in the project's folder."""
    return writable_folder("dataset_root", path, DATASETS)


def writable_folder(key: str, path: str | None, default: str) -> Path:
    """The folder that the setting `key` names, made if it is not there.

    Raises:
        ConfigError: it cannot be written to.
    """
    folder = folder_of(path, default)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ConfigError(f"{key}={folder}: cannot be written to: {error.strerror}") from None


def folder_of(path: str | None, default: str) -> Path:
    """The folder `path`, or `default` in the project's; whether it is there or not."""
    return Path(path).absolute() if path else project_root() / default


@contextmanager
def write_atomically(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on a clean exit it takes the real name, otherwise it is removed.

    A kill at any moment leaves either the old file or the new one under `path`, never a part.

    Args:
        folder: for the temporary path instead, on the same disk: one that is removed anyway if a kill leaves it.
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
    """What `torch.save` wrote, tensors and plain values only: nothing in the file is executed.

    Raises:
        ValueError: the file is not such a file, or damaged. What torch's reader raises then is not one kind of error.
    """
    import torch as th  # here: the dataset commands start in a second without it

    try:
        return th.load(path, map_location=device, weights_only=True)
    except Exception as error:  # noqa: BLE001
        raise ValueError(
            f"{path} is damaged, or no file of tensors ({type(error).__name__})"
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number, and the project's git commit."""
    versions = {"python": platform.python_version()}
    for package in ("torch", "numpy", "jax", "h5py", "sacred", "pydantic"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions | {"git_commit": git_commit()}


def git_commit() -> str:
    """The checkout's commit, with `+changes` where files differ from it; `unknown` without a checkout."""

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
