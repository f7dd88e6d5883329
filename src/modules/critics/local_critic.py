"""Local values Q^i(s, .): what agent i's action is worth while the others follow their policies."""

from typing import Literal

import torch as th
from torch import Tensor, nn

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP, mlp
from inspo.utils.batch import Batch
from inspo.utils.packing import packing

ALL_AGENTS = slice(None)


class LocalCritics(nn.Module):
    """Networks of three ReLU layers, one for each agent or one for all (Appendix C.4).

    Args:
        inputs: what the values depend on: the `state`, the agent's observation (`obs`), or `both`.
        shared: one network for all agents, which also sees the agent's one-hot number.
        outputs: values per agent; by default one for each action. 1 gives V^i(s).
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
        self.n_agents = info.n_agents
        self.inputs = inputs
        self.shared = shared
        size = 0
        if inputs != "obs":
            size += info.state_shape
        if inputs != "state":
            size += info.obs_shape
        if shared:
            size += info.n_agents
        n_networks = 1 if shared else info.n_agents
        sizes = (size, hidden_dim, hidden_dim, hidden_dim, outputs or info.n_actions)
        self.critics = nn.ModuleList(MLP(*sizes) for _ in range(n_networks))

    def values(self, batch: Batch, agents: slice = ALL_AGENTS) -> Tensor:
        """Values of `agents` at all rows of the batch, [B, T, N', A]; 0 for padding."""
        packed = packing(batch, recurrent=False)
        state, obs = packed.pack(batch["state"]), packed.pack(batch["obs"][:, :, agents])
        values = self(self.build_inputs(state, obs, agents), agents)
        return packed.unpack(values)

    def build_inputs(self, state: Tensor, obs: Tensor, agents: slice = ALL_AGENTS) -> Tensor:
        """The inputs of the critics of `agents`, [N', P, I].

        Args:
            state: [P, S].
            obs: of these agents, [P, N', O].
        """
        obs = obs.transpose(0, 1)
        rows = obs.shape[:2]
        inputs = []
        if self.inputs != "obs":
            inputs.append(state.expand(*rows, -1))
        if self.inputs != "state":
            inputs.append(obs)
        if self.shared:
            ids = th.eye(self.n_agents, device=obs.device)[agents]
            inputs.append(ids[:, None].expand(*rows, -1))
        return th.cat(inputs, dim=-1) if len(inputs) > 1 else inputs[0]

    def forward(self, inputs: Tensor, agents: slice) -> Tensor:
        """Values of `agents`, [P, N', A], from `build_inputs` [N', P, I]."""
        networks = [*self.critics] if self.shared else [*self.critics][agents]
        rows = inputs.reshape(len(networks), -1, inputs.shape[-1])
        values = mlp(networks, rows).reshape(*inputs.shape[:2], -1)  # [N', P, A]
        return values.transpose(0, 1)
