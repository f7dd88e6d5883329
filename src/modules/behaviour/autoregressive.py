"""The autoregressive behaviour model mu_ar(a^-i | s, a^i) (paper, Eq. 22)."""

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP
from inspo.utils.rl_utils import gather_last, masked_log_softmax


class AutoregressiveBehaviour(nn.Module):
    """mu_ar(a^-i | s, a^i) as a product over the teammates j, in the order of their numbers.

    One MLP gives all factors mu_ar(a^j | s, a^i, a^k: k before j). Its inputs are the state, the
    one-hot actions that the factor is conditioned on (zeros for the rest), and the one-hot j.
    """

    teammates: Tensor  # int [N, N-1], the others of agent i
    # bool [N, N-1, N]: whether the factor of agent i's j-th teammate is conditioned on a^k
    visible: Tensor

    def __init__(self, info: EnvInfo, hidden_dim: int):
        super().__init__()
        self.info = info
        n_agents = info.n_agents
        size = info.state_shape + n_agents * info.n_actions + n_agents
        self.net = MLP(size, hidden_dim, hidden_dim, hidden_dim, info.n_actions)
        agent = th.arange(n_agents)
        teammates = th.stack([agent[agent != i] for i in range(n_agents)])
        before = agent < teammates[..., None]  # k before j
        given = agent == agent[:, None, None]  # k = i
        self.register_buffer("teammates", teammates, persistent=False)
        self.register_buffer("visible", before | given, persistent=False)

    def conditionals(
        self,
        agent: Tensor,
        state: Tensor,
        actions: Tensor,
        avail_actions: Tensor,
    ) -> Tensor:
        """log mu_ar(. | s, a^i, a^k: k before j) for each teammate j of agent i.

        Args:
            agent: i, int [R].
            state: float [R, S].
            actions: int [R, N].
            avail_actions: bool [R, N, A].

        Returns:
            float [R, N-1, A].
        """
        teammates = self.teammates[agent]  # [R, N-1]
        one_hot = F.one_hot(actions, self.info.n_actions).to(state.dtype)  # [R, N(k), A]
        known = one_hot[:, None] * self.visible[agent][..., None]  # [R, N-1, N(k), A]
        predicted = F.one_hot(teammates, self.info.n_agents).to(state.dtype)
        states = state[:, None].expand(-1, teammates.shape[1], -1)
        inputs = th.cat([states, known.flatten(2), predicted], dim=-1)
        rows = _row_numbers(agent)
        return masked_log_softmax(self.net(inputs), avail_actions[rows, teammates])

    def teammates_log_prob(
        self,
        agent: Tensor,
        state: Tensor,
        actions: Tensor,
        avail_actions: Tensor,
    ) -> Tensor:
        """log mu_ar(a^-i | s, a^i), summed over the teammates, [R]. See `conditionals`."""
        taken = actions[_row_numbers(agent), self.teammates[agent]]
        log_probs = self.conditionals(agent, state, actions, avail_actions)
        return gather_last(log_probs, taken).sum(dim=-1)

    def teammates_log_probs(self, state: Tensor, actions: Tensor, avail_actions: Tensor) -> Tensor:
        """log mu_ar(a^-i | s, a^i) for every agent i, [R, N]. See `conditionals`."""
        columns = []
        for i in th.arange(self.info.n_agents, device=actions.device):
            agent = i.expand(len(actions))
            columns.append(self.teammates_log_prob(agent, state, actions, avail_actions))
        return th.stack(columns, dim=-1)

    def loss(self, state: Tensor, actions: Tensor, avail_actions: Tensor) -> Tensor:
        """L(mu_ar) = - E_D [ log mu_ar(a^-i | s, a^i) ] with i drawn uniformly (Eq. 22)."""
        agent = th.randint(self.info.n_agents, (len(actions),), device=actions.device)
        return -self.teammates_log_prob(agent, state, actions, avail_actions).mean()


def _row_numbers(agent: Tensor) -> Tensor:
    """Row numbers as int [R, 1], to index with an int [R, N-1] beside them."""
    return th.arange(len(agent), device=agent.device)[:, None]
