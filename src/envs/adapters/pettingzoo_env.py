"""`env: pettingzoo`: any parallel environment of PettingZoo with discrete actions."""

from typing import Any

import numpy as np

from inspo.envs.adapters.game_env import Construct, GameEnv
from inspo.envs.adapters.packages import attribute_of, module_of
from inspo.envs.adapters.parallel import ParallelGame
from inspo.envs.external_env import Outcome


class PettingZoo(GameEnv):
    """A parallel environment. PettingZoo registers no time limits.

    `key` is a module with a function `parallel_env`, such as `mpe2.simple_spread_v3`, or
    `module:function`.
    """

    kind = "pettingzoo"
    game_class = ParallelGame

    @staticmethod
    def module_of_key(key: str) -> str:
        return key.partition(":")[0]

    @staticmethod
    def find(key: str, settings: dict[str, Any]) -> tuple[Construct, None]:
        setting = f"env_args.key={key}"
        module_name, _, function = key.partition(":")
        module = module_of(module_name, setting)
        make = attribute_of(module, function or "parallel_env", setting)
        return lambda: make(**settings), None

    def play(self, actions: np.ndarray) -> Outcome:
        by_agent = dict(zip(self.game.agents, actions.tolist(), strict=True))
        return *self.game.step(by_agent), {}
