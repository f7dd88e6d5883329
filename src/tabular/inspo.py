"""Exact InSPO (Liu et al. 2025, Algorithm 1) on a `MarkovGame`, without sampling or networks.

Symbols: pi^i a table of the policy, mu^i of the behaviour, alpha and beta the temperatures,
Q [S, A_1, ..., A_N], Qbar^i [S, A_i]. The support of mu^i are the actions that it takes. All other
actions keep a probability of exactly 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from inspo.tabular.markov_game import MarkovGame, Policy, joint_policy
from inspo.utils.errors import GameError

Scheme = Literal["sequential", "simultaneous"]
Order = Literal["random", "fixed"]


class Evaluation(NamedTuple):
    """The value of a policy."""

    value: np.ndarray  # V [S], regularised
    q: np.ndarray  # Q [S, A_1, ..., A_N], regularised from the next step on
    plain: np.ndarray  # [S], discounted reward without regularisers


class Round(NamedTuple):
    """One round, in which every agent is updated once."""

    beta: float
    order: tuple[int, ...]
    before: np.ndarray  # V [S] of the policy before the round, under this round's beta
    after: np.ndarray  # V [S] of the policy after it, under this round's beta
    plain: np.ndarray  # [S], discounted reward of the policy after it
    residual: float  # distance from the QRE of the policy after it


@dataclass(frozen=True)
class Solution:
    """The result of all rounds."""

    policy: Policy
    value: np.ndarray  # V [S] under the last beta
    plain: np.ndarray  # [S]
    residual: float
    converged: bool  # the residual is within the tolerance, and beta has reached its end
    rounds: list[Round]

    @property
    def largest_decrease(self) -> float:
        """The largest decrease of V within a round, over all states and rounds; 0 if none."""
        return max([0.0, *(float((r.before - r.after).max()) for r in self.rounds)])


class RegularisedGame:
    """The MEBR-MG of eq. 9: a game, a behaviour policy and both temperatures.

    Args:
        behaviour: mu, a table [S, A_i] for each agent.
        alpha: temperature towards the behaviour. With 0 only its support matters.
        beta: temperature of the entropy.

    Raises:
        GameError: the behaviour is no policy of this game, or a temperature is negative or not
            finite, or both are 0.
    """

    def __init__(
        self, game: MarkovGame, behaviour: Sequence[np.ndarray], alpha: float, beta: float
    ):
        for name, temperature in (("alpha", alpha), ("beta", beta)):
            if not (np.isfinite(temperature) and temperature >= 0):
                raise GameError(f"{name} is {temperature}; it must be a finite number, 0 or more")
        if alpha + beta <= 0:
            raise GameError("alpha and beta are both 0; one of them must be positive")
        self.game = game
        self.alpha = float(alpha)
        self.beta = float(beta)
        self.behaviour = game.check_policy(behaviour, "behaviour")
        self.support = tuple(table > 0 for table in self.behaviour)
        self.log_behaviour = tuple(_safe_log(table) for table in self.behaviour)

    def check_support(self, policy: Sequence[np.ndarray]) -> Policy:
        """Returns `policy` as float64 tables.

        Raises:
            GameError: it takes an action that the behaviour never takes.
        """
        tables = self.game.check_policy(policy, "initial")
        for agent, (table, support) in enumerate(zip(tables, self.support, strict=True)):
            outside = (table > 0) & ~support
            if outside.any():
                state, action = np.argwhere(outside)[0]
                raise GameError(
                    f"agent {agent}'s policy takes action {action} in state {state}, "
                    "which its behaviour never takes"
                )
        return tables

    def evaluate(self, policy: Policy) -> Evaluation:
        """V and Q of eq. 10, exactly."""
        joint = joint_policy(policy)
        reward = (joint * self.game.flat_reward).sum(axis=-1)
        # E[alpha log(pi/mu) + beta log pi], a sum over agents.
        charge = np.zeros_like(reward)
        temperature = self.alpha + self.beta
        for table, log_behaviour in zip(policy, self.log_behaviour, strict=True):
            log_ratio = temperature * _safe_log(table) - self.alpha * log_behaviour
            charge += (table * log_ratio).sum(axis=-1)
        per_step = np.stack((reward - charge, reward), axis=-1)
        value, plain = self.game.values(joint, per_step).T
        return Evaluation(value, self.game.action_values(value), plain)

    def response(self, agent: int, q: np.ndarray, policy: Policy) -> np.ndarray:
        """One agent's update by eq. 12 and 13: [S, A_i].

        mu^(alpha / (alpha + beta)) exp(Qbar / (alpha + beta)), normalised over the support.
        """
        q_bar = over_teammates(q, policy, agent)
        scores = (self.alpha * self.log_behaviour[agent] + q_bar) / (self.alpha + self.beta)
        scores = np.where(self.support[agent], scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    def update_all(
        self, policy: Policy, q: np.ndarray, order: Sequence[int], scheme: Scheme
    ) -> Policy:
        """One round of either scheme."""
        if scheme == "sequential":
            return self.sequential_round(policy, q, order)
        return self.simultaneous_round(policy, q)

    def sequential_round(self, policy: Policy, q: np.ndarray, order: Sequence[int]) -> Policy:
        """Each agent responds to its teammates, those before it in `order` already updated."""
        tables = list(policy)
        for agent in order:
            tables[agent] = self.response(agent, q, tuple(tables))
        return tuple(tables)

    def simultaneous_round(self, policy: Policy, q: np.ndarray) -> Policy:
        """The ablation: all agents respond to their teammates as they were before the round."""
        return tuple(self.response(agent, q, policy) for agent in range(self.game.n_agents))

    def qre_residual(self, policy: Policy, q: np.ndarray | None = None) -> float:
        """The largest change of a probability if every agent responded to `policy`.

        It is 0 exactly at a QRE (eq. 11).

        Args:
            q: the policy's Q, if it is known already.
        """
        q = self.evaluate(policy).q if q is None else q
        responses = self.simultaneous_round(policy, q)
        changes = [np.abs(new - old).max() for new, old in zip(responses, policy, strict=True)]
        return float(max(changes))


def over_teammates(q: np.ndarray, policy: Policy, agent: int) -> np.ndarray:
    """Qbar^i(s, a^i) = E_{a^-i ~ pi^-i}[Q(s, a^i, a^-i)]: [S, A_1, ..., A_N] gives [S, A_i]."""
    operands: list = [q, list(range(q.ndim))]
    for teammate, table in enumerate(policy):
        if teammate != agent:
            operands += [table, [0, teammate + 1]]
    return np.einsum(*operands, [0, agent + 1])


def beta_schedule(
    beta_start: float, beta_end: float | None, beta_rounds: int, round_: int
) -> float:
    """Beta of a round: decays exponentially over `beta_rounds` rounds, then stays at `beta_end`.

    Raises:
        GameError: exponential decay cannot start from or arrive at 0.
    """
    if beta_end is None or beta_end == beta_start:
        return beta_start
    if beta_start <= 0 or beta_end <= 0:
        raise GameError(
            f"beta cannot decay exponentially from {beta_start} to {beta_end}: "
            "both must be positive, or equal"
        )
    if round_ >= beta_rounds:
        return beta_end
    return beta_start * (beta_end / beta_start) ** (round_ / beta_rounds)


def solve(
    game: MarkovGame,
    behaviour: Sequence[np.ndarray],
    *,
    alpha: float,
    beta_start: float,
    beta_end: float | None = None,
    beta_rounds: int = 0,
    scheme: Scheme = "sequential",
    order: Order | Sequence[int] = "random",
    seed: int = 0,
    policy: Sequence[np.ndarray] | None = None,
    max_rounds: int = 100_000,
    tolerance: float = 1e-11,
) -> Solution:
    """Algorithm 1: rounds until the policy is a QRE, or for `max_rounds`.

    Args:
        beta_end: where beta decays to, over `beta_rounds` rounds. None: it stays at `beta_start`.
        order: of agents: `random` (drawn for each round), `fixed`, or a list of all agents.
        policy: where to start. None: at the behaviour.
        tolerance: the QRE residual at which to stop.

    Raises:
        GameError: see `RegularisedGame`, `beta_schedule` and `MarkovGame.values`.
    """
    rng = np.random.default_rng(seed)
    agents = _listed_order(order, game.n_agents)
    last_beta = beta_schedule(beta_start, beta_end, beta_rounds, beta_rounds)
    regularised = RegularisedGame(game, behaviour, alpha, beta_start)
    tables = regularised.check_support(behaviour if policy is None else policy)
    result = regularised.evaluate(tables)
    residual = regularised.qre_residual(tables, result.q)
    rounds: list[Round] = []
    while len(rounds) < max_rounds and (residual > tolerance or regularised.beta != last_beta):
        beta = beta_schedule(beta_start, beta_end, beta_rounds, len(rounds))
        if beta != regularised.beta:
            regularised = RegularisedGame(game, behaviour, alpha, beta)
            result = regularised.evaluate(tables)
        if order == "random":
            agents = tuple(rng.permutation(game.n_agents).tolist())
        before = result.value
        tables = regularised.update_all(tables, result.q, agents, scheme)
        result = regularised.evaluate(tables)
        residual = regularised.qre_residual(tables, result.q)
        rounds.append(Round(beta, agents, before, result.value, result.plain, residual))
    converged = residual <= tolerance and regularised.beta == last_beta
    return Solution(tables, result.value, result.plain, residual, converged, rounds)


def _listed_order(order: Order | Sequence[int], n_agents: int) -> tuple[int, ...]:
    if order in ("random", "fixed"):
        return tuple(range(n_agents))
    agents = tuple(order)
    if sorted(agents) != list(range(n_agents)):
        raise GameError(f"order {agents} must name each of the {n_agents} agents once")
    return agents


def _safe_log(table: np.ndarray) -> np.ndarray:
    """Logarithm where positive, else 0. So its product with a probability of 0 is 0, not NaN."""
    return np.log(np.where(table > 0, table, 1.0))
