"""Targets and TD loss of QMIX and the learners that build on it.

Shapes: B batch, T time, N agents, A actions, S state.
"""

from collections.abc import Callable

import torch as th
from torch import Tensor

from inspo.utils.batch import Batch
from inspo.utils.rl_utils import gather_last, lambda_returns, masked_mean

# From the agents' values [B, T, N] and the state [B, T, S] to the team's value [B, T], or to the
# agents' values [B, T, N] of independent learners.
MixFunction = Callable[[Tensor, Tensor], Tensor]


def greedy_actions(q: Tensor, available: Tensor) -> Tensor:
    """argmax_a Q^i(tau^i, a) over available actions, [..., A] to [...]; 0 if none is available."""
    return q.masked_fill(~available, -th.inf).argmax(dim=-1)


@th.no_grad()
def double_q_targets(
    q: Tensor,
    target_q: Tensor,
    target_mixer: MixFunction,
    batch: Batch,
    gamma: float,
    td_lambda: float,
) -> Tensor:
    """TD(lambda) targets y with double Q-learning.

    The next value is Q_tot(tau', a', s') of the target networks, at the actions
    a'^i = argmax_a Q^i(tau'^i, a) that the networks in training choose. After a terminal step the
    next value is 0. A truncated episode bootstraps from the value of its final row.

    Args:
        q, target_q: Q^i of the networks in training and of the targets, [B, T+1, N, A].

    Returns:
        [B, T]; 0 for padding. [B, T, N] for independent learners.
    """
    chosen = greedy_actions(q[:, 1:], batch["avail_actions"][:, 1:])
    agent_values = gather_last(target_q[:, 1:], chosen)  # [B, T, N]
    next_values = target_mixer(agent_values, batch["state"][:, 1:])
    return lambda_returns(
        batch["reward"],
        batch["terminated"],
        batch["filled"],
        next_values,
        gamma,
        td_lambda,
    )


def td_loss(q_tot: Tensor, targets: Tensor, filled: Tensor) -> Tensor:
    """L_TD = E_D [ (Q_tot(s, a) - y)^2 / 2 ], a scalar.

    Args:
        q_tot, targets: [B, T]; or [B, T, N] for independent learners, whose errors are averaged.
        filled: [B, T].
    """
    return 0.5 * step_mean((q_tot - targets.detach()).square(), filled)


def step_mean(values: Tensor, filled: Tensor) -> Tensor:
    """Mean over the steps that are not padding, a scalar.

    Args:
        values: [B, T], or [B, T, N] to be averaged over agents, too.
        filled: [B, T].
    """
    if values.dim() > filled.dim():
        filled = filled.unsqueeze(-1).expand_as(values)
    return masked_mean(values, filled)
