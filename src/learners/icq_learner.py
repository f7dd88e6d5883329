"""ICQ: implicit constraint Q-learning, the multi-agent version (Yang, Ma et al., NeurIPS 2021).

The paper is "Believe What You See". Values are learnt from the dataset's next actions as in SARSA,
with more weight on better ones. Policies are weighted clones. All agents are updated at once.
Shapes: B batch, T time, N agents, A actions.

    (1)  Q_tot(s, a) = sum_i k^i(s) Q^i(s, o^i, a^i),  k^i >= 0,  sum_i k^i = 1
    (2)  y           = r + gamma omega(s', a') Qbar_tot(s', a')
         omega       = exp(Qbar_tot / alpha_v) / Z
    (3)  L(Q, k)     = E_D [ (Q_tot(s, a) - y)^2 ],  with y as a TD(lambda) target
    (4)  L(pi^i)     = - E_D [ k^i(s) exp(A^i / alpha_pi) / Z  log pi^i(a^i | tau^i) ]
         A^i         = Q^i(s, o^i, a^i) - sum_a pi^i(a | tau^i) Q^i(s, o^i, a)

Z is the mean of the numerator over the batch, at each time step, as in the released code.

    symbol    meaning                               setting
    alpha_v   temperature of the values' weights    value_temperature
    alpha_pi  temperature of the policies' weights  policy_temperature
    lambda                                          td_lambda
    k         the convex mixer                      mixer_dim
    Qbar      soft target of Q and k                tau

In (4) the paper has k^i inside the exponent, the released code outside. This file follows the code,
which gave the published results. Differences to the code:

* The code's normalisers Z include padding, which inflates the weights of late time steps.
* The code trains its policies with a share of uniform actions (epsilon) mixed in, masked after the
  softmax and normalised again. Here they are softmaxes over available actions, as in CFCQL's
  version.
* The code's lambda and gamma are constants in a function, whatever the settings say.
* The code takes one critic step per time index, with RMSprop, and copies its targets every 600
  steps. Here there is one step of Adam on the whole batch, together with the policy's, and the
  targets are soft, as in the other learners.
* After the last step of a truncated episode the dataset has no action. There y bootstraps from the
  policies' expected value. (The code's buffers hold one more action.)
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
    """ICQ's own settings; `config/algs/icq.yaml` explains each one."""

    policy_temperature: Positive
    value_temperature: Positive
    td_lambda: Fraction
    mixer_dim: PositiveInt

    @model_validator(mode="after")
    def _check_batch_unit(self) -> "ICQConfig":
        if self.batch_unit != "episodes":
            raise ValueError(
                "ICQ needs batch_unit=episodes: its targets depend on the action taken next"
            )
        return self


def batch_weights(values: Tensor, temperature: float, valid: Tensor) -> Tensor:
    """exp(values / temperature) / Z, with Z its mean over the batch at each time step.

    Args:
        values: [B, T] or with more axes (agents) behind.
        valid: where the weights are needed, bool in the same shape.

    Returns:
        weights of mean 1 where valid, and 0 elsewhere.
    """
    logits = (values / temperature).masked_fill(~valid, UNAVAILABLE_LOGIT)
    return logits.softmax(dim=0) * valid * valid.sum(dim=0)


def next_values(
    target_q: Tensor,
    k: Tensor,
    actions: Tensor,
    pi: Tensor,
    filled: Tensor,
    temperature: float,
) -> Tensor:
    """omega Qbar_tot (2) at the row after each step, [B, T].

    After the last step of a sequence there is no action. There it is the policies' expected
    Qbar_tot, which is used for truncated episodes only.

    Args:
        target_q: Qbar^i, [B, T+1, N, A].
        k: of the target mixer, [B, T+1, N].
        actions: int [B, T+1, N].
        pi: pi^i, [B, T+1, N, A].
        filled: [B, T].
    """
    taken = (k * gather_last(target_q, actions)).sum(dim=-1)[:, 1:]
    expected = (k * (pi * target_q).sum(dim=-1)).sum(dim=-1)[:, 1:]
    has_action = th.cat([filled[:, 1:], filled.new_zeros(len(filled), 1)], dim=1)
    omega = batch_weights(taken, temperature, has_action)
    return th.where(has_action, omega * taken, expected)


def policy_loss(
    log_pi: Tensor,
    q: Tensor,
    k: Tensor,
    actions: Tensor,
    filled: Tensor,
    temperature: float,
) -> Tensor:
    """L(pi^i) (4), the mean over agents and real steps. Its gradient is that of log pi only.

    Args:
        log_pi, q: log pi^i and Q^i, [B, T, N, A].
        k: [B, T, N].
        actions: int [B, T, N].
        filled: [B, T].
    """
    taken = gather_last(log_pi, actions)
    mask = filled.unsqueeze(-1).expand_as(taken)
    advantages = gather_last(q, actions) - (log_pi.exp() * q).sum(dim=-1)
    weights = k * batch_weights(advantages, temperature, mask)
    return -masked_mean(weights.detach() * taken, mask)


class ICQLearner(ActorCriticLearner):
    """Updates all agents at once."""

    Config = ICQConfig
    args: ICQConfig

    def __init__(self, args: ICQConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        width, inputs, shared = args.critic_hidden_dim, args.critic_inputs, args.share_parameters
        self.q = LocalCritics(info, width, inputs, shared)
        self.mixer = ConvexMixer(info, args.mixer_dim)
        targets = self.add_values(nn.ModuleDict({"q": self.q, "mixer": self.mixer}))
        self.target_q = targets["q"]
        self.target_mixer = targets["mixer"]

    def losses(self, batch: Batch, with_stats: bool) -> tuple[Tensor, dict[str, Tensor]]:
        steps = without_final_row(batch)
        actions, filled = steps["actions"], steps["filled"]

        log_pi = self.mac.log_probs(batch)  # [B, T+1, N, A]
        y = self._value_target(batch, log_pi)  # [B, T]
        q = self.q.values(steps)  # [B, T, N, A]
        k = self.mixer(steps["state"])  # [B, T, N]
        q_tot = (k * gather_last(q, actions)).sum(dim=-1)
        loss_q = masked_mean((q_tot - y).square(), filled)

        log_pi = log_pi[:, :-1]
        loss_pi = policy_loss(
            log_pi,
            q.detach(),
            k.detach(),
            actions,
            filled,
            self.args.policy_temperature,
        )

        if not with_stats:
            return loss_q + loss_pi, {}
        mask = filled.unsqueeze(-1).expand_as(actions)
        return loss_q + loss_pi, {
            "value_loss": loss_q,
            "policy_loss": loss_pi,
            "q_taken": masked_mean(q_tot.detach(), filled),
            "policy_entropy": masked_mean(entropy(log_pi.detach()), mask),
        }

    @th.no_grad()
    def _value_target(self, batch: Batch, log_pi: Tensor) -> Tensor:
        """y (2) as a TD(lambda) target, [B, T]."""
        values = next_values(
            self.target_q.values(batch),
            self.target_mixer(batch["state"]),
            batch["actions"],
            log_pi.exp(),
            batch["filled"],
            self.args.value_temperature,
        )
        return lambda_returns(
            batch["reward"],
            batch["terminated"],
            batch["filled"],
            values,
            self.args.gamma,
            self.args.td_lambda,
        )
