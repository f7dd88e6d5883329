"""Environments, by the name that a YAML's `env` key gives them."""

from collections.abc import Callable

from inspo.envs.bridge import Bridge
from inspo.envs.matrix_game import MatrixGame
from inspo.envs.multiagentenv import (
    RUNNING_ARGS,
    EnvInfo,
    MultiAgentEnv,
    VectorEnv,
    game_labels,
    without_dataset,
)
from inspo.envs.sc2 import SC2

REGISTRY: dict[str, Callable[..., MultiAgentEnv]] = {
    "bridge": Bridge,
    "matrix_game": MatrixGame,
    "sc2": SC2(),
}

__all__ = [
    "REGISTRY",
    "RUNNING_ARGS",
    "EnvInfo",
    "MultiAgentEnv",
    "VectorEnv",
    "game_labels",
    "without_dataset",
]
