"""Solves a small game with exact InSPO, and draws its joint policy.

python src/tabular_main.py --game=xor|mne|bridge with alpha=0.1 beta_start=0 ...
python src/tabular_main.py --help

`docs/exact-inspo.md` explains the output.
"""

if not __package__:  # run as a file
    from pathlib import Path
    from runpy import run_path

    run_path(str(Path(__file__).with_name("as_package.py")))

import sys
from collections.abc import Sequence
from pathlib import Path

from inspo.tabular.experiment import (
    SETTINGS_FILE,
    TabularConfig,
    load_settings,
    make_problem,
    run,
)
from inspo.tabular.figures import SUFFIXES
from inspo.tabular.report import draw_solution, report
from inspo.utils.command import CommandParser, run_command, say
from inspo.utils.errors import ConfigError
from inspo.utils.files import RESULTS, folder_of
from inspo.utils.pictures import drawing, save_figure
from inspo.utils.words import parse_words


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 2 wrong input, 130 interrupted."""
    return run_command(solve_game, list(arguments))


def solve_game(arguments: list[str]) -> None:
    """Solves the game that the arguments name, prints a report and draws a figure."""
    options, words = make_parser().parse_with_settings(arguments)
    if not options.game:
        raise ConfigError("give --game=xor, mne or bridge; --help lists the settings")
    config = load_settings(options.game, parse_words(words))
    path = _figure_path(config, options.game)
    problem = make_problem(config)
    solution = run(config, problem)
    say(report(config, problem, solution))
    with drawing(path):
        figure = draw_solution(config, problem, solution)
        save_figure(figure, path, path.suffix.removeprefix("."))
        say(f"\nfigure: {path}")


def make_parser() -> CommandParser:
    """The command's options. Its help lists the settings."""
    defaults = SETTINGS_FILE.read_text(encoding="utf-8")
    settings = f"The settings and their defaults:\n\n{defaults}"
    parser = CommandParser(prog="tabular_main.py", description=__doc__, epilog=settings)
    parser.add_argument("--game", metavar="NAME", help="xor, mne, bridge, or a YAML of your own")
    return parser


def _figure_path(config: TabularConfig, game: str) -> Path:
    default = folder_of(None, RESULTS) / "tabular" / f"{Path(game).stem}.png"
    path = Path(config.figure) if config.figure else default
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"figure={path}: its name must end in one of {', '.join(SUFFIXES)}")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
