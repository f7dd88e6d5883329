"""Tables from what the project already has: a matrix game, Bridge, or a dataset (in-sample)."""

import itertools

import numpy as np

from inspo.data.episode_data import EpisodeData
from inspo.envs.bridge import GOALS, MOVES, Bridge, Cell, move, reward_of
from inspo.envs.matrix_game import MatrixGame
from inspo.tabular.markov_game import MarkovGame, Policy, check_size
from inspo.utils.errors import GameError


def from_matrix_game(env: MatrixGame, discount: float) -> MarkovGame:
    """One state for each play of an episode; the last play ends the game. Missing actions are not in the tables."""
    plays, sizes = env.episode_limit, env.payoff.shape
    check_size(plays, sizes)
    transition = np.zeros((plays, *sizes, plays))
    for play in range(plays - 1):
        transition[play, ..., play + 1] = 1
    return MarkovGame(
        reward=np.broadcast_to(env.payoff, (plays, *sizes)),
        transition=transition,
        termination=1 - transition.sum(axis=-1),
        discount=discount,
        start=np.eye(plays)[0],
        states=np.tile(env.get_state(), (plays, 1)),
    )


def matrix_behaviour(env: MatrixGame, dataset: str) -> Policy:
    """mu^i of a dataset that the YAML describes: each agent's marginal of the distribution over joint actions."""
    table, agents = env.datasets[dataset], range(env.n_agents)
    marginals = (table.sum(axis=tuple(j for j in agents if j != i)) for i in agents)
    return tuple(np.tile(marginal, (env.episode_limit, 1)) for marginal in marginals)


def from_bridge(env: Bridge, discount: float) -> MarkovGame:
    """All pairs of cells that can be reached from the start. The time limit is not part of it: it ends at the goals."""
    joint_actions = list(itertools.product(range(len(MOVES)), repeat=env.n_agents))
    index: dict[tuple[Cell, Cell], int] = {env.start: 0}
    successors: list[list[tuple[Cell, Cell]]] = []
    for positions in (queue := [env.start]):
        successors.append([move(positions, actions) for actions in joint_actions])
        for after in successors[-1]:
            if after != GOALS and after not in index:
                index[after] = len(index)
                queue.append(after)
    shape = (len(queue), *[len(MOVES)] * env.n_agents)
    reward = np.array(
        [[reward_of(s, after) for after in row] for s, row in zip(queue, successors, strict=True)]
    )
    transition = np.zeros((len(queue), len(joint_actions), len(queue)))
    for state, row in enumerate(successors):
        for action, after in enumerate(row):
            if after != GOALS:
                transition[state, action, index[after]] = 1
    return MarkovGame(
        reward=reward.reshape(shape),
        transition=transition.reshape(*shape, len(queue)),
        termination=1 - transition.sum(axis=-1).reshape(shape),
        discount=discount,
        start=np.eye(len(queue))[0],
        states=np.array(
            [[*first, *GOALS[0], *second, *GOALS[1]] for first, second in queue], dtype=np.float32
        ),
    )


