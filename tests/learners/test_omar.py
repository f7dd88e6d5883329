"""OMAR: its losses against numbers computed by hand. B=1, T=2, N=2, A=2 or 3."""

import math

import numpy as np
import pytest
import torch as th

from inspo.learners.omar_learner import best_action, next_value, policy_loss, value_loss

FILLED = th.tensor([[True, False]])  # the second step is padding


def test_the_target_is_the_smaller_twin_at_the_target_policys_likeliest_action():
    target_q = th.tensor([[1.0, 5.0, 2.0], [3.0, 4.0, 0.0]]).view(2, 1, 1, 1, 3)
    log_pi = th.tensor([0.1, 0.7, 0.2]).log().view(1, 1, 1, 3)
    assert next_value(target_q, log_pi).item() == 4.0
    assert next_value(target_q, log_pi[..., [1, 0, 2]]).item() == 1.0


def test_value_loss_is_td_error_and_cql_over_real_steps_and_available_actions():
    q = th.tensor([[[[1.0, 2.0], [0.5, 9.0]], [[7.0, 7.0], [7.0, 7.0]]]], requires_grad=True)
    available = th.tensor([[[[True, True], [True, False]], [[True, True], [True, True]]]])
    actions, target = th.tensor([[[0, 0], [0, 0]]]), th.tensor([[[3.0, 0.0], [100.0, 100.0]]])
    loss = value_loss(q, actions, available, target, FILLED, cql_weight=0.5)
    first = (1 - 3) ** 2 + 0.5 * (math.log(math.e + math.e**2) - 1)
    second = 0.5**2  # only the action taken is available: no penalty
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)
    loss.backward()
    assert q.grad[0, 0, 1, 1] == 0
    assert not q.grad[0, 1].any()


def test_the_best_action_is_available_and_best_in_the_worse_twin():
    q = th.tensor([[1.0, 5.0, 9.0], [1.5, 0.0, 9.0]]).view(2, 1, 1, 1, 3)
    available = th.tensor([True, True, False]).view(1, 1, 1, 3)
    assert best_action(q, available).item() == 0
    assert best_action(q, th.ones_like(available)).item() == 2


def test_policy_loss_is_expected_value_and_cross_entropy_to_the_best_action():
    log_pi = th.tensor([[[[0.25, 0.75]], [[0.5, 0.5]]]]).log().requires_grad_()
    q = th.tensor([[[[2.0, -1.0]], [[50.0, 0.0]]]])
    loss = policy_loss(log_pi, q, th.tensor([[[1], [0]]]), FILLED, omar_weight=0.3)
    expected = -0.7 * (0.25 * 2 - 0.75) + 0.3 * -math.log(0.75)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert not log_pi.grad[0, 1].any()


@pytest.mark.parametrize(("weight", "best"), [(0.0, 0), (1.0, 1)])
def test_the_weight_chooses_between_climbing_and_imitating(weight, best):
    """Its minimiser is the critic's best action at 0, and the given one at 1."""
    logits = th.zeros(1, 1, 1, 2, requires_grad=True)
    q, target = th.tensor([[[[1.0, 0.0]]]]), th.tensor([[[1]]])
    loss = policy_loss(logits.log_softmax(-1), q, target, th.tensor([[True]]), weight)
    (gradient,) = th.autograd.grad(loss, logits)
    assert np.argmin(gradient.numpy()) == best
