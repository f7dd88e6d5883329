"""SMAX's maps, sizes and units, known without starting it.

Actions: 0 north, 1 east, 2 south, 3 west, 4 stop, 5 + k attack enemy k. The only action of a dead
agent is 4. A unit that touches the edge of the 32 x 32 map dies.
"""

from typing import NamedTuple

import numpy as np

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
RANDOM_TEAMS = "smacv2_"  # how the names of maps with random teams begin
EPISODE_LIMIT = 100
REWARD_SCALE = 10.0  # a won battle is worth 2 in SMAX, and 20 in SMAC
MAX_ENVS = 128  # more gain nothing on two cores
STOP, FIRST_ATTACK = 4, 5
UNIT_TYPES = 6
# Of another unit: health, dx, dy, last move (x, y), last target, cooldown, one-hot type.
SEEN_FEATURES = 7 + UNIT_TYPES
# Of a unit itself: health, x, y, cooldown, one-hot type.
OWN_FEATURES = 4 + UNIT_TYPES


class Units(NamedTuple):
    """Full state of all U units in K games, allies first. For scripted policies."""

    positions: np.ndarray  # float32 [K, U, 2], 0 to 32
    health: np.ndarray  # float32 [K, U], hit points
    alive: np.ndarray  # bool [K, U]
    types: np.ndarray  # int [K, U], index into the two tables below
    cooldowns: np.ndarray  # float32 [K, U], seconds until the weapon is ready; at most 0: ready
    attack_ranges: np.ndarray  # float32 [types]
    sight_ranges: np.ndarray  # float32 [types]
    speeds: np.ndarray  # float32 [types], per second
    step_seconds: float  # duration of an action
