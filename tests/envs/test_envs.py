"""Matrix games and Bridge."""

import numpy as np
import pytest

from inspo.data.builtin_datasets import bridge_optimal_actions
from inspo.data.formats import load_dataset
from inspo.envs import REGISTRY, EnvInfo
from inspo.envs.bridge import GOALS, Bridge, move
from inspo.envs.matrix_game import MatrixGame

XOR = {"n_agents": 2, "n_actions": 2, "payoff": [[0, 1], [1, -2]]}


@pytest.mark.parametrize(("name", "env_args"), [("bridge", {}), ("matrix_game", XOR)])
def test_interface(name, env_args):
    env = REGISTRY[name](**env_args)
    info = EnvInfo(**env.get_env_info())
    rng = np.random.default_rng(0)
    obs, over, steps = env.reset(seed=0), False, 0
    while not over:
        assert obs.shape == (info.n_agents, info.obs_shape)
        assert obs.dtype == np.float32
        assert env.get_state().shape == (info.state_shape,)
        assert env.get_avail_actions().shape == (info.n_agents, info.n_actions)
        actions = rng.integers(info.n_actions, size=info.n_agents)
        obs, reward, terminated, truncated, _ = env.step(actions)
        steps += 1
        over = terminated or truncated
        assert isinstance(reward, float)
        assert not (terminated and truncated)
    assert steps <= info.episode_limit
    np.testing.assert_array_equal(env.get_obs(), obs)


def test_a_wrong_action_names_agent_and_choices():
    message = r"agent 1 cannot take action 5; available to it: \[0, 1\]"
    with pytest.raises(ValueError, match=message):
        MatrixGame(**XOR).step([0, 5])
    with pytest.raises(ValueError, match="expected 2 actions"):
        Bridge().step([0])


def test_matrix_game_of_three_agents_with_different_numbers_of_actions():
    payoff = np.arange(12).reshape(2, 3, 2)
    env = MatrixGame(n_agents=3, n_actions=[2, 3, 2], payoff=payoff.tolist())
    np.testing.assert_array_equal(env.get_avail_actions(), [[1, 1, 0], [1, 1, 1], [1, 1, 0]])
    env.reset()
    _, reward, terminated, truncated, _ = env.step([1, 2, 0])
    assert reward == payoff[1, 2, 0]
    assert terminated
    assert not truncated
    with pytest.raises(ValueError, match="agent 0 cannot take action 2"):
        env.step([2, 0, 0])


def test_repeated_matrix_game_terminates_at_its_last_play():
    env = MatrixGame(**XOR, episode_limit=3)
    ends = [env.step([0, 1])[2] for _ in range(3)]
    assert ends == [False, False, True]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"payoff": [[0, 1]]}, "payoff has shape"),
        ({"payoff": [[0, 1], [1]]}, "not a full table"),
        ({"payoff": [[0, 1], [1, float("nan")]]}, "NaN"),
        ({"n_actions": [2, 3]}, "payoff has shape"),
        ({"episode_limit": 0}, "episode_limit"),
        ({"datasets": {"d": {"joint_actions": [[0, 2]]}}}, "datasets.d does not fit"),
        ({"datasets": {"d": {"joint_actions": [[0, -1]]}}}, "datasets.d does not fit"),
        ({"datasets": {"d": {"joint_actions": [[0, 1.5]]}}}, "lists of 2 whole numbers"),
        ({"datasets": {"d": {"joint_actions": [[0, 1, 1, 0]]}}}, "lists of 2 whole numbers"),
        ({"datasets": [1]}, r"datasets is \[1\]; it must map names"),
        ({"n_agents": 0}, "n_agents is 0; it must be a whole number"),
        ({"n_actions": [2, 2, 2]}, "lists 3 numbers of actions, but n_agents is 2"),
        ({"n_actions": 2.5}, r"n_actions is 2\.5; it must be a whole number"),
        ({"n_actions": "two"}, "n_actions is 'two'; it must be a whole number"),
        ({"datasets": {"d": {"independent": [[1, 1]]}}}, "datasets.d must give"),
        ({"datasets": {"d": {"independent": [[1, 1], [-1, 1]]}}}, "datasets.d must give"),
        ({"datasets": {"d": {"jointactions": [[0, 1]]}}}, "give joint_actions"),
    ],
)
def test_a_wrong_matrix_game_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        MatrixGame(**{**XOR, **wrong})


@pytest.mark.parametrize("buffer", ["buffer_optimal", "buffer_mix"])
def test_bridge_reproduces_every_recorded_transition(recorded, buffer):
    """States, rewards and ends of all episodes, the recordings' time limit of 50 included."""
    data = load_dataset(recorded / "bridge_from_start" / buffer)
    env = Bridge(episode_limit=50)
    for start, length in zip(data.starts, data.lengths, strict=True):
        env.reset()
        for row in range(start, start + length):
            np.testing.assert_array_equal(env.get_state(), data.state[row])
            np.testing.assert_array_equal(env.get_obs(), data.obs[row])
            _, reward, terminated, truncated, _ = env.step(data.actions[row])
            assert reward == pytest.approx(data.reward[row], abs=1e-6)
            assert (terminated or truncated) == (row == start + length - 1)
        np.testing.assert_array_equal(env.get_state(), data.state[start + length])


@pytest.mark.parametrize(
    ("before", "actions", "after"),
    [
        (((1, 2), (1, 3)), (3, 4), ((1, 2), (1, 3))),  # swapping: both stay
        (((1, 1), (1, 2)), (3, 3), ((1, 2), (1, 3))),  # onto a cell whose holder leaves
        (((1, 1), (1, 2)), (3, 0), ((1, 1), (1, 2))),  # onto a cell whose holder stays
        (((1, 1), (1, 3)), (3, 4), ((1, 2), (1, 3))),  # both onto a free cell: agent 0 gets it
        (((1, 2), (1, 3)), (1, 2), ((1, 2), (1, 3))),  # into walls
        # An agent on its goal stays and blocks nobody.
        (((2, 5), (1, 5)), (4, 2), ((2, 5), (2, 5))),
        # Agent 0 enters its goal, and agent 1 wanted the same cell.
        (((2, 4), (1, 5)), (3, 2), ((2, 5), (1, 5))),
        # Agent 1 enters its goal, where agent 0 stays.
        (((0, 0), (0, 1)), (1, 4), ((0, 0), (0, 0))),
        (((0, 0), (0, 1)), (3, 4), ((0, 0), (0, 1))),  # a swap there: both stay
        (((1, 5), (2, 5)), (2, 1), ((2, 5), (1, 5))),  # a swap at agent 0's goal: it gets there
    ],
)
def test_bridge_moves(before, actions, after):
    assert move(before, actions) == after


def test_bridge_best_return_is_known():
    """All paths of the optimal policy take 8 steps, and the best one is worth -1.2355."""
    choices, env = bridge_optimal_actions(), Bridge()
    paths = {(env.start, 0.0)}  # positions and return so far
    for steps in range(8):
        reached = set()
        for positions, total in paths:
            for actions in choices[positions]:
                env.positions, env.steps = positions, steps
                reward = env.step(actions)[1]
                reached.add((env.positions, round(total + reward, 6)))
        paths = reached
    assert {positions for positions, _ in paths} == {GOALS}
    assert max(total for _, total in paths) == pytest.approx(-1.2355, abs=1e-4)
