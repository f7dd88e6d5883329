"""InSPO's losses, in the paper's order (Liu et al., AAAI 2025); equation numbers are the paper's.

Steps 1 and 2 of an update, ratio and resampling (Eq. 14, 15), are in
components/importance_resampling.py.

Shapes: B batch, T time, A actions, N' the agents that are updated: one, or all of them.
"""

from math import log

from torch import Tensor

from inspo.utils.rl_utils import conservative_td_error, gather_last, lambda_returns


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
    """The target y of Q^i, [B, T, N'] (Eq. 24).

    y = r + gamma E_{a' ~ pibar^i} [ Qbar^i(s', a') - alpha log(pibar^i / mu^i) - beta log pibar^i ]

    The teammates' regularisers are left out, as in the paper. Nothing follows a terminated step.

    Args:
        reward, terminated, filled: [B, T].
        next_q, next_log_pi, next_log_mu: Qbar^i, log pibar^i, log mu^i at s', [B, T, N', A].
        alpha: of each agent, [N'].
        td_lambda: the paper's is 0. Above 0, part of what follows is taken from the episode as it
            was played (Peng's Q(lambda), without correction).
    """
    regulariser = alpha[:, None] * (next_log_pi - next_log_mu)
    regularised = next_q - regulariser - beta * next_log_pi
    next_value = (next_log_pi.exp() * regularised).sum(dim=-1)
    return lambda_returns(reward, terminated, filled, next_value, gamma, td_lambda)


def value_loss(
    q: Tensor,
    actions: Tensor,
    available: Tensor,
    target: Tensor,
    counts: Tensor,
    cql_weight: float,
) -> Tensor:
    """L(Q^i) of each agent, [N'] (Eq. 24).

    L(Q^i) = E_{D_rho} [ (Q^i(s, a^i) - y)^2 + c_cql (logsumexp_a Q^i(s, a) - Q^i(s, a^i)) ]

    The second term (CQL) pulls down an action whose teammates' replies have left D_rho: no TD
    error reaches it.

    Args:
        q: Q^i(s, .), [B, T, N', A].
        available: which actions the logsumexp runs over, bool [B, T, N', A].
        actions, target: [B, T, N'].
        counts: how often D_rho holds each step, [B, T, N'].
    """
    loss = conservative_td_error(q, actions, available, target, cql_weight)
    return (loss * counts).sum(dim=(0, 1)) / counts.sum(dim=(0, 1))


def advantage(
    q: Tensor, log_target_pi: Tensor, log_mu: Tensor, actions: Tensor, beta: float
) -> Tensor:
    """A^i(s, a^i) of the actions taken, [B, T, N'] (below Eq. 20).

    A^i(s, a^i) = score(s, a^i) - E_{b ~ pibar^i} [ score(s, b) ]
    score(s, a) = Q^i(s, a) - beta log mu^i(a | tau^i)

    Args:
        q, log_target_pi, log_mu: of all actions, [B, T, N', A].
        actions: [B, T, N'].
    """
    score = q - beta * log_mu
    target_pi = log_target_pi.exp()
    # An unavailable action has probability 0, but a log mu that would still be huge.
    possible_score = score.masked_fill(target_pi == 0, 0.0)
    baseline = (target_pi * possible_score).sum(dim=-1)
    return gather_last(score, actions) - baseline


def policy_loss(
    log_pi_taken: Tensor,
    advantages: Tensor,
    temperature: Tensor,
    weights: Tensor,
    weight_max: float,
) -> Tensor:
    """L(pi^i) of each agent, [N'] (Eq. 20).

    L(pi^i) = - E [ exp(A^i(s, a^i) / (alpha + beta)) log pi^i(a^i | tau^i) ]

    Its minimiser over distributions is mu^{alpha/(alpha+beta)} exp(Q/(alpha+beta)), normalised:
    the quantal response of Eq. 12. Only actions of the dataset are evaluated.

    Args:
        log_pi_taken, advantages: [B, T, N'].
        temperature: alpha + beta of each agent, [N'].
        weights: of the steps in the expectation, [B, T, N']: 1 where filled, or the counts of
            D_rho.
        weight_max: bound on exp(A / (alpha + beta)).
    """
    exponent = (advantages / temperature).clamp(max=log(weight_max))
    loss = exponent.exp().detach() * log_pi_taken
    return -(loss * weights).sum(dim=(0, 1)) / weights.sum(dim=(0, 1))


def temperature_loss(log_alpha: Tensor, kl: Tensor, kl_target: float) -> Tensor:
    """L(alpha) = alpha (KL_target - E_D [ KL(pi^i || mu^i) ])   (Eq. 25).

    Alpha grows when the policy strays from the behaviour further than the target.
    """
    return log_alpha.exp() * (kl_target - kl.detach())
