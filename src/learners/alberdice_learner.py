"""AlberDICE: alternating best responses (Matsunaga, Lee et al., NeurIPS 2023).

The agents take turns. Each finds its best stationary distribution while its teammates keep their
policies (a DICE method, stationary distribution correction), and projects it onto its policy. For
agent i, with rho_i the importance ratio of its teammates' actions:

    (1)  rho_i(s, a)   = prod_{j != i} pi^j(a^j | o^j) / pi^D(a^-i | s, a^i)
    (2)  e_i(s, a, s') = r - alpha KL(pi^-i(. | s) || pi^D(. | s, a^i)) + gamma nu_i(s') - nu_i(s)
    (3)  L(nu_i)       = (1 - gamma) E[ nu_i(s_0) ] + alpha log E_D[ rho_i exp(e_i / alpha) ]
                         + c_gp E[ |grad nu_i(s)|^2 ]
    (4)  L(e_i)        = E_{D, rho}[ (e_i(s, a^i) - e_i(s, a, s'))^2
                         + c_cql (logsumexp_a e_i(s, a) - e_i(s, a^i)) ]
    (5)  L(pi^i)       = E_{D, rho}[ alpha KL(pi^i || pi^D_i) - E_{pi^i}[ e_i(s, .) ] ]

The minimum of (5) is pi^D_i exp(e_i / alpha), normalised. This is the policy of the corrected
distribution (an I-projection).

    symbol          meaning                                        settings
    nu_i, e_i(.)    Lagrange multipliers, advantages               critic_hidden_dim, critic_lr
    pi^D_i          the clone of agent i, frozen                   behaviour_*
    pi^D(. | s, a)  autoregressive model of teammates, frozen      behaviour_*
    alpha           temperature, falls geometrically               alpha_start, alpha_end,
                                                                   alpha_decay_steps
    c_gp, c_cql                                                    nu_grad_penalty, cql_weight

Shapes: B batch, T time, N agents, A actions.

Differences to the released code:

* Absorbing states. A terminated game continues in an absorbing state, without reward or choice. The
  code pads every episode with copies of it to a fixed length, so that their number depends on the
  padding. Here they are exact. (3) does not change when a constant is added to nu_i, so nu_i is set
  to 0 in the absorbing state, and e_i is 0 there as well. Discounted, the copies weigh as much as
  gamma / (1 - gamma) steps for each termination. Nothing is stored for them.
* (1 - gamma) E[ nu_i ] runs over all real states of the data. The code's includes the copies.
* Steps are weighted by rho_i. The code resamples the batch in proportion to rho_i, which has the
  same expectation, but is noisier.
* KL(pi^-i || pi^D) is a sum over teammates of divergences that are exact over each teammate's
  actions. Only the actions of earlier teammates, on which pi^D's factors are conditioned, are
  sampled. The code samples all actions and conditions on the dataset's, which is a different
  quantity with three or more agents.
* The conservative term of (4) is that of the reweighted data. The code has E_{pi^D_i}[ e_i(s, .) ]
  in place of e_i(s, a^i). Where the teammates play what the data has beside a^i, rho_i averages to
  1, and both terms have the same expectation. Where they no longer do, rho_i is 0, and no TD error
  holds e_i down. The code's term then pulls e_i up to the action's share in the data, which leads
  the agent back to joint actions outside of the data. On Bridge, runs with it collapse earlier as
  alpha falls.
* The clones are trained first and frozen, as InSPO's. The code trains them along with the policies.
* logsumexp runs over available actions. Padding is masked everywhere.
* The three losses of an agent share a gradient step. Each sees the others as before the step.
* e_i(s, .) is one network with an output per action. The code's takes the action as an input.

The losses are in alberdice_losses.py.

Alternation needs separate policies: `share_parameters` is refused. Policies may be recurrent
(`agent=rnn`, whole episodes). (2) to (4) concern states. (5) projects onto policies of histories
just as onto policies of observations, and the ratios and divergences only need the policies along
the data's histories. (The released code offers a transformer over histories instead.)
"""

import torch as th
from pydantic import model_validator
from torch import Tensor

from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.alberdice_losses import (
    advantage_loss,
    gradient_penalty,
    log_importance_ratio,
    nu_loss,
    policy_loss,
    teammates_divergence,
    temporal_difference,
)
from inspo.learners.base_learner import BaseLearner, Stats
from inspo.modules.critics import LocalCritics
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import BehaviourConfig, NonNegative, Positive, PositiveInt
from inspo.utils.rl_utils import (
    entropy,
    exponential_decay,
    gather_last,
    kl_divergence,
    masked_mean,
)


class AlberDICEConfig(BehaviourConfig):
    """AlberDICE's own settings; `config/algs/alberdice.yaml` explains each one."""

    alpha_start: Positive
    alpha_end: Positive
    alpha_decay_steps: PositiveInt
    ratio_max: Positive
    kl_samples: PositiveInt
    nu_grad_penalty: NonNegative
    cql_weight: NonNegative
    critic_hidden_dim: PositiveInt
    critic_lr: Positive

    @model_validator(mode="after")
    def _check_method(self) -> "AlberDICEConfig":
        if self.share_parameters:
            raise ValueError(
                "AlberDICE updates one agent while its teammates do not change: "
                "it needs share_parameters=False"
            )
        if self.gamma == 1:
            raise ValueError("AlberDICE's distributions are discounted: it needs gamma below 1")
        return self


