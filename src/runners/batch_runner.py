"""Plays with trained policies: for evaluation, for collecting datasets and for online training."""

from collections.abc import Iterator

import numpy as np
import torch as th

from inspo.controllers import BasicMAC
from inspo.data.rollout import Policy, Rollout, play
from inspo.envs import VectorEnv


class MacPolicy:
    """A controller's policies, or its Q-functions when greedy; `epsilon` of the actions are random."""

    def __init__(self, mac: BasicMAC, seed: int, greedy: bool, epsilon: float = 0.0):
        self.mac, self.greedy, self.epsilon = mac, greedy, epsilon
        self.generator = th.Generator(mac.device).manual_seed(seed)

    def start(self, env: VectorEnv) -> None:
        self.hidden = self.mac.init_hidden(env.n_envs)

    def act(
        self, obs: np.ndarray, avail_actions: np.ndarray, last_actions: np.ndarray
    ) -> np.ndarray:
        arrays = (obs, avail_actions, last_actions)
        inputs = (th.from_numpy(array).to(self.mac.device) for array in arrays)
        actions, self.hidden = self.mac.act(
            *inputs, self.hidden, self.greedy, self.generator, self.epsilon
        )
        return actions.cpu().numpy()


class BatchRunner:
    """Plays on a vector environment, which `close` closes."""

    def __init__(self, env: VectorEnv):
        self.env = env

    def evaluate(self, mac: BasicMAC, n_episodes: int, greedy: bool, seed: int) -> dict[str, float]:
        """Plays `n_episodes` and scores them.

        Args:
            greedy: the most likely actions instead of sampled ones.
            seed: of environments and sampling. An evaluation changes no other random state.

        Returns:
            test_return_mean, test_return_std, test_ep_length_mean and, where battles are fought,
            test_battle_won_mean.
        """
        rounds = list(self.play(MacPolicy(mac, seed, greedy), n_episodes, seed))

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(rollout, name) for rollout in rounds])[:n_episodes]

        returns = joined("returns")
        scores = {
            "test_return_mean": float(returns.mean()),
            "test_return_std": float(returns.std()),
            "test_ep_length_mean": float(joined("lengths").mean()),
        }
        if rounds[0].battle_won is not None:
            scores["test_battle_won_mean"] = float(joined("battle_won").mean())
        return scores

    def play(
        self, policy: Policy, n_episodes: int, seed: int, record: bool = False
    ) -> Iterator[Rollout]:
        """See `inspo.data.rollout.play`."""
        return play(self.env, policy, n_episodes, seed, record)

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()
