"""Many games stepped together: what the runners play on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from envs.multiagentenv import MultiAgentEnv


class BatchedEnv(ABC):
    """K lanes of one game. After `reset` each lane plays one episode, and then rests until the next `reset`.

    A lane that rests keeps its last observation, state and available actions (row L of its episode), ignores its
    actions and is given reward 0. Lanes are seeded one by one: what happens in one does not depend on their number.
    """

    n_lanes: int  # K
    playing: np.ndarray  # bool [K], lanes whose episode goes on

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Starts an episode in every lane; lane k as a single environment does with `reset(seed + k)`."""

    @abstractmethod
    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        """Applies the joint actions, int [K, N], in the lanes that are playing.

        Returns:
            the shared reward float32 [K]; terminated and truncated, bool [K], set in the step that ends an episode;
            info, arrays [K]: `battle_won` (bool, counts where an episode ends) if battles are won here, `crashed`
            (bool) if a game can fail: its lane ends, but that episode is no result and has to be dropped.

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
        """Frees what the lanes hold."""

    def check_actions(self, actions: np.ndarray) -> np.ndarray:
        """Returns `actions` as int64 [K, N], or raises ValueError for the first that a playing lane cannot take."""
        actions, available = np.asarray(actions, dtype=np.int64), self.get_avail_actions()
        if actions.shape != available.shape[:2]:
            raise ValueError(f"expected actions of shape {available.shape[:2]}, got {actions.shape}")
        inside = (actions >= 0) & (actions < available.shape[-1])
        chosen = np.take_along_axis(available, np.where(inside, actions, 0)[..., None], axis=-1)[..., 0]
        for lane, agent in np.argwhere(self.playing[:, None] & ~(inside & chosen)):
            choices = np.flatnonzero(available[lane, agent]).tolist()
            raise ValueError(
                f"lane {lane}: agent {agent} cannot take action {actions[lane, agent]}; available to it: {choices}"
            )
        return actions


class EnvLanes(BatchedEnv):
    """One environment for each lane, stepped one after the other: for games that are quick in Python."""

    def __init__(self, envs: list[MultiAgentEnv]):
        self.envs = envs
        self.n_lanes = len(envs)
        self.playing = np.zeros(self.n_lanes, dtype=bool)

    def reset(self, seed: int) -> None:
        for lane, env in enumerate(self.envs):
            env.reset(seed + lane)
        self.playing[:] = True

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
        reward = np.zeros(self.n_lanes, dtype=np.float32)
        terminated, truncated = np.zeros((2, self.n_lanes), dtype=bool)
        info: dict[str, np.ndarray] = {}
        for lane in np.flatnonzero(self.playing):
            _, reward[lane], terminated[lane], truncated[lane], about = self.envs[lane].step(actions[lane])
            if "battle_won" in about:
                info.setdefault("battle_won", np.zeros(self.n_lanes, dtype=bool))[lane] = about["battle_won"]
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
