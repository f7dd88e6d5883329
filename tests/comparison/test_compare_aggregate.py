import json

import numpy as np
import pytest
from run_folders import BATTLE, make_run, make_runs

from inspo.comparison import aggregate as module
from inspo.comparison import aggregate_figures
from inspo.comparison.aggregate import aggregate, probability_of_improvement
from inspo.comparison.command import compare_runs, main
from inspo.comparison.normalise import column_references, normalised
from inspo.utils.errors import ComparisonError

GAMES = {"xor_offline": "f" * 16, "lbf_offline": "e" * 16}
HALVES = {"*": (-1.0, 1.0)}


def make_two_games(folder, scores):
    """Runs of each algorithm in two games, the second's scores lower by 0.2."""
    for algorithm, values in scores.items():
        for shift, (game, fingerprint) in enumerate(GAMES.items()):
            shifted = [value - 0.2 * shift for value in values]
            make_runs(folder, shifted, name=algorithm, env_config=game, fingerprint=fingerprint)
    return compare_runs(folder).comparison


@pytest.fixture(autouse=True)
def _few_samples(monkeypatch):
    monkeypatch.setattr(module, "BOOTSTRAP_SAMPLES", 60)


@pytest.fixture
def rliable():
    return pytest.importorskip("rliable.metrics", reason="rliable is not installed")


def by_label(mapping):
    return {row.label: value for row, value in mapping.items()}


def test_statistics_of_normalised_scores(tmp_path, rliable):
    comparison = make_two_games(tmp_path, {"bc": [0.0, 0.2, 0.4, 0.6], "inspo": [0.8] * 4})
    result = aggregate(comparison, HALVES)
    # Columns are sorted by title: lbf_offline comes first. (score + 1) / 2:
    scores = by_label(result.scores)
    assert scores["bc"] == pytest.approx(np.array([[40, 50], [50, 60], [60, 70], [70, 80]]) / 100)
    of_bc = by_label(result.estimates)["bc"]
    # Sorted: 40 50 50 60 60 70 70 80; the middle half is 50 60 60 70.
    assert of_bc["iqm"].value == pytest.approx(0.60)
    assert of_bc["mean"].value == of_bc["median"].value == pytest.approx(0.60)
    assert of_bc["optimality_gap"].value == pytest.approx(0.40)
    assert of_bc["mean"].low < 0.60 < of_bc["mean"].high
    of_inspo = by_label(result.estimates)["inspo"]["mean"]
    assert (of_inspo.low, of_inspo.high) == pytest.approx((0.85, 0.85))  # no spread over seeds

    ((x, y), estimate), *rest = result.improvement.items()
    assert (x.label, y.label, rest) == ("inspo", "bc", [])
    assert tuple(estimate) == (1.0, 1.0, 1.0)
    profile = by_label(result.profiles)["bc"]
    above_half = result.thresholds.tolist().index(0.5)
    assert profile.share[above_half] == pytest.approx(5 / 8)  # 60 60 70 70 80


def test_the_same_runs_give_the_same_intervals(tmp_path, rliable):
    comparison = make_two_games(tmp_path, {"bc": [0.0, 0.3, 0.7], "inspo": [0.1, 0.2, 0.9]})
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    first = aggregate(comparison, HALVES).to_csv()
    assert np.random.random() == expected  # the caller's random state is kept
    assert aggregate(comparison, HALVES).to_csv() == first


def test_probability_of_improvement_is_rliables(rliable):
    rng = np.random.default_rng(0)
    for _ in range(10):
        x = rng.integers(0, 4, (3, 5)).astype(float)
        y = rng.integers(0, 4, (6, 5)).astype(float)
        expected = rliable.probability_of_improvement(x, y)
        assert probability_of_improvement(x, y) == pytest.approx(expected)


def test_what_is_left_out_is_said(tmp_path, rliable):
    make_two_games(tmp_path, {"bc": [0.1, 0.2, 0.3], "inspo": [0.5, 0.6]})
    make_run(tmp_path, 0.7, name="inspo", seed=7)
    make_runs(tmp_path, [0.1, 0.2], name="omar")
    result = aggregate(compare_runs(tmp_path).comparison, HALVES)
    assert list(by_label(result.scores)) == ["bc", "inspo"]
    assert result.notes == [
        "omar is left out: no run in lbf_offline, c",
        "inspo: seeds 7 are not in all columns; left out",
    ]
    for note in result.notes:
        assert note in result.document()


