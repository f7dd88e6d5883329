"""Functions that learners share, against numbers computed by hand."""

import math

import numpy as np
import pytest
import torch as th
from pretended_gpu import pretended_gpu

from inspo.utils.rl_utils import (
    _kept_decay,
    conservative_td_error,
    lambda_returns,
    masked_log_softmax,
    masked_logsumexp,
    masked_mean,
)

GAMMA, LAMBDA = 0.9, 0.6


def recursion(reward, terminated, length, next_values):
    """TD(lambda) targets of one episode, backwards from its last step."""
    targets = np.zeros_like(next_values)
    target = next_values[length - 1]
    for t in reversed(range(length)):
        future = next_values[t]
        if t < length - 1:
            future = (1 - LAMBDA) * next_values[t] + LAMBDA * target
        target = reward[t] + GAMMA * (not terminated[t]) * future
        targets[t] = target
    return targets


def test_a_gpu_keeps_what_cuda_graphs_read():
    with pretended_gpu():
        first, *_ = [_kept_decay(0.5, steps, th.device("cuda")) for steps in range(1, 40)]
        assert _kept_decay(0.5, 1, th.device("cuda")) is first


def test_lambda_returns_are_the_recursion():
    rng = np.random.default_rng(0)
    lengths = (5, 3, 3, 1)
    reward, values = rng.standard_normal((4, 5)), rng.standard_normal((4, 5, 2))
    filled = np.arange(5) < np.array(lengths)[:, None]
    terminated = np.zeros((4, 5), dtype=bool)
    terminated[1, 2] = terminated[3, 0] = True  # the other two episodes are truncated
    expected = np.stack(
        [recursion(reward[e], terminated[e], lengths[e], values[e]) for e in range(4)]
    )
    inputs = [th.from_numpy(array) for array in (reward, terminated, filled)]
    of_agents = lambda_returns(*inputs, th.from_numpy(values), GAMMA, LAMBDA)
    np.testing.assert_allclose(of_agents, expected, atol=1e-6)
    of_team = lambda_returns(*inputs, th.from_numpy(values[..., 0]), GAMMA, LAMBDA)
    np.testing.assert_allclose(of_team, expected[..., 0], atol=1e-6)


def test_lambda_0_is_one_step():
    targets = lambda_returns(
        reward=th.tensor([[1.0, 2.0, 9.0]]),
        terminated=th.tensor([[False, True, False]]),
        filled=th.tensor([[True, True, False]]),
        next_values=th.tensor([[10.0, 20.0, 30.0]]),
        gamma=0.5,
        td_lambda=0.0,
    )
    assert targets.tolist() == [[1 + 5, 2, 0]]


def test_conservative_td_error_runs_over_available_actions():
    q = th.tensor([[1.0, 2.0, 50.0], [0.5, 9.0, 9.0]], requires_grad=True)
    error = conservative_td_error(
        q,
        actions=th.tensor([0, 0]),
        available=th.tensor([[True, True, False], [True, False, False]]),
        target=th.tensor([3.0, 0.0]),
        cql_weight=0.5,
    )
    first = (1 - 3) ** 2 + 0.5 * (math.log(math.e + math.e**2) - 1)
    second = 0.5**2  # only the action taken is available: no penalty
    assert error.tolist() == pytest.approx([first, second])
    error.sum().backward()
    assert q.grad[0, 2] == 0
    assert q.grad[1, 1:].tolist() == [0, 0]


def test_softmax_and_logsumexp_leave_unavailable_actions_out():
    values = th.tensor([[1.0, 2.0, 99.0], [5.0, 6.0, 7.0]])
    available = th.tensor([[True, True, False], [False, False, False]])
    probs = masked_log_softmax(values, available).exp()
    odds = math.e
    expected = [[1 / (1 + odds), odds / (1 + odds), 0], [1 / 3] * 3]
    np.testing.assert_allclose(probs, expected, rtol=1e-6)
    assert probs[0, 2] == 0
    lse = masked_logsumexp(values, available)
    assert lse[0].item() == pytest.approx(math.log(math.e + math.e**2))
    assert th.isfinite(lse[1])


def test_masked_mean_refuses_to_broadcast():
    mask = th.tensor([[True, False]])
    assert masked_mean(th.tensor([[3.0, 100.0]]), mask).item() == 3
    assert masked_mean(th.tensor([[3.0, 100.0]]), th.zeros_like(mask)).item() == 0
    with pytest.raises(ValueError, match=r"equal shapes, got \(1, 2, 4\) and \(1, 2\)"):
        masked_mean(th.ones(1, 2, 4), mask)
