"""Makes tables of a matrix game, of Bridge, or of what a dataset shows (in-sample)."""

import itertools

import numpy as np

from inspo.data.episode_data import EpisodeData
from inspo.envs.bridge import GOALS, MOVES, Bridge, Cell, move, reward_of
from inspo.envs.matrix_game import MatrixGame
from inspo.tabular.markov_game import MarkovGame, Policy, check_size
from inspo.utils.errors import GameError

UNKNOWN = -1  # index of a state that the dataset does not hold


def from_matrix_game(env: MatrixGame, discount: float) -> MarkovGame:
    """One state for each step of an episode. The last step ends the game."""
    n_steps, n_actions = env.episode_limit, env.payoff.shape
    check_size(n_steps, n_actions)
    transition = np.zeros((n_steps, *n_actions, n_steps))
    for step in range(n_steps - 1):
        transition[step, ..., step + 1] = 1
    return MarkovGame(
        reward=np.broadcast_to(env.payoff, (n_steps, *n_actions)),
        transition=transition,
        termination=1 - transition.sum(axis=-1),
        discount=discount,
        start=np.eye(n_steps)[0],
        states=np.tile(env.get_state(), (n_steps, 1)),
    )


def matrix_behaviour(env: MatrixGame, dataset: str) -> Policy:
    """mu of a dataset that the YAML describes: the marginals of its joint actions."""
    joint = env.datasets[dataset]
    policy = []
    for agent in range(env.n_agents):
        teammates = tuple(other for other in range(env.n_agents) if other != agent)
        marginal = joint.sum(axis=teammates)
        policy.append(np.tile(marginal, (env.episode_limit, 1)))
    return tuple(policy)


def from_bridge(env: Bridge, discount: float) -> MarkovGame:
    """All pairs of cells that can be reached from the start.

    The game ends when both agents are at their goals. The time limit is not part of it.
    """
    joint_actions = list(itertools.product(range(len(MOVES)), repeat=env.n_agents))
    index: dict[tuple[Cell, Cell], int] = {env.start: 0}
    positions = [env.start]
    successors: list[list[tuple[Cell, Cell]]] = []
    for state in positions:  # grows while it is searched
        successors.append([move(state, actions) for actions in joint_actions])
        for after in successors[-1]:
            if after != GOALS and after not in index:
                index[after] = len(index)
                positions.append(after)

    n_states = len(positions)
    reward = np.zeros((n_states, len(joint_actions)))
    transition = np.zeros((n_states, len(joint_actions), n_states))
    for state, row in enumerate(successors):
        for action, after in enumerate(row):
            reward[state, action] = reward_of(positions[state], after)
            if after != GOALS:
                transition[state, action, index[after]] = 1
    shape = (n_states, *[len(MOVES)] * env.n_agents)
    vectors = [[*first, *GOALS[0], *second, *GOALS[1]] for first, second in positions]
    return MarkovGame(
        reward=reward.reshape(shape),
        transition=transition.reshape(*shape, n_states),
        termination=1 - transition.sum(axis=-1).reshape(shape),
        discount=discount,
        start=np.eye(n_states)[0],
        states=np.array(vectors, dtype=np.float32),
    )


def from_dataset(
    data: EpisodeData, discount: float, unseen_penalty: float
) -> tuple[MarkovGame, Policy]:
    """The empirical game and behaviour: the dataset's means and frequencies.

    Its states are those in which the dataset shows an action. The agents' own supports may
    combine to joint actions that the dataset never shows. These end the game, with a value of
    `unseen_penalty` below the worst return-to-go in the dataset. A truncated episode ends like
    this too, after its last reward, if the dataset shows no action in its last state.

    Raises:
        GameError: the tables would be too large, or the penalty is not positive.
    """
    if not (np.isfinite(unseen_penalty) and unseen_penalty > 0):
        raise GameError(
            f"unseen_penalty is {unseen_penalty}; it must be positive, or leaving the data is free"
        )
    rows = np.flatnonzero(data.is_step)  # [R], the rows that hold an action
    states, state_of_row = np.unique(data.state[rows], axis=0, return_inverse=True)
    state_of_row = state_of_row.reshape(-1)  # [R]
    n_actions = _n_actions(data)
    check_size(len(states), n_actions)

    state_at = np.full(len(data.reward), UNKNOWN)
    state_at[rows] = state_of_row
    truncated = data.final_rows[data.truncated[data.final_rows - 1]]
    state_at[truncated] = match_states(data.state[truncated], states)
    successor = state_at[rows + 1]  # [R]

    worst = _worst_return_to_go(data, discount) - unseen_penalty
    reward = data.reward[rows].astype(np.float64)
    reward[(successor == UNKNOWN) & ~data.terminated[rows]] += discount * worst

    actions = data.actions[rows].astype(np.int64)  # [R, N]
    joint = np.ravel_multi_index(tuple(actions.T), n_actions)  # [R]
    shape = (len(states), int(np.prod(n_actions)))
    means, transition = _means(state_of_row, joint, reward, successor, shape, worst)
    game = MarkovGame(
        reward=means.reshape(-1, *n_actions),
        transition=transition.reshape(-1, *n_actions, len(states)),
        termination=1 - transition.sum(axis=-1).clip(max=1).reshape(-1, *n_actions),
        discount=discount,
        start=np.bincount(state_at[data.starts], minlength=len(states)) / data.n_episodes,
        states=states,
    )
    return game, _frequencies(state_of_row, actions, n_actions, len(states))


