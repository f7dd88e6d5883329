"""`python src/dataset.py`: inspect, validate, hash and list."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import PROJECT, make_data
from public_layouts import write_alberdice, write_cfcql

from inspo import dataset
from inspo.data.formats import open_dataset, write_h5
from inspo.data.formats import reader as reader_module
from inspo.data.tools.statistics import statistics

pytestmark = pytest.mark.usefixtures("_no_child")


def run(*arguments) -> int:
    return dataset.main([str(argument) for argument in arguments])


def test_as_a_command_from_any_folder(data, tmp_path):
    """With a file name that is no text in any encoding."""
    name = os.fsdecode(b"d\xe4t\xff")
    write_cfcql(data, tmp_path / f"{name}.h5")
    command = [sys.executable, str(PROJECT / "src" / "dataset.py"), "inspect", f"{name}.h5"]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, env=env)
    assert result.returncode == 0, result.stderr
    assert b"t\\udcff.h5: CFCQL's h5" in result.stdout
    assert b"6 episodes, 20 steps" in result.stdout
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_inspect_counts_what_is_there(tmp_path):
    """Two agents who always act alike, on two states: hand-computed coverage and entropies."""
    data = make_data(n_agents=2, n_actions=3, lengths=(4, 4))
    data.avail_actions[:] = True
    data.actions[:] = np.array([0, 0, 1, 1, 0, 0, 0, 1, 1, 0])[:, None]
    data.state[:] = np.array([0, 0, 1, 1, 2, 0, 0, 1, 1, 2])[:, None]
    write_h5(data, tmp_path / "data.h5")
    with open_dataset(tmp_path / "data.h5") as reader:
        found = statistics(reader)
    np.testing.assert_allclose(found.frequencies, [[0.5, 0.5, 0]] * 2)
    assert (found.joint_actions, found.distinct_states, found.distinct_pairs) == (2, 2, 2)
    assert found.agent_entropy == pytest.approx(np.log(2) * np.ones(2))
    assert found.joint_entropy == pytest.approx(np.log(2))
    assert found.coordination == pytest.approx(np.log(2))
    assert found.joint_entropy_given_state == pytest.approx(0)
    assert found.truncated == 0.5
    assert found.returns == pytest.approx(data.returns)


def test_inspect_tells_wins_where_they_are_known(tmp_path, capsys):
    data = make_data(n_agents=5, n_actions=11)
    rows = len(data.reward)
    data.obs, data.state = np.zeros((rows, 5, 80), np.float32), np.zeros((rows, 120), np.float32)
    data.terminated[:], data.truncated[:] = False, False
    data.terminated[data.final_rows - 1] = True
    data.reward[data.final_rows - 1] = [4.2, 0.5, 3.93, 1, 2, 3]
    write_cfcql(data, tmp_path / "2s3z.h5")
    assert run("inspect", tmp_path / "2s3z.h5", "--no-png") == 0
    expected = "33.3 % of the episodes: their last reward holds the bonus for winning 2s3z"
    assert expected in capsys.readouterr().out
    data.metadata["battle_won_mean"] = 0.25
    write_h5(data, tmp_path / "own.h5")
    assert run("inspect", tmp_path / "own.h5", "--no-png") == 0
    assert "25.0 % of the episodes, according to the metadata" in capsys.readouterr().out


def test_inspect_copes_with_odd_figures_and_names(tmp_path, capsys, monkeypatch):
    """Returns that differ by rounding, very many joint actions, a name that is no formula."""
    monkeypatch.chdir(tmp_path)
    data = make_data(n_agents=3000, n_actions=30, lengths=(1, 2))
    data.reward[:] = [1e10, 0, 1e10, 1e-6, 0]
    data.metadata["battle_won_mean"] = 10**400
    write_h5(data, tmp_path / "a$^{b.h5")
    assert run("inspect", "a$^{b.h5") == 0
    out = capsys.readouterr().out
    assert "of 30^3000 seen" in out
    assert "10000000000.000 to 10000000000.000        2  ####" in out
    assert "won               unknown" in out
    assert (tmp_path / "a$^{b.png").exists()
    assert run("validate", "a$^{b.h5") == 0


def test_validate_lists_all_problems_of_the_rows(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 300)
    write_cfcql(data, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["reward"][1, 0], file["reward"][4, 1] = np.nan, np.inf
        file["obs"][3, 2, 1] = np.nan
        file["actions"][0, 3, 2] = 9
        file["avail_actions"][5, 0, 0] = 3
        file["reward"][2, 3] = 1
    assert run("validate", tmp_path / "x.h5") == 1
    out = capsys.readouterr().out
    assert "error: field 'reward': NaN or infinity at episode 1, step 0; episode 4, step 1\n" in out
    assert "error: field 'obs': NaN or infinity at episode 3, step 2, agent 1\n" in out
    assert "error: field 'actions': an action outside 0..3 at episode 0, step 3, agent 2\n" in out
    assert (
        "error: field 'avail_actions': must hold 0 and 1 only, not 3 at episode 5, step 0\n" in out
    )
    assert "error: field 'reward': a reward after the last step at episode 2, step 3\n" in out
    assert "NOT VALID, kinds of errors: 5" in out


def test_validate_accepts_and_remarks(data, tmp_path, capsys):
    write_h5(data, tmp_path / "own.h5")
    assert run("validate", tmp_path / "own.h5") == 0
    assert capsys.readouterr().out.endswith("own.h5: valid\n")
    data.reward[:] = 0
    write_alberdice(data, tmp_path / "buffer")
    assert run("validate", tmp_path / "buffer") == 0
    out = capsys.readouterr().out
    assert "remark: every episode returns 0" in out
    assert "remark: 1 episodes have a single step" in out
    assert "remark: the metadata lacks environment, env_args, command" in out


def test_validate_lists_all_problems_of_the_structure(data, tmp_path, capsys):
    write_h5(data, tmp_path / "own.h5")
    with h5py.File(tmp_path / "own.h5", "r+") as file:
        del file["obs"]
        del file["reward"]
        file["reward"] = np.zeros((26, 2))
    assert run("validate", tmp_path / "own.h5") == 1
    out = capsys.readouterr().out
    assert "error: field 'obs': missing\n" in out
    assert "error: field 'reward': has shape (26, 2); expected 1 axes\n" in out


def test_fetch_checks_the_form_of_the_checksum(tmp_path, capsys):
    assert run("fetch", "cfcql/smac_v1/2s3z", "--root", tmp_path, "--sha256", "00") == 2
    expected = "argument --sha256: '00' must be a SHA-256: 64 hexadecimal digits"
    assert expected in capsys.readouterr().err


def test_hash_is_the_same_in_every_layout(data, tmp_path, capsys):
    write_h5(data, tmp_path / "own.h5")
    write_alberdice(data, tmp_path / "buffer")
    for name in ("own.h5", "buffer"):
        assert run("hash", tmp_path / name) == 0
        assert capsys.readouterr().out.startswith(f"{data.fingerprint}  content\n")


def test_list_shows_known_datasets_and_those_on_the_disk(data, tmp_path, capsys):
    write_h5(data, tmp_path / "mine.h5")
    write_alberdice(data, tmp_path / "buffer")
    (tmp_path / "broken.h5").write_bytes(b"x")
    (tmp_path / "vaults" / "cfcql" / "smac_v1" / "2s3z.vlt").mkdir(parents=True)
    assert run("list", "--root", tmp_path) == 0
    out = capsys.readouterr().out
    assert re.search(r"bridge_offline +optimal, mixed\n", out)
    assert out.count("hesitant (on SMAX, 2s3z)") == 1
    assert f"cfcql/smac_v1/2s3z              here: {tmp_path}" in out
    assert "mine.h5  6 episodes, this project's h5\n" in out
    assert "buffer  6 episodes, AlberDICE's npy folder\n" in out
    assert "broken.h5  cannot be used: cannot be read as h5" in out


def test_list_searches_all_folders_and_creates_none(data, tmp_path, capsys, monkeypatch):
    for name in ("2s3z_medium.h5", "2s3z_expert.h5"):
        (tmp_path / "root" / "offline_datasets").mkdir(parents=True, exist_ok=True)
        write_cfcql(data, tmp_path / "root" / "offline_datasets" / name)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_h5(data, elsewhere / "mine.h5")
    (elsewhere / "back").symlink_to(tmp_path / "root")
    (tmp_path / "root" / "link").symlink_to(elsewhere)
    (tmp_path / "root" / "locked").mkdir()
    iterdir = Path.iterdir

    def locked(folder):  # by hand, because root may read everything
        if folder.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", locked)
    assert run("list", "--root", tmp_path / "root") == 0
    found = capsys.readouterr().out.partition("On this disk")[2].splitlines()[1:]
    assert found == [
        "  link/mine.h5  6 episodes, this project's h5",
        "  locked  cannot be read: Permission denied",
        "  offline_datasets/2s3z_expert.h5  6 episodes, CFCQL's h5",
        "  offline_datasets/2s3z_medium.h5  6 episodes, CFCQL's h5",
    ]
    assert run("list", "--root", tmp_path / "nowhere") == 0
    assert "scripted (on SMAX" in capsys.readouterr().out
    assert not (tmp_path / "nowhere").exists()
