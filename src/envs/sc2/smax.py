"""SMAX (Rutherford et al. 2024, package `jaxmarl`): battles of StarCraft II's units under a map's name, on a CPU.

It is not StarCraft II: observations, dynamics and the enemy's script are its own, and its scores compare with nothing
but SMAX's.

JAX is imported when a battle is played and not before: to know the sizes takes none of it.
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


def missing() -> str:
    """Empty if SMAX can be played here; else a sentence: what is missing, and how to get it. Imports nothing."""
    if find_spec("jaxmarl"):
        return ""
    if version_info < (3, 11):
        return f"its package jaxmarl is for Python 3.11 and later; this is {version_info[0]}.{version_info[1]}"
    return "its package jaxmarl is not installed: pip install -r requirements.txt, or pip install -e '.[smax]'"


class SMAX(SingleBattle):
    """One battle at a time: a batch of one lane.

    Args:
        map_name: one of SMAX's maps.
        reward_scale: what the game's rewards are multiplied by. Unscaled, the share of the enemies' health that a step
            destroys, and 1 for winning: with 10, a battle won returns 20, as in SMAC.

    Raises:
        ConfigError: there is no such map.
    """

    episode_limit = EPISODE_LIMIT
    simulator = "smax"

    def __init__(self, map_name: str, reward_scale: float = REWARD_SCALE):
        if map_name not in MAPS:
            raise ConfigError(
                f"env_args.map_name={map_name}: SMAX has no such map{suggestion(map_name, MAPS)}"
            )
        self.map_name, self.reward_scale = map_name, float(reward_scale)
        self.n_agents, n_enemies = MAPS[map_name]
        self.n_actions = FIRST_ATTACK + n_enemies
        self.obs_shape = SEEN_FEATURES * (self.n_agents - 1 + n_enemies) + OWN_FEATURES
        self.state_shape = OWN_FEATURES * (self.n_agents + n_enemies)
        self.game_version = f"jaxmarl {version('jaxmarl')}"

    def make_batch(self, n_envs: int) -> VectorEnv:
        """Lanes for `n_envs` episodes in as few rounds as can be, at most 128 at a time."""
        from inspo.envs.sc2.smax_battle import SMAXVectorEnv

        rounds = ceil(n_envs / MAX_ENVS)
        return SMAXVectorEnv(self.map_name, ceil(n_envs / rounds), self.reward_scale)
