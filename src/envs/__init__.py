"""Environments by the name that a YAML's `env` key gives them."""

from collections.abc import Callable

from envs.batched_env import BatchedEnv
from envs.bridge import Bridge
from envs.matrix_game import MatrixGame
from envs.multiagentenv import RUNNING_ARGS, EnvInfo, MultiAgentEnv
from envs.sc2 import SC2

REGISTRY: dict[str, Callable[..., MultiAgentEnv]] = {
    "bridge": Bridge,
    "matrix_game": MatrixGame,
    "sc2": SC2(),
}

__all__ = ["REGISTRY", "RUNNING_ARGS", "BatchedEnv", "EnvInfo", "MultiAgentEnv"]
