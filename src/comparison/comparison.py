"""The comparison itself: which runs stand in which cell, and with which metric."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from inspo.comparison.grouping import Column, Row, differing_variants, make_cells, make_columns
from inspo.comparison.protocol import refuse_mixed_protocols, refuse_mixed_simulators
from inspo.comparison.runs import RunRecord, SkippedRun
from inspo.comparison.selection import Selection, drop_repeated, drop_resumed, select
from inspo.comparison.settings import values_text
from inspo.utils.errors import ComparisonError

RETURN, WIN_RATE = "test_return_mean", "test_battle_won_mean"
ENOUGH = 0.8  # of another run's steps: what is not worth a warning


@dataclass(frozen=True)
class Comparison:
    """Runs by row and column, each cell sorted by seed."""

    selection: Selection
    rows: list[Row]
    columns: list[Column]
    metrics: dict[Column, str]
    cells: dict[tuple[Row, Column], list[RunRecord]]
    skipped: list[SkippedRun]
    warnings: list[str]

    def score(self, run: RunRecord, column: Column) -> float:
        """The run's score in that column."""
        scores = run.summary.scores[self.metrics[column]]
        return getattr(scores, self.selection.score)

    def runs(self, column: Column) -> list[RunRecord]:
        """All runs of a column."""
        return [run for (_, other), runs in self.cells.items() if other == column for run in runs]


def compare(
    runs: Sequence[RunRecord], skipped: Sequence[SkippedRun], selection: Selection
) -> Comparison:
    """Groups finished runs.

    Args:
        skipped: folders that could not be used. The result lists them and those skipped here.

    Raises:
        ComparisonError: nothing is selected, or the selected runs are not comparable.
    """
    if not runs:
        reasons = "\n".join(f"  {folder}: {reason}" for folder, reason in skipped)
        raise ComparisonError(f"none of the run folders can be used:\n{reasons}")
    selected, resumed = drop_resumed(select(runs, selection))
    refuse_mixed_simulators(selected)
    columns, warnings = make_columns(selected)
    metrics, columns, unmeasured = _choose_metrics(columns, selection.metric)
    refuse_mixed_protocols(columns, selection)
    skipped = [*skipped, *resumed, *unmeasured]
    for column in columns:
        columns[column], repeated = drop_repeated(columns[column], selection.allow)
        skipped += repeated

    cells = make_cells(columns, selection)
    warnings += _pooling_warnings(cells, selection) + _seed_warnings(columns, cells)
    warnings += _step_warnings(columns)
    rows = sorted({row for row, _ in cells})
    return Comparison(selection, rows, list(columns), metrics, cells, skipped, warnings)


def _choose_metrics(
    columns: Mapping[Column, list[RunRecord]], wanted: str | None
) -> tuple[dict[Column, str], dict[Column, list[RunRecord]], list[SkippedRun]]:
    """Each column's metric, the runs that have it, and those that do not."""
    metrics, usable, skipped = {}, {}, []
    for column, members in columns.items():
        has_battles = any(WIN_RATE in run.summary.scores for run in members)
        metric = wanted or (WIN_RATE if has_battles else RETURN)
        for run in members:
            if metric in run.summary.scores:
                metrics[column] = metric
                usable.setdefault(column, []).append(run)
            else:
                skipped.append(SkippedRun(run.folder, f"it has no {metric}"))
    if not usable:
        runs = [run for members in columns.values() for run in members]
        known = ", ".join(sorted({name for run in runs for name in run.summary.scores}))
        raise ComparisonError(f"no run has {wanted or RETURN}; there is {known}")
    return metrics, usable, skipped


def _pooling_warnings(
    cells: Mapping[tuple[Row, Column], list[RunRecord]], selection: Selection
) -> list[str]:
    """Warns of cells whose runs differ in more than their seeds, as --group-by allows."""
    warnings = []
    for (row, column), members in cells.items():
        if pooled := differing_variants(members, selection):
            warnings.append(
                f"{row.label} in {column.title} pools runs that differ in {values_text(pooled)}: "
                "its standard deviation is not over seeds alone"
            )
    return warnings


def _seed_warnings(
    columns: Iterable[Column], cells: Mapping[tuple[Row, Column], list[RunRecord]]
) -> list[str]:
    """Warns of columns whose rows have different seeds: they share less of their noise."""
    warnings = []
    for column in columns:
        by_seeds: dict[tuple[int, ...], list[str]] = {}
        for (row, other), members in cells.items():
            if other == column:
                seeds = tuple(sorted({run.config.seed for run in members}))
                by_seeds.setdefault(seeds, []).append(row.label)
        if len(by_seeds) > 1:
            listed = "; ".join(
                f"{', '.join(labels)}: {', '.join(map(str, seeds))}"
                for seeds, labels in sorted(by_seeds.items())
            )
            warnings.append(f"{column.title}: the seeds are not the same ({listed})")
    return warnings


def _step_warnings(columns: Mapping[Column, list[RunRecord]]) -> list[str]:
    """Warns of columns in which some policies start as behaviour models, and so had more steps."""
    warnings = []
    for column, runs in columns.items():
        started = [run for run in runs if _uncounted_steps(run)]
        if not started:
            continue
        most = max(started, key=_policy_steps)
        enough = ENOUGH * _policy_steps(most)
        others = [run for run in runs if not _uncounted_steps(run)]
        if fewer := {run.algorithm for run in others if _policy_steps(run) < enough}:
            warnings.append(
                f"{column.title}: {most.algorithm} had {_uncounted_steps(most)} steps as behaviour "
                f"models, which t_max does not count; {', '.join(sorted(fewer))} had fewer steps "
                "in all. docs/evaluation.md says what to do"
            )
    return warnings


def _policy_steps(run: RunRecord) -> int:
    """The gradient steps of a run's policies, those as behaviour models included."""
    return run.settings["t_max"] + _uncounted_steps(run)


def _uncounted_steps(run: RunRecord) -> int:
    starts_as_model = run.settings.get("init_from_behaviour") is True
    return int(run.settings["behaviour_steps"]) if starts_as_model else 0
