import pytest
from run_folders import BATTLE, SETTINGS, make_run, make_runs

from inspo.comparison import bars
from inspo.comparison.canvas import COLOURS, LINE_STYLES
from inspo.comparison.command import compare_runs
from inspo.comparison.figures import draw, make_figure, shown_range


def figure_of(folder):
    table = compare_runs(folder)
    return make_figure(table.comparison, table.curves)


def legend_texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_curve_is_the_mean_with_its_interval(tmp_path):
    make_runs(tmp_path, [0.0, 3.0])
    figure = figure_of(tmp_path)
    (axis,) = figure.axes
    (line,) = axis.lines
    assert line.get_xdata().tolist() == [0, 100, 200, 300]
    assert line.get_ydata().tolist() == [0, 0.5, 1, 1.5]
    (band,) = axis.collections
    ends = {y for x, y in band.get_paths()[0].vertices if x == 300}
    # 12.7062 is the 97.5 % quantile of t, 3 / sqrt(2) the standard deviation.
    half_width = 12.7062 * 3 / 2**0.5 / 2**0.5
    assert sorted(ends) == pytest.approx([1.5 - half_width, 1.5 + half_width], abs=1e-3)
    assert band.get_facecolor()[0, :3].tolist() == pytest.approx([0, 114 / 255, 178 / 255])
    assert axis.get_title() == "xor_offline, c"
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("gradient steps", "test return")
    assert legend_texts(figure) == ["bc, n=2"]
    # The axis ends where the seeds' values end, not where the interval does.
    assert axis.get_ylim() == pytest.approx((-0.18, 3.18))
    assert axis.get_xlim() == (0, 300)


def test_rows_have_the_same_look_in_all_panels(tmp_path):
    other = {"env_args": {**SETTINGS["env_args"], "dataset": "b"}, "fingerprint": "b" * 16}
    make_run(tmp_path, 1.0, name="bc")
    make_run(tmp_path, 2.0, name="inspo")
    make_runs(tmp_path, [3.0, 3.0], name="inspo", **other)
    figure = figure_of(tmp_path)
    b, c = figure.axes
    assert (b.get_title(), c.get_title()) == ("xor_offline, b", "xor_offline, c")
    assert [line.get_color() for line in c.lines] == list(COLOURS[:2])
    assert [line.get_color() for line in b.lines] == [COLOURS[1]]
    assert [line.get_ydata()[-1] for line in (*b.lines, *c.lines)] == [3.0, 1.0, 2.0]
    assert legend_texts(figure) == ["bc, n=1", "inspo, n=1 to 2"]


def test_with_many_rows_colours_repeat_in_other_line_styles(tmp_path):
    for number in range(8):
        make_run(tmp_path, 1.0, name=f"algorithm{number}")
    lines = figure_of(tmp_path).axes[0].lines
    looks = [(line.get_color(), line.get_linestyle()) for line in lines]
    assert looks[0] == (COLOURS[0], LINE_STYLES[0])
    assert looks[7] == (COLOURS[0], LINE_STYLES[1])
    assert len(set(looks)) == 8


def test_many_steps_are_written_in_thousands(tmp_path):
    make_run(tmp_path, 1.0, t_max=20_000, test_interval=10_000)
    (axis,) = figure_of(tmp_path).axes
    assert axis.get_xlabel() == "gradient steps (thousands)"
    assert axis.get_xlim() == (0, 20_000)
    assert axis.xaxis.get_major_formatter()(20_000) == "20"


def test_the_datasets_own_win_rate_is_drawn_where_a_run_knows_it(tmp_path):
    make_run(tmp_path, 0.5, dataset_return={"return_mean": 9.0}, **BATTLE)
    figure = figure_of(tmp_path)
    assert len(figure.axes[0].lines) == 1  # a return has no place on an axis of win rates
    assert legend_texts(figure) == ["bc, n=1"]
    make_run(tmp_path, 0.7, seed=1, dataset_return={"battle_won_mean": 0.2}, **BATTLE)
    figure = figure_of(tmp_path)
    (axis,) = figure.axes
    assert axis.lines[1].get_ydata() == [0.2, 0.2]
    assert axis.get_ylabel() == "test win rate"
    assert axis.get_ylim() == (-0.03, 1.03)
    assert legend_texts(figure) == ["bc, n=2", "mean of the dataset"]


