"""A battle on SMAX as it stands after a step."""

from dataclasses import dataclass

import numpy as np

from inspo.envs import VectorEnv
from inspo.envs.sc2.smax_maps import OWN_FEATURES

FIRED = 0.2  # seconds


@dataclass(frozen=True)
class BattleScene:
    """The U units after a step, allies first. Dead units stay where they died."""

    positions: np.ndarray  # float32 [U, 2]
    health: np.ndarray  # float32 [U], as a share of full health
    alive: np.ndarray  # bool [U]
    types: np.ndarray  # int [U]
    cooldowns: np.ndarray  # float32 [U], seconds until the weapon is ready
    targets: np.ndarray  # int64 [U], whom the unit attacked in the step; -1: nobody
    step_seconds: float  # how long a step lasts


def look(env: VectorEnv) -> BattleScene:
    """The scene of a SMAXVectorEnv of one battle."""
    units = env.units()
    features = env.get_state()[0].reshape(-1, OWN_FEATURES)
    return BattleScene(
        positions=np.array(units.positions[0]),
        health=features[:, 0].copy(),
        alive=np.array(units.alive[0]),
        types=np.array(units.types[0]),
        cooldowns=np.array(units.cooldowns[0]),
        targets=env.targets()[0],
        step_seconds=units.step_seconds,
    )


def shots(before: BattleScene, after: BattleScene) -> np.ndarray:
    """Which units fired between two scenes that are a step apart, bool [U].

    A weapon has fired if its cooldown is longer than time alone would have left it.
    """
    without_firing = before.cooldowns - before.step_seconds
    return (after.targets >= 0) & (after.cooldowns > without_firing + FIRED)
