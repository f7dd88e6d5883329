"""Small files that unpack to something enormous are refused before anything is unpacked."""

import io
import itertools
import json
import os
import struct
import zipfile
import zlib
from types import SimpleNamespace

import h5py
import numpy as np
import psutil
import pytest
from bounded_memory import bounded
from conftest import make_data
from damage import all_available
from public_layouts import padded_arrays, vault_leaves, write_alberdice, write_minari, write_vault

from inspo.data.formats import ROW_FIELDS, load_dataset, write_h5
from inspo.utils.errors import DatasetError

MANY = 1 << 22  # episodes or rows
FREE = 1 << 26  # bytes of memory that seem to be free
CLAIM = "claims {} {}; to list them takes about [0-9.]+ GiB of memory, 0.1 GiB are free"
pytestmark = pytest.mark.usefixtures("_no_child")


@pytest.fixture(autouse=True)
def _little_memory(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=FREE))


def pack(group, name, shape, dtype, value=0):
    """A compressed array of equal numbers. One chunk is compressed, and stored many times."""
    if name in group:
        del group[name]
    row_bytes = int(np.prod(shape[1:], dtype=int)) * np.dtype(dtype).itemsize
    chunk = (min(shape[0], max(1, (1 << 22) // row_bytes)), *shape[1:])
    array = group.create_dataset(name, shape, dtype, chunks=chunk, compression="gzip")
    content = zlib.compress(np.full(chunk, value, dtype).tobytes())
    grid = [range(0, size, step) for size, step in zip(shape, chunk, strict=True)]
    for place in itertools.product(*grid):
        array.id.write_direct_chunk(place, content)


def lengths_of_own_h5(path):
    write_h5(make_data(), path)
    with h5py.File(path, "r+") as file:
        pack(file, "lengths", (MANY,), np.int64, 1)
    return path


def padded_h5(path):
    path.mkdir()
    with h5py.File(path / "part_0.h5", "w") as file:
        for name, array in padded_arrays(make_data()).items():
            shape = (MANY, 2, *(1 for _ in array.shape[2:]))
            pack(file, name, shape, array.dtype, name == "filled")
    return path


def cfcql(path):
    os.rename(padded_h5(path) / "part_0.h5", path / "x.h5")
    with h5py.File(path / "x.h5", "r+") as file:
        file["probs"] = np.zeros(1)
    return path / "x.h5"


def omiga(path):
    with h5py.File(path, "w") as file:
        for name, n_axes in {"s": 3, "o": 3, "a": 2, "r": 1, "d": 1}.items():
            pack(file, name, (MANY, 1, 1)[:n_axes], np.uint8)
    return path


def minari(path):
    write_minari(all_available(make_data()), path)
    (path / "data" / "metadata.json").unlink()
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as file:
        group = file["episode_0"]
        for name in ("actions", "rewards", "terminations", "truncations"):
            pack(group, name, (MANY,), group[name].dtype)
        pack(group, "observations", (MANY + 1, 5), np.float32)
    return path


def zip_of(path, arrays, replace):
    """An npz file. `replace` has other content for some arrays, as blocks of bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as file:
                if name not in replace:
                    np.lib.format.write_array(file, array)
                for block in replace.get(name, []):
                    file.write(block)
    return path


def npy_header(array, shape):
    header = io.BytesIO()
    described = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(header, described | {"shape": shape})
    return header.getvalue()


def own_arrays():
    data = make_data()
    return {name: getattr(data, name) for name in ("lengths", *ROW_FIELDS)}


def npz_lengths(path):
    arrays = own_arrays()
    zeros = [bytes(1 << 20)] * 10
    header = npy_header(arrays["lengths"], (5 << 18,))
    return zip_of(path, arrays, {"lengths": [header, *zeros]})


def npz_header(path):
    header = b"\x93NUMPY\x02\x00" + struct.pack("<I", 20 << 20)
    return zip_of(path, own_arrays(), {"obs": [header, *[bytes(1 << 20)] * 20]})


def npz_lying(path):
    """The archive states larger sizes than it has."""
    arrays = own_arrays()
    header = npy_header(arrays["obs"], (10**7, *arrays["obs"].shape[1:]))
    zip_of(path, arrays, {"obs": [header, bytes(1000)]})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"obs.npy"))
    struct.pack_into("<II", content, entry + 20, 0xFFFFFFF0, 0xFFFFFFF0)
    path.write_bytes(content)
    return path


def npz_padded(path):
    arrays = padded_arrays(make_data())
    zeros = [bytes(1 << 20)] * 16
    packed = {}
    for name in ("obs", "state", "filled", "avail_actions"):
        array = arrays[name]
        shape = ((16 << 20) // array[0].nbytes, *array.shape[1:])
        packed[name] = [npy_header(array, shape), *zeros]
    return zip_of(path, arrays, packed)


def npy_folder(path):
    arrays = write_alberdice(make_data(), path)
    for name, array in arrays.items():
        with (path / f"{name}.npy").open("wb") as file:
            header = npy_header(array, (MANY, *array.shape[1:]))
            file.write(header)
            file.truncate(len(header) + MANY * array[0].nbytes)
    (path / "meta.json").write_text(json.dumps({"episodes_in_buffer": MANY}))
    return path


def npy_header_in_folder(path):
    write_alberdice(make_data(), path)
    with (path / "obs.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00" + struct.pack("<I", 80 << 20))
        file.truncate(100 << 20)
    return path


def large_text(path):
    write_alberdice(make_data(), path)
    os.truncate(path / "meta.json", 100 << 20)
    return path


def vault_rows(path):
    write_vault(vault_leaves(make_data()), path, index=np.array([MANY]))
    with (path / "more").open("wb") as file:
        file.truncate(1 << 34)
    return path


def vault_text(path):
    write_vault(vault_leaves(make_data()), path)
    os.truncate(path / "metadata.json", 100 << 20)
    return path


def vault_chunk(path):
    import tensorstore as ts

    write_vault(vault_leaves(make_data()), path)
    spec = {"driver": "ocdbt", "base": f"file://{path}", "path": "observations./"}
    store = ts.KvStore.open(spec).result()
    about = json.loads(store.read(".zarray").result().value)
    about["chunks"][1] = 1 << 25
    store.write(".zarray", json.dumps(about).encode()).result()
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lengths_of_own_h5, CLAIM.format(MANY, "episodes")),
        (padded_h5, CLAIM.format(MANY, "episodes")),
        (cfcql, CLAIM.format(MANY, "episodes")),
        (omiga, CLAIM.format(MANY, "rows")),
        (minari, "needs 0.[0-9] GiB of memory, 0.1 GiB are free"),
        (npz_lengths, CLAIM.format(5 << 18, "episodes")),
        (npz_header, "field 'obs': .*its header claims 20971520 bytes"),
        (npz_lying, r"field 'obs': claims shape \(10000000, 3, 5\), 600000000 bytes; .* stores"),
        (npz_padded, "needs 0.1 GiB of memory, 0.1 GiB are free"),
        (npy_folder, CLAIM.format(MANY, "episodes")),
        (npy_header_in_folder, "obs.npy: .*its header claims 83886080 bytes"),
        (large_text, "meta.json .* too large: at most 16 MiB are read"),
        (vault_rows, CLAIM.format(MANY, "rows")),
        (vault_text, "metadata.json .* too large: at most 16 MiB are read"),
        (vault_chunk, "packed in chunks of [0-9]+ bytes; at most 268435456 are unpacked"),
    ],
)
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, make, message):
    if make.__name__.startswith("vault"):
        pytest.importorskip("tensorstore", reason="reading Vaults needs tensorstore")
    path = make(tmp_path / "bomb")
    with pytest.raises(DatasetError, match=message) as caught:
        bounded(lambda: load_dataset(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("libver", ["earliest", "v110"])
def test_groups_that_lead_back_to_themselves_are_visited_once(tmp_path, libver):
    """By name, there are 300 to the power of 4 groups."""
    with h5py.File(tmp_path / "x.h5", "w", libver=libver) as file:
        group = file.create_group("group")
        for number in range(300):
            group[f"group_{number}"] = group
    with pytest.raises(DatasetError, match="is an h5 file without arrays"):
        load_dataset(tmp_path / "x.h5")
