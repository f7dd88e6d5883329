"""Other projects' datasets are recognised by their content, and give the recorded episodes."""

import h5py
import numpy as np
import pytest
from conftest import make_data
from public_layouts import (
    blank_finals,
    ended,
    padded_arrays,
    without_final_rows,
    write_alberdice,
    write_cfcql,
    write_offpymarl,
    write_omiga,
)

from inspo.data.formats import find_public, h5_files, load_dataset, open_dataset, write_h5
from inspo.data.formats import reader as reader_module
from inspo.data.formats.schema import same_content, subset_of
from inspo.utils.errors import DatasetError

CHECK_IN_CHILD = h5_files.check_in_child
pytestmark = pytest.mark.usefixtures("_no_child")


@pytest.fixture(params=[1 << 25, 300], ids=["one block", "many blocks"])
def _block_bytes(request, monkeypatch):
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("_block_bytes")
@pytest.mark.parametrize("name", ["2s3z_medium.h5", "whatever"])
def test_cfcql(data, tmp_path, name):
    write_cfcql(data, tmp_path / name, rows=9)
    with open_dataset(tmp_path / name) as reader:
        assert reader.layout == "CFCQL's h5"
    assert load_dataset(tmp_path / name).fingerprint == data.fingerprint


@pytest.mark.usefixtures("_block_bytes")
def test_offpymarl_parts_in_the_order_of_their_numbers(tmp_path):
    data = make_data(lengths=(3, 1, 2, 4, 2, 5, 3, 3, 2, 1, 4, 5))
    arrays = padded_arrays(data)
    parts = [{name: array[k : k + 1] for name, array in arrays.items()} for k in range(12)]
    write_offpymarl(parts, tmp_path / "medium")
    with open_dataset(tmp_path / "medium") as reader:
        assert reader.layout == "OffPyMARL's h5 parts"
    loaded = load_dataset(tmp_path / "medium")
    assert loaded.fingerprint == data.fingerprint
    assert load_dataset(tmp_path / "medium", max_episodes=3).n_episodes == 3
    assert (
        load_dataset(tmp_path / "medium" / "part_3.h5").fingerprint
        == subset_of(data, np.array([3])).fingerprint
    )


@pytest.mark.usefixtures("_block_bytes")
def test_offpymarl_converted_from_a_vault_has_no_final_observation(data, tmp_path, caplog):
    data = ended(data)
    write_offpymarl([without_final_rows(padded_arrays(data))], tmp_path / "good")
    loaded = load_dataset(tmp_path / "good")
    assert same_content(loaded, blank_finals(data)) == ""
    assert "no final observations" in caplog.text
    assert loaded.metadata["final_observation"].startswith("zeros")


def test_a_cut_episode_without_final_observation_loses_its_last_step(data, tmp_path):
    data = ended(data, truncated=[3])
    write_offpymarl([without_final_rows(padded_arrays(data))], tmp_path / "good")
    loaded = load_dataset(tmp_path / "good")
    assert loaded.lengths.tolist() == [5, 1, 3, 3, 2, 5]
    start, first = loaded.starts[3], data.starts[3]
    np.testing.assert_array_equal(loaded.obs[start : start + 4], data.obs[first : first + 4])
    np.testing.assert_array_equal(
        loaded.avail_actions[start : start + 4], data.avail_actions[first : first + 4]
    )
    assert loaded.reward[start + 3] == 0
    assert loaded.truncated[start + 2]


def test_final_observations_of_some_episodes_only_are_refused(data, tmp_path):
    arrays, short = padded_arrays(ended(data)), without_final_rows(padded_arrays(data))
    mixed = {name: np.concatenate([arrays[name][:2], short[name][2:]]) for name in arrays}
    write_offpymarl([mixed], tmp_path / "good")
    with pytest.raises(
        DatasetError,
        match=r"'terminated': set in the last filled row of episode 2, .* of episode 0",
    ):
        load_dataset(tmp_path / "good")


