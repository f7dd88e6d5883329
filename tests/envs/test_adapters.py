"""PettingZoo's and Gymnasium's environments by one key, and the recorders that see the same."""

import sys
from importlib.util import find_spec

import duck_games
import numpy as np
import pytest

import inspo
from inspo.data.recording import record_gymnasium, record_parallel
from inspo.data.rollout import RandomPolicy, play_round
from inspo.envs import REGISTRY
from inspo.envs.adapters import packages
from inspo.utils.errors import ConfigError, EnvContractError, SimulatorError, UserError


def pettingzoo(name, **env_args):
    return REGISTRY["pettingzoo"](key=f"duck_games:{name}", episode_limit=20, **env_args)


def gymnasium(name, episode_limit=20, **env_args):
    return REGISTRY["gymnasium"](key=f"duck_games:{name}", episode_limit=episode_limit, **env_args)


def test_a_parallel_game_step_by_step():
    """Values by hand: left starts at 4, right at 2."""
    env = pettingzoo("Meeting")
    sizes = {"n_agents": 2, "n_actions": 3, "obs_shape": 3, "state_shape": 6, "episode_limit": 20}
    assert env.get_env_info() == sizes
    obs = env.reset(0)
    np.testing.assert_array_equal(obs, [[4, 2, 0], [2, 4, 0]])
    np.testing.assert_array_equal(env.get_state(), obs.ravel())
    np.testing.assert_array_equal(env.get_avail_actions(), [[1, 1, 1], [1, 1, 0]])
    obs, reward, terminated, truncated, _ = env.step([0, 0])  # both go left
    assert (reward, terminated, truncated) == (pytest.approx(-0.05), False, False)
    np.testing.assert_array_equal(obs, [[3, 1, 0], [1, 3, 1]])
    obs, reward, terminated, truncated, _ = env.step([0, 1])  # they meet at 2
    assert (reward, terminated, truncated) == (pytest.approx(0.95), True, False)
    np.testing.assert_array_equal(obs, [[2, 2, 0], [2, 2, 2]])
    with pytest.raises(ValueError, match="agent 1 cannot take action 2"):
        pettingzoo("Meeting").check_actions([2, 2])


@pytest.mark.parametrize(("how", "reward"), [("mean", -0.05), ("sum", -0.1)])
def test_rewards_of_agents_are_shared(how, reward):
    env = pettingzoo("Meeting", reward_scalarisation=how)
    env.reset(0)
    assert env.step([2, 0])[1] == pytest.approx(reward)


def test_a_switch_is_no_text():
    """The command line reads `no` as text, which Python takes for true."""
    with pytest.raises(ValueError, match="new_each_episode is 'no'; it must be True or False"):
        gymnasium("Lists", new_each_episode="no")


@pytest.mark.parametrize("make", [pettingzoo, gymnasium])
def test_the_former_name_of_that_setting_is_answered(make):
    with pytest.raises(ConfigError, match=r"'env_args.common_reward'; here env_args.reward_scal"):
        make("Meeting", common_reward="sum")


def test_agents_that_leave_see_zeros_and_have_one_action():
    env = pettingzoo("Masked")
    env.reset(0)
    np.testing.assert_array_equal(env.get_avail_actions(), [[0, 1, 1], [0, 1, 0]])
    np.testing.assert_array_equal(env.get_state(), [0, 9])
    obs, reward, *ends, _ = env.step([1, 1])
    assert (reward, ends) == (2.0, [False, False])
    np.testing.assert_array_equal(obs, [[1, 4], [1, 5]])
    obs, _, *ends, _ = env.step([1, 1])
    assert ends == [False, False]
    np.testing.assert_array_equal(obs, [[2, 4], [2, 5]])  # the last thing that left saw
    np.testing.assert_array_equal(env.get_avail_actions(), [[1, 0, 0], [0, 1, 0]])
    obs, reward, *ends, _ = env.step([0, 1])
    assert (reward, ends) == (2.0, [True, False])  # the mean of those present: right alone
    np.testing.assert_array_equal(obs, [[0, 0], [3, 5]])


