"""InSPO: In-Sample Sequential Policy Optimization (Liu et al., AAAI 2025), the practical algorithm.

Equation numbers are the paper's. Shapes: B batch, T time, N agents, A actions.

    symbol       meaning                                   setting
    pi^i         policy, from the history tau^i            agent, hidden_dim
    pibar, Qbar  soft targets of policy and value          tau
    Q^i(s, .)    local value of agent i's own action       critic_inputs, critic_hidden_dim, critic_lr
    mu^i, mu_ar  frozen behaviour models                   behaviour_*
    rho          importance ratio of the teammates' actions    ratio, log_ratio_min, log_ratio_max
    alpha        temperature towards the data              alpha: a number, or tuned (alpha_start, alpha_lr, kl_target)
    beta         temperature of the entropy                beta: a number, or decaying (beta_start, beta_end,
                                                                                        beta_decay_steps)

A learner step is a round: in a fresh order, each agent has `updates_per_agent` updates, the k-th of every agent on the
round's k-th batch. A round's cost grows linearly with the number of agents: the log probabilities of all agents on
those batches are computed once, and later only for the agent whose policy has just changed. (Where agents share
parameters, a turn changes the others' policies a little, too; the next round sees it.)

Unlike the paper, an agent's policy sees its values as they were before this update, which saves a pass through the
critic. With one update for each agent, the round then needs no loop over agents: policies improve all at once, because
none looks at another's; the order only decides which of them, old or new, an agent's ratio sees when its value learns.
"""

from copy import deepcopy
from math import log
from typing import Any, Literal

import torch as th
from pydantic import model_validator
from torch import Tensor, nn

from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import ALL_AGENTS, BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.base_learner import BaseLearner, Stats
from inspo.modules.critics import LocalCritics
from inspo.utils.batch import Batch, without_final_row
from inspo.utils.config import (
    BehaviourConfig,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    ValueConfig,
)
from inspo.utils.rl_utils import (
    entropy,
    gather_last,
    kl_divergence,
    lambda_returns,
    masked_logsumexp,
    soft_update,
)


