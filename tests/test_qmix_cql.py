"""Values, targets and losses that QMIX's offline descendants share, and QMIX+CQL's penalty, by hand."""

import math

import pytest
import torch as th
from conftest import make_args, make_data
from test_learners import make_learner

from inspo.components.value_decomposition import double_q_targets, greedy_actions, td_loss
from inspo.learners.qmix_cql_learner import individual_penalty
from inspo.modules.mixers import QMixer, mix, mix_joint_actions
from inspo.utils.errors import ConfigError


def team_value(agent_values, state):
    """A mixer simple enough for hand computation: q1 + 2 q2 + s."""
    return agent_values[..., 0] + 2 * agent_values[..., 1] + state[..., 0]


def test_greedy_actions_are_available():
    q = th.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    available = th.tensor([[True, True, True], [False, True, True], [False, False, False]])
    assert greedy_actions(q, available).tolist() == [0, 1, 0]


def test_targets_pick_by_the_network_and_value_by_its_target():
    # One episode of two steps, and padding: rows 0, 1, 2 and 3. Two agents, two actions.
    q = th.tensor(
        [[[[0, 0], [0, 0]], [[1, 2], [5, 4]], [[9, 1], [0, 1]], [[7, 7], [7, 7]]]]
    ).float()
    target_q = th.tensor(
        [[[[9, 9], [9, 9]], [[10, 20], [30, 40]], [[1, 2], [3, 4]], [[70, 70], [70, 70]]]]
    ).float()
    available = th.ones(1, 4, 2, 2, dtype=th.bool)
    available[0, 2, 0, 0] = False  # the network would like it best
    batch = {
        "avail_actions": available,
        "state": th.tensor([[[50.0], [0.5], [0.25], [90.0]]]),
        "reward": th.tensor([[1.0, 2.0, 77.0]]),
        "terminated": th.tensor([[False, False, False]]),
        "filled": th.tensor([[True, True, False]]),
    }
    values = [20 + 2 * 30 + 0.5, 2 + 2 * 4 + 0.25]  # of rows 1 and 2
    last = 2 + 0.9 * values[1]  # cut short there: bootstrapped in full
    first = 1 + 0.9 * (0.4 * values[0] + 0.6 * last)
    targets = double_q_targets(q, target_q, team_value, batch, gamma=0.9, td_lambda=0.6)
    th.testing.assert_close(targets, th.tensor([[first, last, 0.0]]))
    batch["terminated"][0, 1] = True
    targets = double_q_targets(q, target_q, team_value, batch, gamma=0.9, td_lambda=0.6)
    th.testing.assert_close(
        targets, th.tensor([[1 + 0.9 * (0.4 * values[0] + 0.6 * 2.0), 2.0, 0.0]])
    )


def test_td_loss():
    q_tot, targets = th.tensor([[1.0, 2.0, 9.0]]), th.tensor([[3.0, 1.0, 0.0]])
    assert td_loss(q_tot, targets, th.tensor([[True, True, False]])).item() == pytest.approx(
        (2 + 0.5) / 2
    )


def test_individual_penalty_runs_over_available_actions():
    q = th.tensor([[[[1.0, 2.0, 50.0], [0.5, 0.0, -1.0]]]], requires_grad=True)
    available = th.tensor([[[[True, True, False], [True, True, True]]]])
    penalty = individual_penalty(q, th.tensor([[[0, 1]]]), available)
    expected = math.log(math.e + math.e**2) - 1 + math.log(math.exp(0.5) + 1 + math.exp(-1))
    assert penalty.shape == (1, 1)
    assert penalty.item() == pytest.approx(expected, rel=1e-6)
    penalty.sum().backward()
    assert q.grad[0, 0, 0, 2] == 0


