import numpy as np
import torch as th

from inspo.utils.rl_utils import lambda_returns


def test_lambda_returns_are_the_recursion_for_every_way_to_end():
    rng = np.random.default_rng(0)
    lengths, gamma, td_lambda = (5, 3, 3, 1), 0.9, 0.6
    reward, values = rng.standard_normal((4, 5)), rng.standard_normal((4, 5, 2))
    filled = np.arange(5) < np.array(lengths)[:, None]
    terminated = np.zeros((4, 5), dtype=bool)
    terminated[1, 2] = terminated[3, 0] = (
        True  # the first and third are truncated: what followed is bootstrapped
    )
    expected = np.zeros((4, 5, 2))
    for e, length in enumerate(lengths):
        following = values[e, length - 1]
        for t in reversed(range(length)):
            mixed = (
                following
                if t == length - 1
                else (1 - td_lambda) * values[e, t] + td_lambda * following
            )
            following = expected[e, t] = reward[e, t] + gamma * (not terminated[e, t]) * mixed
    inputs = [th.from_numpy(array) for array in (reward, terminated, filled, values)]
    found = lambda_returns(*inputs, gamma, td_lambda)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    team = lambda_returns(*inputs[:3], inputs[3][..., 0], gamma, td_lambda)
    np.testing.assert_allclose(team.numpy(), expected[..., 0], atol=1e-6)
