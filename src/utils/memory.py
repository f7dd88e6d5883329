"""How much memory this process may still take."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

MEMBERSHIP = Path("/proc/self/cgroup")
CGROUPS = Path("/sys/fs/cgroup")
# Of both versions of Linux's control groups: limit, what is used, and the page cache in it.
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def free_memory() -> int:
    """Bytes that are free on this machine and in the limits of a container or a scheduler's job."""
    free = psutil.virtual_memory().available
    with suppress(OSError):  # other systems than Linux have no such files
        return max(0, min([free, *_free_in_groups()]))
    return free


def _free_in_groups() -> Iterator[int]:
    """What is free in each control group that has a limit."""
    for line in MEMBERSHIP.read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        if "memory" in controllers.split(","):
            root, names = CGROUPS / "memory", V1
        elif not controllers:
            root, names = CGROUPS, V2
        else:
            continue
        group = root / place.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                yield from _free_in(folder, *names)


def _free_in(group: Path, limit: str, used: str, cache: str) -> Iterator[int]:
    """Limit minus use, where both are known. The page cache is given back when it is needed."""
    with suppress(OSError, ValueError):  # no such file, or the limit is `max`
        n_free = int((group / limit).read_text()) - int((group / used).read_text())
        statistics = (group / "memory.stat").read_text().split()
        yield n_free + int(statistics[statistics.index(cache) + 1])