def test_agents_may_stand_in_an_array():
    env = pettingzoo("AgentsInArrays")
    env.reset(0)
    env.step([0, 0])
    assert env.step([0, 1])[2]  # they meet


def test_a_mask_beside_other_parts_of_an_observation():
    """Parts in the space's order; the time is one-hot."""
    env = pettingzoo("MaskBesideOthers")
    obs = env.reset(0)
    expected = np.zeros((2, 11))
    expected[:, :3] = [[4, 7, 1], [5, 7, 1]]
    np.testing.assert_array_equal(obs, expected)
    np.testing.assert_array_equal(env.get_avail_actions(), [[0, 1, 1], [0, 1, 0]])


def test_the_time_limit_truncates_and_settings_reach_the_game():
    env = REGISTRY["pettingzoo"](key="duck_games:Meeting", episode_limit=2, length=50)
    env.reset(1)
    assert not any(env.step([2, 0])[2:4])
    assert env.step([2, 0])[2:4] == (False, True)
    with pytest.raises(TypeError, match="lenth"):
        pettingzoo("Meeting", lenth=3)
    with pytest.raises(ValueError, match=r"no time limit; set env_args\.episode_limit"):
        REGISTRY["pettingzoo"](key="duck_games:Meeting")


@pytest.mark.parametrize("make", [pettingzoo, gymnasium], ids=["pettingzoo", "gymnasium"])
def test_game_k_is_that_of_seed_plus_k(make):
    name = "Meeting" if make is pettingzoo else "Lists"
    batch = make(name).make_batch(3)
    batch.reset(4)
    for k in range(3):
        alone = make(name)
        np.testing.assert_array_equal(batch.get_obs()[k], alone.reset(4 + k))
    rollout = play_round(batch, RandomPolicy(0), 4, record=True)
    again = play_round(make(name).make_batch(3), RandomPolicy(0), 4, record=True)
    np.testing.assert_array_equal(rollout.rows["obs"], again.rows["obs"])


def test_a_gymnasium_game_of_several_agents():
    env = gymnasium("Lists", colour="red")
    assert env.game.env.options == {"colour": "red"}
    assert (env.n_agents, env.n_actions, env.obs_shape, env.state_shape) == (2, 3, 4, 8)
    obs = env.reset(0)
    np.testing.assert_array_equal(obs, [[0, 0, 0, 0], [1, 0, 0, 7]])
    np.testing.assert_array_equal(env.get_avail_actions(), [[1, 1, 0], [1, 1, 1]])
    obs, reward, *ends, _ = env.step([1, 2])  # 2 and 3 for the environment
    assert (reward, ends) == (2.5, [False, False])
    np.testing.assert_array_equal(obs, [[1, 0, 0, 0], [0, 1, 0, 7]])
    np.testing.assert_array_equal(env.get_avail_actions(), [[1, 1, 0], [1, 0, 1]])
    env.step([0, 0])
    assert env.step([0, 0])[1:4] == (1.0, True, False)


def test_an_episode_terminates_if_all_agents_do():
    env = gymnasium("Lists", terminates=False)
    env.reset(0)
    ends = [env.step([0, 0])[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


@pytest.mark.parametrize(("anew", "later"), [(False, [1, 2, 3]), (True, [0, 0, 0])])
def test_a_reset_that_keeps_something_of_the_last_episode(anew, later):
    env = gymnasium("KeepsSomething", new_each_episode=anew)
    start = env.reset(0)[0, 0]
    assert [env.reset(0)[0, 0] - start for _ in range(3)] == later


def test_a_gymnasium_game_of_one_agent():
    env = gymnasium("Alone")
    assert (env.n_agents, env.n_actions, env.obs_shape, env.state_shape) == (1, 2, 4, 4)
    np.testing.assert_array_equal(env.reset(0), [[1, 0, 0, 0]])
    outcomes = [env.step([0])[1:4] for _ in range(3)]
    assert outcomes == [(0.5, False, False), (0.5, False, False), (0.5, False, True)]
    np.testing.assert_array_equal(env.get_obs(), [[0, 0, 0, 1]])


def test_agents_of_a_dict_of_spaces_act_and_see_by_name():
    env = gymnasium("ByName")
    assert (env.n_agents, env.n_actions, env.obs_shape) == (2, 3, 1)
    np.testing.assert_array_equal(env.reset(0), [[0], [11]])
    obs, reward, *ends, _ = env.step([0, 2])
    np.testing.assert_array_equal(obs, [[1], [13]])
    assert (reward, ends) == (1.5, [False, False])
    env.step([0, 0])
    assert env.step([0, 0])[2:4] == (True, False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "HalfTheRewards",
            r"step\(\) \(step 1 .*: the reward is {'y': 1.0}; expected a number or 2",
        ),
        (
            "HalfTheFlags",
            r"terminated is {'y': False}; expected a flag or one for each of 2 agents",
        ),
        ("NoSpaces", "environment gymnasium duck_games:NoSpaces: there is no action_space"),
    ],
)
def test_what_a_gymnasium_game_does_wrong_is_one_line(name, message):
    with pytest.raises(EnvContractError, match=message):
        play_round(gymnasium(name).make_batch(1), RandomPolicy(0), 0, record=True)


