"""The arithmetic of value decomposition, for QMIX and its offline descendants. B batch, T time, N agents, A actions."""

from collections.abc import Callable

import torch as th
from torch import Tensor

from inspo.utils.batch import Batch
from inspo.utils.rl_utils import gather_last, lambda_returns, masked_mean

Mixer = Callable[
    [Tensor, Tensor], Tensor
]  # agents' values [B, T, N], state [B, T, S] -> the team's [B, T]


def greedy_actions(q: Tensor, available: Tensor) -> Tensor:
    """argmax_a Q^i(tau^i, a) over available actions: both [..., A], result [...]; the first one where there is none."""
    return q.masked_fill(~available, -th.inf).argmax(dim=-1)


@th.no_grad()
def double_q_targets(
    q: Tensor, target_q: Tensor, target_mixer: Mixer, batch: Batch, gamma: float, td_lambda: float
) -> Tensor:
    """y [B, T]: TD(lambda) returns of  Q_tot(tau', a', s'; target),  a'^i = argmax_a Q^i(tau'^i, a): double Q-learning.

    A terminated episode's last target is its reward alone; a truncated one's adds the value of what followed. Targets
    of padding are 0.

    Args:
        q, target_q: Q^i of all rows by the network in training and by its target, [B, T+1, N, A].
    """
    chosen = greedy_actions(q[:, 1:], batch["avail_actions"][:, 1:])
    values = target_mixer(gather_last(target_q[:, 1:], chosen), batch["state"][:, 1:])  # [B, T]
    return lambda_returns(
        batch["reward"], batch["terminated"], batch["filled"], values, gamma, td_lambda
    )


def td_loss(q_tot: Tensor, targets: Tensor, filled: Tensor) -> Tensor:
    """L_TD = E_D [ (Q_tot(s, a) - y)^2 / 2 ] over real steps; all arguments [B, T]."""
    return 0.5 * masked_mean((q_tot - targets.detach()).square(), filled)
