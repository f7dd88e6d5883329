"""Command line: `python src/main.py --config=ALGORITHM --env-config=ENVIRONMENT [with key=value ...]`."""

if not __package__:  # run as a file
    import as_package  # noqa: F401

import shlex
import sys

from inspo.run.run import run
from inspo.run.settings import settings_of
from inspo.run.training import Interrupted
from inspo.utils.command import CommandParser, run_command
from inspo.utils.config import RunConfig, available
from inspo.utils.errors import ConfigError

DESCRIPTION = """\
Trains and evaluates offline multi-agent reinforcement learning, and the online learners that make
its datasets.

  python src/main.py --config=ALGORITHM --env-config=ENVIRONMENT [with key=value ...]

Settings after `with` override those of the YAMLs, as in
`with seed=3 env_args.dataset=mixed t_max=20000`. src/config/default.yaml and the algorithm's YAML
explain them. Offline, t_max and every interval count gradient steps; online, environment steps.

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
    """The run that the arguments ask for."""
    run(parse(arguments))


def parse(arguments: list[str]) -> RunConfig:
    """The checked settings that the arguments ask for; ConfigError if something is wrong."""
    options, settings = make_parser().parse_with_settings(arguments)
    for name in ("config", "env_config"):
        if getattr(options, name) is None:
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option}=NAME is missing; --help lists the names")
    return settings_of(options.config, options.env_config, settings)


def after_interrupt(error: KeyboardInterrupt, arguments: list[str]) -> str:
    """How to go on after Ctrl-C."""
    if not isinstance(error, Interrupted):  # before or after training, or a second Ctrl-C
        return "Interrupted; nothing was saved just now. Older checkpoints are in the run's folder."
    kept = [
        argument
        for argument in arguments
        if not argument.startswith(("checkpoint_path=", "load_step="))
    ]
    with_word = [] if "with" in kept else ["with"]
    checkpoint = f"checkpoint_path={error.checkpoint}"
    command = shlex.join(["python", sys.argv[0], *kept, *with_word, checkpoint])
    return f"Resume with: {command}"


def make_parser() -> CommandParser:
    """The command's options. Its help lists the algorithms and environments there are."""
    lists = [
        "\n".join(
            [f"{title}:", *(f"  {name:<16}{about}" for name, about in available(kind).items())]
        )
        for title, kind in (("Algorithms", "algs"), ("Environments", "envs"))
    ]
    parser = CommandParser(prog="main.py", description=DESCRIPTION, epilog="\n\n".join(lists))
    add = parser.add_argument
    add("--config", metavar="NAME", help="algorithm, or the path of your own YAML")
    add("--env-config", metavar="NAME", help="environment, or the path of your own YAML")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
