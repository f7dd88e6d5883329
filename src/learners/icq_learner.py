"""ICQ: implicit constraint Q-learning, the multi-agent version (Yang, Ma et al., "Believe What You See", NeurIPS 2021).

Values are learnt from the dataset's own next actions (as SARSA), reweighted towards better ones; policies are weighted
clones. All agents are updated at once. Shapes: B batch, T time, N agents, A actions.

    (1)  Q_tot(s, a) = sum_i k^i(s) Q^i(s, o^i, a^i),   k^i >= 0,   sum_i k^i = 1
    (2)  y           = r + gamma omega(s', a') Qbar_tot(s', a'),   omega = exp(Qbar_tot / alpha_v) / its mean
    (3)  L(Q, k)     = E_D [ (Q_tot(s, a) - y)^2 ],   with y made a TD(lambda) target
    (4)  L(pi^i)     = - E_D [ k^i(s) exp(A^i / alpha_pi) / its mean  log pi^i(a^i | tau^i) ]
         A^i         = Q^i(s, o^i, a^i) - sum_a pi^i(a | tau^i) Q^i(s, o^i, a)

"Its mean" is the paper's normaliser Z, estimated over the batch at each time step, as in the released code.

    symbol          meaning                               setting
    alpha_v         temperature of the values' weights    value_temperature
    alpha_pi        temperature of the policies' weights  policy_temperature
    lambda                                                td_lambda
    k               the convex mixer                      mixer_dim
    Qbar            soft target of Q and k                tau

The paper has k^i inside the exponent of (4), the released code outside; this follows the code, whose results are the
published ones. What the code does otherwise, and why this does not:

* Its normalisers run over padded episodes too, which inflates the weights of late time steps.
* Its policies are trained with a share of uniform actions (epsilon) mixed into them, masked after the softmax and
  normalised anew. Here they are plain softmaxes over available actions, as in CFCQL's version.
* Its lambda and gamma are written into a function, whatever the settings say.
* It takes one critic step for each time index, with RMSprop, and copies its targets every 600. Here the whole batch is
  one step, with the policy's, of Adam, and targets are soft, as every learner's here.
* After a truncated episode's last step the dataset has no action; there y follows on with the policies' expected value.
  (The code's buffers hold one more action.)
"""

import torch as th
from pydantic import model_validator
from torch import Tensor, nn

from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.actor_critic_learner import ActorCriticLearner
from inspo.modules.critics import LocalCritics
from inspo.modules.mixers import ConvexMixer
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import Fraction, Positive, PositiveInt, ValueConfig
from inspo.utils.rl_utils import (
    UNAVAILABLE_LOGIT,
    entropy,
    gather_last,
    lambda_returns,
    masked_mean,
)


class ICQConfig(ValueConfig):
    """ICQ's own settings; `config/algs/icq.yaml` says what each one does."""

    policy_temperature: Positive
    value_temperature: Positive
    td_lambda: Fraction
    mixer_dim: PositiveInt

    @model_validator(mode="after")
    def _next_actions(self) -> "ICQConfig":
        if self.batch_unit != "episodes":
            raise ValueError(
                "ICQ needs batch_unit=episodes: its targets look at the action taken next"
            )
        return self


def batch_weights(values: Tensor, temperature: float, valid: Tensor) -> Tensor:
    """exp(values / temperature) over its mean in the batch, at each time step: 1 on average, 0 where not valid.

    Args:
        values, valid: [B, T] or with further axes (agents) behind.
    """
    shares = (values / temperature).masked_fill(~valid, UNAVAILABLE_LOGIT).softmax(dim=0)
    return shares * valid * valid.sum(dim=0)


def next_values(
    target_q: Tensor, k: Tensor, actions: Tensor, pi: Tensor, filled: Tensor, temperature: float
) -> Tensor:
    """omega Qbar_tot (2) at what followed each step, [B, T].

    After a sequence's last step there is no action: the policies' expected Qbar_tot stands in. (A terminated step's is
    never used.)

    Args:
        target_q: Qbar^i of all actions at all rows, [B, T+1, N, A]; pi: pi^i, alike.
        k: of the target mixer, [B, T+1, N]; actions: int [B, T+1, N]; filled: [B, T].
    """
    taken = (k * gather_last(target_q, actions)).sum(dim=-1)[:, 1:]
    expected = (k * (pi * target_q).sum(dim=-1)).sum(dim=-1)[:, 1:]
    has_action = th.cat([filled[:, 1:], filled.new_zeros(len(filled), 1)], dim=1)
    return th.where(has_action, batch_weights(taken, temperature, has_action) * taken, expected)


def policy_loss(
    log_pi: Tensor, q: Tensor, k: Tensor, actions: Tensor, filled: Tensor, temperature: float
) -> Tensor:
    """L(pi^i) (4), the mean over agents and real steps; only log pi carries a gradient.

    Args:
        log_pi, q: log pi^i and Q^i, [B, T, N, A]; k: [B, T, N]; actions: int, alike; filled: [B, T].
    """
    taken = gather_last(log_pi, actions)
    mask = filled.unsqueeze(-1).expand_as(taken)
    advantages = gather_last(q, actions) - (log_pi.exp() * q).sum(dim=-1)
    weights = k * batch_weights(advantages, temperature, mask)
    return -masked_mean(weights.detach() * taken, mask)


class ICQLearner(ActorCriticLearner):
    """All agents at once."""

    Config = ICQConfig
    args: ICQConfig

    def __init__(self, args: ICQConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.q = LocalCritics(
            info, args.critic_hidden_dim, args.critic_inputs, args.share_parameters
        )
        self.mixer = ConvexMixer(info, args.mixer_dim)
        targets = self.add_values(nn.ModuleDict({"q": self.q, "mixer": self.mixer}))
        self.target_q, self.target_mixer = targets["q"], targets["mixer"]

    def losses(self, batch: Batch, with_stats: bool) -> tuple[Tensor, dict[str, Tensor]]:
        args, steps = self.args, without_final_row(batch)
        actions, filled = steps["actions"], batch["filled"]

        log_pi = self.mac.log_probs(batch)  # [B, T+1, N, A]
        with th.no_grad():
            target = (self.target_q.values(batch), self.target_mixer(batch["state"]))
            values = next_values(
                *target, batch["actions"], log_pi.exp(), filled, args.value_temperature
            )
            y = lambda_returns(
                *(batch["reward"], batch["terminated"], filled, values, args.gamma, args.td_lambda)
            )
        q = self.q.values(steps)  # [B, T, N, A]
        k = self.mixer(steps["state"])  # [B, T, N]
        q_tot = (k * gather_last(q, actions)).sum(dim=-1)
        loss_q = masked_mean((q_tot - y).square(), filled)

        log_pi = log_pi[:, :-1]
        loss_pi = policy_loss(
            log_pi, q.detach(), k.detach(), actions, filled, args.policy_temperature
        )

        loss = loss_q + loss_pi
        if not with_stats:
            return loss, {}
        mask = filled.unsqueeze(-1).expand_as(actions)
        return loss, {
            "value_loss": loss_q,
            "policy_loss": loss_pi,
            "q_taken": masked_mean(q_tot.detach(), filled),
            "policy_entropy": masked_mean(entropy(log_pi.detach()), mask),
        }
