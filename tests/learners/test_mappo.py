"""MAPPO's losses against numbers worked out by hand, and its learner on a small round."""

import numpy as np
import pytest
import torch as th
from conftest import make_args
from pretended_gpu import pretended_gpu

from inspo.components.round_buffer import RoundBuffer, round_batch
from inspo.controllers import BasicMAC
from inspo.data.rollout import RandomPolicy, play_round
from inspo.envs import EnvInfo, MultiAgentEnv
from inspo.learners import REGISTRY
from inspo.learners.mappo_losses import (
    advantages_and_returns,
    clipped_policy_loss,
    clipped_value_loss,
    standardise_advantages,
)
from inspo.modules.value_norm import DECAY, ValueNorm
from inspo.run.settings import settings_of
from inspo.utils.errors import ConfigError

GAMMA, LAMBDA = 0.9, 0.8
CPU = th.device("cpu")


class Fading(MultiAgentEnv):
    """An agent has a choice until its last step. Episodes last 2 to 4 steps, as the seed says."""

    n_agents, n_actions, obs_shape, state_shape, episode_limit = 2, 3, 4, 5, 4

    def reset(self, seed=None):
        self.rng = np.random.default_rng(seed)
        self.length, self.step_number = int(self.rng.integers(2, 5)), 0
        return self.get_obs()

    def step(self, actions):
        self.check_actions(actions)
        self.step_number += 1
        over = self.step_number == self.length
        reward = float(self.rng.standard_normal())
        return self.get_obs(), reward, over and self.length < 4, over and self.length == 4, {}

    def get_obs(self):
        return self.rng.standard_normal((2, 4)).astype(np.float32)

    def get_state(self):
        return np.full(5, self.step_number, dtype=np.float32)

    def get_avail_actions(self):
        available = np.ones((2, 3), dtype=bool)
        if self.step_number >= 1:
            available[1, 1:] = False  # the second agent has only its first action left
        return available


def play(n_envs: int = 6, seed: int = 3):
    """A recorded round of random actions."""
    return play_round(Fading().make_batch(n_envs), RandomPolicy(0), seed, record=True)


def make_learner(device=CPU, **overrides):
    small = {"hidden_dim": 8, "critic_hidden_dim": 8, "batch_size": 4}
    args = make_args("mappo", **{**small, **overrides})
    info = EnvInfo(**Fading().get_env_info())
    th.manual_seed(0)
    return REGISTRY[args.learner](args, info, BasicMAC(args, info).to(device))


def small_round(device=CPU) -> RoundBuffer:
    buffer = RoundBuffer(device)
    buffer.add(play())
    return buffer


def test_advantages_are_those_of_the_recursion():
    """The first episode is terminated, the second is truncated, the third is padded, too."""
    rng = np.random.default_rng(0)
    reward, values = rng.standard_normal((3, 4)), rng.standard_normal((3, 5))
    lengths, terminated = [4, 4, 2], np.zeros((3, 4), dtype=bool)
    terminated[0, 3] = True
    expected = np.zeros((3, 4))
    for b, length in enumerate(lengths):
        following = 0.0
        for t in reversed(range(length)):
            next_value = 0.0 if terminated[b, t] else values[b, t + 1]
            delta = reward[b, t] + GAMMA * next_value - values[b, t]
            following = delta + GAMMA * LAMBDA * following
            expected[b, t] = following
    filled = np.arange(4) < np.array(lengths)[:, None]
    arrays = (reward, terminated, filled, values)
    inputs = [th.from_numpy(array) for array in arrays]
    advantages, returns = advantages_and_returns(*inputs, GAMMA, LAMBDA)
    np.testing.assert_allclose(advantages, expected, atol=1e-6)
    np.testing.assert_allclose(returns, (expected + values[:, :-1]) * filled, atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "objective"),
    [
        (1.5, 2.0, 1.2 * 2),  # what is good and already likelier gains nothing more
        (0.5, 2.0, 0.5 * 2),
        (1.5, -2.0, 1.5 * -2),
        (0.5, -2.0, 0.8 * -2),
        (1.1, 2.0, 1.1 * 2),
    ],
)
def test_the_policys_objective_is_clipped_against_it(ratio, advantage, objective):
    log_prob = th.tensor([0.3 * ratio, 0.9]).log().requires_grad_()
    old = th.tensor([0.3, 0.1]).log()
    mask = th.tensor([True, False])
    loss = clipped_policy_loss(log_prob, old, th.tensor([advantage, 99.0]), mask, 0.2)
    assert loss.item() == pytest.approx(-objective, rel=1e-6)
    loss.backward()
    clipped = objective != ratio * advantage
    assert (log_prob.grad[0] == 0) == clipped
    assert log_prob.grad[1] == 0


def test_the_values_loss_takes_the_larger_error():
    """By hand, with eps 0.2: (3 - 1)^2, (0.2 - 1)^2 and (0.1 - 0)^2, halved."""
    values, old = th.tensor([3.0, 0.9, 0.1]), th.zeros(3)
    returns = th.tensor([1.0, 1.0, 0.0])
    loss = clipped_value_loss(values, old, returns, 0.2)
    assert loss.item() == pytest.approx((2**2 + 0.8**2 + 0.1**2) / 2 / 3)


def test_standardised_values_ignore_padding():
    values = th.tensor([[1.0, 3.0, 99.0]])
    mask = th.tensor([[True, True, False]])
    assert standardise_advantages(values, mask)[0, :2].tolist() == pytest.approx([-1, 1])


