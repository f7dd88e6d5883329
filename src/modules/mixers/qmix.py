"""QMIX's monotonic mixer (Rashid et al. 2018), as PyMARL's with `hypernet_layers: 2`."""

import torch as th
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from inspo.envs import EnvInfo
from inspo.modules.mixers.base import Mixer
from inspo.modules.mlp import MLP
from inspo.utils.config import RunConfig
from inspo.utils.precision import in_float32
from inspo.utils.rl_utils import gather_last

# W1 [B, T, N, E] and b1 [B, T, E], W2 [B, T, E] and b2 [B, T]. W1 and W2 are not negative.
Weights = tuple[Tensor, Tensor, Tensor, Tensor]


class QMixer(Mixer):
    """Q_tot = |W2(s)|^T ELU(|W1(s)|^T q + b1(s)) + b2(s), which grows with every agent's value.

    Settings: `mixing_embed_dim` is the width E of the mixed layer, `hypernet_embed` that of the
    networks that make the weights from the state.
    """

    def __init__(self, args: RunConfig, info: EnvInfo):
        super().__init__(args, info)
        embed_dim = args.mixing_embed_dim
        self.w1_shape = (info.n_agents, embed_dim)
        self.hyper_w1 = MLP(info.state_shape, args.hypernet_embed, info.n_agents * embed_dim)
        self.hyper_b1 = MLP(info.state_shape, embed_dim)
        self.hyper_w2 = MLP(info.state_shape, args.hypernet_embed, embed_dim)
        self.hyper_b2 = MLP(info.state_shape, embed_dim, 1)

    def weights(self, state: Tensor) -> Weights:
        w1 = self.hyper_w1(state).abs().unflatten(-1, self.w1_shape)
        b1 = self.hyper_b1(state)
        w2 = self.hyper_w2(state).abs()
        b2 = self.hyper_b2(state).squeeze(-1)
        return w1, b1, w2, b2

    @in_float32
    def mix(self, agent_values: Tensor, weights: Weights) -> Tensor:
        w1, b1, w2, b2 = weights
        hidden = th.einsum("btn,btne->bte", agent_values, w1) + b1
        return (F.elu(hidden) * w2).sum(dim=-1) + b2

    @in_float32
    def mix_joint_actions(self, agent_values: Tensor, weights: Weights) -> Tensor:
        """See the base class. All K joint actions go through one matrix product."""
        w1, b1, w2, b2 = (weight.flatten(0, 1) for weight in weights)  # [B*T, ...]
        values = agent_values.flatten(0, 1)  # [B*T, N, K]
        hidden = th.baddbmm(b1.unsqueeze(-1), w1.transpose(1, 2), values)  # [B*T, E, K]
        q_tot = (w2.unsqueeze(1) @ F.elu_(hidden)).squeeze(1) + b2.unsqueeze(-1)
        return q_tot.unflatten(0, agent_values.shape[:2])

    @in_float32
    def mix_counterfactuals(self, q: Tensor, actions: Tensor, weights: Weights) -> Tensor:
        """See the base class. Exact, in one pass of the mixer.

        Another action of agent i changes the mixed layer along that agent's weights only:
        h^i(a) = h + (Q^i(a) - Q^i(a^i)) W1_i.
        """
        w1, b1, w2, b2 = weights
        taken = gather_last(q, actions)
        hidden = th.einsum("btn,btne->bte", taken, w1) + b1
        change = (q - taken.unsqueeze(-1)).unsqueeze(-1)
        # [B, T, N, A, E], the largest tensor of a training step
        hidden = th.addcmul(hidden[:, :, None, None], change, w1.unsqueeze(-2))
        q_tot = F.elu_(hidden).flatten(2, 3) @ w2.unsqueeze(-1)
        return q_tot.view(q.shape) + b2[..., None, None]
