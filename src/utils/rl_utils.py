"""The arithmetic that learners share. Shapes: B batch, T time, N agents, A actions."""

import torch as th
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

# A logit at which softmax is exactly 0 in float32, and whose products with 0 stay finite (unlike -inf).
UNAVAILABLE_LOGIT = -1e9


def masked_log_softmax(logits: Tensor, available: Tensor) -> Tensor:
    """Log probabilities [..., A] over available actions.

    An unavailable action has a log probability so low that its probability is exactly 0. A row without any available
    action (padding) is uniform: nothing is ever NaN.
    """
    return F.log_softmax(logits.masked_fill(~available, UNAVAILABLE_LOGIT), dim=-1)


def masked_logsumexp(values: Tensor, available: Tensor) -> Tensor:
    """log sum_a exp(values) over available actions, [..., A] to [...]; finite where there is none (padding)."""
    return th.logsumexp(values.masked_fill(~available, UNAVAILABLE_LOGIT), dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is set, a scalar; 0 where nothing is.

    Raises:
        ValueError: the shapes differ. Broadcasting here has hidden many a wrong loss.
    """
    if values.shape != mask.shape:
        raise ValueError(
            f"masked_mean needs equal shapes, got {tuple(values.shape)} and {tuple(mask.shape)}"
        )
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1e-8)


def gather_last(values: Tensor, index: Tensor) -> Tensor:
    """`values[..., index]`: [..., A] and integer [...] give [...]."""
    return values.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy in nats, [..., A] to [...]."""
    return -(log_probs.exp() * log_probs).sum(-1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) in nats, [..., A] to [...]."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def lambda_returns(
    reward: Tensor,
    terminated: Tensor,
    filled: Tensor,
    next_values: Tensor,
    gamma: float,
    td_lambda: float,
) -> Tensor:
    """TD(lambda) targets G_t = r_t + gamma (1 - terminated_t) ((1 - lambda) V_{t+1} + lambda G_{t+1}); 0 at padding.

    At the last step of a sequence, which may be a truncated episode's, the whole of V_{t+1} stands for what follows.
    PyMARL's recursion lets padding leak into such an episode.

    Args:
        reward, terminated, filled: [B, T].
        next_values: V_{t+1}, what is worth what followed step t, [B, T] or with further axes (agents) behind.

    Returns:
        as next_values.
    """
    steps = reward.shape[1]
    share = gamma * (1 - terminated.to(reward.dtype))
    if td_lambda:
        last = filled & ~th.cat([filled[:, 1:], filled.new_zeros(len(filled), 1)], dim=1)
        share = th.where(last, 1.0, 1.0 - td_lambda) * share
    extra = (1,) * (next_values.dim() - reward.dim())
    reward, share, real = (array.view(*array.shape, *extra) for array in (reward, share, filled))
    one_step = (reward + share * next_values) * real
    if not td_lambda:
        return one_step
    # The recursion written out: G_t = sum_{k >= t} (gamma lambda)^{k - t} one_step_k; only a last step terminates.
    distance = (
        th.arange(steps, device=reward.device) - th.arange(steps, device=reward.device)[:, None]
    )
    decay = (distance >= 0) * (gamma * td_lambda) ** distance.clamp(min=0)
    return th.einsum("tk,bk...->bt...", decay.to(reward.dtype), one_step) * real


@th.no_grad()
def soft_update(target: list[Tensor], source: list[Tensor], tau: float) -> None:
    """target <- (1 - tau) target + tau source, for the parameters of a network and its copy."""
    th._foreach_lerp_(target, source, tau)
