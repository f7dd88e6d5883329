"""Comparing runs: hand-made run folders with scores whose statistics are known."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROJECT, main_command
from matplotlib.figure import Figure

from inspo.comparison import command as compare
from inspo.comparison.figures import draw, shown_range
from inspo.comparison.statistics import Cell, curve, mark, mean_and_std, welch
from inspo.comparison.tables import escape_latex

SETTINGS = {
    "name": "bc",
    "learner": "bc_learner",
    "env": "matrix_game",
    "env_config": "xor_offline",
    "env_args": {"n_agents": 2, "dataset": "c", "datasets": {"c": "a recipe"}},
    "seed": 0,
    "lr": 0.005,
    "t_max": 300,
    "test_interval": 100,
    "test_nepisode": 1000,
    "test_greedy": False,
    "max_episodes": None,
    "evaluate": False,
    "checkpoint_path": None,
    "use_cuda": True,
    "local_results_path": "/here",
    "log_interval": 100,
}


def make_run(
    root: Path, final: float, *, folder: str = "", metric: str = "test_return_mean", **changes
) -> Path:
    """A finished run's folder; `changes` are of the settings, the dataset's fingerprint or scores, or the software."""
    fingerprint = changes.pop("fingerprint", "f" * 16)
    software = changes.pop("software", {"torch": "2.13.0"})
    of_data = changes.pop("of_data", {})
    played = {"game_version": changes.pop("game_version")} if "game_version" in changes else {}
    config = {**SETTINGS, **changes}
    path = root / (
        folder or f"{config['name']}_seed{config['seed']}_{len(list(root.glob('*'))):03}"
    )
    path.mkdir(parents=True)
    score = {"final": final, "last5": final - 0.5, "best": final + 0.5}
    summary = {
        "env_args": {key: value for key, value in config["env_args"].items() if key != "dataset"},
        "dataset": config["env_args"]["dataset"],
        "dataset_fingerprint": fingerprint,
        "dataset_return": {"return_mean": 0.25, "return_max": 1.0, **of_data}
        if fingerprint
        else None,
        **played,
        "software": software,
        "scores": {metric: score},
    }
    steps = range(0, config["t_max"] + 1, config["test_interval"])
    rows = [f"{step},{final * step / config['t_max']},{'' if step else 9}" for step in steps]
    (path / "config.json").write_text(json.dumps(config))
    (path / "summary.json").write_text(json.dumps(summary))
    (path / "run.json").write_text('{"status": "COMPLETED"}')
    (path / "metrics.csv").write_text("\n".join([f"step,{metric},loss", *rows]) + "\n")
    return path


def make_runs(root: Path, scores: list[float], **changes) -> list[Path]:
    return [make_run(root, score, seed=seed, **changes) for seed, score in enumerate(scores)]


@pytest.fixture
def root(tmp_path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


@pytest.fixture
def call(root, capsys, monkeypatch):
    """`python src/compare.py RESULTS ...` in this process: stdout, stderr, and the CSV's lines by row and column.

    Curves take a second to draw: only where they are looked at.
    """

    def call(*arguments: str, status: int = 0, curves: bool = False):
        out = root.parent / "out"
        monkeypatch.setattr(compare, "draw", draw if curves else lambda *_: ([], []))
        assert compare.main([str(root), f"--out={out}", *arguments]) == status
        shown = capsys.readouterr()
        cells = {}
        if status == 0:
            with (out / "comparison.csv").open() as file:
                for line in csv.DictReader(file):
                    label = f"{line['algorithm']} {line['variant']}".strip()
                    cells[label, f"{line['environment']}, {line['dataset']}"] = line
        return shown.out, shown.err, cells

    return call


# --- statistics


def test_mean_and_standard_deviation_by_hand():
    assert mean_and_std([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2)))
    assert mean_and_std([0.1, 0.1, 0.1]) == (0.1, 0.0)  # no rounding error stands for a spread
    assert mean_and_std([5.0]) == (5.0, None)


def test_welch_by_hand():
    # Equal spread and n=2: two degrees of freedom, whose distribution is 1/2 + t / (2 sqrt(2 + t^2)).
    t = 3 / math.sqrt(2 / 2 + 2 / 2)
    assert welch([0, 2], [3, 5]) == pytest.approx(1 - t / math.sqrt(2 + t**2))
    # Unequal spread and n: t = -2 / sqrt(2.5/5 + 6.67/4) = -1.3587 with 4.749 degrees of freedom (R's t.test).
    assert welch([1, 2, 3, 4, 5], [2, 4, 6, 8]) == pytest.approx(0.23519, abs=1e-5)


def test_welch_without_spread():
    assert welch([1, 1], [1, 1, 1]) == 1
    assert welch([1, 1], [2, 2]) == 0
    assert 0 < welch([1, 1, 1], [0.9, 1.0, 1.1]) <= 1
    assert welch([1], [2, 3]) is None


def test_the_best_is_marked_and_the_others_are_tested_against_it():
    scores = {
        "best": (1.0, 1.2, 1.1),
        "near": (0.9, 1.2, 1.0),
        "far": (0.0, 0.1, 0.2),
        "single": (0.5,),
    }
    cells = mark({name: Cell(values, tuple(range(len(values)))) for name, values in scores.items()})
    assert [name for name, cell in cells.items() if cell.is_best] == ["best"]
    assert [name for name, cell in cells.items() if cell.not_different] == ["near"]
    assert [name for name, cell in cells.items() if cell.untested] == ["single"]
    tied = mark({"a": Cell((0.1, 0.2, 0.3), (0, 1, 2)), "b": Cell((0.3, 0.2, 0.1), (0, 1, 2))})
    assert tied["a"].is_best
    assert tied["b"].is_best
    assert not mark({"alone": Cell((1.0, 2.0), (0, 1))})["alone"].is_best


def test_curves_by_hand():
    steps, mean, half_width = curve([{0: 0.0, 10: 1.0, 15: 5.0}, {0: 2.0, 10: 1.0}])
    assert steps.tolist() == [0, 10]
    assert mean.tolist() == [1.0, 1.0]
    # The 97.5 % quantile of Student's t with one degree of freedom, times sqrt(2) / sqrt(2).
    assert half_width.tolist() == pytest.approx([12.7062, 0.0], abs=1e-4)
    assert curve([{0: 3.0}])[2] is None


# --- tables


def test_tables(root, call):
    make_runs(root, [0.0, 0.1, 0.2], name="bc")
    make_runs(root, [0.9, 1.0, 1.1], name="inspo")
    make_runs(root, [0.95, 1.05], name="omar_x")
    make_run(root, -0.001, name="single")
    output, errors, cells = call()
    assert errors == ""
    table = output.split("\n\n")[0].splitlines()
    assert [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in table if "---" not in line
    ] == [
        ["", "xor_offline, c"],
        ["bc", "0.10 ± 0.10 (n=3)"],
        ["inspo", "**1.00 ± 0.10** (n=3)"],
        ["omar_x", "**1.00 ± 0.07** (n=2)"],
        ["single", "0.00† (n=1)"],
    ]
    assert "1000 test episodes, sampled actions, 300 gradient steps" in output
    cell = cells["bc", "xor_offline, c"]
    assert (cell["n"], cell["seeds"], cell["scores"]) == ("3", "0 1 2", "0.0 0.1 0.2")
    assert float(cell["mean"]) == pytest.approx(0.1)
    assert float(cell["std"]) == pytest.approx(0.1)
    assert float(cell["p_value"]) < 0.05
    assert (
        cells["single", "xor_offline, c"]["std"]
        == cells["single", "xor_offline, c"]["p_value"]
        == ""
    )
    latex = (root.parent / "out" / "comparison.tex").read_text()
    assert r"omar\_x & $\mathbf{1.00} \pm 0.07$ {\scriptsize ($n=2$)} \\" in latex
    assert r"single & $0.00^{\dagger}$ {\scriptsize ($n=1$)} \\" in latex
    assert r"& \multicolumn{1}{c}{xor\_offline} \\" in latex
    assert "\n".join(table) in (root.parent / "out" / "comparison.md").read_text()


def test_an_asterisk_marks_what_is_not_significantly_different(root, call):
    make_runs(root, [0.9, 1.0, 1.2], name="inspo")
    make_runs(root, [0.8, 1.0, 1.1], name="omar")
    make_runs(root, [-1.0, -1.1, -1.2], name="bc")
    output, _, cells = call("--decimals=3")
    assert "0.967 ± 0.153* (n=3)" in output
    assert "\N{MINUS SIGN}1.100 ± 0.100 (n=3)" in output
    assert r"$0.967 \pm 0.153^{*}$" in call("--decimals=3", "--print=latex")[0]
    assert [name for (name, _), cell in cells.items() if cell["not_different"] == "True"] == [
        "omar"
    ]


@pytest.mark.parametrize(("score", "expected"), [("final", 1.0), ("last5", 0.5), ("best", 1.5)])
def test_which_score(root, call, score, expected):
    make_run(root, 1.0)
    output, _, cells = call(f"--score={score}")
    assert float(cells["bc", "xor_offline, c"]["mean"]) == expected
    assert ("flatters" in output) == (score == "best")


def test_columns_are_environments_and_datasets_and_cells_may_be_empty(root, call):
    make_runs(root, [1.0, 2.0], name="bc")
    make_runs(
        root,
        [1.0, 2.0],
        name="inspo",
        env_args={**SETTINGS["env_args"], "dataset": "b"},
        fingerprint="b" * 16,
    )
    make_runs(
        root, [-2.0, -3.0], name="bc", env_config="bridge", env_args={"dataset": "/data/mixed.h5"}
    )
    output, _, cells = call()
    assert set(cells) == {
        ("bc", "xor_offline, c"),
        ("inspo", "xor_offline, b"),
        ("bc", "bridge, mixed"),
    }
    assert "\N{EN DASH}" in output
    latex = call("--print=latex")[0]
    assert r"\multicolumn{1}{c}{bridge} & \multicolumn{2}{c}{xor\_offline}" in latex
    assert r"\cmidrule(lr){2-2}\cmidrule(lr){3-4}" in latex


def test_latex_escapes():
    assert escape_latex("a_b & 50% #1 {x} $y") == r"a\_b \& 50\% \#1 \{x\} \$y"
    assert escape_latex("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"


# --- what may be pooled


def test_settings_that_compute_nothing_make_no_variant(root, call):
    changes = [
        {},
        {"use_cuda": False},
        {"local_results_path": "/there"},
        {"log_interval": 7, "test_interval": 50},
    ]
    for seed, change in enumerate(changes):
        make_run(root, 1.0, seed=seed, **change)
    assert call()[2]["bc", "xor_offline, c"]["n"] == "4"


def test_settings_that_differ_make_rows(root, call):
    make_runs(root, [1.0, 1.0], name="inspo", update_scheme="sequential")
    make_runs(root, [0.0, 0.0], name="inspo", update_scheme="simultaneous", updates_per_agent=100)
    make_runs(root, [0.5, 0.5], name="bc")
    _, errors, cells = call()
    assert errors == ""
    assert {label for label, _ in cells} == {
        "bc",
        "inspo update_scheme=sequential updates_per_agent=(none)",
        "inspo update_scheme=simultaneous updates_per_agent=100",
    }
    assert {cell["n"] for cell in cells.values()} == {"2"}
    assert "| inspo (update_scheme=sequential, updates_per_agent=(none)) |" in call()[0]


def test_group_by_names_the_rows_and_says_what_it_pools(root, call):
    for lr in (0.1, 0.2):
        make_runs(root, [1.0, 3.0], name="inspo", lr=lr, order="random")
    make_runs(root, [0.5], name="bc")
    _, errors, cells = call("--group-by=order")
    assert {label: cell["n"] for (label, _), cell in cells.items()} == {
        "bc": "1",
        "inspo order=random": "4",
    }
    assert (
        "inspo (order=random) in xor_offline, c pools runs that differ in lr (0.1, 0.2)" in errors
    )
    assert {label for label, _ in call("--where=lr=1e-1,5e-3")[2]} == {"bc", "inspo"}
    assert set(call("--group-by=lr,order")[2]) == {
        ("bc lr=0.005", "xor_offline, c"),
        ("inspo lr=0.1 order=random", "xor_offline, c"),
        ("inspo lr=0.2 order=random", "xor_offline, c"),
    }


def test_data_that_differs_is_not_pooled(root, call):
    make_run(root, 1.0, seed=0, fingerprint="a" * 16)
    make_run(root, 1.0, seed=1, fingerprint="b" * 16)
    make_run(root, 1.0, seed=2, fingerprint="c" * 16, max_episodes=20)
    _, errors, cells = call()
    datasets = {column.removeprefix("xor_offline, ") for _, column in cells}
    assert datasets == {"c [aaaaaaaa]", "c [bbbbbbbb]", "c, 20 episodes"}
    assert "not the same data in all runs with a dataset called 'c'" in errors


def test_games_that_differ_are_not_pooled(root, call):
    for start in ("bridge", "apart"):
        make_run(
            root, 1.0, env_config="bridge_offline", env_args={"start": start, "dataset": "mixed"}
        )
    recipes = {"dataset": "mixed", "datasets": {"another": "recipe"}}
    make_run(root, 1.0, env_config="bridge_offline", seed=1, env_args={"start": "apart", **recipes})
    cells = call()[2]
    assert {column: cell["n"] for (_, column), cell in cells.items()} == {
        "bridge_offline (start=apart), mixed": "2",
        "bridge_offline (start=bridge), mixed": "1",
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test_greedy": True}, "test_greedy=True: 1 of inspo"),
        ({"test_nepisode": 32}, "test_nepisode=32: 1 of inspo"),
        ({"t_max": 600}, "t_max=600: 1 of inspo"),
    ],
)
def test_evaluation_protocols_do_not_mix(root, call, change, said):
    make_runs(root, [0.0, 0.1], name="bc")
    make_run(root, 1.0, name="inspo", **change)
    output, errors, _ = call(status=2)
    assert output == ""
    assert errors.startswith("ComparisonError: runs were judged differently")
    assert said in errors
    ((key, value),) = change.items()
    assert set(call(f"--allow={key}")[2]) == {
        (f"bc {key}={json.dumps(SETTINGS[key])}", "xor_offline, c"),
        (f"inspo {key}={json.dumps(value)}", "xor_offline, c"),
    }
    assert set(call(f"--where={key}={value}")[2]) == {("inspo", "xor_offline, c")}


def test_how_often_runs_were_evaluated_matters_to_scores_of_several_evaluations(root, call):
    make_run(root, 1.0, name="bc")
    make_run(root, 1.0, name="inspo", test_interval=50)
    call()
    for score in ("best", "last5"):
        assert "test_interval=50" in call(f"--score={score}", status=2)[1]


def test_one_game_is_played_one_way_on_all_its_datasets(root, call):
    make_run(root, 1.0)
    make_run(
        root,
        1.0,
        env_args={**SETTINGS["env_args"], "dataset": "b"},
        fingerprint="b" * 16,
        test_greedy=True,
    )
    assert "test_greedy=True" in call(status=2)[1]


def test_simulators_do_not_mix(root, call):
    for simulator in ("smax", "starcraft2"):
        game = {"simulator": simulator, "map_name": "2s3z", "dataset": "medium"}
        make_runs(
            root, [0.5, 0.7], env_config="sc2_offline", env_args=game, metric="test_battle_won_mean"
        )
    make_run(root, 3.0)
    _, errors, _ = call(status=2)
    assert "runs of different simulators" in errors
    assert "SMAX-2s3z: 2 runs" in errors
    assert "SC2-2s3z: 2 runs" in errors
    output, _, cells = call("--env=smax-*", "--env=xor*")
    assert set(cells) == {("bc", "SMAX-2s3z, medium"), ("bc", "xor_offline, c")}
    assert (
        "SMAX-2s3z, medium (win rate)" in output
    )  # metrics are named where they are not all the same
    assert "xor_offline, c (return)" in output
    assert cells["bc", "SMAX-2s3z, medium"]["metric"] == "test_battle_won_mean"
    assert set(call("--env=SC2-2s3z")[2]) == {("bc", "SC2-2s3z, medium")}


def test_versions_of_a_game_do_not_mix_but_ways_of_running_it_do(root, call):
    """StarCraft II's dynamics change with its version; how many games run side by side changes nothing."""
    game = {
        "simulator": "starcraft2",
        "map_name": "2s3z",
        "game_version": None,
        "dataset": "medium",
    }
    battles = {"env_config": "sc2_offline", "metric": "test_battle_won_mean"}
    for seed, (version, n_workers) in enumerate(
        [("4.10.0.75689", 8), ("4.10.0.75689", 2), ("4.6.2.69232", 8)]
    ):
        make_run(
            root,
            0.5,
            seed=seed,
            game_version=version,
            env_args={**game, "n_workers": n_workers},
            **battles,
        )
    assert {column: cell["n"] for (_, column), cell in call()[2].items()} == {
        "SC2-2s3z (game_version=4.10.0.75689), medium": "2",
        "SC2-2s3z (game_version=4.6.2.69232), medium": "1",
    }


