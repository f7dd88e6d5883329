"""Functions that several learners use. Shapes: B batch, T time, N agents, A actions."""

from functools import cache

import torch as th
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from inspo.utils.precision import in_float32

# Low enough for a softmax of exactly 0 in float32. Unlike -inf it gives no NaN: 0 * -inf is NaN.
UNAVAILABLE_LOGIT = -1e9


def masked_log_softmax(logits: Tensor, available: Tensor) -> Tensor:
    """Log probabilities over available actions, [..., A].

    Unavailable actions have probability exactly 0. A row without any available action (padding)
    is uniform, so that no NaN arises.
    """
    return F.log_softmax(logits.masked_fill(~available, UNAVAILABLE_LOGIT), dim=-1)


def masked_logsumexp(values: Tensor, available: Tensor) -> Tensor:
    """log sum_a exp(values) over available actions, [..., A] to [...].

    The result is finite even where no action is available (padding).
    """
    return th.logsumexp(values.masked_fill(~available, UNAVAILABLE_LOGIT), dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is set, a scalar; 0 if it is set nowhere.

    Raises:
        ValueError: the shapes differ. Silent broadcasting would give a wrong mean.
    """
    if values.shape != mask.shape:
        raise ValueError(
            f"masked_mean needs equal shapes, got {tuple(values.shape)} and {tuple(mask.shape)}"
        )
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1e-8)


def gather_last(values: Tensor, index: Tensor) -> Tensor:
    """`values[..., index]`: values [..., A] and int [...] to [...]."""
    return values.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def draw(probs: Tensor, generator: th.Generator | None) -> Tensor:
    """One draw from each distribution, [..., A] to int [...].

    The same numbers as `th.multinomial`, which waits for a GPU to check the probabilities. They
    need not add up to 1. A row with NaN gives some action.
    """
    probs = probs.contiguous()
    waiting_times = th.empty_like(probs).exponential_(generator=generator)
    return (probs / waiting_times).argmax(dim=-1)


def entropy(log_probs: Tensor) -> Tensor:
    """Entropy in nats, [..., A] to [...]."""
    return -(log_probs.exp() * log_probs).sum(-1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) in nats, [..., A] to [...]."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def conservative_td_error(
    q: Tensor, actions: Tensor, available: Tensor, target: Tensor, cql_weight: float
) -> Tensor:
    """(Q(s, a) - y)^2 + cql_weight (logsumexp_a Q(s, a) - Q(s, a)), [..., A] to [...].

    The second term is the CQL(H) penalty (Kumar et al. 2020, arXiv:2006.04779, Eq. 4).

    Args:
        q: values of all actions, [..., A].
        actions: the actions taken, int [...].
        available: the actions that logsumexp runs over, bool [..., A].
        target: y, [...].
    """
    chosen_q = gather_last(q, actions)
    conservatism = masked_logsumexp(q, available) - chosen_q
    return (chosen_q - target).square() + cql_weight * conservatism


@in_float32
def lambda_returns(
    reward: Tensor,
    terminated: Tensor,
    filled: Tensor,
    next_values: Tensor,
    gamma: float,
    td_lambda: float,
) -> Tensor:
    """TD(lambda) targets G_t = r_t + gamma (1 - d_t) ((1 - lambda) V_{t+1} + lambda G_{t+1}).

    d_t is `terminated`. The last step of a sequence bootstraps from V_{t+1} alone, so truncated
    episodes are handled correctly. (In PyMARL's recursion padding leaks into their targets.)

    Args:
        reward, terminated, filled: [B, T].
        next_values: V_{t+1}, [B, T] or with more axes (agents) behind.

    Returns:
        G_t in the shape of `next_values`; 0 for padding.
    """
    steps = reward.shape[1]
    bootstrap = gamma * (1 - terminated.to(reward.dtype))
    if td_lambda:
        has_next = th.cat([filled[:, 1:], filled.new_zeros(len(filled), 1)], dim=1)
        is_last = filled & ~has_next
        bootstrap = th.where(is_last, 1.0, 1.0 - td_lambda) * bootstrap
    extra_axes = next_values.dim() - reward.dim()
    reward = _append_axes(reward, extra_axes)
    bootstrap = _append_axes(bootstrap, extra_axes)
    filled = _append_axes(filled, extra_axes)
    one_step = (reward + bootstrap * next_values) * filled
    if not td_lambda:
        return one_step
    # The recursion in closed form: G_t = sum_{k >= t} (gamma lambda)^{k - t} one_step_k.
    make_decay = _decay if reward.device.type == "cpu" else _kept_decay
    decay = make_decay(gamma * td_lambda, steps, reward.device).to(reward.dtype)
    return th.einsum("tk,bk...->bt...", decay, one_step) * filled


def _decay(factor: float, steps: int, device: th.device) -> Tensor:
    """factor^{k - t} for k >= t, else 0; [T, T]."""
    time = th.arange(steps, device=device)
    distance = time - time[:, None]
    return (distance >= 0) * factor ** distance.clamp(min=0)


# For GPUs, where these are seven small operations and few T occur. It drops nothing: CUDA graphs
# read it at its address.
_kept_decay = cache(_decay)


def _append_axes(values: Tensor, count: int) -> Tensor:
    """`values` with `count` more axes of size 1 behind."""
    return values.view(*values.shape, *(1,) * count)


@th.no_grad()
def soft_update(target: list[Tensor], source: list[Tensor], tau: float) -> None:
    """target <- (1 - tau) target + tau source, for parameters in the same order."""
    th._foreach_lerp_(target, source, tau)


def exponential_decay(start: float, end: float, steps: int, step: int) -> float:
    """From `start` to `end` within so many steps, by the same factor at each; then constant."""
    progress = min(step / steps, 1.0)
    return start * (end / start) ** progress
