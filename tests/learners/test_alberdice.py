"""AlberDICE: its losses against numbers computed by hand, and what the theory says about them."""

import math

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_data
from small_learners import make_learner

from inspo.envs import EnvInfo
from inspo.learners import alberdice_learner
from inspo.learners.alberdice_losses import (
    advantage_loss,
    gradient_penalty,
    log_importance_ratio,
    nu_loss,
    policy_loss,
    slopes,
    teammates_divergence,
    temporal_difference,
)
from inspo.modules.behaviour import AutoregressiveBehaviour
from inspo.modules.mlp import MLP
from inspo.run.run_folder import check_finite
from inspo.utils.batch import without_final_row
from inspo.utils.errors import ConfigError, DivergenceError
from inspo.utils.rl_utils import gather_last, masked_log_softmax

LOG = math.log
FILLED = th.tensor([[True, False]])  # the second step is padding


def of_one(values):
    """The numbers of one episode and one agent, [B, T, N]."""
    return th.tensor(values)[None, :, None]


def test_log_importance_ratio_leaves_the_agent_out_and_is_bounded():
    log_pi = th.tensor([[[0.5, 0.2, 0.8], [0.9, 0.9, 0.9]]]).log()
    teammates = th.tensor([[0.25, 1e-9]]).log()
    rho = log_importance_ratio(log_pi, teammates, agent=1, ratio_max=100.0).exp()
    np.testing.assert_allclose(rho, [[0.5 * 0.8 / 0.25, 100]], rtol=1e-5)


def test_temporal_difference():
    error = temporal_difference(
        reward=th.tensor([[1.0, 1.0]]),
        terminated=th.tensor([[False, True]]),
        divergence=th.tensor([[[0.5], [2.0]]]),
        nu=th.tensor([[[3.0], [4.0], [99.0]]]),
        alpha=0.1,
        gamma=0.9,
    )
    expected = [1 - 0.1 * 0.5 + 0.9 * 4 - 3, 1 - 0.1 * 2 - 4]
    np.testing.assert_allclose(error[..., 0], [expected], rtol=1e-6)


def test_nu_loss_is_the_mean_over_real_steps_and_the_absorbing_tail():
    """Two real steps, one of them terminal. With gamma = 0.5 the tail weighs as one step."""
    error, nu = of_one([0.3, -0.2, 99.0]), of_one([1.0, 3.0, 99.0])
    rho, filled = of_one([2.0, 0.5, 7.0]), th.tensor([[True, True, False]])
    loss = nu_loss(error, nu, rho.log(), filled, alpha=0.7, gamma=0.5, termination_rate=0.5)
    inside = (2 * math.exp(0.3 / 0.7) + 0.5 * math.exp(-0.2 / 0.7) + 1) / 3
    assert loss.item() == pytest.approx(0.5 * 2 + 0.7 * LOG(inside), rel=1e-6)


def test_nu_loss_without_terminations_has_no_tail():
    error, nu = of_one([0.3, 99.0]), of_one([2.0, 99.0])
    loss = nu_loss(error, nu, th.zeros(1, 2, 1), FILLED, alpha=0.7, gamma=0.9, termination_rate=0.0)
    assert loss.item() == pytest.approx(0.1 * 2 + 0.3, rel=1e-6)


def test_nu_is_the_soft_value_of_a_game_of_one_step():
    """All steps are terminal: the minimum is nu = alpha log E[rho exp((r - alpha KL) / alpha)]."""
    alpha, gamma = 0.4, 0.9
    rewards = th.tensor([[1.0], [0.0], [-2.0]], dtype=th.double)
    rho = th.tensor([[1.5], [0.9], [0.6]], dtype=th.double)
    divergence = th.tensor([[0.2], [0.1], [0.0]], dtype=th.double)
    best = alpha * (rho * ((rewards - alpha * divergence) / alpha).exp()).mean().log()
    nu = best.clone().requires_grad_()
    rows = nu.expand(3, 2, 1)
    ended = th.ones(3, 1, dtype=th.bool)
    error = temporal_difference(rewards, ended, divergence[..., None], rows, alpha, gamma)
    log_rho = rho.log()[..., None]
    nu_loss(error, rows[:, :1], log_rho, ended, alpha, gamma, termination_rate=1.0).backward()
    assert nu.grad.item() == pytest.approx(0, abs=1e-7)


def test_gradient_penalty_of_a_linear_function_is_its_squared_slope():
    th.manual_seed(0)
    networks = [MLP(4, 1), MLP(4, 1)]
    filled = th.ones(3, 2, dtype=th.bool)
    penalty = gradient_penalty(networks, th.randn(3, 2, 4), filled, th.Generator())
    weights = [network.layers[0].weight for network in networks]
    th.testing.assert_close(penalty, th.stack([weight.square().sum() for weight in weights]))
    penalty.sum().backward()
    assert all(weight.grad.any() for weight in weights)


