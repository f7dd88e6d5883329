"""`env: pettingzoo`: any parallel environment of PettingZoo with discrete actions."""

from typing import Any

import numpy as np

from inspo.envs.adapters.game_env import GameEnv
from inspo.envs.adapters.packages import attribute_of, module_of, refuse_renamed
from inspo.envs.adapters.parallel import ParallelGame
from inspo.envs.contract import Contract
from inspo.envs.external_env import Outcome, given_limit


class PettingZoo(GameEnv):
    """A parallel environment.

    Args:
        key: a module with a function `parallel_env`, such as `mpe2.simple_spread_v3`, or
            `module:function`.
        episode_limit: steps after which an episode is truncated.
        reward_scalarisation: `mean` or `sum` of the rewards of the agents that are present.
        new_each_episode: make the environment anew for every episode, if its `reset` keeps
            something of the last one. The same seed then gives the same episode.
        settings: the other `env_args`, for the environment's constructor.

    Raises:
        ConfigError: there is no such module or function.
        EnvContractError: it is no parallel environment, or its actions are not discrete.
        SimulatorError: its package is not installed.
    """

    def __init__(
        self,
        key: str,
        episode_limit: int | None = None,
        reward_scalarisation: str = "mean",
        new_each_episode: bool = False,
        **settings: Any,
    ):
        refuse_renamed(settings)
        self.contract = Contract(f"pettingzoo {key}", reward_scalarisation)
        setting = f"env_args.key={key}"
        module = module_of(self.module_of_key(str(key)), setting)
        function = str(key).partition(":")[2]
        make = attribute_of(module, function or "parallel_env", setting)
        limit = given_limit(episode_limit, None, self.contract.name)
        self.set_up(ParallelGame, lambda: make(**settings), limit, new_each_episode)

    @staticmethod
    def module_of_key(key: str) -> str:
        return key.partition(":")[0]

    def play(self, actions: np.ndarray) -> Outcome:
        by_agent = dict(zip(self.game.agents, actions.tolist(), strict=True))
        return *self.game.step(by_agent), {}
