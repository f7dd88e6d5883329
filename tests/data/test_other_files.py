"""Files of other kinds: the message says what they are, what they hold, and the way in."""

import gzip
import pickle
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import torch as th
from conftest import make_data
from public_layouts import write_cfcql

from inspo.data.formats import load_dataset
from inspo.utils.errors import DatasetError


def write_zip(path, name):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, "x")


def write_nameless(path):
    """A zip archive whose member has no name."""
    write_zip(path, "name")
    path.write_bytes(path.read_bytes().replace(b"name", b"\0ame"))


def write_cut_npz(path):
    write_zip(path, "obs.npy")
    path.write_bytes(path.read_bytes()[:-1])


def write_arrays(path, group, names):
    with h5py.File(path, "w") as file:
        for name in names:
            file[f"{group}/{name}"] = np.zeros((3, 2))


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
# How each is written, and what the message says.
KINDS = {
    "npz": (
        lambda path: np.savez(path.open("wb"), observations=[1], rewards=[2]),
        "is an npz file with the arrays observations, rewards.*inspo.from_episodes",
    ),
    "cut npz": (write_cut_npz, "is an npz or zip archive that is cut off or damaged; copy or"),
    "npy": (lambda path: np.save(path.open("wb"), [1]), "a single NumPy array.*from_episodes"),
    "pickle": (
        lambda path: path.write_bytes(pickle.dumps({"obs": [1]})),
        "is a Python pickle, which is never opened here.*from_episodes",
    ),
    "torch": (lambda path: th.save({"obs": th.zeros(2)}, path), "is a PyTorch file.*weights_only"),
    "csv": (
        lambda path: path.write_text("obs,action,reward\n1,2,3\n"),
        r"a table of text \(CSV\) with the columns obs, action, reward;.*from_episodes",
    ),
    "json": (lambda path: path.write_text('{"obs": []}'), "is a JSON text.*from_episodes"),
    "text": (lambda path: path.write_text("Hello."), "is a text, which begins with 'Hello.'"),
    "zip": (lambda path: write_zip(path, "data/2s3z.h5"), "zip archive of data/2s3z.h5; unpack"),
    "nameless zip": (write_nameless, "is a zip archive of"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"x")), "a gzip archive.*unpack it"),
    "pointer": (
        lambda path: path.write_text(POINTER),
        r"is a Git LFS pointer.*\(12345 bytes\) were not downloaded; run `git lfs pull`",
    ),
    "web page": (
        lambda path: path.write_text("<!DOCTYPE html>\n<html>Virus scan warning</html>"),
        "is an HTML page, not data: the download saved a web page",
    ),
    "subgroup": (
        lambda path: write_arrays(path, "data/train", ["obs", "reward"]),
        r"data/train/obs \(3, 2\), data/train/reward \(3, 2\) in the group data/train, not at its "
        "root; .*from_episodes",
    ),
    "other keys": (
        lambda path: write_arrays(path, "", ["observations", "terminals"]),
        r"the arrays observations \(3, 2\), terminals \(3, 2\); .*from_episodes",
    ),
    "empty": (lambda path: path.touch(), r"is empty \(0 bytes\)"),
    "noise": (lambda path: path.write_bytes(b"\xfe" * 99), "cannot be read as h5"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_says_what_a_file_is(tmp_path, kind):
    write, message = KINDS[kind]
    path = tmp_path / "data.h5"
    write(path)
    with pytest.raises(DatasetError, match=message):
        load_dataset(path)


def test_a_file_that_is_being_written_is_said_to_be_locked(tmp_path):
    write_cfcql(make_data(), tmp_path / "data.h5")
    program = "import h5py; file = h5py.File('data.h5', 'a'); print(1, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        writer.stdout.readline()
        with pytest.raises(DatasetError, match="another program is writing this h5 file"):
            load_dataset(tmp_path / "data.h5")
        writer.communicate(b"\n")
    load_dataset(tmp_path / "data.h5")


def test_a_folder_of_other_files_is_described(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"this folder is no dataset.*\(it holds notes.txt\)"):
        load_dataset(tmp_path)
