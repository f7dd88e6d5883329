"""AlberDICE: its losses against numbers computed by hand, and what the theory says about them."""

import math

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_data
from small_learners import make_learner

from inspo.envs import EnvInfo
from inspo.learners.alberdice_losses import (
    advantage_loss,
    gradient_penalty,
    log_importance_ratio,
    nu_loss,
    policy_loss,
    teammates_divergence,
    temporal_difference,
)
from inspo.modules.behaviour import AutoregressiveBehaviour
from inspo.modules.mlp import MLP
from inspo.utils.batch import without_final_row
from inspo.utils.errors import ConfigError
from inspo.utils.rl_utils import masked_log_softmax

LOG = math.log
FILLED = th.tensor([[True, False]])  # the second step is padding


def test_log_importance_ratio_leaves_the_agent_out_and_is_bounded():
    log_pi = th.tensor([[[0.5, 0.2, 0.8], [0.9, 0.9, 0.9]]]).log()
    teammates = th.tensor([[0.25, 1e-9]]).log()
    rho = log_importance_ratio(log_pi, teammates, agent=1, ratio_max=100.0).exp()
    np.testing.assert_allclose(rho, [[0.5 * 0.8 / 0.25, 100]], rtol=1e-5)


def test_temporal_difference():
    error = temporal_difference(
        reward=th.tensor([[1.0, 1.0]]),
        terminated=th.tensor([[False, True]]),
        divergence=th.tensor([[0.5, 2.0]]),
        nu=th.tensor([[3.0, 4.0, 99.0]]),
        alpha=0.1,
        gamma=0.9,
    )
    expected = [1 - 0.1 * 0.5 + 0.9 * 4 - 3, 1 - 0.1 * 2 - 4]
    np.testing.assert_allclose(error, [expected], rtol=1e-6)


def test_nu_loss_is_the_mean_over_real_steps_and_the_absorbing_tail():
    """Two real steps, one of them terminal. With gamma = 0.5 the tail weighs as one step."""
    error, nu = th.tensor([[0.3, -0.2, 99.0]]), th.tensor([[1.0, 3.0, 99.0]])
    rho, filled = th.tensor([[2.0, 0.5, 7.0]]), th.tensor([[True, True, False]])
    loss = nu_loss(error, nu, rho.log(), filled, alpha=0.7, gamma=0.5, termination_rate=0.5)
    inside = (2 * math.exp(0.3 / 0.7) + 0.5 * math.exp(-0.2 / 0.7) + 1) / 3
    assert loss.item() == pytest.approx(0.5 * 2 + 0.7 * LOG(inside), rel=1e-6)


def test_nu_loss_without_terminations_has_no_tail():
    error, nu = th.tensor([[0.3, 99.0]]), th.tensor([[2.0, 99.0]])
    loss = nu_loss(error, nu, th.zeros(1, 2), FILLED, alpha=0.7, gamma=0.9, termination_rate=0.0)
    assert loss.item() == pytest.approx(0.1 * 2 + 0.3, rel=1e-6)


def test_nu_is_the_soft_value_of_a_game_of_one_step():
    """All steps are terminal: the minimum is nu = alpha log E[rho exp((r - alpha KL) / alpha)]."""
    alpha, gamma = 0.4, 0.9
    rewards = th.tensor([[1.0], [0.0], [-2.0]], dtype=th.double)
    rho = th.tensor([[1.5], [0.9], [0.6]], dtype=th.double)
    divergence = th.tensor([[0.2], [0.1], [0.0]], dtype=th.double)
    best = alpha * (rho * ((rewards - alpha * divergence) / alpha).exp()).mean().log()
    nu = best.clone().requires_grad_()
    rows = nu.expand(3, 2)
    ended = th.ones(3, 1, dtype=th.bool)
    error = temporal_difference(rewards, ended, divergence, rows, alpha, gamma)
    nu_loss(error, rows[:, :1], rho.log(), ended, alpha, gamma, termination_rate=1.0).backward()
    assert nu.grad.item() == pytest.approx(0, abs=1e-7)


def test_gradient_penalty_of_a_linear_function_is_its_squared_slope():
    th.manual_seed(0)
    nu = MLP(4, 1)
    penalty = gradient_penalty(nu, th.randn(3, 2, 4), th.ones(3, 2, dtype=th.bool), th.Generator())
    th.testing.assert_close(penalty, nu.layers[0].weight.square().sum())
    penalty.backward()
    assert nu.layers[0].weight.grad.any()


def test_advantage_loss_weighs_steps_and_leaves_unavailable_actions_out():
    e = th.tensor([[[1.0, 2.0], [0.5, 9.0]]], requires_grad=True)
    available = th.tensor([[[True, True], [True, False]]])
    error, weights = th.tensor([[0.2, 0.1]]), th.tensor([[0.75, 0.25]])
    loss = advantage_loss(e, error, th.tensor([[1, 0]]), available, weights, cql_weight=0.1)
    first = (2 - 0.2) ** 2 + 0.1 * (LOG(math.e + math.e**2) - 2)
    second = (0.5 - 0.1) ** 2
    assert loss.item() == pytest.approx(0.75 * first + 0.25 * second, rel=1e-5)
    loss.backward()
    assert e.grad[0, 1, 1] == 0


