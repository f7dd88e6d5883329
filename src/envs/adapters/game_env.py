"""What the environments of adapters have in common: a game, seen through the interface of all."""

from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any

import numpy as np

from inspo.envs.adapters.joint import JointGame
from inspo.envs.adapters.packages import module_of, refuse_renamed
from inspo.envs.adapters.parallel import ParallelGame
from inspo.envs.contract import Contract, made
from inspo.envs.external_env import ExternalEnv, close_quietly, given_limit
from inspo.utils.errors import SimulatorError

Construct = Callable[[], Any]  # makes the environment of the other project


class GameEnv(ExternalEnv):
    """A subclass finds the game, and turns joint actions into what it takes.

    Args:
        key: names the game; see the subclasses.
        episode_limit: steps after which an episode is truncated; None: the game's registered limit.
        reward_scalarisation: `mean` or `sum` of the rewards of the agents that are present.
        new_each_episode: make the environment anew for every episode, if its `reset` keeps
            something of the last one. The same seed then gives the same episode.
        settings: the other `env_args`, for the environment's constructor.

    Raises:
        ConfigError: there is no such game.
        EnvContractError: its interface is another one, or its actions are not discrete.
        SimulatorError: its package is not installed.
    """

    kind: str  # as in `env: kind`
    game_class: type[ParallelGame] | type[JointGame]

    def __init__(
        self,
        key: str,
        episode_limit: int | None = None,
        reward_scalarisation: str = "mean",
        new_each_episode: bool = False,
        **settings: Any,
    ):
        refuse_renamed(settings)
        if not isinstance(new_each_episode, bool):
            raise ValueError(
                f"env_args.new_each_episode is {new_each_episode!r}; it must be True or False"
            )
        self.contract = Contract(f"{self.kind} {key}", reward_scalarisation)
        self.construct, known = self.find(str(key), settings)
        self.episode_limit = given_limit(episode_limit, known, self.contract.name)
        self._start_game(new_each_episode)

    @staticmethod
    @abstractmethod
    def find(key: str, settings: dict[str, Any]) -> tuple[Construct, int | None]:
        """What makes the environment, and its registered time limit, which is not applied there."""

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

    def _start_game(self, new_each_episode: bool) -> None:
        """Makes the game, and starts a first episode, which tells the sizes."""
        self.new_each_episode = False
        self.game = self.game_class(made(self.contract.name, self.construct), self.contract)
        self.reset(0)
        self.n_agents, self.n_actions = self.game.available().shape
        self.obs_shape, self.state_shape = self.game.obs_size, self.game.state_size
        self.new_each_episode = new_each_episode

    def another(self, number: int) -> "GameEnv":
        other = copy(self)
        other.contract = Contract(self.contract.name, self.contract.reward_scalarisation)
        other._start_game(self.new_each_episode)
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
