"""Each loss of InSPO against values computed by hand, on a small batch: B=1, T=2, A=2."""

import math

import numpy as np
import pytest
import torch as th

from inspo.learners.inspo_learner import (
    advantage,
    log_importance_ratio,
    policy_loss,
    resample,
    teammates_log_pi_in,
    temperature_loss,
    value_loss,
    value_target,
)

LOG = math.log


def test_log_importance_ratio():
    teammates_pi = th.tensor([[0.5 * 0.8, 0.1 * 0.9]]).log()  # of three agents: a product of two
    teammates_mu = th.tensor([[0.25, 0.5]]).log()
    plain = log_importance_ratio(teammates_pi, teammates_mu, 3, geometric=False)
    np.testing.assert_allclose(plain.exp(), [[1.6, 0.18]], rtol=1e-6)
    geometric = log_importance_ratio(teammates_pi, teammates_mu, 3, geometric=True)
    np.testing.assert_allclose(geometric.exp(), [[math.sqrt(1.6), math.sqrt(0.18)]], rtol=1e-6)


def test_teammates_are_new_before_an_agents_turn_and_old_after_it():
    before, after = th.tensor([1.0, 2.0, 4.0, 8.0]), th.tensor([10.0, 20.0, 40.0, 80.0])
    found = teammates_log_pi_in(th.tensor([2, 0, 3, 1]), before[None, None], after[None, None])
    expected = [40 + 8 + 2, 40 + 10 + 80, 1 + 8 + 2, 40 + 10 + 2]  # of agents 0, 1, 2, 3
    assert found.flatten().tolist() == expected


def test_a_single_agent_has_ratio_one():
    alone = teammates_log_pi_in(th.tensor([0]), th.tensor([[[-2.0]]]), th.tensor([[[-3.0]]]))
    assert log_importance_ratio(alone, th.zeros(1, 1, 1), 1, geometric=True).item() == 0


def test_resampling_frequencies_follow_the_ratio_and_leave_padding_out():
    rho = th.tensor([[1.0, 3.0, 0.5], [0.0, 0.5, 100.0]])
    rho = th.stack([rho, th.ones_like(rho)], dim=-1)  # of two agents
    filled = th.tensor([[True, True, True], [True, True, False]])
    generator = th.Generator().manual_seed(0)
    total = sum(resample(rho, filled, generator) for _ in range(4000))
    assert total.sum(dim=(0, 1)).tolist() == [4000 * 5] * 2  # as many draws as real steps
    assert (total[1, 2] == 0).all()
    shares = total / total.sum(dim=(0, 1))
    np.testing.assert_allclose(shares[..., 0], [[0.2, 0.6, 0.1], [0, 0.1, 0]], atol=0.01)
    np.testing.assert_allclose(shares[..., 1], [[0.2, 0.2, 0.2], [0.2, 0.2, 0]], atol=0.01)


def test_value_target_with_both_temperatures():
    pi, mu, q = th.tensor([[0.75, 0.25]]), th.tensor([[0.5, 0.5]]), th.tensor([[2.0, -1.0]])
    arguments = (q[None, None], pi.log()[None, None], mu.log()[None, None])
    real = th.tensor([[True]])
    settings = {"alpha": th.tensor([0.3]), "beta": 0.2, "gamma": 0.9, "td_lambda": 0.0}
    target = value_target(th.tensor([[1.0]]), th.tensor([[False]]), real, *arguments, **settings)
    divergence = 0.75 * LOG(0.75 / 0.5) + 0.25 * LOG(0.25 / 0.5)
    entropy = -(0.75 * LOG(0.75) + 0.25 * LOG(0.25))
    expected = 1 + 0.9 * (0.75 * 2 - 0.25 * 1 - 0.3 * divergence + 0.2 * entropy)
    assert target.item() == pytest.approx(expected, rel=1e-6)
    ended = value_target(th.tensor([[1.0]]), th.tensor([[True]]), real, *arguments, **settings)
    assert ended.item() == 1.0


def test_value_target_with_td_lambda_mixes_in_what_followed():
    """Two steps and padding, one action: half of step 0's target is Qbar's, half is step 1's."""
    rows, nothing = th.tensor([[1.0, 2.0, 7.0]]), th.zeros(1, 3, 1, 1)
    next_q = th.tensor([10.0, 20.0, 99.0]).view(1, 3, 1, 1)
    flags = th.tensor([[False, False, False]]), th.tensor([[True, True, False]])  # cut after step 1
    settings = {"alpha": th.tensor([0.3]), "beta": 0.2, "gamma": 0.9, "td_lambda": 0.5}
    target = value_target(rows, *flags, next_q, nothing, nothing, **settings).flatten()
    last = 2 + 0.9 * 20
    np.testing.assert_allclose(target, [1 + 0.9 * (0.5 * 10 + 0.5 * last), last, 0.0], rtol=1e-6)


