"""`python src/dataset.py`: what it says, what it writes, how it fails."""

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch as th
from conftest import PROJECT, make_args, make_buffer, make_data
from foreign_layouts import write_alberdice, write_cfcql, write_omiga

import dataset
from components.formats import load_dataset, open_dataset, write_h5
from components.formats import reader as reader_module
from components.formats.schema import same_content, subset_of
from controllers import BasicMAC
from dataset_tools import rewrite
from dataset_tools.statistics import statistics
from learners.bc_learner import BCLearner

pytestmark = pytest.mark.usefixtures("_no_child")


def run(*arguments) -> int:
    return dataset.main([str(argument) for argument in arguments])


def test_as_a_command_from_any_folder(data, tmp_path):
    write_cfcql(data, tmp_path / "foreign.h5")
    command = [sys.executable, str(PROJECT / "src" / "dataset.py"), "inspect", "foreign.h5"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env={**os.environ})
    assert result.returncode == 0, result.stderr
    assert "CFCQL's h5" in result.stdout
    assert "6 episodes, 20 steps" in result.stdout
    assert (tmp_path / "foreign.png").read_bytes().startswith(b"\x89PNG")


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


def test_inspect_tells_wins_where_the_data_does(tmp_path, capsys):
    data = make_data(n_agents=5, n_actions=11)
    rows = len(data.reward)
    data.obs, data.state = np.zeros((rows, 5, 80), np.float32), np.zeros((rows, 120), np.float32)
    data.terminated[:], data.truncated[:] = False, False
    data.terminated[data.final_rows - 1] = True
    data.reward[data.final_rows - 1] = [4.2, 0.5, 3.93, 1, 2, 3]
    write_cfcql(data, tmp_path / "2s3z.h5")
    assert run("inspect", tmp_path / "2s3z.h5", "--no-png") == 0
    assert "33.3 % of the episodes: their last reward holds 2s3z's win bonus" in capsys.readouterr().out
    data.metadata["battle_won_mean"] = 0.25
    write_h5(data, tmp_path / "own.h5")
    assert run("inspect", tmp_path / "own.h5", "--no-png") == 0
    assert "25.0 % of the episodes, its maker says" in capsys.readouterr().out


def test_inspect_copes_with_odd_figures_and_names(tmp_path, capsys, monkeypatch):
    """Returns that only rounding tells apart, more joint actions than Python prints, a name that is no formula."""
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


def test_names_that_are_no_text_are_shown_somehow(data, tmp_path):
    name = os.fsdecode(b"d\xe4t\xff.h5")
    write_h5(data, tmp_path / name)
    command = [sys.executable, str(PROJECT / "src" / "dataset.py"), "inspect", name]
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, env=env)
    assert result.returncode == 0, result.stderr
    assert b"t\\udcff.h5: this project's h5" in result.stdout


def test_validate_lists_everything_at_once(data, tmp_path, capsys, monkeypatch):
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
    assert "error: field 'avail_actions': must hold 0 and 1 only, not 3 at episode 5, step 0\n" in out
    assert "error: field 'reward': a reward after the last step at episode 2, step 3\n" in out
    assert "NOT VALID, kinds of errors: 5" in out


def test_validate_says_that_all_is_well_and_what_is_odd(data, tmp_path, capsys):
    write_h5(data, tmp_path / "own.h5")
    assert run("validate", tmp_path / "own.h5") == 0
    assert capsys.readouterr().out.endswith("own.h5: valid\n")
    data.reward[:] = 0
    write_alberdice(data, tmp_path / "buffer")
    assert run("validate", tmp_path / "buffer") == 0
    out = capsys.readouterr().out
    assert "remark: every episode returns 0" in out
    assert "remark: 1 episodes have a single step" in out
    assert "remark: it does not say where it comes from: environment, env_args, command" in out


def test_validate_tells_structure_that_is_wrong(data, tmp_path, capsys):
    write_h5(data, tmp_path / "own.h5")
    with h5py.File(tmp_path / "own.h5", "r+") as file:
        del file["obs"]
        del file["reward"]
        file["reward"] = np.zeros((26, 2))
    assert run("validate", tmp_path / "own.h5") == 1
    out = capsys.readouterr().out
    assert "error: field 'obs': missing\n" in out
    assert "error: field 'reward': has shape (26, 2); expected 1 axes\n" in out