def test_none_may_stand_in_an_infos_place():
    env = gymnasium("NoInfo")
    env.reset(0)
    assert env.step([1, 2])[1] == 2.5
    assert env.get_avail_actions().tolist() == [[1, 1, 0], [1, 1, 1]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("InTurn", "the agents act in turn"),
        ("Continuous", "the action space of agent left is .*Box.*; only .*discrete actions"),
        ("NothingBack", r"step\(\) for agent left \(step 1 .*left without being terminated or"),
        ("NoneReward", r"step\(\) .*: the reward is \[None, None\]"),
        ("NoReward", r"step\(\) for agent right \(step 1 .*: returned no reward"),
        ("Newcomer", r"step\(\) for agent third .*: it is none of possible_agents"),
        ("OldStep", r"a tuple of 4 entries; expected \(observations, rewards, terminations"),
        ("Growing", r"step\(\) for agent left .*of shape \(3,\) .*; expected 2 numbers"),
        ("StuckAgent", r"step\(\) for agent right \(step 1 .*: no action is available"),
        ("StateAtFirst", r"state\(\) .*of shape \(2, 3\) .*; expected 2 numbers"),
        ("NaNState", r"state\(\) .*: returned NaN"),
        ("NoAgents", r"reset\(\) .*: left no attribute `agents`, which says who acts next"),
        ("NobodyThere", r"reset\(\) .*: left none of possible_agents in `agents`"),
        ("NumberOfAgents", "there are no possible_agents"),
        ("InNoOrder", "possible_agents is a set, whose order differs from run to run"),
        (
            "NothingSeenAtTheEnd",
            r"step\(\) for agent left \(step 2 .*: returned no observation after the last step, "
            "which was truncated",
        ),
        ("Alone", "there are no possible_agents"),
    ],
)
def test_what_a_parallel_game_does_wrong_is_one_line(name, message):
    with pytest.raises(EnvContractError, match=message):
        play_round(pettingzoo(name).make_batch(1), RandomPolicy(0), 0, record=True)


def test_one_observation_for_all_agents_is_refused():
    with pytest.raises(EnvContractError, match="expected one observation for each of 2 agents"):
        gymnasium("Central")


