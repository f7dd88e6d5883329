"""Networks that make the weights of linear mixers, for OMIGA and ICQ."""

import torch as th
from torch import Tensor, nn

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP
from inspo.utils.precision import in_float32


class LinearMixer(nn.Module):
    """Weights of Q_tot = sum_i w^i(s) q^i + b(s) with w^i >= 0, from one hidden layer (OMIGA)."""

    def __init__(self, info: EnvInfo, hidden_dim: int):
        super().__init__()
        self.net = MLP(info.state_shape, hidden_dim, info.n_agents + 1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """State [B, T, S] to the weights w [B, T, N] and b [B, T]."""
        outputs = self.net(state)
        return outputs[..., :-1].abs(), outputs[..., -1]


class ConvexMixer(nn.Module):
    """Weights of Q_tot = sum_i k^i(s) q^i with k^i >= 0 and sum_i k^i = 1 (ICQ).

    k is |W1(s)| |W2(s)|, normalised.

    Args:
        embed_dim: width E of the layer between W1 and W2.
    """

    def __init__(self, info: EnvInfo, embed_dim: int):
        super().__init__()
        self.w1_shape = (info.n_agents, embed_dim)
        self.hyper_w1 = nn.Linear(info.state_shape, info.n_agents * embed_dim)
        self.hyper_w2 = nn.Linear(info.state_shape, embed_dim)

    def forward(self, state: Tensor) -> Tensor:
        """State [B, T, S] to k [B, T, N]."""
        w1 = self.hyper_w1(state).to(state.dtype).abs().unflatten(-1, self.w1_shape)
        w2 = self.hyper_w2(state).to(state.dtype).abs()
        return _convex(w1, w2)


@in_float32
def _convex(w1: Tensor, w2: Tensor) -> Tensor:
    """|W1| |W2| of [B, T, N, E] and [B, T, E], normalised over agents."""
    k = th.einsum("btne,bte->btn", w1, w2)
    return k / k.sum(dim=-1, keepdim=True).clamp(min=1e-8)