def test_an_online_run_is_left_out_and_says_why(root, call):
    make_run(root, 1.0)
    make_run(root, 1.0, name="qmix", fingerprint="")
    assert "it learnt online: there is no dataset" in call()[1]


def test_a_metric_can_be_forced_and_runs_without_it_are_named(root, call):
    battles = make_run(root, 0.5, metric="test_battle_won_mean")
    returns = make_run(root, 5.0, seed=1)
    _, errors, cells = call()
    assert cells["bc", "xor_offline, c"]["scores"] == "0.5"
    assert f"left out: {returns}: it has no test_battle_won_mean" in errors
    _, errors, cells = call("--metric=test_return_mean")
    assert cells["bc", "xor_offline, c"]["scores"] == "5.0"
    assert f"left out: {battles}: it has no test_return_mean" in errors


# --- what is left out


def test_unfinished_and_damaged_runs_are_left_out_and_named(root, call):
    make_run(root, 1.0, folder="good")
    for name, status in (("killed", "RUNNING"), ("diverged", "FAILED"), ("early", "RUNNING")):
        (make_run(root, 9.0, folder=name) / "summary.json").unlink()
        (root / name / "run.json").write_text(json.dumps({"status": status}))
    (root / "early" / "metrics.csv").unlink()
    (make_run(root, 9.0, folder="no_config") / "config.json").unlink()
    (make_run(root, 9.0, folder="half") / "summary.json").write_text('{"scores": ')
    (make_run(root, 9.0, folder="binary") / "summary.json").write_bytes(b"\xff\x00\xfe")
    (make_run(root, 9.0, folder="list") / "summary.json").write_text("[1]")
    make_run(root, math.nan, folder="not_finite")
    summary = json.loads((make_run(root, 9.0, folder="no_score") / "summary.json").read_text())
    (root / "no_score" / "summary.json").write_text(json.dumps({**summary, "scores": {}}))
    _, errors, cells = call()
    assert cells["bc", "xor_offline, c"]["scores"] == "1.0"
    reasons = {
        Path(line.split(": ")[1]).name: line.split(": ", 2)[2] for line in errors.splitlines()
    }
    assert reasons["killed"].endswith("status RUNNING): its last record is of step 300 of 300")
    assert "flatters" in reasons["diverged"]
    assert "no record of any of its 300 steps" in reasons["early"]
    assert reasons["no_config"] == "config.json is missing"
    assert reasons["half"].startswith("summary.json is damaged")
    assert reasons["binary"].startswith("summary.json is damaged")
    assert reasons["list"].startswith("summary.json cannot be used")
    assert "scores.test_return_mean.final: Input should be a finite number" in reasons["not_finite"]
    assert reasons["no_score"] == "it has no score: test_nepisode=1000"
    assert len(reasons) == 9
    document = (root.parent / "out" / "comparison.md").read_text()
    assert "**Left out** (9)" in document
    assert str(root / "half") in document


