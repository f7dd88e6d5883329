"""SMAX behind the project's interface. One map and few lanes: most of the time is JAX compiling."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT, make_args

pytest.importorskip("jaxmarl", reason="needs jaxmarl, which is for Python 3.11 and later")

from inspo.data import builtin_datasets
from inspo.data.catalogue import find_dataset
from inspo.envs import EnvInfo
from inspo.envs.sc2.scripted import ScriptedPolicy
from inspo.envs.sc2.smax import SMAX
from inspo.envs.sc2.smax_battle import SMAXVectorEnv, battle
from inspo.envs.sc2.smax_maps import EPISODE_LIMIT, FIRST_ATTACK, MAPS, STOP
from inspo.utils.errors import ConfigError

LANES = 8


@pytest.fixture(scope="module")
def lanes() -> SMAXVectorEnv:
    return SMAX("3m").make_batch(LANES)


def play(env: SMAXVectorEnv, seed: int, choose) -> dict[str, np.ndarray]:
    """One episode in each lane; `choose(lane, t, available)` gives lane's joint action. Arrays [T, K, ...]."""
    env.reset(seed)
    history = []
    while env.playing.any():
        available = env.get_avail_actions()
        actions = np.array(
            [choose(lane, len(history), available[lane]) for lane in range(env.n_envs)]
        )
        row = {
            "playing": env.playing,
            "state": env.get_state(),
            "obs": env.get_obs(),
            "available": available,
        }
        reward, terminated, truncated, info = env.step(actions)
        row |= {
            "reward": reward,
            "terminated": terminated,
            "truncated": truncated,
            "won": info["battle_won"],
        }
        history.append(row)
    return {name: np.array([row[name] for row in history]) for name in history[0]}


def at_random(seed: int):
    """Each lane has a generator of its own, by the seed of its episode."""
    rngs: dict[int, np.random.Generator] = {}

    def choose(lane: int, t: int, available: np.ndarray) -> list[int]:
        rng = rngs.setdefault(lane, np.random.default_rng(seed + lane))
        return [rng.choice(np.flatnonzero(row)) for row in available]

    return choose


def into_the_corner(env: SMAXVectorEnv):
    """To the north-west, out of the enemies' sight, who then never come."""

    def choose(lane: int, t: int, available: np.ndarray) -> list[int]:
        positions = env.units().positions[lane, :3]
        wanted = [0 if y < 29 else 3 if x > 3 else STOP for x, y in positions]
        return [
            action if row[action] else STOP for action, row in zip(wanted, available, strict=True)
        ]

    return choose


def by_script(env: SMAXVectorEnv, hesitation: float, random_actions: float = 0.0):
    policy = ScriptedPolicy(0, (hesitation,), random_actions)
    policy.start(env)
    joint: dict[int, np.ndarray] = {}  # of the latest step

    def choose(lane: int, t: int, available: np.ndarray) -> np.ndarray:
        if t not in joint:
            joint.clear()
            joint[t] = policy.act(env.get_obs(), env.get_avail_actions(), None)
        return joint[t][lane]

    return choose


def test_sizes(lanes):
    info = EnvInfo(**SMAX("3m").get_env_info())
    assert info == EnvInfo(n_agents=3, n_actions=8, obs_shape=75, state_shape=60, episode_limit=100)
    lanes.reset(0)
    assert lanes.get_obs().shape == (LANES, 3, 75)
    assert lanes.get_state().shape == (LANES, 60)
    assert lanes.get_avail_actions().shape == (LANES, 3, 8)
    assert lanes.get_obs().dtype == lanes.get_state().dtype == np.float32


