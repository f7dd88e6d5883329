"""OMIGA: implicit global-to-local value regularisation (Wang, Xu, Zheng and Zhan, NeurIPS 2023).

The team's behaviour-regularised problem is decomposed linearly. Each agent then solves its part
with an in-sample value, so that no action outside of the dataset is evaluated. All agents are
updated at once. Shapes: B batch, T time, N agents, A actions.

    (1)  Q_tot(s, a) = sum_i w^i(s) Q^i(o^i, a^i) + b(s),  w^i >= 0
         V_tot(s)    = sum_i w^i(s) V^i(o^i) + b(s)
    (2)  L(Q, w, b)  = E_D [ (r + gamma Vbar_tot(s') - Q_tot(s, a))^2 ]
    (3)  z^i         = wbar^i(s) (Qbar^i(o^i, a^i) - V^i(o^i)) / alpha
    (4)  L(V^i)      = E_D [ exp(z^i) + wbar^i(s) V^i(o^i) / alpha ]
    (5)  L(pi^i)     = - E_D [ exp(z^i) log pi^i(a^i | o^i) ]

The minimum of (4) is V^i = (alpha / w^i) log E_{mu^i}[ exp(w^i Q^i / alpha) ]. There E[exp(z^i)] is
1, and (5) clones the normalised policy mu^i exp(z^i).

    symbol            meaning                      setting
    alpha             temperature of the data      alpha
    w, b              the mixer of both Q and V    mixer_dim
    Qbar, Vbar, wbar  soft targets                 tau

Differences to the released code (its StarCraft II branch):

* The code replaces the reward by the return-to-go, and so sums up returns. The theory and this file
  use the step's reward. Returns are many times larger, so that its alpha = 10 does not correspond
  to 10 here. docs/baselines/omiga.md says what was tried.
* The code clamps z to [-10, 10] in (4) too, but not the linear part. A V^i that is lower by more
  than that is pushed even lower. Here only the policy's weights exp(z) are clamped.
* The code treats every end of an episode as terminal. Here truncated episodes bootstrap.
* The code does not mask unavailable actions in training.
* The code's networks see o^i and the agent's number, but no history. Here `critic_inputs` and
  `agent` choose.

As in the code, (4) is scaled by exp(-max(z, -1)) over the batch to avoid overflow. This changes the
size of V's step, not its direction. Q, V and policy take their gradient step together, each from
the others' values before it.
"""

import torch as th
from torch import Tensor, nn

from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.actor_critic_learner import ActorCriticLearner
from inspo.modules.critics import LocalCritics
from inspo.modules.mixers import LinearMixer
from inspo.utils.batch import Batch, following, without_final_row
from inspo.utils.config import Positive, PositiveInt, ValueConfig
from inspo.utils.rl_utils import entropy, gather_last, masked_mean

MAX_ABS_Z = 10.0  # in the policy's weights


class OMIGAConfig(ValueConfig):
    """OMIGA's own settings; `config/algs/omiga.yaml` explains each one."""

    alpha: Positive
    mixer_dim: PositiveInt


def mixed(values: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Q_tot or V_tot (1), [B, T].

    Args:
        values, w: the agents' values and weights, [B, T, N].
        b: [B, T].
    """
    return (w * values).sum(dim=-1) + b


def q_loss(
    q_tot: Tensor,
    reward: Tensor,
    terminated: Tensor,
    next_v_tot: Tensor,
    filled: Tensor,
    gamma: float,
) -> Tensor:
    """L(Q, w, b) (2); all arguments [B, T]. A terminal step has no next value."""
    not_terminated = 1 - terminated.to(reward.dtype)
    target = reward + gamma * not_terminated * next_v_tot
    return masked_mean((q_tot - target).square(), filled)


def v_loss(z: Tensor, weighted_v: Tensor, filled: Tensor) -> Tensor:
    """L(V^i) (4), the mean over agents and real steps, scaled by exp(-max(z, -1)).

    Args:
        z: (3), with a gradient through V^i, [B, T, N].
        weighted_v: wbar^i V^i / alpha, [B, T, N].
        filled: [B, T].
    """
    mask = filled.unsqueeze(-1).expand_as(z)
    z = z.masked_fill(~mask, -1.0)
    shift = z.detach().amax().clamp(min=-1.0)
    return masked_mean((z - shift).exp() + (-shift).exp() * weighted_v, mask)


def policy_weights(z: Tensor) -> Tensor:
    """exp(z) without gradient, for z clamped to [-10, 10]."""
    return z.detach().clamp(-MAX_ABS_Z, MAX_ABS_Z).exp()


def policy_loss(log_pi_taken: Tensor, z: Tensor, filled: Tensor) -> Tensor:
    """L(pi^i) (5), the mean over agents and real steps.

    Args:
        log_pi_taken: log pi^i(a^i | o^i), [B, T, N].
        z: (3), [B, T, N].
        filled: [B, T].
    """
    return -masked_mean(policy_weights(z) * log_pi_taken, filled.unsqueeze(-1).expand_as(z))


class OMIGALearner(ActorCriticLearner):
    """Updates all agents at once."""

    Config = OMIGAConfig
    args: OMIGAConfig

    def __init__(self, args: OMIGAConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        width, inputs, shared = args.critic_hidden_dim, args.critic_inputs, args.share_parameters
        self.q = LocalCritics(info, width, inputs, shared)
        self.v = LocalCritics(info, width, inputs, shared, outputs=1)
        self.mixer = LinearMixer(info, args.mixer_dim)
        targets = self.add_values(nn.ModuleDict({"q": self.q, "v": self.v, "mixer": self.mixer}))
        self.target_q = targets["q"]
        self.target_v = targets["v"]
        self.target_mixer = targets["mixer"]

    def losses(self, batch: Batch, with_stats: bool) -> tuple[Tensor, dict[str, Tensor]]:
        args = self.args
        steps = without_final_row(batch)
        actions = steps["actions"]
        reward, terminated, filled = batch["reward"], batch["terminated"], batch["filled"]

        with th.no_grad():
            w_bar, b_bar = self.target_mixer(batch["state"])  # [B, T+1, N], [B, T+1]
            next_v = self.target_v.values(following(batch)).squeeze(-1)  # [B, T, N]
            next_v_tot = mixed(next_v, w_bar[:, 1:], b_bar[:, 1:])
            taken_q_bar = gather_last(self.target_q.values(steps), actions)  # [B, T, N]
            w_bar = w_bar[:, :-1]

        taken_q = gather_last(self.q.values(steps), actions)  # [B, T, N]
        w, b = self.mixer(steps["state"])
        q_tot = mixed(taken_q, w, b)  # [B, T]
        loss_q = q_loss(q_tot, reward, terminated, next_v_tot, filled, args.gamma)

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
            "weight_mean": masked_mean(policy_weights(z), mask),
            "weight_clamped": masked_mean((z.abs() > MAX_ABS_Z).float(), mask),
            "policy_entropy": masked_mean(entropy(log_pi.detach()), mask),
        }
