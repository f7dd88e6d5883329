"""Aggregates over columns, after Agarwal et al. (NeurIPS 2021, arXiv:2108.13264), by rliable.

Scores are normalised, so that columns can be pooled. Intervals are of 95 %, from a stratified
bootstrap over runs: each column keeps its number of runs.
"""

import csv
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from inspo.comparison import markdown
from inspo.comparison.comparison import Comparison
from inspo.comparison.grouping import Column, Row
from inspo.comparison.normalise import Reference, column_references, normalised
from inspo.utils.errors import ComparisonError

BOOTSTRAP_SAMPLES = 2000
BOOTSTRAP_SEED = 0
PROFILE_POINTS = 51  # of a performance profile
INSTALL = "the aggregates need rliable: pip install -e '.[stats]'"
# Statistic -> what it answers, in tables and docs.
STATISTICS = {
    "iqm": "interquartile mean",
    "mean": "mean",
    "median": "median",
    "optimality_gap": "optimality gap",
}


class IntervalEstimate(NamedTuple):
    """A statistic with its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, decimals: int) -> str:
        """`0.92 [0.88, 0.95]`."""
        return f"{self.value:.{decimals}f} [{self.low:.{decimals}f}, {self.high:.{decimals}f}]"


class Profile(NamedTuple):
    """The share of runs whose normalised score is above each threshold, with its interval."""

    share: np.ndarray  # [K]
    low: np.ndarray  # [K]
    high: np.ndarray  # [K]


@dataclass(frozen=True)
class Aggregate:
    """Rows over the columns that all of them have.

    Attributes:
        scores: normalised, [runs, columns] of each row.
        estimates: row -> key of `STATISTICS` -> estimate.
        thresholds: of the profiles, [K].
        improvement: (X, Y) -> probability that a run of X scores higher than one of Y.
        notes: what was left out.
    """

    columns: list[Column]
    references: dict[Column, Reference]
    scores: dict[Row, np.ndarray]
    estimates: dict[Row, dict[str, IntervalEstimate]]
    thresholds: np.ndarray
    profiles: dict[Row, Profile]
    improvement: dict[tuple[Row, Row], IntervalEstimate]
    notes: list[str]

    def to_markdown(self, decimals: int = 2) -> str:
        """Two tables: the statistics of each row, and the probabilities of improvement."""
        lines = [["", "runs", *STATISTICS.values()]]
        for row, estimates in self.estimates.items():
            n_runs, n_columns = self.scores[row].shape
            texts = [estimates[name].text(decimals) for name in STATISTICS]
            lines.append([markdown.escape(row.label), f"{n_runs} x {n_columns}", *texts])
        text = markdown.table(lines)
        if not self.improvement:
            return text
        pairs = [["X", "Y", "P(X > Y)"]]
        for (x, y), estimate in self.improvement.items():
            names = [markdown.escape(row.label) for row in (x, y)]
            pairs.append([*names, estimate.text(decimals)])
        return f"{text}\n\n{markdown.table(pairs)}"

    def to_csv(self) -> str:
        """One line for each row and statistic, with all digits."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "against", "statistic", "value", "low", "high"])
        for row, estimates in self.estimates.items():
            for name, estimate in estimates.items():
                writer.writerow([row.label, "", name, *estimate])
        for (x, y), estimate in self.improvement.items():
            writer.writerow([x.label, y.label, "probability_of_improvement", *estimate])
        return file.getvalue()

    def document(self, decimals: int = 2) -> str:
        """aggregate.md: the tables, and what a reader needs to trust them."""
        games = [
            f"{column.title}: 0 is {low:g}, and 1 is {high:g}"
            for column, (low, high) in self.references.items()
        ]
        notes = [
            "Brackets: 95 % intervals of a stratified bootstrap over runs "
            f"({BOOTSTRAP_SAMPLES} samples, percentile method), by rliable.",
            "P(X > Y): the probability that a run of X scores higher than a run of Y in the same "
            "column, averaged over columns. Ties count half.",
            *self.notes,
        ]
        return (
            "\n\n".join(
                [
                    "# Aggregate over columns",
                    self.to_markdown(decimals),
                    markdown.bullets(notes),
                    "Normalised scores:",
                    markdown.bullets(games),
                ]
            )
            + "\n"
        )


def aggregate(
    comparison: Comparison, references: Mapping[str, Sequence[float]] | None = None
) -> Aggregate:
    """Pools the columns of a comparison.

    Args:
        references: pattern of a column's title or environment -> minimum and maximum of its
            normalised scores, where the dataset does not say.

    Raises:
        ComparisonError: rliable is not installed; a column has no reference; or a row has fewer
            than two runs with the same seeds in all columns.
    """
    _import_rliable()
    known = column_references(comparison, references or {})
    rows, notes = _complete_rows(comparison)
    scores, dropped = _score_matrices(comparison, rows, known)
    with _fixed_random_state():
        estimates = _estimates(scores)
        thresholds, profiles = _profiles(scores)
        improvement = _improvements(scores)
    return Aggregate(
        comparison.columns,
        known,
        scores,
        estimates,
        thresholds,
        profiles,
        improvement,
        notes + dropped,
    )


def _import_rliable() -> None:
    try:
        import rliable.library  # noqa: F401

        logging.getLogger("absl").setLevel(logging.WARNING)  # it tells every step
    except Exception as error:  # noqa: BLE001 - arch fails in other ways with some pandas
        raise ComparisonError(f"{INSTALL} ({type(error).__name__}: {error})") from None