def test_the_seed_fixes_a_lane_whatever_its_number(lanes):
    first, again = (play(lanes, 5, at_random(5)) for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    other = play(lanes, 7, at_random(7))
    length = first["playing"][:, 2].sum()
    for name, values in first.items():
        np.testing.assert_array_equal(values[:length, 2], other[name][:length, 0])
    assert not np.array_equal(first["obs"][0, 0], other["obs"][0, 0])


def test_a_single_battle_is_a_lane_of_a_batch(lanes):
    batch, env, choose = play(lanes, 20, at_random(20)), SMAX("3m"), at_random(20)
    lane = 3
    obs, over, t = env.reset(20 + lane), False, 0
    while not over:
        np.testing.assert_array_equal(obs, batch["obs"][t, lane])
        np.testing.assert_array_equal(env.get_state(), batch["state"][t, lane])
        obs, reward, terminated, truncated, info = env.step(
            choose(lane, t, env.get_avail_actions())
        )
        assert reward == batch["reward"][t, lane]
        assert (terminated, truncated) == (
            batch["terminated"][t, lane],
            batch["truncated"][t, lane],
        )
        over = terminated or truncated
        assert ("battle_won" in info) == over
        t += 1
    assert t == batch["playing"][:, lane].sum()
    with pytest.raises(ValueError, match="cannot take action"):
        env.step([0, 0, 7])


def test_numbers_are_normalised(lanes):
    history = play(lanes, 40, at_random(40))
    for name in ("obs", "state"):
        assert np.abs(history[name]).max() <= 1.0 + 1e-6
    assert history["state"].max(axis=(0, 1)).min() == 0.0  # a bit of a type that this map has not
    cooldowns = history["state"].reshape(-1, 6, 10)[..., 3]
    assert cooldowns.max() > 0.5


def test_a_lane_rests_after_its_episode(lanes):
    history = play(lanes, 60, at_random(60))
    ends = history["terminated"] | history["truncated"]
    assert (ends.sum(axis=0) == 1).all()
    lengths = history["playing"].sum(axis=0)
    assert lengths.min() < lengths.max()
    for lane, length in enumerate(lengths):
        assert ends[length - 1, lane]
        assert (history["reward"][length:, lane] == 0).all()
        for name in ("obs", "state", "available"):
            np.testing.assert_array_equal(history[name][length:, lane], history[name][length:, lane][:1].repeat(
                len(history[name]) - length, axis=0
            ))  # fmt: skip


def test_dead_agents_can_only_stop(lanes):
    history = play(lanes, 80, at_random(80))
    alive = history["state"].reshape(*history["state"].shape[:2], 6, 10)[:, :, :3, 0] > 0
    assert (~alive).any()
    only_stop = np.arange(8) == STOP
    np.testing.assert_array_equal(
        history["available"][~alive], np.broadcast_to(only_stop, ((~alive).sum(), 8))
    )
    assert history["available"][alive][:, :STOP].all()
    assert (history["obs"][~alive] == 0).all()


def test_who_wins_and_what_it_is_worth(lanes):
    """Won: no enemy left, a marine alive. 20 points, as in SMAC; whoever does not win has at most 10."""
    history = play(lanes, 100, by_script(lanes, hesitation=0.0))
    returns, won = history["reward"].sum(axis=0), history["won"].any(axis=0)
    assert won.any()
    assert not won.all()
    np.testing.assert_allclose(returns[won], 20.0, rtol=1e-5)
    assert returns[~won].max() <= 10.0 + 1e-4
    alive = lanes.units().alive
    np.testing.assert_array_equal(won, alive[:, :3].any(axis=1) & ~alive[:, 3:].any(axis=1))
    np.testing.assert_array_equal(
        history["terminated"].any(axis=0), ~(alive[:, :3].any(1) & alive[:, 3:].any(1))
    )


def test_a_battle_that_nobody_fights_is_cut_at_the_limit(lanes):
    history = play(lanes, 120, into_the_corner(lanes))
    hidden = history["playing"].sum(axis=0) == EPISODE_LIMIT
    assert hidden.any()
    assert len(history["reward"]) == EPISODE_LIMIT
    np.testing.assert_array_equal(history["truncated"][-1], hidden)
    assert not history["terminated"][:, hidden].any()
    assert not history["won"][:, hidden].any()


def test_wrong_actions_name_lane_and_choices(lanes):
    lanes.reset(0)
    actions = np.full((LANES, 3), STOP)
    actions[4, 2] = FIRST_ATTACK
    with pytest.raises(
        ValueError,
        match=r"game 4: agent 2 cannot take action 5; available to it: \[0, 1, 2, 3, 4\]",
    ):
        lanes.step(actions)
    with pytest.raises(ValueError, match=r"expected actions of shape \(8, 3\)"):
        lanes.step(actions[:, :2])


def test_one_compile_for_each_map_and_number_of_lanes(lanes):
    one = battle("3m")
    play(lanes, 0, at_random(0))
    before = one.reset._cache_size(), one.step._cache_size()
    for seed in (1, 2**33):
        play(SMAX("3m").make_batch(LANES), seed, at_random(0))
    assert (one.reset._cache_size(), one.step._cache_size()) == before


def test_many_episodes_take_few_rounds():
    assert SMAX("3m").make_batch(128).n_envs == 128
    assert SMAX("3m").make_batch(200).n_envs == 100


def test_maps():
    """The table of sizes is the package's, read without importing it."""
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

    assert {name: (s.num_allies, s.num_enemies) for name, s in MAP_NAME_TO_SCENARIO.items()} == MAPS
    for name in MAPS:
        env, game = SMAX(name), battle(name).game
        sizes = (game.num_allies, game.num_ally_actions, game.obs_size, 10 * game._env.num_agents)
        assert (env.n_agents, env.n_actions, env.obs_shape, env.state_shape) == sizes
    with pytest.raises(
        ConfigError, match="map_name=2s3x: SMAX has no such map; did you mean '2s3z'"
    ):
        SMAX("2s3x")


def test_the_script_wins_most_and_hesitation_costs_it_dearly(lanes):
    wins = {}
    for name, settings in {"script": (0.0,), "hesitant": (0.5,), "random": (0.0, 1.0)}.items():
        won = [
            play(lanes, seed, by_script(lanes, *settings))["won"].any(axis=0).mean()
            for seed in range(0, 32, LANES)
        ]
        wins[name] = np.mean(won)
    assert wins["script"] > 0.4
    assert wins["script"] > wins["hesitant"] + 0.3
    assert wins["random"] < 0.2


def test_the_scripts_dataset_says_what_the_script_wins(tmp_path, monkeypatch):
    monkeypatch.setattr(builtin_datasets, "SCRIPT_ENVS", LANES)
    monkeypatch.setattr(builtin_datasets, "SCRIPT_EPISODES", 3 * LANES - 1)
    settings = make_args(
        "bc", "sc2_offline", env_args={"map_name": "3m", "dataset": "scripted", "simulator": "smax"}
    )
    data = find_dataset(settings, SMAX("3m"), tmp_path)
    said = data.metadata
    assert data.n_episodes == 3 * LANES - 1
    assert 0 <= data.score_statistics()["battle_won_mean"] < said["script_battle_won_mean"]
    assert said["behaviour"].endswith(
        f"it wins {said['script_battle_won_mean']:.0%} of its battles on this map"
    )


def test_importing_it_prints_nothing_and_leaves_the_streams_alone():
    code = "import sys; o = sys.stdout = open('/dev/null', 'w'); import inspo.envs.sc2.smax_battle"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}; assert sys.stdout is o"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")


def test_compiled_games_are_kept_in_the_users_cache(tmp_path):
    code = "from inspo.envs.sc2.smax import SMAX; SMAX('3m').make_batch(1).reset([0])"
    # JAX leaves out by default what takes less than a second, as a fast machine does.
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, check=True)
    assert list((tmp_path / "inspo" / "jax").glob("*/jit__reset-*"))


def test_a_user_without_a_home_can_play(tmp_path):
    """As in a container that runs under a number: nothing is kept then."""
    code = (
        "import os; os.getuid = lambda: 4_000_000_000\n"
        "from inspo.envs import REGISTRY\n"
        "REGISTRY['sc2'].resolve({'simulator': 'auto', 'map_name': '3m'})\n"
        "from inspo.envs.sc2.smax_battle import jax; assert not jax.config.jax_compilation_cache_dir; jax.jit(abs)(1)"
    )
    places = ("HOME", "XDG_CACHE_HOME", "SC2PATH", "JAX_COMPILATION_CACHE_DIR")
    environment = {key: value for key, value in os.environ.items() if key not in places}
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert not list(tmp_path.iterdir())


def test_the_code_base_imports_no_jax():
    code = "import sys; from inspo import main; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)
