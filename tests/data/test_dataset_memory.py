"""Memory: false claims are not allocated, and loading takes little more than the data."""

from types import SimpleNamespace

import h5py
import numpy as np
import psutil
import pytest
from bounded_memory import bounded, measured
from public_layouts import padded_arrays, write_cfcql

from inspo.data import episode_data
from inspo.data.formats import ROW_FIELDS, Sizes, h5_files, load_dataset, write_h5
from inspo.data.formats import reader as reader_module
from inspo.data.formats.schema import empty_data
from inspo.utils.errors import DatasetError

METADATA = {"environment": "test", "env_args": {}, "behaviour": "none", "command": "pytest"}
pytestmark = pytest.mark.usefixtures("_no_child")


def even_data(n_episodes, length, sizes):
    """Zeros, in episodes of one length that all terminate."""
    data = empty_data(sizes, np.full(n_episodes, length), METADATA, "zeros")
    for name in ROW_FIELDS:
        getattr(data, name)[:] = name == "avail_actions"
    data.terminated[data.final_rows - 1] = True
    return data


def test_a_chunk_too_large_to_unpack_is_refused(data, tmp_path, monkeypatch):
    write_h5(data, tmp_path / "data.h5")
    monkeypatch.setattr(h5_files, "CHUNK_BYTES", 1000)
    message = "field 'obs': packed in chunks of 1560 bytes; at most 1000"
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "data.h5")


def test_a_padded_claim_is_not_allocated(data, tmp_path):
    """A CFCQL file whose T is longer than any episode, filled with compressed zeros: a bomb."""
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        for name, array in padded_arrays(data).items():
            shape = (6, 10**8, *array.shape[2:])
            chunks = (1, 64, *array.shape[2:])
            file.create_dataset(name, shape, array.dtype, chunks=chunks, compression="gzip")
            file[name][:, :6] = array
    with pytest.raises(DatasetError, match=r"bomb\.h5:\n.*field 'state': claims shape"):
        bounded(lambda: load_dataset(tmp_path / "bomb.h5"))


def test_packed_zeros_are_refused_where_they_do_not_fit(tmp_path, monkeypatch):
    """Zeros that gzip really compresses a thousandfold. They are refused before they are read."""
    write_h5(even_data(10, 20_000, Sizes(3, 4, 5, 7)), tmp_path / "zeros.h5")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 20))
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 1 << 18)
    with pytest.raises(DatasetError, match=r"zeros\.h5: needs .* GiB of memory"):
        bounded(lambda: load_dataset(tmp_path / "zeros.h5"))


def test_loading_takes_little_more_than_the_data(tmp_path, monkeypatch):
    """A tenth of 5,000 episodes of StarCraft II's 2s3z, with buffers a tenth of the usual ones."""
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
        _, peak = measured(lambda name=name: load_dataset(tmp_path / name))
        assert peak < 1.3 * n_bytes, name
