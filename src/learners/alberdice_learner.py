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
* An agent's three losses see its networks as before the round. All policies take their steps first,
  in turn, since no policy depends on a teammate's nu or e. Then all nu_i and e_i take theirs at
  once, each with the ratio and the divergence of its agent's turn.
* The gradient penalty has at most 256 points of a batch, the same for all agents.
* e_i(s, .) is one network with an output per action. The code's takes the action as an input.

The losses are in alberdice_losses.py.

Alternation needs separate policies: `share_parameters` is refused. Policies may be recurrent
(`agent=rnn`, whole episodes). (2) to (4) concern states. (5) projects onto policies of histories
just as onto policies of observations, and the ratios and divergences only need the policies along
the data's histories. (The released code offers a transformer over histories instead.)
"""

from dataclasses import dataclass

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
    step_weights,
    teammates_divergence,
    temporal_difference,
)
from inspo.learners.base_learner import BaseLearner, Stats, per_agent, to_floats
from inspo.modules.critics import LocalCritics
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import BehaviourConfig, NonNegative, Positive, PositiveInt
from inspo.utils.rl_utils import (
    entropy,
    exponential_decay,
    gather_last,
    kl_divergence,
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


@dataclass
class Responses:
    """What is left of the policies' turns."""

    before: Tensor  # log pi^j(. | o^j) before agent j's turn, [B, T, N, A]
    after: Tensor  # and after it; the last agent's is that before it, since nobody sees it
    log_rho: Tensor  # of each agent in its turn, [B, T, N]
    losses: Tensor  # [N]


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
        """One update of every agent, on one batch."""
        batch, alpha = self.sample(buffer), self.alpha(self.updates)
        stats = self.compute(self.update, batch, alpha, buffer.termination_rate, with_stats)
        self.updates += 1
        return to_floats(stats)

    def update(
        self, batch: Batch, alpha: float, termination_rate: float, with_stats: bool
    ) -> dict[str, Tensor]:
        """All gradient steps. Returns metrics if `with_stats`.

        Args:
            alpha: the temperature.
            termination_rate: the share of the dataset's steps that are terminal.
        """
        args = self.args
        steps = without_final_row(batch)
        filled = steps["filled"]
        e = self.advantages.values(steps)  # [B, T, N, A]
        turns = self.update_policies(steps, e.detach(), alpha)
        weights = step_weights(turns.log_rho, filled)
        divergence = self._teammates_divergence(steps, turns)

        nu = self.nu.values(batch).squeeze(-1)  # [B, T+1, N]
        reward, terminated = batch["reward"], batch["terminated"]
        error = temporal_difference(reward, terminated, divergence, nu, alpha, args.gamma)  # (2)
        nu, log_rho = nu[:, :-1], turns.log_rho
        loss_nu = nu_loss(error, nu, log_rho, filled, alpha, args.gamma, termination_rate)  # (3)
        if args.nu_grad_penalty:
            networks = [*self.nu.critics]
            penalty = gradient_penalty(networks, steps["state"], filled, self.generator)
            loss_nu = loss_nu + args.nu_grad_penalty * penalty
        taken, available = steps["actions"], steps["avail_actions"]
        loss_e = advantage_loss(
            e, error.detach(), taken, available, weights, args.cql_weight
        )  # (4)
        self.step_all(self.optimisers_of, (loss_nu + loss_e).sum())
        if not with_stats:
            return {}
        losses = {"nu_loss": loss_nu, "advantage_loss": loss_e, "policy_loss": turns.losses}
        means = {"nu": nu.detach(), "teammates_divergence": divergence}
        return self._stats(steps, turns.before, weights, losses, means, alpha)

    def update_policies(self, steps: Batch, e: Tensor, alpha: float) -> Responses:
        """The policies' steps, one agent after the other: each sees the new policies before it.

        Args:
            e: e_j(s, .) of all agents, without gradient, [B, T, N, A].
        """
        actions, log_behaviour = steps["actions"], steps["behaviour_log_probs"]
        agents = [slice(i, i + 1) for i in range(self.info.n_agents)]
        own = [self.mac.log_probs(steps, agent) for agent in agents]  # [B, T, 1, A] each
        before = th.cat(own, dim=2).detach()
        after = before.clone()
        log_rhos, losses = [], []
        for i, agent in enumerate(agents):
            log_rho = self._log_importance_ratio(i, steps, gather_last(after, actions))  # (1)
            weights = step_weights(log_rho, steps["filled"])
            behaviour = log_behaviour[:, :, i]
            loss = policy_loss(own[i].squeeze(2), e[:, :, i], behaviour, weights, alpha)  # (5)
            self.step(self.optimisers_of[i], loss)
            if i < self.info.n_agents - 1:
                with th.no_grad():
                    after[:, :, agent] = self.mac.log_probs(steps, agent)
            log_rhos.append(log_rho)
            losses.append(loss.detach())
        return Responses(before, after, th.stack(log_rhos, dim=-1), th.stack(losses))

    def _stats(
        self,
        steps: Batch,
        log_pi: Tensor,
        weights: Tensor,
        losses: dict[str, Tensor],
        means: dict[str, Tensor],
        alpha: float,
    ) -> dict[str, Tensor]:
        """Metrics of all agents; docs/metrics.md explains each one.

        Args:
            log_pi: before the turns, [B, T, N, A].
            losses: [N] each.
            means: values whose means are metrics, [B, T, N] each.
        """
        filled = steps["filled"]
        n_steps = filled.sum()
        kl = kl_divergence(log_pi, steps["behaviour_log_probs"])
        means = {**means, "kl_to_behaviour": kl, "policy_entropy": entropy(log_pi)}
        stats = losses | {
            name: (values * filled[..., None]).sum(dim=(0, 1)) / n_steps
            for name, values in means.items()
        }
        stats["alpha"] = th.zeros_like(losses["nu_loss"]) + alpha
        stats["ratio_ess"] = 1 / weights.square().sum(dim=(0, 1)) / n_steps  # Kish
        return per_agent(stats, range(self.info.n_agents))

    def _log_importance_ratio(self, i: int, steps: Batch, log_pi_taken: Tensor) -> Tensor:
        """log rho_i at the batch's steps (1), [B, T], from log pi^j(a^j | o^j), [B, T, N]."""
        teammates_log_prob = steps["teammates_log_prob"][:, :, i]
        return log_importance_ratio(log_pi_taken, teammates_log_prob, i, self.args.ratio_max)

    @th.no_grad()
    def _teammates_divergence(self, steps: Batch, turns: Responses) -> Tensor:
        """The KL in (2) at the batch's steps, [B, T, N]."""
        return teammates_divergence(
            turns.before,
            turns.after,
            steps,
            model=self.behaviour.joint,
            samples=self.args.kl_samples,
            generator=self.generator,
        )
