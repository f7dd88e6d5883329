"""A disk that is soon full, for one process and without root's help."""

import resource
from contextlib import contextmanager


@contextmanager
def small_disk(size: int):
    """Files cannot grow beyond `size` bytes, which the system reports as it does a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
