"""Command line for datasets: `python src/dataset.py COMMAND ...`; `--help` lists the commands."""

if not __package__:  # run as a file
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).with_name("as_package.py")))

import argparse
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspo.data.formats import open_dataset
from inspo.data.formats.assume import ASSUMPTIONS, parse_assumptions
from inspo.data.formats.schema import ReadOptions
from inspo.data.tools import known, report, rewrite
from inspo.data.tools.fetch import fetch
from inspo.data.tools.hashing import hashes
from inspo.data.tools.statistics import statistics
from inspo.data.tools.validate import validate
from inspo.utils.command import DONE, FAILED, CommandParser, run_command, say
from inspo.utils.errors import ConfigError
from inspo.utils.files import DATASETS, folder_of, writable_dataset_root
from inspo.utils.options import (
    count,
    index_range,
    json_record,
    positive_count,
    quantile_range,
    sha256_digits,
)

DESCRIPTION = """\
Inspects, validates, converts, mixes, cuts and fetches datasets for offline multi-agent
reinforcement learning. Layouts are recognised by their content: this project's h5, CFCQL's h5,
OffPyMARL's h5 parts, AlberDICE's npy folders, OG-MARL's Vaults, OMIGA's hdf5 with discrete actions,
Minari's hdf5 with discrete actions, and npz files.
docs/dataset-format.md specifies this project's layout.
"""
DEFAULT_ROOT = "dataset_root; default: dataset/ in the project's folder"
HUB = """
It is downloaded from the Hugging Face Hub, which needs `pip install huggingface_hub` (the extra
`fetch`). The environment variable HF_ENDPOINT sets a mirror of the Hub, HTTPS_PROXY a proxy.
Broken connections are retried; an interrupted download starts again.
"""


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 done, 1 not valid, 2 wrong input, 130 interrupted."""
    again = shlex.join(["python", sys.argv[0], *arguments])

    def interrupted(_: KeyboardInterrupt) -> str:
        return f"Interrupted. To start again: {again}"

    return run_command(dataset_command, arguments, interrupted)


def dataset_command(arguments: list[str]) -> int | None:
    """The subcommand that the arguments name."""
    args = make_parser().parse_args(arguments)
    return args.run(args)


def make_parser() -> CommandParser:
    """The commands and their options."""
    top = CommandParser(prog="dataset.py", description=DESCRIPTION)
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Callable, about: str) -> argparse.ArgumentParser:
        description = about[0].upper() + about[1:] + "."
        command = commands.add_parser(name, help=about, description=description)
        command.set_defaults(run=run)
        return command

    _add_list(add)
    _add_inspect(add)
    _add_validate(add)
    _add_convert(add)
    _add_mix(add)
    _add_subset(add)
    _add_fetch(add)
    _add_hash(add)
    return top


Add = Callable[[str, Callable, str], argparse.ArgumentParser]


def _add_list(add: Add) -> None:
    command = add("list", _list, "what is known, and where it is on this disk")
    command.add_argument("--root", help=DEFAULT_ROOT)


def _add_inspect(add: Add) -> None:
    about = "shapes, counts, returns, wins and behaviour, as text and as a picture"
    command = add("inspect", _inspect, about)
    command.add_argument("dataset", type=Path)
    picture = "where the picture goes; default: NAME.png in the current folder"
    command.add_argument("--png", type=Path, help=picture)
    command.add_argument("--no-png", action="store_true", help="no picture")


def _add_validate(add: Add) -> None:
    about = "every check, all findings at once; exit status 1 if there are any"
    command = add("validate", _validate, about)
    command.add_argument("dataset", type=Path)


def _add_convert(add: Add) -> None:
    about = "any layout to this project's or OffPyMARL's h5; reads it back and compares"
    command = add("convert", _convert, about)
    command.add_argument("source", type=Path)
    command.add_argument("target", type=Path)
    layouts = ("inspo", "offpymarl")
    command.add_argument("--to", choices=layouts, default="inspo", help="default: %(default)s")
    rewards = "how rewards per agent become the team's; without it, differing ones are refused"
    command.add_argument("--reward-scalarisation", choices=("mean", "sum"), help=rewards)
    assume = "what the source does not say, as in state=obs; may be repeated. One of:"
    meanings = "; ".join(f"{option}: {meaning}" for option, meaning in ASSUMPTIONS.items())
    command.add_argument(
        "--assume", action="append", default=[], metavar="KEY=VALUE", help=f"{assume} {meanings}"
    )
    _add_metadata(command)


def _add_mix(add: Add) -> None:
    about = "several datasets in one, each with its share of the episodes"
    command = add("mix", _mix, about)
    example = "as in medium.h5:0.5 expert.h5:0.5"
    command.add_argument("shares", nargs="+", metavar="PATH:SHARE", help=example)
    command.add_argument("--out", type=Path, required=True)
    episodes = "of the mix; default: as many as the shares allow"
    command.add_argument("--episodes", type=positive_count, help=episodes)
    seed = "of the draws; default: %(default)s"
    command.add_argument("--seed", type=count, default=0, help=seed)
    _add_metadata(command)


def _add_subset(add: Add) -> None:
    command = add("subset", _subset, "a part of a dataset: by episodes, by return, at random")
    command.add_argument("source", type=Path)
    command.add_argument("--out", type=Path, required=True)
    numbers = "numbers, counted from 0, without TO"
    command.add_argument("--episodes", type=index_range, metavar="FROM:TO", help=numbers)
    quantiles = "as in 0.9:1, the best tenth of all episodes"
    command.add_argument(
        "--return-quantile", type=quantile_range, metavar="LOW:HIGH", help=quantiles
    )
    sample = "N of these, drawn without replacement"
    command.add_argument("--sample", type=positive_count, metavar="N", help=sample)
    command.add_argument("--seed", type=count, default=0, help="of --sample")
    _add_metadata(command)


def _add_fetch(add: Add) -> None:
    about = "downloads a known dataset to its place under dataset_root"
    command = add("fetch", _fetch, about)
    command.add_argument("name", help="as `list` has it")
    command.description += HUB
    command.add_argument("--root", help=DEFAULT_ROOT)
    checksum = "checksum that the archive must have"
    command.add_argument("--sha256", type=sha256_digits, help=checksum)


def _add_hash(add: Add) -> None:
    about = "fingerprint of the content, the same in every layout, and checksums of the files"
    command = add("hash", _hash, about)
    command.add_argument("dataset", type=Path)


def _list(args: argparse.Namespace) -> None:
    say(known.listing(folder_of(args.root, DATASETS)))


def _inspect(args: argparse.Namespace) -> None:
    with open_dataset(args.dataset) as reader:
        found = statistics(reader)
        reader.verify()
        say(report.as_text(reader, found))
        if not args.no_png:
            png = args.png or Path(f"{args.dataset.resolve().stem}.png")
            if report.draw(reader, found, png):
                say(f"\nPicture: {png}")


def _validate(args: argparse.Namespace) -> int:
    found = validate(args.dataset)
    for text in found.errors:
        say(f"error: {text}")
    for text in found.remarks:
        say(f"remark: {text}")
    if found.errors:
        say(f"{args.dataset}: NOT VALID, kinds of errors: {len(found.errors)}")
        return FAILED
    say(f"{args.dataset}: valid")
    return DONE


def _convert(args: argparse.Namespace) -> None:
    metadata = _extra_metadata(args)
    options = [f"--{name.replace('_', '-')}" for name in metadata if name != "command"]
    if args.to == "offpymarl" and options:
        raise ConfigError(
            f"OffPyMARL's h5 has no metadata: {', '.join(options)} cannot go with --to=offpymarl"
        )
    assume = parse_assumptions(args.assume)
    options = ReadOptions(args.reward_scalarisation, assume)
    say(rewrite.convert(args.source, args.target, args.to, metadata, options))


def _mix(args: argparse.Namespace) -> None:
    shares = [rewrite.Share.parse(text) for text in args.shares]
    say(rewrite.mix(shares, args.out, args.episodes, args.seed, _extra_metadata(args)))


def _subset(args: argparse.Namespace) -> None:
    if args.episodes is None and args.return_quantile is None and args.sample is None:
        raise ConfigError("subset needs at least one of --episodes, --return-quantile and --sample")
    conditions = rewrite.Conditions(args.episodes, args.return_quantile, args.sample, args.seed)
    say(rewrite.subset(args.source, args.out, conditions, _extra_metadata(args)))


def _fetch(args: argparse.Namespace) -> None:
    say(fetch(known.lookup_known(args.name), writable_dataset_root(args.root), args.sha256))


def _hash(args: argparse.Namespace) -> None:
    say("\n".join(f"{digest}  {name}" for name, digest in hashes(args.dataset)))


def _add_metadata(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("metadata", "what the sources do not state")
    group.add_argument("--environment", help="the key `env` of its YAML, as in sc2")
    group.add_argument(
        "--env-args", type=json_record, metavar="JSON", help='as in \'{"map_name": "2s3z"}\''
    )
    group.add_argument("--behaviour", help="who played, as in 'medium: QMIX stopped half-way'")


def _extra_metadata(args: argparse.Namespace) -> dict[str, Any]:
    given = {
        "environment": args.environment,
        "env_args": args.env_args,
        "behaviour": args.behaviour,
    }
    stated = {key: value for key, value in given.items() if value is not None}
    return stated | {"command": shlex.join(sys.argv)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
