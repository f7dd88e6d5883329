"""Checks an environment: `python src/check_env.py ENVIRONMENT [options] [with key=value ...]`."""

if not __package__:  # run as a file
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).with_name("as_package.py")))

import sys

from inspo.run.env_check import check_env
from inspo.run.settings import settings_of
from inspo.utils.command import DONE, FAILED, CommandParser, run_command, say
from inspo.utils.options import count, positive_count

DESCRIPTION = """\
Plays an environment with random actions and reports everything that is wrong with it: what its
methods return, episodes that do not end, and seeds that do not repeat an episode. Also its sizes,
the lengths and returns of episodes, and its speed.

  python src/check_env.py xor_offline
  python src/check_env.py my_marl/rendezvous.yaml with env_args.length=9

The exit status is 1 if there is a problem.
"""


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 no problem, 1 problems, 2 wrong input, 130 interrupted."""
    return run_command(check, arguments)


def check(arguments: list[str]) -> int:
    """Plays, and prints the report."""
    options, settings = make_parser().parse_with_settings(arguments)
    # Settings are checked for a whole run. Any algorithm will do.
    args = settings_of("bc", options.environment, settings)
    report = check_env(args, options.episodes, options.games, options.seed)
    say(report)
    return FAILED if report.problems else DONE


def make_parser() -> CommandParser:
    """The command's options."""
    parser = CommandParser(prog="check_env.py", description=DESCRIPTION)
    add = parser.add_argument
    add("environment", metavar="ENVIRONMENT", help="name, or path of your own YAML")
    add("--episodes", type=positive_count, default=20, help="at least so many (%(default)s)")
    add("--games", type=positive_count, default=4, help="side by side (%(default)s)")
    add("--seed", type=count, default=0, help="of games and actions (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
