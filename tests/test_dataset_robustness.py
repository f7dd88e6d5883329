"""Broken files: each gives one clear message, no traceback, no memory that it merely claims; nothing slips through."""

import os
import re
import subprocess
import sys
import tracemalloc

import h5py
import numpy as np
import psutil
import pytest
from conftest import PROJECT, main_command, make_data
from foreign_layouts import padded_arrays, write_alberdice, write_cfcql, write_offpymarl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspo import dataset
from inspo.data import episode_data
from inspo.data.formats import ROW_FIELDS, Sizes, h5_files, load_dataset, write_h5
from inspo.data.formats import reader as reader_module
from inspo.data.formats.inspo_h5 import AXES
from inspo.data.formats.schema import empty_data
from inspo.utils.errors import DatasetError

METADATA = {"environment": "test", "env_args": {}, "behaviour": "none", "command": "pytest"}
pytestmark = pytest.mark.usefixtures("_no_child")
SLOW_IS_FINE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def tries(count):
    """So many random examples, the same in every run."""
    return settings(
        max_examples=count, deadline=None, derandomize=True, suppress_health_check=SLOW_IS_FINE
    )


def replaced(name, values):
    def change(file):
        old = file[name][:]
        del file[name]
        file[name] = values(old)

    return change


def element(name, place, value):
    return replaced(
        name,
        lambda old: np.concatenate(
            [np.where(np.arange(old.size) == place, value, old.ravel())]
        ).reshape(old.shape),
    )


def claim(name, shape, **how):
    """An array of which nothing was ever written."""

    def change(file):
        dtype = file[name].dtype
        del file[name]
        file.create_dataset(name, shape=shape, dtype=dtype, **how)

    return change


def other(name, make):
    def change(file):
        del file[name]
        make(file)

    return change


def in_other_file(file):
    with h5py.File(f"{file.filename}.raw", "w") as outside:
        outside["reward"] = np.zeros(26, np.float32)
    layout = h5py.VirtualLayout(shape=(26,), dtype=np.float32)
    layout[:] = h5py.VirtualSource(f"{file.filename}.raw", "reward", shape=(26,))
    file.create_virtual_dataset("reward", layout)


BROKEN = {  # what is done to a sound file of ours: (change, field, part of the message)
    "missing": (lambda file: file.pop("obs"), "obs", "missing"),
    "text": (replaced("reward", lambda old: np.array([b"x"] * len(old))), "reward", "not numbers"),
    "complex": (replaced("obs", lambda old: old.astype(complex)), "obs", "not numbers"),
    "objects": (
        other("reward", lambda f: f.create_dataset("reward", (26,), dtype=h5py.vlen_dtype(np.float32))),
        "reward",
        "not numbers",
    ),
    "records": (replaced("reward", lambda old: np.zeros(26, [("a", "f4")])), "reward", "not numbers"),
    "group": (other("state", lambda f: f.create_group("state")), "state", "a Group, not an array"),
    "named type": (
        other("state", lambda f: f.__setitem__("state", np.dtype("f4"))),
        "state",
        "a Datatype, not an array",
    ),
    "nothing": (other("state", lambda f: f.__setitem__("state", h5py.Empty("f4"))), "state", "not numbers"),
    "dangling link": (
        other("state", lambda f: f.__setitem__("state", h5py.SoftLink("/nowhere"))),
        "state",
        "missing",
    ),
    "missing file": (
        other("state", lambda f: f.__setitem__("state", h5py.ExternalLink("nowhere.h5", "x"))),
        "state",
        "missing",
    ),
    "other file": (other("reward", in_other_file), "reward", "lies in other files"),
    "ragged": (replaced("lengths", lambda old: old + 1), "reward", "the episode lengths need 32 rows"),
    "negative length": (element("lengths", 2, -3), "lengths", "episode 2 has -3 steps"),
    "huge length": (element("lengths", 2, 2**62), "reward", "the episode lengths need"),
    "NaN": (element("reward", 7, np.nan), "reward", "NaN or infinity at episode 1, step 1"),
    "overflow": (replaced("state", lambda old: old.astype(float) * 1e300), "state", "NaN or infinity"),
    "unavailable": (replaced("avail_actions", lambda old: old & False), "actions", "available at episode 0, step 0"),
    "negative action": (
        replaced("actions", lambda old: old.astype(int) - 9),
        "actions",
        "an action outside 0..3 at episode 0, step 0",
    ),
    "fractions": (replaced("actions", lambda old: old + 0.5), "actions", "must hold integers"),
    "swapped agents": (replaced("obs", lambda old: old.swapaxes(1, 2)), "obs", "disagree on the number of agents"),
    "axes": (replaced("obs", lambda old: old.reshape(26, 15)), "obs", "expected 3 axes"),
    "no rows": (replaced("state", lambda old: old[:0]), "state", "there is nothing in it"),
    "early end": (replaced("terminated", lambda old: old | True), "terminated", "set before the last step"),
    "no end": (replaced("terminated", lambda old: old & False), "terminated", "either terminated or truncated"),
    "masks of 3": (replaced("avail_actions", lambda old: old * 3), "avail_actions", "must hold 0 and 1 only, not 3"),
    "flags of 7": (replaced("truncated", lambda old: old * 7), "truncated", "must hold 0 and 1 only"),
    "claim": (claim("obs", (10**12, 3, 5)), "obs", "claims shape"),
    "packed claim": (claim("obs", (10**9, 3, 5), chunks=(1024, 3, 5), compression="gzip"), "obs", "claims shape"),
    "claimed episodes": (claim("lengths", (10**11,)), "lengths", "claims shape"),
}  # fmt: skip


