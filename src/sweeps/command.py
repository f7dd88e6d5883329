"""The command sweep.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspo.sweeps.spec import Spec, read_spec, spec_from
from inspo.sweeps.sweep import Sweep, SweepResult
from inspo.sweeps.tables import table_of
from inspo.utils.command import FAILED, CommandParser, run_command, say
from inspo.utils.errors import ComparisonError, ConfigError
from inspo.utils.words import parse_value

DESCRIPTION = """\
Runs algorithms on datasets with several seeds, on this machine or on a Ray cluster, and makes a
table of them.

  python src/sweep.py SPEC.yaml
  python src/sweep.py --config=inspo,bc --env-config=xor_offline --seeds=0-4 with \\
      env_args.dataset=a,b,c

Runs that are finished are not repeated, and interrupted ones resume: after Ctrl-C, a crash or a
failed run, give the same command again.
"""
AFTER_INTERRUPT = "Interrupted. The same command goes on where the runs stopped."
OPENING, CLOSING, QUOTES = "([{", ")]}", "'\""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 1 a run failed, 2 wrong input, 130 interrupted."""
    return run_command(sweep_command, list(arguments), lambda _: AFTER_INTERRUPT)


def sweep_command(arguments: list[str]) -> int | None:
    """Does what the arguments say."""
    parser = make_parser()
    options, words = parser.parse_with_settings(arguments)
    sweep = Sweep(read_arguments(options, words))
    if options.dry_run:
        say(sweep.describe())
        return None
    return report(sweep.run(options.address))


def report(result: SweepResult) -> int | None:
    """Shows the table and what failed. Returns the exit status."""
    for label, lines in result.failed.items():
        say("\n".join([f"FAILED: {label}", *(f"  {line}" for line in lines)]))
    if result.runs:
        try:
            table = table_of(result)
        except ComparisonError as error:  # as without evaluations
            say(f"no table: {error}")
        else:
            files = table.save(result.folder / "sweep")
            say("\n".join(["", table.to_markdown(), "", *table.notes(), "", *map(str, files)]))
    say(f"{len(result.runs)} runs in {result.folder}")
    return FAILED if result.failed else None


def make_parser() -> CommandParser:
    """The command's options."""
    parser = CommandParser(prog="sweep.py", description=DESCRIPTION)
    add = parser.add_argument
    add("spec", nargs="?", type=Path, metavar="SPEC", help="a YAML; docs/sweeps.md explains it")
    add("--dry-run", action="store_true", help="show the runs and the time, and start nothing")
    add("--address", metavar="HOST:PORT", help="of a Ray cluster, or `auto`; default: none")
    short = parser.add_argument_group("instead of a YAML")
    add = short.add_argument
    add("--config", metavar="NAME[,NAME]", help="algorithms, or paths of your own YAMLs")
    add("--env-config", metavar="NAME[,NAME]", help="environments, or paths of your own YAMLs")
    add("--seeds", metavar="0-4", help="seeds: a range, or with commas (default: 0)")
    add("--name", metavar="NAME", help="of the folder in results/ (default: sweep)")
    add("--cpus", type=float, metavar="N", help="processors for each run (default: 1)")
    add("--gpus", type=float, metavar="N", help="GPUs for each run, as 0.25 (default: 0)")
    return parser


def read_arguments(options: Any, words: Sequence[str]) -> Spec:
    """The sweep that the arguments describe.

    Raises:
        ConfigError: something is wrong, missing or given twice.
    """
    short = ("config", "env_config", "seeds", "name", "cpus", "gpus")
    given = [name for name in short if getattr(options, name) is not None]
    if options.spec is not None:
        if given or words:
            raise ConfigError(
                "give either a YAML, or --config, --env-config and settings after `with`"
            )
        return read_spec(options.spec)
    missing = [f"--{name.replace('_', '-')}" for name in short[:2] if name not in given]
    if missing:
        raise ConfigError(f"give a YAML, or {' and '.join(missing)}; --help shows the usage")
    settings, grid = split_words(words)
    values: dict[str, Any] = {
        "algorithms": options.config.split(","),
        "environments": options.env_config.split(","),
        "settings": settings,
        "grid": grid,
        "resources": {k: getattr(options, k) for k in ("cpus", "gpus") if k in given},
    }
    if options.seeds is not None:
        values["seeds"] = [parse_value(seed) for seed in options.seeds.split(",")]
    if options.name is not None:
        values["name"] = options.name
    return spec_from(values, "the command line")


def split_words(words: Sequence[str]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Settings with one value, and those with several: `env_args.dataset=a,b`.

    Raises:
        ConfigError: words are not of the form key=value, or name a setting twice.
    """
    settings: dict[str, Any] = {}
    grid: dict[str, list[Any]] = {}
    problems = []
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            problems.append(f"'{word}' after `with` is not of the form key=value")
        elif key in settings or key in grid:
            problems.append(f"{key} is given twice; several values are {key}=VALUE,VALUE")
        elif len(values := alternatives(text)) > 1:
            if not all(value.strip() for value in values):
                problems.append(f"{word}: a value is missing beside a comma")
            grid[key] = [parse_value(value.strip()) for value in values]
        else:
            settings[key] = parse_value(text.strip())
    if problems:
        raise ConfigError("; ".join(problems))
    return settings, grid


def alternatives(text: str) -> list[str]:
    """The parts of a value between commas that stand outside of brackets and quotes."""
    parts = [""]
    depth, quote = 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES:
            quote = letter
        else:
            depth += (letter in OPENING) - (letter in CLOSING)
        if letter == "," and not (depth or quote):
            parts.append("")
        else:
            parts[-1] += letter
    return parts
