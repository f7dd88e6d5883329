"""AlberDICE: alternating best responses by stationary distribution correction (Matsunaga, Lee et al., NeurIPS 2023).

In turn, each agent finds the stationary distribution that is best while its teammates keep their policies, and projects it
onto its own policy. Shapes: B batch, T time, N agents, A actions. With rho the teammates' importance ratio, for agent i:

    (1)  rho_i(s, a)    = prod_{j != i} pi^j(a^j | o^j) / pi^D(a^-i | s, a^i)
    (2)  e_i(s, a, s')  = r - alpha KL(pi^-i(. | s) || pi^D(. | s, a^i)) + gamma nu_i(s') - nu_i(s)
    (3)  L(nu_i)        = (1 - gamma) E[ nu_i(s_0) ] + alpha log E_D[ rho_i exp(e_i / alpha) ]
                          + c_gp E[ |grad nu_i(s)|^2 ]
    (4)  L(e_i)         = E_{D, rho}[ (e_i(s, a^i) - e_i(s, a, s'))^2
                          + c_cql (log sum_a exp e_i(s, a) - e_i(s, a^i)) ]
    (5)  L(pi^i)        = E_{D, rho}[ alpha KL(pi^i || pi^D_i) - E_{pi^i}[ e_i(s, .) ] ]

(5) is least at pi^D_i exp(e_i / alpha), normalised: the policy of the corrected distribution (an I-projection).

    symbol         meaning                                             setting
    nu_i, e_i(.)   Lagrange multipliers of the flow, and advantages    critic_hidden_dim, critic_lr
    pi^D_i         the clone of agent i, frozen                        behaviour_*
    pi^D(.|s,a^i)  the autoregressive model of the teammates, frozen       behaviour_*
    alpha          temperature, falls geometrically                    alpha_start, alpha_end, alpha_decay_steps
    c_gp, c_cql                                                        nu_grad_penalty, cql_weight

What the released code does otherwise, and why this does not:

* Absorbing states. A game that ended goes on in an absorbing state without reward or choice. The code pads each
  episode with copies of it to a fixed length, and how many there are is an accident of the padding. Here they are
  exact: (3) does not change with a constant added to nu_i, so nu_i is 0 in the absorbing state, e_i is 0 there as well,
  and the copies, discounted, weigh gamma / (1 - gamma) steps for each termination. Nothing is stored.
* The code starts (1 - gamma) E[ nu_i ] from all states including the copies; here from all of the data's real ones.
* Steps are weighted by rho_i. The code resamples the batch in proportion to it: the same expectation, with noise.
* KL(pi^-i || pi^D) is the sum over teammates of exact divergences over their actions; only the earlier teammates' actions that
  pi^D's factors are conditioned on are sampled. The code samples all actions, and conditions on the dataset's, which is
  another quantity for three agents and more.
* The conservative term of (4) is that of the reweighted data. The code's has E_{pi^D_i}[ e_i(s, .) ] in place of
  e_i(s, a^i). As long as the teammates play what the data has beside each a^i, rho_i averages to 1 there and the two are
  the same in expectation. Once they have left it, rho_i is 0 beside that a^i: no TD error holds e_i down, and the
  code's term pulls it up to the share that the action has in the data, which leads the agent back to joint actions
  that the data does not have. On Bridge a run with it comes undone earlier as alpha falls.
* The clones are trained first and frozen, as InSPO's, not along with the policies.
* Log-sum-exps run over available actions. Padding is masked everywhere.
* The three losses of an agent take their gradient step together; each sees the others as they were before it.
* e_i(s, .) is one network with an output for each action, where the code puts the action in.

Alternation is the method: agents share no parameters, and `share_parameters` is refused. Policies may be recurrent
(`agent=rnn`, whole episodes): the flow (2)-(4) is one of states, and (5) projects its solution onto policies of
histories just as it does onto policies of observations; the ratios and divergences only ask what the policies do along
the data's histories. (The released code offers a transformer over histories for the same place.)
"""

import math

import torch as th
from pydantic import model_validator
from torch import Tensor, nn

from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.base_learner import BaseLearner, Stats
from inspo.modules.behaviour import AutoregressiveBehaviour
from inspo.modules.critics import LocalCritics
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import BehaviourConfig, NonNegative, Positive, PositiveInt
from inspo.utils.rl_utils import entropy, gather_last, kl_divergence, masked_logsumexp, masked_mean


class AlberDICEConfig(BehaviourConfig):
    """AlberDICE's own settings; `config/algs/alberdice.yaml` says what each one does."""

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
    def _what_the_method_needs(self) -> "AlberDICEConfig":
        if self.share_parameters:
            raise ValueError(
                "AlberDICE improves one agent while its teammates stay as they are: it needs share_parameters=False"
            )
        if self.gamma == 1:
            raise ValueError(
                "AlberDICE's stationary distributions are discounted: it needs gamma below 1"
            )
        return self


# --- the losses, in the order above