@pytest.mark.parametrize("layout", ["inspo", "offpymarl"])
@pytest.mark.parametrize("write", [write_cfcql, write_alberdice, write_omiga, write_h5])
def test_convert_loses_nothing(data, tmp_path, capsys, monkeypatch, write, layout):
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 300)
    if write is write_omiga:
        data.avail_actions[:] = True
        data.terminated |= data.truncated
        data.truncated[:] = False
    write(data, tmp_path / "source")
    said = ["--environment", "sc2", "--env-args", '{"map_name": "2s3z"}', "--behaviour", "medium"]
    if layout == "offpymarl":
        assert run("convert", tmp_path / "source", tmp_path / "target", "--to", layout, *said) == 2
        assert "--environment, --env-args, --behaviour cannot go with --to=offpymarl" in capsys.readouterr().err
        said = []
    assert run("convert", tmp_path / "source", tmp_path / "target", "--to", layout, *said) == 0
    assert "read back and found equal" in capsys.readouterr().out
    converted = load_dataset(tmp_path / "target")
    assert same_content(converted, data) == ""
    if layout == "inspo":
        metadata = {"environment": "sc2", "env_args": {"map_name": "2s3z"}, "behaviour": "medium", "episodes": 6}
        assert metadata.items() <= converted.metadata.items()
        assert "truncated" not in converted.metadata
    assert run("convert", tmp_path / "source", tmp_path / "target", "--to", layout) == 2
    assert "nothing is written over" in capsys.readouterr().err


def test_an_interrupted_conversion_goes_on(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 300)
    write_cfcql(data, tmp_path / "source.h5")
    append, blocks = rewrite.EpisodeWriter.append, []

    def interrupted(self, block):
        if len(blocks) == 2:
            raise KeyboardInterrupt
        append(self, block)
        blocks.append(block.first_episode)

    with monkeypatch.context() as patch:
        patch.setattr(rewrite.EpisodeWriter, "append", interrupted)
        assert run("convert", tmp_path / "source.h5", tmp_path / "target.h5") == 130
    assert "The same command goes on" in capsys.readouterr().err
    assert not (tmp_path / "target.h5").exists()
    blocks.clear()
    monkeypatch.setattr(rewrite.EpisodeWriter, "append", lambda self, b: (append(self, b), blocks.append(b)))
    assert run("convert", tmp_path / "source.h5", tmp_path / "target.h5") == 0
    assert blocks[0].first_episode > 0
    assert load_dataset(tmp_path / "target.h5").fingerprint == data.fingerprint
    assert {path.name for path in tmp_path.iterdir()} == {"source.h5", "target.h5"}


@pytest.mark.parametrize(
    ("layout", "killed_in"), [("inspo", "own.fingerprint_of"), ("offpymarl", "pymarl_h5.Progress.advance")]
)
def test_a_killed_conversion_leaves_nothing_behind(data, tmp_path, layout, killed_in):
    """SIGKILL while the final file is being written; the same command then does it, and only source and target stay."""
    write_cfcql(data, tmp_path / "source.h5")
    (tmp_path / "target").mkdir()
    target = tmp_path / "target" / "part_0.h5"
    script = f"""
        import os, signal, sys
        sys.path.insert(0, {str(PROJECT / "src")!r})
        import dataset
        from components.formats import own, pymarl_h5
        {killed_in} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        dataset.main(sys.argv[1:])
    """
    arguments = ["convert", str(tmp_path / "source.h5"), str(target), "--to", layout]
    command = [sys.executable, "-c", textwrap.dedent(script), *arguments]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == -9
    assert not target.exists()
    assert list((tmp_path / "target").rglob("*.part"))
    assert run(*arguments) == 0
    assert same_content(load_dataset(target), data) == ""
    assert [path.name for path in (tmp_path / "target").iterdir()] == ["part_0.h5"]


def test_a_folder_with_something_in_it_gets_no_part(data, tmp_path, capsys):
    """Into the source's own folder least of all, which would then be read as OffPyMARL's."""
    write_alberdice(data, tmp_path / "buffer")
    before = sorted((tmp_path / "buffer").iterdir())
    assert run("convert", tmp_path / "buffer", tmp_path / "buffer", "--to", "offpymarl") == 2
    assert "is not an empty folder; nothing is written over" in capsys.readouterr().err
    assert sorted((tmp_path / "buffer").iterdir()) == before


