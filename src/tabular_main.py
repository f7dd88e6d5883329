"""Solves a small game with exact InSPO and draws its joint policy. `docs/exact-inspo.md` explains what comes out.

python src/tabular_main.py --game=xor|mne|bridge with alpha=0.1 beta_start=0 ...
python src/tabular_main.py --help
"""

if not __package__:  # run as a file
    import as_package  # noqa: F401


import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from inspo.envs.bridge import GOALS, Bridge
from inspo.envs.matrix_game import MatrixGame
from inspo.tabular.experiment import (
    SETTINGS_FILE,
    Problem,
    TabularConfig,
    first_plain_value,
    load_settings,
    make_problem,
    run,
    start_joint_policy,
)
from inspo.tabular.figures import SUFFIXES, Curve, Panel, draw
from inspo.tabular.inspo import Solution
from inspo.utils.command import CommandParser, parse_words, run_command
from inspo.utils.errors import ConfigError
from inspo.utils.files import RESULTS, folder_of

SHOWN_ROUNDS = 12  # at the beginning and at the end
SHOWN_STATES = 12
DRAWN_ROUNDS = 60
BRIDGE_ACTIONS = ("stay", "up", "down", "right", "left")


def main(arguments: Sequence[str]) -> int:
    """Returns the exit status: 0 done, 2 wrong input, 130 interrupted."""
    return run_command(solve_game, list(arguments))


def solve_game(arguments: list[str]) -> None:
    """Solves the game that the arguments name, reports and draws."""
    options, words = make_parser().parse_with_settings(arguments)
    if not options.game:
        raise ConfigError("give --game=xor, mne or bridge; --help lists the settings")
    config = load_settings(options.game, parse_words(words))
    figure = _figure_path(config, options.game)
    problem = make_problem(config)
    solution = run(config, problem)
    report(config, problem, solution)
    draw_solution(config, problem, solution, figure)
    _write(f"\nfigure: {figure}\n")


def make_parser() -> CommandParser:
    """The command's options. Its help lists the settings."""
    defaults = SETTINGS_FILE.read_text(encoding="utf-8")
    settings = f"The settings and their defaults:\n\n{defaults}"
    parser = CommandParser(prog="tabular_main.py", description=__doc__, epilog=settings)
    parser.add_argument("--game", metavar="NAME", help="xor, mne, bridge, or a YAML of your own")
    return parser


def report(config: TabularConfig, problem: Problem, solution: Solution) -> None:
    """Prints the rounds, the policy, its value and its distance from the equilibrium."""
    game = problem.game
    _, best_policy = problem.rules.optimum()
    best = problem.rules.return_within(best_policy, problem.env.episode_limit)
    decay = (
        f" to {config.beta_end:g} in {config.beta_rounds} rounds"
        if config.beta_end is not None
        else ""
    )
    _write(
        f"{config.env_config}, dataset {config.dataset}, dynamics of the {config.dynamics}: {game.n_states} states, "
        f"{' x '.join(map(str, game.n_actions))} joint actions, discount {config.gamma:g}\n"
        f"alpha {config.alpha:g}, beta {config.beta_start:g}{decay}, {config.scheme} updates, {config.order} order\n\n"
    )
    _write_rounds(problem, solution)
    _write("\npolicy\n")
    if isinstance(problem.env, Bridge):
        _write_path(problem, solution)
    else:
        _write_tables(problem, solution)
    value, plain = game.start @ solution.value, game.start @ solution.plain
    state = "converged" if solution.converged else f"NOT converged within {config.rounds} rounds"
    _write(
        f"\nregularised value       {value:.6f}\n"
        f"discounted return       {plain:.6f}\n"
        f"return of an episode    {problem.episode_return(solution.policy):.6f}   (optimum {best:.6f}, "
        f"behaviour {problem.episode_return(problem.behaviour):.6f})\n"
        f"largest decrease of V   {solution.largest_decrease:.1e}   in any state and round\n"
        f"QRE residual            {solution.residual:.1e}   {state} after {len(solution.rounds)} rounds\n"
    )