def log_importance_ratio(
    log_pi_taken: Tensor, teammates_log_prob: Tensor, agent: int, ratio_max: float
) -> Tensor:
    """log rho_i (1), at most log `ratio_max`.

    Args:
        log_pi_taken: log pi^j(a^j | o^j) of the actions taken, [B, T, N].
        teammates_log_prob: log pi^D(a^-i | s, a^i), [B, T].
        agent: i.

    Returns:
        [B, T].
    """
    teammates = [j for j in range(log_pi_taken.shape[-1]) if j != agent]
    return (log_pi_taken[..., teammates].sum(dim=-1) - teammates_log_prob).clamp(
        max=math.log(ratio_max)
    )


def teammates_divergence(
    log_pi: Tensor,
    batch: Batch,
    agent: int,
    model: AutoregressiveBehaviour,
    samples: int,
    generator: th.Generator,
) -> Tensor:
    """KL(pi^-i(. | s) || pi^D(. | s, a^i)) of (2), at the batch's s and a^i.

    It is sum_{j != i} E[ KL(pi^j || pi^D(. | s, a^i, a^k: k before j)) ] over the earlier teammates' a^k ~ pi^k.

    Args:
        log_pi: log pi^j(. | o^j) of all agents, [B, T, N, A].
        samples: how often the earlier teammates' actions are drawn. With a single teammate there are none to draw.

    Returns:
        [B, T].
    """
    n_agents = log_pi.shape[2]
    teammates = [j for j in range(n_agents) if j != agent]
    draws = samples if n_agents > 2 else 1
    state, actions, available, log_pi = (
        rows.flatten(0, 1).repeat(draws, *(1,) * (rows.dim() - 2))
        for rows in (batch["state"], batch["actions"], batch["avail_actions"], log_pi)
    )
    if n_agents > 2:
        drawn = th.multinomial(log_pi.exp().flatten(0, 1), 1, generator=generator).view(
            actions.shape
        )
        actions = th.where(th.arange(n_agents, device=actions.device) == agent, actions, drawn)
    who = th.full((len(state),), agent, device=state.device)
    log_behaviour = model.conditionals(who, state, actions, available)  # [draws * B * T, N-1, A]
    divergence = kl_divergence(log_pi[:, teammates], log_behaviour).sum(dim=-1)
    return divergence.view(draws, *batch["filled"].shape).mean(dim=0)


def temporal_difference(
    reward: Tensor, terminated: Tensor, divergence: Tensor, nu: Tensor, alpha: float, gamma: float
) -> Tensor:
    """e_i(s, a, s') (2). What follows a terminated step is the absorbing state, where nu_i is 0.

    Args:
        reward, terminated, divergence: [B, T].
        nu: nu_i(s) at all rows, [B, T+1].

    Returns:
        [B, T].
    """
    goes_on = 1 - terminated.to(reward.dtype)
    return reward - alpha * divergence + gamma * goes_on * nu[:, 1:] - nu[:, :-1]


def nu_loss(
    error: Tensor,
    nu: Tensor,
    log_rho: Tensor,
    filled: Tensor,
    alpha: float,
    gamma: float,
    termination_rate: float,
) -> Tensor:
    """L(nu_i) (3) without the penalty; the absorbing state takes part with e_i = 0 and rho_i = 1.

    Args:
        error: e_i(s, a, s') of (2), [B, T], with its gradient through both nu_i.
        nu: nu_i(s), [B, T]; log_rho, filled: [B, T].
        termination_rate: terminations in the dataset for each of its steps.
    """
    absorbing = termination_rate * gamma / (1 - gamma)  # its weight beside each real step's 1
    steps = filled.sum()
    exponents = (log_rho + error / alpha).masked_fill(~filled, -th.inf).flatten()
    tail = (absorbing * steps).log().view(1)
    log_mean = th.cat([exponents, tail]).logsumexp(dim=0) - ((1 + absorbing) * steps).log()
    return (1 - gamma) * masked_mean(nu, filled) + alpha * log_mean


def gradient_penalty(
    nu: nn.Module, state: Tensor, filled: Tensor, generator: th.Generator
) -> Tensor:
    """E[ |grad nu_i(s)|^2 ] of (3), at random points between pairs of the batch's states. Takes state [B, T, S]."""
    state, filled = state.flatten(0, 1), filled.flatten()
    other = th.randperm(len(state), generator=generator, device=state.device)
    share = th.rand(len(state), 1, generator=generator, device=state.device)
    between = (share * state + (1 - share) * state[other]).requires_grad_()
    (slope,) = th.autograd.grad(nu(between).sum(), between, create_graph=True)
    return masked_mean(slope.square().sum(dim=-1), filled & filled[other])


def advantage_loss(
    e: Tensor,
    error: Tensor,
    actions: Tensor,
    available: Tensor,
    weights: Tensor,
    cql_weight: float,
) -> Tensor:
    """L(e_i) (4).

    Args:
        e: e_i(s, .), [B, T, A]; available: bool, alike.
        error: e_i(s, a, s'), actions: a^i, and weights: rho_i over real steps, adding up to 1, all [B, T].
    """
    chosen_e = gather_last(e, actions)
    conservatism = masked_logsumexp(e, available) - chosen_e
    loss = (chosen_e - error).square() + cql_weight * conservatism
    return (loss * weights).sum()


