import csv

import pytest
from run_folders import BATTLE, SETTINGS, make_run, make_runs

from inspo.comparison import latex
from inspo.comparison.command import compare_runs
from inspo.comparison.statistics import CellScores


@pytest.fixture
def table(tmp_path):
    """Means 0.1, 1, 1 and -0.001; standard deviations 0.1, 0.1 and 0.1 / sqrt(2)."""
    make_runs(tmp_path, [0.0, 0.1, 0.2], name="bc")
    make_runs(tmp_path, [0.9, 1.0, 1.1], name="inspo")
    make_runs(tmp_path, [0.95, 1.05], name="omar_x")
    make_run(tmp_path, -0.001, name="single")
    return compare_runs(tmp_path)


def test_markdown(table):
    assert table.to_markdown().splitlines() == [
        "|        | xor_offline, c        |",
        "| ------ | --------------------- |",
        "| bc     | 0.10 ± 0.10 (n=3)     |",
        "| inspo  | **1.00 ± 0.10** (n=3) |",
        "| omar_x | **1.00 ± 0.07** (n=2) |",
        "| single | 0.00† (n=1)           |",
    ]
    assert "**1.0 ± 0.1** (n=2)" in table.to_markdown(decimals=1)
    assert str(table) == table._repr_markdown_()
    assert str(table) == table.to_markdown() + "\n\nWarnings: 1. Skipped run folders: 0."
    assert table.warnings == [
        "xor_offline, c: the seeds are not the same (single: 0; omar_x: 0, 1; bc, inspo: 0, 1, 2)"
    ]


