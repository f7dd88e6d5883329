"""Scaling computed from a dataset: hand values, constants, and every learner on its result."""

import numpy as np
import pytest
import torch as th
from conftest import make_data
from small_learners import ALGORITHMS, make_learner

from inspo.data.scaling import BOUND, scaled, scaling_of, standardise


def by_hand():
    """Two episodes of one step; the final rows do not count."""
    data = make_data(lengths=(1, 1))
    obs = np.zeros((4, 3, 5), dtype=np.float32)
    obs[[0, 2], :, 0] = [[1, 2, 3], [4, 5, 9]]  # mean 4, variance 40 / 6
    obs[:, :, 1] = 7  # constant
    obs[[1, 3]] = 1000
    data.obs = obs
    data.reward = np.array([3, 0, -4, 0], dtype=np.float32)
    return data


def test_the_largest_numbers_are_scaled_without_a_warning():
    data = by_hand()
    data.obs[:] = np.float32([3e38, 0, 1e38, 0])[:, None, None]
    data.obs[1] = -3e38  # a final row, which does not count: its distance is infinite in float32
    scaling = scaling_of(data, rewards=False, observations=True)
    with np.errstate(over="raise"):
        result = scaled(data, scaling)
    np.testing.assert_allclose(result.obs[[0, 2], 0, 0], [1, -1], rtol=1e-5)
    assert (result.obs[1] == -BOUND).all()


def test_observations_have_mean_0_and_deviation_1():
    data = by_hand()
    scaling = scaling_of(data, rewards=False, observations=True)
    std = np.float32(np.sqrt(40 / 6))
    np.testing.assert_array_equal(scaling["obs_mean"], np.float32([4, 7, 0, 0, 0]))
    np.testing.assert_array_equal(scaling["obs_std"], np.float32([std, 1, 1, 1, 1]))
    result = scaled(data, scaling)
    expected = (np.float32([[1, 2, 3], [4, 5, 9]]) - 4) / std
    np.testing.assert_allclose(result.obs[[0, 2], :, 0], expected, rtol=1e-6)
    assert (result.obs[[0, 2], :, 1] == 0).all()
    assert (result.obs[1] == BOUND).all()  # far from everything that was counted
    np.testing.assert_array_equal(data.obs[1], np.full((3, 5), 1000))  # the original stays
    np.testing.assert_array_equal(result.reward, data.reward)
    steps = data.is_step
    counted = scaling["state_std"] != 1
    np.testing.assert_allclose(result.state[steps].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(result.state[steps].std(0)[counted], 1, rtol=1e-5)


def test_rewards_are_divided_and_not_shifted():
    data = by_hand()
    scaling = scaling_of(data, rewards=True, observations=False)
    scale = np.float32(np.sqrt((9 + 16) / 2))
    np.testing.assert_array_equal(scaling["reward_scale"], [scale])
    result = scaled(data, scaling)
    np.testing.assert_array_equal(result.reward, data.reward / scale)
    assert result.obs is data.obs


@pytest.mark.parametrize("reward", [0.0, 1e-45, 5.0, 3e38])
def test_constant_rewards_stay_finite(reward):
    data = by_hand()
    data.reward = np.where(data.is_step, reward, 0).astype(np.float32)
    result = scaled(data, scaling_of(data, rewards=True, observations=True))
    assert result.reward[0] == (reward != 0)
    assert result.reward.dtype == result.obs.dtype == np.float32


def test_nothing_asked_for_is_nothing_done():
    data = by_hand()
    assert scaling_of(data, rewards=False, observations=False) == {}
    assert scaled(data, {}) is data


def test_play_is_scaled_as_the_data_are():
    data = by_hand()
    scaling = scaling_of(data, rewards=False, observations=True)
    tensors = {name: th.from_numpy(values) for name, values in scaling.items()}
    played = standardise(th.from_numpy(data.obs), tensors["obs_mean"], tensors["obs_std"])
    np.testing.assert_array_equal(played.numpy(), scaled(data, scaling).obs)


def test_large_arrays_are_scaled_part_by_part(monkeypatch):
    data = make_data()
    whole = scaling_of(data, rewards=True, observations=True)
    monkeypatch.setattr("inspo.data.scaling.PART_BYTES", 100)
    parts = scaling_of(data, rewards=True, observations=True)
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(scaled(data, parts).obs, scaled(data, whole).obs, atol=1e-5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_learner_trains_on_huge_numbers(tmp_path, algorithm):
    data = make_data()
    for name in ("obs", "state", "reward"):
        setattr(data, name, getattr(data, name) * np.float32(1e30))
    data = scaled(data, scaling_of(data, rewards=True, observations=True))
    learner, buffer = make_learner(tmp_path, algorithm, data)
    for _ in range(2):
        stats = learner.train(buffer, with_stats=True)
    assert stats
    assert np.isfinite(list(stats.values())).all()
