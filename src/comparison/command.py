"""The command compare.py, and the function behind `inspo.compare`."""

import math
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from inspo.comparison.comparison import compare
from inspo.comparison.normalise import is_reference
from inspo.comparison.runs import read_runs
from inspo.comparison.selection import SCORE_CHOICES, Selection
from inspo.comparison.settings import PROTOCOL
from inspo.comparison.tables import ComparisonTable
from inspo.run.run_folder import SCORES
from inspo.utils.command import CommandParser, run_command, say
from inspo.utils.errors import ComparisonError
from inspo.utils.files import found_path, writable_folder

DESCRIPTION = """\
Compares runs: a table with a row for each algorithm and a column for each environment and
dataset, and learning curves.

Runs of one algorithm with different settings get separate rows, named after the settings. Runs of
different simulators, or with different evaluation protocols, are refused. Skipped, and listed:
unfinished and damaged runs, evaluations of a checkpoint, runs that another one resumes, and
repeated seeds.
"""
EXAMPLES = """\
examples:
  python src/compare.py results
  python src/compare.py results --env='SMAX-*' --score=last5
  python src/compare.py results --where=name=inspo --where=update_scheme=sequential,simultaneous
  python src/compare.py results --aggregate --reference='lbf*=0,1'
"""
SEVERAL = "may be given several times"
DEFAULT_OUT = "results/comparison"


def compare_runs(
    paths: str | Path | Iterable[str | Path],
    score: str = "final",
    metric: str | None = None,
    environments: str | Iterable[str] = (),
    where: Mapping[str, Any] | None = None,
    group_by: str | Iterable[str] | None = None,
    allow: str | Iterable[str] = (),
) -> ComparisonTable:
    """Compares the finished runs at or below `paths`; `inspo.compare` explains the arguments.

    Raises:
        ComparisonError: there are no such runs, or they are not comparable.
    """
    selection = Selection(
        score=score,
        metric=metric,
        environments=as_list(environments),
        where={key: [str(v) for v in as_list(value)] for key, value in (where or {}).items()},
        group_by=as_list(group_by or ()) or None,
        allow=as_list(allow),
    )
    runs, skipped = read_runs([found_path(path) for path in as_list(paths)])
    return ComparisonTable(compare(runs, skipped, selection))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 2 wrong input, 130 interrupted."""
    return run_command(compare_command, list(arguments))


def compare_command(arguments: list[str]) -> None:
    """Compares the runs that the arguments name, writes tables and curves, and shows a table."""
    options = make_parser().parse_args(arguments)
    references = parse_references(options.reference)
    if references and not options.aggregate:
        raise ComparisonError("--reference is of use with --aggregate only; add it")
    table = compare_runs(
        options.results,
        score=options.score,
        metric=options.metric,
        environments=options.env,
        where=parse_where(options.where),
        group_by=options.group_by.split(",") if options.group_by else None,
        allow=options.allow,
    )
    aggregated = table.aggregate(references) if options.aggregate else None
    folder = writable_folder("--out", options.out, DEFAULT_OUT)
    command = shlex.join(["python", "src/compare.py", *arguments])
    files = table.save(folder, options.decimals, command, aggregated)

    for run, reason in table.skipped:
        say(f"skipped: {run}: {reason}", sys.stderr)
    for warning in table.warnings:
        say(f"warning: {warning}", sys.stderr)
    if options.print == "latex":
        say(table.to_latex(options.decimals))
    elif options.print == "csv":
        say(table.to_csv().rstrip())
    else:
        say("\n".join([table.to_markdown(options.decimals), "", *table.notes(), ""]))
        if aggregated is not None:
            say(aggregated.to_markdown(options.decimals) + "\n")
        say("\n".join(map(str, files)))


def make_parser() -> CommandParser:
    """The command's options."""
    parser = CommandParser(prog="compare.py", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="run folders, or folders that hold them",
    )
    _add_selection(parser)
    parser.add_argument(
        "--aggregate",
        action="store_true",
        help="statistics over all columns, by rliable: interquartile mean, performance profiles, "
        "probability of improvement, with bootstrap intervals",
    )
    parser.add_argument(
        "--reference",
        action="append",
        default=[],
        metavar="PATTERN=MIN,MAX",
        help="for --aggregate: the returns that count as 0 and 1, in the environments that match; "
        f"{SEVERAL}",
    )
    parser.add_argument(
        "--decimals", type=int, choices=range(7), default=2, metavar="0-6", help="default: 2"
    )
    parser.add_argument(
        "--print",
        choices=("markdown", "latex", "csv"),
        default="markdown",
        help="the table to show; all are written",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"where tables and curves are written (default: {DEFAULT_OUT})",
    )
    return parser


def parse_where(conditions: Sequence[str]) -> dict[str, list[str]]:
    """Setting -> values, from `KEY=VALUE[,VALUE]`."""
    where: dict[str, list[str]] = {}
    for condition in conditions:
        key, equals, values = condition.partition("=")
        if not equals:
            raise ComparisonError(f"--where={condition} is not of the form KEY=VALUE")
        if key in where:
            raise ComparisonError(f"--where={condition} names {key} twice; write {key}=VALUE,VALUE")
        where[key] = values.split(",")
    return where


def parse_references(options: Sequence[str]) -> dict[str, list[float]]:
    """Pattern -> minimum and maximum, from `PATTERN=MIN,MAX`."""
    references = {}
    for option in options:
        pattern, _, pair = option.rpartition("=")
        try:
            low, high = map(float, pair.split(","))
        except ValueError:
            low = high = math.nan
        if not pattern or not is_reference((low, high)):
            raise ComparisonError(
                f"--reference={option} is not of the form PATTERN=MIN,MAX with MIN below MAX"
            )
        references[pattern] = [low, high]
    return references


def _add_selection(parser: CommandParser) -> None:
    """The options that `compare_runs` takes as well."""
    parser.add_argument(
        "--score",
        choices=SCORE_CHOICES,
        default="final",
        help="the last evaluation (default), the mean of the last five, or the best (optimistic)",
    )
    parser.add_argument(
        "--metric",
        choices=SCORES,
        help="default: the win rate where there are battles, else the return",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="PATTERN",
        help=f"only environments whose name matches; {SEVERAL}",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE]",
        help=f"only runs with one of these values of a setting; {SEVERAL}",
    )
    parser.add_argument(
        "--group-by",
        metavar="KEY[,KEY]",
        help="rows by algorithm and these settings; runs that differ in others are pooled "
        "(default: by all settings that differ)",
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=PROTOCOL,
        metavar="KEY",
        help=f"let {', '.join(PROTOCOL)} differ, in separate rows; {SEVERAL}",
    )


def as_list(value: Any) -> list[Any]:
    """One value or several, as a list. Text, paths and mappings are one value."""
    is_one = isinstance(value, str | os.PathLike | Mapping) or not isinstance(value, Iterable)
    return [value] if is_one else list(value)
