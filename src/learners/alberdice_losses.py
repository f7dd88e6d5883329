"""AlberDICE's losses (1) to (5), in the order of alberdice_learner.py, which explains the symbols.

Shapes: B batch, T time, N agents, A actions, R rows (draws times steps).
"""

import math
from collections.abc import Sequence

import torch as th
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from inspo.modules.behaviour import AutoregressiveBehaviour
from inspo.modules.mlp import MLP, linear, stack_linear
from inspo.utils.batch import Batch
from inspo.utils.precision import in_float32
from inspo.utils.rl_utils import conservative_td_error, draw, kl_divergence

PENALTY_POINTS = 256  # at most, of each batch
# Rows of the model of teammates in one call. A processor's cache holds few of them.
MAX_ROWS = {"cpu": 1 << 13}
MAX_ROWS_ELSEWHERE = 1 << 18


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
    agents = th.arange(log_pi_taken.shape[-1], device=log_pi_taken.device)
    teammates = log_pi_taken.masked_fill(agents == agent, 0.0).sum(dim=-1)
    return (teammates - teammates_log_prob).clamp(max=math.log(ratio_max))


def step_weights(log_rho: Tensor, filled: Tensor) -> Tensor:
    """rho_i normalised to a sum of 1 over real steps, [B, T] or [B, T, N] as `log_rho`."""
    mask = filled if log_rho.dim() == filled.dim() else filled[..., None]
    logits = log_rho.masked_fill(~mask, -th.inf)
    return logits.flatten(0, 1).softmax(dim=0).view_as(log_rho)


