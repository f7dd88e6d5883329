"""Command line for datasets: `python src/dataset.py COMMAND ...`; `--help` lists the commands."""

import argparse
import json
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from components.formats import open_dataset
from dataset_tools import known, report, rewrite
from dataset_tools.fetch import Way, fetch
from dataset_tools.hashing import hashes
from dataset_tools.statistics import statistics
from dataset_tools.validate import validate
from run.run_folder import DATASETS, dataset_root, own_place
from utils.errors import ConfigError, UserError

DESCRIPTION = """\
Looks at, checks, converts, mixes, cuts and fetches datasets for offline multi-agent reinforcement learning.
Layouts are told by content: this project's h5, CFCQL's h5, OffPyMARL's h5 parts, AlberDICE's npy folders, OG-MARL's
Vaults, OMIGA's hdf5 with discrete actions. docs/dataset-format.md describes this project's own.
"""


def main(arguments: list[str]) -> int:
    """Runs the command; returns the exit status: 0 done, 1 not valid, 2 the user's to mend, 130 interrupted."""
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s %(asctime)s] %(message)s", datefmt="%H:%M:%S")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's request to stop is a Ctrl-C
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # file names need not be text that the terminal can show
    args = parser().parse_args(arguments)
    try:
        return args.run(args)
    except UserError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        again = shlex.join(["python", sys.argv[0], *arguments])
        print(f"Interrupted. The same command goes on or starts anew: {again}", file=sys.stderr)  # noqa: T201
        return 130


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(
        prog="dataset.py", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Any, about: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        command.set_defaults(run=run)
        return command

    command = add("list", run_list, "what is known, and where it is on this disk")
    command.add_argument("--root", help="dataset_root; default: dataset/ in the project's folder")

    command = add("inspect", run_inspect, "shapes, counts, returns, wins and behaviour, as text and as a picture")
    command.add_argument("dataset", type=Path)
    command.add_argument("--png", type=Path, help="where the picture goes; default: NAME.png in the current folder")
    command.add_argument("--no-png", action="store_true", help="no picture")

    command = add("validate", run_validate, "every check, all findings at once; exit status 1 if there are any")
    command.add_argument("dataset", type=Path)

    command = add("convert", run_convert, "any layout to this project's or OffPyMARL's h5; read back and compared")
    command.add_argument("source", type=Path)
    command.add_argument("target", type=Path)
    command.add_argument("--to", choices=("inspo", "offpymarl"), default="inspo", help="default: %(default)s")
    _add_metadata(command)

    command = add("mix", run_mix, "several datasets in one, each with its share of the episodes")
    command.add_argument("shares", nargs="+", metavar="PATH:SHARE", help="as in medium.h5:0.5 expert.h5:0.5")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--episodes", type=_count, help="of the mix; default: as many as the shares allow")
    command.add_argument("--seed", type=_seed, default=0, help="which episodes are drawn, in which order")
    _add_metadata(command)

    command = add("subset", run_subset, "a part of a dataset: by episodes, by return, at random")
    command.add_argument("source", type=Path)
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--episodes", type=_range, metavar="FROM:TO", help="numbers, counted from 0; TO is not taken")
    command.add_argument(
        "--return-quantile", type=_quantiles, metavar="LOW:HIGH", help="as in 0.9:1, the best tenth of all episodes"
    )
    command.add_argument("--sample", type=_count, metavar="N", help="N of these, drawn without replacement")
    command.add_argument("--seed", type=_seed, default=0, help="of --sample")
    _add_metadata(command)

    command = add("fetch", run_fetch, "downloads a known dataset to its place under dataset_root")
    command.add_argument("name", help="as `list` has it")
    command.add_argument("--root", help="dataset_root; default: dataset/ in the project's folder")
    command.add_argument("--mirror", help="address to use instead of the registered ones (HF_ENDPOINT is heeded too)")
    command.add_argument("--proxy", help="default: what http_proxy, https_proxy and no_proxy say")
    command.add_argument("--sha256", type=_sha256, help="checksum that the archive must have")

    command = add("hash", run_hash, "fingerprint of the content, whatever layout it is in, and checksums of the files")
    command.add_argument("dataset", type=Path)
    return top


def run_list(args: argparse.Namespace) -> int:
    """`list`"""
    _say(known.listing(own_place(args.root, DATASETS)))
    return 0


def run_inspect(args: argparse.Namespace) -> int:
    """`inspect`"""
    with open_dataset(args.dataset) as reader:
        found = statistics(reader)
        reader.verify()
        _say(report.as_text(reader, found))
        if not args.no_png:
            png = args.png or Path(f"{args.dataset.resolve().stem}.png")
            report.draw(reader, found, png)
            _say(f"\nPicture: {png}")
    return 0


def run_validate(args: argparse.Namespace) -> int:
    """`validate`"""
    verdict = validate(args.dataset)
    for text in verdict.errors:
        _say(f"error: {text}")
    for text in verdict.remarks:
        _say(f"remark: {text}")
    _say(f"{args.dataset}: " + (f"NOT VALID, kinds of errors: {len(verdict.errors)}" if verdict.errors else "valid"))
    return 1 if verdict.errors else 0


def run_convert(args: argparse.Namespace) -> int:
    """`convert`"""
    if args.to == "offpymarl" and (given := [name for name in _said(args) if name != "command"]):
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"OffPyMARL's h5 has no place for metadata: {options} cannot go with --to=offpymarl")
    _say(rewrite.convert(args.source, args.target, args.to, _said(args)))
    return 0


