"""Environments of other projects: what they may return, and what is refused in one line."""

import inspect
import random

import habits
import numpy as np
import pytest

from inspo.data.rollout import RandomPolicy, play_round
from inspo.envs import MultiAgentEnv, constructor
from inspo.envs.user_env import UserEnvClass
from inspo.utils.errors import EnvContractError

N_STEPS = 4
WORKING = [
    "Counter",
    "Arrays",
    "Tuples",
    "Dicts",
    "FlagsPerAgent",
    "FloatSizes",
    "NotCopyable",
    "NoMaskAtTheEnd",
    "MaskOfEachAgent",
]


def make(name, **env_args):
    return constructor(f"habits:{name}")(**env_args)


def steps(env, actions=(2, 1), seed=0):
    """Every step's reward, terminated and truncated, and what is seen before and after."""
    env.reset(seed)
    seen = [(env.get_obs(), env.get_state(), env.get_avail_actions())]
    outcomes = []
    over = False
    while not over:
        _, reward, terminated, truncated, _ = env.step(np.array(actions))
        outcomes.append((reward, terminated, truncated))
        seen.append((env.get_obs(), env.get_state(), env.get_avail_actions()))
        over = terminated or truncated
    return outcomes, seen


@pytest.mark.parametrize("name", WORKING)
def test_lists_tuples_dicts_and_arrays_are_converted(name):
    outcomes, seen = steps(make(name))
    assert outcomes == [(3.0, t == N_STEPS, False) for t in range(1, N_STEPS + 1)]
    for t, (obs, state, available) in enumerate(seen):
        assert (obs.dtype, state.dtype, available.dtype) == (np.float32, np.float32, bool)
        np.testing.assert_array_equal(obs, [[t, 0], [t, 1]])
        np.testing.assert_array_equal(state, [t, 7, 8])
        if name != "NoMaskAtTheEnd" or t < N_STEPS:
            np.testing.assert_array_equal(available, [[1, 1, 1], [1, 1, t % 2 == 0]])
        assert available.any(axis=-1).all()


@pytest.mark.parametrize(
    ("name", "reward", "end"),
    [
        ("FiveValues", 1.5, (True, False)),  # the mean of 3 and 0
        ("OldGym", 3.0, (False, True)),
        ("WithoutObservations", 3.0, (False, True)),
        ("TimeLimit", 3.0, (False, True)),
    ],
)
def test_all_forms_of_step(name, reward, end):
    outcomes, _ = steps(make(name))
    assert outcomes == [(reward, False, False)] * 3 + [(reward, *end)]


@pytest.mark.parametrize(("how", "reward"), [("mean", 1.5), ("sum", 3.0)])
def test_rewards_per_agent_are_shared(how, reward):
    outcomes, _ = steps(make("FiveValues", reward_scalarisation=how))
    assert outcomes[0][0] == reward
    with pytest.raises(ValueError, match=r"reward_scalarisation is 'max'; it must be mean or sum"):
        make("FiveValues", reward_scalarisation="max")


@pytest.mark.parametrize(("given", "limit"), [({}, 10), ({"episode_limit": 3}, 3)])
def test_an_endless_episode_is_truncated(given, limit):
    outcomes, _ = steps(make("Endless", **given))
    assert len(outcomes) == limit
    assert outcomes[-1][1:] == (False, True)
    assert make("Endless", **given).get_env_info()["episode_limit"] == limit


def test_sizes_from_attributes_and_a_state_of_all_observations():
    env = make("Attributes", episode_limit=2, color="red")
    assert env.args == {"episode_limit": 2, "color": "red"}
    sizes = {"n_agents": 2, "n_actions": 3, "obs_shape": 2, "state_shape": 4, "episode_limit": 2}
    assert env.get_env_info() == sizes
    outcomes, seen = steps(env, seed=5)
    assert outcomes == [(1.0, False, False), (1.0, False, True)]
    np.testing.assert_array_equal(seen[0][1], [5, 0, 5, 1])
    assert seen[0][2].all()
    assert env.provenance() == {}
    env.close()


