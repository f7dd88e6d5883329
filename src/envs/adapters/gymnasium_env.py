"""`env: gymnasium`: environments of Gymnasium with discrete actions, of one agent or several."""

from copy import deepcopy
from typing import Any

import numpy as np

from inspo.envs.adapters.game_env import GameEnv
from inspo.envs.adapters.joint import JointGame
from inspo.envs.adapters.packages import attribute_of, module_of
from inspo.envs.contract import Contract
from inspo.envs.foreign_env import Outcome
from inspo.utils.errors import ConfigError


class Gymnasium(GameEnv):
    """An environment of one agent, or of several that act by tuples or lists.

    Args:
        key: a registered name, such as `CartPole-v1`; with the package that registers it before a
            colon, as in `lbforaging:Foraging-8x8-2p-3f-v3`; or `module:function`.
        episode_limit: steps after which an episode is truncated; None: the registered limit.
        common_reward: `mean` or `sum` of the agents' rewards.
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
        common_reward: str = "mean",
        **settings: Any,
    ):
        self._arguments = {
            "key": key,
            "episode_limit": episode_limit,
            "common_reward": common_reward,
            **settings,
        }
        self.contract = Contract(f"gymnasium {key}", common_reward)
        env, known = _make(str(key), settings)
        self.set_up(JointGame(env, self.contract), episode_limit, known)

    def play(self, actions: np.ndarray) -> Outcome:
        return *self.game.step(actions), {}


def _make(key: str, settings: dict[str, Any]) -> tuple[Any, int | None]:
    """The environment, and its registered time limit, which is not applied here."""
    setting = f"env_args.key={key}"
    module_name, _, name = key.rpartition(":")
    module = module_of(module_name, setting) if module_name else None
    if module is not None and callable(getattr(module, name, None)):
        return attribute_of(module, name, setting)(**settings), None
    gymnasium = module_of("gymnasium", setting)
    try:
        spec = deepcopy(gymnasium.spec(name))
    except gymnasium.error.Error as error:
        hint = "" if module_name else "; PACKAGE:NAME imports the package that registers it"
        raise ConfigError(f"{setting}: {error}{hint}") from None
    known, spec.max_episode_steps = spec.max_episode_steps, None
    spec.kwargs.update(settings)
    return gymnasium.make(spec, disable_env_checker=True), known