def test_evaluations_and_runs_that_were_gone_on_with_are_left_out(root, call):
    make_run(root, 1.0, folder="a1", t_max=100)
    (
        make_run(root, 2.0, folder="b2", checkpoint_path="results/a1") / "summary.json"
    ).unlink()  # cut off
    make_run(root, 3.0, folder="c3", checkpoint_path="elsewhere/b2/checkpoints/step_0000000200.pt")
    make_run(root, 9.0, folder="d4", checkpoint_path="results/c3", evaluate=True)
    _, errors, cells = call()
    assert cells["bc", "xor_offline, c"]["scores"] == "3.0"
    assert f"left out: {root / 'a1'}: gone on with by c3" in errors
    assert f"left out: {root / 'd4'}: evaluate=True" in errors
    # What is not selected stands for nothing.
    assert call("--where=t_max=100")[2]["bc", "xor_offline, c"]["scores"] == "1.0"


def test_of_runs_with_one_seed_the_newest_counts(root, call):
    make_run(root, 1.0, folder="bc_20250101")
    make_run(root, 2.0, folder="bc_20250102", use_cuda=False)
    make_run(root, 2.0, folder="bc_20250103")
    make_run(root, 4.0, folder="bc_20250104", lr=0.1)  # another variant: not the same run again
    _, errors, cells = call("--group-by=lr")
    assert {label: cell["scores"] for (label, _), cell in cells.items()} == {
        "bc lr=0.005": "2.0",
        "bc lr=0.1": "4.0",
    }
    assert (
        f"{root / 'bc_20250101'}: seed 0 again: bc_20250102 has the same settings and ANOTHER score"
        in errors
    )
    assert (
        f"{root / 'bc_20250102'}: seed 0 again: bc_20250103 has the same settings and the same score"
        in errors
    )


