"""InSPO: In-Sample Sequential Policy Optimization (Liu et al., AAAI 2025), the practical algorithm.

This file is Algorithm 1. Its losses are in inspo_losses.py, its ratios and its resampling in
components/importance_resampling.py. docs/inspo.md lists all equations.

    symbol       meaning                                 settings
    pi^i         policy, from the history tau^i          agent, hidden_dim
    pibar, Qbar  soft targets of policy and value        tau
    Q^i(s, .)    local value of agent i's own action     critic_*
    mu^i, mu_ar  frozen behaviour models                 behaviour_*, teammates_model
    rho          importance ratio of teammates' actions  ratio, log_ratio_min, log_ratio_max
    alpha        temperature towards the data            alpha, alpha_start, alpha_lr, kl_target
    beta         temperature of the entropy              beta, beta_*

Unlike in the paper, a policy sees its values as they were before the update. This saves a pass
through the critic. It also means that with one update per agent no policy step looks at another
agent, so that all agents can be updated at once.

Shapes: B batch, T time, A actions, N agents, N' the agents that are updated: one, or all of them.
"""

from dataclasses import dataclass
from functools import partial

import torch as th
from torch import Tensor, nn

from inspo.components.agent_order import draw_order
from inspo.components.importance_resampling import (
    log_importance_ratio,
    resample,
    teammates_log_pi_in,
)
from inspo.components.offline_buffer import OfflineBuffer
from inspo.controllers import ALL_AGENTS, BasicMAC
from inspo.envs import EnvInfo
from inspo.learners.base_learner import (
    BaseLearner,
    Stats,
    parameters_of,
    per_agent,
    target_of,
    to_floats,
)
from inspo.learners.inspo_config import InSPOConfig
from inspo.learners.inspo_losses import (
    advantage,
    policy_loss,
    temperature_loss,
    value_loss,
    value_target,
)
from inspo.modules.critics import LocalCritics
from inspo.utils.batch import Batch, following, without_final_row
from inspo.utils.rl_utils import entropy, gather_last, kl_divergence, soft_update


@dataclass
class Turn:
    """What the steps of one update share."""

    agents: slice  # that are updated, N' of them
    batch: Batch
    actions: Tensor  # [B, T, N']
    log_mu: Tensor  # [B, T+1, N', A]
    log_target_pi: Tensor  # log pibar^i, [B, T+1, N', A]
    log_pi: Tensor  # [B, T, N', A], with gradient
    q: Tensor  # Q^i, [B, T, N', A], with gradient
    next_q: Tensor  # Qbar^i at the next step, [B, T, N', A]
    filled: Tensor  # as numbers, [B, T, N']
    alpha: Tensor  # [N']
    beta: float


