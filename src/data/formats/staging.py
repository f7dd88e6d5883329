"""Where a dataset lies while it is written: hidden, beside its own place, and one process's at a time."""

from pathlib import Path

from filelock import FileLock, Timeout

from inspo.utils.errors import DatasetError


class StagingFolder:
    """The folder `.NAME.partial` beside the dataset `path`, which is not there yet.

    Attributes:
        folder: for whoever has taken the place to make, fill and remove. What a kill leaves in it, the next one finds.
    """

    def __init__(self, path: Path):
        self.path = path.absolute()
        self.folder = self.path.parent / f".{self.path.name}.partial"
        self.lock = FileLock(f"{self.folder}.lock", timeout=0)

    def take(self) -> None:
        """Keeps others out until `leave`.

        Raises:
            FileExistsError: the dataset is there already.
            DatasetError: another process is writing it.
            OSError: the folder above cannot be written to.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        Path(
            self.lock.lock_file
        ).touch()  # where that cannot be done, the lock would wait for somebody in vain
        try:
            self.lock.acquire()
        except Timeout:
            raise DatasetError(f"{self.path}: another process is writing it") from None
        if self.path.exists():
            self.leave()
            raise FileExistsError(f"{self.path} exists already; nothing is written over")

    def leave(self) -> None:
        """Lets others in. Where the folder was removed, nothing stays."""
        self.lock.release()
        if not self.folder.exists():
            Path(self.lock.lock_file).unlink(missing_ok=True)
