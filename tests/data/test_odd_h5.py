"""What h5 files may hold in a field's place: other numbers work, all else is one clear line."""

import h5py
import numpy as np
import pytest
from conftest import make_data
from damage import all_available
from public_layouts import write_cfcql, write_minari, write_omiga

from inspo.data.formats import load_dataset, write_h5
from inspo.utils.errors import DatasetError

pytestmark = pytest.mark.usefixtures("_no_child")
# Layout: how it is written, its h5 file, the group of its fields, a field of numbers, one of flags.
LAYOUTS = {
    "own": (write_h5, "", "/", "obs", "terminated"),
    "cfcql": (write_cfcql, "", "/", "obs", "terminated"),
    "omiga": (write_omiga, "", "/", "o", "d"),
    "minari": (write_minari, "data/main_data.hdf5", "episode_0", "observations", "terminations"),
}
TWO_NAMES = h5py.enum_dtype({"no": 0, "yes": 1}, "i1")


@pytest.fixture(params=LAYOUTS)
def written(request, tmp_path):
    """A dataset's path, its fingerprint, its h5 file, and the group and names of two fields."""
    write, file, group, numbers, flags = LAYOUTS[request.param]
    path = tmp_path / "data"
    data = all_available(make_data())
    data.obs[:] = np.arange(data.obs.size).reshape(data.obs.shape) % 7 - 3
    write(data, path)
    return path, load_dataset(path).fingerprint, path / file, group, numbers, flags


@pytest.mark.parametrize("dtype", ["f2", ">f4", ">i2", np.longdouble])
def test_other_kinds_of_numbers_are_the_same_numbers(written, dtype):
    path, fingerprint, file, group, name, _ = written
    with h5py.File(file, "r+") as opened:
        values = opened[group][name][:]
        del opened[group][name]
        opened[group].create_dataset(name, data=values.astype(dtype))
    assert load_dataset(path).fingerprint == fingerprint


@pytest.mark.parametrize("dtype", [bool, TWO_NAMES, ">f8"])
def test_flags_of_other_types_are_the_same_flags(written, dtype):
    path, fingerprint, file, group, _, name = written
    with h5py.File(file, "r+") as opened:
        values = opened[group][name][:]
        del opened[group][name]
        opened[group].create_dataset(name, data=values.astype("i1"), dtype=dtype)
    assert load_dataset(path).fingerprint == fingerprint


def dates(group, name, shape):
    space = h5py.h5s.create_simple(shape)
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.UNIX_D32LE, space)


def other_filter(group, name, shape):
    about = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    about.set_chunk(shape)
    about.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, ())
    space = h5py.h5s.create_simple(shape)
    array = h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, space, about)
    array.write_direct_chunk((0,) * len(shape), np.zeros(shape, "f4").tobytes())


def made(**options):
    def make(group, name, shape):
        group.create_dataset(name, **options)

    return make


REFUSED = {
    "a date": (dates, "holds no numbers that NumPy knows"),
    "a filter that is not installed": (other_filter, r"packed with the h5 filter 32001 \(.*gzip"),
    "nothing": (made(data=h5py.Empty("f4")), "there is nothing in it"),
    "a scalar": (made(data=1.5), r"has shape \(\)|is a single number"),
    "no rows": (made(shape=(0, 3, 5)), "there is nothing in it|has shape"),
    "texts": (made(shape=(3,), dtype=h5py.string_dtype()), "holds object, not numbers"),
    "records": (made(data=np.zeros(3, [("x", "f4")])), "not numbers"),
    "lists": (made(shape=(3,), dtype=h5py.vlen_dtype("f4")), "holds object, not numbers"),
    "references": (made(shape=(3,), dtype=h5py.ref_dtype), "holds object, not numbers"),
    "complex numbers": (made(data=np.zeros(3, complex)), "holds complex128, not numbers"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_array_of_numbers_is_named(written, kind):
    path, _, file, group, name, _ = written
    make, message = REFUSED[kind]
    with h5py.File(file, "r+") as opened:
        shape = opened[group][name].shape
        del opened[group][name]
        make(opened[group], name, shape)
    with pytest.raises(DatasetError, match=f"field '{name}': .*({message})") as caught:
        load_dataset(path)
    assert str(caught.value).startswith(str(path))


@pytest.fixture
def minari(tmp_path):
    write_minari(all_available(make_data()), tmp_path / "minari")
    return tmp_path / "minari"


@pytest.mark.parametrize("value", [2.0, -1.0, np.nan])
@pytest.mark.parametrize("name", ["terminations", "truncations"])
def test_minaris_flags_are_0_or_1(minari, name, value):
    """NaN and 2 count as true elsewhere: the last step would seem to end the game."""
    with h5py.File(minari / "data" / "main_data.hdf5", "r+") as file:
        flags = file["episode_1"][name][:].astype(float)
        del file["episode_1"][name]
        flags[-1] = value
        file["episode_1"][name] = flags
    problem = f"episode_1: field '{name}': must hold 0 and 1 only, not {value}"
    with pytest.raises(DatasetError, match=problem):
        load_dataset(minari)


def test_minaris_arrays_may_have_a_last_axis_of_one(minari):
    expected = load_dataset(minari).fingerprint
    with h5py.File(minari / "data" / "main_data.hdf5", "r+") as file:
        for name in ("actions", "rewards", "terminations", "truncations"):
            values = file["episode_0"][name][:]
            del file["episode_0"][name]
            file["episode_0"][name] = values[:, None]
    assert load_dataset(minari).fingerprint == expected


@pytest.mark.parametrize("number", [0, 1])
def test_an_episode_in_another_file_is_named(minari, number):
    with h5py.File(minari / "data" / "main_data.hdf5", "r+") as file:
        del file[f"episode_{number}"]
        file[f"episode_{number}"] = h5py.ExternalLink("other.h5", "episode_0")
    problem = f"minari: field 'episode_{number}': a link to another file, which is not followed"
    with pytest.raises(DatasetError, match=problem):
        load_dataset(minari)
