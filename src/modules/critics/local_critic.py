"""Local value functions Q^i(s, .): what agent i's own action is worth, the others following their policies."""

from typing import Literal

import torch as th
from torch import Tensor, nn

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP, mlp
from inspo.utils.batch import Batch


class LocalCritics(nn.Module):
    """Three ReLU layers for each agent, or one network for all that also sees the agent's id (Appendix C.4).

    Args:
        inputs: what the values depend on: the `state`, the agent's own observation (`obs`), or `both`.
        outputs: how many values an agent has: one for each action, or 1, V^i(s).
    """

    def __init__(
        self,
        info: EnvInfo,
        hidden_dim: int,
        inputs: Literal["state", "obs", "both"],
        shared: bool,
        outputs: int | None = None,
    ):
        super().__init__()
        self.info, self.inputs, self.shared = info, inputs, shared
        size = (
            info.state_shape * (inputs != "obs")
            + info.obs_shape * (inputs != "state")
            + info.n_agents * shared
        )
        self.critics = nn.ModuleList(
            MLP(size, hidden_dim, hidden_dim, hidden_dim, outputs or info.n_actions)
            for _ in range(1 if shared else info.n_agents)
        )

    def values(self, batch: Batch, agents: slice = slice(None)) -> Tensor:
        """Values of `agents` at all rows of the batch, [B, T+1, N', A]."""
        return self(self.build_inputs(batch, agents), agents)

    def build_inputs(self, batch: Batch, agents: slice) -> Tensor:
        """What the critics of `agents` see at all rows of the batch, [N', B, T+1, I]."""
        obs = batch["obs"][:, :, agents].permute(2, 0, 1, 3)
        rows = obs.shape[:3]
        inputs = []
        if self.inputs != "obs":
            inputs.append(batch["state"].expand(*rows, -1))
        if self.inputs != "state":
            inputs.append(obs)
        if self.shared:
            ids = th.eye(self.info.n_agents, device=obs.device)[agents]
            inputs.append(ids[:, None, None].expand(*rows, -1))
        return th.cat(inputs, dim=-1) if len(inputs) > 1 else inputs[0]

    def forward(self, inputs: Tensor, agents: slice) -> Tensor:
        """Values of `agents` for inputs [N', B, T, I]: [B, T, N', A]."""
        networks = [*self.critics] if self.shared else [*self.critics][agents]
        rows = inputs.reshape(len(networks), -1, inputs.shape[-1])
        return mlp(networks, rows).reshape(*inputs.shape[:3], -1).permute(1, 2, 0, 3)
