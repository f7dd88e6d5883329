"""Episodes played by trained policies."""

import numpy as np
import pytest
import torch as th
from conftest import make_args

from inspo.controllers import BasicMAC
from inspo.data.formats import from_episodes
from inspo.envs import EnvInfo
from inspo.envs.bridge import Bridge
from inspo.envs.multiagentenv import SyncVectorEnv
from inspo.runners.batch_runner import BatchRunner, MacPolicy
from inspo.utils.errors import SimulatorError


@pytest.fixture
def mac():
    th.manual_seed(0)
    return BasicMAC(make_args("bc"), EnvInfo(**Bridge().get_env_info()))


def test_recorded_episodes_replay_in_a_single_environment(mac):
    runner = BatchRunner(Bridge(episode_limit=9).make_batch(6))
    policy = MacPolicy(mac, seed=1, greedy=False)
    rollouts = list(runner.play(policy, n_episodes=10, seed=0, record=True))
    assert sum(len(rollout.lengths) for rollout in rollouts) == 12
    episodes = [episode for rollout in rollouts for episode in rollout.episodes()]
    metadata = {"environment": "bridge", "env_args": {}, "behaviour": "random", "command": "pytest"}
    from_episodes(episodes, metadata, "played").check()
    returns = np.concatenate([rollout.returns for rollout in rollouts])
    env = Bridge(episode_limit=9)
    for episode, total in zip(episodes, returns, strict=True):
        obs = env.reset()
        for t in range(len(episode["reward"]) - 1):
            np.testing.assert_array_equal(episode["obs"][t], obs)
            obs, reward, terminated, truncated, _ = env.step(episode["actions"][t])
            assert reward == pytest.approx(episode["reward"][t])
            assert (terminated, truncated) == (episode["terminated"][t], episode["truncated"][t])
        np.testing.assert_array_equal(episode["obs"][-1], obs)
        assert total == pytest.approx(episode["reward"].sum(), abs=1e-5)


def test_the_seed_fixes_an_evaluation(mac):
    runner = BatchRunner(Bridge().make_batch(8))
    first, again, other = (runner.evaluate(mac, 8, greedy=False, seed=seed) for seed in (3, 3, 4))
    assert first == again != other


class Crashing(SyncVectorEnv):
    """Game 0 crashes at its first step."""

    def step(self, actions):
        reward, terminated, truncated, info = super().step(actions)
        terminated[0] |= self.playing[0]
        crashed = np.zeros(self.n_envs, dtype=bool)
        crashed[0] = self.playing[0]
        self.playing[0] = False
        return reward, terminated, truncated, {**info, "crashed": crashed}


def test_crashed_games_are_dropped_and_played_again(mac):
    policy = MacPolicy(mac, seed=0, greedy=False)
    runner = BatchRunner(Crashing([Bridge() for _ in range(3)]))
    rollouts = list(runner.play(policy, n_episodes=4, seed=0))
    assert [len(rollout.lengths) for rollout in rollouts] == [2, 2]
    only_crashes = BatchRunner(Crashing([Bridge()]))
    with pytest.raises(SimulatorError, match="crashed"):
        list(only_crashes.play(policy, n_episodes=1, seed=0))


def test_epsilon_is_the_share_of_random_available_actions(mac):
    obs = th.zeros(4000, 2, 8)
    available = th.ones(4000, 2, 5, dtype=th.bool)
    available[..., 0] = False
    inputs = (obs, available, th.full((4000, 2), -1), mac.init_hidden(4000))
    best, _ = mac.act(*inputs, greedy=True)
    taken, _ = mac.act(*inputs, True, th.Generator().manual_seed(0), epsilon=0.4)
    assert (taken != 0).all()
    assert (taken == best).float().mean() == pytest.approx(0.6 + 0.4 / 4, abs=0.02)


def test_every_game_of_every_round_has_its_own_seed(mac):
    games = Bridge(episode_limit=2).make_batch(3)
    seeds, reset = [], games.reset

    def noted(seed):
        seeds.append(seed)
        return reset(seed)

    games.reset = noted
    policy = MacPolicy(mac, seed=1, greedy=False)
    assert len(list(BatchRunner(games).play(policy, n_episodes=7, seed=20))) == 3
    assert seeds == [20, 23, 26]  # of each round's first game; the others count up from it
