"""The interface between the runners and every environment (PyMARL's, with terminated and truncated told apart)."""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass, fields

import numpy as np

from envs.batched_env import BatchedEnv, EnvLanes

# Keys of env_args that say how games are started and watched, not what is played.
RUNNING_ARGS = {"start_timeout", "step_timeout", "start_retries", "n_workers", "replay_dir", "replay_prefix", "debug"}


@dataclass(frozen=True)
class EnvInfo:
    """The sizes that networks and buffers are built from. Constant over an environment's life."""

    n_agents: int  # N
    n_actions: int  # A
    obs_shape: int  # O, per agent
    state_shape: int  # S
    episode_limit: int  # steps after which an unfinished episode is truncated


class MultiAgentEnv(ABC):
    """A cooperative game of N agents with discrete actions and one shared reward.

    `step` returns what Gymnasium returns: `terminated` says that the game ended by its own rules (no value follows),
    `truncated` that the time limit cut it (a value follows, which learners bootstrap).
    """

    n_agents: int
    n_actions: int
    obs_shape: int
    state_shape: int
    episode_limit: int
    # Of a simulator that is not this project's own.
    simulator: str = ""
    game_version: str = ""

    @abstractmethod
    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts an episode; `seed` fixes the environment's own randomness. Returns observations, float32 [N, O]."""

    @abstractmethod
    def step(self, actions: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Applies the joint action, int [N].

        Returns:
            observations float32 [N, O], the shared reward, terminated, truncated, info. An environment with battles
            puts `battle_won` into the info of the last step.

        Raises:
            ValueError: an agent's action does not exist or is not available.
        """

    @abstractmethod
    def get_obs(self) -> np.ndarray:
        """Observations of all agents, float32 [N, O]."""

    @abstractmethod
    def get_state(self) -> np.ndarray:
        """Global state, float32 [S]."""

    def get_avail_actions(self) -> np.ndarray:
        """Which actions each agent may take now, bool [N, A]. All of them, unless an environment says otherwise."""
        return np.ones((self.n_agents, self.n_actions), dtype=bool)

    def get_env_info(self) -> dict[str, int]:
        """The sizes, under PyMARL's names: the fields of `EnvInfo`."""
        return {field.name: getattr(self, field.name) for field in fields(EnvInfo)}

    def provenance(self) -> dict[str, str]:
        """What plays here, for the metadata of datasets and the records of runs; empty for a game of the project's."""
        named = {"simulator": self.simulator, "game_version": self.game_version}
        return {name: value for name, value in named.items() if value}

    def make_batch(self, n_lanes: int) -> BatchedEnv:
        """`n_lanes` games like this one, or fewer where games are costly, stepped together.

        Copies, unless an environment has a faster way.
        """
        return EnvLanes([deepcopy(self) for _ in range(n_lanes)])

    def close(self) -> None:
        """Frees what the environment holds (a game process, a window). Nothing by default."""

    def check_actions(self, actions: np.ndarray) -> np.ndarray:
        """Returns `actions` as int [N], or raises ValueError naming the agent whose action cannot be taken."""
        actions = np.asarray(actions, dtype=np.int64).reshape(-1)
        if len(actions) != self.n_agents:
            raise ValueError(f"expected {self.n_agents} actions, one for each agent, got {len(actions)}")
        available = self.get_avail_actions()
        for agent, action in enumerate(actions):
            if not 0 <= action < self.n_actions or not available[agent, action]:
                choices = np.flatnonzero(available[agent]).tolist()
                raise ValueError(f"agent {agent} cannot take action {action}; available to it: {choices}")
        return actions


def check_episode_limit(limit: int) -> int:
    """Returns `limit`, or raises ValueError naming the setting."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(f"env_args.episode_limit is {limit!r}; it must be a whole number, at least 1")
    return limit