def test_the_shown_range_holds_all_values():
    assert shown_range([0.0, 1.0, 0.5]) == pytest.approx((-0.06, 1.06))
    assert shown_range([-2.0, -2.0]) == pytest.approx((-2.1, -1.9))
    assert shown_range([0.0]) == (-1.0, 1.0)


def test_pictures_of_the_same_numbers_are_the_same_files(tmp_path):
    make_runs(tmp_path / "results", [1.0, 2.0])
    table = compare_runs(tmp_path / "results")
    files = draw(table.comparison, table.curves, tmp_path / "curves")
    assert [path.name for path in files] == ["curves.png", "curves.pdf"]
    contents = [path.read_bytes() for path in files]
    assert contents[0].startswith(b"\x89PNG")
    assert contents[1].startswith(b"%PDF")
    draw(table.comparison, table.curves, tmp_path / "curves")
    assert [path.read_bytes() for path in files] == contents


def test_runs_without_a_usable_record_are_in_the_table_only(tmp_path):
    whole, gone, damaged, twice, other, sparse = make_runs(tmp_path, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    (gone / "metrics.csv").unlink()
    (damaged / "metrics.csv").write_text("step,test_return_mean\n0,1.0\n10,oops\n")
    (twice / "metrics.csv").write_text("step,test_return_mean\n0,1.0\n300,2.0\n300,4.0\n")
    (other / "metrics.csv").write_text("step,loss\n0,1.0\n")
    (sparse / "metrics.csv").write_text("step,test_return_mean\n0,0.5\n300,2.0\n")
    table = compare_runs(tmp_path)
    (cell,) = table.cells.values()
    assert cell.n == 6
    missing = "{}: in the table, but not in the curves: metrics.csv {}"
    assert table.warnings == [
        missing.format(gone, "is missing"),
        missing.format(
            damaged, "is damaged: ValueError: could not convert string to float: 'oops'"
        ),
        missing.format(twice, "is damaged: it records test_return_mean 2 times at step 300"),
        missing.format(other, "has no record of test_return_mean"),
        "the curve of bc in xor_offline, c shows only the steps that all its runs recorded",
    ]
    (line,) = make_figure(table.comparison, table.curves).axes[0].lines
    assert line.get_xdata().tolist() == [0, 300]
    assert line.get_ydata().tolist() == [0.25, 1.5]

    stem = tmp_path / "curves"
    draw(table.comparison, table.curves, stem)
    for run in (whole, sparse):
        (run / "metrics.csv").unlink()
    table = compare_runs(tmp_path)
    assert draw(table.comparison, table.curves, stem) == []
    assert not list(tmp_path.glob("curves.*"))  # no picture of what was drawn before


def test_bars_are_final_scores_with_intervals(tmp_path):
    make_runs(tmp_path, [0.0, 3.0])
    make_runs(tmp_path, [2.0], name="inspo", dataset_return={"return_mean": 1.5})
    make_runs(tmp_path, [0.5], **BATTLE)
    table = compare_runs(tmp_path)
    battles, returns = bars.make_figure(table.comparison, table.cells).axes
    assert [axis.get_ylabel() for axis in (battles, returns)] == ["test win rate", "test return"]
    assert [bar.get_height() for bar in battles.patches] == [0.5]
    assert [bar.get_height() for bar in returns.patches] == [1.5, 2.0]
    assert [text.get_text() for text in returns.get_xticklabels()] == ["xor_offline\nc"]
    interval, dataset = returns.collections
    ends = interval.get_segments()[0][:, 1]
    half_width = 12.7062 * 1.5  # the 97.5 % quantile of t, and the standard error
    assert ends == pytest.approx([1.5 - half_width, 1.5 + half_width], abs=1e-3)
    assert dataset.get_segments()[0][:, 1].tolist() == [1.5, 1.5]