def from_dataset(
    data: EpisodeData, discount: float, unseen_penalty: float
) -> tuple[MarkovGame, Policy]:
    """The empirical game and each agent's empirical behaviour: means and frequencies over the dataset, nothing else.

    Its states are those in which the dataset shows an action. Agents that act on their own may still choose, each
    within its own support, a joint action that the dataset never shows. What that does is unknown, so it ends the game
    `unseen_penalty` below the worst return that the dataset shows from any of its steps. So does a truncated episode
    whose last state the dataset shows no action in, after its last reward.

    Raises:
        GameError: more states and joint actions than tables can hold, or a penalty that is not positive.
    """
    if not (np.isfinite(unseen_penalty) and unseen_penalty > 0):
        raise GameError(
            f"unseen_penalty is {unseen_penalty}; it must be positive, or leaving the data is free"
        )
    steps = np.ones(len(data.reward), dtype=bool)
    steps[data.final_rows] = False
    rows = np.flatnonzero(steps)
    states, of_row = np.unique(data.state[rows], axis=0, return_inverse=True)
    of_row = of_row.reshape(-1)
    sizes = tuple(
        int(np.flatnonzero(available)[-1]) + 1 for available in data.avail_actions.any(axis=0)
    )
    check_size(len(states), sizes)
    actions = data.actions[rows].astype(np.int64)  # [R, N]
    joint = np.ravel_multi_index(tuple(actions.T), sizes)
    reward = data.reward[rows].astype(np.float64)

    state_at = np.full(len(data.reward), -1)
    state_at[rows] = of_row
    truncated = data.final_rows[data.truncated[data.final_rows - 1]]
    state_at[truncated] = match_states(data.state[truncated], states)
    successor = state_at[rows + 1]  # [R], -1 where nothing is known to follow
    worst = _worst_return_to_go(data, discount) - unseen_penalty
    reward[(successor < 0) & ~data.terminated[rows]] += discount * worst

    shape = (len(states), int(np.prod(sizes)))
    visits, rewards = np.zeros(shape), np.zeros(shape)
    transition = np.zeros((*shape, len(states)))
    np.add.at(visits, (of_row, joint), 1)
    np.add.at(rewards, (of_row, joint), reward)
    goes_on = successor >= 0
    np.add.at(transition, (of_row[goes_on], joint[goes_on], successor[goes_on]), 1)
    seen = np.maximum(visits, 1)
    transition /= seen[..., None]
    start = np.bincount(state_at[data.starts], minlength=len(states)) / data.n_episodes
    game = MarkovGame(
        reward=np.where(visits > 0, rewards / seen, worst).reshape(-1, *sizes),
        transition=transition.reshape(-1, *sizes, len(states)),
        termination=1 - transition.sum(axis=-1).clip(max=1).reshape(-1, *sizes),
        discount=discount,
        start=start,
        states=states,
    )
    return game, _frequencies(of_row, actions, sizes, len(states))


def transfer(policy: Policy, known: MarkovGame, game: MarkovGame) -> Policy:
    """A policy of one game, such as a dataset's, as one of another; uniform in states that the first does not know.

    Raises:
        GameError: the games name their states differently, or have other agents or fewer actions.
    """
    if (
        known.states is None
        or game.states is None
        or known.states.shape[1:] != game.states.shape[1:]
    ):
        raise GameError("the states of the two games cannot be matched")
    more = any(given > size for given, size in zip(known.n_actions, game.n_actions, strict=False))
    if known.n_agents != game.n_agents or more:
        raise GameError(
            f"a policy of {known.n_actions} actions of the agents does not fit {game.n_actions}"
        )
    index = match_states(game.states, known.states)
    tables = game.uniform_policy()
    for old, new in zip(policy, tables, strict=True):
        new[index >= 0] = 0
        new[index >= 0, : old.shape[1]] = old[index[index >= 0]]
    return tables


def match_states(wanted: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Row of each of `wanted` [K, D] in `states` [S, D], -1 where it is not: int [K]."""
    rows = {_key(state): row for row, state in enumerate(states)}
    return np.array([rows.get(_key(state), -1) for state in wanted], dtype=np.int64)


def _key(state: np.ndarray) -> bytes:
    return (
        np.asarray(state, dtype=np.float32) + np.float32(0)
    ).tobytes()  # + 0: -0.0 and 0.0 are the same state


def _frequencies(
    of_row: np.ndarray, actions: np.ndarray, sizes: tuple[int, ...], n_states: int
) -> Policy:
    tables = []
    for agent, size in enumerate(sizes):
        counts = np.zeros((n_states, size))
        np.add.at(counts, (of_row, actions[:, agent]), 1)
        tables.append(counts / counts.sum(axis=-1, keepdims=True))
    return tuple(tables)


def _worst_return_to_go(data: EpisodeData, discount: float) -> float:
    """The lowest discounted return from any step to the end of its episode."""
    to_go, worst = np.zeros(data.n_episodes), np.inf
    for step in reversed(range(int(data.lengths.max()))):
        active = data.lengths > step
        to_go[active] = data.reward[data.starts[active] + step] + discount * to_go[active]
        worst = min(worst, float(to_go[active].min()))
    return worst
