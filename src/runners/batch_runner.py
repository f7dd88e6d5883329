"""Plays test episodes: all of an evaluation as one batch, every policy call for all of them."""

from collections.abc import Callable

import numpy as np
import torch as th

from controllers import BasicMAC
from envs import MultiAgentEnv


class BatchRunner:
    """Keeps one environment for each lane and drops a lane from the batch when its episode is over."""

    def __init__(self, make_env: Callable[[], MultiAgentEnv], n_episodes: int):
        self.envs = [make_env() for _ in range(n_episodes)]

    def evaluate(self, mac: BasicMAC, greedy: bool, seed: int) -> dict[str, float]:
        """Plays one episode in each lane.

        Args:
            greedy: likeliest actions instead of sampled ones.
            seed: fixes the environments and the sampling: an evaluation disturbs no other random state.

        Returns:
            test_return_mean, test_return_std, test_ep_length_mean and, where battles are won, test_battle_won_mean.
        """
        device = mac.device
        generator = th.Generator(device).manual_seed(seed)
        obs = np.stack([env.reset(seed + lane) for lane, env in enumerate(self.envs)])
        n_lanes, n_agents = obs.shape[:2]
        returns, lengths, won = np.zeros(n_lanes), np.zeros(n_lanes, dtype=int), {}
        last_actions = th.full((n_lanes, n_agents), -1, device=device)
        hidden = mac.init_hidden(n_lanes)
        lanes = np.arange(n_lanes)  # those still playing; obs, last_actions and hidden have a row for each
        while len(lanes):
            available = np.stack([self.envs[lane].get_avail_actions() for lane in lanes])
            inputs = (th.from_numpy(array).to(device) for array in (obs, available))
            last_actions, hidden = mac.act(*inputs, last_actions, hidden, greedy, generator)
            steps = [
                self.envs[lane].step(actions) for lane, actions in zip(lanes, last_actions.cpu().numpy(), strict=True)
            ]
            returns[lanes] += [reward for _, reward, *_ in steps]
            lengths[lanes] += 1
            for lane, (*_, info) in zip(lanes, steps, strict=True):
                if "battle_won" in info:
                    won[lane] = bool(info["battle_won"])
            playing = np.array([not (terminated or truncated) for _, _, terminated, truncated, _ in steps])
            obs = np.stack([observation for observation, *_ in steps])[playing]
            lanes, keep = lanes[playing], th.from_numpy(playing).to(device)
            last_actions, hidden = last_actions[keep], hidden[keep]
        scores = {
            "test_return_mean": float(returns.mean()),
            "test_return_std": float(returns.std()),
            "test_ep_length_mean": float(lengths.mean()),
        }
        return scores | ({"test_battle_won_mean": float(np.mean(list(won.values())))} if won else {})

    def close(self) -> None:
        """Closes the environments."""
        for env in self.envs:
            env.close()
