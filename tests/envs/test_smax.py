"""SMAX behind the project's interface. One map and few games: most of the time is JAX compiling."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch as th
import yaml
from conftest import make_args

if not find_spec("jaxmarl"):
    pytest.skip("needs jaxmarl, for Python 3.11 and later", allow_module_level=True)

from inspo.controllers import BasicMAC
from inspo.data import builtin_datasets, policy_cards
from inspo.data.catalogue import Recorder, find_dataset
from inspo.data.hesitant import HesitantPolicy
from inspo.envs import EnvInfo
from inspo.envs.sc2.scripted import ScriptedPolicy
from inspo.envs.sc2.smax import SMAX
from inspo.envs.sc2.smax_battle import SMAXVectorEnv, battle
from inspo.envs.sc2.smax_maps import EPISODE_LIMIT, FIRST_ATTACK, MAPS, STOP
from inspo.run import shipped_policies
from inspo.run.checkpoint import POLICY_SETTINGS
from inspo.utils.errors import ConfigError, DatasetError

N_ENVS = 8


@pytest.fixture(scope="module")
def games() -> SMAXVectorEnv:
    return SMAX("3m").make_batch(N_ENVS)


def play(env: SMAXVectorEnv, seed: int, choose) -> dict[str, np.ndarray]:
    """One episode in each game. `choose(k, t, available)` returns game k's joint action.

    Returns arrays [T, K, ...].
    """
    env.reset(seed)
    history = []
    while env.playing.any():
        available = env.get_avail_actions()
        actions = np.array([choose(k, len(history), available[k]) for k in range(env.n_envs)])
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
    """Each game has its own generator, with the seed of its episode."""
    rngs: dict[int, np.random.Generator] = {}

    def choose(k: int, t: int, available: np.ndarray) -> list[int]:
        rng = rngs.setdefault(k, np.random.default_rng(seed + k))
        return [rng.choice(np.flatnonzero(row)) for row in available]

    return choose


def into_the_corner(env: SMAXVectorEnv):
    """To the north-west, out of the enemies' sight, who then never come."""

    def choose(k: int, t: int, available: np.ndarray) -> list[int]:
        positions = env.units().positions[k, :3]
        wanted = [0 if y < 29 else 3 if x > 3 else STOP for x, y in positions]
        pairs = zip(wanted, available, strict=True)
        return [action if row[action] else STOP for action, row in pairs]

    return choose


def by_script(env: SMAXVectorEnv, hesitation: float, random_actions: float = 0.0):
    policy = HesitantPolicy(ScriptedPolicy(), 0, (hesitation,), random_actions)
    policy.start(env)
    joint: dict[int, np.ndarray] = {}  # of the latest step

    def choose(k: int, t: int, available: np.ndarray) -> np.ndarray:
        if t not in joint:
            joint.clear()
            joint[t] = policy.act(env.get_obs(), env.get_avail_actions(), None)
        return joint[t][k]

    return choose


def test_sizes(games):
    info = EnvInfo(**SMAX("3m").get_env_info())
    assert info == EnvInfo(n_agents=3, n_actions=8, obs_shape=75, state_shape=60, episode_limit=100)
    games.reset(0)
    assert games.get_obs().shape == (N_ENVS, 3, 75)
    assert games.get_state().shape == (N_ENVS, 60)
    assert games.get_avail_actions().shape == (N_ENVS, 3, 8)
    assert games.get_obs().dtype == games.get_state().dtype == np.float32


