"""Random damage to datasets of every layout: mutations of valid ones, and what loading leads to."""

import contextlib
import functools
import os
import random
import shutil
import signal
import sys
import time

import h5py
import numpy as np
from conftest import make_data
from public_layouts import (
    ended,
    padded_arrays,
    vault_leaves,
    write_alberdice,
    write_cfcql,
    write_minari,
    write_npz,
    write_offpymarl,
    write_omiga,
    write_padded_npz,
    write_vault,
)

from inspo.data.formats import h5_files, load_dataset, write_h5
from inspo.data.formats.inspo_h5 import LIBVER
from inspo.utils.errors import DatasetError

VALUES = [
    b"",
    b"inspo-offline-dataset",
    2,
    -1,
    1e300,
    "{}",
    "[1]",
    "{" * 5000,
    np.arange(3),
    "\ud800",
]


def write_in_the_old_way(data, path):
    """As earlier versions did: text attributes of variable length, in the unchecked global heap."""
    write_h5(data, path)
    with h5py.File(path, "r+", libver=LIBVER) as file:
        for name in ("format", "metadata"):
            text = file.attrs[name].decode()
            del file.attrs[name]
            file.attrs[name] = text


def all_available(data):
    data.avail_actions[:] = True
    return data


LAYOUTS = {
    "own": write_h5,
    "own, old way": write_in_the_old_way,
    "cfcql": write_cfcql,
    "offpymarl": lambda data, path: write_offpymarl([padded_arrays(data)] * 2, path),
    "omiga": lambda data, path: write_omiga(all_available(data), path),
    "alberdice": write_alberdice,
    "npz": write_npz,
    "padded npz": write_padded_npz,
    "minari": lambda data, path: write_minari(all_available(data), path),
    "vault": lambda data, path: write_vault(vault_leaves(ended(data)), path),
}
CHECKED = {"own", "own, old way"}  # layouts with a fingerprint