def teammates_divergence(
    before: Tensor,
    after: Tensor,
    batch: Batch,
    model: AutoregressiveBehaviour,
    samples: int,
    generator: th.Generator,
) -> Tensor:
    """KL(pi^-i(. | s) || pi^D(. | s, a^i)) of (2) for every agent i, at the batch's s and a^i.

    It is sum_{j != i} E[ KL(pi^j || pi^D(. | s, a^i, a^k: k before j)) ] over the actions
    a^k ~ pi^k of earlier teammates. All agents share these draws.

    Args:
        before, after: log pi^j(. | o^j) before and after agent j's turn, [B, T, N, A]. In agent i's
            turn, those before it have had theirs.
        samples: number of draws of the earlier teammates' actions. A single teammate needs none.

    Returns:
        [B, T, N].
    """
    n_agents = before.shape[2]
    draws = samples if n_agents > 2 else 1
    rows = {name: batch[name] for name in ("state", "actions", "avail_actions")}
    rows |= {"before": before, "after": after}
    rows = {name: _repeat_steps(values, draws) for name, values in rows.items()}
    if n_agents > 2:
        drawn = [draw(rows[name].exp(), generator) for name in ("before", "after")]
    else:
        drawn = [rows["actions"], rows["actions"]]
    n_rows = len(rows["state"]) * (n_agents - 1)
    max_rows = MAX_ROWS.get(before.device.type, MAX_ROWS_ELSEWHERE)
    at_once = max(max_rows // max(n_rows, 1), 1)
    agents = th.arange(n_agents, device=before.device)
    parts = [_divergence_of(part, rows, drawn, model) for part in agents.split(at_once)]
    return th.cat(parts, dim=-1).view(draws, *batch["filled"].shape, n_agents).mean(dim=0)


def _divergence_of(
    agents: Tensor, rows: Batch, drawn: list[Tensor], model: AutoregressiveBehaviour
) -> Tensor:
    """The divergence that each of `agents`, int [G], sees in its turn, [R, G].

    Args:
        drawn: the teammates' actions before and after their turns, int [R, N] each.
    """
    numbers = th.arange(rows["actions"].shape[1], device=agents.device)
    who = agents[:, None]
    teammates = model.teammates[agents]  # [G, N-1]
    others = th.where(numbers < who, drawn[1][:, None], drawn[0][:, None])
    actions = th.where(numbers == who, rows["actions"][:, None], others)  # [R, G, N]

    def of_each(values: Tensor) -> Tensor:
        return values[:, None].expand(-1, len(agents), *values.shape[1:]).flatten(0, 1)

    log_behaviour = model.conditionals(
        agents.expand(len(actions), -1).flatten(),
        of_each(rows["state"]),
        actions.flatten(0, 1),
        of_each(rows["avail_actions"]),
    ).unflatten(0, actions.shape[:2])  # [R, G, N-1, A]
    had_turn = (teammates < who)[..., None]
    log_pi = th.where(had_turn, rows["after"][:, teammates], rows["before"][:, teammates])
    return kl_divergence(log_pi, log_behaviour).sum(dim=-1)


def _repeat_steps(values: Tensor, times: int) -> Tensor:
    """[B, T, ...] to [times * B * T, ...]."""
    steps = values.flatten(0, 1)
    return steps.repeat(times, *(1,) * (steps.dim() - 1)) if times > 1 else steps


def temporal_difference(
    reward: Tensor,
    terminated: Tensor,
    divergence: Tensor,
    nu: Tensor,
    alpha: float,
    gamma: float,
) -> Tensor:
    """e_i(s, a, s') (2), [B, T, N]. A terminal step leads to the absorbing state, where nu_i is 0.

    Args:
        reward, terminated: [B, T].
        divergence: [B, T, N].
        nu: nu_i(s) at all rows, [B, T+1, N].
    """
    not_terminated = (1 - terminated.to(reward.dtype))[..., None]
    future = gamma * not_terminated * nu[:, 1:]
    return reward[..., None] - alpha * divergence + future - nu[:, :-1]


def nu_loss(
    error: Tensor,
    nu: Tensor,
    log_rho: Tensor,
    filled: Tensor,
    alpha: float,
    gamma: float,
    termination_rate: float,
) -> Tensor:
    """L(nu_i) (3) without the penalty, [N]. In the absorbing state e_i = 0 and rho_i = 1.

    Args:
        error: e_i(s, a, s') of (2), with a gradient through both nu_i, [B, T, N].
        nu: nu_i(s), [B, T, N].
        log_rho: [B, T, N].
        filled: [B, T].
        termination_rate: terminations per step of the dataset.
    """
    absorbing = termination_rate * gamma / (1 - gamma)  # its weight, a real step's being 1
    n_steps = filled.sum()
    mask = filled[..., None]
    exponents = (log_rho + error / alpha).masked_fill(~mask, -th.inf).flatten(0, 1)
    tail = (absorbing * n_steps).log().expand(1, exponents.shape[1])
    log_sum = th.cat([exponents, tail]).logsumexp(dim=0)
    log_mean = log_sum - ((1 + absorbing) * n_steps).log()
    return (1 - gamma) * (nu * mask).sum(dim=(0, 1)) / n_steps + alpha * log_mean


@in_float32
def gradient_penalty(
    networks: Sequence[MLP],
    state: Tensor,
    filled: Tensor,
    generator: th.Generator,
) -> Tensor:
    """E[ |grad nu_i(s)|^2 ] of (3) for every agent, [N].

    The points lie at random between pairs of the batch's states. They are the same for all agents.
    There are at most PENALTY_POINTS, since neighbouring states of an episode are much alike.

    Args:
        networks: nu of each agent.
        state: [B, T, S].
        filled: [B, T].
    """
    state, filled = state.flatten(0, 1), filled.flatten()
    device = state.device
    pairs = [th.randperm(len(state), generator=generator, device=device) for _ in range(2)]
    one, other = (places[:PENALTY_POINTS] for places in pairs)
    share = th.rand(len(one), 1, generator=generator, device=device)
    between = share * state[one] + (1 - share) * state[other]
    squares = slopes(networks, between).square().sum(dim=-1)  # [N, points]
    real = (filled[one] & filled[other]).to(squares.dtype)
    return (squares * real).sum(dim=-1) / real.sum().clamp(min=1e-8)


def slopes(networks: Sequence[MLP], inputs: Tensor) -> Tensor:
    """The gradients of G networks of one output by their inputs [R, I]: [G, R, I].

    It is differentiable by the weights. Written out, because autograd's second derivative would
    also go back through the forward pass, where ReLU's is 0.
    """
    layers_of_networks = zip(*(network.layers for network in networks), strict=True)
    *hidden, last = [stack_linear(layers) for layers in layers_of_networks]
    active = []
    with th.no_grad():
        values = inputs.expand(len(networks), -1, -1)
        for layer in hidden:
            values = F.relu(linear(layer, values))
            active.append((values > 0).to(values.dtype))
    slope = last[0]  # [G, 1, H]
    for (weight, _), mask in zip(hidden[::-1], active[::-1], strict=True):
        slope = (slope * mask) @ weight
    return slope


def advantage_loss(
    e: Tensor,
    error: Tensor,
    actions: Tensor,
    available: Tensor,
    weights: Tensor,
    cql_weight: float,
) -> Tensor:
    """L(e_i) (4), [N].

    Args:
        e: e_i(s, .), [B, T, N, A].
        error: e_i(s, a, s'), [B, T, N].
        actions: a^i, int [B, T, N].
        available: bool [B, T, N, A].
        weights: `step_weights` of rho_i, [B, T, N].
    """
    loss = conservative_td_error(e, actions, available, error, cql_weight)
    return (loss * weights).sum(dim=(0, 1))


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
        weights: `step_weights` of rho_i, [B, T].
    """
    loss = alpha * kl_divergence(log_pi, log_behaviour) - (log_pi.exp() * e).sum(dim=-1)
    return (loss * weights).sum()
