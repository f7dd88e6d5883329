"""Environments by the name that a YAML's `env` key gives them."""

from collections.abc import Callable

from envs.batched_env import BatchedEnv
from envs.bridge import Bridge
from envs.matrix_game import MatrixGame
from envs.multiagentenv import RUNNING_ARGS, EnvInfo, MultiAgentEnv

REGISTRY: dict[str, Callable[..., MultiAgentEnv]] = {
    "bridge": Bridge,
    "matrix_game": MatrixGame,
}

__all__ = ["REGISTRY", "RUNNING_ARGS", "BatchedEnv", "EnvInfo", "MultiAgentEnv"]
