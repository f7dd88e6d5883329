"""QMIX's monotonic mixer (Rashid et al. 2018), with two-layer hypernetworks as in PyMARL's `hypernet_layers: 2`."""

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from envs import EnvInfo
from modules.mlp import MLP


class QMixer(nn.Module):
    """Q_tot = |W2(s)|^T ELU(|W1(s)|^T q + b1(s)) + b2(s), which grows with every agent's value.

    Args:
        embed_dim: width E of the mixed layer.
        hypernet_dim: width of the networks that make the weights from the state.
    """

    def __init__(self, info: EnvInfo, embed_dim: int, hypernet_dim: int):
        super().__init__()
        self.n_agents, self.embed_dim = info.n_agents, embed_dim
        self.hyper_w1 = MLP(info.state_shape, hypernet_dim, info.n_agents * embed_dim)
        self.hyper_b1 = MLP(info.state_shape, embed_dim)
        self.hyper_w2 = MLP(info.state_shape, hypernet_dim, embed_dim)
        self.hyper_b2 = MLP(info.state_shape, embed_dim, 1)

    def forward(self, agent_values: Tensor, state: Tensor) -> Tensor:
        """agent_values [B, T, N] and state [B, T, S] to Q_tot [B, T]."""
        w1, b1, w2, b2 = self.weights(state)
        hidden = th.einsum("btn,btne->bte", agent_values, w1) + b1
        return (F.elu(hidden) * w2).sum(dim=-1) + b2

    def weights(self, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W1 [B, T, N, E] and W2 [B, T, E], not negative, b1 [B, T, E], b2 [B, T]."""
        w1 = self.hyper_w1(state).abs().unflatten(-1, (self.n_agents, self.embed_dim))
        return w1, self.hyper_b1(state), self.hyper_w2(state).abs(), self.hyper_b2(state).squeeze(-1)