@pytest.mark.parametrize(
    ("joint", "teammate", "share"),
    [
        # Inside of the data: agent 0's shares there.
        ([[0.1, 0.3], [0.4, 0.2]], [0.7, 0.3], [0.4, 0.6]),
        # The teammate plays A, the data has AB and BA: all weight is on B.
        ([[0.0, 0.5], [0.5, 0.0]], [1.0, 0.0], [0.0, 1.0]),
    ],
)
def test_the_conservative_term_is_that_of_the_reweighted_data(joint, teammate, share):
    """At e(A) = e(B) its gradient is softmax(e) - share.

    An action whose data the teammate has left is pushed down, never up.
    """
    joint, teammate = th.tensor(joint), th.tensor(teammate)
    steps = joint.nonzero()  # each joint action of the data once, [B, N]
    taken, teammates_actions = steps[:, :1], steps[:, 1]
    data = joint[tuple(steps.T)]
    given = data / joint.sum(dim=1)[steps[:, 0]]  # pi^D(a^1 | a^0)
    log_teammate = teammate[teammates_actions].log()
    log_pi = th.stack([th.zeros(len(steps)), log_teammate], dim=-1)[:, None]  # [B, 1, N]
    rho = log_importance_ratio(log_pi, given.log()[:, None], agent=0, ratio_max=100.0).exp()
    weights = data[:, None] * rho
    e = th.zeros(2, requires_grad=True)
    loss = advantage_loss(
        e.expand(len(steps), 1, 2),
        error=th.zeros(len(steps), 1),  # equal to e: only the conservative term is left
        actions=taken,
        available=th.ones(len(steps), 1, 2, dtype=th.bool),
        weights=weights / weights.sum(),
        cql_weight=1.0,
    )
    loss.backward()
    np.testing.assert_allclose(e.grad, [0.5 - share[0], 0.5 - share[1]], atol=1e-6)


def test_policy_loss_is_least_at_the_corrected_clone():
    """pi^i is pi^D_i exp(e / alpha), normalised."""
    alpha = 0.6
    mu, e = th.tensor([[[0.5, 0.3, 0.2]]]).double(), th.tensor([[[1.0, -0.5, 2.0]]]).double()
    target = mu * (e / alpha).exp()
    logits = target.log().clone().requires_grad_()
    loss = policy_loss(logits.log_softmax(-1), e, mu.log(), th.ones(1, 1).double(), alpha)
    pi = (target / target.sum()).numpy()
    by_hand = (pi * (alpha * np.log(pi / mu.numpy()) - e.numpy())).sum()
    assert loss.item() == pytest.approx(by_hand, rel=1e-9)
    (gradient,) = th.autograd.grad(loss, logits)
    np.testing.assert_allclose(gradient, np.zeros((1, 1, 3)), atol=1e-9)


@pytest.mark.parametrize("agent", [0, 1, 2])
def test_the_teammates_divergence_is_that_of_their_joint_distributions(agent):
    """Against the sum over all joint actions of the two teammates."""
    th.manual_seed(0)
    info = EnvInfo(n_agents=3, n_actions=3, obs_shape=1, state_shape=2, episode_limit=1)
    model = AutoregressiveBehaviour(info, hidden_dim=16)
    with th.no_grad():
        for layer in model.net.layers:
            layer.weight.mul_(3)
    available = th.ones(1, 1, 3, 3, dtype=th.bool)
    available[..., 1, 2] = False
    log_pi = masked_log_softmax(th.randn(1, 1, 3, 3), available)
    batch = {
        "state": th.randn(1, 1, 2),
        "actions": th.tensor([[[1, 1, 1]]]),
        "avail_actions": available,
        "filled": th.ones(1, 1, dtype=th.bool),
    }
    teammates = [j for j in range(3) if j != agent]
    expected = 0.0
    for joint in th.cartesian_prod(th.arange(3), th.arange(3), th.arange(3)):
        if joint[agent] != 1 or joint[1] == 2:
            continue
        log_p = sum(log_pi[0, 0, j, joint[j]] for j in teammates)
        log_q = model.teammates_log_prob(
            th.tensor([agent]), batch["state"][0], joint[None], available[0]
        )[0]
        expected += (log_p.exp() * (log_p - log_q)).item()
    generator = th.Generator().manual_seed(0)
    found = teammates_divergence(log_pi, batch, agent, model, samples=20_000, generator=generator)
    assert found.shape == (1, 1)
    assert found.item() == pytest.approx(expected, rel=0.02)


def test_agents_are_updated_one_after_the_other(tmp_path):
    """Each agent's update sees the new policies of the agents before it."""
    learner, buffer = make_learner(tmp_path, "alberdice", lr=0.05)
    seen, update = [], learner.update_agent

    def record(i, batch, log_pi, *rest):
        th.testing.assert_close(log_pi, learner.mac.log_probs(without_final_row(batch)))
        seen.append(log_pi)
        return update(i, batch, log_pi, *rest)

    learner.update_agent = record
    learner.train(buffer, with_stats=False)
    assert len(seen) == 3
    changed = (seen[1] != seen[0]).flatten(0, 1).any(dim=0).any(dim=-1)
    assert changed.tolist() == [True, False, False]


