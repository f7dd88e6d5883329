"""The joint behaviour model mu_ar(a^-i | s, a^i): what the teammates did, given what agent i did (paper, Eq. 22)."""

import torch as th
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from inspo.envs import EnvInfo
from inspo.modules.mlp import MLP
from inspo.utils.rl_utils import gather_last, masked_log_softmax


class AutoregressiveBehaviour(nn.Module):
    """One MLP for all conditionals mu_ar(a^j | s, a^i, a^k: k before j), teammates in the order of their numbers.

    It sees the state, the one-hot actions that the conditional may know (zeros for the rest), and whom to predict.
    """

    teammates: Tensor  # int [N, N-1]: the others of agent i
    visible: Tensor  # bool [N, N-1, N]: in the product for agent i, whether the factor of its j-th teammate knows a^k

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

    def teammates_log_prob(
        self, agent: Tensor, state: Tensor, actions: Tensor, avail_actions: Tensor
    ) -> Tensor:
        """log mu_ar(a^-i | s, a^i), summed over the teammates, [R]. Arguments as of `conditionals`."""
        rows = th.arange(len(agent), device=agent.device)[:, None]
        taken = actions[rows, self.teammates[agent]]
        return gather_last(self.conditionals(agent, state, actions, avail_actions), taken).sum(
            dim=-1
        )

    def conditionals(
        self, agent: Tensor, state: Tensor, actions: Tensor, avail_actions: Tensor
    ) -> Tensor:
        """log mu_ar(. | s, a^i, a^k: k before j) for the teammates j of agent i, in the order of their numbers.

        Args:
            agent: whose teammates are asked for, int [R].
            state: float [R, S]; actions: int [R, N]; avail_actions: bool [R, N, A].

        Returns:
            float [R, N-1, A].
        """
        teammates = self.teammates[agent]  # [R, N-1]
        one_hot = F.one_hot(actions, self.info.n_actions).to(state.dtype)  # [R, N(k), A]
        known = one_hot[:, None] * self.visible[agent][..., None]  # [R, N-1, N(k), A]
        who = F.one_hot(teammates, self.info.n_agents).to(state.dtype)
        inputs = th.cat(
            [state[:, None].expand(-1, teammates.shape[1], -1), known.flatten(2), who], dim=-1
        )
        rows = th.arange(len(agent), device=agent.device)[:, None]
        return masked_log_softmax(self.net(inputs), avail_actions[rows, teammates])

    def teammates_log_probs(self, state: Tensor, actions: Tensor, avail_actions: Tensor) -> Tensor:
        """log mu_ar(a^-i | s, a^i) of every agent, [R, N]. Arguments as of `conditionals`."""
        agents = th.arange(self.info.n_agents, device=actions.device)
        return th.stack(
            [
                self.teammates_log_prob(i.expand(len(actions)), state, actions, avail_actions)
                for i in agents
            ],
            dim=-1,
        )

    def loss(self, state: Tensor, actions: Tensor, avail_actions: Tensor) -> Tensor:
        """L(mu_ar) = - E_D [ sum_{j in others(i)} log mu_ar(a^j | s, a^i, a^k: k before j) ], i uniform (Eq. 22)."""
        agent = th.randint(self.info.n_agents, (len(actions),), device=actions.device)
        return -self.teammates_log_prob(agent, state, actions, avail_actions).mean()
