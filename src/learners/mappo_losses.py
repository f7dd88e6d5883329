"""MAPPO's advantages and losses. Shapes: B batch, T time."""

import torch as th
from torch import Tensor

from inspo.utils.rl_utils import lambda_returns, masked_mean

MIN_DEVIATION = 1e-8


def advantages_and_returns(
    reward: Tensor,
    terminated: Tensor,
    filled: Tensor,
    values: Tensor,
    gamma: float,
    gae_lambda: float,
) -> tuple[Tensor, Tensor]:
    """Generalised advantages (Schulman et al. 2016, arXiv:1506.02438, Eq. 16) and returns.

    A_t = sum_k (gamma lambda)^k delta_{t+k},  delta_t = r_t + gamma (1 - d_t) V_{t+1} - V_t

    A_t + V_t is the TD(lambda) return. d_t is `terminated`: a truncated episode bootstraps from the
    value of its final row.

    Args:
        reward, terminated, filled: [B, T].
        values: V_t, [B, T+1].

    Returns:
        A_t and A_t + V_t, [B, T] each; 0 for padding.
    """
    returns = lambda_returns(reward, terminated, filled, values[:, 1:], gamma, gae_lambda)
    return (returns - values[:, :-1]) * filled, returns


def standardise_advantages(values: Tensor, mask: Tensor) -> Tensor:
    """Values with mean 0 and standard deviation 1 where `mask` is set, in the same shape."""
    mean = masked_mean(values, mask)
    deviation = masked_mean((values - mean).square(), mask).sqrt()
    return (values - mean) / (deviation + MIN_DEVIATION)


def clipped_policy_loss(
    log_prob: Tensor,
    old_log_prob: Tensor,
    advantages: Tensor,
    mask: Tensor,
    eps_clip: float,
) -> Tensor:
    """PPO's objective with the sign of a loss (Schulman et al. 2017, arXiv:1707.06347, Eq. 7).

    L = - E [ min( r A, clip(r, 1 - eps, 1 + eps) A ) ],  r = pi(a | tau) / pi_old(a | tau)

    Args:
        log_prob, old_log_prob: of the actions taken, [...].
        advantages: of the same decisions, [...].
        mask: which decisions count, bool [...].

    Returns:
        a scalar, the mean over the decisions that count.
    """
    ratio = (log_prob - old_log_prob).exp()
    clipped = ratio.clamp(1 - eps_clip, 1 + eps_clip)
    objective = th.minimum(ratio * advantages, clipped * advantages)
    return -masked_mean(objective, mask)


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, eps_clip: float
) -> Tensor:
    """The larger one of two squared errors, halved (arXiv:2103.01955, Appendix C).

    L = E [ max( (V - G)^2, (V_old + clip(V - V_old, -eps, eps) - G)^2 ) / 2 ]

    Args:
        values, old_values: V and V_old, the critic's outputs now and before the round, [...].
        returns: G, normalised, [...].

    Returns:
        a scalar, the mean.
    """
    clipped = old_values + (values - old_values).clamp(-eps_clip, eps_clip)
    errors = (values - returns).square()
    clipped_errors = (clipped - returns).square()
    return 0.5 * th.maximum(errors, clipped_errors).mean()
