"""OMAR: offline MARL with actor rectification (Pan et al., ICML 2022), for discrete actions.

Each agent has its own conservative critic. Its policy climbs the critic's gradient and is pulled
towards the best action that a search over the critic finds. All agents are updated at once.
Shapes: B batch, T time, N agents, A actions. In the paper's order:

    (1)  L(Q^i)  = sum_k E_D [ (Q_k^i(s, a^i) - y)^2
                   + alpha (logsumexp_a Q_k^i(s, a) - Q_k^i(s, a^i)) ],  k = 1, 2
         y       = r + gamma min_k Qbar_k^i(s', pibar^i(s'))
    (2)  ahat^i  = the best action by a zeroth-order search
    (3)  L(pi^i) = - E_D [ (1 - c) Q_1^i(s, pi^i(s)) - c |pi^i(s) - ahat^i|^2 ]

    symbol       meaning                            setting
    alpha        conservatism of the critic (CQL)   cql_weight
    c            weight of the rectification        omar_weight (the paper's tau)
    Qbar, pibar  soft targets                       tau

The paper is about continuous actions. Its form for discrete actions here, and the differences to
the discrete OMAR in CFCQL's repository, which is usually compared with:

* The search (2) over A actions is exact: ahat^i is the available action of the largest
  min_k Q_k^i. CFCQL's takes the largest Q_1^i of all actions, so that it may imitate an
  unavailable one.
* In (3), Q_1^i(s, pi^i(s)) is the policy's expected value sum_a pi^i(a) Q_1^i(s, a), and the
  distance to ahat^i is the cross-entropy -log pi^i(ahat^i). CFCQL's first term is an advantage
  times log pi^i of the dataset's action, without an importance weight. It drives log pi^i of bad
  actions to minus infinity. CFCQL's second term averages over padding.
* pibar^i(s') is the target policy's most likely action, as in CFCQL. CFCQL's TD(lambda) is kept
  (`td_lambda`), with the smaller twin taken before the return instead of after it.
* The twins share no layer. (CFCQL's share the last one by mistake.) logsumexp runs over available
  actions.
* There is one step on the whole batch, where CFCQL takes one per time index. Targets are soft, as
  in the paper.
"""

import torch as th
from torch import Tensor, nn

from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.actor_critic_learner import ActorCriticLearner
from inspo.learners.base_learner import target_of
from inspo.modules.critics import LocalCritics
from inspo.utils.batch import Batch, following, without_final_row
from inspo.utils.config import Fraction, NonNegative, ValueConfig
from inspo.utils.rl_utils import (
    UNAVAILABLE_LOGIT,
    conservative_td_error,
    entropy,
    gather_last,
    lambda_returns,
    masked_mean,
)


class OMARConfig(ValueConfig):
    """OMAR's own settings; `config/algs/omar.yaml` explains each one."""

    cql_weight: NonNegative
    omar_weight: Fraction
    td_lambda: Fraction


def next_value(target_q: Tensor, log_target_pi: Tensor) -> Tensor:
    """min_k Qbar_k^i(s', pibar^i(s')), from which y in (1) bootstraps.

    Args:
        target_q: of both twins, [2, B, T, N, A].
        log_target_pi: [B, T, N, A].

    Returns:
        [B, T, N].
    """
    return gather_last(target_q.amin(dim=0), log_target_pi.argmax(dim=-1))


def value_loss(
    q: Tensor,
    actions: Tensor,
    available: Tensor,
    target: Tensor,
    filled: Tensor,
    cql_weight: float,
) -> Tensor:
    """L(Q^i) of one twin (1), the mean over agents and real steps.

    Args:
        q: [B, T, N, A].
        actions: the actions taken, int [B, T, N].
        available: bool [B, T, N, A].
        target: y, [B, T, N].
        filled: [B, T].
    """
    loss = conservative_td_error(q, actions, available, target, cql_weight)
    return masked_mean(loss, filled.unsqueeze(-1).expand_as(loss))


def best_action(q: Tensor, available: Tensor) -> Tensor:
    """ahat^i (2): the available action of the largest min_k Q_k^i.

    Args:
        q: of both twins, [2, B, T, N, A].
        available: bool [B, T, N, A].

    Returns:
        int [B, T, N].
    """
    return q.amin(dim=0).masked_fill(~available, UNAVAILABLE_LOGIT).argmax(dim=-1)


def policy_loss(
    log_pi: Tensor,
    q: Tensor,
    best: Tensor,
    filled: Tensor,
    omar_weight: float,
) -> Tensor:
    """L(pi^i) (3), the mean over agents and real steps.

    Args:
        log_pi: [B, T, N, A].
        q: Q_1^i without gradient, [B, T, N, A].
        best: ahat^i, int [B, T, N].
        filled: [B, T].
    """
    value = (log_pi.exp() * q).sum(dim=-1)
    rectification = -gather_last(log_pi, best)
    loss = -(1 - omar_weight) * value + omar_weight * rectification
    return masked_mean(loss, filled.unsqueeze(-1).expand_as(loss))


class OMARLearner(ActorCriticLearner):
    """Updates all agents at once, each with its own critics."""

    Config = OMARConfig
    args: OMARConfig

    def __init__(self, args: OMARConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.critics = nn.ModuleList(
            LocalCritics(info, args.critic_hidden_dim, args.critic_inputs, args.share_parameters)
            for _ in range(2)
        )
        self.target_critics = self.add_values(nn.ModuleDict({"twins": self.critics}))["twins"]
        self.target_mac = target_of(mac, self.device)
        self.modules["target_mac"] = self.target_mac
        self.parameters += mac.parameters()
        self.target_parameters += self.target_mac.parameters()

    def losses(self, batch: Batch, with_stats: bool) -> tuple[Tensor, dict[str, Tensor]]:
        args = self.args
        steps = without_final_row(batch)
        actions = steps["actions"]
        available = steps["avail_actions"]
        filled = steps["filled"]

        target = self._value_target(batch)  # [B, T, N]
        q = th.stack([critic.values(steps) for critic in self.critics])  # [2, B, T, N, A]
        q_loss = sum(
            value_loss(twin, actions, available, target, filled, args.cql_weight) for twin in q
        )

        log_pi = self.mac.log_probs(steps)  # [B, T, N, A]
        best = best_action(q.detach(), available)
        pi_loss = policy_loss(log_pi, q[0].detach(), best, filled, args.omar_weight)

        if not with_stats:
            return q_loss + pi_loss, {}
        mask = filled.unsqueeze(-1).expand_as(actions)
        return q_loss + pi_loss, {
            "value_loss": q_loss,
            "policy_loss": pi_loss,
            "q_taken": masked_mean(gather_last(q[0].detach(), actions), mask),
            "policy_entropy": masked_mean(entropy(log_pi.detach()), mask),
        }

    @th.no_grad()
    def _value_target(self, batch: Batch) -> Tensor:
        """y of (1), as a TD(lambda) target, [B, T, N]."""
        next_rows = following(batch)
        target_q = [critic.values(next_rows) for critic in self.target_critics]
        log_target_pi = self.target_mac.log_probs(batch)[:, 1:]
        return lambda_returns(
            batch["reward"],
            batch["terminated"],
            batch["filled"],
            next_value(th.stack(target_q), log_target_pi),
            self.args.gamma,
            self.args.td_lambda,
        )