@pytest.mark.parametrize("recorder", [record_parallel, record_gymnasium])
def test_what_is_recorded_is_what_the_adapter_sees(recorder):
    """The same actions in both."""
    if recorder is record_parallel:
        game, env = duck_games.Meeting(), pettingzoo("Meeting", reward_scalarisation="sum")

        def policy(seen, masks):
            return dict.fromkeys(seen, 1)
    else:
        game, env = duck_games.Lists(), gymnasium("Lists", reward_scalarisation="sum")

        def policy(obs, masks):
            return np.array([1, 2])

    (episode,) = recorder(game, policy, 1, seed=3, reward_scalarisation="sum")
    obs, over, row = env.reset(3), False, 0
    while not over:
        np.testing.assert_array_equal(episode["obs"][row], obs)
        np.testing.assert_array_equal(episode["state"][row], env.get_state())
        np.testing.assert_array_equal(episode["avail_actions"][row], env.get_avail_actions())
        obs, reward, terminated, truncated, _ = env.step(episode["actions"][row])
        assert episode["reward"][row] == pytest.approx(reward)
        assert (episode["terminated"][row], episode["truncated"][row]) == (terminated, truncated)
        over = terminated or truncated
        row += 1
    np.testing.assert_array_equal(episode["obs"][row], obs)
    assert len(episode["obs"]) == row + 1


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"left": 0}, "no action for agent right, which is there"),
        ({"left": 1.7, "right": 0}, "action for agent left is 1.7, not a whole number"),
        ({"left": "up", "right": 0}, "action for agent left is 'up', not a whole number"),
        ({"left": 0, "right": 2}, r"chose action 2 for agent right; available to it: \[0, 1\]"),
        ([0, 1], r"the policy returned \[0, 1\], not a dict by agent"),
    ],
)
def test_a_wrong_action_of_a_policy_is_not_recorded(chosen, message):
    with pytest.raises(UserError, match=message):
        next(record_parallel(duck_games.Meeting(), lambda seen, masks: chosen, 1))


def test_actions_of_arrays_and_whole_floats_are_recorded():
    def policy(seen, masks):
        return {"left": np.array([1]), "right": 1.0}

    (episode,) = record_parallel(duck_games.Meeting(), policy, 1, max_steps=2)
    assert episode["actions"][0].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("env", "key", "error", "message"),
    [
        ("pettingzoo", "no_such_games", ConfigError, "there is no module 'no_such_games'"),
        ("pettingzoo", "duck_games", ConfigError, "no function or class 'parallel_env'"),
        ("pettingzoo", "duck_games:Meating", ConfigError, "no function or class 'Meating'"),
        ("pettingzoo", "duck games", ConfigError, "'duck games' is no name of a module"),
        ("pettingzoo", "mpe2.simple_v3", SimulatorError, r"mpe2 is not installed: pip .*\[mpe\]"),
        ("gymnasium", "rware:rware-tiny-2ag-v2", SimulatorError, r"rware is not .*\[rware\]"),
    ],
)
def test_keys_that_name_nothing(monkeypatch, env, key, error, message):
    def nothing(name, setting):
        raise ConfigError(f"{setting}: there is no module '{name.partition('.')[0]}'; searched .")

    if error is SimulatorError:
        monkeypatch.setattr(packages, "import_module", nothing)
    with pytest.raises(error, match=message):
        REGISTRY[env](key=key, episode_limit=3)


@pytest.mark.parametrize(("env", "game"), [("pettingzoo", "Meeting"), ("gymnasium", "Lists")])
def test_a_game_is_found_beside_the_yaml_that_names_it(tmp_path, env, game):
    """From another folder, and only while the YAML is read."""
    module = f"{env}_game_beside_its_yaml"
    (tmp_path / f"{module}.py").write_text(f"from duck_games import {game}\n")
    yaml = tmp_path / "game.yaml"
    key = f"key: {module}:{game}"
    yaml.write_text(f"env: {env}\nenv_args: {{{key}, episode_limit: 5, dataset: x}}\n")
    made = inspo.make_env(yaml)
    assert (made.n_agents, made.episode_limit) == (2, 5)
    assert sys.modules[module].__file__ == str(tmp_path / f"{module}.py")
    del sys.modules[module]
    assert find_spec(module) is None


# --- the packages themselves


def installed(package):
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}")


