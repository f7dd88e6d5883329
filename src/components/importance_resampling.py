"""Importance ratios, and batches resampled towards what the teammates do now (Eq. 14, 15, 23).

Shapes: B batch, T time, N agents, N' the agents whose turn it is. i is such an agent, j a teammate.
"""

import torch as th
from torch import Tensor


def teammates_log_pi_in(order: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """sum_{j != i} log pi^j(a^j | tau^j) in every agent's turn, [B, T, N].

    Teammates before i in the order are already updated, those after it are not.

    Args:
        order: the agents' numbers, int [N].
        before, after: log pi^j(a^j | tau^j) before and after agent j's update, [B, T, N].
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
        geometric: divide by N - 1: rho is a geometric mean over the teammates (Eq. 23).
    """
    log_rho = teammates_log_pi - teammates_log_prob
    return log_rho / max(n_agents - 1, 1) if geometric else log_rho


def resample(rho: Tensor, filled: Tensor, generator: th.Generator) -> Tensor:
    """D_rho: draws with replacement, with probability proportional to rho (Eq. 15).

    Args:
        rho: of each agent, [B, T, N'].
        filled: [B, T]. As many steps are drawn as are filled.

    Returns:
        how often each step was drawn, [B, T, N']. A mean over D_rho is weighted by these counts.
    """
    # multinomial on NaN crashes CUDA. A diverged run stops where its metrics are read.
    finite_rho = rho.nan_to_num(nan=1.0)
    probabilities = (finite_rho * filled[..., None]).flatten(0, 1).T  # [N', B * T]
    # On a GPU the number is not read, since that would wait: draws beyond it count nothing.
    n_steps = filled.sum()
    n_draws = int(n_steps) if filled.device.type == "cpu" else filled.numel()
    draws = th.multinomial(probabilities, n_draws, replacement=True, generator=generator)
    ones = (th.arange(n_draws, device=draws.device) < n_steps).to(rho.dtype)
    counts = th.zeros_like(probabilities).scatter_add_(1, draws, ones.expand_as(draws))
    return counts.T.view_as(rho)