def transfer(policy: Policy, known: MarkovGame, game: MarkovGame) -> Policy:
    """A policy of the game `known` as one of another game; uniform in states that it lacks.

    Raises:
        GameError: the games have different state vectors or agents, or `game` has fewer actions.
    """
    if (
        known.states is None
        or game.states is None
        or known.states.shape[1:] != game.states.shape[1:]
    ):
        raise GameError("the states of the two games cannot be matched")
    pairs = zip(known.n_actions, game.n_actions, strict=False)
    if known.n_agents != game.n_agents or any(given > size for given, size in pairs):
        raise GameError(
            f"a policy of {known.n_actions} actions of the agents does not fit {game.n_actions}"
        )
    index = match_states(game.states, known.states)
    is_known = index != UNKNOWN
    tables = game.uniform_policy()
    for old, new in zip(policy, tables, strict=True):
        new[is_known] = 0
        new[is_known, : old.shape[1]] = old[index[is_known]]
    return tables


def match_states(wanted: np.ndarray, states: np.ndarray) -> np.ndarray:
    """The row of each of `wanted` [K, D] in `states` [S, D], or UNKNOWN: int [K]."""
    rows = {_key(state): row for row, state in enumerate(states)}
    return np.array([rows.get(_key(state), UNKNOWN) for state in wanted], dtype=np.int64)


def _key(state: np.ndarray) -> bytes:
    vector = np.asarray(state, dtype=np.float32)
    return (vector + np.float32(0)).tobytes()  # adding 0 turns -0.0 into 0.0


def _n_actions(data: EpisodeData) -> tuple[int, ...]:
    """Each agent's actions up to the last one that is ever available."""
    ever_available = data.avail_actions.any(axis=0)  # [N, A]
    return tuple(int(np.flatnonzero(actions)[-1]) + 1 for actions in ever_available)


def _means(
    state: np.ndarray,
    joint: np.ndarray,
    reward: np.ndarray,
    successor: np.ndarray,
    shape: tuple[int, int],
    unseen: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean rewards [S, J], `unseen` where there are none, and transition frequencies [S, J, S].

    Args:
        state, joint, reward, successor: of all steps, [R] each.
        shape: (S, J).
    """
    visits, rewards = np.zeros(shape), np.zeros(shape)
    transition = np.zeros((*shape, shape[0]))
    np.add.at(visits, (state, joint), 1)
    np.add.at(rewards, (state, joint), reward)
    is_known = successor != UNKNOWN
    np.add.at(transition, (state[is_known], joint[is_known], successor[is_known]), 1)
    counts = np.maximum(visits, 1)
    transition /= counts[..., None]
    return np.where(visits > 0, rewards / counts, unseen), transition


def _frequencies(
    state: np.ndarray, actions: np.ndarray, n_actions: tuple[int, ...], n_states: int
) -> Policy:
    """How often each agent takes each action in each state."""
    tables = []
    for agent, size in enumerate(n_actions):
        counts = np.zeros((n_states, size))
        np.add.at(counts, (state, actions[:, agent]), 1)
        tables.append(counts / counts.sum(axis=-1, keepdims=True))
    return tuple(tables)


def _worst_return_to_go(data: EpisodeData, discount: float) -> float:
    """The lowest discounted return from any step to the end of its episode."""
    to_go = np.zeros(data.n_episodes)
    worst = np.inf
    for step in reversed(range(int(data.lengths.max()))):
        active = data.lengths > step
        reward = data.reward[data.starts[active] + step]
        to_go[active] = reward + discount * to_go[active]
        worst = min(worst, float(to_go[active].min()))
    return worst
