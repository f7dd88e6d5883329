"""Targets and TD loss of decomposed values, against numbers computed by hand."""

import pytest
import torch as th

from inspo.components.value_decomposition import double_q_targets, greedy_actions, td_loss


def team_value(agent_values, state):
    """A mixer for computations by hand: q1 + 2 q2 + s."""
    return agent_values[..., 0] + 2 * agent_values[..., 1] + state[..., 0]


def test_greedy_actions_are_available():
    q = th.tensor([3.0, 2.0, 1.0]).expand(3, 3)
    available = th.tensor([[True, True, True], [False, True, True], [False, False, False]])
    assert greedy_actions(q, available).tolist() == [0, 1, 0]


@pytest.mark.parametrize("terminated", [False, True])
def test_targets_choose_by_the_network_and_evaluate_by_the_target(terminated):
    """An episode of two steps, with rows 0, 1, 2, and a row of padding. Two agents and actions."""
    q = [[[0, 0], [0, 0]], [[1, 2], [5, 4]], [[9, 1], [0, 1]], [[7, 7], [7, 7]]]
    target_q = [[[9, 9], [9, 9]], [[10, 20], [30, 40]], [[1, 2], [3, 4]], [[70, 70], [70, 70]]]
    available = th.ones(1, 4, 2, 2, dtype=th.bool)
    available[0, 2, 0, 0] = False  # agent 0's most valued action
    batch = {
        "avail_actions": available,
        "state": th.tensor([[[50.0], [0.5], [0.25], [90.0]]]),
        "reward": th.tensor([[1.0, 2.0, 77.0]]),
        "terminated": th.tensor([[False, terminated, False]]),
        "filled": th.tensor([[True, True, False]]),
    }
    first_value = 20 + 2 * 30 + 0.5  # of row 1: actions 1 and 0
    last_value = 2 + 2 * 4 + 0.25  # of row 2: actions 1 and 1
    last = 2.0 if terminated else 2 + 0.9 * last_value
    first = 1 + 0.9 * (0.4 * first_value + 0.6 * last)
    targets = double_q_targets(
        th.tensor([q]).float(),
        th.tensor([target_q]).float(),
        team_value,
        batch,
        gamma=0.9,
        td_lambda=0.6,
    )
    th.testing.assert_close(targets, th.tensor([[first, last, 0.0]]))


def test_td_loss():
    q_tot, targets = th.tensor([[1.0, 2.0, 9.0]]), th.tensor([[3.0, 1.0, 0.0]])
    loss = td_loss(q_tot, targets, th.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx((2 + 0.5) / 2)