def _complete_rows(comparison: Comparison) -> tuple[list[Row], list[str]]:
    """The rows with a cell in every column, and a note about the others."""
    complete, notes = [], []
    for row in comparison.rows:
        missing = [c.title for c in comparison.columns if (row, c) not in comparison.cells]
        if missing:
            notes.append(f"{row.label} is left out: no run in {'; '.join(missing)}")
        else:
            complete.append(row)
    if not complete:
        raise ComparisonError(
            "no algorithm has runs in every column, so there is nothing to aggregate: select "
            "columns with --env, or rows with --where\n  " + "\n  ".join(notes)
        )
    return complete, notes


def _score_matrices(
    comparison: Comparison, rows: Sequence[Row], references: Mapping[Column, Reference]
) -> tuple[dict[Row, np.ndarray], list[str]]:
    """Each row's scores, [runs, columns], of the seeds that all its columns have."""
    matrices, notes, problems = {}, [], []
    for row in rows:
        cells = [_by_seed(comparison, row, column) for column in comparison.columns]
        seeds = sorted(set.intersection(*map(set, cells)))
        lost = sorted(set.union(*map(set, cells)) - set(seeds))
        if len(seeds) < 2:
            problems.append(f"{row.label}: seeds in all columns: {seeds or 'none'}")
            continue
        if lost:
            notes.append(f"{row.label}: seeds {_listed(lost)} are not in all columns; left out")
        matrices[row] = np.array(
            [
                [
                    normalised(cell[seed], references[column])
                    for column, cell in zip(comparison.columns, cells, strict=True)
                ]
                for seed in seeds
            ]
        )
    if problems:
        raise ComparisonError(
            "an interval needs at least two seeds:\n  "
            + "\n  ".join(problems)
            + "\nTrain more seeds, or leave these rows out with --where"
        )
    return matrices, notes


def _by_seed(comparison: Comparison, row: Row, column: Column) -> dict[int, float]:
    """The scores of a cell's runs.

    Raises:
        ComparisonError: pooled runs share a seed.
    """
    runs = comparison.cells[row, column]
    scores = {run.config.seed: comparison.score(run, column) for run in runs}
    if len(scores) < len(runs):
        raise ComparisonError(
            f"{row.label} in {column.title}: of the runs that --group-by pools, some have the same "
            "seed. --aggregate needs one for each seed: select them with --where"
        )
    return scores


def _estimates(scores: Mapping[Row, np.ndarray]) -> dict[Row, dict[str, IntervalEstimate]]:
    from rliable import metrics

    functions: list[Callable[[np.ndarray], float]] = [
        metrics.aggregate_iqm,
        metrics.aggregate_mean,
        metrics.aggregate_median,
        metrics.aggregate_optimality_gap,
    ]

    def statistics(matrix: np.ndarray) -> np.ndarray:
        return np.array([function(matrix) for function in functions])

    values, intervals = _interval_estimates(dict(scores), statistics)
    return {
        row: {
            name: IntervalEstimate(*map(float, (values[row][i], *intervals[row][:, i])))
            for i, name in enumerate(STATISTICS)
        }
        for row in scores
    }


def _profiles(scores: Mapping[Row, np.ndarray]) -> tuple[np.ndarray, dict[Row, Profile]]:
    from rliable import library

    lowest = min(0.0, *(float(matrix.min()) for matrix in scores.values()))
    highest = max(1.0, *(float(matrix.max()) for matrix in scores.values()))
    thresholds = np.linspace(lowest, highest, PROFILE_POINTS)
    shares, intervals = library.create_performance_profile(
        dict(scores), thresholds, reps=BOOTSTRAP_SAMPLES
    )
    profiles = {row: Profile(shares[row], *intervals[row]) for row in scores}
    return thresholds, profiles


def _improvements(scores: Mapping[Row, np.ndarray]) -> dict[tuple[Row, Row], IntervalEstimate]:
    """Of each pair once: the row with the larger interquartile mean is X."""
    from rliable import metrics

    rows = sorted(scores, key=lambda row: -metrics.aggregate_iqm(scores[row]))
    pairs = {(x, y): (scores[x], scores[y]) for i, x in enumerate(rows) for y in rows[i + 1 :]}
    if not pairs:
        return {}
    values, intervals = _interval_estimates(pairs, probability_of_improvement)
    return {
        pair: IntervalEstimate(float(values[pair]), *map(float, intervals[pair].ravel()))
        for pair in pairs
    }


def probability_of_improvement(x: np.ndarray, y: np.ndarray) -> float:
    """P(X > Y) + P(X = Y) / 2 over pairs of runs, averaged over columns.

    It equals rliable's, which calls SciPy's rank test for each column and bootstrap sample and is
    a hundred times slower.

    Args:
        x, y: scores, [runs of X, columns] and [runs of Y, columns].
    """
    differences = x[:, None] - y[None, :]  # [runs of X, runs of Y, columns]
    return float(np.sign(differences).mean() / 2 + 0.5)


def _interval_estimates(scores: dict, function: Callable) -> tuple[dict, dict]:
    from rliable import library

    return library.get_interval_estimates(scores, function, reps=BOOTSTRAP_SAMPLES)


@contextmanager
def _fixed_random_state() -> Iterator[None]:
    """rliable draws from NumPy's global generator: the same runs give the same intervals."""
    before = np.random.get_state()
    np.random.seed(BOOTSTRAP_SEED)
    try:
        yield
    finally:
        np.random.set_state(before)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