def policy_loss(
    log_pi: Tensor, e: Tensor, log_behaviour: Tensor, weights: Tensor, alpha: float
) -> Tensor:
    """L(pi^i) (5). Takes log pi^i, e_i and log pi^D_i, [B, T, A]; weights as in `advantage_loss`."""
    loss = alpha * kl_divergence(log_pi, log_behaviour) - (log_pi.exp() * e).sum(dim=-1)
    return (loss * weights).sum()


# --- the algorithm


class AlberDICELearner(BaseLearner):
    """One round: every agent in the order of its number answers the policies that its teammates have now."""

    Config = AlberDICEConfig
    behaviour_models = ("individual", "autoregressive")
    args: AlberDICEConfig

    def __init__(self, args: AlberDICEConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        width = args.critic_hidden_dim
        self.nu = LocalCritics(info, width, "state", shared=False, outputs=1).to(self.device)
        self.advantages = LocalCritics(info, width, "state", shared=False).to(self.device)
        self.modules |= {"nu": self.nu, "advantages": self.advantages}
        networks = zip(mac.agents, self.nu.critics, self.advantages.critics, strict=True)
        self.optimisers_of = [
            self.adam(f"agent_{i}", {policy: args.lr, nu: args.critic_lr, e: args.critic_lr})
            for i, (policy, nu, e) in enumerate(networks)
        ]

    def alpha(self, update: int) -> float:
        """The temperature at an update."""
        args = self.args
        progress = min(update / args.alpha_decay_steps, 1.0)
        return args.alpha_start * (args.alpha_end / args.alpha_start) ** progress

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
                    answer = self.mac.log_probs(steps, slice(i, i + 1))
                log_pi = th.cat([log_pi[:, :, :i], answer, log_pi[:, :, i + 1 :]], dim=2)
        self.updates += 1
        return stats

    def update_agent(
        self, i: int, batch: Batch, log_pi: Tensor, termination_rate: float, with_stats: bool
    ) -> Stats:
        """One update of agent `i`'s nu, e and policy, given log pi^j(. | o^j) of all agents now, [B, T, N, A]."""
        args, filled, steps = self.args, batch["filled"], without_final_row(batch)
        actions, available = steps["actions"], steps["avail_actions"][:, :, i]
        log_behaviour = steps["behaviour_log_probs"][:, :, i]
        alpha = self.alpha(self.updates)

        taken = gather_last(log_pi, actions)
        log_rho = log_importance_ratio(
            taken, steps["teammates_log_prob"][:, :, i], i, args.ratio_max
        )  # (1)
        weights = log_rho.masked_fill(~filled, -th.inf).flatten().softmax(dim=0).view_as(log_rho)
        with th.no_grad():
            divergence = teammates_divergence(
                *(log_pi, steps, i, self.behaviour.joint, args.kl_samples, self.generator)
            )

        nu = self.nu.critics[i](batch["state"]).squeeze(-1)  # [B, T+1]
        error = temporal_difference(
            batch["reward"], batch["terminated"], divergence, nu, alpha, args.gamma
        )  # (2)
        flow = (error, nu[:, :-1], log_rho, filled)
        loss_nu = nu_loss(*flow, alpha, args.gamma, termination_rate)  # (3)
        if args.nu_grad_penalty:
            penalty = gradient_penalty(self.nu.critics[i], steps["state"], filled, self.generator)
            loss_nu = loss_nu + args.nu_grad_penalty * penalty

        error = error.detach()
        e = self.advantages.critics[i](steps["state"])  # [B, T, A]
        loss_e = advantage_loss(
            e, error, actions[:, :, i], available, weights, args.cql_weight
        )  # (4)
        log_policy = self.mac.log_probs(steps, slice(i, i + 1)).squeeze(2)  # [B, T, A]
        loss_pi = policy_loss(log_policy, e.detach(), log_behaviour, weights, alpha)  # (5)
        self.step(
            self.optimisers_of[i], loss_nu + loss_e + loss_pi
        )  # networks without a common parameter

        if not with_stats:
            return {}
        stats = {
            "nu_loss": loss_nu,
            "advantage_loss": loss_e,
            "policy_loss": loss_pi,
            "nu": masked_mean(nu[:, :-1].detach(), filled),
            "teammates_divergence": masked_mean(divergence, filled),
            "kl_to_behaviour": masked_mean(
                kl_divergence(log_policy.detach(), log_behaviour), filled
            ),
            "policy_entropy": masked_mean(entropy(log_policy.detach()), filled),
            "alpha": th.tensor(alpha),
            "ratio_ess": 1 / weights.square().sum() / filled.sum(),
        }
        return {f"{name}/agent_{i}": value.item() for name, value in stats.items()}
