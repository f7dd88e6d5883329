"""The joint behaviour model as one chain over all agents. Its cost is linear in their number."""

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP
from inspo.utils.rl_utils import gather_last, masked_log_softmax


class ChainBehaviour(nn.Module):
    """log mu(a^-i | s, a^i) = sum_j log mu(a^j | s, a^k: k before j) - log mu(a^i | s).

    The paper's factorisation (Eq. 22, `AutoregressiveBehaviour`) has N - 1 factors for each of N
    agents. Here all agents share one chain of N factors, and each has one marginal.

    One network gives factors and marginals: a factor is conditioned on the actions before it, a
    marginal on none. The known actions enter the first layer as a running sum, so that every factor
    costs the same.
    """

    def __init__(self, info: EnvInfo, hidden_dim: int):
        super().__init__()
        self.info = info
        self.state = nn.Linear(info.state_shape, hidden_dim)
        self.known = nn.Embedding(info.n_agents * info.n_actions, hidden_dim)  # of (k, a^k)
        self.whom = nn.Embedding(info.n_agents, hidden_dim)
        self.rest = MLP(hidden_dim, hidden_dim, hidden_dim, info.n_actions)
        # Like the initial weights of a linear layer on one-hot inputs.
        for embedding in (self.known, self.whom):
            nn.init.uniform_(embedding.weight, -0.1, 0.1)

    def log_probs(
        self,
        state: Tensor,
        actions: Tensor,
        avail_actions: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Log probabilities of the actions taken.

        Args:
            state: float [R, S].
            actions: int [R, N].
            avail_actions: bool [R, N, A].

        Returns:
            the chain's factors log mu(a^j | s, a^k: k before j), and the marginals log mu(a^j | s),
            both [R, N].
        """
        agents = th.arange(self.info.n_agents, device=actions.device)
        own = self.known(actions + agents * self.info.n_actions)  # [R, N, H]
        none_known = self.state(state)[:, None] + self.whom(agents)
        earlier_known = none_known + own.cumsum(dim=1) - own
        logits = self.rest(F.relu(th.stack([earlier_known, none_known])))  # [2, R, N, A]
        log_probs = masked_log_softmax(logits, avail_actions)
        factors, marginals = gather_last(log_probs, actions.expand(2, -1, -1))
        return factors, marginals

    def teammates_log_probs(self, state: Tensor, actions: Tensor, avail_actions: Tensor) -> Tensor:
        """log mu(a^-i | s, a^i) for every agent i, [R, N]. Arguments as in `log_probs`."""
        factors, marginals = self.log_probs(state, actions, avail_actions)
        return factors.sum(dim=-1, keepdim=True) - marginals

    def loss(self, state: Tensor, actions: Tensor, avail_actions: Tensor) -> Tensor:
        """- E_D [ log mu(a | s) + sum_i log mu(a^i | s) ], a scalar."""
        factors, marginals = self.log_probs(state, actions, avail_actions)
        return -(factors + marginals).sum(dim=-1).mean()
