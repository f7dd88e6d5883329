"""OMIGA: implicit global-to-local value regularisation (Wang, Xu, Zheng and Zhan, NeurIPS 2023).

The team's behaviour-regularised problem is decomposed linearly, so that each agent's part is solved by its own
in-sample value: no action outside of the dataset is ever evaluated. All agents are updated at once. Shapes: B batch,
T time, N agents, A actions.

    (1)  Q_tot(s, a) = sum_i w^i(s) Q^i(o^i, a^i) + b(s),   V_tot(s) = sum_i w^i(s) V^i(o^i) + b(s),   w^i >= 0
    (2)  L(Q, w, b)  = E_D [ (r + gamma Vbar_tot(s') - Q_tot(s, a))^2 ]
    (3)  z^i         = wbar^i(s) (Qbar^i(o^i, a^i) - V^i(o^i)) / alpha
    (4)  L(V^i)      = E_D [ exp(z^i) + wbar^i(s) V^i(o^i) / alpha ]
    (5)  L(pi^i)     = - E_D [ exp(z^i) log pi^i(a^i | o^i) ]

(4) is least where E[exp(z^i)] = 1, that is V^i = (alpha / w^i) log E_{mu^i}[ exp(w^i Q^i / alpha) ], and then (5)
clones mu^i exp(z^i), which is normalised.

    symbol            meaning                               setting
    alpha             temperature towards the data          alpha
    w, b              the mixer of Q and V alike            mixer_dim
    Qbar, Vbar, wbar  soft targets                          tau

What the released code (its StarCraft II branch) does otherwise, and why this does not:

* It overwrites the reward by the return that follows, and so adds up returns; the theory has the step's reward. Returns
  are many times larger, so its alpha = 10 is not this one's: see docs/baselines/omiga.md for what was tried.
* It clamps z to [-10, 10] in (4) too, where the linear part goes on: a V^i too low by more than that is pushed lower
  still. Here only the policy's weights exp(z) are clamped.
* It takes every end of an episode for a terminal state. Here time limits are bootstrapped from.
* It does not mask unavailable actions in training.
* Its networks see o^i and the agent's number, no history; here that is a setting (`critic_inputs`, `agent`).

As there, (4) is scaled by exp(-max(z, -1)) over the batch so that nothing overflows; this changes the size of the step
on V, not its direction. Q, V and policy take their gradient step together, from each other's values before it.
"""

import torch as th
from torch import Tensor, nn

from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.actor_critic_learner import ActorCriticLearner
from inspo.modules.critics import LocalCritics
from inspo.modules.mixers import LinearMixer
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import Positive, PositiveInt, ValueConfig
from inspo.utils.rl_utils import entropy, gather_last, masked_mean

WEIGHT_BOUND = 10.0  # on |z| in the policy's weights


class OMIGAConfig(ValueConfig):
    """OMIGA's own settings; `config/algs/omiga.yaml` says what each one does."""

    alpha: Positive
    mixer_dim: PositiveInt


def mixed(values: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Q_tot or V_tot (1), [B, T], from the agents' values and weights [B, T, N] and b [B, T]."""
    return (w * values).sum(dim=-1) + b


def q_loss(
    q_tot: Tensor,
    reward: Tensor,
    terminated: Tensor,
    next_v_tot: Tensor,
    filled: Tensor,
    gamma: float,
) -> Tensor:
    """L(Q, w, b) (2); all arguments [B, T]. Nothing follows a terminated step."""
    target = reward + gamma * (1 - terminated.to(reward.dtype)) * next_v_tot
    return masked_mean((q_tot - target).square(), filled)


def v_loss(z: Tensor, weighted_v: Tensor, filled: Tensor) -> Tensor:
    """L(V^i) (4), the mean over agents and real steps, scaled by exp(-max(z, -1)).

    Args:
        z: (3), with its gradient through V^i, [B, T, N].
        weighted_v: wbar^i V^i / alpha, [B, T, N].
        filled: [B, T].
    """
    mask = filled.unsqueeze(-1).expand_as(z)
    z = z.masked_fill(~mask, -1.0)
    shift = z.detach().amax().clamp(min=-1.0)
    return masked_mean((z - shift).exp() + (-shift).exp() * weighted_v, mask)


def policy_loss(log_pi_taken: Tensor, z: Tensor, filled: Tensor) -> Tensor:
    """L(pi^i) (5), the mean over agents and real steps. Takes log pi^i(a^i | o^i) and z, [B, T, N]; filled [B, T]."""
    weights = z.detach().clamp(-WEIGHT_BOUND, WEIGHT_BOUND).exp()
    return -masked_mean(weights * log_pi_taken, filled.unsqueeze(-1).expand_as(z))


class OMIGALearner(ActorCriticLearner):
    """All agents at once."""

    Config = OMIGAConfig
    args: OMIGAConfig

    def __init__(self, args: OMIGAConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        shape = (info, args.critic_hidden_dim, args.critic_inputs, args.share_parameters)
        self.q = LocalCritics(*shape)
        self.v = LocalCritics(*shape, outputs=1)
        self.mixer = LinearMixer(info, args.mixer_dim)
        targets = self.add_values(nn.ModuleDict({"q": self.q, "v": self.v, "mixer": self.mixer}))
        self.target_q, self.target_v, self.target_mixer = (
            targets["q"],
            targets["v"],
            targets["mixer"],
        )

    def losses(self, batch: Batch, with_stats: bool) -> tuple[Tensor, dict[str, Tensor]]:
        args, steps = self.args, without_final_row(batch)
        actions, filled = steps["actions"], batch["filled"]

        with th.no_grad():
            w_bar, b_bar = self.target_mixer(batch["state"])  # [B, T+1, N], [B, T+1]
            next_v_tot = mixed(self.target_v.values(batch).squeeze(-1), w_bar, b_bar)[:, 1:]
            taken_q_bar = gather_last(self.target_q.values(steps), actions)  # [B, T, N]
            w_bar = w_bar[:, :-1]
        q_tot = mixed(gather_last(self.q.values(steps), actions), *self.mixer(steps["state"]))
        loss_q = q_loss(q_tot, batch["reward"], batch["terminated"], next_v_tot, filled, args.gamma)

        v = self.v.values(steps).squeeze(-1)  # [B, T, N]
        z = w_bar * (taken_q_bar - v) / args.alpha
        loss_v = v_loss(z, w_bar * v / args.alpha, filled)

        log_pi = self.mac.log_probs(steps)  # [B, T, N, A]
        loss_pi = policy_loss(gather_last(log_pi, actions), z, filled)

        loss = loss_q + loss_v + loss_pi
        if not with_stats:
            return loss, {}
        mask = filled.unsqueeze(-1).expand_as(z)
        return loss, {
            "value_loss": loss_q,
            "v_loss": loss_v,
            "policy_loss": loss_pi,
            "q_taken": masked_mean(q_tot.detach(), filled),
            "weight_mean": masked_mean(z.detach().clamp(-WEIGHT_BOUND, WEIGHT_BOUND).exp(), mask),
            "weight_clamped": masked_mean((z.abs() > WEIGHT_BOUND).float(), mask),
            "policy_entropy": masked_mean(entropy(log_pi.detach()), mask),
        }
