"""What `tabular_main.py` prints and draws of a solution."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from inspo.envs.bridge import ACTION_NAMES, GOALS, Bridge
from inspo.envs.matrix_game import MatrixGame
from inspo.tabular.experiment import (
    GameProblem,
    TabularConfig,
    plain_values,
    run,
    start_joint_policy,
)
from inspo.tabular.figures import Curve, PolicyTable, draw
from inspo.tabular.inspo import Solution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_ROUNDS = 12  # at the beginning and at the end
SHOWN_STATES = 12
MIN_DRAWN_ROUNDS, MAX_DRAWN_ROUNDS = 10, 60
ROUNDS_HEADER = (
    " round      beta  order       V(start)    return    least change of V   QRE residual"
)


def report(config: TabularConfig, problem: GameProblem, solution: Solution) -> str:
    """The rounds, the policy, its value and its distance from the equilibrium, as text."""
    is_bridge = isinstance(problem.env, Bridge)
    policy = _bridge_path(problem, solution) if is_bridge else _policy_tables(problem, solution)
    lines = [
        *_settings(config, problem),
        "",
        *_rounds(problem, solution),
        "",
        "policy",
        *policy,
        "",
        *_values(config, problem, solution),
    ]
    return "\n".join(lines)


def draw_solution(config: TabularConfig, problem: GameProblem, solution: Solution) -> "Figure":
    """The behaviour and the solution, beside what the setting `compare` asks for."""
    runs = [(_label(config), config, solution)]
    other = _compared_settings(config)
    if other is not None:
        runs.append((_label(other), other, run(other, problem)))

    panels = [PolicyTable("Behaviour", start_joint_policy(problem.game, problem.behaviour))]
    curves = []
    n_rounds = _rounds_to_draw(plain_values(config, problem, solution))
    for label, settings, result in runs:
        title = label if result.converged else f"{label}, round {len(result.rounds)}"
        panels.append(PolicyTable(title, start_joint_policy(problem.game, result.policy)))
        returns = plain_values(settings, problem, result)
        missing = n_rounds + 1 - len(returns)
        returns += [returns[-1]] * missing  # a converged return stays where it is
        curves.append(Curve(label, returns[: n_rounds + 1]))
    rewards = problem.rules.reward[0] if isinstance(problem.env, MatrixGame) else None
    optimal_value, _ = problem.game.optimum()
    best = float(problem.game.start @ optimal_value)
    return draw(panels, curves, _action_names(problem), best, rewards)


def _settings(config: TabularConfig, problem: GameProblem) -> Iterator[str]:
    game = problem.game
    sizes = " x ".join(map(str, game.n_actions))
    yield (
        f"{config.env_config}, dataset {config.dataset}, dynamics of the {config.dynamics}: "
        f"{game.n_states} states, {sizes} joint actions, discount {config.gamma:g}"
    )
    beta = f"{config.beta_start:g}"
    if config.beta_end is not None:
        beta += f" to {config.beta_end:g} in {config.beta_rounds} rounds"
    yield f"alpha {config.alpha:g}, beta {beta}, {config.scheme} updates, {config.order} order"


def _rounds(problem: GameProblem, solution: Solution) -> Iterator[str]:
    """A line for each of the first and last rounds."""
    start = problem.game.start
    yield ROUNDS_HEADER
    hidden = range(SHOWN_ROUNDS, len(solution.rounds) - SHOWN_ROUNDS)
    for number, round_ in enumerate(solution.rounds):
        if number == hidden.start and hidden:
            yield f"   ...      ({len(hidden)} rounds)"
        if number in hidden:
            continue
        order = " ".join(map(str, round_.order))
        least_change = (round_.after - round_.before).min()
        yield (
            f"{number + 1:6d}  {round_.beta:8.4g}  {order:8}{start @ round_.after:12.6f}"
            f"  {start @ round_.plain:8.4f}  {least_change:19.1e}   {round_.residual:12.1e}"
        )


def _policy_tables(problem: GameProblem, solution: Solution) -> Iterator[str]:
    names = _action_names(problem)
    n_states = problem.game.n_states
    for state in range(min(n_states, SHOWN_STATES)):
        for agent, table in enumerate(solution.policy):
            pairs = zip(names, table[state], strict=False)
            row = "  ".join(f"{name} {probability:.6f}" for name, probability in pairs)
            yield f"  state {state}, agent {agent}:  {row}"
    if n_states > SHOWN_STATES:
        yield f"  ... ({n_states - SHOWN_STATES} more states)"


def _bridge_path(problem: GameProblem, solution: Solution) -> Iterator[str]:
    """The path of the agents' most likely actions, with their probabilities."""
    env = problem.env
    index = {tuple(state): row for row, state in enumerate(problem.game.states.tolist())}
    env.reset()
    for step in range(env.episode_limit):
        state = index.get(tuple(env.get_state().tolist()))
        if state is None:
            yield f"  {step:3d}  {env.positions}: the dataset does not hold this state"
            return
        probabilities = [table[state] for table in solution.policy]
        columns = ""
        for agent, cell in enumerate(env.positions):
            text = _bridge_action(cell == GOALS[agent], probabilities[agent])
            columns += f"{f'agent {agent} at {cell}: {text}':36}"
        actions = np.array([table.argmax() for table in probabilities])
        _, reward, terminated, truncated, _ = env.step(actions)
        yield f"  {step:3d}  {columns}reward {reward:.4f}"
        if terminated or truncated:
            end = "both are at their goals" if terminated else "the time limit"
            yield f"  {end} after {step + 1} steps"
            return