def test_the_settings_are_those_of_the_class_and_of_the_contract():
    signature = inspect.signature(UserEnvClass("x", habits.Counter))
    assert [*signature.parameters] == ["steps", "episode_limit", "reward_scalarisation"]
    assert len(steps(make("Counter", steps=2))[0]) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NaNReward", r"step\(\) \(step 2 of the episode with seed 0\): the reward is nan"),
        ("NoneReward", r"step\(\) .*step 1.*: the reward is None; expected a number or 2"),
        ("ThreeRewards", r"the reward is \[1.0, 2.0, 3.0\]; expected a number or 2"),
        ("RewardInArrays", r"the reward is \[array.*, 1\.0\]; expected a number or 2"),
        ("NaNObservation", r"get_obs\(\) for agent 1 \(step 3 .* seed 0\): returned NaN, infinity"),
        (
            "Growing",
            r"get_obs\(\) for agent 1 \(step 1 .*returned \[0.0, 0.0, 0.0\]; expected 2 numbers",
        ),
        ("WrongState", r"get_state\(\) .*returned \[1.0, 2.0\]; expected 3 numbers"),
        ("TextState", r"get_state\(\) .*returned \['a', 'b', 'c'\] instead of numbers"),
        ("OneObservation", r"of shape \(4,\) .*; expected one observation for each of 2 agents"),
        ("FloatMasks", r"get_avail_actions\(\) for agent 0 .*a mask holds only 0 and 1"),
        ("ShortMask", r"for agent 1 .*returned a mask of shape \(2,\); expected 3 entries"),
        ("Stuck", r"get_avail_actions\(\) for agent 1 \(step 1 .*: no action is available"),
        ("TwoValues", r"step\(\) .*returned \(1.0, {}\); expected \(reward, term"),
        ("ListInfo", r"returned \(1.0, False, \[\]\); expected .*with a dict as info"),
        (
            "ThreeFlags",
            r"terminated is \[False, False, False\]; expected a flag or one for each of 2",
        ),
        ("TextFlag", "terminated is 'no'; expected a flag"),
        ("LimitAsNumber", r"info\['episode_limit'\] is 25, not a flag"),
        ("NoSizes", "n_actions is missing, obs_shape is 2.5, state_shape is missing; get_env_info"),
        ("FailingReset", r"reset\(\) .*: raised KeyError: 'nothing' \(.*habits.py, line \d+\)"),
        (
            "FailingStep",
            r"step\(\) \(step 3 of .*0\): raised ValueError: no such move \(.*habits.py, line",
        ),
        ("ExitingStep", r"step\(\) \(step 1 .*: raised SystemExit: 3 \(.*habits.py, line \d+\)"),
        ("FailingConstructor", r"it cannot be made: it raised RuntimeError: no licence \(.*habits"),
        (
            "WrongArgument",
            r"it cannot be made: it raised ValueError: no board of 3 cells \(.*habits",
        ),
        ("MaskedObservation", r"get_obs\(\) .*returned a MaskedArray of shape \(2, 2\)"),
        ("Parallel", "no method get_obs; set env: pettingzoo and env_args.key: habits:Parallel"),
    ],
)
def test_what_is_wrong_is_one_line(name, message):
    with pytest.raises(EnvContractError, match=message) as caught:
        steps(make(name), actions=(1, 1))
    text = str(caught.value)
    assert text.startswith(f"environment habits:{name}: ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("name", "error"),
    [("FailingClose", "RuntimeError: closed twice"), ("ExitingClose", "SystemEx")],
)
def test_a_failing_close_is_a_warning(caplog, name, error):
    make(name).close()
    assert f"habits:{name}: close() raised {error}" in caplog.text


def test_an_environment_gets_actions_of_its_own():
    env, actions = make("KeepsActions"), np.array([2, 1])
    env.reset(0)
    assert env.step(actions)[1] == 3.0
    assert actions.tolist() == [2, 1]


def test_games_of_other_sizes_do_not_play_side_by_side():
    env = make("OtherSizes")
    with pytest.raises(EnvContractError, match=r"another game has other sizes: {'n_agents': 2,"):
        env.make_batch(2)


def test_a_missing_time_limit_is_asked_for():
    with pytest.raises(ValueError, match=r"has no time limit; set env_args\.episode_limit"):
        make("NoLimit")
    assert make("NoLimit", episode_limit=6).episode_limit == 6


def test_an_unavailable_action_is_refused():
    env = make("Counter")
    env.reset(0)
    env.step([0, 2])
    with pytest.raises(ValueError, match="agent 1 cannot take action 2"):
        env.step([0, 2])


@pytest.mark.parametrize("name", ["Counter", "NotCopyable", "Random"])
def test_games_side_by_side_do_not_disturb_one_another(name):
    """Game k plays what one game alone plays with its seed. Only once have they equal luck."""
    alone = [play_round(make(name).make_batch(1), RandomPolicy(3), k, True) for k in (5, 6)]
    batch = make(name).make_batch(2)
    batched = play_round(batch, FixedActions(alone), 5, True)
    for k in range(2):
        np.testing.assert_array_equal(batched.rows["reward"][k], alone[k].rows["reward"][0])
        np.testing.assert_array_equal(batched.rows["obs"][k], alone[k].rows["obs"][0])
    if name == "Random":
        assert (batched.rows["reward"][0] != batched.rows["reward"][1]).all()


