"""Matrix games: N agents, one payoff tensor, all of it in the YAML. XOR and M-NE are two YAML files of this class."""

from types import NoneType

import numpy as np

from inspo.envs.multiagentenv import MultiAgentEnv, check_episode_limit


class MatrixGame(MultiAgentEnv):
    """All agents act at once and get `payoff[a^1, ..., a^N]`. Observations and state are the constant 1.

    Args:
        n_agents: number of agents N.
        n_actions: number of actions, the same for all agents, or a list with one number for each. Agents with fewer
            actions than the others have the missing ones marked unavailable.
        payoff: nested list with one level for each agent, of shape `n_actions`.
        episode_limit: how often the game is played in an episode; the last play terminates it.
        datasets: from a dataset's name to its distribution over joint actions, given as `joint_actions`, a list of
            them, with `weights` (all equal if left out), or as `independent`, a list of weights for each agent.

    Raises:
        ValueError: the payoff's shape disagrees with the number of agents and actions, or it is not finite.
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
        if isinstance(n_agents, bool) or not isinstance(n_agents, int) or n_agents < 1:
            raise ValueError(
                f"env_args.n_agents is {n_agents!r}; it must be a whole number, at least 1"
            )
        sizes = (
            tuple(n_actions) if isinstance(n_actions, (list, tuple)) else (n_actions,) * n_agents
        )
        if any(isinstance(size, bool) or not isinstance(size, int) or size < 1 for size in sizes):
            raise ValueError(
                f"env_args.n_actions is {n_actions!r}; it must be a whole number, at least 1, or a list of them"
            )
        try:
            self.payoff = np.array(payoff, dtype=np.float64)
        except ValueError as error:
            raise ValueError(f"env_args.payoff is not a full table of numbers: {error}") from None
        if len(sizes) != n_agents or self.payoff.shape != sizes:
            raise ValueError(
                f"env_args.payoff has shape {self.payoff.shape}, but n_agents={n_agents} and n_actions={n_actions} "
                f"need {sizes}: one level of nesting for each agent, one entry for each of its actions"
            )
        if not np.isfinite(self.payoff).all():
            raise ValueError("env_args.payoff holds NaN or infinity")
        self.episode_limit = check_episode_limit(episode_limit)
        self.n_agents, self.n_actions = n_agents, max(sizes)
        self.available = np.arange(self.n_actions) < np.array(sizes)[:, None]
        if not isinstance(datasets, (dict, NoneType)):
            raise ValueError(
                f"env_args.datasets is {datasets!r}; it must map names to distributions of joint actions"
            )
        self.datasets = {
            str(name): self._distribution(name, spec) for name, spec in (datasets or {}).items()
        }
        self.steps = 0

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Nothing here is random: `seed` changes nothing."""
        self.steps = 0
        return self.get_obs()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        actions = self.check_actions(actions)
        self.steps += 1
        return (
            self.get_obs(),
            float(self.payoff[tuple(actions)]),
            self.steps >= self.episode_limit,
            False,
            {},
        )

    def get_obs(self) -> np.ndarray:
        return np.ones((self.n_agents, 1), dtype=np.float32)

    def get_state(self) -> np.ndarray:
        return np.ones(1, dtype=np.float32)

    def get_avail_actions(self) -> np.ndarray:
        return self.available.copy()

    def _distribution(self, name: str, spec: dict) -> np.ndarray:
        """Probabilities of joint actions, of the payoff's shape."""
        key = f"env_args.datasets.{name}"
        try:
            if set(spec) <= {"joint_actions", "weights"} and "joint_actions" in spec:
                joint_actions = np.array(spec["joint_actions"])
                if joint_actions.shape[1:] != (self.n_agents,) or joint_actions.dtype.kind != "i":
                    raise ValueError(
                        f"joint_actions must be lists of {self.n_agents} whole numbers, one an agent"
                    )
                weights = np.array(spec.get("weights", np.ones(len(joint_actions))), dtype=float)
                if (joint_actions < 0).any():
                    raise IndexError("negative action")
                table = np.zeros(self.payoff.shape)
                np.add.at(table, tuple(joint_actions.T), weights)
            elif set(spec) == {"independent"}:
                table = np.ones(())
                for weights in spec["independent"]:
                    table = np.multiply.outer(table, np.array(weights, dtype=float))
            else:
                raise ValueError("give joint_actions (and weights), or independent")
        except (ValueError, IndexError, TypeError) as error:
            raise ValueError(f"{key} does not fit the game: {error}") from None
        if (
            table.shape != self.payoff.shape
            or not np.isfinite(table).all()
            or (table < 0).any()
            or table.sum() <= 0
        ):
            raise ValueError(
                f"{key} must give every joint action a weight of 0 or more, and some a positive one"
            )
        return table / table.sum()
