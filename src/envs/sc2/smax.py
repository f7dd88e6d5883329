"""SMAX (Rutherford et al. 2024, package `jaxmarl`): battles of StarCraft II's units under a map's name, on a CPU.

It is not StarCraft II: observations, dynamics and the enemy's script are its own, and its scores compare with nothing
but SMAX's.

Actions: 0 north, 1 east, 2 south, 3 west, 4 stop, 5 + k attack enemy k. A dead agent's only action is 4. Touching the
edge of the 32 x 32 map kills.

JAX is imported when a battle is played and not before: to know the sizes takes none of it.
"""

from importlib.metadata import version
from importlib.util import find_spec
from math import ceil
from sys import version_info
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from envs.sc2.single_battle import SingleBattle
from utils.config import suggestion
from utils.errors import ConfigError

if TYPE_CHECKING:
    from envs.sc2.smax_battle import BatchedSMAX

MAPS: dict[str, tuple[int, int]] = {  # allies, enemies
    "3m": (3, 3),
    "2s3z": (5, 5),
    "25m": (25, 25),
    "3s5z": (8, 8),
    "8m": (8, 8),
    "5m_vs_6m": (5, 6),
    "10m_vs_11m": (10, 11),
    "27m_vs_30m": (27, 30),
    "3s5z_vs_3s6z": (8, 9),
    "3s_vs_5z": (3, 5),
    "6h_vs_8z": (6, 8),
    "smacv2_5_units": (5, 5),
    "smacv2_10_units": (10, 10),
    "smacv2_20_units": (20, 20),
}
EPISODE_LIMIT = 100
REWARD_SCALE = 10.0  # a battle won is worth 2 in SMAX, and 20 in SMAC
MAX_LANES = 128  # more gain nothing on two cores
STOP, FIRST_ATTACK = 4, 5
UNIT_TYPES = 6
SEEN_FEATURES = 7 + UNIT_TYPES  # health, dx, dy, last move x and y, last target, cooldown, bits of the type
OWN_FEATURES = 4 + UNIT_TYPES  # health, x, y, cooldown, bits of the type


class Units(NamedTuple):
    """The whole truth about U units in K lanes, allies first. What scripts look at."""

    positions: np.ndarray  # float32 [K, U, 2], 0 to 32
    health: np.ndarray  # float32 [K, U], hit points
    alive: np.ndarray  # bool [K, U]
    types: np.ndarray  # int [K, U], index into the two tables below
    cooldowns: np.ndarray  # float32 [K, U], seconds until the weapon is ready; at or below 0: it is
    attack_ranges: np.ndarray  # float32 [types]
    speeds: np.ndarray  # float32 [types], per second
    step_seconds: float  # how long an action lasts


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
            raise ConfigError(f"env_args.map_name={map_name}: SMAX has no such map{suggestion(map_name, MAPS)}")
        self.map_name, self.reward_scale = map_name, float(reward_scale)
        self.n_agents, n_enemies = MAPS[map_name]
        self.n_actions = FIRST_ATTACK + n_enemies
        self.obs_shape = SEEN_FEATURES * (self.n_agents - 1 + n_enemies) + OWN_FEATURES
        self.state_shape = OWN_FEATURES * (self.n_agents + n_enemies)
        self.game_version = f"jaxmarl {version('jaxmarl')}"

    def make_batch(self, n_lanes: int) -> "BatchedSMAX":
        """Lanes for `n_lanes` episodes in as few rounds as can be, at most 128 at a time."""
        from envs.sc2.smax_battle import BatchedSMAX

        rounds = ceil(n_lanes / MAX_LANES)
        return BatchedSMAX(self.map_name, ceil(n_lanes / rounds), self.reward_scale)
