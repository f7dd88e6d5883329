"""OG-MARL's Vaults give the recorded episodes, and damaged ones are refused."""

import json

import numpy as np
import pytest
from public_layouts import blank_finals, ended, vault_leaves, write_vault

from inspo.data.formats import load_dataset
from inspo.data.formats import reader as reader_module
from inspo.data.formats.schema import same_content
from inspo.utils.errors import DatasetError

pytest.importorskip("tensorstore")


@pytest.fixture(params=[1 << 25, 300], ids=["one block", "many blocks"])
def _block_bytes(request, monkeypatch):
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", request.param)


@pytest.mark.usefixtures("_block_bytes")
def test_vault(data, tmp_path, caplog):
    data = ended(data, truncated=[3])
    leaves = vault_leaves(data)
    unfinished = {name: np.concatenate([array, array[:2]]) for name, array in leaves.items()}
    write_vault(unfinished, tmp_path / "2s3z.vlt" / "Good")
    loaded = load_dataset(tmp_path / "2s3z.vlt")  # one uid: no need to name it
    assert loaded.lengths.tolist() == [5, 1, 3, 3, 2, 5]
    expected = blank_finals(data, [0, 1, 2, 4, 5])
    keep = np.setdiff1d(np.arange(26), [expected.final_rows[3]])
    for name in ("state", "obs", "avail_actions", "terminated"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(expected, name)[keep])
    cut = loaded.final_rows[3]
    assert (loaded.reward[cut], loaded.truncated[cut - 1], loaded.truncated.sum()) == (0, True, 1)
    np.testing.assert_array_equal(loaded.reward[:cut], expected.reward[:cut])
    assert "last 2 rows belong to an unfinished episode" in caplog.text


def test_a_vault_s_dead_agents_do_not_end_an_episode(data, tmp_path):
    data = ended(data)
    leaves = vault_leaves(data)
    leaves["terminals"][:, 1] = 1  # agent 1 died early, everywhere
    write_vault(leaves, tmp_path / "Good")
    assert same_content(load_dataset(tmp_path / "Good"), blank_finals(data)) == ""


def test_a_vault_without_states_and_legal_actions(data, tmp_path):
    data = ended(data)
    leaves = vault_leaves(data)
    del leaves["infos.legals"], leaves["infos.state"], leaves["truncations"]
    leaves["rewards"] = leaves["rewards"] * np.array([1, 2, 3], np.float32)
    write_vault(leaves, tmp_path / "Good")
    loaded = load_dataset(tmp_path / "Good", reward_scalarisation="mean")
    np.testing.assert_array_equal(loaded.state, blank_finals(data).obs.reshape(len(data.obs), -1))
    np.testing.assert_allclose(loaded.reward, 2 * data.reward, rtol=1e-6)
    assert loaded.avail_actions[loaded.is_step].all()
    assert {"state", "reward_scalarisation", "final_observation"} <= {*loaded.metadata}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"terminals": None}, "field 'terminals': missing"),
        ({"actions": np.zeros((20, 3, 2), np.float32)}, "field 'actions': has shape .* continuous"),
        ({"observations": np.zeros((20, 2, 5), np.float32)}, "disagree on the number of agents"),
        ({"terminals": np.zeros((20, 3), np.float32)}, "field 'terminals': no episode ends"),
        (
            {"terminals": np.full((20, 3), np.nan, np.float32)},
            "'terminals': must hold 0 and 1 only, not nan at row 0",
        ),
        (
            {"truncations": np.full((20, 3), 0.5, np.float32)},
            "field 'truncations': must hold 0 and 1 only, not 0.5",
        ),
        (
            {"actions": np.full((20, 3), 2**63 - 1), "infos.legals": None},
            "'actions': the largest is 9223372036854775807",
        ),
        (
            {"observations": np.full((20, 3, 5), -np.inf, np.float32)},
            "'obs': NaN or infinity at episode 0, step 0",
        ),
    ],
)
def test_a_damaged_vault_is_refused(data, tmp_path, change, message):
    leaves = vault_leaves(data) | {"truncations": np.zeros((20, 3), np.float32)} | change
    write_vault(
        {name: array for name, array in leaves.items() if array is not None}, tmp_path / "Good"
    )
    with pytest.raises(DatasetError, match=message):
        load_dataset(tmp_path / "Good")


@pytest.mark.parametrize("index", [np.array([np.nan]), np.array([5.5]), np.array([3, 4])])
def test_an_index_that_is_no_number_of_rows_is_refused(data, tmp_path, index):
    write_vault(vault_leaves(ended(data)), tmp_path / "Good", index=index)
    with pytest.raises(DatasetError, match=r"field 'vault_index': holds .*, not one whole number"):
        load_dataset(tmp_path / "Good")


def test_a_vault_with_lost_files_versions_or_several_uids_is_refused(data, tmp_path):
    for uid in ("Good", "Poor"):
        write_vault(vault_leaves(ended(data)), tmp_path / uid)
    with pytest.raises(
        DatasetError, match="several datasets; give the path of one of them: Good, Poor"
    ):
        load_dataset(tmp_path)
    (tmp_path / "Good" / "metadata.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(DatasetError, match="Vault version 2"):
        load_dataset(tmp_path / "Good")
    for file in (tmp_path / "Poor" / "d").iterdir():
        file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(DatasetError, match="damaged"):
        load_dataset(tmp_path / "Poor")


def test_a_vault_that_flashbax_wrote(data, tmp_path):
    vault = pytest.importorskip("flashbax.vault")
    jnp = pytest.importorskip("jax.numpy")
    from flashbax.buffers.trajectory_buffer import TrajectoryBufferState

    data = ended(data)
    leaves = {name: jnp.asarray(array[None]) for name, array in vault_leaves(data).items()}
    experience = {name: array for name, array in leaves.items() if "." not in name}
    experience["infos"] = {"legals": leaves["infos.legals"], "state": leaves["infos.state"]}
    rows = leaves["actions"].shape[1]
    store = vault.Vault(
        "x.vlt", experience_structure=experience, rel_dir=str(tmp_path), vault_uid="Good"
    )
    state = TrajectoryBufferState(
        experience=experience, current_index=jnp.array(0), is_full=jnp.array(True)
    )
    assert store.write(state, source_interval=(0, rows)) == rows
    assert same_content(load_dataset(tmp_path / "x.vlt" / "Good"), blank_finals(data)) == ""
