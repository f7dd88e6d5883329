"""Refuses to compare scores that do not measure the same thing."""

from collections.abc import Mapping, Sequence
from typing import Any

from inspo.comparison.grouping import Column
from inspo.comparison.runs import RunRecord
from inspo.comparison.selection import Selection
from inspo.comparison.settings import PROTOCOL
from inspo.utils.errors import ComparisonError


def refuse_mixed_simulators(runs: Sequence[RunRecord]) -> None:
    """Raises ComparisonError if the runs' battles are of several simulators."""
    environments = sorted({run.environment for run in runs if run.simulator})
    if len({run.simulator for run in runs if run.simulator}) > 1:
        example = environments[0].split("-")[0]
        raise ComparisonError(
            f"runs of different simulators: {', '.join(environments)}. Their maps have the same "
            f"names but are different games. Select one, for example with --env='{example}-*'"
        )


def refuse_mixed_protocols(columns: Mapping[Column, list[RunRecord]], selection: Selection) -> None:
    """Raises ComparisonError if runs of one column were trained or evaluated differently.

    Keys of `selection.allow` may differ, and so may `test_interval` for final scores.
    """
    problems = []
    for column, runs in columns.items():
        for key in PROTOCOL:
            unimportant = key == "test_interval" and selection.score == "final"
            if not unimportant and key not in selection.allow:
                problems += _mixed_setting(column.title, runs, key)
    if problems:
        raise ComparisonError(
            "runs were trained or evaluated differently, so their scores are not comparable:\n"
            + "\n".join(problems)
            + "\nSelect runs with --where KEY=VALUE, or give them separate rows with --allow KEY"
        )


def _mixed_setting(title: str, runs: Sequence[RunRecord], key: str) -> list[str]:
    """A line for each value of a setting, if there are several."""
    found: dict[Any, list[RunRecord]] = {}
    for run in runs:
        found.setdefault(run.settings[key], []).append(run)
    if len(found) == 1:
        return []
    lines = [f"  {title}:"]
    for value, members in sorted(found.items()):
        algorithms = ", ".join(sorted({run.algorithm for run in members}))
        example = members[0].folder
        lines.append(f"    {key}={value}: {len(members)} of {algorithms}, such as {example}")
    return lines
