"""Makes datasets by playing.

python src/collect.py --env-config=sc2 [options] [with key=value ...]
    all of a map's datasets: random, medium, medium-replay, expert, mixed. QMIX is trained first, in training/ beside
    them, where that is not done yet. Interrupted, the same command goes on.
python src/collect.py --checkpoint=RUN_FOLDER --name=NAME [options] [with key=value ...]
    one dataset, by the policy of a run or checkpoint file of any algorithm
python src/collect.py --random --env-config=sc2 --name=NAME [options] [with key=value ...]
    one dataset of random actions

Settings after `with` are those of src/main.py, as in `with env_args.map_name=3s_vs_5z dataset_root=DIR`. Train on the
result with `env_args.dataset=NAME`.
"""

import argparse
import logging
import sys
from pathlib import Path

import torch as th

from components.recipes import dataset_path
from envs import REGISTRY as ENVS
from learners import REGISTRY as LEARNERS
from main import execute, overrides_of, parse
from run.checkpoint import check_fits, load_checkpoint
from run.collection import RANDOM, make_all, record, trained_player
from run.run_folder import dataset_root, find_checkpoint
from run.session import Interrupted, make_env
from utils.config import OnlineConfig, RunConfig, build, lookup, merge
from utils.errors import ConfigError, UserError


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 done, 2 the user's to mend, 130 interrupted."""
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s %(asctime)s] %(message)s", datefmt="%H:%M:%S")
    at = arguments.index("with") if "with" in arguments else len(arguments)
    options, settings = _parser().parse_args(arguments[:at]), arguments[at + 1 :]
    try:
        if options.checkpoint or options.random:
            collect_one(options, settings)
        else:
            collect_all(options, settings)
    except (UserError, FileExistsError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt as error:
        saved = " The training is saved." if isinstance(error, Interrupted) else ""
        print(f"Interrupted.{saved} The same command goes on.", file=sys.stderr)  # noqa: T201
        return 130
    return 0


def collect_one(options: argparse.Namespace, settings: list[str]) -> None:
    """The dataset `--name`, by a checkpoint's policy or a random one."""
    if not options.name:
        raise ConfigError("--name=NAME is missing: what the dataset is called")
    if options.checkpoint:
        file = find_checkpoint(Path(options.checkpoint), options.load_step)
        content = load_checkpoint(file, th.device("cpu"))
        args = _settings_of(content["config"], settings)
        player = trained_player(content, file, args.test_greedy, options.epsilon)
    else:
        args, player = _parsed(options, settings), RANDOM
    env = make_env(args)
    try:
        if options.checkpoint:
            check_fits(content, file, args, env.get_env_info(), fingerprint=None)
        path = dataset_path(args, dataset_root(args.dataset_root), options.name)
        record(path, [player], args, env, options.episodes, options.seed)
    finally:
        env.close()
    logging.getLogger(__name__).info("Dataset '%s' is in %s", options.name, path)


def collect_all(options: argparse.Namespace, settings: list[str]) -> None:
    """All of a map's datasets."""
    args = _parsed(options, settings)
    if not isinstance(args, OnlineConfig):
        raise ConfigError(
            f"--config={options.config} learns offline; the policies have to come from an online algorithm"
        )
    make_all(args, dataset_root(args.dataset_root), options.episodes, options.seed, train=execute)


def _parsed(options: argparse.Namespace, settings: list[str]) -> RunConfig:
    if not options.env_config:
        raise ConfigError("--env-config=NAME is missing; python src/main.py --help lists the names")
    return parse([f"--config={options.config}", f"--env-config={options.env_config}", "with", *settings])


def _settings_of(config: dict, settings: list[str]) -> RunConfig:
    """A checkpoint's configuration, with these settings over it."""
    values = merge(config, overrides_of(settings))
    if resolve := getattr(lookup(ENVS, values["env"], "env"), "resolve", None):
        values["env_args"] = resolve(values["env_args"])
    return build(lookup(LEARNERS, config["learner"], "learner").Config, values)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS
    )
    parser.allow_abbrev = False
    policy = parser.add_mutually_exclusive_group()
    policy.add_argument("--checkpoint", metavar="PATH", help="run folder or checkpoint file whose policy plays")
    policy.add_argument("--random", action="store_true", help="random actions")
    parser.add_argument("--env-config", metavar="NAME", help="environment; a checkpoint brings its own")
    parser.add_argument("--config", metavar="NAME", default="qmix", help="what to train for all datasets (%(default)s)")
    parser.add_argument("--name", type=_name, help="what the dataset is called")
    parser.add_argument("--episodes", type=_positive, default=5000, help="of each dataset (%(default)s)")
    parser.add_argument("--seed", type=_count, default=0, help="fixes the games and the policies' draws (%(default)s)")
    parser.add_argument("--load-step", type=_count, default=0, help="which checkpoint of a run; 0: the newest")
    parser.add_argument("--epsilon", type=_share, default=0.0, help="share of random actions (%(default)s)")
    return parser


def _name(text: str) -> str:
    name = text.removesuffix(".h5")
    if Path(name).name != name or name[:1] in ("", ".") or name == "auto":  # env_args.dataset would not find it
        raise argparse.ArgumentTypeError("must be a plain name, no path, and not 'auto'")
    return name


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _count(text: str) -> int:
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def _share(text: str) -> float:
    if not 0 <= (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
