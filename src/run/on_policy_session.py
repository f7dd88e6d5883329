"""An online run that learns from each round's episodes alone, such as MAPPO's.

Datasets are played with sampled actions. So `medium_score` and `expert_score` refer to the sampled
play of the newest round, not to evaluations, which may be greedy. Until `medium.pt` is kept,
checkpoints hold the policies of all evaluations. They play the dataset `medium-replay`.
"""

from typing import Any

import numpy as np
from torch import Tensor

from inspo.components.round_buffer import RoundBuffer
from inspo.data.rollout import Rollout
from inspo.learners.base_learner import Stats
from inspo.run.online_session import OnlineSession, best_known
from inspo.runners.batch_runner import MacPolicy
from inspo.utils.config import OnPolicyConfig

PLAYED_SCORES = ("return_mean", "battle_won_mean")  # of the training episodes


class OnPolicySession(OnlineSession):
    """Plays with actions sampled from the policy."""

    args: OnPolicyConfig
    buffer: RoundBuffer

    def make_buffer(self) -> RoundBuffer:
        return RoundBuffer(self.device)

    def prepare(self) -> None:
        self.snapshots: list[dict[str, Any]] = []  # each with `step` and `mac`, the weights
        super().prepare()

    def make_policy(self, seed: int) -> MacPolicy:
        return MacPolicy(self.learner.mac, seed, greedy=False)

    def play_round(self) -> None:
        self.buffer.start_round()
        super().play_round()

    def store(self, rollout: Rollout) -> None:
        self.buffer.add(rollout)

    def learn(self, with_stats: bool) -> Stats:
        return self.learner.train(self.buffer, with_stats)

    def dataset_score(self, scores: Stats) -> tuple[str | None, float]:
        """Of the newest round, which the policy played before its newest update."""
        rollouts = self.buffer.rollouts
        played = {}
        if rollouts:
            played["return_mean"] = _mean([rollout.returns for rollout in rollouts])
        if rollouts and rollouts[0].battle_won is not None:
            played["battle_won_mean"] = _mean([rollout.battle_won for rollout in rollouts])
        return best_known(played, PLAYED_SCORES)

    def tested(self, scores: Stats) -> None:
        wanted = self.args.medium_score is not None and "medium" not in self.milestones
        if scores and wanted:
            self.snapshots.append({"step": self.env_steps, "mac": self._weights()})
        super().tested(scores)

    def state(self) -> dict[str, Any]:
        return {**super().state(), "snapshots": self.snapshots}

    def restore(self, content: dict[str, Any]) -> None:
        super().restore(content)
        self.snapshots = list(content["snapshots"])

    def _weights(self) -> dict[str, Tensor]:
        state = self.learner.mac.state_dict()
        return {name: value.detach().clone() for name, value in state.items()}


def _mean(parts: list[np.ndarray]) -> float:
    return float(np.concatenate(parts).mean())
