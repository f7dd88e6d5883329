"""Compares runs: tables of mean and standard deviation over seeds, and learning curves. `--help` says how."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from inspo.comparison.figures import draw
from inspo.comparison.grouping import PROTOCOL, Comparison, Selection, compare
from inspo.comparison.runs import gather
from inspo.comparison.tables import legend, make_table, to_csv, to_document, to_latex, to_markdown
from inspo.run.run_folder import SCORES
from inspo.utils.command import CommandParser, run_command
from inspo.utils.errors import ComparisonError
from inspo.utils.files import writable_folder, write_atomically

DESCRIPTION = """\
Puts runs side by side: a row for each algorithm, a column for each environment and dataset.

Runs of one algorithm whose settings differ get rows of their own, named after the settings. Runs of different
simulators, or evaluated in different ways, are refused. Unfinished and damaged runs, evaluations of a checkpoint, runs
that another one goes on with, and repeated seeds are left out, and listed.
"""
EXAMPLES = """\
examples:
  python src/compare.py results
  python src/compare.py results --env='SMAX-*' --score=last5
  python src/compare.py results --where=name=inspo --where=update_scheme=sequential,simultaneous --out=ablation
"""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 2 wrong input, 130 interrupted."""
    return run_command(compare_command, list(arguments))


def compare_command(arguments: list[str]) -> None:
    """Compares the runs that the arguments name."""
    options = make_parser().parse_args(arguments)
    selection = Selection(
        score=options.score,
        metric=options.metric,
        environments=options.env,
        where=parse_where(options.where),
        group_by=options.group_by.split(",") if options.group_by else None,
        allow=options.allow,
    )
    comparison = compare(*gather(options.results), selection)
    folder = writable_folder("--out", options.out, "results/comparison")
    report(comparison, folder, options, shlex.join(["python", "src/compare.py", *arguments]))


def make_parser() -> CommandParser:
    """The command's options."""
    parser = CommandParser(prog="compare.py", description=DESCRIPTION, epilog=EXAMPLES)
    add = parser.add_argument
    several = "may be given several times"
    add(
        "results",
        nargs="+",
        type=Path,
        metavar="RESULTS",
        help="run folders, or folders that hold them",
    )
    add(
        "--score",
        choices=("final", "last5", "best"),
        default="final",
        help="the last evaluation (default), the mean of the last five, or the best (optimistic)",
    )
    add(
        "--metric",
        choices=SCORES,
        help="default: the share of battles won where there are battles, else the return",
    )
    add(
        "--env",
        action="append",
        default=[],
        metavar="PATTERN",
        help=f"only environments of that name; {several}",
    )
    add(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE[,VALUE]",
        help=f"only runs with one of these values of a setting; {several}",
    )
    add(
        "--group-by",
        metavar="KEY[,KEY]",
        help="rows by algorithm and these settings, others pooled "
        "(default: by all settings that differ)",
    )
    add(
        "--allow",
        action="append",
        default=[],
        choices=PROTOCOL,
        metavar="KEY",
        help=f"let {', '.join(PROTOCOL)} differ, in rows of their own; {several}",
    )
    add("--decimals", type=int, choices=range(7), default=2, metavar="0-6", help="default: 2")
    add(
        "--print",
        choices=("markdown", "latex", "csv"),
        default="markdown",
        help="the table to show; all are written",
    )
    default_out = "where tables and curves are written (default: results/comparison)"
    add("--out", metavar="DIR", help=default_out)
    return parser


def parse_where(conditions: Sequence[str]) -> dict[str, list[str]]:
    """Setting -> values, from `KEY=VALUE[,VALUE]`."""
    where: dict[str, list[str]] = {}
    for condition in conditions:
        key, equals, values = condition.partition("=")
        if not equals or key in where:
            wrong = (
                "is not of the form KEY=VALUE"
                if not equals
                else f"names {key} twice; write {key}=VALUE,VALUE"
            )
            raise ComparisonError(f"--where={condition} {wrong}")
        where[key] = values.split(",")
    return where


def report(comparison: Comparison, folder: Path, options: argparse.Namespace, command: str) -> None:
    """Writes tables and curves to `folder`, shows a table, and says on stderr what one might overlook."""
    table = make_table(comparison)
    tables = {
        "markdown": to_markdown(comparison, table, options.decimals),
        "latex": to_latex(comparison, table, options.decimals),
        "csv": to_csv(comparison, table),
    }
    notes = legend(comparison, table)
    pictures, warnings = draw(comparison, folder / "learning_curves")
    comparison.warnings += warnings
    picture = pictures[0].name if pictures else None
    files = {
        folder / "comparison.md": to_document(
            comparison, tables["markdown"], notes, picture, command
        ),
        folder / "comparison.tex": tables["latex"] + "\n",
        folder / "comparison.csv": tables["csv"],
    }
    for path, text in files.items():
        with write_atomically(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    for skipped, reason in comparison.skipped:
        print(f"left out: {skipped}: {reason}", file=sys.stderr)  # noqa: T201
    for warning in comparison.warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201
    sys.stderr.flush()
    print(tables[options.print].rstrip())  # noqa: T201
    if options.print == "markdown":
        print("", *notes, "", *(f"{path}" for path in [*files, *pictures]), sep="\n")  # noqa: T201