def even_data(n_episodes, length, sizes):
    """Zeros, in episodes of one length that all terminate."""
    data = empty_data(sizes, np.full(n_episodes, length), METADATA, "zeros")
    for name in ROW_FIELDS:
        getattr(data, name)[:] = name == "avail_actions"
    data.terminated[data.final_rows - 1] = True
    return data


def bounded(call):
    """The result of `call`, which must not allocate much."""
    tracemalloc.start()
    try:
        result = call()
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
        return result
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_gives_one_message(data, tmp_path, capsys, kind):
    change, field, message = BROKEN[kind]
    path = tmp_path / "data.h5"
    write_h5(data, path)
    with h5py.File(path, "r+") as file:
        change(file)
    for command, status in ((["inspect", "--no-png"], 2), (["validate"], 1), (["hash"], 2)):
        assert bounded(lambda command=command: dataset.main([*command, str(path)])) == status
        out, err = capsys.readouterr()
        said = out if command == ["validate"] else err
        assert str(path) in said
        assert f"field '{field}': " in said
        assert message in said
        assert "Traceback" not in said
    target = tmp_path / "target.h5"
    assert dataset.main(["convert", str(path), str(target)]) == 2
    assert not target.exists()


def test_a_chunk_too_large_to_unpack_is_refused(data, tmp_path, monkeypatch):
    write_h5(data, tmp_path / "data.h5")
    monkeypatch.setattr(h5_files, "CHUNK_BYTES", 1000)
    with pytest.raises(
        DatasetError, match=r"field 'obs': packed in chunks of 1560 bytes; at most 1000"
    ):
        load_dataset(tmp_path / "data.h5")


def test_every_field_has_a_broken_file():
    assert {field for _, field, _ in BROKEN.values()} == {*AXES}


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


@pytest.mark.parametrize("kind", PADDED)
@pytest.mark.parametrize("layout", ["cfcql", "offpymarl", "alberdice"])
def test_broken_padded_arrays_give_one_message(data, tmp_path, capsys, layout, kind):
    changes, message = PADDED[kind]
    path = tmp_path / "data"
    arrays = padded_arrays(data)
    changed = {
        name: None if change is None else change(arrays[name]) for name, change in changes.items()
    }
    if layout == "alberdice":
        write_alberdice(data, path, **changed)
    else:
        write_cfcql(data, path) if layout == "cfcql" else write_offpymarl([arrays], path)
        with h5py.File(path if layout == "cfcql" else path / "part_0.h5", "r+") as file:
            for name, array in changed.items():
                del file[name]
                if array is not None:
                    file[name] = array
    assert bounded(lambda: dataset.main(["validate", str(path)])) == 1
    assert re.search(message, capsys.readouterr().out)
    assert bounded(lambda: dataset.main(["inspect", "--no-png", str(path)])) == 2
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert str(path) in said


