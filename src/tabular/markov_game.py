"""A cooperative Markov game as tables, the value of joint policies in it, and its optimum.

Shapes: S states, N agents with A_1, ..., A_N actions, and J = A_1 * ... * A_N joint actions in
row-major order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from inspo.utils.errors import GameError

Policy = tuple[np.ndarray, ...]  # a table [S, A_i] for each agent; every row sums to one

SUM_TOLERANCE = 1e-8  # how far probabilities may sum from one
LONGEST_EPISODE = 1e9  # expected steps above which an undiscounted episode counts as endless
MAX_SWEEPS = 1_000_000
MAX_TABLE_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class MarkovGame:
    """N agents act at once and share one reward. Then the game continues in a state, or ends.

    An end is not a state: after it there are no rewards and no regularisers. A state that is
    never left keeps paying its regularisers. So a game that is over must end, not loop.

    Args:
        reward: [S, A_1, ..., A_N], expected reward of a joint action.
        transition: [S, A_1, ..., A_N, S], probability of each next state.
        discount: in [0, 1]. With 1 a policy can only be evaluated if it ends the game.
        start: [S], distribution of the first state.
        termination: [S, A_1, ..., A_N], probability that the game ends. It sums to one with
            `transition`. None: the game never ends.
        states: [S, D], the vectors by which an environment or a dataset identifies its states.

    Raises:
        GameError: inconsistent shapes, NaN or infinity, a discount outside of [0, 1], or
            probabilities that are negative or do not sum to one.
    """

    reward: np.ndarray
    transition: np.ndarray
    discount: float
    start: np.ndarray
    termination: np.ndarray | None = None
    states: np.ndarray | None = None

    def __post_init__(self):
        if self.termination is None:
            object.__setattr__(self, "termination", np.zeros(np.shape(self.reward)))
        for name in ("reward", "transition", "start", "termination"):
            object.__setattr__(self, name, _table(name, getattr(self, name)))
        self._check_shapes()
        if not 0 <= self.discount <= 1:
            raise GameError(f"discount is {self.discount}; it must be in [0, 1]")
        _check_distribution("start", self.start, self.start.sum())
        outcomes = np.concatenate((self.transition, self.termination[..., None]), axis=-1)
        _check_distribution("transition with termination", outcomes, outcomes.sum(axis=-1))

    def _check_shapes(self) -> None:
        shape = self.reward.shape
        if len(shape) < 2 or 0 in shape:
            raise GameError(
                f"reward has shape {shape}; it needs one axis for the states and one for each agent"
            )
        expected = {
            "transition": (*shape, shape[0]),
            "termination": shape,
            "start": shape[:1],
        }
        for name, needed in expected.items():
            given = getattr(self, name).shape
            if given != needed:
                raise GameError(f"{name} has shape {given}; the reward's {shape} needs {needed}")
        if self.states is not None and len(self.states) != shape[0]:
            raise GameError(f"states has {len(self.states)} rows; the reward has {shape[0]} states")

    @property
    def n_states(self) -> int:
        """S."""
        return self.reward.shape[0]

    @property
    def n_agents(self) -> int:
        """N."""
        return self.reward.ndim - 1

    @property
    def n_actions(self) -> tuple[int, ...]:
        """A_1, ..., A_N."""
        return self.reward.shape[1:]

    @cached_property
    def flat_reward(self) -> np.ndarray:
        """[S, J]."""
        return self.reward.reshape(self.n_states, -1)

    @cached_property
    def flat_transition(self) -> np.ndarray:
        """[S, J, S]."""
        return self.transition.reshape(self.n_states, -1, self.n_states)

    def action_values(self, value: np.ndarray) -> np.ndarray:
        """Q(s, a) = r(s, a) + g E_{s'}[V(s')] of eq. 10: [S] gives [S, A_1, ..., A_N]."""
        expected = self.flat_transition @ value  # [S, J]
        return self.reward + self.discount * expected.reshape(self.reward.shape)

    def values(self, joint: np.ndarray, per_step: np.ndarray) -> np.ndarray:
        """Discounted sums of `per_step` under a joint policy, by a linear solve.

        Args:
            joint: [S, J].
            per_step: [S, K].

        Returns:
            [S, K].

        Raises:
            GameError: the discount is 1, and the policy may never end the game.
        """
        chain = self._chain(joint)
        system = np.eye(self.n_states) - self.discount * chain
        if self.discount < 1:
            return np.linalg.solve(system, per_step)
        ones = np.ones(self.n_states)
        try:
            solved = np.linalg.solve(system, np.column_stack((per_step, ones)))
        except np.linalg.LinAlgError:
            solved = np.full((self.n_states, 1), np.inf)
        steps = solved[:, -1]  # [S], expected length of the rest of the episode
        ends = np.isfinite(steps) & (steps > 0.5) & (steps < LONGEST_EPISODE)
        if not ends.all():
            raise GameError(
                "the discount is 1, but under this policy the game may never end; "
                "set a discount below 1"
            )
        return solved[:, :-1]

    def return_within(self, policy: Policy, steps: int) -> float:
        """Expected undiscounted sum of the rewards of the first `steps` steps."""
        joint = joint_policy(policy)
        rewards = (joint * self.flat_reward).sum(axis=-1)
        chain = self._chain(joint)
        total, reached = 0.0, self.start
        for _ in range(steps):
            total += float(reached @ rewards)
            reached = reached @ chain
        return total

    def optimum(self) -> tuple[np.ndarray, Policy]:
        """The best value that any joint policy reaches without regularisers.

        Value iteration over joint actions, up to rounding errors.

        Returns:
            V* [S], and a deterministic policy that reaches it.

        Raises:
            GameError: the discount is 1, and the value is unbounded.
        """
        value = np.zeros(self.n_states)
        for _ in range(MAX_SWEEPS):
            flat = self.action_values(value).reshape(self.n_states, -1)
            change = np.abs(flat.max(axis=-1) - value).max()
            value = flat.max(axis=-1)
            if change <= 4 * np.finfo(float).eps * max(1.0, np.abs(value).max()):
                break
        else:
            raise GameError(
                "the optimum is unbounded: the discount is 1 and the game need not end; "
                "set a discount below 1"
            )
        best = np.unravel_index(flat.argmax(axis=-1), self.n_actions)
        policy = [np.eye(size)[actions] for size, actions in zip(self.n_actions, best, strict=True)]
        return value, tuple(policy)

    def uniform_policy(self) -> Policy:
        """All actions equally likely, for every agent."""
        return tuple(np.full((self.n_states, size), 1 / size) for size in self.n_actions)

    def check_policy(self, policy: Sequence[np.ndarray], name: str) -> Policy:
        """Returns `policy` as float64 tables.

        Raises:
            GameError: it is not a policy of this game.
        """
        if len(policy) != self.n_agents:
            raise GameError(
                f"the {name} policy has {len(policy)} tables; the game has {self.n_agents} agents"
            )
        tables = []
        for agent, size in enumerate(self.n_actions):
            which = f"{name} policy of agent {agent}"
            table = _table(which, policy[agent])
            needed = (self.n_states, size)
            if table.shape != needed:
                raise GameError(f"the {which} has shape {table.shape}, not {needed}")
            _check_distribution(which, table, table.sum(axis=-1))
            tables.append(table)
        return tuple(tables)

    def _chain(self, joint: np.ndarray) -> np.ndarray:
        """Probabilities of the next state under a joint policy [S, J]: [S, S]."""
        return (joint[:, None] @ self.flat_transition)[:, 0]


def joint_policy(policy: Policy) -> np.ndarray:
    """Probabilities of joint actions, the product over agents: [S, J]."""
    joint = policy[0]
    for table in policy[1:]:
        joint = (joint[:, :, None] * table[:, None]).reshape(len(table), -1)
    return joint


def check_size(n_states: int, n_actions: Sequence[int]) -> None:
    """Raises GameError if a game's transition table would need too much memory."""
    n_bytes = 8 * n_states**2 * int(np.prod(n_actions, dtype=object))
    if n_bytes > MAX_TABLE_BYTES:
        raise GameError(
            f"{n_states} states and {tuple(n_actions)} actions need a transition table of "
            f"{n_bytes / 2**30:.1f} GiB; the limit is {MAX_TABLE_BYTES / 2**30:.0f} GiB"
        )


def _table(name: str, values: np.ndarray) -> np.ndarray:
    try:
        table = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise GameError(f"{name} is not a full table of numbers: {error}") from None
    if not np.isfinite(table).all():
        raise GameError(f"{name} holds NaN or infinity at {_first(~np.isfinite(table))}")
    return table


def _check_distribution(name: str, probabilities: np.ndarray, sums: np.ndarray) -> None:
    if (probabilities < 0).any():
        raise GameError(f"{name} holds a negative probability at {_first(probabilities < 0)}")
    wrong = np.abs(sums - 1) > SUM_TOLERANCE
    if wrong.any():
        place = _first(wrong)
        total = np.asarray(sums)[place]
        raise GameError(f"{name} must sum to one; at {place} the sum is {total:.6g}")


def _first(where: np.ndarray) -> tuple[int, ...]:
    """The first index at which a mask is set."""
    return tuple(int(i) for i in np.argwhere(where)[0])