def test_value_norm_starts_without_bias_and_follows_the_returns():
    norm = ValueNorm()
    values = th.tensor([4.0, 8.0])
    assert th.equal(norm.normalise(values), values)
    norm.update(values)
    assert norm.normalise(values).tolist() == pytest.approx([-1, 1])
    norm.update(th.tensor([0.0, 0.0]))
    mean = DECAY * 6 / (DECAY + 1)
    deviation = (DECAY * 40 / (DECAY + 1) - mean**2) ** 0.5
    assert norm.denormalise(th.tensor([0.0, 1.0])).tolist() == pytest.approx(
        [mean, mean + deviation]
    )


def test_a_round_is_a_batch_of_its_episodes():
    rollout = play()
    batch = round_batch(rollout)
    for number, episode in enumerate(rollout.episodes()):
        steps = len(episode["reward"]) - 1
        assert batch["filled"][number].sum() == steps
        for name in ("obs", "state", "avail_actions"):
            rows = batch[name][number].numpy()
            np.testing.assert_array_equal(rows[: steps + 1], episode[name])
        for name in ("actions", "reward", "terminated"):
            rows = batch[name][number, :steps].numpy()
            np.testing.assert_array_equal(rows, episode[name][:steps])
        last = batch["last_actions"][number].numpy()
        assert (last[0] == -1).all()
        np.testing.assert_array_equal(last[1:steps], episode["actions"][: steps - 1])
    assert batch["terminated"].any()
    assert not batch["terminated"].any(dim=1).all()


def test_rollouts_of_different_lengths_are_joined():
    whole, parts = RoundBuffer(th.device("cpu")), RoundBuffer(th.device("cpu"))
    whole.add(play(6, seed=7))
    for n_envs, seed in ((4, 7), (2, 11)):
        parts.add(play(n_envs, seed))
    assert [rollout.lengths.max() for rollout in parts.rollouts] == [4, 3]
    expected, joined = whole.batch(), parts.batch()
    assert parts.added == 6
    filled = expected["filled"]
    assert th.equal(joined["filled"], filled)
    for name in ("reward", "terminated"):
        assert th.equal(joined[name][filled], expected[name][filled])
    assert all(joined[name].shape == rows.shape for name, rows in expected.items())


def test_the_first_gradient_step_is_that_of_the_plain_policy_gradient():
    learner, buffer = make_learner(epochs=1, batch_size=6, entropy_coef=0), small_round()
    stats = learner.train(buffer, with_stats=True)
    assert learner.updates == 1
    assert stats["approx_kl"] == pytest.approx(0, abs=1e-6)
    assert stats["clip_fraction"] == 0
    assert stats["entropy"] == pytest.approx(np.log(3), abs=0.2)  # decisions of three actions alone


def test_the_values_are_not_clipped_before_the_first_gradient_step():
    """However far a round's returns are from those before."""
    learner = make_learner(eps_clip=1e-6)
    learner.train(small_round(), with_stats=False)
    buffer = small_round()
    buffer.rollouts[0].rows["reward"] = buffer.rollouts[0].rows["reward"] + 5
    played = learner._prepare(buffer.batch())
    loss = learner._value_loss(played, th.arange(6))
    errors = learner.critic(played.state) - played.normal_returns
    assert loss.item() == pytest.approx(errors[played.filled].square().mean().item() / 2)


def test_decisions_without_choice_have_no_gradient():
    """Whatever the second agent sees after its only choice, nothing changes."""
    learners = [make_learner(obs_agent_id=True) for _ in range(2)]
    for scale, learner in enumerate(learners, start=1):
        buffer = small_round()
        buffer.rollouts[0].rows["obs"][:, 1:, 1] *= scale
        learner.train(buffer, with_stats=False)
    for first, second in zip(*(learner.mac.parameters() for learner in learners), strict=True):
        assert th.equal(first, second)


def test_every_episode_is_used_once_in_each_epoch():
    learner = make_learner(epochs=3, batch_size=4)
    learner.train(small_round(), with_stats=False)
    assert learner.updates == 3 * 2  # six episodes in minibatches of three


@pytest.mark.parametrize("setting", ["eps_clip=0", "entropy_coef=-1", "gae_lambda=2", "epochs=0"])
def test_wrong_settings_are_refused(setting):
    with pytest.raises(ConfigError, match=setting.partition("=")[0]):
        settings_of("mappo", "xor_offline", [setting])


@pytest.mark.parametrize("shared", [True, False])
def test_a_round_waits_for_the_gpu_once(shared):
    with pretended_gpu() as waits:
        learner = make_learner(th.device("cuda"), share_parameters=shared)
        learner.train(small_round(learner.device), with_stats=False)  # as in the first step
        buffer = small_round(learner.device)
        waits.clear()
        learner.train(buffer, with_stats=False)
        assert waits.total() == 1, waits
        learner.train(buffer, with_stats=True)  # and once more to read the metrics
        assert waits.total() == 3, waits


def test_apple_gpus_are_refused_because_they_have_no_float64():
    with pytest.raises(ConfigError, match=r"device=mps: .*float64.*use device=cpu"):
        make_args("mappo", device="mps")
    played = {"evaluate": True, "checkpoint_path": "run", "device": "mps"}
    assert make_args("mappo", **played).device == "mps"
    assert make_args("qmix", device="mps").device == "mps"
