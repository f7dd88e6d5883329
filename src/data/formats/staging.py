"""New dataset files: written atomically, never over an existing one, by one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from inspo.utils.errors import DatasetError
from inspo.utils.files import write_atomically


@contextmanager
def new_file(path: Path, folder: Path | None = None) -> Iterator[Path]:
    """`write_atomically`, but raises FileExistsError rather than replace a file."""
    _refuse_existing(path)
    with write_atomically(path, folder) as temporary:
        yield temporary
        _refuse_existing(path)  # another process may have been faster


@contextmanager
def locked_folder(path: Path) -> Iterator[Path]:
    """Locks the dataset `path`, which must not exist yet, and yields a folder to stage it in.

    The folder is `.NAME.partial` beside `path`. The caller creates and removes it. Its files
    survive a kill, so that a later process can resume.

    Raises:
        FileExistsError: the dataset exists already.
        DatasetError: another process is writing it.
        OSError: the parent folder cannot be written to.
    """
    folder = path.parent / f".{path.name}.partial"
    lock = FileLock(f"{folder}.lock", timeout=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(lock.lock_file).touch()  # raises where FileLock would wait forever for permission
    try:
        lock.acquire()
    except Timeout:
        raise DatasetError(f"{path}: another process is writing it") from None
    try:
        _refuse_existing(path)
        yield folder
    finally:
        lock.release()
        if not folder.exists():
            Path(lock.lock_file).unlink(missing_ok=True)


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise FileExistsError(f"{path} exists already; nothing is written over")
