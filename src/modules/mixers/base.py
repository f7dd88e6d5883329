"""The interface of the mixers that the setting `mixer` names."""

from abc import ABC, abstractmethod
from typing import Any

import torch as th
from torch import Tensor, nn

from inspo.envs import EnvInfo
from inspo.utils.config import RunConfig
from inspo.utils.rl_utils import gather_last


class Mixer(nn.Module, ABC):
    """Combines the agents' values into the team's value Q_tot.

    A subclass implements `weights` and `mix`. Q_tot should grow with every agent's value: only then
    is each agent's best action part of the best joint action.

    Shapes: B batch, T time, N agents, A actions, K joint actions, S state.

    Args:
        args: the run's settings. A mixer can read the keys that the learner's `Config` declares.
        info: the environment's sizes.
    """

    def __init__(self, args: RunConfig, info: EnvInfo):
        super().__init__()

    @abstractmethod
    def weights(self, state: Tensor) -> Any:
        """All that depends on the state [B, T, S], in a form that `mix` takes."""

    @abstractmethod
    def mix(self, agent_values: Tensor, weights: Any) -> Tensor:
        """Q_tot [B, T] of one joint action per step, from the agents' values [B, T, N]."""

    def forward(self, agent_values: Tensor, state: Tensor) -> Tensor:
        """Q_tot [B, T] from the agents' values [B, T, N] and the state [B, T, S]."""
        return self.mix(agent_values, self.weights(state))

    def mix_joint_actions(self, agent_values: Tensor, weights: Any) -> Tensor:
        """Q_tot [B, T, K] of K joint actions per step, from the agents' values [B, T, N, K]."""
        return th.stack([self.mix(values, weights) for values in agent_values.unbind(-1)], dim=-1)

    def mix_counterfactuals(self, q: Tensor, actions: Tensor, weights: Any) -> Tensor:
        """Q_tot(s, (a, a^-i)) for every agent i and action a, teammates acting as in the data.

        Args:
            q: Q^i(tau^i, .), [B, T, N, A].
            actions: the actions taken, int [B, T, N].

        Returns:
            [B, T, N, A].
        """
        taken = gather_last(q, actions).unsqueeze(-1)  # [B, T, N, 1]
        agents = th.arange(q.shape[2], device=q.device)[:, None]
        values = []
        for i in range(q.shape[2]):
            changed = th.where(agents == i, q, taken)  # [B, T, N, A]
            values.append(self.mix_joint_actions(changed, weights))
        return th.stack(values, dim=2)