class AlberDICELearner(BaseLearner):
    """One round: in the order of their numbers, agents respond to their teammates' policies."""

    Config = AlberDICEConfig
    behaviour_models = ("individual", "autoregressive")
    args: AlberDICEConfig

    def __init__(self, args: AlberDICEConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        width = args.critic_hidden_dim
        self.nu = LocalCritics(info, width, "state", shared=False, outputs=1).to(self.device)
        self.advantages = LocalCritics(info, width, "state", shared=False).to(self.device)
        self.modules |= {"nu": self.nu, "advantages": self.advantages}
        self.optimisers_of = []
        for i, policy in enumerate(mac.agents):
            rates = {
                policy: args.lr,
                self.nu.critics[i]: args.critic_lr,
                self.advantages.critics[i]: args.critic_lr,
            }
            self.optimisers_of.append(self.adam(f"agent_{i}", rates))

    def alpha(self, update: int) -> float:
        """The temperature at an update."""
        args = self.args
        return exponential_decay(args.alpha_start, args.alpha_end, args.alpha_decay_steps, update)

    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        """One update of every agent, one after the other, on one batch."""
        batch = buffer.sample(self.args.batch_size)
        steps = without_final_row(batch)
        with th.no_grad():
            log_pi = self.mac.log_probs(steps)  # [B, T, N, A]
        stats: Stats = {}
        for i in range(self.info.n_agents):
            stats |= self.update_agent(i, batch, log_pi, buffer.termination_rate, with_stats)
            if i < self.info.n_agents - 1:
                with th.no_grad():
                    response = self.mac.log_probs(steps, slice(i, i + 1))
                log_pi = th.cat([log_pi[:, :, :i], response, log_pi[:, :, i + 1 :]], dim=2)
        self.updates += 1
        return stats

    def update_agent(
        self,
        i: int,
        batch: Batch,
        log_pi: Tensor,
        termination_rate: float,
        with_stats: bool,
    ) -> Stats:
        """One update of nu_i, e_i and pi^i.

        Args:
            log_pi: log pi^j(. | o^j) of all agents as they are now, [B, T, N, A].
            termination_rate: terminations per step of the dataset.
        """
        args = self.args
        alpha = self.alpha(self.updates)
        steps = without_final_row(batch)
        filled = steps["filled"]
        log_rho = self._log_importance_ratio(i, steps, log_pi)  # (1)
        weights = log_rho.masked_fill(~filled, -th.inf).flatten().softmax(dim=0).view_as(log_rho)
        divergence = self._teammates_divergence(i, steps, log_pi)

        nu = self.nu.critics[i](batch["state"]).squeeze(-1)  # [B, T+1]
        reward, terminated = batch["reward"], batch["terminated"]
        error = temporal_difference(reward, terminated, divergence, nu, alpha, args.gamma)  # (2)
        nu = nu[:, :-1]
        loss_nu = nu_loss(error, nu, log_rho, filled, alpha, args.gamma, termination_rate)  # (3)
        if args.nu_grad_penalty:
            loss_nu = loss_nu + args.nu_grad_penalty * self._gradient_penalty(i, steps)

        e = self.advantages.critics[i](steps["state"])  # [B, T, A]
        taken, available = steps["actions"][:, :, i], steps["avail_actions"][:, :, i]
        error = error.detach()
        loss_e = advantage_loss(e, error, taken, available, weights, args.cql_weight)  # (4)
        log_policy = self.mac.log_probs(steps, slice(i, i + 1)).squeeze(2)  # [B, T, A]
        log_behaviour = steps["behaviour_log_probs"][:, :, i]
        loss_pi = policy_loss(log_policy, e.detach(), log_behaviour, weights, alpha)  # (5)
        self.step(self.optimisers_of[i], loss_nu + loss_e + loss_pi)

        if not with_stats:
            return {}
        stats = {"nu_loss": loss_nu, "advantage_loss": loss_e, "policy_loss": loss_pi}
        stats["nu"] = masked_mean(nu.detach(), filled)
        stats["teammates_divergence"] = masked_mean(divergence, filled)
        kl = kl_divergence(log_policy.detach(), log_behaviour)
        stats["kl_to_behaviour"] = masked_mean(kl, filled)
        stats["policy_entropy"] = masked_mean(entropy(log_policy.detach()), filled)
        stats["alpha"] = th.tensor(alpha)
        stats["ratio_ess"] = 1 / weights.square().sum() / filled.sum()  # Kish
        return {f"{name}/agent_{i}": value.item() for name, value in stats.items()}

    def _log_importance_ratio(self, i: int, steps: Batch, log_pi: Tensor) -> Tensor:
        """log rho_i at the batch's steps (1), [B, T]."""
        taken = gather_last(log_pi, steps["actions"])
        teammates_log_prob = steps["teammates_log_prob"][:, :, i]
        return log_importance_ratio(taken, teammates_log_prob, i, self.args.ratio_max)

    @th.no_grad()
    def _teammates_divergence(self, i: int, steps: Batch, log_pi: Tensor) -> Tensor:
        """The KL in (2) at the batch's steps, [B, T]."""
        return teammates_divergence(
            log_pi,
            steps,
            agent=i,
            model=self.behaviour.joint,
            samples=self.args.kl_samples,
            generator=self.generator,
        )

    def _gradient_penalty(self, i: int, steps: Batch) -> Tensor:
        """The last term of (3)."""
        critic = self.nu.critics[i]
        return gradient_penalty(critic, steps["state"], steps["filled"], self.generator)
