"""Exact InSPO (Liu et al. 2025, Algorithm 1) on a `MarkovGame`: evaluation by linear solve, no sampling, no network.

Symbols: pi^i a table of the policy, mu^i of the behaviour, alpha and beta the temperatures, Q [S, A_1, ..., A_N],
Qbar^i [S, A_i]. An action that mu^i never takes is outside the support and keeps probability exactly 0.
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
    """What a policy is worth."""

    value: np.ndarray  # V [S], regularised
    q: np.ndarray  # Q [S, A_1, ..., A_N], regularised from the next step on
    plain: np.ndarray  # [S], the discounted reward alone


class Round(NamedTuple):
    """One round: all agents updated once. Both values are under the round's own beta."""

    beta: float
    order: tuple[int, ...]
    before: np.ndarray  # V [S] of the policy that entered the round
    after: np.ndarray  # V [S] of the policy that left it
    plain: np.ndarray  # [S], the discounted reward alone of the policy that left it
    residual: float  # distance of the policy that left it from the QRE


@dataclass(frozen=True)
class Solution:
    """Where the rounds ended."""

    policy: Policy
    value: np.ndarray  # V [S] under the last beta
    plain: np.ndarray  # [S]
    residual: float
    converged: bool  # the residual is within the tolerance, and beta has reached its end
    rounds: list[Round]

    @property
    def largest_decrease(self) -> float:
        """By how much V fell most, in any state and round, under that round's own beta; 0 if it never fell."""
        return max([0.0, *(float((r.before - r.after).max()) for r in self.rounds)])