def test_what_is_wrong_with_a_source_is_told_in_its_own_numbers(data, tmp_path, capsys):
    data.reward[data.starts[4]] = np.nan
    write_cfcql(data, tmp_path / "bad.h5")
    place = f"{tmp_path / 'bad.h5'}: field 'reward': NaN or infinity at episode 4, step 0"
    assert run("subset", tmp_path / "bad.h5", "--episodes", "3:6", "--out", tmp_path / "part.h5") == 2
    assert place in capsys.readouterr().err
    assert run("mix", f"{tmp_path / 'bad.h5'}:1", "--out", tmp_path / "mix.h5") == 2
    assert place in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.h5"]  # no beginning to go on with


@pytest.mark.parametrize("layout", ["inspo", "offpymarl"])
def test_what_does_not_read_back_equal_never_has_the_name(data, tmp_path, monkeypatch, capsys, layout):
    write_cfcql(data, tmp_path / "source.h5")
    target = tmp_path / "target.h5"
    there = []
    monkeypatch.setattr(rewrite, "same_content", lambda *_: there.append(target.exists()) or "obs")
    assert run("convert", tmp_path / "source.h5", target, "--to", layout) == 2
    assert "field 'obs' read back differs" in capsys.readouterr().err
    assert there == [False]
    assert [path.name for path in tmp_path.iterdir()] == ["source.h5"]


def test_mix_draws_the_asked_for_shares(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rewrite, "EPISODES_PER_BLOCK", 7)
    sources = {name: make_data(seed, lengths=(2, 3) * 10) for seed, name in enumerate("ab")}
    for name, data in sources.items():
        write_h5(data, tmp_path / f"{name}.h5")
    shares = [f"{tmp_path / 'a.h5'}:0.25", f"{tmp_path / 'b.h5'}:0.75"]
    for out, seed in (("one", 1), ("again", 1), ("other", 2)):
        assert run("mix", *shares, "--out", tmp_path / out, "--seed", seed) == 0
    mixed, again, other = (load_dataset(tmp_path / name) for name in ("one", "again", "other"))
    assert mixed.fingerprint == again.fingerprint != other.fingerprint
    returns = {name: data.returns.round(5).tolist() for name, data in sources.items()}
    origin = ["a" if value in returns["a"] else "b" for value in mixed.returns.round(5).tolist()]
    assert (len(origin), origin.count("a")) == (26, 7)  # 20 / 0.75 episodes, a quarter of them from a
    assert 0 < origin[:13].count("a") < 7  # interleaved
    for name in "ab":  # none twice, in their own order
        found = zip(mixed.returns.round(5).tolist(), origin, strict=True)
        places = [returns[name].index(value) for value, source in found if source == name]
        assert places == sorted(set(places))
    assert mixed.metadata["mixed_from"][1]["episodes"] == 19
    assert run("mix", *shares, "--out", tmp_path / "few", "--episodes", 4) == 0
    assert load_dataset(tmp_path / "few").n_episodes == 4
    assert run("mix", *shares, "--out", tmp_path / "many", "--episodes", 10**30) == 2
    assert "the sources hold 40 episodes together" in capsys.readouterr().err
    assert run("mix", *shares, "--out", tmp_path / "many", "--episodes", 40) == 2
    assert "holds 20 episodes; its share of the mix is 30" in capsys.readouterr().err
    write_h5(make_data(n_agents=2), tmp_path / "c.h5")
    assert run("mix", shares[0], f"{tmp_path / 'c.h5'}:1", "--out", tmp_path / "x") == 2
    assert "does not fit" in capsys.readouterr().err
    assert run("mix", "a.h5", "--out", tmp_path / "x") == 2
    assert "not of the form PATH:SHARE" in capsys.readouterr().err