def test_a_folder_counts_once_however_it_is_reached(root, call, capsys):
    run = make_run(root, 1.0)
    (root / "link").symlink_to(run)
    (root / "loop").symlink_to(root)
    assert (
        compare.main([str(root), str(run), str(root / "link"), f"--out={root.parent / 'out'}"]) == 0
    )
    assert capsys.readouterr().err == ""


def test_runs_of_other_software_are_named(root, call):
    make_run(root, 1.0, software={"torch": "2.4.0", "git_commit": "a" * 40})
    make_run(root, 1.0, seed=1, software={"torch": "2.13.0", "git_commit": "b" * 40 + "+changes"})
    output = call()[0]
    assert "Not all runs had the same torch: 2.13.0, 2.4.0." in output
    assert "Not all runs had the same git commit: aaaaaaaa, bbbbbbbb+changes." in output


# --- curves


def test_pictures_are_the_same_files_again(root, call):
    make_runs(root, [1.0, 2.0])
    call(curves=True)
    out = root.parent / "out"
    pictures = {path.suffix: path.read_bytes() for path in out.glob("learning_curves.*")}
    assert pictures[".png"].startswith(b"\x89PNG")
    assert pictures[".pdf"].startswith(b"%PDF")
    assert "![Learning curves](learning_curves.png)" in (out / "comparison.md").read_text()
    call(curves=True)
    assert pictures == {path.suffix: path.read_bytes() for path in out.glob("learning_curves.*")}


