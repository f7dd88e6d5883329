"""What a table's cell and a learning curve say about a handful of seeds."""

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
class Cell:
    """The scores of one row and column, and how they stand to the column's best."""

    scores: tuple[float, ...]
    seeds: tuple[int, ...]
    is_best: bool = False
    p_value: float | None = (
        None  # of a mean equal to the best cell's; None: it is the best, or untested
    )
    untested: bool = False  # there is a better cell, but one of the two has a single score

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
        """Standard deviation over runs, with n - 1; None for one run."""
        return mean_and_std(self.scores)[1]

    @property
    def not_different(self) -> bool:
        """Whether the test finds no difference from the best cell: that is not the same as finding them equal."""
        return self.p_value is not None and self.p_value >= SIGNIFICANCE


def mean_and_std(scores: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and the standard deviation with n - 1 (None for one score); of equal scores it is 0 without rounding."""
    if min(scores) == max(scores):
        return scores[0], None if len(scores) == 1 else 0.0
    return float(np.mean(scores)), float(np.std(scores, ddof=1))


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p-value of Welch's t-test for equal means; None where one of them has a single score.

    Without any spread on either side the t statistic is 0/0 or infinite: p is 1 if the means are equal, else 0.
    """
    if min(len(first), len(second)) < 2:
        return None
    (mean_1, std_1), (mean_2, std_2) = mean_and_std(first), mean_and_std(second)
    if std_1 == std_2 == 0:
        return float(_equal(mean_1, mean_2))
    test = stats.ttest_ind_from_stats(
        mean_1, std_1, len(first), mean_2, std_2, len(second), equal_var=False
    )
    return float(test.pvalue)


def mark(column: Mapping[Key, Cell]) -> dict[Key, Cell]:
    """The cells of one column with the best of them marked, and all others tested against it.

    Cells of equal means are best together; a column of one cell has no best.
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
    """Up to rounding: a mean depends on the order of its sum."""
    return math.isclose(first, second, rel_tol=1e-12, abs_tol=1e-12)


def curve(
    histories: Sequence[Mapping[int, float]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Mean and the half width of its 95 % t-interval at the steps that all histories have.

    Args:
        histories: step -> value, one for each seed.

    Returns:
        steps, mean and half width, [T]; no half width for a single history.
    """
    steps = sorted(set.intersection(*(set(history) for history in histories)))
    values = np.array([[history[step] for step in steps] for history in histories])  # [seeds, T]
    n = len(values)
    if n == 1:
        return np.array(steps), values[0], None
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, df=n - 1)
    return np.array(steps), values.mean(axis=0), quantile * values.std(axis=0, ddof=1) / np.sqrt(n)
