"""Mixers: QMixer's fast forms, the generic ones, and mixers from outside of the repository."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_data
from small_learners import make_learner

from inspo.modules.mixers import ConvexMixer, LinearMixer, Mixer, QMixer
from inspo.utils.errors import ConfigError

INFO = make_data().env_info(episode_limit=5)  # 3 agents, 4 actions, a state of 7 numbers


class SumMixer(Mixer):
    """VDN's mixer: the sum of the agents' values."""

    def weights(self, state):
        return None

    def mix(self, agent_values, weights):
        return agent_values.sum(dim=-1)


@pytest.fixture
def qmixer():
    th.manual_seed(0)
    return QMixer(SimpleNamespace(mixing_embed_dim=6, hypernet_embed=5), INFO)


def test_forward_mixes_with_the_weights_of_the_state(qmixer):
    values, state = th.randn(4, 5, 3), th.randn(4, 5, 7)
    assert th.equal(qmixer(values, state), qmixer.mix(values, qmixer.weights(state)))


def test_joint_actions_in_one_pass_are_one_at_a_time(qmixer):
    state, values = th.randn(4, 5, 7), th.randn(4, 5, 3, 9)
    weights = qmixer.weights(state)
    found = qmixer.mix_joint_actions(values, weights)
    th.testing.assert_close(found, Mixer.mix_joint_actions(qmixer, values, weights))
    assert found.shape == (4, 5, 9)
    th.testing.assert_close(found[..., 2], qmixer.mix(values[..., 2], weights))


def test_counterfactuals_in_one_pass_are_one_at_a_time(qmixer):
    state, q = th.randn(4, 5, 7), th.randn(4, 5, 3, 4)
    actions = th.randint(4, (4, 5, 3))
    weights = qmixer.weights(state)
    found = qmixer.mix_counterfactuals(q, actions, weights)
    th.testing.assert_close(found, Mixer.mix_counterfactuals(qmixer, q, actions, weights))
    # Agent 1 takes action 3, its teammates act as before.
    values = q.gather(-1, actions[..., None]).squeeze(-1)
    values[..., 1] = q[..., 1, 3]
    th.testing.assert_close(found[..., 1, 3], qmixer.mix(values, weights))


def test_generic_counterfactuals_by_hand():
    q = th.tensor([[[[1.0, 3.0], [10.0, 20.0]]]])
    actions = th.tensor([[[0, 1]]])  # worth 1 + 20
    mixer = SumMixer(None, INFO)
    found = mixer.mix_counterfactuals(q, actions, None)
    assert found.tolist() == [[[[21.0, 23.0], [11.0, 21.0]]]]


@pytest.mark.parametrize("algorithm", ["qmix_cql", "cfcql", "macql"])
def test_another_mixer_trains(tmp_path, algorithm):
    learner, buffer = make_learner(tmp_path, algorithm, mixer=f"{__name__}:SumMixer")
    assert type(learner.mixer).__name__ == "SumMixer"
    assert not list(learner.mixer.parameters())
    before = [value.clone() for value in learner.mac.parameters()]
    for _ in range(3):
        stats = learner.train(buffer, with_stats=True)
    assert all(np.isfinite(value) for value in stats.values())
    assert not any(map(th.equal, before, learner.mac.parameters()))


def test_an_unknown_mixer_is_refused():
    with pytest.raises(ConfigError, match="unknown mixer 'qmx'; did you mean 'qmix'"):
        make_args("qmix_cql", mixer="qmx")


def test_the_linear_mixers_weights_are_not_negative():
    th.manual_seed(0)
    w, b = LinearMixer(INFO, hidden_dim=8)(th.randn(5, 2, 7))
    assert (w.shape, b.shape) == ((5, 2, 3), (5, 2))
    assert (w >= 0).all()
    assert (b < 0).any()


def test_the_convex_mixers_weights_add_up_to_one():
    th.manual_seed(0)
    mixer = ConvexMixer(INFO, embed_dim=8)
    state = th.randn(5, 2, 7)
    k = mixer(state)
    assert (k >= 0).all()
    w1 = mixer.hyper_w1(state).abs().view(5, 2, 3, 8)
    products = (w1 * mixer.hyper_w2(state).abs()[:, :, None]).sum(-1)
    th.testing.assert_close(k, products / products.sum(-1, keepdim=True))
    np.testing.assert_allclose(k.sum(-1).detach(), 1, rtol=1e-6)
