"""The script's rules, on units placed by hand. No simulator is needed."""

import numpy as np
import pytest

from inspo.data.hesitant import HesitantPolicy
from inspo.envs.sc2.scripted import ScriptedPolicy, best_actions
from inspo.envs.sc2.smax_maps import Units

NORTH, EAST, SOUTH, WEST, STOP, FIRST, SECOND = range(7)
MELEE, SHOOTER = 0, 1
RANGES = np.array([2.0, 6.0], dtype=np.float32)
SIGHT = np.array([9.0, 10.0], dtype=np.float32)


def units(
    own_type=SHOOTER,
    at=(16.0, 16.0),
    cooldown=1.0,
    enemies=((18.0, 16.0), (20.0, 16.0)),
    alive=True,
) -> Units:
    """One ally and two enemies, of whom the first has less health left."""
    return Units(
        positions=np.array([[at, *enemies]], dtype=np.float32),
        health=np.array([[100.0, 50.0, 150.0]], dtype=np.float32),
        alive=np.array([[alive, True, True]]),
        types=np.array([[own_type, MELEE, MELEE]]),
        cooldowns=np.array([[cooldown, 0.0, 0.0]], dtype=np.float32),
        attack_ranges=RANGES,
        sight_ranges=SIGHT,
        speeds=np.array([3.0, 4.0], dtype=np.float32),
        step_seconds=0.5,
    )


def available(seen: Units) -> np.ndarray:
    """As SMAX's: moves and stopping, and the enemies in range."""
    distances = np.linalg.norm(seen.positions[0, 1:] - seen.positions[0, 0], axis=-1)
    in_range = distances < seen.attack_ranges[seen.types[0, 0]]
    return np.array([[[*[seen.alive[0, 0]] * 4, True, *(in_range & seen.alive[0, 0])]]])


@pytest.mark.parametrize(
    ("given", "action"),
    [
        ({}, WEST),  # the weapon is not ready: away from both
        ({"cooldown": 0.0}, FIRST),  # ready: the weakest
        ({"own_type": MELEE, "enemies": ((17.0, 16.0), (17.5, 16.0))}, FIRST),  # never steps back
        ({"enemies": ((21.0, 16.0), (21.5, 16.0))}, FIRST),  # nobody is near
        ({"at": (2.0, 16.0), "enemies": ((4.0, 16.0), (6.0, 16.0))}, NORTH),  # not over the edge
        ({"enemies": ((16.0, 18.0), (16.0, 20.0))}, SOUTH),
        ({"enemies": ((25.0, 16.0), (16.0, 24.0))}, NORTH),  # out of range: towards the nearest
        ({"enemies": ((2.0, 16.0), (16.0, 25.0))}, NORTH),  # the nearest in sight
        ({"at": (6.0, 16.0), "enemies": ((20.0, 16.0), (6.0, 27.0))}, EAST),  # none in sight
        ({"at": (31.0, 18.0), "enemies": ((2.0, 16.0), (16.0, 27.0))}, WEST),  # to the middle
        ({"at": (15.0, 3.0), "enemies": ((15.0, 29.0), (16.0, 27.0))}, NORTH),
        ({"alive": False}, STOP),
    ],
)
def test_rules(given, action):
    seen = units(**given)
    assert best_actions(seen, available(seen)).tolist() == [[action]]


class ThousandGames:
    """The part of a SMAXVectorEnv that the script uses: the same game a thousand times."""

    n_envs = 1000

    def units(self) -> Units:
        one = units(cooldown=0.0)
        return Units(*(np.repeat(field, self.n_envs, axis=0) for field in one[:5]), *one[5:])


def test_shares_of_hesitation_and_of_random_actions():
    seen = np.repeat(available(units()), ThousandGames.n_envs, axis=0)

    def shares(hesitation: tuple[float, ...], random_actions: float) -> np.ndarray:
        policy = HesitantPolicy(ScriptedPolicy(), 0, hesitation, random_actions)
        policy.start(ThousandGames())
        actions = np.array([policy.act(None, seen, None) for _ in range(20)])  # [T, K, 1]
        return np.stack([(actions == action).mean(axis=0)[:, 0] for action in (FIRST, STOP, WEST)])

    first, stop, west = shares((0.25,), 0.0)
    assert (first + stop == 1).all()
    assert stop.mean() == pytest.approx(0.25, abs=0.01)
    first, stop, west = shares((0.0,), 0.35)  # of 7 available actions, each is drawn equally often
    assert west.mean() == pytest.approx(0.05, abs=0.01)
    first, stop, west = shares((0.0, 1.0), 0.0)  # drawn for a whole episode
    assert set(stop) == {0.0, 1.0}
    assert stop.mean() == pytest.approx(0.5, abs=0.05)
