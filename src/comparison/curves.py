"""Learning curves of a comparison's runs."""

from inspo.comparison.comparison import Comparison
from inspo.comparison.grouping import Column, Row
from inspo.comparison.runs import UnusableError, read_history

History = dict[int, float]  # step -> value
Curves = dict[tuple[Row, Column], list[History]]  # one history for each seed


def read_curves(comparison: Comparison) -> tuple[Curves, list[str]]:
    """Reads the curves of all cells.

    Returns:
        the curves, and warnings about missing curves and missing steps.
    """
    curves: Curves = {}
    warnings: list[str] = []
    for (row, column), runs in comparison.cells.items():
        histories = []
        for run in runs:
            try:
                histories.append(read_history(run.folder, comparison.metrics[column]))
            except UnusableError as reason:
                warnings.append(f"{run.folder}: in the table, but not in the curves: {reason}")
        if not histories:
            continue
        cell = f"{row.label} in {column.title}"
        common = set.intersection(*(set(history) for history in histories))
        if not common:
            warnings.append(f"{cell} has no curve: its runs were evaluated at different steps")
            continue
        if any(set(history) != common for history in histories):
            warnings.append(f"the curve of {cell} shows only the steps that all its runs recorded")
        curves[row, column] = histories
    return curves, warnings


def dataset_score(comparison: Comparison, column: Column) -> float | None:
    """The mean return or win rate of the column's dataset, where a run recorded it."""
    name = comparison.metrics[column].removeprefix("test_")
    for run in comparison.runs(column):
        scores = run.summary.dataset_return or {}
        if name in scores:
            return scores[name]
    return None
