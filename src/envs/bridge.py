"""Bridge: two agents must cross a narrow bridge in opposite directions.

The game of Fu et al. (2022) with the rules of Matsunaga et al. (2023), whose recorded episodes it
reproduces.
"""

import numpy as np

from inspo.envs.multiagentenv import MultiAgentEnv, Step, check_episode_limit

Cell = tuple[int, int]  # row, column

ROWS, COLUMNS = 3, 6
WALLS: frozenset[Cell] = frozenset({(0, 2), (0, 3), (2, 2), (2, 3)})
GOALS: tuple[Cell, Cell] = ((2, 5), (0, 0))
ACTION_NAMES = ("stay", "up", "down", "right", "left")
MOVES: tuple[Cell, ...] = ((0, 0), (-1, 0), (1, 0), (0, 1), (0, -1))
STARTS: dict[str, tuple[Cell, Cell]] = {"bridge": ((1, 2), (1, 3)), "apart": ((1, 1), (1, 4))}


class Bridge(MultiAgentEnv):
    """A 3 x 6 grid. Columns 2 and 3 are a bridge with one free row, on which agents cannot pass.

    Agent 0 goes to (2, 5), agent 1 to (0, 0). Actions: 0 stay, 1 up, 2 down, 3 right, 4 left; all
    are always available. Observations and state are the same 8 numbers: row, column, goal row and
    goal column of agent 0, then of agent 1. The best return is -1.2355.

    Args:
        episode_limit: steps after which an unfinished episode is truncated.
        start: `bridge` (agents start on the bridge, at (1, 2) and (1, 3)) or `apart` (one on each
            side, at (1, 1) and (1, 4)).
    """

    n_agents, n_actions, obs_shape, state_shape = 2, len(MOVES), 8, 8

    def __init__(self, episode_limit: int = 50, start: str = "bridge"):
        if start not in STARTS:
            raise ValueError(f"env_args.start is '{start}'; it must be one of {', '.join(STARTS)}")
        self.episode_limit = check_episode_limit(episode_limit)
        self.start = STARTS[start]
        self.reset()

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts an episode. The game is deterministic, so `seed` has no effect."""
        self.positions, self.steps = self.start, 0
        return self.get_obs()

    def step(self, actions: np.ndarray) -> Step:
        first, second = self.check_actions(actions).tolist()
        before = self.positions
        self.positions = move(before, (first, second))
        self.steps += 1
        terminated = self.positions == GOALS
        truncated = not terminated and self.steps >= self.episode_limit
        # As in the recorded data, the last step is not charged.
        reward = 0.0 if terminated or truncated else reward_of(before, self.positions)
        return self.get_obs(), reward, terminated, truncated, {}

    def get_obs(self) -> np.ndarray:
        return np.tile(self.get_state(), (self.n_agents, 1))

    def get_state(self) -> np.ndarray:
        first, second = self.positions
        return np.array([*first, *GOALS[0], *second, *GOALS[1]], dtype=np.float32)


def move(positions: tuple[Cell, Cell], actions: tuple[int, int]) -> tuple[Cell, Cell]:
    """Cells of both agents after the joint action. Agent 0 moves first, then agent 1.

    An agent on its goal ignores its action and blocks nobody. For agents still in play:

    - Agents that try to swap cells both stay, except that agent 0 may enter its goal this way.
    - An agent may enter its own goal, unless the other agent has just moved there.
    - Other moves are blocked by an agent that stays in the cell or has just moved into it.
    """
    intended = [_intended(*agent) for agent in zip(positions, GOALS, actions, strict=True)]
    in_play = [cell != goal for cell, goal in zip(positions, GOALS, strict=True)]
    swap = all(in_play) and intended[0] == positions[1] and intended[1] == positions[0]

    blocked = swap or (in_play[1] and intended[0] == positions[1] == intended[1])
    first = positions[0] if blocked and intended[0] != GOALS[0] else intended[0]

    blocked = in_play[0] and intended[1] == first
    may_enter_goal = intended[1] == GOALS[1] and not swap and first == positions[0]
    second = positions[1] if blocked and not may_enter_goal else intended[1]
    return first, second


def would_leave(cell: Cell, action: int) -> bool:
    """Whether the action leads to another cell if no agent blocks it."""
    return _next_cell(cell, action) != cell


def reward_of(before: tuple[Cell, Cell], after: tuple[Cell, Cell]) -> float:
    """-0.1 times the mean over both agents of the distance to the goal after the move.

    Agents that were on their goal before the move count as 0.
    """
    distances = [
        np.hypot(cell[0] - goal[0], cell[1] - goal[1])
        for old, cell, goal in zip(before, after, GOALS, strict=True)
        if old != goal
    ]
    return float(-0.1 * sum(distances) / 2)


def _intended(cell: Cell, goal: Cell, action: int) -> Cell:
    return cell if cell == goal else _next_cell(cell, action)


def _next_cell(cell: Cell, action: int) -> Cell:
    row, column = cell[0] + MOVES[action][0], cell[1] + MOVES[action][1]
    inside = 0 <= row < ROWS and 0 <= column < COLUMNS
    return (row, column) if inside and (row, column) not in WALLS else cell
