"""Which runs belong in one cell, and which may not stand in one table.

A column is a game (environment and its settings) with a dataset (by fingerprint). A row is an algorithm with those of
its settings that differ between runs of one column. Within a column all runs must have been evaluated in the same way.
"""

import fnmatch
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import yaml

from inspo.comparison.runs import Run, SkippedRun, drop_superseded
from inspo.run.checkpoint import FREE_SETTINGS
from inspo.utils.config import suggestion
from inspo.utils.errors import ComparisonError

ScoreName = Literal["final", "last5", "best"]
RETURN, WIN_RATE = "test_return_mean", "test_battle_won_mean"
MISSING = "(none)"  # the value of a setting that a run has not
# How a policy is judged: the same for all runs of a game, or their scores mean different things.
EVALUATION = ("test_nepisode", "test_greedy")
# How long it may train: the same for all runs of a column.
BUDGET = ("t_max",)
# How often it is judged: matters where a score is made of several evaluations.
FREQUENCY = ("test_interval",)
PROTOCOL = (*EVALUATION, *BUDGET, *FREQUENCY)
# Settings that do not make a variant of an algorithm: they compute nothing, or are the row, the column, or the seed.
NOT_VARIANTS = FREE_SETTINGS | {"name", "seed", "env", "env_config", "max_episodes"}
LONGEST_VALUE = (
    24  # characters of a setting's value in a label; longer ones are told apart by a hash
)


class Column(NamedTuple):
    """A game with a dataset."""

    environment: str
    dataset: str
    key: str  # tells columns of equal titles apart


class Row(NamedTuple):
    """An algorithm, or a variant of it."""

    algorithm: str
    variant: tuple[tuple[str, str], ...]  # (setting, value), as written in labels

    @property
    def label(self) -> str:
        """`inspo` or `inspo (update_scheme=simultaneous)`."""
        settings = ", ".join(f"{key}={value}" for key, value in self.variant)
        return f"{self.algorithm} ({settings})" if settings else self.algorithm


@dataclass(frozen=True)
class Selection:
    """What the user asks for."""

    score: ScoreName = "final"
    metric: str | None = (
        None  # for all columns; None: battles won where there are battles, else returns
    )
    environments: Sequence[str] = ()  # patterns, of which one must fit
    where: Mapping[str, Sequence[str]] = field(
        default_factory=dict
    )  # setting -> values, of which one must fit
    group_by: Sequence[str] | None = None  # settings that make rows; None: those that differ
    allow: Sequence[str] = ()  # keys of PROTOCOL that may differ


@dataclass
class Comparison:
    """Runs by row and column, each cell sorted by seed."""

    selection: Selection
    rows: list[Row]
    columns: list[Column]
    metrics: dict[Column, str]
    cells: dict[tuple[Row, Column], list[Run]]
    skipped: list[SkippedRun]
    warnings: list[str]

    def score(self, run: Run, column: Column) -> float:
        """The run's score in that column."""
        return getattr(run.summary.scores[self.metrics[column]], self.selection.score)

    def runs(self, column: Column) -> list[Run]:
        """All runs of a column."""
        return [run for (_, other), runs in self.cells.items() if other == column for run in runs]


def compare(runs: Sequence[Run], skipped: Sequence[SkippedRun], selection: Selection) -> Comparison:
    """Groups finished runs.

    Raises:
        ComparisonError: nothing is selected, or what is selected must not stand in one table.
    """
    if not runs:
        reasons = "\n".join(f"  {folder}: {reason}" for folder, reason in skipped)
        raise ComparisonError(f"none of the run folders can be used:\n{reasons}")
    selected = select(runs, selection)
    skipped = list(skipped)
    selected, more = drop_superseded(selected, skipped)
    skipped += more
    _refuse_two_simulators(selected)
    columns, warnings = _columns(selected)
    metrics, columns, more = _metrics(columns, selection.metric)
    skipped += more
    _refuse_mixed_protocols(columns, selection)
    columns, more = _one_run_per_seed(columns, selection)
    skipped += more

    row_of = _rows(columns, selection)
    cells: dict[tuple[Row, Column], list[Run]] = {}
    for column, members in columns.items():
        for run in sorted(members, key=lambda run: (run.config.seed, run.folder)):
            cells.setdefault((row_of(run), column), []).append(run)
    for (row, column), members in cells.items():
        if pooled := _differing(_variant_settings(run, selection) for run in members):
            warnings.append(
                f"{row.label} in {title(column)} pools runs that differ in {_spread(pooled)}: "
                "its standard deviation is not over seeds alone"
            )
    rows = sorted({row for row, _ in cells}, key=lambda row: _natural(row.label))
    return Comparison(selection, rows, list(columns), metrics, cells, skipped, warnings)


