"""AlberDICE's losses (1) to (5), in the order of alberdice_learner.py, which explains the symbols.

Shapes: B batch, T time, N agents, A actions.
"""

import math

import torch as th
from torch import Tensor, nn

from inspo.modules.behaviour import AutoregressiveBehaviour
from inspo.utils.batch import Batch
from inspo.utils.rl_utils import conservative_td_error, kl_divergence, masked_mean


def log_importance_ratio(
    log_pi_taken: Tensor,
    teammates_log_prob: Tensor,
    agent: int,
    ratio_max: float,
) -> Tensor:
    """log rho_i (1), at most log `ratio_max`.

    Args:
        log_pi_taken: log pi^j(a^j | o^j) of the actions taken, [B, T, N].
        teammates_log_prob: log pi^D(a^-i | s, a^i), [B, T].
        agent: i.

    Returns:
        [B, T].
    """
    teammates = teammates_of(agent, log_pi_taken.shape[-1])
    log_rho = log_pi_taken[..., teammates].sum(dim=-1) - teammates_log_prob
    return log_rho.clamp(max=math.log(ratio_max))


def teammates_of(agent: int, n_agents: int) -> list[int]:
    """The numbers of the other agents."""
    return [j for j in range(n_agents) if j != agent]


def teammates_divergence(
    log_pi: Tensor,
    batch: Batch,
    agent: int,
    model: AutoregressiveBehaviour,
    samples: int,
    generator: th.Generator,
) -> Tensor:
    """KL(pi^-i(. | s) || pi^D(. | s, a^i)) of (2), at the batch's s and a^i.

    It is sum_{j != i} E[ KL(pi^j || pi^D(. | s, a^i, a^k: k before j)) ] over the actions
    a^k ~ pi^k of earlier teammates.

    Args:
        log_pi: log pi^j(. | o^j) of all agents, [B, T, N, A].
        samples: number of draws of the earlier teammates' actions. A single teammate needs none.

    Returns:
        [B, T].
    """
    n_agents = log_pi.shape[2]
    draws = samples if n_agents > 2 else 1
    state = _repeat_steps(batch["state"], draws)  # [draws * B * T, S]
    actions = _repeat_steps(batch["actions"], draws)
    available = _repeat_steps(batch["avail_actions"], draws)
    log_pi = _repeat_steps(log_pi, draws)
    if n_agents > 2:
        drawn = th.multinomial(log_pi.exp().flatten(0, 1), 1, generator=generator)
        is_agent = th.arange(n_agents, device=actions.device) == agent
        actions = th.where(is_agent, actions, drawn.view(actions.shape))
    who = th.full((len(state),), agent, device=state.device)
    log_behaviour = model.conditionals(who, state, actions, available)  # [draws * B * T, N-1, A]
    teammates = teammates_of(agent, n_agents)
    divergence = kl_divergence(log_pi[:, teammates], log_behaviour).sum(dim=-1)
    return divergence.view(draws, *batch["filled"].shape).mean(dim=0)


def _repeat_steps(rows: Tensor, times: int) -> Tensor:
    """[B, T, ...] to [times * B * T, ...]."""
    steps = rows.flatten(0, 1)
    return steps.repeat(times, *(1,) * (steps.dim() - 1))


def temporal_difference(
    reward: Tensor,
    terminated: Tensor,
    divergence: Tensor,
    nu: Tensor,
    alpha: float,
    gamma: float,
) -> Tensor:
    """e_i(s, a, s') (2), [B, T]. A terminal step leads to the absorbing state, where nu_i is 0.

    Args:
        reward, terminated, divergence: [B, T].
        nu: nu_i(s) at all rows, [B, T+1].
    """
    not_terminated = 1 - terminated.to(reward.dtype)
    return reward - alpha * divergence + gamma * not_terminated * nu[:, 1:] - nu[:, :-1]


def nu_loss(
    error: Tensor,
    nu: Tensor,
    log_rho: Tensor,
    filled: Tensor,
    alpha: float,
    gamma: float,
    termination_rate: float,
) -> Tensor:
    """L(nu_i) (3) without the penalty. In the absorbing state e_i = 0 and rho_i = 1.

    Args:
        error: e_i(s, a, s') of (2), with a gradient through both nu_i, [B, T].
        nu: nu_i(s), [B, T].
        log_rho, filled: [B, T].
        termination_rate: terminations per step of the dataset.
    """
    absorbing = termination_rate * gamma / (1 - gamma)  # its weight, a real step's being 1
    n_steps = filled.sum()
    exponents = (log_rho + error / alpha).masked_fill(~filled, -th.inf).flatten()
    tail = (absorbing * n_steps).log().view(1)
    log_sum = th.cat([exponents, tail]).logsumexp(dim=0)
    log_mean = log_sum - ((1 + absorbing) * n_steps).log()
    return (1 - gamma) * masked_mean(nu, filled) + alpha * log_mean


def gradient_penalty(
    nu: nn.Module,
    state: Tensor,
    filled: Tensor,
    generator: th.Generator,
) -> Tensor:
    """E[ |grad nu_i(s)|^2 ] of (3), at random points between pairs of the batch's states.

    Args:
        state: [B, T, S].
        filled: [B, T].
    """
    state, filled = state.flatten(0, 1), filled.flatten()
    other = th.randperm(len(state), generator=generator, device=state.device)
    share = th.rand(len(state), 1, generator=generator, device=state.device)
    between = (share * state + (1 - share) * state[other]).requires_grad_()
    (slope,) = th.autograd.grad(nu(between).sum(), between, create_graph=True)
    return masked_mean(slope.square().sum(dim=-1), filled & filled[other])


def advantage_loss(
    e: Tensor,
    error: Tensor,
    actions: Tensor,
    available: Tensor,
    weights: Tensor,
    cql_weight: float,
) -> Tensor:
    """L(e_i) (4), a scalar.

    Args:
        e: e_i(s, .), [B, T, A].
        error: e_i(s, a, s'), [B, T].
        actions: a^i, int [B, T].
        available: bool [B, T, A].
        weights: rho_i normalised to a sum of 1 over real steps, [B, T].
    """
    loss = conservative_td_error(e, actions, available, error, cql_weight)
    return (loss * weights).sum()


def policy_loss(
    log_pi: Tensor,
    e: Tensor,
    log_behaviour: Tensor,
    weights: Tensor,
    alpha: float,
) -> Tensor:
    """L(pi^i) (5), a scalar.

    Args:
        log_pi, e, log_behaviour: log pi^i, e_i and log pi^D_i, [B, T, A].
        weights: as in `advantage_loss`, [B, T].
    """
    loss = alpha * kl_divergence(log_pi, log_behaviour) - (log_pi.exp() * e).sum(dim=-1)
    return (loss * weights).sum()