def run_mix(args: argparse.Namespace) -> int:
    """`mix`"""
    shares = [rewrite.Share.parse(text) for text in args.shares]
    _say(rewrite.mix(shares, args.out, args.episodes, args.seed, _said(args)))
    return 0


def run_subset(args: argparse.Namespace) -> int:
    """`subset`"""
    if args.episodes is None and args.return_quantile is None and args.sample is None:
        raise ConfigError("subset needs at least one of --episodes, --return-quantile and --sample")
    part = (args.episodes, args.return_quantile, args.sample, args.seed)
    _say(rewrite.subset(args.source, args.out, *part, _said(args)))
    return 0


def run_fetch(args: argparse.Namespace) -> int:
    """`fetch`"""
    way = Way(args.mirror, args.proxy, args.sha256)
    _say(fetch(known.lookup_known(args.name), dataset_root(args.root), way))
    return 0


def run_hash(args: argparse.Namespace) -> int:
    """`hash`"""
    _say("\n".join(f"{digest}  {name}" for name, digest in hashes(args.dataset)))
    return 0


def _add_metadata(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("metadata", "what the sources do not say themselves")
    group.add_argument("--environment", help="the key `env` of its YAML, as in sc2")
    group.add_argument("--env-args", type=_record, metavar="JSON", help='as in \'{"map_name": "2s3z"}\'')
    group.add_argument("--behaviour", help="who played, as in 'medium: QMIX stopped half-way'")


def _said(args: argparse.Namespace) -> dict[str, Any]:
    given = {"environment": args.environment, "env_args": args.env_args, "behaviour": args.behaviour}
    return {key: value for key, value in given.items() if value is not None} | {"command": shlex.join(sys.argv)}


def _option(what: str) -> Callable[[Callable[[str], Any]], Callable[[str], Any]]:
    """Makes a function that reads an option's value, or fails with any ValueError, say `what` the value must be."""

    def decorate(read: Callable[[str], Any]) -> Callable[[str], Any]:
        def checked(text: str) -> Any:
            try:
                return read(text)
            except ValueError:
                raise argparse.ArgumentTypeError(f"'{text}' must be {what}") from None

        return checked

    return decorate


def _require(condition: bool) -> None:
    if not condition:
        raise ValueError


@_option("a JSON record")
def _record(text: str) -> dict[str, Any]:
    value = json.loads(text)
    _require(isinstance(value, dict))
    return value


@_option("a whole number, at least 1")
def _count(text: str) -> int:
    value = int(text)
    _require(value >= 1)
    return value


@_option("a whole number, at least 0")
def _seed(text: str) -> int:
    value = int(text)
    _require(value >= 0)
    return value


@_option("a SHA-256: 64 hexadecimal digits")
def _sha256(text: str) -> str:
    _require(re.fullmatch("[0-9a-fA-F]{64}", text) is not None)
    return text


@_option("FROM:TO with 0 <= FROM < TO")
def _range(text: str) -> tuple[int, int | None]:
    low, separator, high = text.partition(":")
    first, last = int(low or 0), int(high) if high else None
    _require(bool(separator) and first >= 0 and (last is None or last > first))
    return first, last


@_option("LOW:HIGH with 0 <= LOW < HIGH <= 1")
def _quantiles(text: str) -> tuple[float, float]:
    low, separator, high = text.partition(":")
    first, last = float(low or 0), float(high or 1)
    _require(bool(separator) and 0 <= first < last <= 1)
    return first, last


def _say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
