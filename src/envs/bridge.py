"""Bridge (Fu et al. 2022, as in Matsunaga et al. 2023): two agents must cross a one-lane bridge both ways."""

import numpy as np

from inspo.envs.multiagentenv import MultiAgentEnv, check_episode_limit

Cell = tuple[int, int]

ROWS, COLUMNS = 3, 6
WALLS: frozenset[Cell] = frozenset({(0, 2), (0, 3), (2, 2), (2, 3)})
GOALS: tuple[Cell, Cell] = ((2, 5), (0, 0))
MOVES: tuple[Cell, ...] = ((0, 0), (-1, 0), (1, 0), (0, 1), (0, -1))  # stay, up, down, right, left
STARTS: dict[str, tuple[Cell, Cell]] = {"bridge": ((1, 2), (1, 3)), "apart": ((1, 1), (1, 4))}


def move(positions: tuple[Cell, Cell], actions: tuple[int, int]) -> tuple[Cell, Cell]:
    """Where both agents are after the joint action: agent 0 is resolved first, then agent 1.

    An agent on its goal is out of play: it ignores its action and blocks no one. Agents in play that try to swap cells
    stay, except that agent 0 may so reach its goal. An agent whose move ends on its own goal gets there, unless the
    other has just taken the cell. Any other move is blocked by an agent that keeps the cell or has just moved there.
    """
    intended = [_intended(*agent) for agent in zip(positions, GOALS, actions, strict=True)]
    in_play = [cell != goal for cell, goal in zip(positions, GOALS, strict=True)]
    swap = all(in_play) and intended[0] == positions[1] and intended[1] == positions[0]

    held = swap or (in_play[1] and intended[0] == positions[1] == intended[1])
    first = intended[0] if intended[0] == GOALS[0] or not held else positions[0]

    held = in_play[0] and intended[1] == first
    may_enter_goal = intended[1] == GOALS[1] and not swap and first == positions[0]
    second = intended[1] if may_enter_goal or not held else positions[1]
    return first, second


def would_leave(cell: Cell, action: int) -> bool:
    """Whether the action, if unhindered, leads to another cell."""
    return _next_cell(cell, action) != cell


def _intended(cell: Cell, goal: Cell, action: int) -> Cell:
    return cell if cell == goal else _next_cell(cell, action)


def _next_cell(cell: Cell, action: int) -> Cell:
    row, column = cell[0] + MOVES[action][0], cell[1] + MOVES[action][1]
    free = 0 <= row < ROWS and 0 <= column < COLUMNS and (row, column) not in WALLS
    return (row, column) if free else cell


def reward_of(before: tuple[Cell, Cell], after: tuple[Cell, Cell]) -> float:
    """Minus 0.1 times the distance to the goal, summed over the agents in play before the move, divided by 2."""
    distances = [
        np.hypot(new[0] - goal[0], new[1] - goal[1]) for new, goal in zip(after, GOALS, strict=True)
    ]
    in_play = [old != goal for old, goal in zip(before, GOALS, strict=True)]
    return float(
        -0.1 * sum(d for d, playing in zip(distances, in_play, strict=True) if playing) / 2
    )


class Bridge(MultiAgentEnv):
    """3 x 6 grid whose row 1 is a corridor; its middle, columns 2 and 3, holds one agent's way at a time.

    Agent 0 goes to (2, 5), agent 1 to (0, 0). Actions: 0 stay, 1 up, 2 down, 3 right, 4 left, always available.
    Observations and state are the same 8 numbers: (row, column, goal row, goal column) of agent 0, then of agent 1.
    The best return is -1.2355.

    Args:
        episode_limit: steps until an unfinished episode is truncated.
        start: `bridge` (side by side on it, at (1, 2) and (1, 3)) or `apart` (at (1, 1) and (1, 4)).
    """

    n_agents, n_actions, obs_shape, state_shape = 2, len(MOVES), 8, 8

    def __init__(self, episode_limit: int = 50, start: str = "bridge"):
        if start not in STARTS:
            raise ValueError(f"env_args.start is '{start}'; it must be one of {', '.join(STARTS)}")
        self.episode_limit = check_episode_limit(episode_limit)
        self.start = STARTS[start]
        self.reset()

    def reset(self, seed: int | None = None) -> np.ndarray:
        """The start is fixed: `seed` changes nothing."""
        self.positions, self.steps = self.start, 0
        return self.get_obs()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        first, second = self.check_actions(actions).tolist()
        before = self.positions
        self.positions = move(before, (first, second))
        self.steps += 1
        terminated = self.positions == GOALS
        truncated = not terminated and self.steps >= self.episode_limit
        reward = (
            0.0 if terminated or truncated else reward_of(before, self.positions)
        )  # the recorded data's convention
        return self.get_obs(), reward, terminated, truncated, {}

    def get_obs(self) -> np.ndarray:
        return np.tile(self.get_state(), (self.n_agents, 1))

    def get_state(self) -> np.ndarray:
        return np.array(
            [*self.positions[0], *GOALS[0], *self.positions[1], *GOALS[1]], dtype=np.float32
        )
