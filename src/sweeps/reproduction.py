"""The command reproduce.py: an experiment's sweep, its table, and every cell against its band."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from inspo.sweeps.command import AFTER_INTERRUPT
from inspo.sweeps.display import main_score
from inspo.sweeps.estimate import duration
from inspo.sweeps.expected import (
    BandCheck,
    Expected,
    Measure,
    check_cells,
    quick_version,
    read_expected,
)
from inspo.sweeps.paper_table import paper_table
from inspo.sweeps.spec import Spec, read_spec
from inspo.sweeps.sweep import Sweep, SweepResult
from inspo.sweeps.tables import table_of
from inspo.utils.command import DONE, FAILED, WRONG_INPUT, CommandParser, run_command, say
from inspo.utils.errors import ComparisonError, ConfigError, UserError
from inspo.utils.files import project_root, software_versions, write_atomically
from inspo.utils.names import suggestion

ALL = "all"
DESCRIPTION = """\
Runs an experiment of the paper, makes its table, and holds every cell against what is expected.

  python src/reproduce.py table1
  python src/reproduce.py table1 --quick
  python src/reproduce.py all --dry-run

The exit status is 1 if a cell is outside of its band. docs/sweeps.md says what the bands are.
"""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 all bands hold, 1 not, 2 wrong input, 130 interrupted."""
    return run_command(reproduce_command, list(arguments), lambda _: AFTER_INTERRUPT)


def reproduce_command(arguments: list[str]) -> int:
    """Does what the arguments say."""
    options, words = make_parser().parse_with_settings(arguments)
    if words:
        raise ConfigError("settings would change what is expected; src/sweep.py takes them")
    known = experiments(options.folder)
    names = [*known] if options.experiment == ALL else [options.experiment]
    if options.experiment not in (ALL, *known):
        near = suggestion(options.experiment, [ALL, *known])
        raise ConfigError(f"no experiment '{options.experiment}' in {options.folder}{near}")
    if options.quick and options.experiment == ALL:
        names = [name for name in names if read_expected(_beside(known[name])).quick]
    command = shlex.join(["python", "src/reproduce.py", *arguments])
    statuses = []
    for name in names:
        try:
            statuses.append(reproduce(known[name], options, command))
        except UserError as error:
            if len(names) == 1:
                raise
            say(f"\n{name}: {type(error).__name__}: {error}")  # the others can still run
            statuses.append(WRONG_INPUT)
    return max(statuses, default=DONE)


def make_parser() -> CommandParser:
    """The command's options."""
    parser = CommandParser(prog="reproduce.py", description=DESCRIPTION)
    add = parser.add_argument
    default = project_root() / "experiments"
    add("experiment", metavar="NAME", help="a YAML's name in experiments/, or `all`")
    add("--quick", action="store_true", help="one seed, where the experiment has such a version")
    add("--dry-run", action="store_true", help="show the runs and the time, and start nothing")
    add("--address", metavar="HOST:PORT", help="of a Ray cluster, or `auto`; default: none")
    add("--folder", type=Path, default=default, help="of the experiments (default: experiments/)")
    return parser


def experiments(folder: Path) -> dict[str, Path]:
    """The experiments in a folder, by name: the YAMLs with an expectation beside them."""
    paths = sorted(folder.glob("*.yaml"))
    return {path.stem: path for path in paths if _beside(path).is_file()}


def reproduce(path: Path, options: Any, command: str) -> int:
    """One experiment. Returns the exit status."""
    spec, expected = read_spec(path), read_expected(_beside(path))
    if options.quick:
        spec = quick_version(spec, expected)
    sweep = Sweep(spec)
    cells = list({run.cell.label: run.cell for run in sweep.plan}.values())
    expected.check_covers(cells)
    if options.dry_run:
        say(f"# {expected.title}\n\n{sweep.describe()}\n")
        return DONE
    result = sweep.run(options.address)
    scores = scores_of(sweep, expected.measure)
    checks = check_cells(scores, cells, expected, options.quick)
    text = _report(spec, expected, checks, scores, result, command)
    folder = result.folder / "sweep"
    with write_atomically(folder / "report.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    say("\n".join([text, *map(str, [folder / "report.md", *_figures(result, folder)])]))
    passed = all(check.passed is not False for check in checks)
    return DONE if passed and not result.failed else FAILED


def scores_of(sweep: Sweep, measure: Measure) -> dict[str, list[float]]:
    """The finished runs' scores, by cell, in the order of the seeds."""
    scores: dict[str, list[float]] = {}
    for run in sweep.plan:
        if found := sweep.finished(run):
            value = measured(found.summary, measure)
            scores.setdefault(run.cell.label, []).append(value)
    return scores


def measured(summary: Mapping[str, Any], measure: Measure) -> float:
    """What an experiment measures of a run."""
    if measure == "seconds_per_step":
        return summary["wall_time_seconds"] / summary["steps"]
    return main_score(summary, measure)


def _beside(path: Path) -> Path:
    return path.with_suffix(".expected.yaml")


def _figures(result: SweepResult, folder: Path) -> list[Path]:
    """The comparison's tables and learning curves; none for runs without scores."""
    try:
        return table_of(result).save(folder)
    except ComparisonError:
        return []


def _report(
    spec: Spec,
    expected: Expected,
    checks: Sequence[BandCheck],
    scores: Mapping[str, Sequence[float]],
    result: SweepResult,
    command: str,
) -> str:
    """The table, the bands and how it was made, as Markdown."""
    decimals = 4 if expected.measure == "seconds_per_step" else 2
    cells = [check.cell for check in checks]
    seeds = ", ".join(map(str, spec.seeds))
    sources = [f"- {name}: {text}" for name, text in expected.sources.items()]
    parts = [
        f"# {expected.title}",
        expected.about.strip(),
        paper_table(cells, scores, decimals, best=expected.measure != "seconds_per_step"),
        f"Mean ± standard deviation, {expected.measure}, seeds {seeds}.",
        "## Against what is expected",
        "\n".join(f"- {check.line(decimals)}" for check in checks),
        _count(checks),
        "Where the bands come from:\n\n" + "\n".join(sources),
        "## How it was made",
        "\n".join(_made(result, command)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _count(checks: Sequence[BandCheck]) -> str:
    passed = sum(check.passed is True for check in checks)
    failed = sum(check.passed is False for check in checks)
    unknown = len(checks) - passed - failed
    parts = [f"{passed} of {len(checks)} cells are in their bands", f"{failed} are not"]
    if unknown:
        parts.append(f"{unknown} have no band")
    return ", ".join(parts) + "."


def _made(result: SweepResult, command: str) -> Iterator[str]:
    seconds = sum(run.summary.get("wall_time_seconds", 0.0) for run in result.runs)
    yield f"- command: `{command}`"
    yield f"- {len(result.runs)} runs, {duration(seconds)} of computing, one after the other"
    for label, lines in result.failed.items():
        yield f"- FAILED: {label}: {lines[-1] if lines else ''}"
    versions = software_versions()
    yield f"- {', '.join(f'{name} {version}' for name, version in versions.items())}"
