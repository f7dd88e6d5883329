"""Base of environments from outside of this project: what the contract needs at every step."""

import logging
from abc import abstractmethod
from typing import Any

import numpy as np

from inspo.envs.contract import Contract, Problem, raised
from inspo.envs.multiagentenv import (
    MultiAgentEnv,
    Step,
    SyncVectorEnv,
    VectorEnv,
    check_episode_limit,
)

log = logging.getLogger(__name__)
Outcome = tuple[float, bool, bool, dict[str, Any]]  # reward, terminated, truncated, info


class ExternalEnv(MultiAgentEnv):
    """Checks actions, enforces the time limit, and keeps what was seen until the next step.

    A subclass converts, by its `contract`, what its game returns. `episode_limit` is enforced by
    truncation, whatever the game says.
    """

    contract: Contract

    def reset(self, seed: int | None = None) -> np.ndarray:
        """Starts an episode. Without `seed`, the game draws on as it likes."""
        self.contract.seed, self.contract.step = seed, 0
        self._terminated = False
        self._kept: dict[str, np.ndarray] = {}
        self.contract.ask("reset()", self.start, seed)
        return self.get_obs()

    def step(self, actions: np.ndarray) -> Step:
        actions = self.check_actions(actions)
        self.contract.step += 1
        # The game may change its copy of the actions.
        outcome = self.contract.ask("step()", self.play, actions.copy())
        reward, terminated, truncated, info = outcome
        if self.contract.step >= self.episode_limit:
            truncated = not terminated
        self._terminated = terminated
        self._kept = {}
        return self.get_obs(), reward, terminated, truncated, info

    def get_obs(self) -> np.ndarray:
        if "obs" not in self._kept:
            self._kept["obs"] = self.contract.ask("get_obs()", self.see_obs)
        return self._kept["obs"]

    def get_state(self) -> np.ndarray:
        if "state" not in self._kept:
            self._kept["state"] = self.contract.ask("get_state()", self.see_state)
        return self._kept["state"]

    def get_avail_actions(self) -> np.ndarray:
        if "available" not in self._kept:
            look = self.see_available
            self._kept["available"] = self.contract.ask(
                "get_avail_actions()", look, self._terminated
            )
        return self._kept["available"]

    def make_batch(self, n_envs: int) -> VectorEnv:
        """Games that are constructed anew: many environments cannot be copied."""
        games = [self.another(number) for number in range(n_envs)]
        sizes = self.get_env_info()
        for game in games:
            game.contract.report = self.contract.report
            if game.get_env_info() != sizes:
                text = f"another game has other sizes: {game.get_env_info()}, not {sizes}"
                self.contract.raise_problem(Problem("make_batch()", text))
        return SyncVectorEnv(games)

    @abstractmethod
    def another(self, number: int) -> "ExternalEnv":
        """A new environment like this one, for game `number` of several side by side."""

    @abstractmethod
    def start(self, seed: int | None) -> None:
        """Starts an episode."""

    @abstractmethod
    def play(self, actions: np.ndarray) -> Outcome:
        """Takes a step with checked actions, int64 [N]."""

    @abstractmethod
    def see_obs(self) -> np.ndarray:
        """Observations, float32 [N, O]."""

    @abstractmethod
    def see_state(self) -> np.ndarray:
        """State, float32 [S]."""

    @abstractmethod
    def see_available(self, terminated: bool) -> np.ndarray:
        """Available actions, bool [N, A]. After the end, every agent still has one."""


def given_limit(limit: int | None, known: int | None, name: str) -> int:
    """The steps after which episodes are truncated.

    Args:
        limit: `env_args.episode_limit`, if it is given.
        known: the environment's own limit, if it has one.

    Raises:
        ValueError: there is neither.
    """
    if limit is None and known is None:
        raise ValueError(
            f"{name} has no time limit; set env_args.episode_limit to the number of steps after "
            "which an episode is truncated"
        )
    return check_episode_limit(int(known) if limit is None else limit)


def close_quietly(env: Any, name: str) -> None:
    """Closes an environment that can be closed. What goes wrong then harms nothing."""
    try:
        if hasattr(env, "close"):
            env.close()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the environment raises
        log.warning("environment %s: close() %s", name, raised(error))
