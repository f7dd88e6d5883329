"""Means, standard deviations, tests and intervals over a handful of seeds."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy import stats

SIGNIFICANCE = 0.05
CONFIDENCE = 0.95
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class CellScores:
    """The scores of one row and column, and how they compare with the column's best.

    Args:
        scores: one for each run.
        seeds: of the runs, in the same order.
        p_value: of a mean equal to the best cell's. None: this is the best cell, or untested.
        untested: there is a better cell, but one of the two has a single score.
    """

    scores: tuple[float, ...]
    seeds: tuple[int, ...]
    is_best: bool = False
    p_value: float | None = None
    untested: bool = False

    @property
    def n(self) -> int:
        """Number of runs."""
        return len(self.scores)

    @property
    def mean(self) -> float:
        """Mean over runs."""
        return mean_and_std(self.scores)[0]

    @property
    def std(self) -> float | None:
        """Standard deviation over runs, with n - 1. None for one run."""
        return mean_and_std(self.scores)[1]

    def mean_text(self, decimals: int) -> str:
        """The rounded mean; one that rounds to 0 has no sign."""
        return f"{round(self.mean, decimals) + 0.0:.{decimals}f}"

    @property
    def not_different(self) -> bool:
        """Whether the test finds no difference from the best cell. It does not prove equality."""
        return self.p_value is not None and self.p_value >= SIGNIFICANCE


def mean_and_std(scores: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation with n - 1 (None for one score).

    Equal scores have a standard deviation of exactly 0, without rounding errors.
    """
    if len(scores) == 1:
        return scores[0], None
    if min(scores) == max(scores):
        return scores[0], 0.0
    return float(np.mean(scores)), float(np.std(scores, ddof=1))


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p-value of Welch's t-test for equal means. None if a side has a single score.

    Without any spread the t statistic is undefined. Then p is 1 for equal means, else 0.
    """
    if min(len(first), len(second)) < 2:
        return None
    mean_1, std_1 = mean_and_std(first)
    mean_2, std_2 = mean_and_std(second)
    if std_1 == std_2 == 0:
        return float(_equal(mean_1, mean_2))
    test = stats.ttest_ind_from_stats(
        mean_1, std_1, len(first), mean_2, std_2, len(second), equal_var=False
    )
    return float(test.pvalue)


def mark_best(column: Mapping[Key, CellScores]) -> dict[Key, CellScores]:
    """Marks the best cell of a column, and tests the others against it.

    Cells of equal means are all best. A column of one cell has no best.
    """
    if len(column) < 2:
        return dict(column)
    best = max(column.values(), key=lambda cell: (cell.mean, cell.n))
    marked = {}
    for key, cell in column.items():
        if _equal(cell.mean, best.mean):
            marked[key] = replace(cell, is_best=True)
        else:
            p_value = welch(cell.scores, best.scores)
            marked[key] = replace(cell, p_value=p_value, untested=p_value is None)
    return marked


def _equal(first: float, second: float) -> bool:
    """Equal up to rounding: a mean depends on the order of its sum."""
    return math.isclose(first, second, rel_tol=1e-12, abs_tol=1e-12)


def mean_curve(
    histories: Sequence[Mapping[int, float]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Mean over seeds, and the half width of its 95 % t-interval.

    Args:
        histories: step -> value, one for each seed.

    Returns:
        the steps that all histories have, mean and half width, [T] each. The half width of a
        single history is None.
    """
    steps = sorted(set.intersection(*(set(history) for history in histories)))
    values = np.array([[history[step] for step in steps] for history in histories])  # [seeds, T]
    if len(values) == 1:
        return np.array(steps), values[0], None
    return np.array(steps), values.mean(axis=0), _half_width(values)


def mean_half_width(scores: Sequence[float]) -> float | None:
    """Half width of the 95 % t-interval of the mean. None for one score."""
    return None if len(scores) == 1 else float(_half_width(np.array(scores)))


def _half_width(values: np.ndarray) -> np.ndarray:
    """Of the 95 % t-intervals of means over the first axis."""
    n = len(values)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, df=n - 1)
    return quantile * values.std(axis=0, ddof=1) / np.sqrt(n)
