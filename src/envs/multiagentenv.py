"""The interface of every environment: PyMARL's, with separate `terminated` and `truncated`.

Shapes: N agents, A actions, O numbers per observation, S numbers per state, K games in parallel.
"""

from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

# Keys of env_args that control how games run and are recorded, but not what is played.
RUNNING_ARGS = {
    "start_timeout",
    "step_timeout",
    "start_retries",
    "n_workers",
    "replay_dir",
    "replay_prefix",
    "debug",
}
# These, and those that name its datasets.
NOT_THE_GAME = {"dataset", "datasets", *RUNNING_ARGS}
# What the `step` of one environment returns: observations, reward, terminated, truncated, info.
Step = tuple[np.ndarray, float, bool, bool, dict[str, Any]]
# What the `step` of a vector environment returns: reward, terminated, truncated, info.
VectorStep = tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]


@dataclass(frozen=True)
class EnvInfo:
    """The sizes from which networks and buffers are built. An environment never changes them."""

    n_agents: int  # N
    n_actions: int  # A
    obs_shape: int  # O, per agent
    state_shape: int  # S
    episode_limit: int  # steps after which an unfinished episode is truncated


def game_labels(env_args: dict[str, Any]) -> dict[str, str]:
    """What names the game in records and titles: simulator and map, if any.

    SMACv2's maps of a race share a name. With the numbers of units, they are called as in the
    literature: `10gen_protoss` becomes `protoss_5_vs_5`.
    """
    labels = {key: str(env_args[key]) for key in ("simulator", "map_name") if key in env_args}
    if labels.get("simulator") == "smacv2":
        race, teams = labels["map_name"].removeprefix("10gen_"), env_args["capability_config"]
        labels["map_name"] = f"{race}_{teams['n_units']}_vs_{teams['n_enemies']}"
    return labels


def without_dataset(env_args: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the environment's constructor: `env_args` without the dataset's name."""
    return {key: value for key, value in env_args.items() if key != "dataset"}


class VectorEnv(ABC):
    """K copies of one game. Each plays one episode after `reset`, then waits for the next `reset`.

    A game whose episode is over keeps its last observation, state and available actions, ignores
    its actions and returns reward 0. Each game has its own seed, so that an episode does not depend
    on the number of games.
    """

    n_envs: int  # K
    playing: np.ndarray  # bool [K], games whose episode is not over

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Starts an episode in every game. Game k gets the seed `seed + k`."""

    @abstractmethod
    def step(self, actions: np.ndarray) -> VectorStep:
        """Applies the joint actions, int [K, N], in all games that are playing.

        Returns:
            reward: float32 [K], shared by the agents.
            terminated, truncated: bool [K], set in the last step of an episode.
            info: arrays of shape [K]. `battle_won` (bool) is valid where an episode ends. `crashed`
                (bool) marks games that failed; their episodes must be discarded.

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
        """Which actions are available to each agent, bool [K, N, A]."""

    def close(self) -> None:
        """Releases what the games hold."""

    def check_actions(self, actions: np.ndarray) -> np.ndarray:
        """Returns `actions` as int64 [K, N].

        Raises:
            ValueError: an action is not available in a game that is playing. Names the first one.
        """
        actions = np.asarray(actions, dtype=np.int64)
        available = self.get_avail_actions()
        expected = available.shape[:2]
        if actions.shape != expected:
            raise ValueError(f"expected actions of shape {expected}, got {actions.shape}")
        n_actions = available.shape[-1]
        exists = (actions >= 0) & (actions < n_actions)
        firsts = np.arange(0, available.size, n_actions).reshape(expected)
        allowed = exists & available.reshape(-1)[firsts + np.where(exists, actions, 0)]
        if not allowed.all():
            self._refuse(actions, available, self.playing[:, None] & ~allowed)
        return actions

    @staticmethod
    def _refuse(actions: np.ndarray, available: np.ndarray, wrong: np.ndarray) -> None:
        """Raises check_actions' error for the first of the wrong actions, bool [K, N], if any."""
        for k, agent in np.argwhere(wrong)[:1]:
            problem = _unavailable(agent, actions[k, agent], available[k, agent])
            raise ValueError(f"game {k}: {problem}")


class MultiAgentEnv(ABC):
    """A cooperative game of N agents with discrete actions and one shared reward.

    `step` returns what Gymnasium returns. `terminated` means that the game is over: no value
    follows. `truncated` means that the time limit ended the episode: learners bootstrap from the
    value of the last state.
    """

    n_agents: int
    n_actions: int
    obs_shape: int
    state_shape: int
    episode_limit: int
    # Name and version of an external simulator; empty for the project's own games.
    simulator: str = ""
    game_version: str = ""
    # Whether the same seed and the same actions repeat an episode.
    repeatable: bool = True

    @abstractmethod
    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts an episode and returns the observations, float32 [N, O].

        Args:
            seed: of the environment's own randomness.
        """

    @abstractmethod
    def step(self, actions: np.ndarray) -> Step:
        """Applies the joint action, int [N].

        Returns:
            Observations (float32 [N, O]), shared reward, terminated, truncated and info.
            Environments with battles put `battle_won` into the info of the last step.

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
        """Which actions are available to each agent, bool [N, A]. By default, all are."""
        return np.ones((self.n_agents, self.n_actions), dtype=bool)

    def get_env_info(self) -> dict[str, int]:
        """The fields of `EnvInfo`, as in PyMARL."""
        return {field.name: getattr(self, field.name) for field in fields(EnvInfo)}

    def provenance(self) -> dict[str, str]:
        """Simulator and version, for the records of runs and datasets. Empty for our own games."""
        named = {"simulator": self.simulator, "game_version": self.game_version}
        return {name: value for name, value in named.items() if value}

    def make_batch(self, n_envs: int) -> VectorEnv:
        """A vector environment of `n_envs` games like this one, or fewer if games are costly.

        By default, copies of this environment that are stepped one after the other.
        """
        return SyncVectorEnv([deepcopy(self) for _ in range(n_envs)])

    def close(self) -> None:
        """Releases what the environment holds, such as a game process. By default nothing."""

    def check_actions(self, actions: np.ndarray) -> np.ndarray:
        """Returns `actions` as int64 [N].

        Raises:
            ValueError: an action is not available. Names the first one.
        """
        actions = np.asarray(actions, dtype=np.int64).reshape(-1)
        if len(actions) != self.n_agents:
            raise ValueError(f"expected {self.n_agents} actions, one per agent, got {len(actions)}")
        available = self.get_avail_actions()
        for agent, action in enumerate(actions):
            if not 0 <= action < self.n_actions or not available[agent, action]:
                raise ValueError(_unavailable(agent, action, available[agent]))
        return actions


class SyncVectorEnv(VectorEnv):
    """Environments stepped one after the other, for games that are fast in Python."""

    def __init__(self, envs: list[MultiAgentEnv]):
        self.envs = envs
        self.n_envs = len(envs)
        self.playing = np.zeros(self.n_envs, dtype=bool)

    def reset(self, seed: int) -> None:
        for k, env in enumerate(self.envs):
            env.reset(seed + k)
        self.playing[:] = True

    def step(self, actions: np.ndarray) -> VectorStep:
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
    """Returns `limit`.

    Raises:
        ValueError: it is not a positive whole number.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ValueError(
            f"env_args.episode_limit is {limit!r}; it must be a whole number, at least 1"
        )
    return limit


def _unavailable(agent: int, action: int, available: np.ndarray) -> str:
    choices = np.flatnonzero(available).tolist()
    return f"agent {agent} cannot take action {action}; available to it: {choices}"