class FixedActions:
    """Repeats the actions of other rollouts."""

    def __init__(self, rollouts):
        self.actions = np.concatenate([rollout.rows["actions"] for rollout in rollouts])

    def start(self, env):
        self.t = -1

    def act(self, obs, avail_actions, last_actions):
        self.t += 1
        return self.actions[:, self.t]


def test_global_random_generators_are_left_as_they_were():
    np.random.seed(1)
    random.seed(1)
    env = make("Random")
    first = steps(env, seed=3)[0]
    assert steps(env, seed=3)[0] == first
    assert steps(env, seed=4)[0] != first
    after = np.random.randint(10**6), random.random()
    np.random.seed(1)
    random.seed(1)
    assert after == (np.random.randint(10**6), random.random())


class OwnVectorEnv(MultiAgentEnv):
    """One of this project's, with vector environments of its own."""

    n_agents, n_actions, obs_shape, state_shape, episode_limit = 2, 2, 1, 1, 3
    over = False

    def __init__(self, wrong=""):
        self.wrong = wrong

    def reset(self, seed=None):
        return self.get_obs()

    def step(self, actions):
        return self.get_obs(), 1.0, False, False, {}

    def get_obs(self):
        return np.zeros((2, 1), dtype=np.float32)

    def get_state(self):
        return np.zeros(1, dtype=np.float32)

    def make_batch(self, n_envs):
        batch = super().make_batch(n_envs)
        if self.wrong == "obs":
            batch.get_obs = lambda: np.full((n_envs, 2, 1), np.nan)
        elif self.wrong == "state":
            batch.get_state = lambda: np.zeros((n_envs, 2))
        elif self.wrong == "masks":
            batch.get_avail_actions = lambda: np.zeros((n_envs, 2, 2))
        elif self.wrong == "dtypes":
            batch.get_avail_actions = lambda: np.ones((n_envs, 2, 2), dtype=int)
            batch.get_obs = lambda: np.ones((n_envs, 2, 1), dtype=int).tolist()
        elif self.wrong == "step":
            batch.step = lambda actions: {}["left"]
        elif self.wrong == "info":
            batch.step = lambda actions: (np.ones(n_envs), *np.zeros((2, n_envs)), None)
        elif self.wrong == "end":
            batch.get_avail_actions = lambda: np.full((n_envs, 2, 2), not self.over)
        elif self.wrong == "won":
            won = {"battle_won": [True]}
            batch.step = lambda actions: (np.ones(n_envs), *np.zeros((2, n_envs)), won)
        elif self.wrong == "batch":
            return None
        return batch


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("obs", r"get_obs\(\) .*: returned NaN or infinity in game 0"),
        ("state", r"get_state\(\) .*of shape \(2, 2\) .*; expected numbers of shape \(2, 1\)"),
        ("masks", r"get_avail_actions\(\) for agent 0 .*: no action in game 0"),
        ("step", r"step\(\) \(step 1 .*: raised KeyError: 'left' \(.*test_contract.py, line"),
        ("info", r"step\(\) .*None\); expected .*, with a dict as info"),
        ("won", r"step\(\) of battle_won .*returned \[True\]; expected 0 and 1 of shape \(2,\)"),
        ("batch", r"make_batch\(\): returned None, no vector environment"),
    ],
)
def test_vector_environments_of_users_are_checked(wrong, message):
    env = UserEnvClass("own", OwnVectorEnv)(wrong=wrong)
    with pytest.raises(EnvContractError, match=message):
        play_round(env.make_batch(2), RandomPolicy(0), 0, True)


def test_agents_of_a_vector_environment_have_an_action_after_the_end():
    """Learners look at it where a time limit ended the episode."""
    env = UserEnvClass("own", OwnVectorEnv)(wrong="end")
    batch = env.make_batch(2)
    batch.reset(0)
    for _ in range(3):
        batch.step(np.zeros((2, 2), dtype=int))
    env.env.over = True
    assert not batch.playing.any()
    assert batch.get_avail_actions().tolist() == [[[True, False]] * 2] * 2


def test_vector_environments_of_users_are_converted_and_end():
    batch = UserEnvClass("own", OwnVectorEnv)(wrong="dtypes").make_batch(2)
    rollout = play_round(batch, RandomPolicy(0), 0, True)
    assert rollout.lengths.tolist() == [3, 3]
    assert not rollout.terminated.any()
    assert rollout.rows["obs"].dtype == np.float32
    assert rollout.rows["avail_actions"].dtype == bool
    np.testing.assert_array_equal(rollout.returns, [3, 3])