def draw_solution(config: TabularConfig, problem: Problem, solution: Solution, path: Path) -> None:
    """The figure: behaviour, solution and what `compare` sets beside it."""
    other = {
        "scheme": {"scheme": "simultaneous" if config.scheme == "sequential" else "sequential"},
        "entropy": {"beta_start": 0.0, "beta_end": None},
        "none": None,
    }[config.compare]
    labels = {
        "scheme": config.scheme.capitalize(),
        "entropy": "With entropy",
        "none": "Exact InSPO",
    }
    runs = [(labels[config.compare], config, solution)]
    if other is not None:
        changed = config.model_copy(update=other)
        label = changed.scheme.capitalize() if config.compare == "scheme" else "Without entropy"
        runs.append((label, changed, run(changed, problem)))
    panels = [Panel("Behaviour", start_joint_policy(problem.game, problem.behaviour))]
    curves, drawn = [], _rounds_to_draw(problem, solution)
    for label, settings, result in runs:
        title = label if result.converged else f"{label}, round {len(result.rounds)}"
        panels.append(Panel(title, start_joint_policy(problem.game, result.policy)))
        returns = [
            first_plain_value(settings, problem),
            *(float(problem.game.start @ r.plain) for r in result.rounds),
        ]
        returns += [returns[-1]] * (drawn + 1 - len(returns))  # it stays where it has converged
        curves.append(Curve(label, returns[: drawn + 1]))
    rewards = problem.rules.reward[0] if isinstance(problem.env, MatrixGame) else None
    best = float(problem.game.start @ problem.game.optimum()[0])
    draw(panels, curves, _action_names(problem), path, best=best, rewards=rewards)


def _rounds_to_draw(problem: Problem, solution: Solution) -> int:
    """A few more rounds than the return takes to settle."""
    returns = np.array([problem.game.start @ r.plain for r in solution.rounds] or [0.0])
    moving = np.flatnonzero(np.abs(returns - returns[-1]) > 0.01 * np.ptp(returns))
    return int(np.clip(moving.max(initial=0) + 6, 10, DRAWN_ROUNDS))


def _write_rounds(problem: Problem, solution: Solution) -> None:
    _write(" round      beta  order       V(start)    return    least change of V   QRE residual\n")
    hidden = range(SHOWN_ROUNDS, len(solution.rounds) - SHOWN_ROUNDS)
    for number, item in enumerate(solution.rounds):
        if number == hidden.start and hidden:
            _write(f"   ...      ({len(hidden)} rounds)\n")
        if number in hidden:
            continue
        _write(
            f"{number + 1:6d}  {item.beta:8.4g}  {' '.join(map(str, item.order)):8}"
            f"{problem.game.start @ item.after:12.6f}  {problem.game.start @ item.plain:8.4f}"
            f"  {(item.after - item.before).min():19.1e}   {item.residual:12.1e}\n"
        )


def _write_tables(problem: Problem, solution: Solution) -> None:
    names = _action_names(problem)
    for state in range(min(problem.game.n_states, SHOWN_STATES)):
        for agent, table in enumerate(solution.policy):
            row = "  ".join(f"{name} {p:.6f}" for name, p in zip(names, table[state], strict=False))
            _write(f"  state {state}, agent {agent}:  {row}\n")
    if problem.game.n_states > SHOWN_STATES:
        _write(f"  ... ({problem.game.n_states - SHOWN_STATES} more states)\n")


def _write_path(problem: Problem, solution: Solution) -> None:
    """The path of every agent's most likely actions, with their probabilities."""
    game, env = problem.game, problem.env
    known = {tuple(state): index for index, state in enumerate(game.states.tolist())}
    env.reset()
    for step in range(env.episode_limit):
        state = known.get(tuple(env.get_state().tolist()))
        if state is None:
            _write(f"  {step:3d}  {env.positions}: the dataset never was here\n")
            return
        actions = np.array([table[state].argmax() for table in solution.policy])
        chosen = [
            f"agent {agent} at {cell}: "
            + ("at its goal" if cell == goal else f"{BRIDGE_ACTIONS[action]} {p:.4f}")
            for agent, (cell, goal, action, p) in enumerate(
                zip(
                    env.positions,
                    GOALS,
                    actions,
                    (t[state].max() for t in solution.policy),
                    strict=True,
                )
            )
        ]
        _, reward, terminated, truncated, _ = env.step(actions)
        _write(f"  {step:3d}  {chosen[0]:36}{chosen[1]:36}reward {reward:.4f}\n")
        if terminated or truncated:
            _write(
                f"  {'both are at their goals' if terminated else 'the time limit'} after {step + 1} steps\n"
            )
            return


def _action_names(problem: Problem) -> Sequence[str]:
    if isinstance(problem.env, Bridge):
        return BRIDGE_ACTIONS
    largest = max(problem.game.n_actions)
    return (
        [chr(ord("A") + action) for action in range(largest)]
        if largest <= 26
        else [str(a) for a in range(largest)]
    )


def _figure_path(config: TabularConfig, game: str) -> Path:
    default = folder_of(None, RESULTS) / "tabular" / f"{Path(game).stem}.png"
    path = Path(config.figure) if config.figure else default
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"figure={path}: its name must end in one of {', '.join(SUFFIXES)}")
    return path


def _write(text: str) -> None:
    sys.stdout.write(text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
