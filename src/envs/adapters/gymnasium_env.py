"""`env: gymnasium`: environments of Gymnasium with discrete actions, of one agent or several."""

from copy import deepcopy
from typing import Any

import numpy as np

from inspo.envs.adapters.game_env import Construct, GameEnv
from inspo.envs.adapters.joint import JointGame
from inspo.envs.adapters.packages import module_of
from inspo.envs.external_env import Outcome
from inspo.utils.errors import ConfigError


class Gymnasium(GameEnv):
    """An environment of one agent, or of several that act by tuples or lists.

    `key` is a registered name, such as `CartPole-v1`; with the package that registers it before a
    colon, as in `lbforaging:Foraging-8x8-2p-3f-v3`; or `module:function`.
    """

    kind = "gymnasium"
    game_class = JointGame

    @staticmethod
    def module_of_key(key: str) -> str:
        return key.rpartition(":")[0]

    @staticmethod
    def find(key: str, settings: dict[str, Any]) -> tuple[Construct, int | None]:
        setting = f"env_args.key={key}"
        module_name, _, name = key.rpartition(":")
        if module_name:
            make = getattr(module_of(module_name, setting), name, None)
            if callable(make):
                return lambda: make(**settings), None
        gymnasium = module_of("gymnasium", setting)
        try:
            spec = deepcopy(gymnasium.spec(name))
        except gymnasium.error.Error as error:
            hint = "" if module_name else "; PACKAGE:NAME imports the package that registers it"
            raise ConfigError(f"{setting}: {error}{hint}") from None
        known, spec.max_episode_steps = spec.max_episode_steps, None
        spec.kwargs.update(settings)
        return lambda: gymnasium.make(spec, disable_env_checker=True), known

    def play(self, actions: np.ndarray) -> Outcome:
        return *self.game.step(actions), {}