def test_parts_that_do_not_fit_together_are_refused(data, tmp_path):
    write_offpymarl([padded_arrays(data), padded_arrays(make_data(n_agents=2))], tmp_path / "good")
    with pytest.raises(DatasetError, match="part 1: field 'obs': has episodes of shape"):
        load_dataset(tmp_path / "good")


@pytest.mark.usefixtures("_block_bytes")
@pytest.mark.parametrize("onehot", [False, True])
def test_omiga(data, tmp_path, onehot):
    data = ended(data, truncated=[5])
    data.avail_actions[:] = True
    write_omiga(data, tmp_path / "x.hdf5", onehot)
    with h5py.File(tmp_path / "x.hdf5", "r+") as file:
        file["d"][-1] = 0  # the recording was stopped in the last episode
    with open_dataset(tmp_path / "x.hdf5") as reader:
        assert reader.layout == "OMIGA's hdf5"
    assert load_dataset(tmp_path / "x.hdf5").fingerprint == data.fingerprint


def test_omiga_states_of_each_agent_are_put_side_by_side(data, tmp_path):
    write_omiga(data, tmp_path / "x.hdf5")
    with h5py.File(tmp_path / "x.hdf5", "r+") as file:
        file["s"][-1, 2, 0] = 5
    loaded = load_dataset(tmp_path / "x.hdf5")
    np.testing.assert_array_equal(loaded.state[:-1], np.tile(data.state[:-1], 3))
    assert loaded.state[-1, 14] == 5


def put(file, name, values):
    del file[name]
    file[name] = values


def test_omiga_the_last_row_without_a_step_is_left_out(data, tmp_path, caplog):
    write_omiga(data, tmp_path / "x.hdf5")
    with h5py.File(tmp_path / "x.hdf5", "r+") as file:
        for name in "soar":
            put(file, name, np.concatenate([file[name], file[name][:1]]))
        put(file, "d", np.append(file["d"], 0))
    loaded = load_dataset(tmp_path / "x.hdf5")
    np.testing.assert_array_equal(loaded.lengths, data.lengths)
    np.testing.assert_array_equal(loaded.obs, data.obs)
    assert "the last row begins an episode" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda file: file["a"].write_direct(np.full(file["a"].shape, 0.5)),
            "field 'a': has shape .* continuous",
        ),
        (
            lambda file: file["d"].write_direct(np.full(file["d"].shape, 2.0)),
            "field 'd': must hold 0 and 1 only",
        ),
        (
            lambda file: file["d"].write_direct(np.ones(file["d"].shape)),
            "field 'd': an episode of one row",
        ),
        (
            lambda file: file["a"].write_direct(np.full(file["a"].shape, -1.0)),
            "every action is negative",
        ),
        (
            lambda file: file["a"].write_direct(np.full(file["a"].shape, 2.0**62)),
            "'actions': the largest is 4611686",
        ),
        (
            lambda file: (
                [put(file, name, file[name][:1]) for name in "soar"] + [put(file, "d", [0])]
            ),
            "one row only",
        ),
        (
            lambda file: (file.pop("r"), file.create_dataset("r", data=np.zeros((26, 2)))),
            "its last axis must be 1",
        ),
        (
            lambda file: file["o"].write_direct(np.full(file["o"].shape, -np.inf, "f4")),
            "'obs': NaN or infinity",
        ),
    ],
)
def test_a_damaged_omiga_file_is_refused(data, tmp_path, change, message):
    write_omiga(data, tmp_path / "x.hdf5")
    with h5py.File(tmp_path / "x.hdf5", "r+") as file:
        change(file)
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "x.hdf5")


