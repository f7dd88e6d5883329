"""Files on a disk that is full or read-only, and after a kill."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch as th
from conftest import make_data
from small_disk import small_disk

from inspo.data.formats import EpisodeWriter, load_dataset, write_h5
from inspo.utils import files
from inspo.utils.errors import ConfigError, StorageError, UserError
from inspo.utils.files import (
    append_text,
    save_torch,
    scratch_folder,
    write_atomically,
    write_json,
)

CHILD = """
import sys, time
from pathlib import Path
from inspo.utils.files import write_atomically
with write_atomically(Path(sys.argv[1])) as temporary:
    print(temporary, flush=True)
    time.sleep(60)
"""


def refused(path: Path):
    return pytest.raises(StorageError, match=f"{path}: the file is larger than its disk allows")


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_checkpoint_is_whole_or_not_there(tmp_path, size):
    path = tmp_path / "step_0000000010.pt"
    with small_disk(size), refused(path):
        save_torch({"weights": th.zeros(5000)}, path)
    assert not list(tmp_path.iterdir())
    save_torch({"weights": th.zeros(5)}, path)
    with small_disk(size), refused(path):
        save_torch({"weights": th.zeros(5000)}, path)
    assert len(files.load_torch(path)["weights"]) == 5
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_written_to_an_address(tmp_path, monkeypatch):
    """No folder called https: is made, for a dataset, a table or a film."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"^https://example.org/data.h5: this is an address"):
        write_h5(make_data(), Path("https://example.org/data.h5"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 100, 2000, 9000])
def test_a_dataset_is_whole_or_not_there(tmp_path, size):
    """The h5 library itself would crash."""
    path = tmp_path / "data.h5"
    data = make_data(lengths=(50,) * 20)
    with small_disk(size), refused(path):
        write_h5(data, path)
    assert not list(tmp_path.iterdir())
    write_h5(data, path)
    np.testing.assert_array_equal(load_dataset(path).reward, data.reward)


def test_a_recording_resumes_after_the_disk_was_full(tmp_path):
    path = tmp_path / "data.h5"
    blocks = [make_data(seed, lengths=(40,) * 10) for seed in range(2)]
    metadata = blocks[0].metadata
    with EpisodeWriter(path, metadata) as writer:
        writer.append(blocks[0])
        block = writer.folder / "block-000001.h5"
        with small_disk(1000), refused(block):
            writer.append(blocks[1])
        assert not block.exists()
        writer.append(blocks[1])
    rewards = np.concatenate([block.reward for block in blocks])
    np.testing.assert_array_equal(load_dataset(path).reward, rewards)


def test_appended_text_is_whole_or_not_there(tmp_path):
    path = tmp_path / "metrics.csv"
    append_text(path, "step,loss\n")
    with small_disk(12), refused(path):
        append_text(path, "10,0.5\n")
    assert path.read_text() == "step,loss\n"


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the disk is read-only; write to another folder"),
        (errno.EIO, "the disk failed"),
    ],
)
def test_the_message_says_which_file_and_what_to_do(tmp_path, monkeypatch, number, advice):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageError, match=f"{tmp_path / 'a.json'}: {advice}"):
        write_json(tmp_path / "a.json", {})
    assert not list(tmp_path.iterdir())


def test_a_folder_in_the_place_of_a_file(tmp_path):
    (tmp_path / "model.pt").mkdir()
    with pytest.raises(StorageError, match="a folder of that name is in its place"):
        save_torch({}, tmp_path / "model.pt")


def test_a_full_disk_is_seen_before_anything_starts(tmp_path):
    with (
        small_disk(0),
        pytest.raises(ConfigError, match=r"^local_results_path=.*cannot be written"),
    ):
        files.results_root(str(tmp_path))


def test_json_never_holds_nan(tmp_path):
    content = {"scores": {"best": float("inf"), "last": [1.0, float("nan")]}, "seed": 3}
    with pytest.raises(UserError, match=r"scores\.best, scores\.last\.1: NaN or infinite"):
        write_json(tmp_path / "summary.json", content)
    assert not list(tmp_path.iterdir())
    write_json(tmp_path / "summary.json", {"best": 0.5, "none": None})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"best": 0.5, "none": None}


@pytest.mark.parametrize("letters", ["a" * 250, "ä" * 120])
def test_long_names(tmp_path, letters):
    write_json(tmp_path / letters, {})
    with pytest.raises(StorageError, match=r"a{200,}\.\.\.: the name is too long"):
        write_json(tmp_path / ("a" * 5000), {})
    assert [path.name for path in tmp_path.iterdir()] == [letters]


def test_what_a_killed_process_left_is_removed_by_the_next_writer(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "a.json")], stdout=subprocess.PIPE, text=True
    )
    left = Path(child.stdout.readline().strip())
    of_a_user = tmp_path / ".notes.part"
    of_a_user.write_text("mine")
    write_json(tmp_path / "b.json", {})
    assert left.exists()  # its process lives

    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert left.exists()
    with write_atomically(tmp_path / "c.json") as temporary:
        write_json(tmp_path / "d.json", {})
        assert temporary.exists()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {".notes.part", "b.json", "c.json", "d.json"}


def test_scratch_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mine = Path(scratch_folder("game"))
    machine = mine.name.partition("-")[0]
    left, of_another_machine, of_another_kind = (
        tmp_path / f"{name}-999999999.x_y" for name in (machine, "game.0123abcd", f"a{machine}")
    )
    for folder in (left, of_another_machine, of_another_kind):
        (folder / "sc-x").mkdir(parents=True)
    new = Path(scratch_folder("game"))
    assert set(tmp_path.iterdir()) == {mine, new, of_another_machine, of_another_kind}


def test_what_was_left_before_a_restart_is_removed_after_a_week(tmp_path):
    """Or on another machine: nobody knows whether its process lives."""
    old, new = (tmp_path / f".a.json.0123abcd-{number}.x_y.part" for number in (1, 2))
    for path, days in ((old, 8), (new, 6)):
        path.write_text("")
        moment = time.time() - days * 24 * 3600
        os.utime(path, (moment, moment))
    write_json(tmp_path / "b.json", {})
    assert not old.exists()
    assert new.exists()
