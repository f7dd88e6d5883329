"""A script that sees everything, and how much it hesitates: who plays SMAX's `scripted` datasets.

A rule from the full state to every unit's action: attack the enemy in reach that has the least health left; units that
shoot step back from those that do not and come near, while their own weapon is not ready; walk towards the nearest
enemy where none is in reach.
"""

import numpy as np

from inspo.envs.multiagentenv import VectorEnv
from inspo.envs.sc2.smax_maps import FIRST_ATTACK, STOP, Units

STEPS = np.array([[0, 1], [1, 0], [0, -1], [-1, 0]], dtype=np.float32)  # of actions 0 to 3
MAP_SIZE = 32.0
FROM_THE_EDGE = 1.0  # stepping back ends no nearer to it: the edge kills
TOO_NEAR = 4.0  # an enemy this near makes a shooting unit step back
NOT_READY = 0.25  # seconds of cooldown above which stepping back costs no shot
SHOOTS_FROM = 3.0  # range above which a unit shoots
FAR = np.float32(1e3)


class ScriptedPolicy:
    """Plays on the lanes of a SMAXVectorEnv.

    Args:
        seed: fixes all draws.
        hesitation: the share of decisions at which a unit stands still instead is one of these, drawn for each lane at
            the start of its episode. Every unit decides anew at every step.
        random_actions: share of all actions that are drawn uniformly from the available ones instead.
    """

    def __init__(self, seed: int, hesitation: tuple[float, ...], random_actions: float):
        self.rng = np.random.default_rng(seed)
        self.hesitation, self.random_actions = hesitation, random_actions

    def start(self, env: VectorEnv) -> None:
        self.env = env
        self.hesitates = self.rng.choice(self.hesitation, size=(env.n_envs, 1))

    def act(
        self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray
    ) -> np.ndarray:
        draws = self.rng.random((2, *avail_actions.shape[:2]))
        uniform = np.where(avail_actions, self.rng.random(avail_actions.shape), -1.0).argmax(
            axis=-1
        )
        script = np.where(
            draws[0] < self.hesitates, STOP, best_actions(self.env.units(), avail_actions)
        )
        return np.where(draws[1] < self.random_actions, uniform, script)


def best_actions(units: Units, avail_actions: np.ndarray) -> np.ndarray:
    """The rule, without hesitation: actions int [K, N] for the allies, who are the first N units; see the module."""
    n_allies = avail_actions.shape[1]
    in_reach = avail_actions[..., FIRST_ATTACK:]
    weakest = np.where(in_reach, units.health[:, None, n_allies:], np.inf).argmin(axis=-1)
    to_enemies = _to_enemies(units, n_allies)
    nearest = np.linalg.norm(to_enemies, axis=-1).argmin(axis=-1)
    way = np.take_along_axis(to_enemies, nearest[..., None, None], axis=2)[:, :, 0]  # [K, N, 2]
    actions = np.where(
        in_reach.any(axis=-1), FIRST_ATTACK + weakest, (way @ STEPS.T).argmax(axis=-1)
    )
    actions = np.where(units.alive[:, :n_allies], actions, STOP)

    ranges = units.attack_ranges[units.types]
    to_melee = np.where(
        ranges[:, None, n_allies:, None] < SHOOTS_FROM, to_enemies, FAR
    )  # [K, N, E, 2]
    types = units.types[:, :n_allies]
    steps = STEPS * (units.speeds[types] * units.step_seconds)[..., None, None]  # [K, N, 4, 2]
    there = units.positions[:, :n_allies, None] + steps
    inside = ((there > FROM_THE_EDGE) & (there < MAP_SIZE - FROM_THE_EDGE)).all(axis=-1)
    nearest_then = np.linalg.norm(to_melee[:, :, None] - steps[:, :, :, None], axis=-1).min(
        axis=-1
    )  # [K, N, 4]
    back = np.where(inside, nearest_then, -1.0).argmax(axis=-1)
    steps_back = (
        units.alive[:, :n_allies]
        & (ranges[:, :n_allies] > SHOOTS_FROM)
        & (units.cooldowns[:, :n_allies] > NOT_READY)
        & (np.linalg.norm(to_melee, axis=-1).min(axis=-1) < TOO_NEAR)
        & inside.any(axis=-1)
    )
    return np.where(steps_back, back, actions)


def _to_enemies(units: Units, n_allies: int) -> np.ndarray:
    """From every ally to every enemy, [K, N, E, 2]; dead enemies are far away."""
    enemies = np.where(units.alive[:, n_allies:, None], units.positions[:, n_allies:], FAR)
    return enemies[:, None] - units.positions[:, :n_allies, None]