def test_a_padded_claim_is_not_allocated(data, tmp_path):
    """A sound CFCQL file whose T grows to what no episode needs: packed zeros, as a bomb would have them."""
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        for name, array in padded_arrays(data).items():
            shape = (6, 10**8, *array.shape[2:])
            held = file.create_dataset(
                name, shape, array.dtype, chunks=(1, 64, *array.shape[2:]), compression="gzip"
            )
            held[:, :6] = array
    with pytest.raises(DatasetError, match=r"bomb\.h5:\n.*field 'state': claims shape"):
        bounded(lambda: load_dataset(tmp_path / "bomb.h5"))


def test_packed_zeros_are_refused_where_they_do_not_fit(tmp_path, monkeypatch):
    """What gzip really packs a thousandfold is no false claim: the memory's size decides, before it is unpacked."""
    write_h5(even_data(10, 20_000, Sizes(3, 4, 5, 7)), tmp_path / "zeros.h5")
    monkeypatch.setattr(
        psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1 << 20})
    )
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 1 << 18)
    with pytest.raises(DatasetError, match=r"zeros\.h5: needs .* GiB of memory"):
        bounded(lambda: load_dataset(tmp_path / "zeros.h5"))


def test_commands_show_no_traceback(data, tmp_path):
    path = tmp_path / "data.h5"
    write_h5(data, path)
    with h5py.File(path, "r+") as file:
        BROKEN["claim"][0](file)
    script = [sys.executable, str(PROJECT / "src" / "dataset.py"), "validate", str(path)]
    tool = subprocess.run(script, capture_output=True, text=True, timeout=120, env={**os.environ})
    overrides = [
        f"env_args.dataset={path}",
        "use_tensorboard=False",
        f"local_results_path={tmp_path}",
    ]
    run = main_command(
        "--config=bc", "--env-config=bridge_offline", "with", *overrides, cwd=tmp_path
    )
    assert (tool.returncode, run.returncode) == (1, 2)
    for said in (tool.stdout + tool.stderr, run.stderr):
        assert "Traceback" not in said
        assert "field 'obs': claims shape" in said


