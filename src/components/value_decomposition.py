"""The arithmetic of value decomposition, for QMIX and its offline descendants. B batch, T time, N agents, A actions."""

from torch import Tensor

from utils.rl_utils import UNAVAILABLE_LOGIT, gather_last, masked_mean


def double_q_values(q: Tensor, target_q: Tensor, available: Tensor) -> Tensor:
    """Qbar^i(tau^i, argmax_a Q^i(tau^i, a)): the network picks, its target says what it is worth.

    Args:
        q, target_q: of all actions, [B, T, N, A].
        available: bool [B, T, N, A]. A row without any (what follows a game's end) gives a finite value, nothing more.

    Returns:
        [B, T, N].
    """
    return gather_last(target_q, q.masked_fill(~available, UNAVAILABLE_LOGIT).argmax(dim=-1))


def td_loss(q_tot: Tensor, target: Tensor, filled: Tensor) -> Tensor:
    """E_D [ (Q_tot(s, a) - y)^2 / 2 ] over real steps; all arguments [B, T]."""
    return 0.5 * masked_mean((q_tot - target).square(), filled)