class InSPOLearner(BaseLearner):
    """Agents improve one by one, each on data resampled to what its teammates now do."""

    Config = InSPOConfig
    args: InSPOConfig

    def __init__(self, args: InSPOConfig, info: EnvInfo, mac: BasicMAC):
        super().__init__(args, info, mac)
        self.behaviour_models = ("individual", args.teammates_model)
        self.steps_per_round = args.updates_per_agent
        one_update = args.updates_per_agent == 1 and args.policy_data == "dataset"
        self.all_at_once = one_update and not args.share_parameters
        self.target_mac = target_of(mac, self.device)
        critics = LocalCritics(
            info, args.critic_hidden_dim, args.critic_inputs, shared=args.share_parameters
        )
        self.critics = critics.to(self.device)
        self.target_critics = target_of(self.critics, self.device)
        alpha = args.alpha_start if args.alpha == "tuned" else args.alpha
        log_alpha = th.tensor(alpha, device=self.device).log()
        self.temperatures = nn.ParameterList(
            nn.Parameter(log_alpha.clone()) for _ in range(info.n_agents)
        )
        self.modules |= {
            "target_mac": self.target_mac,
            "critics": self.critics,
            "target_critics": self.target_critics,
            "temperatures": self.temperatures,
        }
        self._make_optimisers()

    def _make_optimisers(self) -> None:
        args = self.args
        # One network of each kind per agent, or one for all agents.
        policies, critics = self.mac.agents, self.critics.critics
        if self.all_at_once:
            self.policy_optimiser = self.adam("policies", dict.fromkeys(policies, args.lr))
            self.value_optimiser = self.adam("critics", dict.fromkeys(critics, args.critic_lr))
        else:
            self.optimiser_of = [
                self.adam(f"agent_{k}", {policy: args.lr, critic: args.critic_lr})
                for k, (policy, critic) in enumerate(zip(policies, critics, strict=True))
            ]
        self.alpha_optimisers = [
            self.adam(f"alpha_{i}", {self.temperatures[i : i + 1]: args.alpha_lr})
            for i in range(self.info.n_agents)
        ]
        self.parameters = parameters_of(policies, critics)
        self.target_parameters = parameters_of(self.target_mac.agents, self.target_critics.critics)

    def warm_start(self, behaviour: BasicMAC) -> None:
        """pi^i and pibar^i start as mu^i."""
        super().warm_start(behaviour)
        self.target_mac.load_state_dict(behaviour.state_dict())

    def train(self, buffer: OfflineBuffer, with_stats: bool) -> Stats:
        """One round of Algorithm 1.

        In a fresh order, each agent has `updates_per_agent` updates, the k-th of every agent on
        the round's k-th batch. The cost grows linearly with the number of agents.
        """
        batches = [self.sample(buffer) for _ in range(self.steps_per_round)]
        betas = [self.beta(self.updates + k) for k in range(self.steps_per_round)]
        order = self.agent_order(batches[0])
        if self.all_at_once:
            stats = self.compute(self.update_all_at_once, order, batches[0], betas[0], with_stats)
        else:
            stats = self.take_turns(order.tolist(), batches, betas, with_stats)
        self.updates += self.steps_per_round
        # Sorted by agent, so that columns do not depend on the update order.
        by_agent = sorted(stats.items(), key=lambda item: int(item[0].rpartition("_")[2]))
        return to_floats(dict(by_agent))

    def take_turns(
        self, order: list[int], batches: list[Batch], betas: list[float], with_stats: bool
    ) -> dict[str, Tensor]:
        """The turns of all agents. `betas`: beta in each of their updates."""
        batches = [self.mac.with_inputs(batch) for batch in batches]
        if self.graphs is not None:
            batches = self.graphs.place(batches, "batches")  # once for all turns
        stats = {}
        log_pis = self.compute(self.log_pis_taken, batches)
        for i in order:
            stats |= self.compute(self.update_in_turn, i, batches, log_pis, betas, with_stats)
            if self.args.update_scheme == "sequential" and i != order[-1]:
                log_pis = self.compute(self.refreshed, i, batches, log_pis)
        return stats

    def update_in_turn(
        self,
        i: int,
        batches: list[Batch],
        log_pis: list[Tensor],
        betas: list[float],
        with_stats: bool,
    ) -> dict[str, Tensor]:
        """Agent i's turn: one update on each batch.

        Args:
            log_pis: log pi^j(a^j | tau^j) of all agents, each as after its own last turn, [B, T, N]
                for each batch.
        """
        optimiser = self.optimiser_of[i % len(self.optimiser_of)]
        for batch, log_pi, beta in zip(batches, log_pis, betas, strict=True):
            turn = self.begin(slice(i, i + 1), batch, beta)
            teammates_log_pi = log_pi.sum(dim=-1, keepdim=True) - log_pi[..., i : i + 1]
            rho, counts = self.resampled(turn, teammates_log_pi)  # 1, 2
            q_loss = self.value_losses(turn, counts)  # 3
            resampled = self.args.policy_data == "resampled"
            pi_loss = self.policy_losses(turn, counts if resampled else turn.filled)  # 4
            self.step(optimiser, (q_loss + pi_loss).sum())  # they share no parameter
            self.tune_temperatures(turn)  # 5
            self.update_targets(turn)  # 6
        return self.stats(turn, rho, q_loss, pi_loss) if with_stats else {}

    def update_all_at_once(
        self, order: Tensor, batch: Batch, beta: float, with_stats: bool
    ) -> dict[str, Tensor]:
        """One update of every agent: equal to `update_in_turn`, agent after agent.

        A policy's step (4) looks at no teammate, and at the critics before their step, so that all
        policies can take theirs first. The order decides which of its teammates' policies, old or
        new, an agent's ratio (1) sees.
        """
        turn = self.begin(ALL_AGENTS, batch, beta)
        pi_loss = self.policy_losses(turn, turn.filled)  # 4
        self.step(self.policy_optimiser, pi_loss.sum())
        before = gather_last(turn.log_pi, turn.actions).detach()
        after = self.log_pi_taken(batch) if self.args.update_scheme == "sequential" else before
        rho, counts = self.resampled(turn, teammates_log_pi_in(order, before, after))  # 1, 2
        q_loss = self.value_losses(turn, counts)  # 3
        self.step(self.value_optimiser, q_loss.sum())
        self.tune_temperatures(turn)  # 5
        self.update_targets(turn)  # 6
        return self.stats(turn, rho, q_loss, pi_loss) if with_stats else {}

    # --- the steps of an update, in the paper's order

    def begin(self, agents: slice, batch: Batch, beta: float) -> Turn:
        """A pass through all networks."""
        steps = without_final_row(batch)
        actions = steps["actions"][..., agents]
        q = self.critics.values(steps, agents)
        with th.no_grad():
            next_q = self.target_critics.values(following(batch), agents)
            log_target_pi = self.target_mac.log_probs(batch, agents)
        return Turn(
            agents=agents,
            batch=batch,
            actions=actions,
            log_mu=batch["behaviour_log_probs"][:, :, agents],
            log_target_pi=log_target_pi,
            log_pi=self.mac.log_probs(steps, agents),
            q=q,
            next_q=next_q,
            filled=batch["filled"][..., None].expand_as(actions).to(q.dtype),
            alpha=self.alpha(agents),
            beta=beta,
        )

    def resampled(self, turn: Turn, teammates_log_pi: Tensor) -> tuple[Tensor, Tensor]:
        """Steps 1 and 2: the ratios rho, and how often D_rho holds each step; both [B, T, N']."""
        args = self.args
        log_rho = log_importance_ratio(
            teammates_log_pi,
            turn.batch["teammates_log_prob"][:, :-1, turn.agents],
            self.info.n_agents,
            geometric=args.ratio == "geometric",
        )
        rho = log_rho.clamp(args.log_ratio_min, args.log_ratio_max).exp()
        return rho, resample(rho, turn.batch["filled"], self.generator)

    def value_losses(self, turn: Turn, counts: Tensor) -> Tensor:
        """Step 3, policy evaluation on D_rho: L(Q^i), [N']."""
        args, batch = self.args, turn.batch
        target = value_target(
            batch["reward"],
            batch["terminated"],
            batch["filled"],
            turn.next_q,
            turn.log_target_pi[:, 1:],
            turn.log_mu[:, 1:],
            turn.alpha,
            turn.beta,
            args.gamma,
            args.td_lambda,
        )
        available = batch["avail_actions"][:, :-1, turn.agents]
        return value_loss(turn.q, turn.actions, available, target, counts, args.cql_weight)

    def policy_losses(self, turn: Turn, weights: Tensor) -> Tensor:
        """Step 4, policy improvement: L(pi^i), [N']."""
        return policy_loss(
            gather_last(turn.log_pi, turn.actions),
            self.advantages(turn),
            turn.alpha + turn.beta,
            weights,
            self.args.weight_max,
        )

    def advantages(self, turn: Turn) -> Tensor:
        """A^i(s, a^i), from the values before the update, [B, T, N']."""
        log_target_pi, log_mu = turn.log_target_pi[:, :-1], turn.log_mu[:, :-1]
        return advantage(turn.q.detach(), log_target_pi, log_mu, turn.actions, turn.beta)

    def tune_temperatures(self, turn: Turn) -> None:
        """Step 5: a gradient step on alpha^i, if it is tuned."""
        if self.args.alpha != "tuned":
            return
        numbers = range(self.info.n_agents)[turn.agents]
        for i, kl in zip(numbers, self.divergence(turn), strict=True):
            loss = temperature_loss(self.temperatures[i], kl, self.args.kl_target)
            self.step(self.alpha_optimisers[i], loss)

    def update_targets(self, turn: Turn) -> None:
        """Step 6: Qbar^i and pibar^i follow their networks."""
        shared = self.args.share_parameters
        for k in [0] if shared else range(self.info.n_agents)[turn.agents]:
            soft_update(self.target_parameters[k], self.parameters[k], self.args.tau)

    # --- what the steps need

    def agent_order(self, batch: Batch) -> Tensor:
        """This round's order, int [N].

        An agent's advantage does not change in other agents' turns: the order is known at once.
        With shared parameters it does change, and the order is by the advantages before the round.
        """
        expected = partial(self.expected_advantages, batch)
        generator = self.generator if self.all_at_once else self.host_generator
        return draw_order(self.args.order, self.info.n_agents, generator, expected)

    @th.no_grad()
    def expected_advantages(self, batch: Batch) -> Tensor:
        """E_D |A^i(s, a^i)| as in A2PO, times the batch's steps; of every agent, [N]."""
        turn = self.begin(ALL_AGENTS, batch, self.beta(self.updates))
        return (self.advantages(turn).abs() * turn.filled).sum(dim=(0, 1))

    @th.no_grad()
    def log_pi_taken(self, batch: Batch, agents: slice = ALL_AGENTS) -> Tensor:
        """log pi^j(a^j | tau^j) of `agents` as they are now, [B, T, N']."""
        batch = without_final_row(batch)
        return gather_last(self.mac.log_probs(batch, agents), batch["actions"][..., agents])

    def log_pis_taken(self, batches: list[Batch]) -> list[Tensor]:
        """`log_pi_taken` of all agents on each batch."""
        return [self.log_pi_taken(batch) for batch in batches]

    def refreshed(self, i: int, batches: list[Batch], log_pis: list[Tensor]) -> list[Tensor]:
        """`log_pis` with agent i's new log probabilities, for its teammates to see."""
        agent = slice(i, i + 1)
        for log_pi, batch in zip(log_pis, batches, strict=True):
            log_pi[..., agent] = self.log_pi_taken(batch, agent)
        return log_pis

    def alpha(self, agents: slice) -> Tensor:
        """The agents' temperatures towards the data, without gradient, [N']."""
        return th.stack([*self.temperatures][agents]).exp().detach()

    def beta(self, update: int) -> float:
        """The entropy's temperature after so many updates of each agent."""
        return self.args.beta_after(update)

    def divergence(self, turn: Turn) -> Tensor:
        """E_D [ KL(pi^i || mu^i) ] before the update, [N']."""
        kl = kl_divergence(turn.log_pi.detach(), turn.log_mu[:, :-1])
        return (kl * turn.filled).sum(dim=(0, 1)) / turn.batch["filled"].sum()

    def stats(self, turn: Turn, rho: Tensor, q_loss: Tensor, pi_loss: Tensor) -> dict[str, Tensor]:
        """Metrics of the agents that were updated; docs/metrics.md explains each one."""
        n_steps = turn.batch["filled"].sum()
        q_taken = gather_last(turn.q.detach(), turn.actions)
        policy_entropy = entropy(turn.log_pi.detach())
        real_rho = rho * turn.filled
        ess = real_rho.sum((0, 1)).square() / real_rho.square().sum((0, 1))  # Kish
        stats = {
            "value_loss": q_loss,
            "policy_loss": pi_loss,
            "q_taken": (q_taken * turn.filled).sum(dim=(0, 1)) / n_steps,
            "kl_to_behaviour": self.divergence(turn),
            "policy_entropy": (policy_entropy * turn.filled).sum(dim=(0, 1)) / n_steps,
            "alpha": turn.alpha,
            "beta": th.zeros_like(turn.alpha) + turn.beta,
            "resampling_ess": ess / n_steps,
        }
        return per_agent(stats, range(self.info.n_agents)[turn.agents])