def test_a_mix_is_not_gone_on_with_from_another_source(data, tmp_path, monkeypatch, capsys):
    source, command = tmp_path / "source.h5", ["mix", f"{tmp_path / 'source.h5'}:1", "--out", tmp_path / "mix.h5"]
    write_h5(data, source)
    with monkeypatch.context() as patch:
        patch.setattr(rewrite.EpisodeWriter, "_finish", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(*command) == 130
    source.unlink()
    write_h5(make_data(seed=1), source)
    assert run(*command) == 2
    assert "holds the beginning of another dataset" in capsys.readouterr().err


def test_subset_by_episodes_return_and_chance(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 300)
    data = make_data(lengths=(1, 2, 3, 4, 5) * 4)
    write_h5(data, tmp_path / "data.h5")

    def expect(numbers, name, *conditions):
        assert run("subset", tmp_path / "data.h5", "--out", tmp_path / name, *conditions) == 0
        assert same_content(load_dataset(tmp_path / name), subset_of(data, np.array(numbers))) == ""

    expect(range(3, 8), "a", "--episodes", "3:8")
    expect(range(15, 20), "b", "--episodes", "15:")
    best = np.sort(np.argsort(data.returns)[-10:])
    expect(best, "c", "--return-quantile", "0.5:1")
    expect([n for n in best if n < 8], "d", "--return-quantile", "0.5:1", "--episodes", ":8")
    assert run("subset", tmp_path / "data.h5", "--out", tmp_path / "e", "--sample", 5, "--seed", 3) == 0
    sampled = load_dataset(tmp_path / "e")
    assert sampled.n_episodes == 5
    assert set(sampled.returns.round(5)) <= set(data.returns.round(5))
    source = {"path": str(tmp_path / "data.h5"), "of": 20, "fingerprint": data.fingerprint}
    assert sampled.metadata["subset_of"] == {**source, "sample": 5, "seed": 3}
    for conditions, message in (
        ([], "needs at least one of"),
        (["--episodes", "30:40"], "the conditions leave none"),
        (["--sample", "21"], "leave 20 episodes, fewer than 21"),
    ):
        assert run("subset", tmp_path / "data.h5", "--out", tmp_path / "x", *conditions) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", [["--episodes", "5:2"], ["--episodes", "5"], ["--return-quantile", "0.5:2"], ["--sample", "x"]]
)
def test_wrong_options_are_told(option, capsys):
    with pytest.raises(SystemExit) as stop:
        run("subset", "x.h5", "--out", "y.h5", *option)
    assert stop.value.code == 2
    assert f"argument {option[0]}: '{option[1]}' must be" in capsys.readouterr().err


def test_a_checksum_that_is_none_is_told_before_anything_is_fetched(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run("fetch", "cfcql/smac_v1/2s3z", "--root", tmp_path, "--sha256", "00")
    assert stop.value.code == 2
    assert "argument --sha256: '00' must be a SHA-256: 64 hexadecimal digits" in capsys.readouterr().err


def test_hash_is_the_same_in_every_layout(data, tmp_path, capsys):
    write_h5(data, tmp_path / "own.h5")
    write_alberdice(data, tmp_path / "buffer")
    for name in ("own.h5", "buffer"):
        assert run("hash", tmp_path / name) == 0
        assert capsys.readouterr().out.startswith(f"{data.fingerprint}  content\n")


def test_list_shows_what_is_known_and_what_is_here(data, tmp_path, capsys):
    write_h5(data, tmp_path / "mine.h5")
    write_alberdice(data, tmp_path / "buffer")
    (tmp_path / "broken.h5").write_bytes(b"x")
    (tmp_path / "vaults" / "cfcql" / "smac_v1" / "2s3z.vlt").mkdir(parents=True)
    assert run("list", "--root", tmp_path) == 0
    out = capsys.readouterr().out
    assert "bridge_offline      optimal, mixed\n" in out
    assert f"cfcql/smac_v1/2s3z              here: {tmp_path}" in out
    assert "mine.h5  6 episodes, this project's h5\n" in out
    assert "buffer  6 episodes, AlberDICE's npy folder\n" in out
    assert "broken.h5  cannot be used: cannot be read as h5" in out


def test_list_goes_through_every_folder_and_makes_none(data, tmp_path, capsys, monkeypatch):
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

    def locked(folder):  # by hand: root, as whom tests may run, is never refused
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


def test_what_cannot_be_written_is_told(data, tmp_path, capsys):
    write_h5(data, tmp_path / "own.h5")
    (tmp_path / "file").touch()
    assert run("convert", tmp_path / "own.h5", tmp_path / "file" / "target.h5") == 2
    assert "file" in capsys.readouterr().err


def test_recorded_data_trains_to_the_same_in_our_format(recorded, tmp_path):
    """AlberDICE's real buffer and its conversion: the same content, and the same losses bit for bit."""
    source = recorded / "bridge_from_start" / "buffer_mix"
    assert run("convert", source, tmp_path / "mix.h5", "--environment", "bridge") == 0
    losses = []
    for path in (source, tmp_path / "mix.h5"):
        data = load_dataset(path)
        args = make_args("bc", "bridge_offline")
        info = data.env_info(episode_limit=50)
        th.manual_seed(0)
        learner = BCLearner(args, info, BasicMAC(args, info))
        buffer = make_buffer(data)
        losses.append([learner.train(buffer, with_stats=True) for _ in range(5)])
    assert losses[0] == losses[1]
    assert json.dumps(losses[0]) != json.dumps([losses[0][0]] * 5)
