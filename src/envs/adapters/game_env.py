"""What the environments of adapters have in common: a game, seen through the interface of all."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any

import numpy as np

from inspo.envs.adapters.joint import JointGame
from inspo.envs.adapters.packages import module_of
from inspo.envs.adapters.parallel import ParallelGame
from inspo.envs.contract import Contract, made
from inspo.envs.external_env import ExternalEnv, close_quietly
from inspo.utils.errors import SimulatorError


class GameEnv(ExternalEnv):
    """A subclass finds and makes the game, and turns joint actions into what it takes."""

    game: ParallelGame | JointGame

    @staticmethod
    @abstractmethod
    def module_of_key(key: str) -> str:
        """The module that `env_args.key` names; empty if there is none."""

    @classmethod
    def resolve(cls, env_args: dict[str, Any]) -> dict[str, Any]:
        """Imports the game's module while the folder of its YAML is searched. Changes no setting.

        Raises:
            ConfigError: there is no such module, or it fails to import.
        """
        key = str(env_args.get("key", ""))
        if module := cls.module_of_key(key):
            with suppress(SimulatorError):  # training may do without the game
                module_of(module, f"env_args.key={key}")
        return env_args

    def set_up(
        self,
        game: type[ParallelGame] | type[JointGame],
        construct: Callable[[], Any],
        episode_limit: int,
        new_each_episode: bool,
    ) -> None:
        """Makes the game, and starts a first episode, which tells the sizes.

        Args:
            construct: makes the environment of the other project.
            new_each_episode: make it anew for every episode.
        """
        self.construct, self.new_each_episode = construct, False
        self.episode_limit = episode_limit
        self.game = game(made(self.contract.name, construct), self.contract)
        self.reset(0)
        self.n_agents, self.n_actions = self.game.available().shape
        self.obs_shape, self.state_shape = self.game.obs_size, self.game.state_size
        self.new_each_episode = new_each_episode

    def another(self, number: int) -> "GameEnv":
        other = copy(self)
        other.contract = Contract(self.contract.name, self.contract.reward_scalarisation)
        game = type(self.game)
        other.set_up(game, self.construct, self.episode_limit, self.new_each_episode)
        return other

    def start(self, seed: int | None) -> None:
        if self.new_each_episode:
            self.close()
            self.game.use(self.construct())
        self.game.reset(seed)

    def see_obs(self) -> np.ndarray:
        return self.game.obs()

    def see_state(self) -> np.ndarray:
        return self.game.state()

    def see_available(self, terminated: bool) -> np.ndarray:
        return self.game.available()

    def close(self) -> None:
        close_quietly(self.game.env, self.contract.name)
