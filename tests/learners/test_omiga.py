"""OMIGA: its losses against numbers computed by hand, and the paper's closed-form minima."""

import math

import numpy as np
import pytest
import torch as th

from inspo.learners.omiga_learner import mixed, policy_loss, q_loss, v_loss

FILLED = th.tensor([[True, False]])  # the second step is padding


def test_mixed_is_the_weighted_sum():
    values, w = th.tensor([[[1.0, -2.0]]]), th.tensor([[[0.5, 3.0]]])
    assert mixed(values, w, th.tensor([[10.0]])).item() == 0.5 - 6 + 10


@pytest.mark.parametrize(("terminated", "target"), [(False, 0.5 + 0.9 * 2), (True, 0.5)])
def test_q_loss_is_a_one_step_td_error(terminated, target):
    loss = q_loss(
        q_tot=th.tensor([[1.0, 7.0]]),
        reward=th.tensor([[0.5, 7.0]]),
        terminated=th.tensor([[terminated, False]]),
        next_v_tot=th.tensor([[2.0, 7.0]]),
        filled=FILLED,
        gamma=0.9,
    )
    assert loss.item() == pytest.approx((1 - target) ** 2)


def test_v_loss_is_the_papers_scaled_by_the_largest_weight():
    z = th.tensor([[[0.5, -2.0], [40.0, 40.0]]])
    weighted_v = th.tensor([[[0.3, 0.1], [9.0, 9.0]]])
    loss = v_loss(z, weighted_v, FILLED)
    expected = math.exp(-0.5) * ((math.exp(0.5) + 0.3) + (math.exp(-2.0) + 0.1)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("start", "rises"), [(-50.0, True), (50.0, False)])
def test_v_moves_the_right_way_however_far_off(start, rises):
    """Without a clamp, a V that is much too low rises, and one much too high falls."""
    v = th.full((1, 1, 1), start, requires_grad=True)
    z = (0.0 - v) / 0.5
    v_loss(z, v / 0.5, th.tensor([[True]])).backward()
    assert (v.grad.item() < 0) == rises
    assert math.isfinite(v.grad.item())


def test_policy_loss_is_a_clone_with_clamped_weights():
    log_pi = th.tensor([[[-1.0, -2.0], [-3.0, -3.0]]], requires_grad=True)
    z = th.tensor([[[0.5, 30.0], [99.0, 99.0]]])
    loss = policy_loss(log_pi, z, FILLED)
    weights = [math.exp(0.5), math.exp(10)]
    assert loss.item() == pytest.approx((weights[0] * 1 + weights[1] * 2) / 2, rel=1e-5)
    loss.backward()
    expected = [[[-weights[0] / 2, -weights[1] / 2], [0, 0]]]
    np.testing.assert_allclose(log_pi.grad, expected, rtol=1e-5)


def test_the_minima_are_the_papers_closed_forms():
    """V = (alpha / w) log E_mu[exp(w Q / alpha)]; there E_mu[exp z] = 1, and pi = mu exp z."""
    alpha, w = 0.7, 1.3
    mu = th.tensor([0.5, 0.3, 0.2], dtype=th.double)
    q = th.tensor([1.0, -0.5, 2.0], dtype=th.double)
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