def title(column: Column) -> str:
    """A column's name in text."""
    return f"{column.environment}, {column.dataset}"


def select(runs: Sequence[Run], selection: Selection) -> list[Run]:
    """The runs that `--env` and `--where` ask for; ComparisonError if there are none."""
    known = {key for run in runs for key in run.settings}
    for key in (*selection.where, *(selection.group_by or ())):
        if key not in known:
            raise ComparisonError(f"no run has a setting '{key}'{suggestion(key, known)}")
    selected = [run for run in runs if _wanted(run, selection)]
    if not selected:
        environments = sorted({run.environment for run in runs})
        raise ComparisonError(
            f"no run fits --env and --where; there are runs of {', '.join(environments)}"
        )
    return selected


def _wanted(run: Run, selection: Selection) -> bool:
    names = (run.environment.lower(), run.config.env_config.lower())
    patterns = [pattern.lower() for pattern in selection.environments]
    if patterns and not any(
        fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns
    ):
        return False
    return all(
        any(_is(run.settings.get(key, MISSING), value) for value in values)
        for key, values in selection.where.items()
    )


def _is(setting: Any, written: str) -> bool:
    """Whether a setting has the value that the command line writes."""
    if str(setting) == written:
        return True
    with suppress(ValueError):  # YAML takes 5e-4 for a word
        return float(written) == setting and not isinstance(setting, bool)
    try:
        value = yaml.safe_load(written)
    except yaml.YAMLError:
        return False
    return value == setting and isinstance(value, bool) == isinstance(setting, bool)


def _refuse_two_simulators(runs: Sequence[Run]) -> None:
    found: dict[str, list[Run]] = {}
    for run in runs:
        if run.simulator is not None:
            found.setdefault(run.simulator, []).append(run)
    if len(found) > 1:
        lines = [
            f"  {', '.join(sorted({run.environment for run in some}))}: {len(some)} runs"
            for some in found.values()
        ]
        example = next(iter(found.values()))[0].environment.split("-")[0]
        raise ComparisonError(
            "runs of different simulators, whose battles are different games under the same map's name:\n"
            + "\n".join(lines)
            + f"\nChoose one, as in --env='{example}-*'"
        )


def _columns(runs: Sequence[Run]) -> tuple[dict[Column, list[Run]], list[str]]:
    """Runs by game and dataset, with titles that tell all columns apart, and warnings about look-alikes."""
    groups: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        key = (
            run.environment,
            json.dumps(run.game, sort_keys=True),
            run.summary.dataset_fingerprint,
        )
        groups.setdefault(key, []).append(run)
    columns, warnings = {}, []
    for (environment, game, fingerprint), members in groups.items():
        name = min((run.dataset for run in members), key=lambda name: (len(name), name))
        games = {other for label, other, _ in groups if label == environment}
        if len(games) > 1:
            differing = _differing(map(json.loads, games))
            settings = {key: json.loads(game).get(key, MISSING) for key in differing}
            environment_title = (
                f"{environment} ({', '.join(f'{k}={short(v)}' for k, v in settings.items())})"
            )
        else:
            environment_title = environment
        alike = {
            other_print
            for (label, other, other_print), others in groups.items()
            if (label, other) == (environment, game) and any(run.dataset == name for run in others)
        }
        if len(alike) > 1:
            if fingerprint == min(alike):
                warnings.append(
                    f"{environment_title}: not the same data in all runs with a dataset called '{name}' (fingerprints "
                    f"{', '.join(sorted(alike))}): each has a column of its own"
                )
            name = f"{name} [{fingerprint[:8]}]"
        columns[Column(environment_title, name, f"{game} {fingerprint}")] = members
    return {
        column: columns[column] for column in sorted(columns, key=lambda c: _natural(title(c)))
    }, warnings


def _metrics(
    columns: Mapping[Column, list[Run]], forced: str | None
) -> tuple[dict[Column, str], dict[Column, list[Run]], list[SkippedRun]]:
    """Each column's metric, and the runs that have it."""
    metrics, having, skipped = {}, {}, []
    for column, members in columns.items():
        battles = any(WIN_RATE in run.summary.scores for run in members)
        metric = forced or (WIN_RATE if battles else RETURN)
        skipped += [
            SkippedRun(run.folder, f"it has no {metric}")
            for run in members
            if metric not in run.summary.scores
        ]
        if usable := [run for run in members if metric in run.summary.scores]:
            metrics[column], having[column] = metric, usable
    if not having:
        there = sorted(
            {name for members in columns.values() for run in members for name in run.summary.scores}
        )
        raise ComparisonError(f"no run has {forced or RETURN}; there is {', '.join(there)}")
    return metrics, having, skipped


