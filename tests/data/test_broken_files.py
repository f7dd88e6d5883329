"""A broken file gives one clear message: no traceback, and no memory for what it only claims."""

import re

import h5py
import numpy as np
import pytest
from bounded_memory import bounded
from conftest import make_data
from public_layouts import padded_arrays, write_alberdice, write_cfcql, write_offpymarl

from inspo import dataset, main
from inspo.data.formats import write_h5

pytestmark = pytest.mark.usefixtures("_no_child")
ROWS = 26  # of the fixture `data`


def edited(name, change):
    """Replaces an array by `change` of it."""

    def edit(file):
        values = change(file[name][:])
        del file[name]
        file[name] = values

    return edit


def element(name, place, value):
    """Replaces one number of an array. The dtype becomes one that holds it."""
    return edited(name, lambda old: np.where(np.arange(len(old)) == place, value, old))


def unwritten(name, shape, **how):
    """Replaces an array by one of which nothing was ever written."""

    def edit(file):
        dtype = file[name].dtype
        del file[name]
        file.create_dataset(name, shape=shape, dtype=dtype, **how)

    return edit


def replaced(name, item):
    """Replaces an array by another h5 object."""

    def edit(file):
        del file[name]
        file[name] = item

    return edit


def made_group(file):
    del file["state"]
    file.create_group("state")


def made_objects(file):
    del file["reward"]
    file.create_dataset("reward", (ROWS,), dtype=h5py.vlen_dtype(np.float32))


def in_other_file(file):
    with h5py.File(f"{file.filename}.raw", "w") as outside:
        outside["reward"] = np.zeros(ROWS, np.float32)
    layout = h5py.VirtualLayout(shape=(ROWS,), dtype=np.float32)
    layout[:] = h5py.VirtualSource(f"{file.filename}.raw", "reward", shape=(ROWS,))
    del file["reward"]
    file.create_virtual_dataset("reward", layout)


# What is done to a valid file of this project: (edit, field, part of the message).
KINDS = {
    "missing": (lambda file: file.pop("obs"), "obs", "missing"),
    "group": (made_group, "state", "a Group, not an array"),
    "named type": (replaced("state", np.dtype("f4")), "state", "a Datatype, not an array"),
    "nothing": (replaced("state", h5py.Empty("f4")), "state", "not numbers"),
    "dangling link": (replaced("state", h5py.SoftLink("/nowhere")), "state", "missing"),
    "other file's link": (
        replaced("state", h5py.ExternalLink("nowhere.h5", "x")),
        "state",
        "a link to another file, which is not followed",
    ),
    "other file": (in_other_file, "reward", "lies in other files"),
    "objects": (made_objects, "reward", "not numbers"),
    "text": (replaced("reward", np.array([b"x"] * ROWS)), "reward", "not numbers"),
    "records": (replaced("reward", np.zeros(ROWS, [("a", "f4")])), "reward", "not numbers"),
    "complex": (edited("obs", lambda old: old.astype(complex)), "obs", "not numbers"),
}
SHAPES = {
    "axes": (edited("obs", lambda old: old.reshape(ROWS, 15)), "obs", "expected 3 axes"),
    "no rows": (edited("state", lambda old: old[:0]), "state", "there is nothing in it"),
    "ragged": (
        edited("lengths", lambda old: old + 1),
        "reward",
        "the episode lengths need 32 rows",
    ),
    "negative length": (element("lengths", 2, -3), "lengths", "episode 2 has -3 steps"),
    "huge length": (element("lengths", 2, 2**62), "reward", "the episode lengths need"),
    "swapped agents": (
        edited("obs", lambda old: old.swapaxes(1, 2)),
        "obs",
        "disagree on the number of agents",
    ),
    "claim": (unwritten("obs", (10**12, 3, 5)), "obs", "claims shape"),
    "packed claim": (
        unwritten("obs", (10**9, 3, 5), chunks=(1024, 3, 5), compression="gzip"),
        "obs",
        "claims shape",
    ),
    "claimed episodes": (unwritten("lengths", (10**11,)), "lengths", "claims shape"),
}
VALUES = {
    "NaN": (element("reward", 7, np.nan), "reward", "NaN or infinity at episode 1, step 1"),
    "overflow": (
        edited("state", lambda old: old.astype(float) * 1e300),
        "state",
        "NaN or infinity",
    ),
    "unavailable": (
        edited("avail_actions", lambda old: old & False),
        "actions",
        "available at episode 0, step 0",
    ),
    "negative action": (
        edited("actions", lambda old: old.astype(int) - 9),
        "actions",
        "an action outside 0..3 at episode 0, step 0",
    ),
    "fractions": (edited("actions", lambda old: old + 0.5), "actions", "must hold integers"),
    "early end": (
        edited("terminated", lambda old: old | True),
        "terminated",
        "set before the last step",
    ),
    "no end": (
        edited("terminated", lambda old: old & False),
        "terminated",
        "either terminated or truncated",
    ),
    "masks of 3": (
        edited("avail_actions", lambda old: old * 3),
        "avail_actions",
        "must hold 0 and 1 only, not 3",
    ),
    "flags of 7": (
        edited("truncated", lambda old: old * 7),
        "truncated",
        "must hold 0 and 1 only",
    ),
}
BROKEN = {**KINDS, **SHAPES, **VALUES}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_gives_one_message(data, tmp_path, capsys, kind):
    edit, field, message = BROKEN[kind]
    path = tmp_path / "data.h5"
    write_h5(data, path)
    with h5py.File(path, "r+") as file:
        edit(file)
    for command, status in ((["inspect", "--no-png"], 2), (["validate"], 1), (["hash"], 2)):
        assert bounded(lambda command=command: dataset.main([*command, str(path)])) == status
        out, err = capsys.readouterr()
        printed = out if command == ["validate"] else err
        assert str(path) in printed
        assert f"field '{field}': " in printed
        assert message in printed
        assert "Traceback" not in printed
    target = tmp_path / "target.h5"
    assert dataset.main(["convert", str(path), str(target)]) == 2
    assert not target.exists()


