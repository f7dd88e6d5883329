import numpy as np
import pytest

from inspo.tabular.experiment import load_settings, make_problem, run
from inspo.tabular.figures import Curve, PolicyTable, draw
from inspo.tabular.report import draw_solution
from inspo.utils.pictures import save_figure


def texts(axis):
    return [text.get_text() for text in axis.texts]


def tick_labels(axis):
    return [label.get_text() for label in axis.get_xticklabels()]


def test_tables_and_curves():
    joint = np.array([[0.125, 0.875], [0.0, 0.0]])
    rewards = np.array([[0.0, 1.0], [1.0, -2.0]])
    curves = [Curve("one", [0.0, 2.0, 3.0]), Curve("other", [0.0, -1.0])]
    figure = draw([PolicyTable("Policy", joint)], curves, "ABC", best=4.0, rewards=rewards)
    table, lines = figure.axes
    assert table.images[0].get_array().tolist() == joint.tolist()
    assert texts(table)[::2] == ["0.12", "0.88", "0", "0"]
    assert texts(table)[1::2] == ["r = 0", "r = 1", "r = 1", "r = \N{MINUS SIGN}2"]
    assert [text.get_color() for text in table.texts[:4:2]] == ["0.15", "white"]
    assert tick_labels(table) == ["A", "B"]
    assert (table.get_title(), table.get_ylabel()) == ("Policy", "agent 0")
    assert table.get_xlabel() == "agent 1"

    best, one, other = lines.lines
    assert best.get_ydata() == [4.0, 4.0]
    assert one.get_ydata().tolist() == [0.0, 2.0, 3.0]
    assert other.get_ydata().tolist() == [0.0, -1.0]
    labels = [text.get_text() for text in lines.get_legend().get_texts()]
    assert labels == ["optimum", "one", "other"]
    low, high = lines.get_ylim()
    assert low < -1
    assert high > 4


def test_the_columns_of_three_agents_are_joint_actions_of_two():
    joint = np.arange(12).reshape(2, 2, 3) / 66
    table = draw([PolicyTable("Policy", joint)], [Curve("return", [0.0])], "ABC").axes[0]
    assert tick_labels(table) == ["A A", "A B", "A C", "B A", "B B", "B C"]
    assert table.get_xlabel() == "other agents"
    assert table.images[0].get_array().tolist() == joint.reshape(2, 6).tolist()
    assert texts(table)[:3] == ["0", "0.02", "0.03"]
    assert len(table.texts) == 12  # probabilities; rewards are not given


def test_a_large_table_has_no_numbers():
    joint = np.full((7, 7), 1 / 49)
    table = draw([PolicyTable("Policy", joint)], [Curve("return", [0.0])], "ABCDEFG", rewards=joint)
    assert texts(table.axes[0]) == []


def test_the_figure_of_xor_shows_both_schemes():
    config = load_settings("xor", {"rounds": 200})
    problem = make_problem(config)
    figure = draw_solution(config, problem, run(config, problem))
    behaviour, sequential, simultaneous, returns = figure.axes
    np.testing.assert_allclose(behaviour.images[0].get_array(), np.array([[4, 2], [2, 1]]) / 9)
    assert sequential.images[0].get_array()[0, 1] > 0.999
    assert sequential.get_title() == "Sequential"
    assert simultaneous.get_title() == "Simultaneous, round 200"
    _, converged, swinging = returns.lines
    assert converged.get_ydata()[[0, -1]] == pytest.approx([2 / 9, 1], abs=0.01)
    assert swinging.get_ydata()[-2:] == pytest.approx([0, -2], abs=0.01)
    assert len(converged.get_xdata()) == len(swinging.get_xdata()) == 11


@pytest.mark.parametrize(
    ("compare", "titles"),
    [
        ("none", ["Behaviour", "Exact InSPO", "Return"]),
        ("entropy", ["Behaviour", "With entropy", "Without entropy", "Return"]),
    ],
)
def test_what_stands_beside_the_solution(compare, titles):
    config = load_settings("mne", {"compare": compare})
    problem = make_problem(config)
    figure = draw_solution(config, problem, run(config, problem))
    assert [axis.get_title() for axis in figure.axes] == titles


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_the_same_figure_is_the_same_file(tmp_path, suffix):
    contents = []
    for name in ("first", "second"):
        figure = draw([PolicyTable("Policy", np.eye(2) / 2)], [Curve("return", [0.0])], "AB")
        path = tmp_path / f"{name}{suffix}"
        save_figure(figure, path, suffix.removeprefix("."))
        contents.append(path.read_bytes())
    assert contents[0].startswith({".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix])
    assert contents[0] == contents[1]