# --- random damage


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound file of ours, its content, and a place for damaged copies."""
    folder = tmp_path_factory.mktemp("sound")
    write_h5(make_data(), folder / "data.h5")
    return (
        (folder / "data.h5").read_bytes(),
        load_dataset(folder / "data.h5"),
        folder / "damaged.h5",
    )


def load_or_refuse(path):
    """The dataset, or None after an error that names the file."""
    try:
        return load_dataset(path)
    except DatasetError as error:
        said = str(error)
    assert str(path) in said
    return None


def assert_refused_or_unharmed(path, expected):
    loaded = load_or_refuse(path)
    assert loaded is None or loaded.fingerprint == expected.fingerprint


@tries(200)
@given(st.data())
def test_random_bytes(sound, choose):
    """Bytes changed, cut out or put in anywhere: refused, or nothing that matters was hit."""
    content, expected, path = sound
    damaged = bytearray(content)
    for _ in range(choose.draw(st.integers(1, 3))):
        place = choose.draw(st.integers(0, len(damaged) - 1))
        length = choose.draw(st.sampled_from([0, 1, 8, 512]))
        damaged[place : place + length] = choose.draw(st.binary(max_size=16))
    path.write_bytes(damaged)
    assert_refused_or_unharmed(path, expected)


@tries(60)
@given(st.data())
def test_random_changes_of_a_field(sound, choose):
    """A field gets other numbers, another dtype, shape or order: refused, or it means the same."""
    content, expected, path = sound
    path.write_bytes(content)
    name = choose.draw(st.sampled_from(["lengths", *ROW_FIELDS]))
    with h5py.File(path, "r+") as file:
        values = file[name][:]
        kind = choose.draw(
            st.sampled_from(["number", "dtype", "swap", "cut", "reverse", "double", "axis"])
        )
        if kind == "number":
            values = values.astype(float)
            place = choose.draw(st.integers(0, values.size - 1))
            number = st.sampled_from(
                [np.nan, np.inf, -1.0, 0.5, 1e300, 2.0**63, 0.0, 1.0]
            ) | st.floats(-10, 10)
            values.flat[place] = choose.draw(number)
        elif kind == "dtype":
            dtype = choose.draw(
                st.sampled_from(["f2", "f8", "i1", "i8", "u8", "?", "S3", "c8", ">f4"])
            )
            with np.errstate(all="ignore"):
                values = values.astype(dtype)
        elif kind == "swap":
            values = values.swapaxes(0, -1)
        elif kind == "cut":
            values = values[: choose.draw(st.integers(0, len(values) - 1))]
        elif kind == "reverse":
            values = values[::-1]
        elif kind == "double":
            values = np.concatenate([values, values])
        else:
            values = values[..., None]
        del file[name]
        file[name] = values
    assert_refused_or_unharmed(path, expected)


@tries(60)
@given(st.data())
def test_random_changes_of_a_foreign_file(sound, choose):
    """Without a fingerprint another number can pass for the truth; nothing that training could not use does."""
    _, expected, path = sound
    path.unlink(missing_ok=True)
    write_cfcql(expected, path)
    with h5py.File(path, "r+") as file:
        name = choose.draw(st.sampled_from(sorted(file)))
        values = file[name][:].astype(choose.draw(st.sampled_from(["f4", "f8", "i8", "u1"])))
        place = choose.draw(st.integers(0, values.size - 1))
        with np.errstate(all="ignore"):
            values.flat[place] = np.float64(
                choose.draw(st.sampled_from([np.nan, np.inf, 7, 0.5, 0]))
            ).astype(values.dtype)
        if choose.draw(st.booleans()):
            values = values.swapaxes(*choose.draw(st.sampled_from([(0, 1), (1, 2), (0, -1)])))
        del file[name]
        file[name] = values
    if (loaded := load_or_refuse(path)) is not None:
        loaded.check()
        assert (loaded.lengths + 1).sum() == len(loaded.obs)


@tries(30)
@given(st.data())
def test_random_bytes_of_an_npy_folder(tmp_path_factory, choose):
    folder = tmp_path_factory.mktemp("npy") / "buffer"
    write_alberdice(make_data(), folder)
    file = choose.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(file.read_bytes())
    place = choose.draw(st.integers(0, min(len(content), 200) - 1))
    content[place : place + choose.draw(st.sampled_from([0, 1, 64]))] = choose.draw(
        st.binary(max_size=8)
    )
    file.write_bytes(content)
    if (loaded := load_or_refuse(folder)) is not None:
        loaded.check()


# --- memory


def test_loading_takes_little_more_than_the_data(tmp_path, monkeypatch):
    """A tenth of 5,000 episodes of StarCraft II's 2s3z, with buffers a tenth of the real ones."""
    data = even_data(500, 60, Sizes(n_agents=5, n_actions=11, obs=80, state=120))
    data.obs[:] = np.arange(data.obs.size).reshape(data.obs.shape) % 1000
    write_h5(data, tmp_path / "own.h5")
    write_cfcql(data, tmp_path / "cfcql.h5", rows=121)
    n_bytes = data.n_bytes
    assert n_bytes > 60 << 20
    del data
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", reader_module.BLOCK_BYTES // 10)
    monkeypatch.setattr(episode_data, "ROWS_PER_CHECK", episode_data.ROWS_PER_CHECK // 10)
    for name in ("own.h5", "cfcql.h5"):
        tracemalloc.start()
        load_dataset(tmp_path / name)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.3 * n_bytes, name
