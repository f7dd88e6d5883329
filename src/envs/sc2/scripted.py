"""The scripted policy that plays SMAX's `scripted` datasets.

Each unit looks only at what it observes, itself and the enemies in sight, so that its play can be
learned from observations. It follows four rules:

1. Attack the enemy in range with the least health.
2. If no enemy is in range, walk towards the nearest one in sight.
3. If no enemy is in sight, walk towards the middle of the map.
4. A ranged unit steps back from a melee enemy that comes near while its own weapon is not ready.
"""

import numpy as np

from inspo.envs.multiagentenv import VectorEnv
from inspo.envs.sc2.smax_maps import FIRST_ATTACK, STOP, Units

STEPS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], dtype=np.float32)  # of actions 0 to 3
MAP_SIZE = 32.0
EDGE_DISTANCE = 1.0  # to keep when stepping back: a unit at the edge dies
TOO_NEAR = 4.0  # distance of a melee enemy from which a ranged unit steps back
NOT_READY = 0.25  # seconds of cooldown above which stepping back costs no shot
RANGED_FROM = 3.0  # attack range above which a unit counts as ranged
FAR = np.float32(1e3)


class ScriptedPolicy:
    """Plays in the games of a SMAXVectorEnv."""

    def start(self, env: VectorEnv) -> None:
        self.env = env

    def act(
        self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray
    ) -> np.ndarray:
        return best_actions(self.env.units(), avail_actions)


def best_actions(units: Units, avail_actions: np.ndarray) -> np.ndarray:
    """The script's actions for the allies, int [K, N]. Allies are the first N units."""
    n_allies = avail_actions.shape[1]
    to_enemies = _to_enemies(units, n_allies)
    in_range = avail_actions[..., FIRST_ATTACK:]
    attack = FIRST_ATTACK + _weakest(units, in_range)
    walk = _towards_nearest(to_enemies, units.positions[:, :n_allies])
    actions = np.where(in_range.any(axis=-1), attack, walk)
    actions = np.where(units.alive[:, :n_allies], actions, STOP)
    steps_back, back = _steps_back(units, to_enemies)
    return np.where(steps_back, back, actions)


def _to_enemies(units: Units, n_allies: int) -> np.ndarray:
    """Vectors from every ally to every enemy, [K, N, E, 2].

    Enemies that are dead or out of sight are far away.
    """
    allies, enemies = units.positions[:, :n_allies, None], units.positions[:, None, n_allies:]
    to_enemies = enemies - allies
    sight = units.sight_ranges[units.types[:, :n_allies, None]]
    seen = units.alive[:, None, n_allies:] & (np.linalg.norm(to_enemies, axis=-1) < sight)
    return np.where(seen[..., None], to_enemies, FAR)


def _weakest(units: Units, in_range: np.ndarray) -> np.ndarray:
    """The enemy in range with the least health, int [K, N]."""
    n_allies = in_range.shape[1]
    health = units.health[:, None, n_allies:]
    return np.where(in_range, health, np.inf).argmin(axis=-1)


def _towards_nearest(to_enemies: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """The move that leads towards the nearest enemy in sight, or the map's middle; int [K, N].

    Args:
        positions: of the allies, [K, N, 2].
    """
    distances = np.linalg.norm(to_enemies, axis=-1)
    nearest = distances.argmin(axis=-1)
    to_nearest = np.take_along_axis(to_enemies, nearest[..., None, None], axis=2)[:, :, 0]
    in_sight = distances.min(axis=-1, keepdims=True) < FAR
    direction = np.where(in_sight, to_nearest, MAP_SIZE / 2 - positions)
    return (direction @ STEPS.T).argmax(axis=-1)


def _steps_back(units: Units, to_enemies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which allies step back (bool [K, N]), and the move away from melee enemies (int [K, N])."""
    n_allies = to_enemies.shape[1]
    ranges = units.attack_ranges[units.types]
    melee = ranges[:, None, n_allies:, None] < RANGED_FROM
    to_melee = np.where(melee, to_enemies, FAR)  # [K, N, E, 2]

    speeds = units.speeds[units.types[:, :n_allies]]
    steps = STEPS * (speeds * units.step_seconds)[..., None, None]  # [K, N, 4, 2]
    target = units.positions[:, :n_allies, None] + steps
    on_map = (target > EDGE_DISTANCE) & (target < MAP_SIZE - EDGE_DISTANCE)
    allowed = on_map.all(axis=-1)  # [K, N, 4]
    distances = np.linalg.norm(to_melee[:, :, None] - steps[:, :, :, None], axis=-1)
    nearest_then = distances.min(axis=-1)  # [K, N, 4]
    back = np.where(allowed, nearest_then, -1.0).argmax(axis=-1)

    ranged = ranges[:, :n_allies] > RANGED_FROM
    not_ready = units.cooldowns[:, :n_allies] > NOT_READY
    near = np.linalg.norm(to_melee, axis=-1).min(axis=-1) < TOO_NEAR
    steps_back = units.alive[:, :n_allies] & ranged & not_ready & near & allowed.any(axis=-1)
    return steps_back, back