@pytest.mark.parametrize("n_networks", [1, 3])
def test_slopes_and_their_derivatives_are_those_of_autograd(n_networks):
    th.manual_seed(0)
    networks = [MLP(4, 8, 8, 1) for _ in range(n_networks)]
    inputs = th.randn(6, 4)
    parameters = [p for network in networks for p in network.parameters() if p.dim() > 1]
    expected = []
    for network in networks:
        at = inputs.clone().requires_grad_()
        expected += th.autograd.grad(network(at).sum(), at, create_graph=True)
    found, expected = slopes(networks, inputs), th.stack(expected)
    th.testing.assert_close(found, expected)
    gradients = [th.autograd.grad(each.square().sum(), parameters) for each in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        assert one.any()
        th.testing.assert_close(one, other)


def test_advantage_loss_weighs_steps_and_leaves_unavailable_actions_out():
    e = th.tensor([[[1.0, 2.0], [0.5, 9.0]]], requires_grad=True)
    available = th.tensor([[[True, True], [True, False]]])
    error, weights = th.tensor([[0.2, 0.1]]), th.tensor([[0.75, 0.25]])
    one_agent = (rows.unsqueeze(2) for rows in (e, error, th.tensor([[1, 0]]), available, weights))
    loss = advantage_loss(*one_agent, cql_weight=0.1)
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
        e.expand(len(steps), 1, 1, 2),
        error=th.zeros(len(steps), 1, 1),  # equal to e: only the conservative term is left
        actions=taken[..., None],
        available=th.ones(len(steps), 1, 1, 2, dtype=th.bool),
        weights=(weights / weights.sum())[..., None],
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
    # Agents before this one have had their turn, the others have not.
    is_after = (th.arange(3) < agent)[:, None]
    others = th.randn(1, 1, 3, 3).log_softmax(dim=-1)
    before, after = log_pi.where(~is_after, others), log_pi.where(is_after, others)
    found = teammates_divergence(before, after, batch, model, samples=20_000, generator=generator)
    assert found.shape == (1, 1, 3)
    assert found[0, 0, agent].item() == pytest.approx(expected, rel=0.02)


def test_agents_are_updated_one_after_the_other(tmp_path, monkeypatch):
    """Each agent's update sees the new policies of the agents before it."""
    learner, buffer = make_learner(tmp_path, "alberdice", lr=0.05)
    batch = buffer.sample(8)
    steps = without_final_row(batch)
    buffer.sample = lambda _: batch
    seen = []

    def record(taken, *rest):
        now = learner.mac.log_probs(steps)
        th.testing.assert_close(taken, gather_last(now, steps["actions"]))
        seen.append(taken)
        return log_importance_ratio(taken, *rest)

    monkeypatch.setattr(alberdice_learner, "log_importance_ratio", record)
    learner.train(buffer, with_stats=False)
    assert len(seen) == 3
    changed = (seen[1] != seen[0]).flatten(0, 1).any(dim=0)
    assert changed.tolist() == [True, False, False]


def test_policies_that_are_nan_are_a_divergence(tmp_path):
    learner, buffer = make_learner(tmp_path, "alberdice")
    with th.no_grad():
        next(learner.mac.agents[1].parameters()).fill_(th.nan)
    with pytest.raises(DivergenceError, match="try lower learning rates"):
        check_finite(1, learner.train(buffer, with_stats=True))


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
    return rho, error, nu, loss_e, loss_pi


def losses_by_hand(learner, buffer, batch, i, log_pi):
    """The losses of agent i of two: L(nu_i) + L(e_i) without the gradient penalty, and L(pi^i)."""
    absorbing = GAMMA / (1 - GAMMA) * buffer.termination_rate  # its weight, a step's being 1
    indices = batch["filled"].nonzero().tolist()
    steps = [step_by_hand(learner, batch, b, t, i, log_pi) for b, t in indices]
    n_steps = len(steps)
    total_rho = sum(rho for rho, *_ in steps)
    inside = sum(rho * (error / ALPHA).exp() for rho, error, *_ in steps) / n_steps
    inside = (inside + absorbing) / (1 + absorbing)
    mean_nu = sum(nu for _, _, nu, *_ in steps) / n_steps
    loss_nu = (1 - GAMMA) * mean_nu + ALPHA * inside.log()
    loss_e = sum(rho / total_rho * loss for rho, *_, loss, _ in steps)
    return loss_nu + loss_e, sum(rho / total_rho * loss for rho, *_, loss in steps)


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
def test_an_update_is_the_equations(tmp_path, agent):
    """With two agents nothing is drawn: the divergence is exact. Policies stay as they are."""
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
    buffer.sample = lambda _: batch
    assert not batch["filled"].all()
    log_pi = learner.mac.log_probs(batch)[:, :-1].detach()
    policy_losses, other_losses = [], []
    learner.step = lambda _, loss: policy_losses.append(loss)
    learner.step_all = lambda _, loss: other_losses.append(loss)
    learner.train(buffer, with_stats=False)
    by_hand = [losses_by_hand(learner, buffer, batch, i, log_pi) for i in range(2)]
    found = [*other_losses, *policy_losses]
    expected = [by_hand[0][0] + by_hand[1][0], by_hand[0][1], by_hand[1][1]]
    critics = [*learner.nu.parameters(), *learner.advantages.parameters()]
    networks = [critics, *([*policy.parameters()] for policy in learner.mac.agents)]
    for one, other, parameters in zip(found, expected, networks, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-4)
        pairs = [th.autograd.grad(loss, parameters) for loss in (one, other)]
        for gradient, by_hand_gradient in zip(*pairs, strict=True):
            assert by_hand_gradient.any()
            th.testing.assert_close(gradient, by_hand_gradient, rtol=1e-3, atol=1e-5)


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
