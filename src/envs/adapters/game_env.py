"""What the environments of adapters have in common: a game, seen through the interface of all."""

from typing import Any

import numpy as np

from inspo.envs.adapters.joint import JointGame
from inspo.envs.adapters.parallel import ParallelGame
from inspo.envs.foreign_env import ForeignEnv, given_limit


class GameEnv(ForeignEnv):
    """A subclass finds and makes the game, and turns joint actions into what it takes."""

    game: ParallelGame | JointGame

    def set_up(self, game: ParallelGame | JointGame, limit: int | None, known: int | None) -> None:
        """Starts a first episode, which tells the sizes.

        Args:
            limit: `env_args.episode_limit`, if it is given.
            known: the game's own time limit, if it says one.
        """
        self.game = game
        self.episode_limit = given_limit(limit, known, self.contract.name)
        self.reset(0)
        self.n_agents, self.n_actions = game.available().shape
        self.obs_shape, self.state_shape = game.obs_size, game.state_size

    def another(self, number: int) -> "GameEnv":
        return type(self)(**self.arguments)

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the constructor."""
        return self._arguments

    def start(self, seed: int | None) -> None:
        self.game.reset(seed)

    def see_obs(self) -> np.ndarray:
        return self.game.obs()

    def see_state(self) -> np.ndarray:
        return self.game.state()

    def see_available(self, terminated: bool) -> np.ndarray:
        return self.game.available()

    def close(self) -> None:
        if hasattr(self.game.env, "close"):
            self.game.env.close()
