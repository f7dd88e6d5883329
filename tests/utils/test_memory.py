"""The memory that is free, with the limits of containers and of schedulers' jobs."""

from types import SimpleNamespace

import psutil
import pytest

from inspo.utils import memory

GIB = 1 << 30
# Version of the control groups: the line of /proc/self/cgroup, the folder, the files.
VERSIONS = {
    1: ("4:cpu,memory:/slurm/job", "memory", memory.V1),
    2: ("0::/slurm/job", ".", memory.V2),
}


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A machine with 100 GiB free memory, whose control groups are files below `tmp_path`."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * GIB))
    monkeypatch.setattr(memory, "MEMBERSHIP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "groups")
    return tmp_path


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("limited", ["slurm/job", "slurm", "."])
def test_a_limit_counts_wherever_it_is_set(groups, version, limited):
    """A container sees its own group as the root."""
    line, folder, (limit, used, cache) = VERSIONS[version]
    (groups / "cgroup").write_text(f"7:pids:/other\n{line}\n")
    place = groups / "groups" / folder / limited
    place.mkdir(parents=True)
    (place / limit).write_text(f"{8 * GIB}\n")
    (place / used).write_text(f"{6 * GIB}\n")
    (place / "memory.stat").write_text(f"anon 5\n{cache} {GIB}\n")
    assert memory.free_memory() == 3 * GIB


def test_without_a_limit_the_machine_counts(groups):
    assert memory.free_memory() == 100 * GIB  # not Linux
    (groups / "cgroup").write_text("0::/\n")
    (groups / "groups").mkdir()
    (groups / "groups" / "memory.max").write_text("max\n")
    assert memory.free_memory() == 100 * GIB