def test_the_loss_is_td_plus_weighted_penalty(tmp_path):
    """One update, against a second writing of everything: episode by episode, without padding, masks or batches."""
    learner, buffer = make_learner(
        tmp_path, "qmix_cql", cql_weight=0.3, grad_norm_clip=0, td_lambda=0.0, gamma=0.9
    )
    with th.no_grad():  # targets that differ from the networks
        for value in learner.target_parameters:
            value.add_(0.1 * th.randn(value.shape))
    batch = buffer.sample(8)
    buffer.sample = lambda _: batch
    td, cql, steps = 0.0, 0.0, 0
    for e, length in enumerate(batch["filled"].sum(dim=1).tolist()):
        rows = {name: value[e : e + 1, : length + 1] for name, value in batch.items()}
        q, target_q = learner.mac.outputs(rows), learner.target_mac.outputs(rows)
        for t in range(length):
            state, next_state = rows["state"][:, t : t + 1], rows["state"][:, t + 1 : t + 2]
            taken, best = [], []
            for i in range(3):
                action = rows["actions"][0, t, i]
                taken.append(q[0, t, i, action])
                offered = rows["avail_actions"][0, t, i].nonzero().flatten()
                cql += q[0, t, i, offered].exp().sum().log() - q[0, t, i, action]
                following = rows["avail_actions"][0, t + 1, i].nonzero().flatten().tolist()
                choice = max(following, key=lambda a, t=t, i=i: q[0, t + 1, i, a].item())
                best.append(target_q[0, t + 1, i, choice])
            y = rows["reward"][0, t].clone()
            if not rows["terminated"][0, t]:
                y += (
                    0.9
                    * learner.target_mixer(th.stack(best)[None, None], next_state)[0, 0].detach()
                )
            td += 0.5 * (learner.mixer(th.stack(taken)[None, None], state)[0, 0] - y) ** 2
            steps += 1
    loss = td / steps + 0.3 * cql / steps
    expected = th.autograd.grad(loss, learner.parameters)
    stats = learner.train(buffer, with_stats=True)
    assert stats["td_loss"] == pytest.approx(td.item() / steps, rel=1e-5)
    assert stats["cql_penalty"] == pytest.approx(cql.item() / steps, rel=1e-5)
    for parameter, gradient in zip(learner.parameters, expected, strict=True):
        th.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("interval", "tau"), [(3, 1.0), (1, 0.25)])
def test_targets_follow_when_it_is_time(tmp_path, interval, tau):
    learner, buffer = make_learner(tmp_path, "qmix_cql", target_update_interval=interval, tau=tau)
    for update in range(1, 7):
        before = [value.clone() for value in learner.target_parameters]
        learner.train(buffer, with_stats=False)
        for old, target, value in zip(
            before, learner.target_parameters, learner.parameters, strict=True
        ):
            due = update % interval == 0
            th.testing.assert_close(target, (1 - tau) * old + tau * value.data if due else old)
            assert not target.requires_grad


def test_the_clip_is_one_norm_over_agents_and_mixer(tmp_path):
    learner, buffer = make_learner(tmp_path, "qmix_cql", grad_norm_clip=0.01)
    learner.train(buffer, with_stats=False)
    norm = th.stack([value.grad.square().sum() for value in learner.parameters]).sum().sqrt()
    assert norm.item() == pytest.approx(0.01, rel=1e-3)


def test_joint_actions_mix_like_one_at_a_time():
    info = make_data().env_info(episode_limit=5)
    mixer, state, values = QMixer(info, 6, 5), th.randn(4, 5, 7), th.randn(4, 5, 3, 9)
    weights = mixer.weights(state)
    one_by_one = th.stack([mixer(values[..., k], state) for k in range(9)], dim=-1)
    th.testing.assert_close(mix_joint_actions(values, weights), one_by_one)
    th.testing.assert_close(mix(values[..., 0], weights), one_by_one[..., 0])


@pytest.mark.parametrize("algorithm", ["qmix_cql", "cfcql", "macql"])
def test_values_are_not_sampled_as_if_they_were_policies(algorithm):
    with pytest.raises(
        ConfigError, match=f"test_greedy=False samples from a policy, and {algorithm} learns values"
    ):
        make_args(algorithm, test_greedy=False)
