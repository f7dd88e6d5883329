"""`convert`, `mix` and `subset`: what they write, interruptions, and errors."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_buffer, make_data
from public_layouts import write_alberdice, write_cfcql, write_omiga

from inspo import dataset
from inspo.controllers import BasicMAC
from inspo.data.formats import load_dataset, write_h5
from inspo.data.formats import reader as reader_module
from inspo.data.formats.schema import same_content, subset_of
from inspo.data.tools import rewrite
from inspo.learners.bc_learner import BCLearner

pytestmark = pytest.mark.usefixtures("_no_child")


def run(*arguments) -> int:
    return dataset.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("layout", ["inspo", "offpymarl"])
@pytest.mark.parametrize("write", [write_cfcql, write_alberdice, write_omiga, write_h5])
def test_convert_loses_nothing(data, tmp_path, capsys, monkeypatch, write, layout):
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 300)
    if write is write_omiga:
        data.avail_actions[:] = True
        data.terminated |= data.truncated
        data.truncated[:] = False
    write(data, tmp_path / "source")
    given = ["--environment", "sc2", "--env-args", '{"map_name": "2s3z"}', "--behaviour", "medium"]
    if layout == "offpymarl":
        assert run("convert", tmp_path / "source", tmp_path / "target", "--to", layout, *given) == 2
        assert (
            "--environment, --env-args, --behaviour cannot go with --to=offpymarl"
            in capsys.readouterr().err
        )
        given = []
    assert run("convert", tmp_path / "source", tmp_path / "target", "--to", layout, *given) == 0
    assert "read back and found equal" in capsys.readouterr().out
    converted = load_dataset(tmp_path / "target")
    assert same_content(converted, data) == ""
    if layout == "inspo":
        metadata = {
            "environment": "sc2",
            "env_args": {"map_name": "2s3z"},
            "behaviour": "medium",
            "episodes": 6,
        }
        assert metadata.items() <= converted.metadata.items()
        assert "truncated" not in converted.metadata
    assert run("convert", tmp_path / "source", tmp_path / "target", "--to", layout) == 2
    assert "nothing is written over" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["convert", "source.h5", "target.h5"],
        ["convert", "source.h5", "target.h5", "--to", "offpymarl"],
        ["mix", "source.h5:1", "--out", "target.h5"],
        ["subset", "source.h5", "--episodes", "0:6", "--out", "target.h5"],
    ],
)
def test_an_interrupted_command_starts_again(data, tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reader_module, "BLOCK_BYTES", 300)
    write_cfcql(data, tmp_path / "source.h5")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(reader_module.Progress, "advance", interrupted)
        assert run(*command) == 130
    assert "To start again" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["source.h5"]
    assert run(*command) == 0
    assert same_content(load_dataset(tmp_path / "target.h5"), data) == ""


@pytest.mark.parametrize("layout", ["inspo", "offpymarl"])
def test_a_killed_conversion_leaves_nothing_behind(data, tmp_path, layout):
    """SIGKILL while the file is written. The same command then works, and removes what was left."""
    write_cfcql(data, tmp_path / "source.h5")
    (tmp_path / "target").mkdir()
    target = tmp_path / "target" / "part_0.h5"
    script = """
        import os, signal, sys
        from inspo import dataset
        from inspo.data.formats import reader
        reader.Progress.advance = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
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


def test_of_two_processes_with_one_target_the_slower_fails(data, tmp_path, monkeypatch, capsys):
    write_cfcql(data, tmp_path / "source.h5")
    command = ["convert", tmp_path / "source.h5", tmp_path / "target.h5"]
    statuses = []

    def meanwhile(*_):
        monkeypatch.undo()
        statuses.append(run(*command))

    monkeypatch.setattr(rewrite, "_compare", meanwhile)
    assert run(*command) == 2
    assert statuses == [0]
    assert "exists already; nothing is written over" in capsys.readouterr().err
    assert same_content(load_dataset(tmp_path / "target.h5"), data) == ""


def test_a_folder_with_something_in_it_gets_no_part(data, tmp_path, capsys):
    """Otherwise the source's own folder would then be read as OffPyMARL's."""
    write_alberdice(data, tmp_path / "buffer")
    before = sorted((tmp_path / "buffer").iterdir())
    assert run("convert", tmp_path / "buffer", tmp_path / "buffer", "--to", "offpymarl") == 2
    assert "is not an empty folder; nothing is written over" in capsys.readouterr().err
    assert sorted((tmp_path / "buffer").iterdir()) == before


def test_errors_name_the_episode_of_the_source(data, tmp_path, capsys):
    data.reward[data.starts[4]] = np.nan
    write_cfcql(data, tmp_path / "bad.h5")
    place = f"{tmp_path / 'bad.h5'}: field 'reward': NaN or infinity at episode 4, step 0"
    assert (
        run("subset", tmp_path / "bad.h5", "--episodes", "3:6", "--out", tmp_path / "part.h5") == 2
    )
    assert place in capsys.readouterr().err
    assert run("mix", f"{tmp_path / 'bad.h5'}:1", "--out", tmp_path / "mix.h5") == 2
    assert place in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.h5"]


@pytest.mark.parametrize("layout", ["inspo", "offpymarl"])
def test_a_conversion_that_reads_back_differently_is_removed(
    data, tmp_path, monkeypatch, capsys, layout
):
    write_cfcql(data, tmp_path / "source.h5")
    target = tmp_path / "target.h5"
    there = []
    monkeypatch.setattr(rewrite, "same_content", lambda *_: there.append(target.exists()) or "obs")
    assert run("convert", tmp_path / "source.h5", target, "--to", layout) == 2
    assert "field 'obs' read back differs" in capsys.readouterr().err
    assert there == [False]
    assert [path.name for path in tmp_path.iterdir()] == ["source.h5"]


def test_mix_draws_the_requested_shares(tmp_path, monkeypatch, capsys):
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
    assert (len(origin), origin.count("a")) == (
        26,
        7,
    )  # 20 / 0.75 episodes, a quarter of them from a
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
    assert (
        run("subset", tmp_path / "data.h5", "--out", tmp_path / "e", "--sample", 5, "--seed", 3)
        == 0
    )
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
    "option",
    [["--episodes", "5:2"], ["--episodes", "5"], ["--return-quantile", "0.5:2"], ["--sample", "x"]],
)
def test_wrong_options_are_refused(option, capsys):
    assert run("subset", "x.h5", "--out", "y.h5", *option) == 2
    assert f"argument {option[0]}: '{option[1]}' must be" in capsys.readouterr().err


def test_a_target_that_cannot_be_written(data, tmp_path, capsys):
    write_h5(data, tmp_path / "own.h5")
    (tmp_path / "file").touch()
    assert run("convert", tmp_path / "own.h5", tmp_path / "file" / "target.h5") == 2
    assert "file" in capsys.readouterr().err


def test_converted_data_trains_the_same(recorded, tmp_path):
    """AlberDICE's buffer and its conversion give the same losses bit for bit."""
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
