"""Environments, by the name that a YAML's `env` key gives them.

multiagentenv     the interface of all environments
matrix_game, bridge, sc2

contract          what environments of other projects may return, and how it is converted
external_env      base of environments that the contract watches over
user_env          classes of users, by `package.module:Class`
adapters          environments with other interfaces: PettingZoo's, Gymnasium's, JaxMARL's
"""

from collections.abc import Callable

from inspo.envs.adapters.gymnasium_env import Gymnasium
from inspo.envs.adapters.jaxmarl_env import JaxMARL
from inspo.envs.adapters.pettingzoo_env import PettingZoo
from inspo.envs.bridge import Bridge
from inspo.envs.matrix_game import MatrixGame
from inspo.envs.multiagentenv import (
    NOT_THE_GAME,
    RUNNING_ARGS,
    EnvInfo,
    MultiAgentEnv,
    VectorEnv,
    game_labels,
    without_dataset,
)
from inspo.envs.no_env import no_env
from inspo.envs.sc2 import SC2
from inspo.envs.user_env import UserEnvClass
from inspo.utils.config import lookup

REGISTRY: dict[str, Callable[..., MultiAgentEnv]] = {
    "bridge": Bridge,
    "gymnasium": Gymnasium,
    "jaxmarl": JaxMARL,
    "matrix_game": MatrixGame,
    "none": no_env,
    "pettingzoo": PettingZoo,
    "sc2": SC2(),
}

__all__ = [
    "REGISTRY",
    "NOT_THE_GAME",
    "RUNNING_ARGS",
    "EnvInfo",
    "MultiAgentEnv",
    "VectorEnv",
    "constructor",
    "game_labels",
    "without_dataset",
]


def constructor(name: str) -> Callable[..., MultiAgentEnv]:
    """What makes the environment `name`: an entry of the registry, or `package.module:Class`.

    Raises:
        ConfigError: there is no such environment, or its module fails to import.
    """
    found = lookup(REGISTRY, name, "env")
    return found if name in REGISTRY else UserEnvClass(name, found)
