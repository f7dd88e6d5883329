"""InSPO: In-Sample Sequential Policy Optimization (Liu et al., AAAI 2025), the practical algorithm.

Equation numbers are the paper's. Shapes: B batch, T time, N agents, A actions.

    symbol       meaning                                   setting
    pi^i         policy, from the history tau^i            agent, hidden_dim
    pibar, Qbar  soft targets of policy and value          tau
    Q^i(s, .)    local value of agent i's own action       critic_inputs, critic_hidden_dim, critic_lr
    mu^i, mu_ar  frozen behaviour models                   behaviour_*
    rho          importance ratio of the mates' actions    ratio, log_ratio_min, log_ratio_max
    alpha        temperature towards the data              alpha: a number, or tuned (alpha_start, alpha_lr, kl_target)
    beta         temperature of the entropy                beta: a number, or decaying (beta_start, beta_end,
                                                                                        beta_decay_steps)

A learner step is a round: in a fresh order, each agent has `updates_per_agent` updates, the k-th of every agent on the
round's k-th batch. The log probabilities of all agents on those batches are computed once and, as the round goes on,
only for the agent whose policy has just changed: a round's cost grows linearly with the number of agents. (Agents that
share parameters change with every update, and are all looked at before each.)

Unlike the paper, an agent's value and policy take their gradient step together: the policy sees the values as they were
before the step, and a pass through the critic is saved.
"""

from copy import deepcopy
from typing import Any, Literal

import torch as th
from pydantic import model_validator
from torch import Tensor, nn

from components.offline_buffer import Batch, OfflineBuffer, without_final_row
from controllers import BasicMAC
from envs import EnvInfo
from learners.base_learner import BaseLearner, Stats
from modules.critics import LocalCritics
from utils.config import BehaviourConfig, Fraction, NonNegative, Positive, PositiveInt
from utils.errors import DivergenceError
from utils.rl_utils import entropy, gather_last, kl_divergence, masked_logsumexp, masked_mean, soft_update


class InSPOConfig(BehaviourConfig):
    """InSPO's own settings; `config/algs/inspo.yaml` says what each one does."""

    order: Literal["random", "fixed", "semi_greedy"]
    update_scheme: Literal["sequential", "simultaneous"]
    updates_per_agent: PositiveInt
    ratio: Literal["geometric", "plain"]
    log_ratio_min: float
    log_ratio_max: float

    critic_inputs: Literal["state", "obs", "both"]
    critic_hidden_dim: PositiveInt
    critic_lr: Positive
    cql_weight: NonNegative
    tau: Fraction

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
            raise ValueError("alpha and beta are both 0: the policy's target divides by their sum; make one positive")
        if self.beta == "decaying" and self.beta_decay_steps is None:
            raise ValueError("beta=decaying needs beta_decay_steps: a number, or t_max")
        if self.t_max % self.updates_per_agent:
            raise ValueError(f"t_max={self.t_max} must be a multiple of updates_per_agent={self.updates_per_agent}")
        if self.log_ratio_min > self.log_ratio_max:
            raise ValueError(f"log_ratio_min={self.log_ratio_min} is above log_ratio_max={self.log_ratio_max}")
        return self


# --- the losses, in the paper's order


def log_importance_ratio(log_pi: Tensor, mates_log_prob: Tensor, agent: int, geometric: bool) -> Tensor:
    """log rho = sum_{j != i} log pi^j(a^j | tau^j) - log mu_ar(a^-i | s, a^i)   (Eq. 14).

    Args:
        log_pi: log pi^j(a^j | tau^j) of the actions taken, [B, T, N].
        mates_log_prob: log mu_ar(a^-i | s, a^i), [B, T].
        agent: i.
        geometric: divide by N - 1, so that rho becomes a geometric mean over the mates (Eq. 23).

    Returns:
        [B, T].
    """
    n_agents = log_pi.shape[-1]
    log_rho = log_pi.sum(dim=-1) - log_pi[..., agent] - mates_log_prob
    return log_rho / max(n_agents - 1, 1) if geometric else log_rho


def resample(rho: Tensor, filled: Tensor, generator: th.Generator) -> Tensor:
    """D_rho: as many draws as there are real steps, with replacement, with probability proportional to rho (Eq. 15).

    Returns:
        how often each step was drawn, [B, T]. A mean over D_rho is the mean weighted by these counts.
    """
    probabilities = (rho * filled).flatten()
    try:
        draws = th.multinomial(probabilities, int(filled.sum()), replacement=True, generator=generator)
    except RuntimeError:
        raise DivergenceError(
            "the importance ratios are NaN: the policies diverged; try lower learning rates"
        ) from None
    return th.bincount(draws, minlength=len(probabilities)).view(rho.shape).to(rho.dtype)