def test_pooled_runs_of_one_seed_are_refused(tmp_path, rliable):
    for lr in (0.1, 0.2):
        make_runs(tmp_path, [0.1, 0.2], name="bc", lr=lr)
    comparison = compare_runs(tmp_path, group_by="name").comparison
    with pytest.raises(ComparisonError, match="--group-by pools, some have the same seed"):
        aggregate(comparison, HALVES)


def test_one_seed_is_not_enough(tmp_path, rliable):
    comparison = make_two_games(tmp_path, {"bc": [0.1]})
    with pytest.raises(ComparisonError, match=r"two seeds:\n  bc: seeds in all columns: \[0\]"):
        aggregate(comparison, HALVES)


def test_references(tmp_path):
    make_run(tmp_path, 0.5, **BATTLE)
    made = make_run(tmp_path, 0.5)
    summary = json.loads((made / "summary.json").read_text())
    (made / "summary.json").write_text(json.dumps(summary | {"reference_return": [-2.0, 1.0]}))
    comparison = compare_runs(tmp_path).comparison
    found = {c.environment: pair for c, pair in column_references(comparison, {}).items()}
    assert found == {"SMAX-2s3z": (0.0, 1.0), "xor_offline": (-2.0, 1.0)}
    given = column_references(comparison, {"xor*": (0, 10)})
    assert (0.0, 10.0) in given.values()
    assert normalised(-0.5, (-2.0, 1.0)) == 0.5


def test_all_that_is_wrong_with_references_is_said_at_once(tmp_path):
    make_two_games(tmp_path, {"bc": [0.1, 0.2]})
    comparison = compare_runs(tmp_path).comparison
    with pytest.raises(ComparisonError) as error:
        column_references(comparison, {"xor*": (1.0, 1.0), "other": (0.0, 1.0)})
    message = str(error.value)
    assert "[1.0, 1.0] is no minimum and a larger maximum" in message
    assert "lbf_offline, c: its dataset has no reference return" in message
    assert "--reference=other: matches none of lbf_offline, c, xor_offline, c" in message


def test_the_command(tmp_path, capsys, rliable):
    make_two_games(tmp_path / "results", {"bc": [0.1, 0.2], "inspo": [0.5, 0.6]})
    out = tmp_path / "out"
    words = [str(tmp_path / "results"), f"--out={out}", "--aggregate"]
    assert main(words) == 2
    assert "give one, as in --reference='lbf_offline=MIN,MAX'" in capsys.readouterr().err
    assert not out.exists()
    assert main([*words, "--reference=*=-1,1"]) == 0
    table = capsys.readouterr().out
    assert "| inspo | 2 x 2 | 0.7" in table
    names = ("aggregate.md", "aggregate.csv", "aggregate.png", "aggregate.pdf")
    assert all((out / name).exists() for name in names)
    assert "![Aggregate](aggregate.png)" not in (out / "aggregate.md").read_text()


@pytest.mark.parametrize("text", ["xor", "xor=1", "xor=1,0", "xor=a,b", "=0,1", "xor=0,nan"])
def test_wrong_references_on_the_command_line(tmp_path, capsys, text):
    assert main([str(tmp_path), "--aggregate", f"--reference={text}"]) == 2
    assert "is not of the form PATTERN=MIN,MAX" in capsys.readouterr().err


def test_a_reference_alone_does_nothing_and_is_refused(tmp_path, capsys):
    assert main([str(tmp_path), "--reference=xor=0,1"]) == 2
    assert "--aggregate" in capsys.readouterr().err


def test_the_figure(tmp_path, rliable):
    comparison = make_two_games(tmp_path, {"bc": [0.0, 0.2], "inspo": [0.6, 0.8]})
    result = aggregate(comparison, HALVES)
    figure = aggregate_figures.make_figure(result)
    *statistics, profile, pairs = figure.get_axes()
    assert [axis.get_title() for axis in statistics] == list(module.STATISTICS.values())
    bars = statistics[1].patches
    intervals = [estimates["mean"] for estimates in result.estimates.values()]
    for bar, interval in zip(bars, intervals, strict=True):
        ends = (bar.get_x(), bar.get_x() + bar.get_width())
        assert ends == pytest.approx((interval.low, interval.high))
    assert profile.lines[0].get_ydata() == pytest.approx(next(iter(result.profiles.values())).share)
    assert [text.get_text() for text in pairs.get_yticklabels()] == ["inspo > bc"]