def test_value_loss_is_td_error_and_cql_weighted_by_the_draws():
    q = th.tensor([[[[1.0, 2.0]], [[0.5, 0.0]]]])  # [1, 2, 1, 2]
    actions, target = th.tensor([[[0], [1]]]), th.tensor([[[3.0], [-1.0]]])
    counts = th.tensor([[[3.0], [1.0]]])
    loss = value_loss(q, actions, th.ones_like(q, dtype=th.bool), target, counts, cql_weight=0.5)
    cql = [LOG(math.e + math.e**2) - 1.0, LOG(math.exp(0.5) + 1) - 0.0]
    expected = (3 * ((1 - 3) ** 2 + 0.5 * cql[0]) + 1 * ((0 + 1) ** 2 + 0.5 * cql[1])) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_cql_leaves_unavailable_actions_out():
    q = th.tensor([[[[1.0, 50.0]]]], requires_grad=True)
    available = th.tensor([[[[True, False]]]])
    ones = th.ones(1, 1, 1)
    loss = value_loss(q, th.tensor([[[0]]]), available, ones, ones, cql_weight=1.0)
    loss.sum().backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert q.grad[0, 0, 0, 1] == 0
    assert th.isfinite(q.grad).all()


def test_advantage_scores_q_without_the_behaviour_bonus():
    q, mu, pi = th.tensor([[[1.0, 3.0]]]), th.tensor([[[0.9, 0.1]]]), th.tensor([[[0.6, 0.4]]])
    score = [1 - 2 * LOG(0.9), 3 - 2 * LOG(0.1)]
    expected = score[1] - (0.6 * score[0] + 0.4 * score[1])
    result = advantage(q, pi.log(), mu.log(), th.tensor([[1]]), beta=2.0)
    assert result.item() == pytest.approx(expected, rel=1e-6)


def test_policy_loss_weights():
    log_pi, advantages = (
        th.tensor([[[-1.0], [-2.0]]], requires_grad=True),
        th.tensor([[[0.5], [10.0]]]),
    )
    steps = th.tensor([[[2.0], [1.0]]])
    loss = policy_loss(log_pi, advantages, temperature=0.5, weights=steps, weight_max=20.0)
    weights = [math.exp(1.0), 20.0]  # the second would be exp(20)
    assert loss.item() == pytest.approx((2 * weights[0] * 1 + weights[1] * 2) / 3, rel=1e-5)
    loss.sum().backward()
    np.testing.assert_allclose(
        log_pi.grad.flatten(), [-2 * weights[0] / 3, -weights[1] / 3], rtol=1e-5
    )


def test_policy_loss_is_minimal_at_the_quantal_response():
    """Its minimiser is mu^{alpha/(alpha+beta)} exp(Q/(alpha+beta)), normalised (Eq. 12)."""
    alpha, beta = 0.7, 0.4
    mu, q = (
        th.tensor([0.5, 0.3, 0.2], dtype=th.double),
        th.tensor([1.0, -0.5, 2.0], dtype=th.double),
    )
    target = mu ** (alpha / (alpha + beta)) * (q / (alpha + beta)).exp()
    target = target / target.sum()
    actions = th.arange(3)[None]  # each action once, weighted by how often the data has it
    expand = (1, 3, 3)
    advantages = advantage(
        q.expand(expand),
        th.full(expand, LOG(1 / 3)).double(),
        mu.log().expand(expand),
        actions,
        beta,
    )
    logits = target.log().clone().requires_grad_()
    columns = (logits.log_softmax(-1)[None, :, None], advantages[..., None])
    loss = policy_loss(*columns, th.tensor([alpha + beta], dtype=th.double), mu[None, :, None], 1e9)
    (gradient,) = th.autograd.grad(loss.sum(), logits)
    np.testing.assert_allclose(gradient, np.zeros(3), atol=1e-9)


@pytest.mark.parametrize(("kl", "grows"), [(0.5, True), (0.05, False)])
def test_temperature_grows_when_the_policy_strays(kl, grows):
    log_alpha = th.tensor(0.0, requires_grad=True)
    temperature_loss(log_alpha, th.tensor(kl), kl_target=0.2).backward()
    assert (log_alpha.grad.item() < 0) == grows
    assert log_alpha.grad.item() == pytest.approx(0.2 - kl)


def test_a_ratio_of_nan_is_drawn_like_one():
    rho = th.tensor([[[math.nan], [3.0]]])
    generator = th.Generator().manual_seed(0)
    total = sum(resample(rho, th.ones(1, 2, dtype=th.bool), generator) for _ in range(2000))
    np.testing.assert_allclose(total.flatten() / 4000, [0.25, 0.75], atol=0.03)