def test_folders_are_found_as_they_were_downloaded(data, tmp_path):
    assert find_public(tmp_path, "2s3z", "medium") is None
    (tmp_path / "offline_datasets").mkdir()
    write_cfcql(data, tmp_path / "offline_datasets" / "2s3z_medium_replay.h5")
    arrays = padded_arrays(data)
    for token in ("seed_1_10_00_00", "seed_1_09_00_00"):
        write_offpymarl(
            [arrays], tmp_path / "dataset" / "sc2" / "3s_vs_5z" / "medium-replay" / token
        )
    write_offpymarl([arrays], tmp_path / "6h_vs_8z" / "expert")
    found = find_public(tmp_path, "2s3z", "medium-replay")
    assert found == tmp_path / "offline_datasets" / "2s3z_medium_replay.h5"
    found = find_public(tmp_path, "3s_vs_5z", "medium_replay")
    assert found.name == "seed_1_10_00_00"
    found = find_public(tmp_path, "6h_vs_8z", "expert")
    assert load_dataset(found).fingerprint == data.fingerprint
    assert find_public(tmp_path, "6h_vs_8z", "medium") is None
    uid = tmp_path / "vaults" / "cfcql" / "smac_v1" / "5m_vs_6m.vlt" / "Medium-Replay"
    uid.mkdir(parents=True)
    (uid / "manifest.ocdbt").touch()
    assert find_public(tmp_path, "5m_vs_6m", "medium_replay") == uid


def test_an_alberdice_buffer_is_recognised(data, tmp_path):
    write_alberdice(data, tmp_path / "buffer")
    with open_dataset(tmp_path / "buffer") as reader:
        assert reader.layout == "AlberDICE's npy folder"
        assert [block.n_episodes for block in reader.blocks()] == [6]


@pytest.mark.parametrize(
    "fate", ["while True: pass", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"]
)
def test_a_file_on_which_the_h5_library_hangs_or_crashes_is_refused(
    data, tmp_path, monkeypatch, fate
):
    write_cfcql(data, tmp_path / "old.h5")
    write_h5(data, tmp_path / "new.h5")
    CHECK_IN_CHILD(tmp_path / "old.h5")
    monkeypatch.setattr(h5_files, "PROBE", fate)
    monkeypatch.setattr(h5_files, "PROBE_SECONDS", 1)
    monkeypatch.setattr(h5_files, "check_in_child", CHECK_IN_CHILD)
    with pytest.raises(
        DatasetError, match=r"old\.h5: cannot be read as h5 \(damaged\?\): .* hangs or crashes"
    ):
        load_dataset(tmp_path / "old.h5")
    load_dataset(tmp_path / "new.h5")  # its damage would be detected


def test_the_layout_nearest_to_an_unknown_file_is_named(data, tmp_path):
    write_cfcql(data, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["filled"]
    with pytest.raises(
        DatasetError, match="nearest to CFCQL's or OffPyMARL's h5, but field 'filled' is missing"
    ):
        load_dataset(tmp_path / "x.h5")


@pytest.mark.parametrize("names", [["2s3z_expert.h5", "2s3z_medium.h5"], ["2s3z_medium.h5"]])
def test_a_folder_of_cfcql_s_files_is_no_dataset(data, tmp_path, names):
    for name in names:
        write_cfcql(data, tmp_path / name)
    with pytest.raises(
        DatasetError,
        match=f"is not one dataset; give the path of a file in it: {', '.join(names)}\n",
    ):
        load_dataset(tmp_path)


def test_files_in_one_folder_need_not_be_parts(data, tmp_path):
    """The names of parts differ only in a number. Otherwise two qualities would become one."""
    arrays = padded_arrays(data)
    write_offpymarl([arrays, arrays], tmp_path / "both")
    assert load_dataset(tmp_path / "both").n_episodes == 2 * data.n_episodes
    (tmp_path / "both" / "part_1.h5").rename(tmp_path / "both" / "expert.h5")
    with pytest.raises(DatasetError, match=r"give the path of a file in it: expert.h5, part_0.h5"):
        load_dataset(tmp_path / "both")
    with pytest.raises(DatasetError, match="neither a file nor a folder"):
        load_dataset("/dev/null")