ALPHA, GAMMA, RATIO_MAX, CQL_WEIGHT = 0.5, 0.9, 2.0, 0.3


def step_by_hand(learner, batch, b, t, i, log_pi):
    """rho_i, e_i(s, a, s'), nu_i and the losses (4) and (5) at one step, for agent i of two."""
    j = 1 - i
    state = batch["state"][b, t]
    actions = batch["actions"][b, t]
    available = batch["avail_actions"][b, t]
    given = learner.behaviour.joint.conditionals(
        th.tensor([i]), state[None], actions[None], available[None]
    )[0, 0]
    rho = min((log_pi[b, t, j, actions[j]] - given[actions[j]]).exp().item(), RATIO_MAX)
    divergence = 0.0
    for a in available[j].nonzero().flatten():
        divergence += log_pi[b, t, j, a].exp() * (log_pi[b, t, j, a] - given[a])
    nu, next_nu = (learner.nu.critics[i](batch["state"][b, row])[0] for row in (t, t + 1))
    future = 0.0 if batch["terminated"][b, t] else GAMMA * next_nu
    error = batch["reward"][b, t] - ALPHA * divergence.detach() + future - nu

    offered = available[i].nonzero().flatten()
    e = learner.advantages.critics[i](state)
    loss_e = (e[actions[i]] - error.detach()) ** 2
    loss_e += CQL_WEIGHT * (e[offered].exp().sum().log() - e[actions[i]])
    log_p = learner.mac.log_probs(batch)[b, t, i, offered]
    log_mu = batch["behaviour_log_probs"][b, t, i, offered]
    loss_pi = (log_p.exp() * (ALPHA * (log_p - log_mu) - e[offered].detach())).sum()
    return rho, error, nu, loss_e + loss_pi


def update_by_hand(learner, buffer, batch, i, log_pi):
    """The loss of agent i of two: (1) to (5) without the gradient penalty."""
    absorbing = GAMMA / (1 - GAMMA) * buffer.termination_rate  # its weight, a step's being 1
    indices = batch["filled"].nonzero().tolist()
    steps = [step_by_hand(learner, batch, b, t, i, log_pi) for b, t in indices]
    n_steps = len(steps)
    total_rho = sum(rho for rho, *_ in steps)
    inside = sum(rho * (error / ALPHA).exp() for rho, error, *_ in steps) / n_steps
    inside = (inside + absorbing) / (1 + absorbing)
    mean_nu = sum(nu for _, _, nu, _ in steps) / n_steps
    loss_nu = (1 - GAMMA) * mean_nu + ALPHA * inside.log()
    return loss_nu + sum(rho / total_rho * loss for rho, _, _, loss in steps)


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
@pytest.mark.parametrize("i", [0, 1])
def test_an_update_is_the_equations(tmp_path, agent, i):
    """With two agents nothing is drawn: the divergence is exact."""
    learner, buffer = make_learner(
        tmp_path,
        "alberdice",
        data=make_data(n_agents=2),
        agent=agent,
        alpha_start=ALPHA,
        alpha_end=ALPHA,
        gamma=GAMMA,
        ratio_max=RATIO_MAX,
        cql_weight=CQL_WEIGHT,
        nu_grad_penalty=0,
        init_from_behaviour=False,
    )
    batch = buffer.sample(8)
    assert not batch["filled"].all()
    log_pi = learner.mac.log_probs(batch)[:, :-1].detach()
    losses = []
    learner.step = lambda _, loss: losses.append(loss)
    learner.update_agent(i, batch, log_pi, buffer.termination_rate, with_stats=False)
    losses.append(update_by_hand(learner, buffer, batch, i, log_pi))
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-4)
    networks = (learner.mac.agents[i], learner.nu.critics[i], learner.advantages.critics[i])
    parameters = [value for network in networks for value in network.parameters()]
    gradients = [th.autograd.grad(loss, parameters) for loss in losses]
    for one, other in zip(*gradients, strict=True):
        assert other.any()
        th.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_alpha_falls_geometrically(tmp_path):
    learner, _ = make_learner(
        tmp_path, "alberdice", alpha_start=5.0, alpha_end=0.05, alpha_decay_steps=100
    )
    alphas = [learner.alpha(update) for update in (0, 50, 100, 200)]
    assert alphas == pytest.approx([5, 0.5, 0.05, 0.05])


def test_the_termination_rate_is_the_datasets(tmp_path):
    data = make_data(lengths=(5, 1, 3, 4))  # every second episode is truncated
    _, buffer = make_learner(tmp_path, "alberdice", data=data)
    assert buffer.termination_rate == pytest.approx(2 / 13)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share_parameters": True, "obs_agent_id": True}, "needs share_parameters=False"),
        ({"gamma": 1.0}, "needs gamma below 1"),
    ],
)
def test_unsupported_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        make_args("alberdice", **settings)
