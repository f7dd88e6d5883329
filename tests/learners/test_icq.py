"""ICQ: its losses against numbers computed by hand."""

import math

import numpy as np
import pytest
import torch as th
from conftest import make_args

from inspo.learners.icq_learner import batch_weights, next_values, policy_loss
from inspo.utils.errors import ConfigError


def test_weights_are_normalised_over_the_real_rows_of_each_time_step():
    values = th.tensor([[1.0, 5.0], [2.0, 3.0], [9.0, 9.0]])
    valid = th.tensor([[True, True], [True, False], [False, False]])
    weights = batch_weights(values, 0.5, valid)
    total = math.exp(2) + math.exp(4)
    expected = [[2 * math.exp(2) / total, 1], [2 * math.exp(4) / total, 0], [0, 0]]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert not batch_weights(values, 0.5, th.zeros_like(valid)).any()  # no NaN


def test_a_large_temperature_is_sarsa():
    q = th.tensor(
        [[[[1.0, 3.0]], [[2.0, 4.0]], [[0.0, 0.0]]], [[[5.0, 6.0]], [[7.0, 8.0]], [[1.0, 3.0]]]]
    )
    pi = th.full_like(q, 0.5)
    actions = th.tensor([[[0], [1], [0]], [[0], [0], [1]]])
    filled = th.tensor([[True, True], [True, True]])
    values = next_values(q, th.ones(2, 3, 1), actions, pi, filled, temperature=1e6)
    # After the first step comes the data's action, after the last the policy's expectation.
    np.testing.assert_allclose(values, [[4.0, 0.0], [7.0, 2.0]], rtol=1e-4)


def test_next_values_mix_agents_and_weigh_better_ones_more():
    q = th.tensor(
        [
            [[[0.0], [0.0]], [[1.0], [3.0]], [[0.0], [0.0]]],
            [[[0.0], [0.0]], [[2.0], [0.0]], [[0.0], [0.0]]],
        ]
    )
    k = th.tensor([0.25, 0.75]).expand(2, 3, 2)
    actions = th.zeros(2, 3, 2, dtype=th.long)
    filled = th.ones(2, 2, dtype=th.bool)
    values = next_values(q, k, actions, th.ones_like(q), filled, temperature=2.0)
    totals = np.array([0.25 * 1 + 0.75 * 3, 0.25 * 2])
    weights = 2 * np.exp(totals / 2) / np.exp(totals / 2).sum()
    np.testing.assert_allclose(values[:, 0], weights * totals, rtol=1e-6)


def test_policy_loss():
    log_pi = th.tensor([[[[0.25, 0.75]]], [[[0.5, 0.5]]], [[[0.9, 0.1]]]]).log().requires_grad_()
    q = th.tensor([[[[1.0, 2.0]]], [[[0.0, 4.0]]], [[[100.0, 0.0]]]])
    actions, k = th.tensor([[[1]], [[0]], [[0]]]), th.tensor([[[0.2]], [[0.6]], [[1.0]]])
    filled = th.tensor([[True], [True], [False]])
    loss = policy_loss(log_pi, q, k, actions, filled, temperature=0.5)
    advantages = np.array([2 - (0.25 + 1.5), 0 - 2])
    weights = 2 * np.exp(advantages / 0.5) / np.exp(advantages / 0.5).sum()
    expected = -(0.2 * weights[0] * math.log(0.75) + 0.6 * weights[1] * math.log(0.5)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert not log_pi.grad[2].any()
    # The weights carry no gradient.
    np.testing.assert_allclose(log_pi.grad[0, 0, 0], [0, -0.2 * weights[0] / 2], rtol=1e-6)


def test_transitions_are_refused():
    with pytest.raises(ConfigError, match="ICQ needs batch_unit=episodes"):
        make_args("icq", batch_unit="transitions")
