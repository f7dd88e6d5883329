"""`env: gymnasium`: environments of Gymnasium with discrete actions, of one agent or several."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

from inspo.envs.adapters.game_env import GameEnv
from inspo.envs.adapters.joint import JointGame
from inspo.envs.adapters.packages import attribute_of, module_of, refuse_renamed
from inspo.envs.contract import Contract
from inspo.envs.external_env import Outcome, given_limit
from inspo.utils.errors import ConfigError


class Gymnasium(GameEnv):
    """An environment of one agent, or of several that act by tuples or lists.

    Args:
        key: a registered name, such as `CartPole-v1`; with the package that registers it before a
            colon, as in `lbforaging:Foraging-8x8-2p-3f-v3`; or `module:function`.
        episode_limit: steps after which an episode is truncated; None: the registered limit.
        reward_scalarisation: `mean` or `sum` of the agents' rewards.
        new_each_episode: make the environment anew for every episode, if its `reset` keeps
            something of the last one. The same seed then gives the same episode.
        settings: the other `env_args`, for the environment's constructor.

    Raises:
        ConfigError: there is no such environment.
        EnvContractError: its actions are not discrete.
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
        self.contract = Contract(f"gymnasium {key}", reward_scalarisation)
        construct, known = _constructor(str(key), settings)
        limit = given_limit(episode_limit, known, self.contract.name)
        self.set_up(JointGame, construct, limit, new_each_episode)

    @staticmethod
    def module_of_key(key: str) -> str:
        return key.rpartition(":")[0]

    def play(self, actions: np.ndarray) -> Outcome:
        return *self.game.step(actions), {}


def _constructor(key: str, settings: dict[str, Any]) -> tuple[Callable[[], Any], int | None]:
    """What makes the environment, and its registered time limit, which is not applied there."""
    setting = f"env_args.key={key}"
    module_name, _, name = key.rpartition(":")
    module = module_of(module_name, setting) if module_name else None
    if module is not None and callable(getattr(module, name, None)):
        make = attribute_of(module, name, setting)
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