class RegularisedGame:
    """The MEBR-MG of eq. 9: a game, a behaviour policy and both temperatures.

    Args:
        behaviour: mu, one table [S, A_i] for each agent.
        alpha: temperature towards the behaviour. With 0 only its support matters.
        beta: temperature of the entropy.

    Raises:
        GameError: no policy of this game, a temperature below 0 or not finite, or both 0.
    """

    def __init__(
        self, game: MarkovGame, behaviour: Sequence[np.ndarray], alpha: float, beta: float
    ):
        for name, temperature in (("alpha", alpha), ("beta", beta)):
            if not (np.isfinite(temperature) and temperature >= 0):
                raise GameError(f"{name} is {temperature}; it must be a finite number, 0 or more")
        if alpha + beta <= 0:
            raise GameError(
                "alpha and beta are both 0; one of them must be positive, or no response is defined"
            )
        self.game, self.alpha, self.beta = game, float(alpha), float(beta)
        self.behaviour = game.check_policy(behaviour, "behaviour")
        self.support = tuple(table > 0 for table in self.behaviour)
        self.log_behaviour = tuple(
            _safe_log(table) for table in self.behaviour
        )  # 0 outside of the support

    def check_support(self, policy: Sequence[np.ndarray]) -> Policy:
        """Returns `policy` as float64 tables; GameError if it takes an action that the behaviour never takes."""
        tables = self.game.check_policy(policy, "initial")
        for agent, (table, support) in enumerate(zip(tables, self.support, strict=True)):
            if (table[~support] > 0).any():
                state, action = np.argwhere((table > 0) & ~support)[0]
                raise GameError(
                    f"agent {agent}'s policy takes action {action} in state {state}, its behaviour never"
                )
        return tables

    def evaluate(self, policy: Policy) -> Evaluation:
        """V and Q of eq. 10, exactly."""
        joint = joint_policy(policy)
        reward = (joint * self.game.flat_reward).sum(axis=-1)
        charge = np.zeros_like(reward)  # E[alpha log(pi/mu) + beta log pi], a sum over agents
        for table, log_behaviour in zip(policy, self.log_behaviour, strict=True):
            charge += (
                table * ((self.alpha + self.beta) * _safe_log(table) - self.alpha * log_behaviour)
            ).sum(axis=-1)
        value, plain = self.game.values(joint, np.stack((reward - charge, reward), axis=-1)).T
        return Evaluation(value, self.game.action_values(value), plain)

    def response(self, agent: int, q: np.ndarray, policy: Policy) -> np.ndarray:
        """Eq. 12 and 13: mu^(alpha/(alpha+beta)) exp(Qbar/(alpha+beta)), normalised over the support. [S, A_i]."""
        scores = (self.alpha * self.log_behaviour[agent] + over_teammates(q, policy, agent)) / (
            self.alpha + self.beta
        )
        scores = np.where(self.support[agent], scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    def sequential_round(self, policy: Policy, q: np.ndarray, order: Sequence[int]) -> Policy:
        """Each agent responds to its teammates as they are by now, those before it in `order` updated. Q stays."""
        tables = list(policy)
        for agent in order:
            tables[agent] = self.response(agent, q, tuple(tables))
        return tuple(tables)

    def simultaneous_round(self, policy: Policy, q: np.ndarray) -> Policy:
        """The ablation: all agents respond to their teammates as they were before the round. Nothing is guaranteed."""
        return tuple(self.response(agent, q, policy) for agent in range(self.game.n_agents))

    def qre_residual(self, policy: Policy, q: np.ndarray | None = None) -> float:
        """Largest change of any probability if every agent responded to `policy`; 0 exactly at a QRE (eq. 11).

        Args:
            q: the policy's Q, where it is known already.
        """
        q = self.evaluate(policy).q if q is None else q
        responses = self.simultaneous_round(policy, q)
        return max(
            float(np.abs(new - old).max()) for new, old in zip(responses, policy, strict=True)
        )


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
    """Beta of a round: exponentially from `beta_start` to `beta_end` over `beta_rounds` rounds, then constant.

    Raises:
        GameError: exponential decay cannot start from or arrive at 0.
    """
    if beta_end is None or beta_end == beta_start:
        return beta_start
    if beta_start <= 0 or beta_end <= 0:
        raise GameError(
            f"beta cannot decay exponentially from {beta_start} to {beta_end}: both must be positive, or both the same"
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
        beta_end, beta_rounds: where beta decays to, and over how many rounds. None: beta stays at `beta_start`.
        order: of agents, `random` (drawn for each round), `fixed` (0, 1, ..., N - 1), or a fixed one written out.
        policy: where to start; None: at the behaviour.
        tolerance: the QRE residual at which to stop.

    Raises:
        GameError: see `RegularisedGame`, `beta_schedule` and `MarkovGame.values`.
    """
    rng = np.random.default_rng(seed)
    agents = tuple(range(game.n_agents)) if order in ("random", "fixed") else tuple(order)
    if sorted(agents) != list(range(game.n_agents)):
        raise GameError(f"order {agents} must name each of the {game.n_agents} agents once")
    regularised = RegularisedGame(game, behaviour, alpha, beta_start)
    last_beta = beta_schedule(beta_start, beta_end, beta_rounds, beta_rounds)
    tables = regularised.check_support(behaviour if policy is None else policy)
    evaluation = regularised.evaluate(tables)
    residual = regularised.qre_residual(tables, evaluation.q)
    rounds: list[Round] = []
    while len(rounds) < max_rounds and (residual > tolerance or regularised.beta != last_beta):
        beta = beta_schedule(beta_start, beta_end, beta_rounds, len(rounds))
        if beta != regularised.beta:
            regularised = RegularisedGame(game, behaviour, alpha, beta)
            evaluation = regularised.evaluate(tables)
        now = (
            tuple(int(agent) for agent in rng.permutation(agents)) if order == "random" else agents
        )
        before = evaluation.value
        if scheme == "sequential":
            tables = regularised.sequential_round(tables, evaluation.q, now)
        else:
            tables = regularised.simultaneous_round(tables, evaluation.q)
        evaluation = regularised.evaluate(tables)
        residual = regularised.qre_residual(tables, evaluation.q)
        rounds.append(Round(beta, now, before, evaluation.value, evaluation.plain, residual))
    converged = residual <= tolerance and regularised.beta == last_beta
    return Solution(tables, evaluation.value, evaluation.plain, residual, converged, rounds)


def _safe_log(table: np.ndarray) -> np.ndarray:
    """Logarithm where positive, 0 elsewhere: its product with a probability of 0 is then 0, never NaN."""
    return np.log(np.where(table > 0, table, 1.0))
