"""The replay buffer of online learners."""

import numpy as np
import pytest
import torch as th
from conftest import make_buffer, make_data
from replay import episodes_of, replay_of

from inspo.components.replay_buffer import ReplayBuffer
from inspo.utils.errors import ConfigError

CPU = th.device("cpu")


def test_the_buffer_is_a_ring():
    data = make_data()
    buffer = replay_of(data, capacity=4)
    assert (buffer.n_episodes, buffer.added) == (4, 6)
    kept = [episode for episode, _ in buffer.episodes()]
    for episode, expected in zip(kept, list(episodes_of(data))[2:], strict=True):
        for name, rows in expected.items():
            np.testing.assert_array_equal(episode[name], rows)


def test_batches_are_those_of_the_offline_buffer():
    data = make_data()
    online, offline = replay_of(data, seed=3).sample(32), make_buffer(data, seed=3).sample(32)
    assert online.keys() == offline.keys()
    for name, rows in offline.items():
        assert th.equal(online[name], rows), name
        assert online[name].dtype == rows.dtype


def test_few_lengths_end_at_the_episode_limit():
    data = make_data(lengths=(11, 3, 9))
    buffer = replay_of(data, episode_limit=20)  # an eighth is 3 steps
    lengths = {buffer.sample(1, few_lengths=True)["filled"].shape[1] for _ in range(20)}
    assert lengths == {3, 9, 12}


def test_a_buffer_is_restored_from_its_file(tmp_path):
    data = make_data()
    buffer = replay_of(data, capacity=4)
    buffer.sample(3)
    buffer.save(tmp_path / "buffer.replay")
    again = ReplayBuffer(data.env_info(episode_limit=5), 4, CPU, seed=7)
    again.load(tmp_path / "buffer.replay")
    again.load_state_dict(buffer.state_dict())
    for episode in list(episodes_of(data))[:2]:
        buffer.add(episode, battle_won=True)
        again.add(episode, battle_won=True)
    first, second = buffer.sample(16), again.sample(16)
    assert all(th.equal(first[name], second[name]) for name in first)
    assert th.equal(buffer.battle_won, again.battle_won)


def test_a_buffer_too_large_for_the_memory_is_refused():
    with pytest.raises(ConfigError, match=r"buffer_size=1000000000.*at most buffer_size=\d+ fits"):
        ReplayBuffer(make_data().env_info(episode_limit=1000), 10**9, CPU, seed=0)


def test_the_memory_that_it_may_take_is_logged(caplog):
    caplog.set_level("INFO")
    replay_of(make_data(), capacity=500)
    assert "Replay buffer of 500 episodes" in caplog.text


def test_rewards_are_divided_by_their_root_mean_square():
    data = make_data()
    buffer, plain = replay_of(data, capacity=4, seed=3), replay_of(data, capacity=4, seed=3)
    buffer.standardise_rewards()
    kept = [episode["reward"][:-1] for episode in list(episodes_of(data))[2:]]  # without final rows
    assert buffer.reward_scale == pytest.approx(np.sqrt(np.square(np.concatenate(kept)).mean()))
    scaled = buffer.sample(8)["reward"] * buffer.reward_scale
    np.testing.assert_allclose(scaled, plain.sample(8)["reward"], rtol=1e-6)
    stored = [episode["reward"] for episode, _ in buffer.episodes()]
    np.testing.assert_array_equal(np.concatenate(stored)[: len(kept[0])], kept[0])


def test_rewards_of_zero_have_no_scale():
    data = make_data()
    data.reward[:] = 0
    buffer = replay_of(data)
    buffer.standardise_rewards()
    assert buffer.reward_scale == 1