def value_target(
    reward: Tensor,
    terminated: Tensor,
    next_q: Tensor,
    next_log_pi: Tensor,
    next_log_mu: Tensor,
    alpha: float | Tensor,
    beta: float,
    gamma: float,
) -> Tensor:
    """y = r + gamma E_{a' ~ pibar^i} [ Qbar^i(s', a') - alpha log(pibar^i / mu^i) - beta log pibar^i ]   (Eq. 24).

    The mates' regularisers are left out, as in the paper. Nothing follows a terminated step.

    Args:
        reward, terminated: [B, T].
        next_q, next_log_pi, next_log_mu: Qbar^i, log pibar^i and log mu^i at the next step, [B, T, A].

    Returns:
        [B, T].
    """
    regularised = next_q - alpha * (next_log_pi - next_log_mu) - beta * next_log_pi
    next_value = (next_log_pi.exp() * regularised).sum(dim=-1)
    return reward + gamma * (1 - terminated.to(reward.dtype)) * next_value


def value_loss(
    q: Tensor, actions: Tensor, available: Tensor, target: Tensor, counts: Tensor, cql_weight: float
) -> Tensor:
    """L(Q^i) = E_{D_rho} [ (Q^i(s, a^i) - y)^2 + c_cql (logsumexp_a Q^i(s, a) - Q^i(s, a^i)) ]   (Eq. 24).

    The second term (CQL) is what pulls down an action whose mates' replies have left D_rho: no TD error reaches it.

    Args:
        q: [B, T, A]; actions, target, counts: [B, T]; available: bool [B, T, A], over which the logsumexp runs.
    """
    chosen_q = gather_last(q, actions)
    conservatism = masked_logsumexp(q, available) - chosen_q
    loss = (chosen_q - target).square() + cql_weight * conservatism
    return (loss * counts).sum() / counts.sum()


def advantage(q: Tensor, log_target_pi: Tensor, log_mu: Tensor, actions: Tensor, beta: float) -> Tensor:
    """A^i(s, a^i) of score(s, a) = Q^i(s, a) - beta log mu^i(a | tau^i), against its mean under pibar^i (below Eq. 20).

    Args:
        q, log_target_pi, log_mu: [B, T, A]; actions: [B, T].

    Returns:
        [B, T].
    """
    score = q - beta * log_mu
    # Where pibar is 0 an unavailable action's log mu would still be huge: leave it out of the sum.
    target_pi = log_target_pi.exp()
    baseline = (target_pi * score.masked_fill(target_pi == 0, 0.0)).sum(dim=-1)
    return gather_last(score, actions) - baseline


def policy_loss(
    log_pi_taken: Tensor, advantages: Tensor, temperature: Tensor, weights: Tensor, weight_max: float
) -> Tensor:
    """L(pi^i) = - E [ exp(A^i(s, a^i) / (alpha + beta)) log pi^i(a^i | tau^i) ]   (Eq. 20).

    The minimiser over distributions is mu^{alpha/(alpha+beta)} exp(Q/(alpha+beta)), normalised: the quantal response of
    Eq. 12. Only actions of the dataset are evaluated.

    Args:
        log_pi_taken, advantages: [B, T].
        temperature: alpha + beta, a scalar.
        weights: of the steps in the expectation, [B, T]: `filled`, or the counts of D_rho.
        weight_max: bound on exp(A / (alpha + beta)).
    """
    exponent = (advantages / temperature).clamp(max=float(th.tensor(weight_max).log()))
    return -(exponent.exp().detach() * log_pi_taken * weights).sum() / weights.sum()


def temperature_loss(log_alpha: Tensor, kl: Tensor, kl_target: float) -> Tensor:
    """L(alpha) = alpha (KL_target - E_D [ KL(pi^i || mu^i) ]): alpha grows when the policy strays too far (Eq. 25)."""
    return log_alpha.exp() * (kl_target - kl.detach())


# --- the algorithm