@pytest.mark.parametrize(
    ("env", "key", "sizes", "settings"),
    [
        pytest.param(
            "pettingzoo", "mpe2.simple_spread_v3", (3, 5, 18, 54), {}, marks=installed("mpe2")
        ),
        pytest.param(
            "pettingzoo", "mpe2.simple_tag_v3", (4, 5, 16, 62), {}, marks=installed("mpe2")
        ),
        pytest.param(
            "gymnasium",
            "lbforaging:Foraging-8x8-2p-3f-v3",
            (2, 6, 15, 30),
            {"max_episode_steps": 1000, "new_each_episode": True},
            marks=installed("lbforaging"),
        ),
        pytest.param(
            "gymnasium",
            "rware:rware-tiny-2ag-v2",
            (2, 5, 71, 142),
            {"max_steps": None},
            marks=installed("rware"),
        ),
        pytest.param("gymnasium", "CartPole-v1", (1, 2, 4, 4), {}, marks=installed("gymnasium")),
        pytest.param(
            "gymnasium", "FrozenLake-v1", (1, 4, 16, 16), {}, marks=installed("gymnasium")
        ),
    ],
)
def test_real_environments(env, key, sizes, settings):
    game = REGISTRY[env](key=key, episode_limit=12, **settings)
    assert (game.n_agents, game.n_actions, game.obs_shape, game.state_shape) == sizes
    batch = game.make_batch(2)
    rollout = play_round(batch, RandomPolicy(0), 5, record=True)
    again = play_round(batch, RandomPolicy(0), 5, record=True)
    assert (rollout.lengths <= 12).all()
    for name, rows in rollout.rows.items():
        np.testing.assert_array_equal(rows, again.rows[name])
    assert not rollout.terminated[rollout.lengths == 12].any()
    batch.close()


@installed("gymnasium")
def test_names_that_gymnasium_does_not_know():
    with pytest.raises(ConfigError, match=r"Foraging.* doesn't exist.*PACKAGE:NAME imports"):
        REGISTRY["gymnasium"](key="Foraging-8x8-2p-3f-v99")
    with pytest.raises(EnvContractError, match="only a number of discrete actions"):
        REGISTRY["gymnasium"](key="Pendulum-v1")
    assert REGISTRY["gymnasium"](key="CartPole-v1").episode_limit == 500


@installed("jaxmarl")
def test_jaxmarl_step_by_step():
    """Against JaxMARL's own steps."""
    from inspo.envs.sc2.smax_battle import jax

    env = REGISTRY["jaxmarl"](
        key="MPE_simple_spread_v3", episode_limit=3, reward_scalarisation="sum"
    )
    sizes = {"n_agents": 3, "n_actions": 5, "obs_shape": 18, "state_shape": 54, "episode_limit": 3}
    assert env.get_env_info() == sizes
    game = env.game.env
    key, reset_key = jax.random.split(jax.random.PRNGKey(9))
    seen, state = game.reset(reset_key)
    obs = env.reset(9)
    actions = [1, 4, 2]
    for step in range(3):
        np.testing.assert_allclose(obs, np.stack([seen[agent] for agent in game.agents]))
        key, step_key = jax.random.split(key)
        joint = dict(zip(game.agents, actions, strict=True))
        seen, state, rewards, _, _ = game.step_env(step_key, state, joint)
        obs, reward, *ends, _ = env.step(np.array(actions))
        assert reward == pytest.approx(float(sum(rewards.values())), rel=1e-5)
        assert ends == [False, step == 2]
    batch = env.make_batch(2)
    batch.reset(8)
    np.testing.assert_array_equal(batch.get_obs()[1], env.reset(9))


@installed("jaxmarl")
def test_a_time_limit_of_a_jaxmarl_game_that_is_no_number():
    with pytest.raises(ValueError, match=r"env_args.episode_limit is '10'; it must be a whole"):
        REGISTRY["jaxmarl"](key="MPE_simple_spread_v3", episode_limit="10")


@installed("jaxmarl")
def test_overcooked():
    settings = {"key": "overcooked", "layout": "cramped_room"}
    env = REGISTRY["jaxmarl"](**settings)
    sizes = (env.n_agents, env.n_actions, env.obs_shape, env.episode_limit)
    assert sizes == (2, 6, 4 * 5 * 26, 400)
    assert env.provenance()["game_version"].startswith("jaxmarl ")
    with pytest.raises(ConfigError, match=r"layout is 'cramped'; known: .*cramped_room"):
        REGISTRY["jaxmarl"](key="overcooked", layout="cramped")
    with pytest.raises(ConfigError, match="cooking is not in registered"):
        REGISTRY["jaxmarl"](key="cooking")


@installed("pettingzoo")
def test_mpe_has_left_pettingzoo():
    with pytest.raises(ConfigError, match=r"a package of its own: mpe2\.simple_spread_v3"):
        REGISTRY["pettingzoo"](key="pettingzoo.mpe.simple_spread_v3", episode_limit=25)
