"""The joint behaviour model as one chain for all agents: its cost grows linearly with their number."""

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP
from inspo.utils.rl_utils import gather_last, masked_log_softmax


class ChainBehaviour(nn.Module):
    """log mu(a^-i | s, a^i) = sum_j log mu(a^j | s, a^k: k before j) - log mu(a^i | s).

    The paper's factorisation (Eq. 22, `AutoregressiveBehaviour`) has N - 1 factors for each of N agents; here one chain
    of N factors serves all, beside N marginals. One network gives both: a chain's factor knows the actions before it, a
    marginal none. What is known enters the first layer as a running sum, so that no factor costs more than another.
    """

    def __init__(self, info: EnvInfo, hidden_dim: int):
        super().__init__()
        self.info = info
        self.state = nn.Linear(info.state_shape, hidden_dim)
        self.known = nn.Embedding(
            info.n_agents * info.n_actions, hidden_dim
        )  # of agent k's action a^k
        self.whom = nn.Embedding(info.n_agents, hidden_dim)
        self.rest = MLP(hidden_dim, hidden_dim, hidden_dim, info.n_actions)
        for embedding in (
            self.known,
            self.whom,
        ):  # as a linear layer that reads one-hot vectors starts
            nn.init.uniform_(embedding.weight, -0.1, 0.1)

    def log_probs(
        self, state: Tensor, actions: Tensor, avail_actions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of the actions taken, given the state and, in the chain, those of the agents before.

        Args:
            state: float [R, S]; actions: int [R, N]; avail_actions: bool [R, N, A].

        Returns:
            factors of the chain and marginals, both [R, N].
        """
        numbers = th.arange(self.info.n_agents, device=actions.device)
        own = self.known(actions + numbers * self.info.n_actions)  # [R, N, H]
        nothing = self.state(state)[:, None] + self.whom(numbers)
        before = nothing + own.cumsum(dim=1) - own
        logits = self.rest(F.relu(th.stack([before, nothing])))  # [2, R, N, A]
        chain, marginals = gather_last(
            masked_log_softmax(logits, avail_actions), actions.expand(2, -1, -1)
        )
        return chain, marginals

    def teammates_log_probs(self, state: Tensor, actions: Tensor, avail_actions: Tensor) -> Tensor:
        """log mu(a^-i | s, a^i) of every agent, [R, N]. Arguments as of `log_probs`."""
        chain, marginals = self.log_probs(state, actions, avail_actions)
        return chain.sum(dim=-1, keepdim=True) - marginals

    def loss(self, state: Tensor, actions: Tensor, avail_actions: Tensor) -> Tensor:
        """- E [ log mu(a | s) + sum_i log mu(a^i | s) ], a scalar."""
        chain, marginals = self.log_probs(state, actions, avail_actions)
        return -(chain + marginals).sum(dim=-1).mean()
