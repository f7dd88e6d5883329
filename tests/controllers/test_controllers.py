"""Controllers: available actions only, epsilon, and networks shared or not."""

import numpy as np
import pytest
import torch as th
from conftest import make_args, make_data
from small_learners import make_learner

from inspo.controllers import BasicMAC, NonSharedMAC
from inspo.utils.errors import ConfigError

INFO = make_data().env_info(episode_limit=5)


@pytest.mark.parametrize("agent", ["mlp", "rnn"])
def test_unavailable_actions_have_probability_exactly_zero(tmp_path, agent):
    learner, buffer = make_learner(tmp_path, agent=agent)
    for _ in range(5):
        learner.train(buffer, with_stats=False)
    batch = buffer.sample(32)
    unavailable = ~batch["avail_actions"]
    probs = learner.mac.log_probs(batch).exp()
    assert (probs[unavailable] == 0).all()
    assert (batch["behaviour_log_probs"].exp()[unavailable] == 0).all()
    np.testing.assert_allclose(probs.sum(-1).detach(), 1, rtol=1e-5)
    obs, available = batch["obs"][:, 0], batch["avail_actions"][:, 0]
    no_action = th.full(obs.shape[:2], -1)
    hidden = learner.mac.init_hidden(len(obs))
    for _ in range(20):
        actions, _ = learner.mac.act(obs, available, no_action, hidden, greedy=False)
        assert available.gather(-1, actions[..., None]).all()


@pytest.mark.parametrize("greedy", [False, True])
def test_random_actions_need_no_available_one_after_the_end_of_a_game(greedy):
    mac = BasicMAC(make_args("bc"), INFO)
    available = th.zeros(2, 3, 4, dtype=th.bool)
    available[1, :, 2] = True  # the first game is over, the second continues
    actions, _ = mac.act(
        th.ones(2, 3, 5),
        available,
        th.full((2, 3), -1),
        mac.init_hidden(2),
        greedy,
        epsilon=0.5,
    )
    assert actions[1].tolist() == [2, 2, 2]


@pytest.mark.parametrize(("share", "n_networks"), [(True, 1), (False, 3)])
def test_basic_mac_shares_networks_as_the_setting_says(share, n_networks):
    mac = BasicMAC(make_args("bc", share_parameters=share), INFO)
    assert len(mac.agents) == n_networks


def test_non_shared_mac_is_basic_mac_with_one_network_each():
    args = make_args("bc", mac="non_shared_mac")
    macs = []
    for kind in (BasicMAC, NonSharedMAC):
        th.manual_seed(0)
        macs.append(kind(args, INFO).state_dict())
    assert macs[0].keys() == macs[1].keys()
    assert all(th.equal(macs[0][name], macs[1][name]) for name in macs[0])
    with pytest.raises(ConfigError, match="non_shared_mac has one network per agent"):
        NonSharedMAC(make_args("bc", share_parameters=True), INFO)
