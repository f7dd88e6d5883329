"""Groups runs into the columns and rows of a table.

A column is a game (an environment with its settings) and a dataset (by fingerprint).
A row is an algorithm with those of its settings that differ between runs of one column.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from inspo.comparison.runs import RunRecord
from inspo.comparison.selection import Selection
from inspo.comparison.settings import MISSING, differing, label, short, variant_settings


class Column(NamedTuple):
    """A game with a dataset."""

    environment: str
    dataset: str
    key: str  # tells columns of equal titles apart

    @property
    def title(self) -> str:
        """The column's name in text."""
        return f"{self.environment}, {self.dataset}"


class Row(NamedTuple):
    """An algorithm, or a variant of it."""

    algorithm: str
    variant: tuple[tuple[str, str], ...]  # (setting, value), as labels write them

    @property
    def label(self) -> str:
        """`inspo`, or `inspo (update_scheme=simultaneous)`."""
        return label(self.algorithm, dict(self.variant))


def make_columns(runs: Iterable[RunRecord]) -> tuple[dict[Column, list[RunRecord]], list[str]]:
    """Runs by game and dataset.

    Returns:
        the runs of each column, sorted by title, and a warning for each dataset's name that stands
        for different data. Such columns have the fingerprint in their titles.
    """
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    games: dict[str, dict[str, dict[str, Any]]] = {}  # environment -> its games, by their JSON
    fingerprints: dict[tuple[str, str, str], set[str]] = {}
    for run in runs:
        game = json.dumps(run.game, sort_keys=True)
        groups.setdefault((run.environment, game, run.fingerprint), []).append(run)
        games.setdefault(run.environment, {})[game] = run.game
        fingerprints.setdefault((run.environment, game, run.dataset), set()).add(run.fingerprint)

    columns = {}
    for (environment, game, fingerprint), members in groups.items():
        settings = differing(games[environment].values())
        own = games[environment][game]
        title = label(environment, {key: own.get(key, MISSING) for key in settings})
        dataset = min((run.dataset for run in members), key=lambda name: (len(name), name))
        if len(fingerprints[environment, game, dataset]) > 1:
            dataset = f"{dataset} [{fingerprint[:8]}]"
        columns[Column(title, dataset, f"{game} {fingerprint}")] = members
    warnings = [
        f"{environment}: datasets called '{name}' hold different data, each has its own column "
        f"(fingerprints {', '.join(sorted(found))})"
        for (environment, _, name), found in fingerprints.items()
        if len(found) > 1
    ]
    return dict(sorted(columns.items())), warnings


def make_cells(
    columns: Mapping[Column, list[RunRecord]], selection: Selection
) -> dict[tuple[Row, Column], list[RunRecord]]:
    """Runs by row and column, each cell sorted by seed."""
    keys = _row_keys(columns, selection)
    cells: dict[tuple[Row, Column], list[RunRecord]] = {}
    for column, members in columns.items():
        for run in sorted(members, key=lambda run: (run.config.seed, run.folder)):
            row = _make_row(run, keys[run.algorithm], selection)
            cells.setdefault((row, column), []).append(run)
    return cells


def _row_keys(
    columns: Mapping[Column, list[RunRecord]], selection: Selection
) -> dict[str, set[str]]:
    """For each algorithm the settings that its rows' labels show."""
    keys: dict[str, set[str]] = {}
    for members in columns.values():
        allowed = {
            key for key in selection.allow if len({run.settings[key] for run in members}) > 1
        }
        for algorithm in {run.algorithm for run in members}:
            found = keys.setdefault(algorithm, set())
            found.update(allowed)
            if selection.group_by is None:
                own = [run for run in members if run.algorithm == algorithm]
                found.update(differing_variants(own, selection))
            else:
                found.update(key for key in selection.group_by if key != "name")
    return keys


def differing_variants(runs: Sequence[RunRecord], selection: Selection) -> dict[str, list[Any]]:
    """The settings in which the runs differ, each with its values."""
    return differing(variant_settings(run, selection.allow) for run in runs)


def _make_row(run: RunRecord, keys: Iterable[str], selection: Selection) -> Row:
    if selection.group_by is not None:
        keys = [key for key in keys if key in run.settings]
    variant = tuple((key, short(run.settings.get(key, MISSING))) for key in sorted(keys))
    return Row(run.algorithm, variant)
