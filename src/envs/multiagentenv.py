"""The interface of every environment: PyMARL's, with `terminated` and `truncated` told apart.

Shapes: N agents, A actions, O numbers per observation, S numbers per state, K games side by side.
"""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

# Keys of env_args that say how games are started and watched, not what is played.
RUNNING_ARGS = {
    "start_timeout",
    "step_timeout",
    "start_retries",
    "n_workers",
    "replay_dir",
    "replay_prefix",
    "debug",
}


@dataclass(frozen=True)
class EnvInfo:
    """The sizes that networks and buffers are built from. They never change in an environment."""

    n_agents: int  # N
    n_actions: int  # A
    obs_shape: int  # O, per agent
    state_shape: int  # S
    episode_limit: int  # steps after which an unfinished episode is truncated


def game_labels(env_args: dict[str, Any]) -> dict[str, str]:
    """The keys of `env_args` that name the game in records and titles: simulator and map."""
    return {key: str(env_args[key]) for key in ("simulator", "map_name") if key in env_args}


def without_dataset(env_args: dict[str, Any]) -> dict[str, Any]:
    """`env_args` as the environment's constructor takes them: all but the dataset's name."""
    return {key: value for key, value in env_args.items() if key != "dataset"}


class VectorEnv(ABC):
    """K copies of one game. After `reset` each plays one episode, then rests until the next `reset`.

    A game at rest keeps its last observation, state and available actions (row L of its episode),
    ignores its actions and is given reward 0. Games are seeded one by one: what happens in one does
    not depend on how many there are.
    """

    n_envs: int  # K
    playing: np.ndarray  # bool [K], games whose episode goes on

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Starts an episode in every game; game k starts as a single one does with `seed + k`."""

    @abstractmethod
    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Applies the joint actions, int [K, N], in the games that are playing.

        Returns:
            reward: shared by the agents, float32 [K].
            terminated, truncated: bool [K], set in the step that ends an episode.
            info: arrays [K]. `battle_won` (bool) counts where an episode ends. `crashed` (bool) says
                that a game failed: its episode ends, is no result and has to be dropped.

        Raises:
            ValueError: an agent's action does not exist or is not available.
        """

    @abstractmethod
    def get_obs(self) -> np.ndarray:
        """Observations of all agents, float32 [K, N, O]."""

    @abstractmethod
    def get_state(self) -> np.ndarray:
        """Global states, float32 [K, S]."""

    @abstractmethod
    def get_avail_actions(self) -> np.ndarray:
        """Which actions each agent may take now, bool [K, N, A]."""

    def close(self) -> None:
        """Frees what the games hold."""

    def check_actions(self, actions: np.ndarray) -> np.ndarray:
        """Returns `actions` as int64 [K, N].

        Raises:
            ValueError: a playing game cannot take one of them. The first is named.
        """
        actions = np.asarray(actions, dtype=np.int64)
        available = self.get_avail_actions()
        if actions.shape != available.shape[:2]:
            raise ValueError(
                f"expected actions of shape {available.shape[:2]}, got {actions.shape}"
            )
        inside = (actions >= 0) & (actions < available.shape[-1])
        index = np.where(inside, actions, 0)[..., None]
        chosen = np.take_along_axis(available, index, axis=-1)[..., 0]
        for game, agent in np.argwhere(self.playing[:, None] & ~(inside & chosen)):
            choices = np.flatnonzero(available[game, agent]).tolist()
            raise ValueError(
                f"game {game}: agent {agent} cannot take action {actions[game, agent]}; "
                f"available to it: {choices}"
            )
        return actions


class MultiAgentEnv(ABC):
    """A cooperative game of N agents with discrete actions and one shared reward.

    `step` returns what Gymnasium returns. `terminated`: the game ended by its own rules, and no
    value follows. `truncated`: the time limit cut it, and learners bootstrap the value that follows.
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
        """Starts an episode and returns the observations, float32 [N, O].

        Args:
            seed: fixes the environment's own randomness.
        """

    @abstractmethod
    def step(self, actions: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Applies the joint action, int [N].

        Returns:
            observations float32 [N, O], the shared reward, terminated, truncated, info. An
            environment with battles puts `battle_won` into the info of the last step.

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
        """Which actions each agent may take now, bool [N, A]. By default all of them."""
        return np.ones((self.n_agents, self.n_actions), dtype=bool)

    def get_env_info(self) -> dict[str, int]:
        """The sizes, under PyMARL's names: the fields of `EnvInfo`."""
        return {field.name: getattr(self, field.name) for field in fields(EnvInfo)}

    def provenance(self) -> dict[str, str]:
        """Which simulator plays here, for the records of runs and datasets; empty for our own games."""
        named = {"simulator": self.simulator, "game_version": self.game_version}
        return {name: value for name, value in named.items() if value}

    def make_batch(self, n_envs: int) -> VectorEnv:
        """`n_envs` games like this one, stepped together; fewer where games are costly.

        By default copies of this one, stepped one after the other.
        """
        return SyncVectorEnv([deepcopy(self) for _ in range(n_envs)])

    def close(self) -> None:
        """Frees what the environment holds (a game process, a window). By default nothing."""

    def check_actions(self, actions: np.ndarray) -> np.ndarray:
        """Returns `actions` as int64 [N].

        Raises:
            ValueError: an agent cannot take its action. The first such agent is named.
        """
        actions = np.asarray(actions, dtype=np.int64).reshape(-1)
        if len(actions) != self.n_agents:
            raise ValueError(f"expected {self.n_agents} actions, one per agent, got {len(actions)}")
        available = self.get_avail_actions()
        for agent, action in enumerate(actions):
            if not 0 <= action < self.n_actions or not available[agent, action]:
                choices = np.flatnonzero(available[agent]).tolist()
                raise ValueError(
                    f"agent {agent} cannot take action {action}; available to it: {choices}"
                )
        return actions


class SyncVectorEnv(VectorEnv):
    """Environments stepped one after the other: for games that are quick in Python."""

    def __init__(self, envs: list[MultiAgentEnv]):
        self.envs = envs
        self.n_envs = len(envs)
        self.playing = np.zeros(self.n_envs, dtype=bool)

    def reset(self, seed: int) -> None:
        for number, env in enumerate(self.envs):
            env.reset(seed + number)
        self.playing[:] = True

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        reward = np.zeros(self.n_envs, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.n_envs), dtype=bool)
        info: dict[str, np.ndarray] = {}
        for k in np.flatnonzero(self.playing):
            _, reward[k], terminated[k], truncated[k], about = self.envs[k].step(actions[k])
            if "battle_won" in about:
                won = info.setdefault("battle_won", np.zeros(self.n_envs, dtype=bool))
                won[k] = about["battle_won"]
        self.playing = self.playing & ~(terminated | truncated)
        return reward, terminated, truncated, info

    def get_obs(self) -> np.ndarray:
        return np.stack([env.get_obs() for env in self.envs])

    def get_state(self) -> np.ndarray:
        return np.stack([env.get_state() for env in self.envs])

    def get_avail_actions(self) -> np.ndarray:
        return np.stack([env.get_avail_actions() for env in self.envs])

    def close(self) -> None:
        for env in self.envs:
            env.close()


def check_episode_limit(limit: int) -> int:
    """Returns `limit`, or raises ValueError naming the setting."""
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(
            f"env_args.episode_limit is {limit!r}; it must be a whole number, at least 1"
        )
    return limit
