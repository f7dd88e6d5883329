"""Plays with trained policies, for evaluation, dataset collection and online training."""

from collections.abc import Iterator

import numpy as np
import torch as th

from inspo.controllers import BasicMAC
from inspo.data.rollout import Policy, Rollout, play
from inspo.envs import VectorEnv
from inspo.utils.uploads import upload


class MacPolicy:
    """Acts with a controller.

    Args:
        mac: the controller.
        seed: of sampled actions.
        greedy: take the most likely or most valuable actions instead of sampled ones.
        epsilon: share of random actions.
    """

    def __init__(self, mac: BasicMAC, seed: int, greedy: bool, epsilon: float = 0.0):
        self.mac, self.greedy, self.epsilon = mac, greedy, epsilon
        self.generator = th.Generator(mac.device).manual_seed(seed)

    def start(self, env: VectorEnv) -> None:
        self.hidden = self.mac.init_hidden(env.n_envs)

    def act(
        self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray
    ) -> np.ndarray:
        arrays = {"obs": obs, "avail_actions": avail_actions, "last_actions": last_actions}
        rows = {name: th.from_numpy(array) for name, array in arrays.items()}
        actions, self.hidden = self.mac.act(
            **upload(rows, self.mac.device),
            hidden=self.hidden,
            greedy=self.greedy,
            generator=self.generator,
            epsilon=self.epsilon,
        )
        return actions.cpu().numpy()


class BatchRunner:
    """Plays episodes in a vector environment."""

    def __init__(self, env: VectorEnv):
        self.env = env

    def evaluate(self, mac: BasicMAC, n_episodes: int, greedy: bool, seed: int) -> dict[str, float]:
        """Plays `n_episodes` and returns their scores. Changes no random state but its own.

        Args:
            greedy: take the most likely actions instead of sampled ones.
            seed: of games and sampled actions.

        Returns:
            test_return_mean, test_return_std, test_ep_length_mean and, for games with battles,
            test_battle_won_mean.
        """
        rollouts = list(self.play(MacPolicy(mac, seed, greedy), n_episodes, seed))

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(rollout, name) for rollout in rollouts])[:n_episodes]

        returns = joined("returns")
        scores = {
            "test_return_mean": float(returns.mean()),
            "test_return_std": float(returns.std()),
            "test_ep_length_mean": float(joined("lengths").mean()),
        }
        if rollouts[0].battle_won is not None:
            scores["test_battle_won_mean"] = float(joined("battle_won").mean())
        return scores

    def play(
        self, policy: Policy, n_episodes: int, seed: int, record: bool = False
    ) -> Iterator[Rollout]:
        """Plays rounds of episodes; see `inspo.data.rollout.play`."""
        return play(self.env, policy, n_episodes, seed, record)

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()
