import csv
import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from runpy import run_module

import pytest
from matplotlib.figure import Figure
from run_folders import make_run, make_runs

from inspo.comparison.command import main
from inspo.main import main as train


@pytest.fixture
def call(tmp_path, capsys):
    """`compare.py RESULTS ...`: the exit status, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main([str(tmp_path / "results"), f"--out={tmp_path / 'out'}", *arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


def test_tables_go_to_stdout_and_what_was_skipped_to_stderr(tmp_path, call):
    make_runs(tmp_path / "results", [1.0, 2.0])
    (make_run(tmp_path / "results", 1.0, folder="killed") / "summary.json").unlink()
    status, output, errors = call("--decimals=1")
    assert status == 0
    table, notes, files = output.split("\n\n")
    assert table.splitlines()[-1] == "| bc  | 1.5 ± 0.7 (n=2) |"
    assert notes.startswith("Mean ± standard deviation")
    out = tmp_path / "out"
    assert files.splitlines()[:3] == [f"{out}/comparison.{end}" for end in ("md", "tex", "csv")]
    assert errors.startswith(f"skipped: {tmp_path}/results/killed: unfinished")
    document = (out / "comparison.md").read_text()
    assert table in document
    assert (
        f"Made by `python src/compare.py {tmp_path}/results --out={out} --decimals=1`" in document
    )


def test_options_select_and_group_runs(tmp_path, call):
    make_run(tmp_path / "results", 1.0, name="inspo", lr=0.1)
    make_run(tmp_path / "results", 2.0, name="inspo", lr=0.2, t_max=600)
    make_run(tmp_path / "results", 3.0, name="inspo", lr=0.3, env_config="bridge")
    make_run(tmp_path / "results", 4.0, name="bc", lr=0.1)
    options = ["--env=xor*", "--where=lr=1e-1,0.2", "--where=name=inspo", "--allow=t_max"]
    status, output, errors = call(*options, "--group-by=t_max", "--score=best", "--print=csv")
    assert (status, errors) == (0, "")
    lines = csv.DictReader(output.splitlines())
    assert [(line["variant"], line["mean"]) for line in lines] == [
        ("t_max=300", "1.5"),
        ("t_max=600", "2.5"),
    ]
    assert r"\begin{tabular}" in call(*options, "--print=latex")[1]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--where=lr=7", "no run matches"),
        ("--where=lr", "--where=lr is not of the form KEY=VALUE"),
        ("--where=seed=0 --where=seed=1", "names seed twice; write seed=VALUE,VALUE"),
        ("--metric=test_battle_won_mean", "no run has test_battle_won_mean"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(tmp_path, call, option, message):
    make_run(tmp_path / "results", 1.0)
    status, output, errors = call(*option.split())
    assert (status, output) == (2, "")
    assert errors.startswith("ComparisonError: ")
    assert message in errors
    assert not (tmp_path / "out").exists()


def ascii_terminal() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict")


def shown(terminal: io.TextIOWrapper) -> str:
    terminal.flush()
    return terminal.buffer.getvalue().decode()


def test_real_runs_from_the_command_line(tmp_path, monkeypatch):
    """Compares what a run leaves behind, in a terminal that knows ASCII only."""
    monkeypatch.chdir(tmp_path)
    small = ["hidden_dim=16", "batch_size=16", "t_max=40", "test_interval=20", "test_nepisode=20"]
    where = ["local_results_path=results", "dataset_root=dataset", "use_tensorboard=False"]
    command = ["--config=bc", "--env-config=xor_offline", "with", *small, *where]
    assert train(command) == 0
    results = tmp_path / "results"
    (run,) = results.iterdir()
    shutil.copytree(run, results / "copy")
    shutil.copytree(run, results / "other_seed")
    config = json.loads((run / "config.json").read_text())
    other_config = {**config, "seed": config["seed"] + 1}
    (results / "other_seed" / "config.json").write_text(json.dumps(other_config))

    # Pictures have tests of their own.
    monkeypatch.setattr(Figure, "savefig", lambda _, path, **__: Path(path).touch())
    output, errors = ascii_terminal(), ascii_terminal()
    monkeypatch.setattr(sys, "argv", ["compare.py", "results", "--out=out"])
    with redirect_stdout(output), redirect_stderr(errors), pytest.raises(SystemExit) as end:
        run_module("inspo.compare", run_name="__main__")
    assert end.value.code == 0, shown(errors)
    scores = json.loads((run / "summary.json").read_text())["scores"]
    final = scores["test_return_mean"]["final"]
    assert f"{final:.2f} ± 0.00 (n=2)".replace("-", "\N{MINUS SIGN}") in shown(output)
    (skipped,) = shown(errors).splitlines()
    assert f"{run.name}: repeats seed" in skipped or "copy: repeats seed" in skipped
    assert skipped.endswith("the same settings and the same score")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "comparison.md",
        "comparison.tex",
        "comparison.csv",
        "learning_curves.png",
        "learning_curves.pdf",
        "scores.png",
        "scores.pdf",
        "marl_eval.json",
    }
