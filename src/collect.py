"""Makes datasets by playing.

python src/collect.py --env-config=sc2 [options] [with key=value ...]
    all datasets of a map: random, medium, medium-replay, expert, mixed. A policy is trained first,
    in training/ beside them, if it has not been: by MAPPO on SMAX, where steps are cheap, by QMIX
    elsewhere, or as --config says. After an interruption, the same command resumes.
python src/collect.py --checkpoint=RUN_FOLDER --name=NAME [options] [with key=value ...]
    one dataset, by the policy of a run or checkpoint file of any algorithm
python src/collect.py --random --env-config=sc2 --name=NAME [options] [with key=value ...]
    one dataset of random actions

Settings after `with` are those of src/main.py, as in
`with env_args.map_name=3s_vs_5z dataset_root=DIR`. `env_args.dataset=NAME` trains on the result.
"""

if not __package__:  # run as a file
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).with_name("as_package.py")))

import argparse
import logging
import sys
from contextlib import closing
from pathlib import Path

from inspo.data.catalogue import dataset_path
from inspo.data.episode_data import differences
from inspo.run.checkpoint import check_fits, open_checkpoint
from inspo.run.collection import (
    RANDOM,
    fastest_algorithm,
    make_all,
    plays_greedily,
    record,
    trained_algorithm,
    trained_player,
)
from inspo.run.run import run
from inspo.run.session import make_env
from inspo.run.settings import settings_from, settings_of
from inspo.run.training import Interrupted
from inspo.utils.command import CommandParser, run_command
from inspo.utils.config import OnlineConfig, RunConfig
from inspo.utils.errors import ConfigError
from inspo.utils.files import dataset_root, writable_dataset_root
from inspo.utils.options import count, positive_count, share
from inspo.utils.words import parse_words

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 done, 2 wrong input, 130 interrupted."""
    return run_command(collect, arguments, after_interrupt)


def collect(arguments: list[str]) -> None:
    """Makes the datasets that the arguments ask for."""
    parser = make_parser()
    options, settings = parser.parse_with_settings(arguments)
    _refuse_unread(options, parser)
    if options.checkpoint or options.random:
        collect_one(options, settings)
    else:
        collect_all(options, settings)


def collect_one(options: argparse.Namespace, settings: list[str]) -> None:
    """Makes the dataset `--name`, by a checkpoint's policy or a random one."""
    if not options.name:
        raise ConfigError("--name=NAME is missing: the name of the dataset")
    content = None
    if options.checkpoint:
        file, content = open_checkpoint(options.checkpoint, options.load_step)
        overrides = parse_words(settings)
        args = settings_from(content["config"], overrides)
        greedy = overrides.get("test_greedy", plays_greedily(content["config"]))
        player = trained_player(content, file, greedy, options.epsilon)
    else:
        args, player = _settings(options, settings), RANDOM
    root = writable_dataset_root(args.dataset_root)
    path = dataset_path(args, root, options.name)
    with closing(make_env(args)) as env:
        if content:
            check_fits(content, file, args, env.get_env_info(), fingerprint=None)
            origin = content.get("origin", {})
            if changes := differences(origin, args.env, args.env_args, env.provenance()):
                log.warning("The policy was trained on episodes of another game: %s", changes)
        record(path, [player], args, env, options.episodes, options.seed)
    log.info("Dataset '%s' is in %s", options.name, path)


def collect_all(options: argparse.Namespace, settings: list[str]) -> None:
    """Makes all datasets of a map."""
    args = _settings(options, settings)
    if not isinstance(args, OnlineConfig):
        raise ConfigError(
            f"--config={options.config} learns offline; the policies of the datasets must come "
            "from an online algorithm"
        )
    root = dataset_root(args.dataset_root)
    make_all(args, root, options.episodes, options.seed, train=run)


def after_interrupt(error: KeyboardInterrupt) -> str:
    """The message after Ctrl-C."""
    saved = " The training is saved." if isinstance(error, Interrupted) else ""
    return f"Interrupted.{saved} The same command resumes."


def make_parser() -> CommandParser:
    """The command's options."""
    parser = CommandParser(prog="collect.py", description=__doc__, usage=argparse.SUPPRESS)
    policy = parser.add_mutually_exclusive_group()
    policy.add_argument("--checkpoint", metavar="PATH", help="run folder or file with the policy")
    policy.add_argument("--random", action="store_true", help="random actions")
    add = parser.add_argument
    add("--env-config", metavar="NAME", help="environment; checkpoints have their own")
    add("--config", metavar="NAME", help="algorithm to train first: mappo, qmix, vdn, iql, yours")
    add("--name", type=_name, help="name of the dataset")
    add("--episodes", type=positive_count, default=5000, help="per dataset (%(default)s)")
    add("--seed", type=count, default=0, help="of games and sampled actions (%(default)s)")
    add("--load-step", type=count, default=0, help="which checkpoint of a run; 0: the newest")
    add("--epsilon", type=share, default=0.0, help="share of random actions (%(default)s)")
    return parser


def _refuse_unread(options: argparse.Namespace, parser: CommandParser) -> None:
    """Raises ConfigError for options that would be ignored."""
    if options.checkpoint:
        unread, why = ("config", "env_config"), "a checkpoint has its own"
    elif options.random:
        unread, why = ("load_step", "epsilon"), "only with --checkpoint"
    else:
        unread = ("name", "load_step", "epsilon")
        why = "only with --random or --checkpoint; without, all datasets are made"
    given = [name for name in unread if getattr(options, name) != parser.get_default(name)]
    if given:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(f"{named}: {why}")


def _settings(options: argparse.Namespace, settings: list[str]) -> RunConfig:
    if not options.env_config:
        raise ConfigError("--env-config=NAME is missing; python src/main.py --help lists the names")
    config = options.config or _algorithm(options.env_config, settings)
    return settings_of(config, options.env_config, settings)


def _algorithm(env_config: str, settings: list[str]) -> str:
    """That of the training that is there, or else what trains fastest."""
    keys = ("env_args", "dataset_root")
    words = [word for word in settings if word.partition("=")[0].partition(".")[0] in keys]
    args = settings_of("qmix", env_config, words)
    return trained_algorithm(args, dataset_root(args.dataset_root)) or fastest_algorithm(args)


def _name(text: str) -> str:
    """A name that `env_args.dataset` can find."""
    name = text.removesuffix(".h5")
    is_path = Path(name).name != name or name.startswith(".")
    if not name or is_path or name == "auto":
        raise argparse.ArgumentTypeError("must be a plain name, no path, and not 'auto'")
    return name


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
