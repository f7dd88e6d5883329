"""SMAX: battles of StarCraft II's units on a CPU (Rutherford et al. 2024, package `jaxmarl`).

SMAX is not StarCraft II. Observations, dynamics and enemies are its own, and so are its scores.
JAX is imported when the first battle is played; the sizes are known without it.
"""

from importlib.metadata import version
from importlib.util import find_spec
from math import ceil
from sys import version_info

from inspo.envs.multiagentenv import VectorEnv
from inspo.envs.sc2.single_battle import SingleBattle
from inspo.envs.sc2.smax_maps import (
    EPISODE_LIMIT,
    FIRST_ATTACK,
    MAPS,
    MAX_ENVS,
    OWN_FEATURES,
    REWARD_SCALE,
    SEEN_FEATURES,
)
from inspo.utils.config import suggestion
from inspo.utils.errors import ConfigError


def smax_problem() -> str:
    """Why SMAX cannot be played here and how to install it; empty if it can. Imports nothing."""
    if find_spec("jaxmarl"):
        return ""
    if version_info < (3, 11):
        python = f"{version_info[0]}.{version_info[1]}"
        return f"its package jaxmarl is for Python 3.11 and later; this is {python}"
    return (
        "its package jaxmarl is not installed: "
        "pip install -r requirements.txt, or pip install -e '.[smax]'"
    )


class SMAX(SingleBattle):
    """One battle at a time.

    Args:
        map_name: one of SMAX's maps.
        reward_scale: factor of the game's rewards. Without it, a step is worth the share of the
            enemies' health that it destroys, and a victory 1. With 10, a won battle returns 20, as
            in SMAC.

    Raises:
        ConfigError: there is no such map, or `reward_scale` is no number.
    """

    episode_limit = EPISODE_LIMIT
    simulator = "smax"

    def __init__(self, map_name: str, reward_scale: float = REWARD_SCALE):
        if map_name not in MAPS:
            known = suggestion(map_name, MAPS)
            raise ConfigError(f"env_args.map_name={map_name}: SMAX has no such map{known}")
        if not isinstance(reward_scale, (int, float)):
            raise ConfigError(f"env_args.reward_scale is {reward_scale!r}; it must be a number")
        self.map_name, self.reward_scale = map_name, float(reward_scale)
        self.n_agents, n_enemies = MAPS[map_name]
        self.n_actions = FIRST_ATTACK + n_enemies
        self.obs_shape = SEEN_FEATURES * (self.n_agents - 1 + n_enemies) + OWN_FEATURES
        self.state_shape = OWN_FEATURES * (self.n_agents + n_enemies)
        self.game_version = f"jaxmarl {version('jaxmarl')}"

    def make_batch(self, n_envs: int) -> VectorEnv:
        """Games for `n_envs` episodes in as few rounds as possible, at most 128 at a time."""
        from inspo.envs.sc2.smax_battle import SMAXVectorEnv

        rounds = ceil(n_envs / MAX_ENVS)
        return SMAXVectorEnv(self.map_name, ceil(n_envs / rounds), self.reward_scale)