def _refuse_mixed_protocols(columns: Mapping[Column, list[Run]], selection: Selection) -> None:
    by_game: dict[str, list[Run]] = {}
    for column, members in columns.items():
        by_game.setdefault(column.environment, []).extend(members)
    frequency = FREQUENCY if selection.score != "final" else ()
    problems = [
        problem
        for where, members, keys in (
            *((environment, members, EVALUATION) for environment, members in by_game.items()),
            *(
                (title(column), members, (*BUDGET, *frequency))
                for column, members in columns.items()
            ),
        )
        for key in keys
        if key not in selection.allow and (problem := _mixed(where, members, key))
    ]
    if problems:
        raise ComparisonError(
            "runs were judged differently, so that their scores must not stand side by side:\n"
            + "\n".join(problems)
            + "\nChoose with --where KEY=VALUE, or show them in rows of their own with --allow KEY"
        )


def _mixed(where: str, members: Sequence[Run], key: str) -> str:
    """A paragraph about the values of a protocol's key; empty if there is only one."""
    found: dict[Any, list[Run]] = {}
    for run in members:
        found.setdefault(run.settings[key], []).append(run)
    if len(found) == 1:
        return ""
    lines = [
        f"    {key}={value}: {len(some)} of {', '.join(sorted({run.algorithm for run in some}))}, as {some[0].folder}"
        for value, some in sorted(found.items())
    ]
    return "\n".join([f"  {where}:", *lines])


def _one_run_per_seed(
    columns: Mapping[Column, list[Run]], selection: Selection
) -> tuple[dict[Column, list[Run]], list[SkippedRun]]:
    """Of runs with equal settings and seed, the one that was started last, which is last by name."""
    kept, skipped = {}, []
    for column, members in columns.items():
        newest: dict[str, Run] = {}
        for run in sorted(members, key=lambda run: (run.folder.name, run.folder)):
            key = json.dumps(
                [run.algorithm, run.config.seed, _variant_settings(run, selection)], sort_keys=True
            )
            if (older := newest.get(key)) is not None:
                same = "the same" if older.summary.scores == run.summary.scores else "ANOTHER"
                reason = f"seed {run.config.seed} again: {run.folder.name} has the same settings and {same} score"
                skipped.append(SkippedRun(older.folder, reason))
            newest[key] = run
        kept[column] = list(newest.values())
    return kept, skipped


def _rows(columns: Mapping[Column, list[Run]], selection: Selection) -> Callable[[Run], Row]:
    """Which row a run belongs to."""
    keys: dict[str, set[str]] = {
        run.algorithm: set() for members in columns.values() for run in members
    }
    for members in columns.values():
        allowed = {
            key for key in selection.allow if len({run.settings[key] for run in members}) > 1
        }
        for algorithm in {run.algorithm for run in members}:
            keys[algorithm] |= allowed
            if selection.group_by is None:
                own = (
                    _variant_settings(run, selection)
                    for run in members
                    if run.algorithm == algorithm
                )
                keys[algorithm] |= _differing(own).keys()
            else:
                keys[algorithm] |= {key for key in selection.group_by if key != "name"}

    def row_of(run: Run) -> Row:
        shown = sorted(
            key for key in keys[run.algorithm] if selection.group_by is None or key in run.settings
        )
        return Row(
            run.algorithm, tuple((key, short(run.settings.get(key, MISSING))) for key in shown)
        )

    return row_of


def _variant_settings(run: Run, selection: Selection) -> dict[str, Any]:
    """What may tell variants of one algorithm apart within a column."""
    return {
        key: value
        for key, value in run.settings.items()
        if key in selection.allow or (key not in NOT_VARIANTS and not key.startswith("env_args."))
    }


def _differing(several: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The keys whose values are not the same everywhere, with those values."""
    several = list(several)
    keys = sorted({key for settings in several for key in settings})
    values = {key: [settings.get(key, MISSING) for settings in several] for key in keys}
    return {
        key: [value for value, _ in itertools.groupby(sorted(found, key=str))]
        for key, found in values.items()
        if any(value != found[0] for value in found)
    }


def _spread(differing: Mapping[str, Sequence[Any]]) -> str:
    return "; ".join(
        f"{key} ({', '.join(map(short, values))})" for key, values in differing.items()
    )


def short(value: Any) -> str:
    """A setting's value for a label."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    if len(text) <= LONGEST_VALUE:
        return text
    return f"#{hashlib.blake2b(text.encode(), digest_size=3).hexdigest()}"


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sorts `seed 2` before `seed 10`."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]