def _bridge_action(at_goal: bool, probabilities: np.ndarray) -> str:
    if at_goal:
        return "at its goal"
    return f"{ACTION_NAMES[probabilities.argmax()]} {probabilities.max():.4f}"


def _values(config: TabularConfig, problem: GameProblem, solution: Solution) -> Iterator[str]:
    start, rules = problem.game.start, problem.rules
    _, best_policy = rules.optimum()
    best = rules.return_within(best_policy, problem.env.episode_limit)
    reached = problem.episode_return(solution.policy)
    behaviour = problem.episode_return(problem.behaviour)
    state = "converged" if solution.converged else f"NOT converged within {config.rounds} rounds"
    n_rounds = len(solution.rounds)
    yield f"regularised value       {start @ solution.value:.6f}"
    yield f"discounted return       {start @ solution.plain:.6f}"
    yield (
        f"return of an episode    {reached:.6f}   (optimum {best:.6f}, behaviour {behaviour:.6f})"
    )
    yield f"largest decrease of V   {solution.largest_decrease:.1e}   in any state and round"
    yield f"QRE residual            {solution.residual:.1e}   {state} after {n_rounds} rounds"


def _compared_settings(config: TabularConfig) -> TabularConfig | None:
    """The settings of the other run in the figure."""
    if config.compare == "scheme":
        other = "simultaneous" if config.scheme == "sequential" else "sequential"
        return config.model_copy(update={"scheme": other})
    if config.compare == "entropy":
        return config.model_copy(update={"beta_start": 0.0, "beta_end": None})
    return None


def _label(config: TabularConfig) -> str:
    if config.compare == "scheme":
        return config.scheme.capitalize()
    if config.compare == "entropy":
        return "With entropy" if config.beta_start else "Without entropy"
    return "Exact InSPO"


def _rounds_to_draw(returns: Sequence[float]) -> int:
    """A few more rounds than the return needs to settle."""
    after = np.array(returns[1:] or returns)
    moving = np.flatnonzero(np.abs(after - after[-1]) > 0.01 * np.ptp(after))
    settled = moving.max(initial=0) + 6
    return int(np.clip(settled, MIN_DRAWN_ROUNDS, MAX_DRAWN_ROUNDS))


def _action_names(problem: GameProblem) -> Sequence[str]:
    """A, B, C, ..., or numbers where the letters do not suffice."""
    if isinstance(problem.env, Bridge):
        return ACTION_NAMES
    largest = max(problem.game.n_actions)
    if largest > 26:
        return [str(action) for action in range(largest)]
    return [chr(ord("A") + action) for action in range(largest)]
