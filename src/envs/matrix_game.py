"""Matrix games, defined by a payoff tensor in a YAML file. XOR and M-NE are two such files."""

from typing import Any

import numpy as np

from inspo.envs.multiagentenv import MultiAgentEnv, Step, check_episode_limit

MOST_AGENTS = 32  # the axes that every version of NumPy can have


class MatrixGame(MultiAgentEnv):
    """All agents act at once and receive `payoff[a^1, ..., a^N]`. Observations and state are 1.

    Args:
        n_agents: number of agents N, at most 32.
        n_actions: number of actions: one number for all agents, or a list with one per agent. For
            agents with fewer actions than others, the missing ones are unavailable.
        payoff: nested list of shape `n_actions`, one level per agent.
        episode_limit: plays per episode; the last one terminates it.
        datasets: names of datasets, each with a distribution over joint actions. It is given as
            `joint_actions`, a list of them, with optional `weights` (default: equal), or as
            `independent`, a list of weights for each agent.

    Raises:
        ValueError: the payoff is not finite or its shape does not fit the number of agents and
            actions; or a dataset's distribution does not fit the game.
    """

    obs_shape, state_shape = 1, 1

    def __init__(
        self,
        n_agents: int,
        n_actions: int | list[int],
        payoff: list,
        episode_limit: int = 1,
        datasets: dict[str, dict] | None = None,
    ):
        sizes = _action_counts(n_agents, n_actions)
        self.payoff = _payoff_table(payoff, sizes)
        self.episode_limit = check_episode_limit(episode_limit)
        self.n_agents, self.n_actions = n_agents, max(sizes)
        self.available = np.arange(self.n_actions) < np.array(sizes)[:, None]
        self.datasets = _distributions({} if datasets is None else datasets, sizes)
        self.steps = 0

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts an episode. The game is deterministic, so `seed` has no effect."""
        self.steps = 0
        return self.get_obs()

    def step(self, actions: np.ndarray) -> Step:
        actions = self.check_actions(actions)
        self.steps += 1
        reward = float(self.payoff[tuple(actions)])
        return self.get_obs(), reward, self.steps >= self.episode_limit, False, {}

    def get_obs(self) -> np.ndarray:
        return np.ones((self.n_agents, 1), dtype=np.float32)

    def get_state(self) -> np.ndarray:
        return np.ones(1, dtype=np.float32)

    def get_avail_actions(self) -> np.ndarray:
        return self.available.copy()


def _action_counts(n_agents: int, n_actions: int | list[int]) -> tuple[int, ...]:
    """The number of actions of each agent."""
    if not _is_positive_int(n_agents) or n_agents > MOST_AGENTS:
        raise ValueError(
            f"env_args.n_agents is {n_agents!r}; it must be a whole number from 1 to {MOST_AGENTS}"
        )
    as_list = isinstance(n_actions, (list, tuple))
    sizes = tuple(n_actions) if as_list else (n_actions,) * n_agents
    if not all(_is_positive_int(size) for size in sizes):
        raise ValueError(
            f"env_args.n_actions is {n_actions!r}; "
            "it must be a whole number, at least 1, or a list of them"
        )
    if len(sizes) != n_agents:
        raise ValueError(
            f"env_args.n_actions lists {len(sizes)} numbers of actions, but n_agents is {n_agents}"
        )
    return sizes


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _payoff_table(payoff: list, sizes: tuple[int, ...]) -> np.ndarray:
    try:
        table = np.array(payoff, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"env_args.payoff is not a full table of numbers: {error}") from None
    if table.shape != sizes:
        raise ValueError(
            f"env_args.payoff has shape {table.shape}; n_agents and n_actions need {sizes}: "
            "one level of nesting per agent, one entry per action"
        )
    if not np.isfinite(table).all():
        raise ValueError("env_args.payoff holds NaN or infinity")
    return table


def _distributions(datasets: Any, sizes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """By dataset: the probabilities of joint actions, of the payoff's shape."""
    if not isinstance(datasets, dict):
        raise ValueError(
            f"env_args.datasets is {datasets!r}; "
            "it must map names to distributions over joint actions"
        )
    return {str(name): _distribution(str(name), spec, sizes) for name, spec in datasets.items()}


def _distribution(name: str, spec: dict, sizes: tuple[int, ...]) -> np.ndarray:
    key = f"env_args.datasets.{name}"
    try:
        if "joint_actions" in spec and set(spec) <= {"joint_actions", "weights"}:
            weights = _weights_of_joint_actions(spec, sizes)
        elif set(spec) == {"independent"}:
            weights = np.ones(())
            for of_agent in spec["independent"]:
                weights = np.multiply.outer(weights, np.array(of_agent, dtype=float))
        else:
            raise ValueError("give joint_actions (and weights), or independent")
    except (ValueError, IndexError, TypeError) as error:
        raise ValueError(f"{key} does not fit the game: {error}") from None
    finite = weights.shape == sizes and np.isfinite(weights).all()
    if not finite or (weights < 0).any() or weights.sum() <= 0:
        raise ValueError(
            f"{key} must give every joint action a weight of 0 or more, and some a positive one"
        )
    return weights / weights.sum()


def _weights_of_joint_actions(spec: dict, sizes: tuple[int, ...]) -> np.ndarray:
    joint_actions = np.array(spec["joint_actions"])
    if joint_actions.shape[1:] != (len(sizes),) or joint_actions.dtype.kind != "i":
        raise ValueError(
            f"joint_actions must be lists of {len(sizes)} whole numbers, one per agent"
        )
    if (joint_actions < 0).any():
        raise IndexError("negative action")
    weights = np.array(spec.get("weights", np.ones(len(joint_actions))), dtype=float)
    table = np.zeros(sizes)
    np.add.at(table, tuple(joint_actions.T), weights)
    return table