def test_latex(table):
    lines = [line for line in table.to_latex().splitlines() if not line.startswith("%")]
    assert lines == [
        r"\begin{tabular}{lc}",
        r"\toprule",
        r" & \multicolumn{1}{c}{xor\_offline} \\",
        r"\cmidrule(lr){2-2}",
        r" & c \\",
        r"\midrule",
        r"bc & $0.10 \pm 0.10$ {\scriptsize ($n=3$)} \\",
        r"inspo & $\mathbf{1.00} \pm 0.10$ {\scriptsize ($n=3$)} \\",
        r"omar\_x & $\mathbf{1.00} \pm 0.07$ {\scriptsize ($n=2$)} \\",
        r"single & $0.00^{\dagger}$ {\scriptsize ($n=1$)} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_csv(table):
    lines = list(csv.DictReader(table.to_csv().splitlines()))
    assert [line["algorithm"] for line in lines] == ["bc", "inspo", "omar_x", "single"]
    bc, inspo, _, single = lines
    assert (bc["n"], bc["seeds"], bc["scores"]) == ("3", "0 1 2", "0.0 0.1 0.2")
    assert float(bc["mean"]) == pytest.approx(0.1)
    assert float(bc["std"]) == pytest.approx(0.1)
    # Student's t with 4 degrees of freedom, at 0.9 / sqrt(0.01 / 3 + 0.01 / 3) = 11.02.
    assert float(bc["p_value"]) == pytest.approx(0.000385, abs=1e-6)
    assert (bc["is_best"], inspo["is_best"], inspo["p_value"]) == ("False", "True", "")
    assert single["std"] == single["p_value"] == ""


def test_an_asterisk_marks_what_is_not_significantly_different(tmp_path):
    make_runs(tmp_path, [0.9, 1.0, 1.2], name="inspo")
    make_runs(tmp_path, [0.8, 1.0, 1.1], name="omar")
    make_runs(tmp_path, [-1.0, -1.1, -1.2], name="bc")
    table = compare_runs(tmp_path)
    markdown, tex = table.to_markdown(3), table.to_latex(3)
    assert "| 0.967 ± 0.153* (n=3)" in markdown
    assert "| \N{MINUS SIGN}1.100 ± 0.100 (n=3)" in markdown
    assert r"omar & $0.967 \pm 0.153^{*}$" in tex
    assert r"bc & $-1.100 \pm 0.100$" in tex


@pytest.mark.parametrize(("score", "expected"), [("final", 1.0), ("last5", 0.5), ("best", 1.5)])
def test_scores(tmp_path, score, expected):
    make_run(tmp_path, 1.0)
    table = compare_runs(tmp_path, score=score)
    (cell,) = table.cells.values()
    assert cell.mean == expected
    assert ("optimistic" in table.notes()[0]) == (score == "best")


def test_columns_are_environments_and_datasets_and_cells_may_be_empty(tmp_path):
    other_data = {"env_args": {**SETTINGS["env_args"], "dataset": "b"}, "fingerprint": "b" * 16}
    make_runs(tmp_path, [1.0, 2.0], name="bc")
    make_runs(tmp_path, [1.0, 2.0], name="inspo", **other_data)
    make_run(tmp_path, -2.0, env_config="bridge", env_args={"dataset": "/data/mixed.h5"})
    table = compare_runs(tmp_path)
    rows = [[text.strip() for text in line.split("|")] for line in str(table).splitlines()]
    assert rows[0][2:5] == ["bridge, mixed", "xor_offline, b", "xor_offline, c"]
    assert rows[2][1:4] == ["bc", "\N{MINUS SIGN}2.00 (n=1)", "\N{EN DASH}"]
    assert rows[3][1:3] == ["inspo", "\N{EN DASH}"]
    tex = table.to_latex()
    assert r" & \multicolumn{1}{c}{bridge} & \multicolumn{2}{c}{xor\_offline} \\" in tex
    assert r"\cmidrule(lr){2-2}\cmidrule(lr){3-4}" in tex


def test_notes_say_how_each_column_was_evaluated(tmp_path):
    make_runs(tmp_path, [0.5, 0.7], **BATTLE)
    make_run(tmp_path, 3.0, test_greedy=True)
    table = compare_runs(tmp_path)
    assert table.notes()[-2:] == [
        "SMAX-2s3z, medium: win rate, 1000 test episodes, sampled actions, 300 gradient steps.",
        "xor_offline, c: return, 1000 test episodes, greedy actions, 300 gradient steps.",
    ]
    header = table.to_markdown().splitlines()[0]
    assert header == "|     | SMAX-2s3z, medium (win rate) | xor_offline, c (return) |"


def test_skipped_runs_are_mentioned_below_the_table(tmp_path):
    make_run(tmp_path, 1.0)
    (make_run(tmp_path, 1.0, folder="killed") / "summary.json").unlink()
    table = compare_runs(tmp_path)
    assert str(table) == table.to_markdown() + "\n\nWarnings: 0. Skipped run folders: 1."


def test_save(tmp_path):
    make_run(tmp_path / "results", 1.0)
    (make_run(tmp_path / "results", 1.0, folder="killed") / "summary.json").unlink()
    table = compare_runs(tmp_path / "results")
    out = tmp_path / "out"
    ends = ("comparison.md", "comparison.tex", "comparison.csv", "marl_eval.json")
    pictures = ("learning_curves.png", "learning_curves.pdf", "scores.png", "scores.pdf")
    assert table.save(out) == [out / name for name in ends + pictures]
    assert (out / "marl_eval.json").read_text() == table.to_marl_eval() + "\n"
    assert (out / "comparison.tex").read_text() == table.to_latex() + "\n"
    assert (out / "comparison.csv").read_text() == table.to_csv()
    document = (out / "comparison.md").read_text()
    for part in (
        table.to_markdown(),
        "![Learning curves](learning_curves.png)",
        "![Scores](scores.png)",
        "**Skipped** (1)",
        f"- {tmp_path}/results/killed: unfinished",
    ):
        assert part in document
    assert "Made by" not in document


def test_empty_cells():
    assert latex.cell_text(None, 2) == "--"
    assert latex.cell_text(CellScores((1.0,), (0,)), 2) == r"$1.00$ {\scriptsize ($n=1$)}"


def test_latex_escapes():
    assert latex.escape("a_b & 50% #1 {x} $y") == r"a\_b \& 50\% \#1 \{x\} \$y"
    assert latex.escape("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"


@pytest.mark.parametrize(
    ("t_max", "behaviour_steps", "starts", "warns"),
    [
        (300, 200, True, True),
        (300, 60, True, False),  # too few to matter
        (500, 200, True, False),  # the others had as many
        (300, 200, False, False),
    ],
)
def test_steps_as_behaviour_models_are_not_forgotten(
    tmp_path, t_max, behaviour_steps, starts, warns
):
    own = {"init_from_behaviour": starts, "behaviour_steps": behaviour_steps}
    make_run(tmp_path, 1.0, name="inspo", **own)
    make_run(tmp_path, 0.5, name="bc", t_max=t_max)
    make_run(tmp_path, 0.5, name="bc", t_max=500)
    warnings = compare_runs(tmp_path, allow=["t_max"]).warnings
    expected = "inspo had 200 steps as behaviour models, which t_max does not count; bc had fewer"
    assert [expected in warning for warning in warnings] == [True] * warns