@pytest.fixture
def drawn(call, monkeypatch):
    """The figure that the command draws, looked at before it is a file."""
    figures, savefig = [], Figure.savefig
    monkeypatch.setattr(
        Figure,
        "savefig",
        lambda self, *rest, **more: figures.append(self) or savefig(self, *rest, **more),
    )

    def drawn(*arguments: str) -> Figure:
        figures.clear()
        call(*arguments, curves=True)
        return figures[0]

    return drawn


def test_the_datasets_own_win_rate_is_drawn_where_a_run_knows_it(root, drawn):
    battles = {"env_config": "sc2_offline", "metric": "test_battle_won_mean"}

    def lines():
        (axis,) = (figure := drawn()).axes
        return len(axis.lines), [text.get_text() for text in figure.legends[0].get_texts()]

    make_run(root, 0.5, **battles)
    assert lines() == (1, ["bc, n=1"])  # the data's return has no place on an axis of shares
    make_run(root, 0.7, seed=1, of_data={"battle_won_mean": 0.2}, **battles)
    assert lines() == (2, ["bc, n=2", "mean of the dataset"])


def test_the_interval_of_two_seeds_does_not_flatten_the_curves(root, drawn):
    """It reaches to 0.5 ± 6.4; the axis ends where the seeds' own values do."""
    make_runs(root, [0.0, 1.0])
    (axis,) = drawn().axes
    assert axis.get_ylim() == pytest.approx((-0.06, 1.06))
    assert shown_range([-2.0, -2.0]) == pytest.approx((-2.1, -1.9))
    assert shown_range([0.0]) == (-1.0, 1.0)


