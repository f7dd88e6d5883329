"""Normalised scores: 0 is a game's reference minimum, and 1 its reference maximum."""

import fnmatch
import math
from collections.abc import Mapping, Sequence

from inspo.comparison.comparison import WIN_RATE, Comparison
from inspo.comparison.grouping import Column
from inspo.utils.errors import ComparisonError

Reference = tuple[float, float]  # minimum and maximum


def column_references(
    comparison: Comparison, given: Mapping[str, Sequence[float]]
) -> dict[Column, Reference]:
    """The reference of each column.

    A win rate's is (0, 1). A return's is the dataset's, which summary.json records.

    Args:
        given: pattern of a column's title or environment -> minimum and maximum. It overrides.

    Raises:
        ComparisonError: a reference is missing or wrong, or a pattern matches no column.
    """
    found = {}
    problems = [
        f"reference of {pattern!r}: {list(pair)} is no minimum and a larger maximum"
        for pattern, pair in given.items()
        if not is_reference(pair)
    ]
    unused = set(given)
    for column in comparison.columns:
        matching = [pattern for pattern in given if _matches(column, pattern)]
        unused.difference_update(matching)
        if matching:
            low, high = given[matching[-1]]
            found[column] = (float(low), float(high))
        elif comparison.metrics[column] == WIN_RATE:
            found[column] = (0.0, 1.0)
        elif (reference := _reference_of_dataset(comparison, column)) is not None:
            found[column] = reference
        else:
            problems.append(
                f"{column.title}: its dataset has no reference return; give one, as in "
                f"--reference='{column.environment}=MIN,MAX'"
            )
    titles = ", ".join(column.title for column in comparison.columns)
    problems += [f"--reference={name}: matches none of {titles}" for name in sorted(unused)]
    if problems:
        raise ComparisonError("scores cannot be normalised:\n  " + "\n  ".join(problems))
    return found


def is_reference(pair: Sequence[float]) -> bool:
    """Whether `pair` is a finite minimum and a larger maximum."""
    return len(pair) == 2 and all(map(math.isfinite, pair)) and pair[0] < pair[1]


def normalised(score: float, reference: Reference) -> float:
    """(score - minimum) / (maximum - minimum). It is not clipped."""
    low, high = reference
    return (score - low) / (high - low)


def _reference_of_dataset(comparison: Comparison, column: Column) -> Reference | None:
    """The first that a run of the column recorded."""
    for run in comparison.runs(column):
        if run.summary.reference_return is not None:
            return run.summary.reference_return
    return None


def _matches(column: Column, pattern: str) -> bool:
    names = (column.title, column.environment)
    return any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in names)
