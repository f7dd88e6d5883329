"""The command `python src/watch.py`."""

from collections.abc import Sequence

from inspo.film.watching import watch
from inspo.utils.command import CommandParser, run_command, say
from inspo.utils.options import count, positive_count

DESCRIPTION = """\
Films trained policies at play. Runs that are given together play the same battle side by side.

  python src/watch.py RUN --out=battle.gif
  python src/watch.py RUN_A RUN_B --out=both.gif
  python src/watch.py RUN:0 RUN --out=learnt.gif      step 0 beside the newest checkpoint

RUN is a run folder (its newest checkpoint), RUN:STEP, or a checkpoint file. A run keeps all of its
checkpoints with the setting keep_checkpoints=0.

Battles on StarCraft II are filmed by the game: it writes a replay, which the game plays back.
"""


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 2 wrong input, 130 interrupted."""
    return run_command(watch_command, list(arguments))


def watch_command(arguments: list[str]) -> None:
    """Makes the film that the arguments ask for and prints its path."""
    options = make_parser().parse_args(arguments)
    film = watch(
        *options.runs,
        out=options.out,
        seed=options.seed,
        episodes=options.episodes,
        greedy=options.greedy,
        fps=options.fps,
        size=options.size,
        frame=options.frame,
    )
    say(film)


def make_parser() -> CommandParser:
    """The command's options."""
    parser = CommandParser(prog="watch.py", description=DESCRIPTION)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="who plays")
    add(
        "--out",
        default="film.gif",
        metavar="FILE",
        help="the film: .gif, .mp4 (needs ffmpeg), or .png for a single frame (%(default)s)",
    )
    add("--seed", type=count, default=0, help="of games and sampled actions (%(default)s)")
    add(
        "--episodes",
        type=positive_count,
        help="shown one after the other, each with the next seed (1; 40 of a matrix game)",
    )
    actions = parser.add_mutually_exclusive_group()
    for option, greedy, what in (
        ("--greedy", True, "the likeliest (or most valued) actions"),
        ("--sample", False, "actions sampled from the policies"),
    ):
        actions.add_argument(
            option,
            dest="greedy",
            action="store_const",
            const=greedy,
            help=f"{what}; default: as the run was evaluated",
        )
    add("--fps", type=positive_count, default=8, help="game steps per second (%(default)s)")
    add("--size", type=count, default=400, help="pixels, width of each run's picture (%(default)s)")
    add("--frame", type=int, default=-1, help="which one a .png shows; -1: the last (%(default)s)")
    return parser