def test_training_on_a_broken_file_gives_the_message_too(data, tmp_path, capsys):
    path = tmp_path / "data.h5"
    write_h5(data, path)
    with h5py.File(path, "r+") as file:
        unwritten("obs", (10**12, 3, 5))(file)
    settings = [f"env_args.dataset={path}", f"local_results_path={tmp_path}"]
    assert main.main(["--config=bc", "--env-config=bridge_offline", "with", *settings]) == 2
    printed = capsys.readouterr().err
    assert "field 'obs': claims shape" in printed
    assert "Traceback" not in printed


# What is done to padded arrays, and the message. None removes an array.
PADDED = {
    "a missing array": ({"filled": None}, "field 'filled'.*missing"),
    "swapped agents": (
        {"obs": lambda a: a.swapaxes(2, 3)},
        "field 'obs': the fields disagree on the number of agents",
    ),
    "no episodes": (
        {name: lambda a: a[:0] for name in padded_arrays(make_data())},
        "there is nothing in it",
    ),
    "ragged": ({"reward": lambda a: a[:, :-1]}, "the fields disagree on episodes and steps"),
    "gaps": ({"filled": lambda a: a[:, ::-1]}, "field 'filled': has gaps"),
    "empty": ({"filled": lambda a: a * 0}, "field 'filled': nothing filled"),
    "negative": ({"filled": lambda a: -a}, "field 'filled': must hold 0 and 1 only"),
    "NaN": (
        {"reward": lambda a: a * np.nan},
        "field 'reward': NaN or infinity at episode 0, step 0",
    ),
    "unavailable": (
        {"avail_actions": lambda a: a * 0},
        "field 'actions': the action taken was not available",
    ),
    "text": ({"state": lambda a: a.astype("S4")}, "field 'state': holds .*, not numbers"),
}


def write_broken(layout, data, path, changes):
    """Writes the data in another project's layout, with changes of some arrays."""
    arrays = padded_arrays(data)
    changed = {
        name: None if change is None else change(arrays[name]) for name, change in changes.items()
    }
    if layout == "alberdice":
        write_alberdice(data, path, **changed)
        return
    if layout == "cfcql":
        write_cfcql(data, path)
    else:
        write_offpymarl([arrays], path)
        path = path / "part_0.h5"
    with h5py.File(path, "r+") as file:
        for name, array in changed.items():
            del file[name]
            if array is not None:
                file[name] = array


@pytest.mark.parametrize("kind", PADDED)
@pytest.mark.parametrize("layout", ["cfcql", "offpymarl", "alberdice"])
def test_broken_padded_arrays_give_one_message(data, tmp_path, capsys, layout, kind):
    changes, message = PADDED[kind]
    path = tmp_path / "data"
    write_broken(layout, data, path, changes)
    assert bounded(lambda: dataset.main(["validate", str(path)])) == 1
    assert re.search(message, capsys.readouterr().out)
    assert bounded(lambda: dataset.main(["inspect", "--no-png", str(path)])) == 2
    printed = capsys.readouterr().err
    assert re.search(message, printed)
    assert str(path) in printed
