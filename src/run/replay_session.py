"""An online run with a replay buffer, such as QMIX's.

checkpoints/step_STEP.replay    the replay buffer of the newest checkpoint
checkpoints/medium.replay       the replay buffer when `medium.pt` was kept
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch as th

from inspo.components.replay_buffer import ReplayBuffer
from inspo.data.rollout import Rollout
from inspo.learners.base_learner import Stats
from inspo.run.checkpoint import checkpoint_name
from inspo.run.online_session import OnlineSession, replay_of
from inspo.runners.batch_runner import MacPolicy
from inspo.utils.config import ReplayConfig
from inspo.utils.errors import UserError


class ReplaySession(OnlineSession):
    """Plays greedily, with a share of random actions, and learns from all recent episodes."""

    args: ReplayConfig
    buffer: ReplayBuffer

    def make_buffer(self) -> ReplayBuffer:
        args = self.args
        buffer = ReplayBuffer(self.info, args.buffer_size, self.device, args.seed)
        if self.checkpoint is not None:
            path, _ = self.checkpoint
            buffer.load(replay_of(path))
        return buffer

    def make_policy(self, seed: int) -> MacPolicy:
        return MacPolicy(self.learner.mac, seed, greedy=True, epsilon=self.epsilon)

    @property
    def epsilon(self) -> float:
        """Share of random actions: falls linearly from epsilon_start to epsilon_finish."""
        args = self.args
        progress = min(self.env_steps / args.epsilon_anneal_time, 1.0)
        return args.epsilon_start + progress * (args.epsilon_finish - args.epsilon_start)

    def advance(self) -> Stats:
        epsilon = self.epsilon
        stats = super().advance()
        return stats | {"epsilon": epsilon} if stats else stats

    def store(self, rollout: Rollout) -> None:
        won = rollout.battle_won
        if won is None:
            won = np.zeros(len(rollout.lengths), dtype=bool)
        for episode, battle_won in zip(rollout.episodes(), won, strict=True):
            self.buffer.add(episode, bool(battle_won))

    def learn(self, with_stats: bool) -> Stats:
        stats: Stats = {}
        if self.env_steps < self.args.learning_starts:
            return stats
        if self.args.standardise_rewards:
            self.buffer.standardise_rewards()
        n_updates = self.args.updates_per_round
        for update in range(n_updates):
            stats |= self.learner.train(self.buffer, with_stats and update == n_updates - 1)
        return stats

    def state(self) -> dict[str, Any]:
        if not self.args.standardise_rewards:
            return super().state()
        # A record: it follows from the buffer before each round of gradient steps.
        scale = th.tensor([self.buffer.reward_scale])
        return {**super().state(), "scaling": {"reward_scale": scale}}

    def keep_history(self) -> None:
        self.buffer.save(replay_of(self.checkpoints_folder / "medium.pt"))

    def save(self) -> Path:
        replay = replay_of(self.checkpoints_folder / f"{checkpoint_name(self.env_steps)}.pt")
        self.buffer.save(replay)
        try:
            path = super().save()
        except UserError:  # without its checkpoint the buffer is of no use
            replay.unlink()
            raise
        for old in self.checkpoints_folder.glob("step_*.replay"):
            if old != replay:
                old.unlink()
        return path
