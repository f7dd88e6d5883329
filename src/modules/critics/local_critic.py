"""Local value functions Q^i(s, .): what agent i's own action is worth, the others following their policies."""

from typing import Literal

import torch as th
from torch import Tensor, nn

from components.offline_buffer import Batch
from envs import EnvInfo
from modules.mlp import MLP


class LocalCritics(nn.Module):
    """Three ReLU layers for each agent, or one network for all that also sees the agent's id (Appendix C.4).

    Args:
        inputs: what the values depend on: the `state`, the agent's own observation (`obs`), or `both`.
    """

    def __init__(self, info: EnvInfo, hidden_dim: int, inputs: Literal["state", "obs", "both"], shared: bool):
        super().__init__()
        self.info, self.inputs, self.shared = info, inputs, shared
        size = info.state_shape * (inputs != "obs") + info.obs_shape * (inputs != "state") + info.n_agents * shared
        self.critics = nn.ModuleList(
            MLP(size, hidden_dim, hidden_dim, hidden_dim, info.n_actions) for _ in range(1 if shared else info.n_agents)
        )

    def critic(self, i: int) -> nn.Module:
        """The network that values agent `i`'s actions."""
        return self.critics[i % len(self.critics)]

    def build_inputs(self, i: int, batch: Batch) -> Tensor:
        """What agent `i`'s critic sees at all rows of the batch, [B, T+1, I]."""
        inputs = []
        if self.inputs != "obs":
            inputs.append(batch["state"])
        if self.inputs != "state":
            inputs.append(batch["obs"][:, :, i])
        if self.shared:
            agent_id = th.eye(self.info.n_agents, device=batch["state"].device)[i]
            inputs.append(agent_id.expand(*batch["state"].shape[:2], -1))
        return th.cat(inputs, dim=-1) if len(inputs) > 1 else inputs[0]
