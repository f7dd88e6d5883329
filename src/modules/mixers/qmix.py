"""QMIX's monotonic mixer (Rashid et al. 2018), with two-layer hypernetworks as in PyMARL's `hypernet_layers: 2`."""

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP
from inspo.utils.rl_utils import gather_last

# W1 [B, T, N, E] and W2 [B, T, E], not negative, b1 [B, T, E], b2 [B, T].
Weights = tuple[Tensor, Tensor, Tensor, Tensor]


class QMixer(nn.Module):
    """Q_tot = |W2(s)|^T ELU(|W1(s)|^T q + b1(s)) + b2(s), which grows with every agent's value.

    Args:
        embed_dim: width E of the mixed layer.
        hypernet_embed: width of the networks that make the weights from the state.
    """

    def __init__(self, info: EnvInfo, embed_dim: int, hypernet_embed: int):
        super().__init__()
        self.n_agents, self.embed_dim = info.n_agents, embed_dim
        self.hyper_w1 = MLP(info.state_shape, hypernet_embed, info.n_agents * embed_dim)
        self.hyper_b1 = MLP(info.state_shape, embed_dim)
        self.hyper_w2 = MLP(info.state_shape, hypernet_embed, embed_dim)
        self.hyper_b2 = MLP(info.state_shape, embed_dim, 1)

    def forward(self, agent_values: Tensor, state: Tensor) -> Tensor:
        """agent_values [B, T, N] and state [B, T, S] to Q_tot [B, T]."""
        return mix(agent_values, self.weights(state))

    def weights(self, state: Tensor) -> Weights:
        """The mixing weights of every state, for all that is to be mixed there."""
        w1 = self.hyper_w1(state).abs().unflatten(-1, (self.n_agents, self.embed_dim))
        return (
            w1,
            self.hyper_b1(state),
            self.hyper_w2(state).abs(),
            self.hyper_b2(state).squeeze(-1),
        )


def mix(agent_values: Tensor, weights: Weights) -> Tensor:
    """Q_tot [B, T] of one joint action: agent_values [B, T, N]."""
    w1, b1, w2, b2 = weights
    hidden = th.einsum("btn,btne->bte", agent_values, w1) + b1
    return (F.elu(hidden) * w2).sum(dim=-1) + b2


def mix_joint_actions(agent_values: Tensor, weights: Weights) -> Tensor:
    """Q_tot [B, T, K] of K joint actions: agent_values [B, T, N, K]."""
    w1, b1, w2, b2 = (weight.flatten(0, 1) for weight in weights)  # steps in a row, [B*T, ...]
    hidden = th.baddbmm(
        b1.unsqueeze(-1), w1.transpose(1, 2), agent_values.flatten(0, 1)
    )  # [B*T, E, K]
    q_tot = (w2.unsqueeze(1) @ F.elu_(hidden)).squeeze(1) + b2.unsqueeze(-1)
    return q_tot.unflatten(0, agent_values.shape[:2])


def mix_counterfactuals(q: Tensor, actions: Tensor, weights: Weights) -> Tensor:
    """Q_tot(s, (a, a^-i)) for every agent i and each of its actions a, the teammates' a^-i as taken: [B, T, N, A].

    Exact, and the mixer runs once: one agent's other action moves the mixed layer along that agent's weights alone,
    h^i(a) = h + (Q^i(a) - Q^i(a^i)) W1_i.

    Args:
        q: Q^i(tau^i, .), [B, T, N, A].
        actions: taken, int [B, T, N].
    """
    w1, b1, w2, b2 = weights
    taken = gather_last(q, actions)
    hidden = th.einsum("btn,btne->bte", taken, w1) + b1
    change = (q - taken.unsqueeze(-1)).unsqueeze(-1)
    hidden = th.addcmul(
        hidden[:, :, None, None], change, w1.unsqueeze(-2)
    )  # [B, T, N, A, E], the step's largest
    return (F.elu_(hidden).flatten(2, 3) @ w2.unsqueeze(-1)).view(q.shape) + b2[..., None, None]
