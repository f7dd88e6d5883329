"""No h5 file hangs the loader, and none makes it open another file."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import make_data
from damage import write_in_the_old_way
from public_layouts import write_alberdice, write_cfcql

from inspo.data.formats import h5_files, load_dataset, open_dataset, write_h5
from inspo.data.tools.known import on_disk
from inspo.utils.errors import DatasetError


def damage_the_heap(path):
    """Makes the first object of the global heap a free one of size 0: HDF5 never gets past it."""
    content = bytearray(path.read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 16] = bytes(16)
    path.write_bytes(content)


@pytest.fixture
def old(data, tmp_path):
    path = tmp_path / "old.h5"
    write_in_the_old_way(data, path)
    return path


def test_files_written_in_the_old_way_still_load(data, old):
    loaded = load_dataset(old)
    assert loaded.fingerprint == data.fingerprint
    assert loaded.metadata["behaviour"] == "random"


def test_attributes_lie_in_the_checksummed_header(data, tmp_path):
    write_h5(data, tmp_path / "new.h5")
    content = (tmp_path / "new.h5").read_bytes()
    assert b"GCOL" not in content
    place = content.index(b'"behaviour": "random"')
    (tmp_path / "new.h5").write_bytes(content[:place] + b"X" + content[place + 1 :])
    with pytest.raises(DatasetError, match="cannot be read as h5"):
        load_dataset(tmp_path / "new.h5")


def test_a_damaged_heap_is_refused_in_time(old, monkeypatch):
    damage_the_heap(old)
    monkeypatch.setattr(h5_files, "PROBE_SECONDS", 2)
    with pytest.raises(DatasetError, match=r"old\.h5: .* the h5 library hangs or crashes on it"):
        load_dataset(old)


def test_ctrl_c_ends_the_wait(old):
    damage_the_heap(old)
    program = (
        "import signal\n"
        # A shell's background jobs ignore Ctrl-C, and so would this program if the tests are one.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from inspo.data.formats import load_dataset\n"
        f"load_dataset({str(old)!r})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    waiting = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while not waiting.read_text():  # the probe has not started yet
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int(waiting.read_text().split()[0])
    time.sleep(1)  # until the program runs in it, and the parent waits for it
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_new_files_are_not_probed(data, tmp_path, monkeypatch):
    write_h5(data, tmp_path / "new.h5")
    monkeypatch.setattr(h5_files, "PROBE", "while True: pass")
    monkeypatch.setattr(h5_files, "PROBE_SECONDS", 0.1)
    load_dataset(tmp_path / "new.h5")


def virtual(file, fifo):
    layout = h5py.VirtualLayout(shape=(26,), maxshape=(None,), dtype=np.float32)
    source = h5py.VirtualSource(fifo, "reward", shape=(26,), maxshape=(None,))
    layout[0:26] = source[0:26]
    file.create_virtual_dataset("reward", layout)


def external(file, fifo):
    file.create_dataset("reward", (26,), np.float32, external=[(fifo, 0, 104)])


def linked(file, fifo):
    file["reward"] = h5py.ExternalLink(fifo, "reward")


def through_a_link(file, fifo):
    file["elsewhere"] = h5py.ExternalLink(fifo, "/")
    file["reward"] = h5py.SoftLink("/elsewhere/reward")


@pytest.mark.parametrize("lead_out", [virtual, external, linked, through_a_link])
@pytest.mark.parametrize("write", [write_h5, write_in_the_old_way, write_cfcql])
def test_a_way_to_another_file_is_refused_and_not_taken(data, tmp_path, write, lead_out):
    """Opening a FIFO that nobody writes to never returns."""
    path, fifo = tmp_path / "data.h5", tmp_path / "fifo"
    os.mkfifo(fifo)
    write(data, path)
    with h5py.File(path, "r+") as file:
        del file["reward"]
        lead_out(file, str(fifo))
    with pytest.raises(DatasetError, match=r"field 'reward': (a link to another|lies in other)"):
        load_dataset(path)


def test_a_soft_link_inside_the_file_is_followed(data, tmp_path):
    path = tmp_path / "data.h5"
    write_h5(data, path)
    with h5py.File(path, "r+") as file:
        file.create_group("raw").move("/reward", "reward")
        file["reward"] = h5py.SoftLink("raw/./reward")
        file["raw/circle"] = h5py.SoftLink("/raw/circle")
    assert load_dataset(path).fingerprint == data.fingerprint
    with h5py.File(path, "r+") as file:
        del file["obs"]
        file["obs"] = h5py.SoftLink("/raw/circle")
    with pytest.raises(DatasetError, match="field 'obs': missing"):
        load_dataset(path)


def test_list_does_not_hang_either(tmp_path, monkeypatch):
    folder = tmp_path / "parts"
    folder.mkdir()
    write_in_the_old_way(make_data(), folder / "part_0.h5")
    damage_the_heap(folder / "part_0.h5")
    monkeypatch.setattr(h5_files, "PROBE_SECONDS", 1)
    assert all("hangs or crashes" in about for _, about in on_disk(tmp_path))


def test_a_fifo_in_a_folder_is_refused(data, tmp_path):
    write_alberdice(data, tmp_path / "buffer")
    for name in ("meta.json", "reward.npy"):
        (tmp_path / "buffer" / name).unlink()
        os.mkfifo(tmp_path / "buffer" / name)
        with pytest.raises(DatasetError, match=f"{name}.* not a regular file"):
            load_dataset(tmp_path / "buffer")


def test_metadata_may_fill_its_limit(data, tmp_path):
    data.metadata["notes"] = "x" * 59_000
    write_h5(data, tmp_path / "x.h5")
    with open_dataset(tmp_path / "x.h5") as reader:
        assert len(json.dumps(reader.metadata)) > 59_000