class InSPOLearner(BaseLearner):
    """Algorithm 1 in its practical form: agents improve one by one, on data resampled to their mates' new policies."""

    Config = InSPOConfig
    behaviour_models = ("individual", "autoregressive")
    args: InSPOConfig

    def __init__(self, args: InSPOConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.steps_per_round = args.updates_per_agent
        self.target_mac = deepcopy(mac).requires_grad_(False)
        critics = LocalCritics(info, args.critic_hidden_dim, args.critic_inputs, shared=args.share_parameters)
        self.critics = critics.to(self.device)
        self.target_critics = deepcopy(self.critics).requires_grad_(False)
        alpha = args.alpha_start if args.alpha == "tuned" else args.alpha
        log_alpha = th.tensor(alpha, device=self.device).log()
        self.temperatures = nn.ParameterList(nn.Parameter(log_alpha.clone()) for _ in range(info.n_agents))
        self.modules |= {"target_mac": self.target_mac, "critics": self.critics, "target_critics": self.target_critics}
        self.modules |= {"temperatures": self.temperatures}
        # Parameters of each policy with its critic, and of their targets: collected once, used at every step.
        self.parameters, self.target_parameters = (
            [
                [*agent.parameters(), *critic.parameters()]
                for agent, critic in zip(mac.agents, critics.critics, strict=True)
            ]
            for mac, critics in ((mac, self.critics), (self.target_mac, self.target_critics))
        )
        self.optimisers_of = [
            self.adam(f"agent_{k}", {agent: args.lr, critic: args.critic_lr})
            for k, (agent, critic) in enumerate(zip(mac.agents, self.critics.critics, strict=True))
        ]
        self.alpha_optimisers = [
            self.adam(f"alpha_{i}", {self.temperatures[i : i + 1]: args.alpha_lr}) for i in range(info.n_agents)
        ]

    def warm_start(self, behaviour: BasicMAC) -> None:
        """pi^i and pibar^i start as mu^i."""
        super().warm_start(behaviour)
        self.target_mac.load_state_dict(behaviour.state_dict())

    def alpha(self, i: int) -> Tensor:
        """Agent `i`'s temperature towards the data, a scalar without gradient."""
        return self.temperatures[i].exp().detach()

    def beta(self, update: int) -> float:
        """The entropy's temperature at an update: constant, or decaying exponentially from beta_start to beta_end."""
        if self.args.beta != "decaying":
            return self.args.beta
        progress = min(update / self.args.beta_decay_steps, 1.0)
        return self.args.beta_start * (self.args.beta_end / self.args.beta_start) ** progress

    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        """One round over all agents (Algorithm 1)."""
        batches = [buffer.sample(self.args.batch_size) for _ in range(self.args.updates_per_agent)]
        # log pi^j(a^j | tau^j) of all agents as they are now, one [B, T, N] for each batch.
        log_pis = [self._log_pi_taken(batch) for batch in batches]
        order = self.agent_order(batches[0])
        sequential = self.args.update_scheme == "sequential"
        stats: Stats = {}
        for i in order:
            for k, batch in enumerate(batches):
                if sequential and self.args.share_parameters:  # any update may have changed any policy
                    log_pis[k] = self._log_pi_taken(batch)
                last = k == len(batches) - 1
                stats |= self.update_agent(i, batch, log_pis[k], self.updates + k, with_stats and last)
            if sequential and not self.args.share_parameters and i != order[-1]:
                log_pis = [self._refreshed(i, *pair) for pair in zip(batches, log_pis, strict=True)]
        self.updates += len(batches)
        return stats

    def update_agent(self, i: int, batch: Batch, log_pi: Tensor, update: int, with_stats: bool) -> Stats:
        """One update of agent `i`'s value, policy, temperature and targets, the mates held fixed.

        Args:
            log_pi: log pi^j(a^j | tau^j) of all agents, [B, T, N]: now (sequential), before the round (simultaneous).
            update: how many updates each agent had before, for the decay of beta.
        """
        args, filled = self.args, batch["filled"]
        actions, available = batch["actions"][:, :-1, i], batch["avail_actions"][:, :-1, i]
        log_mu = batch["behaviour_log_probs"][:, :, i]  # [B, T+1, A]
        alpha, beta = self.alpha(i), self.beta(update)
        k = i % len(self.parameters)  # 0 for all agents if they share parameters

        # 1, 2: importance resampling
        mates_log_prob = batch["mates_log_prob"][:, :-1, i]
        log_rho = log_importance_ratio(log_pi, mates_log_prob, i, geometric=args.ratio == "geometric")
        rho = log_rho.clamp(args.log_ratio_min, args.log_ratio_max).exp()
        counts = resample(rho, filled, self.generator)

        # 3: policy evaluation on D_rho
        critic, critic_inputs = self.critics.critic(i), self.critics.build_inputs(i, batch)
        with th.no_grad():
            log_target_pi = self.target_mac.agent_log_probs(i, batch)  # [B, T+1, A]
            next_q = self.target_critics.critic(i)(critic_inputs[:, 1:])
            target = value_target(
                *(batch["reward"], batch["terminated"], next_q, log_target_pi[:, 1:], log_mu[:, 1:]),
                *(alpha, beta, args.gamma),
            )
        q = critic(critic_inputs[:, :-1])
        q_loss = value_loss(q, actions, available, target, counts, args.cql_weight)

        # 4: policy improvement
        advantages = advantage(q.detach(), log_target_pi[:, :-1], log_mu[:, :-1], actions, beta)
        log_policy = self.mac.agent_log_probs(i, without_final_row(batch))  # [B, T, A]
        weights = counts if args.policy_data == "resampled" else filled.to(counts.dtype)
        taken = gather_last(log_policy, actions)
        pi_loss = policy_loss(taken, advantages, alpha + beta, weights, args.weight_max)
        self.step(self.optimisers_of[k], q_loss + pi_loss)  # two networks without a common parameter

        # 5: temperature
        if args.alpha == "tuned" or with_stats:
            kl = masked_mean(kl_divergence(log_policy.detach(), log_mu[:, :-1]), filled)
        if args.alpha == "tuned":
            self.step(self.alpha_optimisers[i], temperature_loss(self.temperatures[i], kl, args.kl_target))

        # 6: targets
        soft_update(self.target_parameters[k], self.parameters[k], args.tau)

        if not with_stats:
            return {}
        real_rho = rho * filled
        stats = {
            "value_loss": q_loss,
            "policy_loss": pi_loss,
            "q_taken": masked_mean(gather_last(q.detach(), actions), filled),
            "kl_to_behaviour": kl,
            "policy_entropy": masked_mean(entropy(log_policy.detach()), filled),
            "alpha": alpha,
            "beta": th.tensor(beta),
            # Effective sample size of D_rho as a share of the batch (Kish): 1 if all weights are equal.
            "resampling_ess": real_rho.sum().square() / real_rho.square().sum() / filled.sum(),
        }
        return {f"{name}/agent_{i}": value.item() for name, value in stats.items()}

    @th.no_grad()
    def agent_order(self, batch: Batch) -> list[int]:
        """The order of this round: random, fixed, or the agents of the largest expected advantage first (C.5).

        The expected advantage is E_D |A^i(s, a^i)|, as in A2PO (Wang et al. 2023a). With networks of their own, no
        agent's changes while others have their turn: the order is known at the round's start.
        """
        n_agents = self.info.n_agents
        if self.args.order == "fixed":
            return list(range(n_agents))
        if self.args.order == "random":
            return th.randperm(n_agents, generator=self.generator, device=self.device).tolist()
        expected = []
        for i in range(n_agents):
            q = self.critics.critic(i)(self.critics.build_inputs(i, batch)[:, :-1])
            log_target_pi = self.target_mac.agent_log_probs(i, batch)[:, :-1]
            log_mu = batch["behaviour_log_probs"][:, :-1, i]
            actions = batch["actions"][:, :-1, i]
            advantages = advantage(q, log_target_pi, log_mu, actions, self.beta(self.updates))
            expected.append(masked_mean(advantages.abs(), batch["filled"]))
        return th.stack(expected).argsort(descending=True).tolist()

    @th.no_grad()
    def _log_pi_taken(self, batch: Batch) -> Tensor:
        """log pi^j(a^j | tau^j) of all agents, [B, T, N]."""
        batch = without_final_row(batch)
        return gather_last(self.mac.log_probs(batch), batch["actions"])

    @th.no_grad()
    def _refreshed(self, i: int, batch: Batch, log_pi: Tensor) -> Tensor:
        """`log_pi` after agent `i`'s turn: with networks of their own, only its policy has changed."""
        batch = without_final_row(batch)
        taken = gather_last(self.mac.agent_log_probs(i, batch), batch["actions"][:, :, i])
        return th.cat([log_pi[..., :i], taken.unsqueeze(-1), log_pi[..., i + 1 :]], dim=-1)
