"""Plays an episode and keeps what a film shows of every step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from inspo.data.rollout import Policy
from inspo.envs import VectorEnv

Look = Callable[[VectorEnv], Any]  # what a picture needs to know of the game as it stands


@dataclass(frozen=True)
class Moment:
    """The game before a step, or at the end."""

    total: float  # return so far
    scene: Any  # what `Look` returned
    actions: np.ndarray | None  # int64 [N], taken now; None at the end


@dataclass(frozen=True)
class FilmedEpisode:
    """An episode of L steps."""

    moments: list[Moment]  # L + 1
    terminated: bool  # ended by the game's rules; False: by the time limit
    won: bool | None  # None where no battles are fought

    @property
    def length(self) -> int:
        """Its steps, L."""
        return len(self.moments) - 1

    def at(self, step: int) -> Moment:
        """The moment after `step` steps; the last one if the episode was over before."""
        return self.moments[min(step, self.length)]


def film_episode(env: VectorEnv, policy: Policy, seed: int, look: Look) -> FilmedEpisode:
    """Plays one episode.

    Args:
        env: a single game.
        seed: of the game.
        look: takes the game and returns a scene, which must not change afterwards.
    """
    env.reset(seed)
    policy.start(env)
    actions = np.full(env.get_obs().shape[:2], -1, dtype=np.int64)
    moments, total = [], 0.0
    while env.playing[0]:
        scene = look(env)
        actions = policy.act(env.get_obs(), env.get_avail_actions(), actions)
        moments.append(Moment(total, scene, actions[0].copy()))
        reward, terminated, _, info = env.step(actions)
        total += float(reward[0])
    moments.append(Moment(total, look(env), None))
    won = bool(info["battle_won"][0]) if "battle_won" in info else None
    return FilmedEpisode(moments, bool(terminated[0]), won)