def test_the_seed_fixes_a_game_whatever_its_number(games):
    first, again = (play(games, 5, at_random(5)) for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
    other = play(games, 7, at_random(7))
    length = first["playing"][:, 2].sum()
    for name, values in first.items():
        np.testing.assert_array_equal(values[:length, 2], other[name][:length, 0])
    assert not np.array_equal(first["obs"][0, 0], other["obs"][0, 0])


def test_a_single_battle_is_a_game_of_the_vector_environment(games):
    batch, env, choose = play(games, 20, at_random(20)), SMAX("3m"), at_random(20)
    k = 3
    obs, over, t = env.reset(20 + k), False, 0
    while not over:
        np.testing.assert_array_equal(obs, batch["obs"][t, k])
        np.testing.assert_array_equal(env.get_state(), batch["state"][t, k])
        actions = choose(k, t, env.get_avail_actions())
        obs, reward, terminated, truncated, info = env.step(actions)
        assert reward == batch["reward"][t, k]
        assert terminated == batch["terminated"][t, k]
        assert truncated == batch["truncated"][t, k]
        over = terminated or truncated
        assert ("battle_won" in info) == over
        t += 1
    assert t == batch["playing"][:, k].sum()
    with pytest.raises(ValueError, match="cannot take action"):
        env.step([0, 0, 7])


def test_numbers_are_normalised(games):
    history = play(games, 40, at_random(40))
    for name in ("obs", "state"):
        assert np.abs(history[name]).max() <= 1.0 + 1e-6
    # The bit of a unit type that is not on this map.
    assert history["state"].max(axis=(0, 1)).min() == 0.0
    cooldowns = history["state"].reshape(-1, 6, 10)[..., 3]
    assert cooldowns.max() > 0.5


def test_a_game_waits_after_its_episode(games):
    history = play(games, 60, at_random(60))
    ends = history["terminated"] | history["truncated"]
    assert (ends.sum(axis=0) == 1).all()
    lengths = history["playing"].sum(axis=0)
    assert lengths.min() < lengths.max()
    for k, length in enumerate(lengths):
        assert ends[length - 1, k]
        assert (history["reward"][length:, k] == 0).all()
        for name in ("obs", "state", "available"):
            after = history[name][length:, k]
            np.testing.assert_array_equal(after, np.broadcast_to(after[:1], after.shape))


def test_dead_agents_can_only_stop(games):
    history = play(games, 80, at_random(80))
    shape = history["state"].shape[:2]
    alive = history["state"].reshape(*shape, 6, 10)[:, :, :3, 0] > 0
    assert (~alive).any()
    only_stop = np.arange(8) == STOP
    dead = history["available"][~alive]
    np.testing.assert_array_equal(dead, np.broadcast_to(only_stop, dead.shape))
    assert history["available"][alive][:, :STOP].all()
    assert (history["obs"][~alive] == 0).all()


def test_who_wins_and_what_it_is_worth(games):
    """Won: no enemy left, a marine alive. 20 points, as in SMAC; without a win at most 10."""
    history = play(games, 100, by_script(games, hesitation=0.0))
    returns, won = history["reward"].sum(axis=0), history["won"].any(axis=0)
    assert won.any()
    assert not won.all()
    np.testing.assert_allclose(returns[won], 20.0, rtol=1e-5)
    assert returns[~won].max() <= 10.0 + 1e-4
    alive = games.units().alive
    allies, enemies = alive[:, :3].any(axis=1), alive[:, 3:].any(axis=1)
    np.testing.assert_array_equal(won, allies & ~enemies)
    np.testing.assert_array_equal(history["terminated"].any(axis=0), ~(allies & enemies))


def test_a_battle_that_nobody_fights_is_truncated_at_the_limit(games):
    history = play(games, 120, into_the_corner(games))
    hidden = history["playing"].sum(axis=0) == EPISODE_LIMIT
    assert hidden.any()
    assert len(history["reward"]) == EPISODE_LIMIT
    np.testing.assert_array_equal(history["truncated"][-1], hidden)
    assert not history["terminated"][:, hidden].any()
    assert not history["won"][:, hidden].any()


def test_wrong_actions_name_game_and_choices(games):
    games.reset(0)
    actions = np.full((N_ENVS, 3), STOP)
    actions[4, 2] = FIRST_ATTACK
    message = r"game 4: agent 2 cannot take action 5; available to it: \[0, 1, 2, 3, 4\]"
    with pytest.raises(ValueError, match=message):
        games.step(actions)
    with pytest.raises(ValueError, match=r"expected actions of shape \(8, 3\)"):
        games.step(actions[:, :2])


def test_one_compilation_per_map_and_number_of_games(games):
    one = battle("3m")
    play(games, 0, at_random(0))
    before = one.reset._cache_size(), one.step._cache_size()
    for seed in (1, 2**33):
        play(SMAX("3m").make_batch(N_ENVS), seed, at_random(0))
    assert (one.reset._cache_size(), one.step._cache_size()) == before


def test_many_episodes_take_few_rounds():
    assert SMAX("3m").make_batch(128).n_envs == 128
    assert SMAX("3m").make_batch(200).n_envs == 100


def test_maps():
    """The table of sizes agrees with the package, from which it is not read."""
    from jaxmarl.environments.smax.smax_env import MAP_NAME_TO_SCENARIO

    assert {name: (s.num_allies, s.num_enemies) for name, s in MAP_NAME_TO_SCENARIO.items()} == MAPS
    for name in MAPS:
        env, game = SMAX(name), battle(name).game
        sizes = (game.num_allies, game.num_ally_actions, game.obs_size, 10 * game._env.num_agents)
        assert (env.n_agents, env.n_actions, env.obs_shape, env.state_shape) == sizes
    message = "map_name=2s3x: SMAX has no such map; did you mean '2s3z'"
    with pytest.raises(ConfigError, match=message):
        SMAX("2s3x")


def test_the_script_wins_most_and_hesitation_costs_it_dearly(games):
    wins = {}
    for name, settings in {"script": (0.0,), "hesitant": (0.5,), "random": (0.0, 1.0)}.items():
        won = [
            play(games, seed, by_script(games, *settings))["won"].any(axis=0).mean()
            for seed in range(0, 32, N_ENVS)
        ]
        wins[name] = np.mean(won)
    assert wins["script"] > 0.4
    assert wins["script"] > wins["hesitant"] + 0.3
    assert wins["random"] < 0.2


def test_targets_are_the_units_that_were_attacked(games):
    """Only units that are attacked lose health. (SMAX's marines do not heal.)"""
    choose = by_script(games, hesitation=0.0)
    games.reset(0)
    attacked = 0
    for t in range(30):
        before = games.units().health.copy()
        games.step(np.array([choose(k, t, None) for k in range(N_ENVS)]))
        targets = games.targets()
        hurt = (games.units().health < before) & games.playing[:, None]
        for k, unit in np.argwhere(hurt):
            assert unit in targets[k]
        attacked += hurt.sum()
        allies, enemies = targets[:, :3], targets[:, 3:]
        assert ((allies == -1) | (allies >= 3)).all()
        assert (enemies < 3).all()
    assert attacked > 20


def test_the_scripts_dataset_says_what_the_script_wins(tmp_path, monkeypatch):
    monkeypatch.setattr(builtin_datasets, "SCRIPT_ENVS", N_ENVS)
    monkeypatch.setattr(builtin_datasets, "SCRIPT_EPISODES", 3 * N_ENVS - 1)
    env_args = {"map_name": "3m", "dataset": "scripted", "simulator": "smax"}
    settings = make_args("bc", "sc2_offline", env_args=env_args)
    data = find_dataset(settings, SMAX("3m"), tmp_path)
    wins = data.metadata["script_battle_won_mean"]
    assert data.n_episodes == 3 * N_ENVS - 1
    assert 0 <= data.score_statistics()["battle_won_mean"] < wins
    told = f"it wins {wins:.0%} of its battles on this map"
    assert data.metadata["behaviour"].endswith(told)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Two small untrained policies of 3m, as if they came with the project."""
    args = make_args("mappo", "sc2", hidden_dim=4)
    macs = [BasicMAC(args, EnvInfo(**SMAX("3m").get_env_info())) for _ in range(2)]
    weights = {
        name: {key: value.half() for key, value in mac.state_dict().items()}
        for name, mac in zip(("first", "second"), macs, strict=True)
    }
    folder = tmp_path / "policies"
    folder.mkdir()
    config = {key: getattr(args, key) for key in POLICY_SETTINGS}
    th.save({"config": config, "weights": weights}, folder / "3m.pt")
    scores = {"battle_won": 0.0, "return": 1.0}
    policy = {"training": "a", "step": 0, "temperature": 1.0, "greedy": scores, "sampled": scores}
    card = {
        "algorithm": "mappo",
        "trainings": {"a": "python src/main.py"},
        "policies": dict.fromkeys(weights, policy),
        "datasets": {"medium": ["first"], "mixed": ["first", "second"]},
    }
    (folder / "3m.yaml").write_text(yaml.safe_dump(card, explicit_end=True))
    monkeypatch.setattr(policy_cards, "POLICIES", folder)
    monkeypatch.setattr(shipped_policies, "EPISODES", 2 * N_ENVS)
    monkeypatch.setattr(shipped_policies, "N_ENVS", N_ENVS)


@pytest.mark.usefixtures("shipped")
def test_policies_of_expert_also_play_hesitantly(tmp_path, monkeypatch):
    path = policy_cards.POLICIES / "3m.yaml"
    card = yaml.safe_load(path.read_text())
    card["datasets"]["expert"] = ["first", "second"]
    path.write_text(yaml.safe_dump(card, explicit_end=True))
    env_args = {"map_name": "3m", "dataset": "hesitant", "simulator": "smax"}
    settings = make_args("bc", "sc2_offline", env_args=env_args)
    monkeypatch.setattr(shipped_policies, "HESITATION", (0.9,))
    makers = shipped_policies.recorders(settings, SMAX("3m"))
    data = find_dataset(settings, SMAX("3m"), tmp_path, makers)
    assert {tuple(policy["hesitation"]) for policy in data.metadata["policies"]} == {(0.9,)}
    # A dead unit can only stop.
    chosen = data.actions[data.avail_actions[..., 0]]
    assert 0.8 < (chosen == STOP).mean() < 0.92
    monkeypatch.setattr(shipped_policies, "HESITATION", (0.5,))
    changed = shipped_policies.recorders(settings, SMAX("3m"))
    assert changed["hesitant"].stem != makers["hesitant"].stem
    assert changed["expert"].stem == makers["expert"].stem


@pytest.mark.usefixtures("shipped")
def test_shipped_policies_play_a_dataset_when_it_is_first_needed(tmp_path):
    env_args = {"map_name": "3m", "dataset": "mixed", "simulator": "smax"}
    settings = make_args("bc", "sc2_offline", env_args=env_args)
    makers = shipped_policies.recorders(settings, SMAX("3m"))
    assert makers.keys() == {"medium", "mixed"}
    data = find_dataset(settings, SMAX("3m"), tmp_path, makers)
    assert data.n_episodes == 2 * N_ENVS
    policies = data.metadata["policies"]
    assert [policy["shipped"] for policy in policies] == ["3m/first", "3m/second"]
    assert not any(policy["greedy"] for policy in policies)
    folder = tmp_path / "sc2" / "smax" / "3m"
    (recorded,) = folder.glob("mixed-shipped-*.h5")
    never = {"mixed": Recorder(recorded.stem, pytest.fail)}
    again = find_dataset(settings, SMAX("3m"), tmp_path, never)
    assert again.fingerprint == data.fingerprint
    # A collected one comes first, and `auto` does not see what was recorded here.
    recorded.rename(folder / "mixed.h5")
    assert find_dataset(settings, SMAX("3m"), tmp_path, never).path == str(folder / "mixed.h5")
    # Other policies play another dataset.
    weights = policy_cards.POLICIES / "3m.pt"
    weights.write_bytes(weights.read_bytes() + b" ")
    changed = shipped_policies.recorders(settings, SMAX("3m"))["mixed"]
    assert changed.stem != recorded.stem
    th.save({"weights": {"first": {}}}, weights)
    with pytest.raises(DatasetError, match=r"3m\.pt lacks second of its card 3m\.yaml; get both"):
        changed.record(tmp_path / "mixed.h5")
    weights.write_bytes(b"damaged")
    with pytest.raises(DatasetError, match=r"3m\.pt is damaged"):
        changed.record(tmp_path / "mixed.h5")
    wrong = make_args("bc", "sc2_offline", env_args={**env_args, "dataset": "medum"})
    with pytest.raises(DatasetError, match="did you mean 'medium'"):
        find_dataset(wrong, SMAX("3m"), tmp_path, makers)


def in_a_process(code: str, environment: dict[str, str], folder: Path):
    """Runs code that must import JAX for the first time."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_playing_prints_nothing_and_keeps_compiled_games_in_the_users_cache(tmp_path):
    """jaxmarl prints when it is imported, and replaces sys.stdout."""
    code = (
        "import sys; stdout = sys.stdout = open('/dev/null', 'w')\n"
        "from inspo.envs.sc2.smax import SMAX; SMAX('3m').make_batch(1).reset(0)\n"
        "assert sys.stdout is stdout"
    )
    # By default, JAX does not keep what compiles in less than a second.
    environment = {**os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    # Without its cache of fonts, Matplotlib prints on a slow machine.
    environment["MPLCONFIGDIR"] = matplotlib.get_cachedir()
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    process = in_a_process(code, environment, tmp_path)
    assert (process.returncode, process.stdout, process.stderr) == (0, "", "")
    assert list((tmp_path / "inspo" / "jax").glob("*/jit__reset-*"))


def test_a_user_without_a_home_can_play(tmp_path):
    """As in a container that runs under a number: nothing is kept then."""
    code = (
        "import os; os.getuid = lambda: 4_000_000_000\n"
        "from inspo.envs import REGISTRY\n"
        "REGISTRY['sc2'].resolve({'simulator': 'auto', 'map_name': '3m'})\n"
        "from inspo.envs.sc2.smax_battle import jax; jax.jit(abs)(1)\n"
        "assert not jax.config.jax_compilation_cache_dir"
    )
    places = ("HOME", "XDG_CACHE_HOME", "SC2PATH", "JAX_COMPILATION_CACHE_DIR")
    environment = {key: value for key, value in os.environ.items() if key not in places}
    process = in_a_process(code, environment, tmp_path)
    assert process.returncode == 0, process.stderr
    assert not list(tmp_path.iterdir())