class InSPOConfig(BehaviourConfig, ValueConfig):
    """InSPO's own settings; `config/algs/inspo.yaml` says what each one does."""

    order: Literal["random", "fixed", "semi_greedy"]
    update_scheme: Literal["sequential", "simultaneous"]
    updates_per_agent: PositiveInt
    ratio: Literal["geometric", "plain"]
    log_ratio_min: float
    log_ratio_max: float

    cql_weight: NonNegative
    td_lambda: Fraction

    teammates_model: Literal["autoregressive", "chain"]
    policy_data: Literal["dataset", "resampled"]
    weight_max: Positive

    alpha: NonNegative | Literal["tuned"]
    alpha_start: Positive
    alpha_lr: Positive
    kl_target: NonNegative
    beta: NonNegative | Literal["decaying"]
    beta_start: Positive
    beta_end: Positive
    beta_decay_steps: PositiveInt | None

    @model_validator(mode="before")
    @classmethod
    def _no_decay_without_need(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values if values.get("beta") == "decaying" else {**values, "beta_decay_steps": None}

    @model_validator(mode="after")
    def _temperatures(self) -> "InSPOConfig":
        if self.alpha == 0 and self.beta == 0:
            raise ValueError(
                "alpha and beta are both 0: the policy's target divides by their sum; make one positive"
            )
        if self.beta == "decaying" and self.beta_decay_steps is None:
            raise ValueError("beta=decaying needs beta_decay_steps: a number, or t_max")
        if self.t_max % self.updates_per_agent:
            raise ValueError(
                f"t_max={self.t_max} must be a multiple of updates_per_agent={self.updates_per_agent}"
            )
        if self.td_lambda and self.batch_unit != "episodes":
            raise ValueError(
                f"td_lambda={self.td_lambda} needs batch_unit=episodes: a transition does not know what came next"
            )
        if self.log_ratio_min > self.log_ratio_max:
            raise ValueError(
                f"log_ratio_min={self.log_ratio_min} is above log_ratio_max={self.log_ratio_max}"
            )
        return self


# --- the losses, in the paper's order


def teammates_log_pi_in(order: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """sum_{j != i} log pi^j(a^j | tau^j): of teammates before i in the order updated, of those after i not yet.

    Args:
        order: the agents' numbers, int [N].
        before, after: log pi^j(a^j | tau^j) before and after agent j's update, [B, T, N].

    Returns:
        for every agent i, [B, T, N].
    """
    before, after = before[..., order], after[..., order]
    earlier = after.cumsum(dim=-1) - after
    later = before.sum(dim=-1, keepdim=True) - before.cumsum(dim=-1)
    return (earlier + later)[..., order.argsort()]


def log_importance_ratio(
    teammates_log_pi: Tensor, teammates_log_prob: Tensor, n_agents: int, geometric: bool
) -> Tensor:
    """log rho = sum_{j != i} log pi^j(a^j | tau^j) - log mu_ar(a^-i | s, a^i)   (Eq. 14).

    Args:
        teammates_log_pi: the sum, of any shape.
        teammates_log_prob: log mu_ar(a^-i | s, a^i), of that shape.
        geometric: divide by N - 1, so that rho becomes a geometric mean over the teammates (Eq. 23).
    """
    log_rho = teammates_log_pi - teammates_log_prob
    return log_rho / max(n_agents - 1, 1) if geometric else log_rho


def resample(rho: Tensor, filled: Tensor, generator: th.Generator) -> Tensor:
    """D_rho: as many draws as there are real steps, with replacement, with probability proportional to rho (Eq. 15).

    Args:
        rho: of each agent, [B, T, N]; filled: [B, T].

    Returns:
        how often each step was drawn, [B, T, N]. A mean over D_rho is the mean weighted by these counts.
    """
    # Policies that diverged stop the run where metrics are read; drawing with NaN here would take a GPU down first.
    probabilities = (rho.nan_to_num(nan=1.0) * filled[..., None]).flatten(0, 1).T
    draws = th.multinomial(
        probabilities, int(filled.sum()), replacement=True, generator=generator
    )  # [N, draws]
    counts = th.zeros_like(probabilities).scatter_add_(
        1, draws, th.ones_like(draws, dtype=rho.dtype)
    )
    return counts.T.view_as(rho)


def value_target(
    reward: Tensor,
    terminated: Tensor,
    filled: Tensor,
    next_q: Tensor,
    next_log_pi: Tensor,
    next_log_mu: Tensor,
    alpha: Tensor,
    beta: float,
    gamma: float,
    td_lambda: float,
) -> Tensor:
    """y = r + gamma E_{a' ~ pibar^i} [ Qbar^i(s', a') - alpha log(pibar^i / mu^i) - beta log pibar^i ]   (Eq. 24).

    The teammates' regularisers are left out, as in the paper. Nothing follows a terminated step. With td_lambda > 0, which
    the paper has not, part of what follows is taken from the episode as it was played (Peng's Q(lambda), without
    correction): in long episodes values are there sooner, and lean towards the behaviour's.

    Args:
        reward, terminated, filled: [B, T].
        next_q, next_log_pi, next_log_mu: Qbar^i, log pibar^i and log mu^i at the next step, [B, T, N, A].
        alpha: of each agent, [N].

    Returns:
        [B, T, N].
    """
    regularised = next_q - alpha[:, None] * (next_log_pi - next_log_mu) - beta * next_log_pi
    next_value = (next_log_pi.exp() * regularised).sum(dim=-1)
    return lambda_returns(reward, terminated, filled, next_value, gamma, td_lambda)


def value_loss(
    q: Tensor, actions: Tensor, available: Tensor, target: Tensor, counts: Tensor, cql_weight: float
) -> Tensor:
    """L(Q^i) = E_{D_rho} [ (Q^i(s, a^i) - y)^2 + c_cql (logsumexp_a Q^i(s, a) - Q^i(s, a^i)) ]   (Eq. 24).

    The second term (CQL) is what pulls down an action whose teammates' replies have left D_rho: no TD error reaches it.

    Args:
        q: [B, T, N, A]; actions, target, counts: [B, T, N]; available: bool [B, T, N, A], over which logsumexp runs.

    Returns:
        of each agent, [N].
    """
    chosen_q = gather_last(q, actions)
    conservatism = masked_logsumexp(q, available) - chosen_q
    loss = (chosen_q - target).square() + cql_weight * conservatism
    return (loss * counts).sum(dim=(0, 1)) / counts.sum(dim=(0, 1))


def advantage(
    q: Tensor, log_target_pi: Tensor, log_mu: Tensor, actions: Tensor, beta: float
) -> Tensor:
    """A^i(s, a^i) of score(s, a) = Q^i(s, a) - beta log mu^i(a | tau^i), against its mean under pibar^i (below Eq. 20).

    Args:
        q, log_target_pi, log_mu: [B, T, N, A]; actions: [B, T, N].

    Returns:
        [B, T, N].
    """
    score = q - beta * log_mu
    # Where pibar is 0 an unavailable action's log mu would still be huge: leave it out of the sum.
    target_pi = log_target_pi.exp()
    baseline = (target_pi * score.masked_fill(target_pi == 0, 0.0)).sum(dim=-1)
    return gather_last(score, actions) - baseline


def policy_loss(
    log_pi_taken: Tensor,
    advantages: Tensor,
    temperature: Tensor,
    weights: Tensor,
    weight_max: float,
) -> Tensor:
    """L(pi^i) = - E [ exp(A^i(s, a^i) / (alpha + beta)) log pi^i(a^i | tau^i) ]   (Eq. 20).

    The minimiser over distributions is mu^{alpha/(alpha+beta)} exp(Q/(alpha+beta)), normalised: the quantal response of
    Eq. 12. Only actions of the dataset are evaluated.

    Args:
        log_pi_taken, advantages: [B, T, N].
        temperature: alpha + beta of each agent, [N].
        weights: of the steps in the expectation, [B, T, N]: `filled`, or the counts of D_rho.
        weight_max: bound on exp(A / (alpha + beta)).

    Returns:
        of each agent, [N].
    """
    exponent = (advantages / temperature).clamp(max=log(weight_max))
    return -(exponent.exp().detach() * log_pi_taken * weights).sum(dim=(0, 1)) / weights.sum(
        dim=(0, 1)
    )


def temperature_loss(log_alpha: Tensor, kl: Tensor, kl_target: float) -> Tensor:
    """L(alpha) = alpha (KL_target - E_D [ KL(pi^i || mu^i) ]): alpha grows when the policy strays too far (Eq. 25)."""
    return log_alpha.exp() * (kl_target - kl.detach())


# --- the algorithm


class InSPOLearner(BaseLearner):
    """Algorithm 1 in its practical form: agents improve one by one, on data resampled to their teammates' new policies."""

    Config = InSPOConfig
    args: InSPOConfig

    def __init__(self, args: InSPOConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.behaviour_models = ("individual", args.teammates_model)
        self.steps_per_round = args.updates_per_agent
        # Whether all agents can have their one update at once; see the top of this file.
        self.all_at_once = (
            args.updates_per_agent == 1
            and args.policy_data == "dataset"
            and not args.share_parameters
        )
        self.target_mac = deepcopy(mac).requires_grad_(False)
        critics = LocalCritics(
            info, args.critic_hidden_dim, args.critic_inputs, shared=args.share_parameters
        )
        self.critics = critics.to(self.device)
        self.target_critics = deepcopy(self.critics).requires_grad_(False)
        alpha = args.alpha_start if args.alpha == "tuned" else args.alpha
        log_alpha = th.tensor(alpha, device=self.device).log()
        self.temperatures = nn.ParameterList(
            nn.Parameter(log_alpha.clone()) for _ in range(info.n_agents)
        )
        self.modules |= {
            "target_mac": self.target_mac,
            "critics": self.critics,
            "target_critics": self.target_critics,
        }
        self.modules |= {"temperatures": self.temperatures}

        networks = list(
            zip(mac.agents, self.critics.critics, strict=True)
        )  # one pair if agents share parameters
        if self.all_at_once:
            self.policy_optimiser = self.adam("policies", {agent: args.lr for agent, _ in networks})
            self.value_optimiser = self.adam(
                "critics", {critic: args.critic_lr for _, critic in networks}
            )
        else:
            self.optimiser_of = [
                self.adam(f"agent_{k}", {agent: args.lr, critic: args.critic_lr})
                for k, (agent, critic) in enumerate(networks)
            ]
        self.alpha_optimisers = [
            self.adam(f"alpha_{i}", {self.temperatures[i : i + 1]: args.alpha_lr})
            for i in range(info.n_agents)
        ]
        # Parameters of each policy with its critic, and of their targets: collected once, used at every step.
        targets = zip(self.target_mac.agents, self.target_critics.critics, strict=True)
        self.parameters, self.target_parameters = (
            [[*agent.parameters(), *critic.parameters()] for agent, critic in pairs]
            for pairs in (networks, targets)
        )

    def warm_start(self, behaviour: BasicMAC) -> None:
        """pi^i and pibar^i start as mu^i."""
        super().warm_start(behaviour)
        self.target_mac.load_state_dict(behaviour.state_dict())

    def alpha(self, agents: slice) -> Tensor:
        """The agents' temperatures towards the data, [N'], without gradient."""
        return th.stack([*self.temperatures][agents]).exp().detach()

    def beta(self, update: int) -> float:
        """The entropy's temperature at an update: constant, or decaying exponentially from beta_start to beta_end."""
        if self.args.beta != "decaying":
            return self.args.beta
        progress = min(update / self.args.beta_decay_steps, 1.0)
        return self.args.beta_start * (self.args.beta_end / self.args.beta_start) ** progress

    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        """One round over all agents (Algorithm 1)."""
        batches = [buffer.sample(self.args.batch_size) for _ in range(self.args.updates_per_agent)]
        order = self.agent_order(batches[0])
        stats: Stats = {}
        if self.all_at_once:
            stats = self.update(ALL_AGENTS, batches[0], self.updates, with_stats, order=order)
        else:
            # log pi^j(a^j | tau^j) of all agents as they are now, one [B, T, N] for each batch.
            log_pis = [self.log_pi_taken(batch) for batch in batches]
            for i in order.tolist():
                for k, batch in enumerate(batches):
                    last = k == len(batches) - 1
                    teammates = log_pis[k].sum(dim=-1, keepdim=True) - log_pis[k][..., i : i + 1]
                    agent = slice(i, i + 1)
                    stats |= self.update(
                        agent,
                        batch,
                        self.updates + k,
                        with_stats and last,
                        teammates_log_pi=teammates,
                    )
                if self.args.update_scheme == "sequential" and i != order[-1]:
                    for log_pi, batch in zip(log_pis, batches, strict=True):
                        log_pi[..., i : i + 1] = self.log_pi_taken(batch, agent)
        self.updates += len(batches)
        # Whichever agent came first: columns and colours are the same in all runs.
        return dict(sorted(stats.items(), key=lambda item: int(item[0].rpartition("_")[2])))

    def update(
        self,
        agents: slice,
        batch: Batch,
        update: int,
        with_stats: bool,
        teammates_log_pi: Tensor | None = None,
        order: Tensor | None = None,
    ) -> Stats:
        """One update of values, policies, temperatures and targets: of one agent, or of all at once (N' of them).

        Args:
            update: how many updates each agent had before, for the decay of beta.
            teammates_log_pi: of one agent, sum_{j != i} log pi^j(a^j | tau^j), [B, T, 1].
            order: of all agents, int [N].
        """
        args, filled, steps = self.args, batch["filled"], without_final_row(batch)
        actions, available = steps["actions"][..., agents], steps["avail_actions"][:, :, agents]
        log_mu = batch["behaviour_log_probs"][:, :, agents]  # [B, T+1, N', A]
        alpha, beta = self.alpha(agents), self.beta(update)

        critic_inputs = self.critics.build_inputs(batch, agents)  # [N', B, T+1, I]
        q = self.critics(critic_inputs[:, :, :-1], agents)  # [B, T, N', A]
        with th.no_grad():
            next_q = self.target_critics(critic_inputs[:, :, 1:], agents)
            log_target_pi = self.target_mac.log_probs(batch, agents)  # [B, T+1, N', A]
        log_policy = self.mac.log_probs(steps, agents)  # [B, T, N', A]
        taken = gather_last(log_policy, actions)
        advantages = advantage(q.detach(), log_target_pi[:, :-1], log_mu[:, :-1], actions, beta)

        def improvement(weights: Tensor) -> Tensor:
            return policy_loss(taken, advantages, alpha + beta, weights, args.weight_max)

        # 4: policy improvement, if the ratios wait for it
        everywhere = filled[..., None].expand_as(taken).to(taken.dtype)
        if order is not None:
            pi_loss = improvement(everywhere)
            self.step(self.policy_optimiser, pi_loss.sum())
            before = taken.detach()
            after = self.log_pi_taken(batch) if args.update_scheme == "sequential" else before
            teammates_log_pi = teammates_log_pi_in(order, before, after)

        # 1, 2: importance resampling
        teammates_log_prob = batch["teammates_log_prob"][:, :-1, agents]
        log_rho = log_importance_ratio(
            teammates_log_pi,
            teammates_log_prob,
            self.info.n_agents,
            geometric=args.ratio == "geometric",
        )
        rho = log_rho.clamp(args.log_ratio_min, args.log_ratio_max).exp()
        counts = resample(rho, filled, self.generator)

        # 3: policy evaluation on D_rho
        target = value_target(
            *(
                batch["reward"],
                batch["terminated"],
                filled,
                next_q,
                log_target_pi[:, 1:],
                log_mu[:, 1:],
            ),
            *(alpha, beta, args.gamma, args.td_lambda),
        )
        q_loss = value_loss(q, actions, available, target, counts, args.cql_weight)
        if order is not None:
            self.step(self.value_optimiser, q_loss.sum())
        else:  # two networks without a common parameter
            pi_loss = improvement(counts if args.policy_data == "resampled" else everywhere)
            self.step(
                self.optimiser_of[agents.start % len(self.optimiser_of)], (q_loss + pi_loss).sum()
            )

        # 5: temperature
        if args.alpha == "tuned" or with_stats:
            divergence = kl_divergence(log_policy.detach(), log_mu[:, :-1])
            kl = (divergence * everywhere).sum(dim=(0, 1)) / filled.sum()  # [N']
        numbers = range(self.info.n_agents)[agents]
        if args.alpha == "tuned":
            for i, divergence_of_i in zip(numbers, kl, strict=True):
                loss = temperature_loss(self.temperatures[i], divergence_of_i, args.kl_target)
                self.step(self.alpha_optimisers[i], loss)

        # 6: targets
        for k in {i % len(self.parameters) for i in numbers}:
            soft_update(self.target_parameters[k], self.parameters[k], args.tau)

        if not with_stats:
            return {}
        real_rho = rho * everywhere
        stats = {
            "value_loss": q_loss,
            "policy_loss": pi_loss,
            "q_taken": (gather_last(q.detach(), actions) * everywhere).sum(dim=(0, 1))
            / filled.sum(),
            "kl_to_behaviour": kl,
            "policy_entropy": (entropy(log_policy.detach()) * everywhere).sum(dim=(0, 1))
            / filled.sum(),
            "alpha": alpha,
            "beta": th.full_like(alpha, beta),
            # Effective sample size of D_rho as a share of the batch (Kish): 1 if all weights are equal.
            "resampling_ess": real_rho.sum((0, 1)).square()
            / real_rho.square().sum((0, 1))
            / filled.sum(),
        }
        return {
            f"{name}/agent_{i}": row[n].item()
            for name, row in stats.items()
            for n, i in enumerate(numbers)
        }

    @th.no_grad()
    def agent_order(self, batch: Batch) -> Tensor:
        """The order of this round, int [N]: random, fixed, or the agents of the largest expected advantage first (C.5).

        The expected advantage is E_D |A^i(s, a^i)|, as in A2PO (Wang et al. 2023a). With networks of their own, no
        agent's changes while others have their turn: the order is known at the round's start.
        """
        n_agents = self.info.n_agents
        if self.args.order == "fixed":
            return th.arange(n_agents, device=self.device)
        if self.args.order == "random":
            return th.randperm(n_agents, generator=self.generator, device=self.device)
        steps = without_final_row(batch)
        q = self.critics(self.critics.build_inputs(steps, ALL_AGENTS), ALL_AGENTS)
        log_target_pi = self.target_mac.log_probs(steps)
        beta = self.beta(self.updates)
        advantages = advantage(
            q, log_target_pi, steps["behaviour_log_probs"], steps["actions"], beta
        )
        return (
            (advantages.abs() * batch["filled"][..., None]).sum(dim=(0, 1)).argsort(descending=True)
        )

    @th.no_grad()
    def log_pi_taken(self, batch: Batch, agents: slice = ALL_AGENTS) -> Tensor:
        """log pi^j(a^j | tau^j) of `agents` now, [B, T, N']."""
        batch = without_final_row(batch)
        return gather_last(self.mac.log_probs(batch, agents), batch["actions"][..., agents])
