"""Trains and evaluates: `python src/main.py --config=ALGORITHM --env-config=ENVIRONMENT ...`."""

if not __package__:  # run as a file
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).with_name("as_package.py")))

import shlex
import sys

from inspo.run.run import run
from inspo.run.settings import settings_of
from inspo.run.training import Interrupted
from inspo.utils.command import CommandParser, run_command
from inspo.utils.config import RunConfig, available
from inspo.utils.errors import ConfigError

DESCRIPTION = """\
Trains and evaluates algorithms of offline multi-agent reinforcement learning, and the online
algorithms that make its datasets.

  python src/main.py --config=ALGORITHM --env-config=ENVIRONMENT [with key=value ...]

Settings after `with` override those of the YAML files, as in
`with seed=3 env_args.dataset=mixed t_max=20000`. src/config/default.yaml and the algorithm's YAML
explain them. t_max and all intervals count gradient steps offline, and environment steps online.

Resume a run:      ... with checkpoint_path=RUN_FOLDER
Only evaluate it:  ... with checkpoint_path=RUN_FOLDER evaluate=True
Collect datasets:  python src/collect.py --help
"""


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 done, 2 wrong input, 130 interrupted."""
    if not arguments:
        make_parser().print_help()
        return 2
    return run_command(train, arguments, lambda error: after_interrupt(error, arguments))


def train(arguments: list[str]) -> None:
    """Runs what the arguments say."""
    run(parse(arguments))


def parse(arguments: list[str]) -> RunConfig:
    """The checked settings of the run.

    Raises:
        ConfigError: an argument is wrong or missing.
    """
    options, settings = make_parser().parse_with_settings(arguments)
    for name in ("config", "env_config"):
        if getattr(options, name) is None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}=NAME is missing; --help lists the names")
    return settings_of(options.config, options.env_config, settings)


def after_interrupt(error: KeyboardInterrupt, arguments: list[str]) -> str:
    """The message after Ctrl-C: the command that resumes."""
    saved: BaseException | None = error
    while saved is not None and not isinstance(saved, Interrupted):
        saved = saved.__context__  # of a second Ctrl-C, while games are closed
    if saved is None:  # before or after training, or a second Ctrl-C before the checkpoint
        return "Interrupted without saving. Older checkpoints, if any, are in the run folder."
    replaced = ("checkpoint_path=", "load_step=")
    words = [word for word in arguments if not word.startswith(replaced)]
    if "with" not in words:
        words.append("with")
    words.append(f"checkpoint_path={saved.checkpoint}")
    return f"Resume with: {shlex.join(['python', sys.argv[0], *words])}"


def make_parser() -> CommandParser:
    """The command's options. The help lists all algorithms and environments."""
    lines = []
    for title, kind in (("Algorithms", "algs"), ("\nEnvironments", "envs")):
        lines.append(f"{title}:")
        shipped = available(kind)
        width = max(map(len, shipped)) + 2
        lines += [f"  {name:<{width}}{about}" for name, about in shipped.items()]
    parser = CommandParser(prog="main.py", description=DESCRIPTION, epilog="\n".join(lines))
    add = parser.add_argument
    add("--config", metavar="NAME", help="algorithm, or path of your own YAML")
    add("--env-config", metavar="NAME", help="environment, or path of your own YAML")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