def test_runs_without_a_usable_record_are_in_the_table_only(root, call):
    whole, gone, damaged, other, sparse = make_runs(root, [1.0, 2.0, 3.0, 4.0, 5.0])
    (gone / "metrics.csv").unlink()
    (damaged / "metrics.csv").write_text("step,test_return_mean\n0,1.0\n10,oops\n")
    (other / "metrics.csv").write_text("step,loss\n0,1.0\n")
    (sparse / "metrics.csv").write_text("step,test_return_mean\n0,1.0\n300,1.0\n")
    _, errors, cells = call(curves=True)
    assert cells["bc", "xor_offline, c"]["n"] == "5"
    assert f"{gone}: in the table, but not in the curves: metrics.csv is missing" in errors
    assert f"{damaged}: in the table, but not in the curves: metrics.csv is damaged" in errors
    assert (
        f"{other}: in the table, but not in the curves: metrics.csv has no record of test_return_mean"
        in errors
    )
    assert "has only the steps that all its runs recorded" in errors
    for run in (whole, sparse):
        (run / "metrics.csv").unlink()
    call(curves=True)
    assert not list(
        (root.parent / "out").glob("learning_curves.*")
    )  # no picture of what was drawn before


# --- the command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env=bridge*"], "no run fits --env and --where; there are runs of xor_offline"),
        (["--where=lr=7"], "no run fits"),
        (["--where=lrr=7"], "no run has a setting 'lrr'; did you mean 'lr'?"),
        (["--group-by=lrr"], "no run has a setting 'lrr'; did you mean 'lr'?"),
        (["--where=lr"], "is not of the form KEY=VALUE"),
        (["--where=lr=1", "--where=lr=2"], "names lr twice"),
        (
            ["--metric=test_battle_won_mean"],
            "no run has test_battle_won_mean; there is test_return_mean",
        ),
    ],
)
def test_user_errors_are_one_message(root, call, arguments, message):
    make_run(root, 1.0)
    output, errors, _ = call(*arguments, status=2)
    assert output == ""
    assert message in errors
    assert errors.startswith("ComparisonError: ")