@functools.lru_cache(maxsize=8)
def fork_probe(path, version, program, seconds):
    """`h5_files._stops_the_library` without the start of an interpreter."""
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            sys.argv = ["", str(path), *h5_files.NAMES]
            exec(program, {})
        os._exit(0)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.WIFSIGNALED(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


class Originals:
    """A valid dataset of each layout, and what it loads as."""

    def __init__(self, folder):
        self.folder = folder
        self.expected = {}
        for name, write in LAYOUTS.items():
            write(make_data(), self.path(name))
            self.expected[name] = load_dataset(self.path(name)).fingerprint

    def path(self, name):
        return self.folder / name.replace(", ", "-").replace(" ", "-")

    def mutate(self, layout, target, rng):
        """Writes a damaged copy of the layout's dataset to `target`."""
        source = self.path(layout)
        if source.is_dir():
            shutil.copytree(source, target)
            files = sorted(file for file in target.rglob("*") if file.is_file())
            file = rng.choice(files)
        else:
            shutil.copyfile(source, target)
            file = target
        is_h5 = h5py.is_hdf5(file)
        kinds = [change_bytes, change_bytes, change_ends]
        if is_h5:
            kinds += [change_text, change_attribute, change_object]
        else:
            kinds += [change_text, change_file]
        rng.choice(kinds)(file, rng)


def change_bytes(file, rng):
    """Bytes are changed, removed or inserted."""
    content = bytearray(file.read_bytes())
    for _ in range(rng.randint(1, 4)):
        # Structures lie at the beginning and at the end.
        size = len(content)
        place = (
            rng.choice([rng.randrange(size), rng.randrange(min(size, 2000)), size - 1])
            if size
            else 0
        )
        length = rng.choice([0, 1, 1, 8, 512])
        new = rng.choice([rng.randbytes(rng.randint(0, 16)), bytes(length), b"\xff" * length])
        content[place : place + length] = new
    file.write_bytes(content)


def change_ends(file, rng):
    """The file is cut, doubled, or followed by something."""
    content = file.read_bytes()
    cut = rng.randrange(len(content) + 1)
    file.write_bytes(rng.choice([content[:cut], content[cut:], content * 2, content + b"x" * 999]))


def change_text(file, rng):
    """Bytes of the metadata, of the global heap, or of a name are changed."""
    content = bytearray(file.read_bytes())
    marks = [
        b"GCOL",
        b"metadata",
        b'"episodes',
        b"fingerprint",
        b"TREE",
        b"SNOD",
        b"OHDR",
        b"FRHP",
        b"HEAP",
        b"filled",
        b"lengths",
        b"shape",
        b"descr",
        b"manifest",
        b"vault_index",
    ]
    found = [content.find(mark) for mark in marks if mark in content]
    if not found:
        return change_bytes(file, rng)
    place = rng.choice(found) + rng.randrange(64)
    content[place : place + rng.choice([1, 2, 8, 16])] = rng.choice(
        [rng.randbytes(rng.randint(1, 16)), bytes(8), bytes(16), b"\xff" * 8]
    )
    file.write_bytes(content)


def change_attribute(file, rng):
    """An attribute is removed, added, or gets another value."""
    with contextlib.suppress(UnicodeEncodeError), h5py.File(file, "r+") as opened:
        holder = rng.choice([opened, opened[rng.choice(sorted(opened))]])
        name = rng.choice(["format", "format_version", "metadata", "other"])
        if name in holder.attrs:
            del holder.attrs[name]
        value = rng.choice([None, *VALUES])
        if value is not None:
            holder.attrs[name] = value


def change_object(file, rng):
    """An array is removed, or replaced by another object."""
    with h5py.File(file, "r+") as opened:
        name = rng.choice(sorted(opened))
        if not isinstance(opened[name], h5py.Dataset):
            del opened[name]
            return
        old = opened[name][:]
        del opened[name]
        other = rng.choice(sorted(opened))
        new = rng.choice(
            [
                None,
                h5py.SoftLink(f"/{other}"),
                h5py.SoftLink(f"/{name}"),
                h5py.ExternalLink(file.name, name),
                h5py.Empty("f4"),
                np.dtype("f8"),
                old[..., None],
                old.T,
                old[:0],
                old.astype("f2"),
                old.astype(complex),
                old * -1.0,
                np.where(old == 0, np.nan, old),
                old.astype("S3"),
                np.concatenate([old, old]),
                old[::-1],
            ]
        )
        if new is not None:
            opened[name] = new


def change_file(file, rng):
    """A file of a folder is removed, emptied, or replaced by another kind."""
    kind = rng.choice(["remove", "empty", "folder", "fifo", "text", "array"])
    file.unlink()
    if kind == "empty":
        file.touch()
    elif kind == "folder":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "text":
        file.write_text(rng.choice(["[]", "{" * 9999, '{"episodes_in_buffer": "3"}', "null"]))
    elif kind == "array":
        with file.open("wb") as opened:
            np.save(opened, rng.choice([np.zeros((6, 6, 3, 1)), np.array("x"), np.zeros(0)]))


def outcome(path, expected):
    """`refused`, `accepted`, or `WRONG ...`: what loading the damaged dataset led to."""
    try:
        loaded = load_dataset(path)
    except DatasetError as error:
        return "refused" if str(path) in str(error) else f"WRONG message: {error}"
    if expected not in (None, loaded.fingerprint):
        return "WRONG acceptance: another fingerprint"
    problems = [str(finding) for finding in loaded.findings()]
    return f"WRONG acceptance: {problems[0]}" if problems else "accepted"


def try_one(originals, layout, seed):
    """The outcome for one damaged dataset. A traceback is printed, and the dataset kept."""
    rng = random.Random(seed)
    target = originals.folder / "damaged"
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    originals.mutate(layout, target, rng)
    expected = originals.expected[layout] if layout in CHECKED else None
    return outcome(target, expected)
