"""Writing h5 files where the disk may be full.

The h5 library cannot close a file after an error of the disk: it complains of every open object,
and crashes at the end of the process. So it never sees such errors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO, RawIOBase
from pathlib import Path
from typing import Any

import h5py


class PatientFile(RawIOBase):
    """A file to which every write succeeds. After the first error of the disk they go to memory."""

    def __init__(self, file: FileIO):
        super().__init__()
        self.file = file
        self.error: OSError | None = None  # the disk's first one
        self.position = 0
        self.in_memory: list[tuple[int, bytes]] = []  # position and content

    def check(self) -> None:
        """Raises the disk's error, if there was one."""
        if self.error is not None:
            raise self.error

    def seek(self, offset: int, whence: int = 0) -> int:
        """The new position."""
        self.position = self.file.seek(offset, whence)
        return self.position

    def tell(self) -> int:
        """The position."""
        return self.position

    def write(self, content: Any) -> int:
        """Writes all of `content`."""
        remaining = memoryview(content).cast("B")
        size = len(remaining)
        try:
            while self.error is None and len(remaining):
                remaining = remaining[self.file.write(remaining) :]
        except OSError as error:
            self.error = error
        if self.error is not None:
            self.in_memory.append((self.position, bytes(content)))
        self.position += size
        return size

    def readinto(self, buffer: Any) -> int:
        """Fills all of `buffer`: with zeros where nothing was written."""
        view = memoryview(buffer).cast("B")
        size = len(view)
        self.file.seek(self.position)
        found = self.file.readinto(view) or 0
        view[found:] = bytes(size - found)
        for start, content in self.in_memory:
            first = max(start, self.position)
            last = min(start + len(content), self.position + size)
            if first < last:
                view[first - self.position : last - self.position] = content[
                    first - start : last - start
                ]
        return size

    def truncate(self, size: int) -> int:
        """Sets the size."""
        try:
            self.file.truncate(size)
        except OSError as error:
            self.error = self.error or error
        return size


@contextmanager
def new_h5(path: Path, **options: Any) -> Iterator[tuple[h5py.File, PatientFile]]:
    """A new h5 file, and the file below it, whose `check` long work calls from time to time.

    Args:
        options: of `h5py.File`.

    Raises:
        OSError: the disk is full or failing. The file is worthless then.
    """
    with path.open("w+b", buffering=0) as raw:
        file = PatientFile(raw)
        with h5py.File(file, "w", **options) as h5:
            yield h5, file
        file.check()