def test_nothing_to_compare(root, call, capsys):
    assert "no run folder in" in call(status=2)[1]
    assert compare.main([str(root / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    (make_run(root, 1.0, folder="killed") / "summary.json").unlink()
    assert "killed: unfinished" in call(status=2)[1]


def test_tables_can_be_shown_whatever_the_terminals_encoding(root):
    make_runs(root, [-1.0, -2.0])
    command = [
        sys.executable,
        str(PROJECT / "src" / "compare.py"),
        str(root),
        f"--out={root.parent / 'out'}",
    ]
    process = subprocess.run(
        command,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "1.50 ± 0.71 (n=2)" in process.stdout.decode()


def test_real_runs_from_the_command_line(tmp_path):
    """As a user does it: what a run leaves behind is what the comparison reads."""
    settings = [
        "hidden_dim=16",
        "batch_size=16",
        "t_max=40",
        "test_interval=20",
        "test_nepisode=20",
    ]
    where = ["local_results_path=results", "dataset_root=dataset", "use_tensorboard=False"]
    command = ["--config=bc", "--env-config=xor_offline", "with", *settings, *where]
    assert main_command(*command, cwd=tmp_path).returncode == 0
    run = next((tmp_path / "results").iterdir())
    shutil.copytree(run, tmp_path / "results" / "copy")
    process = subprocess.run(
        [
            sys.executable,
            str(PROJECT / "src" / "compare.py"),
            "results",
            "--out=out",
            "--print=csv",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    (cell,) = csv.DictReader(process.stdout.splitlines())
    final = json.loads((run / "summary.json").read_text())["scores"]["test_return_mean"]["final"]
    assert (cell["algorithm"], cell["environment"], cell["dataset"], cell["n"]) == (
        "bc",
        "xor_offline",
        "c",
        "1",
    )
    assert float(cell["mean"]) == final
    assert len(process.stderr.splitlines()) == 1
    assert "seed 0 again" in process.stderr
    assert "the same score" in process.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"comparison.{end}" for end in ("md", "tex", "csv")} | {
        f"learning_curves.{e}" for e in ("png", "pdf")
    }
