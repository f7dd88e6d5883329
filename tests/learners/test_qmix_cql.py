"""QMIX + CQL: its loss against plain loops, and what all learners of decomposed values share."""

import math

import pytest
import torch as th
from conftest import make_args
from small_learners import make_learner, single_episode, values_by_hand

from inspo.learners.qmix_cql_learner import individual_penalty
from inspo.utils.errors import ConfigError

GAMMA = 0.9


def test_individual_penalty_runs_over_available_actions():
    q = th.tensor([[[[1.0, 2.0, 50.0], [0.5, 0.0, -1.0]]]], requires_grad=True)
    available = th.tensor([[[[True, True, False], [True, True, True]]]])
    penalty = individual_penalty(q, th.tensor([[[0, 1]]]), available)
    first = math.log(math.e + math.e**2) - 1
    second = math.log(math.exp(0.5) + 1 + math.exp(-1))
    assert penalty.shape == (1, 1)
    assert penalty.item() == pytest.approx(first + second, rel=1e-6)
    penalty.sum().backward()
    assert q.grad[0, 0, 0, 2] == 0


def losses_by_hand(learner, rows, length):
    """TD loss and penalty of one episode, summed over its steps, without masks and batches."""
    q, target_q = learner.mac.outputs(rows), learner.target_mac.outputs(rows)
    td, penalty = 0.0, 0.0
    for t in range(length):
        taken, next_values, penalties = values_by_hand(q, target_q, rows, t)
        penalty += sum(penalties)
        y = rows["reward"][0, t].clone()
        if not rows["terminated"][0, t]:
            next_state = rows["state"][:, t + 1 : t + 2]
            value = learner.target_mixer(th.stack(next_values)[None, None], next_state)
            y += GAMMA * value[0, 0].detach()
        q_tot = learner.mixer(th.stack(taken)[None, None], rows["state"][:, t : t + 1])[0, 0]
        td += 0.5 * (q_tot - y) ** 2
    return td, penalty


def test_the_loss_is_td_plus_weighted_penalty(tmp_path):
    learner, buffer = make_learner(
        tmp_path, "qmix_cql", cql_weight=0.3, grad_norm_clip=0, td_lambda=0.0, gamma=GAMMA
    )
    with th.no_grad():  # targets that differ from the networks
        for value in learner.target_parameters:
            value.add_(0.1 * th.randn(value.shape))
    batch = buffer.sample(8)
    buffer.sample = lambda _: batch
    lengths = batch["filled"].sum(dim=1).tolist()
    td, penalty = 0.0, 0.0
    for e, length in enumerate(lengths):
        rows = single_episode(batch, e)
        episode_td, episode_penalty = losses_by_hand(learner, rows, length)
        td += episode_td / sum(lengths)
        penalty += episode_penalty / sum(lengths)
    expected = th.autograd.grad(td + 0.3 * penalty, learner.parameters)
    stats = learner.train(buffer, with_stats=True)
    assert stats["td_loss"] == pytest.approx(td.item(), rel=1e-5)
    assert stats["cql_penalty"] == pytest.approx(penalty.item(), rel=1e-5)
    for parameter, gradient in zip(learner.parameters, expected, strict=True):
        th.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("interval", "tau"), [(3, 1.0), (1, 0.25)])
def test_targets_are_updated_at_the_interval(tmp_path, interval, tau):
    learner, buffer = make_learner(tmp_path, "qmix_cql", target_update_interval=interval, tau=tau)
    for update in range(1, 7):
        before = [value.clone() for value in learner.target_parameters]
        learner.train(buffer, with_stats=False)
        due = update % interval == 0
        triples = zip(before, learner.target_parameters, learner.parameters, strict=True)
        for old, target, value in triples:
            expected = (1 - tau) * old + tau * value.data if due else old
            th.testing.assert_close(target, expected)
            assert not target.requires_grad


def test_the_gradient_norm_is_clipped_over_agents_and_mixer(tmp_path):
    learner, buffer = make_learner(tmp_path, "qmix_cql", grad_norm_clip=0.01)
    learner.train(buffer, with_stats=False)
    norm = th.stack([value.grad.square().sum() for value in learner.parameters]).sum().sqrt()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("algorithm", ["qmix_cql", "cfcql", "macql"])
def test_values_are_not_sampled_as_if_they_were_policies(algorithm):
    message = f"test_greedy=False samples from a policy, but {algorithm} learns values"
    with pytest.raises(ConfigError, match=message):
        make_args(algorithm, test_greedy=False)
