"""Mixers that are linear in the agents' values."""

import torch as th
from torch import Tensor, nn

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP


class LinearMixer(nn.Module):
    """Q_tot = sum_i w^i(s) q^i + b(s) with w^i >= 0 (OMIGA): one hidden layer of ReLU makes w and b from the state."""

    def __init__(self, info: EnvInfo, hidden_dim: int):
        super().__init__()
        self.net = MLP(info.state_shape, hidden_dim, info.n_agents + 1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """State [B, T, S] to the weights w [B, T, N], not negative, and b [B, T]."""
        outputs = self.net(state)
        return outputs[..., :-1].abs(), outputs[..., -1]


class ConvexMixer(nn.Module):
    """Q_tot = sum_i k^i(s) q^i with k^i >= 0 that add up to 1 (ICQ): k is proportional to |W1(s)| |W2(s)|.

    Args:
        embed_dim: width E of the layer between them.
    """

    def __init__(self, info: EnvInfo, embed_dim: int):
        super().__init__()
        self.n_agents, self.embed_dim = info.n_agents, embed_dim
        self.hyper_w1 = nn.Linear(info.state_shape, info.n_agents * embed_dim)
        self.hyper_w2 = nn.Linear(info.state_shape, embed_dim)

    def forward(self, state: Tensor) -> Tensor:
        """State [B, T, S] to k [B, T, N]."""
        w1 = self.hyper_w1(state).abs().unflatten(-1, (self.n_agents, self.embed_dim))
        k = th.einsum("btne,bte->btn", w1, self.hyper_w2(state).abs())
        return k / k.sum(dim=-1, keepdim=True).clamp(min=1e-8)
