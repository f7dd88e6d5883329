"""QMIX: its targets, its mixer and its target network."""

import pytest
import torch as th
from conftest import make_args, make_data
from replay import replay_of

from inspo.components.value_decomposition import double_q_targets, td_loss
from inspo.controllers import BasicMAC
from inspo.learners import REGISTRY


def make_learner(data=None, **overrides):
    data = data or make_data()
    args = make_args("qmix", **{"hidden_dim": 16, "batch_size": 8, **overrides})
    info = data.env_info(episode_limit=5)
    th.manual_seed(0)
    return REGISTRY[args.learner](args, info, BasicMAC(args, info))


def test_targets_against_hand_computed_numbers():
    """One agent, a mixer that adds 10, gamma 0.5, lambda 0.5.

    Episode 0 terminates after 2 steps, episode 1 is truncated after 1. Values by hand:

    Episode 0: y_1 = 2. At step 1 the network prefers action 0, which the target network values 20:
    V_1 = 20 + 10. So y_0 = 1 + 0.5 (0.5 * 30 + 0.5 * 2) = 9.
    Episode 1: of what follows, only action 0 is available: y_0 = 3 + 0.5 (40 + 10) = 28.
    """
    q = th.tensor(
        [
            [[1.0, 2.0], [5.0, 3.0], [0.0, 9.0]],
            [[0.0, 1.0], [4.0, 7.0], [8.0, 8.0]],
        ]
    )
    target_q = th.tensor(
        [
            [[0.0, 0.0], [20.0, 30.0], [9.0, 9.0]],
            [[0.0, 0.0], [40.0, 50.0], [6.0, 6.0]],
        ]
    )
    available = th.ones(2, 3, 1, 2, dtype=th.bool)
    available[1, 1, 0, 1] = False
    batch = {
        "avail_actions": available,
        "state": th.zeros(2, 3, 7),
        "reward": th.tensor([[1.0, 2.0], [3.0, 100.0]]),
        "terminated": th.tensor([[False, True], [False, False]]),
        "filled": th.tensor([[True, True], [True, False]]),
    }

    def mixer(values: th.Tensor, state: th.Tensor) -> th.Tensor:
        return values.sum(-1) + 10

    q, target_q = q[:, :, None], target_q[:, :, None]
    targets = double_q_targets(q, target_q, mixer, batch, gamma=0.5, td_lambda=0.5)
    assert th.allclose(targets, th.tensor([[9.0, 2.0], [28.0, 0.0]]))
    q_tot = th.tensor([[7.0, 3.0], [28.0, -50.0]])
    loss = td_loss(q_tot, targets, batch["filled"])
    assert loss.item() == pytest.approx((2**2 + 1**2 + 0) / 2 / 3)


def test_the_mixer_grows_with_every_agents_value():
    mixer = make_learner().mixer
    values = th.randn(50, 4, 3, requires_grad=True)
    mixer(values, 10 * th.randn(50, 4, 7)).sum().backward()
    assert (values.grad >= 0).all()
    assert (values.grad > 0).float().mean() > 0.9


def test_agents_that_share_a_network_can_be_permuted():
    """Without ids, permuting what agents observe and did only permutes their values."""
    data = make_data()
    learner, order = make_learner(data, obs_agent_id=False), [2, 0, 1]
    batch = replay_of(data).sample(8)
    permuted = batch | {name: batch[name][:, :, order] for name in ("obs", "last_actions")}
    expected = learner.mac.outputs(batch)[:, :, order]
    assert th.allclose(learner.mac.outputs(permuted), expected, atol=1e-6)


def test_the_target_is_a_copy_of_the_network_some_updates_ago():
    learner, buffer = make_learner(target_update_interval=3), replay_of(make_data())
    start = learner.parameters[0].clone()
    for update in range(1, 7):
        learner.train(buffer, with_stats=False)
        if update == 3:
            copied = learner.parameters[0].clone()
        expected = start if update < 3 else copied if update < 6 else learner.parameters[0]
        assert th.equal(learner.target_parameters[0], expected)
