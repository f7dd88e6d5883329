"""OMIGA's losses and mixer against values computed by hand, and the fixed point that the paper proves."""

import math

import numpy as np
import pytest
import torch as th

from inspo.envs import EnvInfo
from inspo.learners.omiga_learner import mixed, policy_loss, q_loss, v_loss
from inspo.modules.mixers import LinearMixer

FILLED = th.tensor([[True, False]])  # the second step is padding


def test_the_mixer_is_linear_with_weights_that_are_not_negative():
    th.manual_seed(0)
    mixer = LinearMixer(
        EnvInfo(n_agents=3, n_actions=2, obs_shape=1, state_shape=4, episode_limit=1), hidden_dim=8
    )
    state, values = th.randn(5, 2, 4), th.randn(5, 2, 3, requires_grad=True)
    w, b = mixer(state)
    assert (w >= 0).all()
    total = mixed(values, w, b)
    by_hand = [[w[e, t] @ values[e, t] + b[e, t] for t in range(2)] for e in range(5)]
    th.testing.assert_close(total, th.stack([th.stack(row) for row in by_hand]))
    (slope,) = th.autograd.grad(total.sum(), values)
    th.testing.assert_close(slope, w)


def test_q_loss_is_a_one_step_td_error():
    q_tot, reward = th.tensor([[1.0, 7.0]]), th.tensor([[0.5, 7.0]])
    going, ended = th.tensor([[False, False]]), th.tensor([[True, False]])
    arguments = (th.tensor([[2.0, 7.0]]), FILLED, 0.9)
    assert q_loss(q_tot, reward, going, *arguments).item() == pytest.approx(
        (1 - (0.5 + 0.9 * 2)) ** 2
    )
    assert q_loss(q_tot, reward, ended, *arguments).item() == pytest.approx(0.25)


def test_v_loss_is_the_papers_scaled_by_the_largest_weight():
    z = th.tensor([[[0.5, -2.0], [40.0, 40.0]]])
    weighted_v = th.tensor([[[0.3, 0.1], [9.0, 9.0]]])
    loss = v_loss(z, weighted_v, FILLED)
    expected = math.exp(-0.5) * ((math.exp(0.5) + 0.3) + (math.exp(-2.0) + 0.1)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_v_moves_the_right_way_however_far_off():
    """Without a clamp a V that is much too low is pulled up, and one much too high down."""
    for start, up in ((-50.0, True), (50.0, False)):
        v = th.full((1, 1, 1), start, requires_grad=True)
        z = (0.0 - v) / 0.5
        v_loss(z, v / 0.5, th.tensor([[True]])).backward()
        assert (v.grad.item() < 0) == up
        assert math.isfinite(v.grad.item())


def test_policy_loss_weighs_clones_and_clamps():
    log_pi = th.tensor([[[-1.0, -2.0], [-3.0, -3.0]]], requires_grad=True)
    z = th.tensor([[[0.5, 30.0], [99.0, 99.0]]])
    loss = policy_loss(log_pi, z, FILLED)
    assert loss.item() == pytest.approx((math.exp(0.5) * 1 + math.exp(10) * 2) / 2, rel=1e-5)
    loss.backward()
    np.testing.assert_allclose(
        log_pi.grad, [[[-math.exp(0.5) / 2, -math.exp(10) / 2], [0, 0]]], rtol=1e-5
    )


def test_the_minima_are_the_papers_closed_forms():
    """V = (alpha / w) log E_mu[exp(w Q / alpha)]; there E_mu[exp z] = 1, and the policy is mu exp z."""
    alpha, w = 0.7, 1.3
    mu, q = (
        th.tensor([0.5, 0.3, 0.2], dtype=th.double),
        th.tensor([1.0, -0.5, 2.0], dtype=th.double),
    )
    best = alpha / w * (mu * (w * q / alpha).exp()).sum().log()
    v = best.clone().requires_grad_()
    z = w * (q - v) / alpha
    counts = th.tensor([5, 3, 2])  # data in mu's proportions
    rows = th.repeat_interleave(z, counts).view(1, -1, 1)
    filled = th.ones(rows.shape[:2], dtype=th.bool)
    v_loss(rows, (w * v / alpha).expand_as(rows), filled).backward()
    assert v.grad.item() == pytest.approx(0, abs=1e-9)
    target = mu * z.detach().exp()
    assert target.sum().item() == pytest.approx(1)
    logits = target.log().clone().requires_grad_()
    taken = th.repeat_interleave(logits.log_softmax(-1), counts).view(1, -1, 1)
    (gradient,) = th.autograd.grad(policy_loss(taken, rows, filled), logits)
    np.testing.assert_allclose(gradient, np.zeros(3), atol=1e-9)
