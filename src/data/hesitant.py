"""Play in which the commonest decision is a mistake: to stand still.

A clone of such play wins nothing. A learner wins if it finds out which decisions are better.
"""

import numpy as np

from inspo.data.rollout import Policy
from inspo.envs import VectorEnv
from inspo.envs.sc2.smax_maps import STOP

HESITATION = (0.0, 0.5, 0.7, 0.9)
RANDOM_ACTIONS = 0.05


class HesitantPolicy:
    """Another policy whose units often stand still instead.

    Args:
        policy: plays in the games of a SMAXVectorEnv.
        seed: fixes all draws.
        hesitation: the probability that a unit stands still at a step. One of these values is drawn
            for each game at the start of its episode.
        random_actions: share of actions that are drawn uniformly from the available ones.
    """

    def __init__(
        self,
        policy: Policy,
        seed: int,
        hesitation: tuple[float, ...],
        random_actions: float,
    ):
        self.policy = policy
        self.rng = np.random.default_rng(seed)
        self.hesitation, self.random_actions = hesitation, random_actions

    def start(self, env: VectorEnv) -> None:
        self.policy.start(env)
        self.hesitates = self.rng.choice(self.hesitation, size=(env.n_envs, 1))

    def act(
        self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray
    ) -> np.ndarray:
        draws = self.rng.random((2, *avail_actions.shape[:2]))
        preferences = self.rng.random(avail_actions.shape)
        uniform = np.where(avail_actions, preferences, -1.0).argmax(axis=-1)
        played = self.policy.act(obs, avail_actions, last_actions)
        hesitant = np.where(draws[0] < self.hesitates, STOP, played)
        return np.where(draws[1] < self.random_actions, uniform, hesitant)
