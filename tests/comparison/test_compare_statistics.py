import math

import pytest

from inspo.comparison.statistics import CellScores, mark_best, mean_and_std, mean_curve, welch


def test_mean_and_standard_deviation():
    assert mean_and_std([1.0, 2.0, 6.0]) == (3.0, pytest.approx(math.sqrt((4 + 1 + 9) / 2)))
    assert mean_and_std([0.1, 0.1, 0.1]) == (0.1, 0.0)  # no rounding error
    assert mean_and_std([5.0]) == (5.0, None)


def test_welch():
    # Equal spread and n=2: two degrees of freedom, with the distribution 1/2 + t/(2 sqrt(2 + t^2)).
    t = 3 / math.sqrt(2 / 2 + 2 / 2)
    assert welch([0, 2], [3, 5]) == pytest.approx(1 - t / math.sqrt(2 + t**2))
    # t = -2 / sqrt(2.5/5 + 6.67/4) = -1.3587 with 4.749 degrees of freedom (R's t.test).
    assert welch([1, 2, 3, 4, 5], [2, 4, 6, 8]) == pytest.approx(0.23519, abs=1e-5)


def test_welch_without_spread():
    assert welch([1, 1], [1, 1, 1]) == 1
    assert welch([1, 1], [2, 2]) == 0
    assert welch([1, 1, 1], [0.9, 1.0, 1.1]) == 1
    assert welch([1], [2, 3]) is None


def test_the_best_is_marked_and_the_others_are_tested_against_it():
    cells = mark_best(
        {
            "best": CellScores((1.0, 1.2, 1.1), (0, 1, 2)),
            "near": CellScores((0.9, 1.2, 1.0), (0, 1, 2)),
            "far": CellScores((0.0, 0.1, 0.2), (0, 1, 2)),
            "single": CellScores((0.5,), (0,)),
        }
    )
    assert [name for name, cell in cells.items() if cell.is_best] == ["best"]
    assert [name for name, cell in cells.items() if cell.not_different] == ["near"]
    assert [name for name, cell in cells.items() if cell.untested] == ["single"]


def test_equal_means_are_all_best_and_a_single_cell_is_not():
    tied = mark_best(
        {"a": CellScores((0.1, 0.2, 0.3), (0, 1, 2)), "b": CellScores((0.3, 0.2, 0.1), (0, 1, 2))}
    )
    assert tied["a"].is_best
    assert tied["b"].is_best
    assert not mark_best({"alone": CellScores((1.0, 2.0), (0, 1))})["alone"].is_best


def test_curves_use_the_common_steps():
    steps, mean, half_width = mean_curve([{0: 0.0, 10: 1.0, 15: 5.0}, {0: 2.0, 10: 1.0}])
    assert steps.tolist() == [0, 10]
    assert mean.tolist() == [1.0, 1.0]
    # The 97.5 % quantile of Student's t with one degree of freedom, times sqrt(2) / sqrt(2).
    assert half_width.tolist() == pytest.approx([12.7062, 0.0], abs=1e-4)
    assert mean_curve([{0: 3.0}])[2] is None
