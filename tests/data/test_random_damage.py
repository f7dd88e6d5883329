"""Files with random damage are refused, or mean the same as before."""

import damage
import h5py
import numpy as np
import pytest
from conftest import make_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from public_layouts import write_alberdice, write_cfcql

from inspo.data.formats import ROW_FIELDS, h5_files, load_dataset, write_h5
from inspo.utils.errors import DatasetError

CHECK_IN_CHILD = h5_files.check_in_child
pytestmark = pytest.mark.usefixtures("_no_child")
SLOW_IS_FINE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
# What is done to a field as a whole.
CHANGES = {
    "swap": lambda values: values.swapaxes(0, -1),
    "reverse": lambda values: values[::-1],
    "double": lambda values: np.concatenate([values, values]),
    "axis": lambda values: values[..., None],
}
NUMBERS = st.sampled_from([np.nan, np.inf, -1.0, 0.5, 1e300, 2.0**63, 0.0, 1.0])
DTYPES = st.sampled_from(["f2", "f8", "i1", "i8", "u8", "?", "S3", "c8", ">f4"])


def tries(count):
    """So many random examples, the same in every run."""
    return settings(
        max_examples=count, deadline=None, derandomize=True, suppress_health_check=SLOW_IS_FINE
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A valid file of this project, its content, and a path for damaged copies."""
    folder = tmp_path_factory.mktemp("sound")
    path = folder / "data.h5"
    write_h5(make_data(), path)
    return path.read_bytes(), load_dataset(path), folder / "damaged.h5"


def load_or_refuse(path):
    """The dataset, or None after an error that names the file."""
    try:
        return load_dataset(path)
    except DatasetError as error:
        message = str(error)
    assert str(path) in message
    return None


def assert_refused_or_unharmed(path, expected):
    loaded = load_or_refuse(path)
    assert loaded is None or loaded.fingerprint == expected.fingerprint


@tries(200)
@given(st.data())
def test_random_bytes(sound, choose):
    """Bytes are changed, removed or inserted anywhere."""
    content, expected, path = sound
    damaged = bytearray(content)
    for _ in range(choose.draw(st.integers(1, 3))):
        place = choose.draw(st.integers(0, len(damaged) - 1))
        length = choose.draw(st.sampled_from([0, 1, 8, 512]))
        damaged[place : place + length] = choose.draw(st.binary(max_size=16))
    path.write_bytes(damaged)
    assert_refused_or_unharmed(path, expected)


def changed(values, choose):
    """A random change of an array."""
    kind = choose.draw(st.sampled_from(["number", "dtype", "cut", *CHANGES]))
    if kind == "number":
        values = values.astype(float)
        place = choose.draw(st.integers(0, values.size - 1))
        values.flat[place] = choose.draw(NUMBERS | st.floats(-10, 10))
        return values
    if kind == "dtype":
        with np.errstate(all="ignore"):
            return values.astype(choose.draw(DTYPES))
    if kind == "cut":
        return values[: choose.draw(st.integers(0, len(values) - 1))]
    return CHANGES[kind](values)


@tries(60)
@given(st.data())
def test_random_changes_of_a_field(sound, choose):
    """A field gets other numbers, another dtype, shape or order."""
    content, expected, path = sound
    path.write_bytes(content)
    name = choose.draw(st.sampled_from(["lengths", *ROW_FIELDS]))
    with h5py.File(path, "r+") as file:
        values = changed(file[name][:], choose)
        del file[name]
        file[name] = values
    assert_refused_or_unharmed(path, expected)


@tries(60)
@given(st.data())
def test_random_changes_of_a_public_file(sound, choose):
    """Without a fingerprint other numbers may go unnoticed, but none that fail a check."""
    _, expected, path = sound
    path.unlink(missing_ok=True)
    write_cfcql(expected, path)
    with h5py.File(path, "r+") as file:
        name = choose.draw(st.sampled_from(sorted(file)))
        values = file[name][:].astype(choose.draw(st.sampled_from(["f4", "f8", "i8", "u1"])))
        place = choose.draw(st.integers(0, values.size - 1))
        number = choose.draw(st.sampled_from([np.nan, np.inf, 7, 0.5, 0]))
        with np.errstate(all="ignore"):
            values.flat[place] = np.float64(number).astype(values.dtype)
        if choose.draw(st.booleans()):
            axes = choose.draw(st.sampled_from([(0, 1), (1, 2), (0, -1)]))
            values = values.swapaxes(*axes)
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
    length = choose.draw(st.sampled_from([0, 1, 64]))
    content[place : place + length] = choose.draw(st.binary(max_size=8))
    file.write_bytes(content)
    if (loaded := load_or_refuse(folder)) is not None:
        loaded.check()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A valid dataset of every layout."""
    return damage.Originals(tmp_path_factory.mktemp("originals"))


@pytest.mark.parametrize("layout", damage.LAYOUTS)
def test_random_damage_of_every_layout(originals, monkeypatch, layout):
    """Bytes, attributes, metadata and whole files: refused in time, or without harm."""
    monkeypatch.setattr(h5_files, "check_in_child", CHECK_IN_CHILD)
    monkeypatch.setattr(h5_files, "_stops_the_library", damage.fork_probe)
    monkeypatch.setattr(h5_files, "PROBE_SECONDS", 1)
    for seed in range(12):
        result = damage.try_one(originals, layout, seed)
        assert result in ("refused", "accepted"), f"{layout}, seed {seed}"
