"""SMACv2: random teams from the episode's seed, its settings, and SMAX in its place."""

import importlib
import shutil
from contextlib import closing
from importlib.machinery import PathFinder
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import make_args, metrics, needs_smax

from inspo import collect, main
from inspo.data.catalogue import dataset_path, find_dataset, resolve_dataset
from inspo.data.rollout import RandomPolicy, play
from inspo.envs import REGISTRY, game_labels, sc2, without_dataset
from inspo.envs.sc2.smacv2 import SMACv2
from inspo.envs.sc2.smax import SMAX
from inspo.envs.sc2.starcraft_install import map_folder, starcraft_problem
from inspo.run.run_folder import new_run_name
from inspo.utils.errors import ConfigError, DatasetError, SimulatorError
from inspo.utils.layers import shipped_names

WAIT, HIT = [1, 1], [6, 6]
TEAMS = {
    "dist_type": "weighted_teams",
    "unit_types": ["stalker", "zealot", "colossus"],
    "weights": [0.45, 0.45, 0.1],
    "observe": True,
}
FIXED = {
    "dist_type": "fixed",
    "items": [[0.1, 0.2, 0.3, 0.4, 0.5], [0.0, 0.0, 0.0, 0.0, 0.6]],
    "test_mode": True,
    "observe": True,
}
POSITIONS = {"dist_type": "surrounded_and_reflect", "p": 0.5, "map_x": 32, "map_y": 32}
CAPABILITIES = {"n_units": 5, "n_enemies": 5, "team_gen": TEAMS, "start_positions": POSITIONS}


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(sc2, "starcraft_problem", lambda package="smac": "")


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr(sc2, "starcraft_problem", lambda package="smac": f"no {package} here")


def args(environment="sc2_gen_protoss", **env_args):
    return make_args("bc", environment, env_args=env_args)


# --- which simulator


def test_auto_is_smacv2_where_it_is_installed(installed):
    settings = args().env_args
    assert settings["simulator"] == "smacv2"
    assert settings["capability_config"] == CAPABILITIES  # as in SMACv2's own YAML
    assert settings["obs_own_pos"]
    assert settings["use_unit_ranges"]
    assert settings["reward_win"] == 200  # SMAC's settings are SMACv2's
    assert REGISTRY["sc2"].resolve(settings) == settings
    assert REGISTRY["sc2"].notice(settings) == ""
    assert args("sc2").env_args["simulator"] == "starcraft2"


def test_auto_is_smax_with_as_many_units_elsewhere(absent, caplog):
    for environment, name in (
        ("sc2_gen_zerg", "smacv2_5_units"),
        ("sc2_gen_terran_10_vs_10_offline", "smacv2_10_units"),
    ):
        settings = args(environment).env_args
        assert (settings["simulator"], settings["map_name"]) == ("smax", name)
        assert f"SMAX plays {name} instead of 10gen_" in caplog.text
        assert not {"capability_config", "conic_fov"} & {*settings}
        assert REGISTRY["sc2"].resolve(settings) == settings
        notice = REGISTRY["sc2"].notice(settings)
        assert f"SMAX-{name}" in notice
        assert "no smacv2 here" in notice


def test_smax_has_no_teams_of_other_sizes(absent):
    message = "SMAX has no random teams of .*n_units=5 against n_enemies=6; .* smacv2_5_units"
    with pytest.raises(ConfigError, match=message):
        args(capability_config={"n_enemies": 6})


def test_smaxs_own_maps_are_smaxs_everywhere(installed):
    assert args("sc2", map_name="smacv2_5_units").env_args["simulator"] == "smax"


@needs_smax
def test_smax_plays_in_its_place(absent):
    env = REGISTRY["sc2"](**without_dataset(args().env_args))
    assert isinstance(env, SMAX)
    assert (env.n_agents, env.n_actions) == (5, 10)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"conic_fov": True}, "only SMACv2 has env_args.conic_fov"),
        ({"map_name": "10gen_terran"}, "only SMACv2 has env_args.map_name=10gen_terran"),
    ],
)
def test_smac_refuses_what_only_smacv2_has(installed, settings, words):
    with pytest.raises(ConfigError, match=f"{words}: env_args.simulator=smacv2 plays it"):
        args("sc2", simulator="starcraft2", **settings)


def test_other_projects_names_of_scenarios_are_answered(installed):
    message = (
        r"map_name=terran_10_vs_11: here --env-config=sc2_gen_terran with "
        r"env_args.capability_config.n_units=10 env_args.capability_config.n_enemies=11"
    )
    with pytest.raises(ConfigError, match=message):
        args("sc2", map_name="terran_10_vs_11")


# --- the shipped YAMLs


def test_online_and_offline_play_the_same(installed):
    names = [name for name in shipped_names("envs") if name.startswith("sc2_gen_")]
    online = [name for name in names if not name.endswith("_offline")]
    assert len(online) == 6
    for name in online:
        offline = args(f"{name}_offline")
        assert without_dataset(offline.env_args) == without_dataset(args(name).env_args)
        assert (offline.env_args["dataset"], offline.agent) == ("auto", "rnn")
        race, n_units = name.split("_")[2], 10 if "10_vs_10" in name else 5
        assert game_labels(offline.env_args)["map_name"] == f"{race}_{n_units}_vs_{n_units}"


@pytest.mark.parametrize(
    ("race", "types", "weights", "exceptions"),
    [
        ("terran", ["marine", "marauder", "medivac"], [0.45, 0.45, 0.1], ["medivac"]),
        ("zerg", ["zergling", "baneling", "hydralisk"], [0.45, 0.1, 0.45], ["baneling"]),
    ],
)
def test_the_races_differ_in_their_teams(installed, race, types, weights, exceptions):
    settings = args(f"sc2_gen_{race}").env_args
    teams = {
        **TEAMS,
        "unit_types": types,
        "weights": weights,
        "exception_unit_types": exceptions,
    }
    assert settings["capability_config"] == {**CAPABILITIES, "team_gen": teams}
    assert settings["map_name"] == f"10gen_{race}"


def test_scenarios_have_their_own_names_and_folders(installed, tmp_path):
    small, large = args(dataset="a"), args("sc2_gen_protoss_10_vs_10", dataset="a")
    assert new_run_name(small).startswith("bc_sc2_gen_protoss_smacv2-protoss_5_vs_5_a_seed0_")
    path = dataset_path(large, tmp_path, "medium")
    assert path == tmp_path / "sc2" / "smacv2" / "protoss_10_vs_10" / "medium.h5"
    message = r"(?s)no such dataset.*protoss_5_vs_5.*collect.py --env-config=sc2_gen_protoss\n"
    with pytest.raises(DatasetError, match=message):
        resolve_dataset(args("sc2_gen_protoss_offline"), tmp_path)
    with pytest.raises(DatasetError, match=message):
        find_dataset(small, None, tmp_path)


def test_og_marls_vaults_are_found_by_the_scenarios_name(installed, tmp_path):
    vault = tmp_path / "vaults" / "og_marl" / "smac_v2" / "terran_5_vs_5.vlt" / "Replay"
    vault.mkdir(parents=True)
    (vault / "manifest.ocdbt").touch()
    with pytest.raises(DatasetError, match=r"no such dataset .* terran_5_vs_5 .*; known: Replay"):
        resolve_dataset(args("sc2_gen_terran_offline"), tmp_path)


# --- what the settings may be


def with_teams(**teams) -> dict:
    return {"capability_config": {**CAPABILITIES, "team_gen": {**TEAMS, **teams}}}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"num_fov_actions": 0}, "env_args.num_fov_actions: .* greater than or equal to 1"),
        ({"obs_instead_of_state": True}, "env_args.obs_instead_of_state: SMACv2 does not"),
        ({"obs_starcraft": False}, "env_args.obs_starcraft: False leaves nothing to observe"),
        ({"prob_obs_enemy": 1.5}, r"env_args.prob_obs_enemy: .* \(given: 1.5\)"),
        ({"map_name": "10gen_tosss"}, "SMACv2 has no such map; did you mean '10gen_protoss'"),
        ({"capability_config": None}, "map_name=10gen_protoss: needs capability_config.team_gen"),
        ({"capability_config": {"n_units": 5}}, "capability_config.n_enemies is missing"),
        ({"capability_config": 5}, "env_args.capability_config: .* dictionary"),
        (with_teams(unit_types=["stalker", "marine"], weights=[0.5, 0.5]), "no unit type 'marine'"),
        (with_teams(weights=[0.5, 0.5]), "team_gen: there are 2 weights for 3 unit_types"),
        (with_teams(weights=[0.5, 0.5, 0.5]), "team_gen: weights .* their sum is 1.5, not 1"),
        (with_teams(weights=[1, 0, 0], exception_unit_types=["stalker"]), "must leave a unit type"),
        (with_teams(dist_type="weighted"), "team_gen: .*'weighted_teams', 'all_teams'"),
        (with_teams(wieghts=[1]), "team_gen.wieghts: Extra inputs"),
        (with_teams(n_units=4), "n_units of team_gen must be n_units above"),
        (
            {"capability_config": {**CAPABILITIES, "health": {**FIXED, "items": [[0.5]]}}},
            "items of health must have 5 numbers",
        ),
        ({"map_name": "2s3z"}, "SMAC's maps are played with env_args.simulator=starcraft2"),
    ],
)
def test_wrong_settings_are_named_before_anything_starts(installed, wrong, words):
    settings = {**args().env_args, **wrong}
    with pytest.raises(ConfigError, match=words):
        REGISTRY["sc2"].resolve(settings)


def test_several_wrong_settings_are_named_at_once(installed):
    with pytest.raises(ConfigError, match=r"conic_fov: .*; .*min_attack_range: "):
        args(conic_fov=2, min_attack_range=-1)


# --- playing, with a double


@pytest.fixture
def doubled(double):
    (map_folder() / "32x32_flat.SC2Map").touch()
    return double


@pytest.fixture
def make(doubled):
    """Makes batches of games on the double, and closes them after the test."""
    opened = []

    def make(n_envs):
        env = SMACv2("10gen_protoss", capability_config=CAPABILITIES, start_timeout=20)
        opened.append(env.make_batch(n_envs))
        return opened[-1]

    yield make
    for batch in opened:
        batch.close()


def drawn(double) -> list[str]:
    """The teams since the last call, in the order of the games' starts."""
    file = double.control / "teams"
    lines = file.read_text().splitlines()
    file.unlink()
    return lines


def test_what_is_missing_is_named(doubled):
    assert starcraft_problem("smacv2") == ""
    (map_folder() / "32x32_flat.SC2Map").unlink()
    assert "SMACv2's map is not there: curl -L -o " in starcraft_problem("smacv2")
    assert starcraft_problem() == ""  # SMAC does not need it
    with pytest.raises(SimulatorError, match="cannot be played: SMACv2's map"):
        SMACv2("10gen_protoss", capability_config=CAPABILITIES)


def test_without_the_package_auto_is_smax(doubled, monkeypatch):
    def find_spec(name):  # whatever is installed here
        return PathFinder.find_spec(name, [str(doubled.path)])

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert args().env_args["simulator"] == "smacv2"
    shutil.rmtree(doubled.path / "smacv2")
    problem = starcraft_problem("smacv2")
    assert "`smacv2` is not installed: pip install" in problem
    assert "oxwhirl/smacv2.git" in problem
    assert args().env_args["simulator"] == "smax"
    assert args("sc2").env_args["simulator"] == "starcraft2"


def test_the_same_seed_draws_the_same_teams(make, doubled):
    batch = make(2)

    def start(batch, seed):
        batch.reset(seed)
        return sorted(drawn(doubled)), batch.get_obs(), batch.get_state()

    first = start(batch, 7)
    others = [start(batch, seed) for seed in (20, 30)]  # the first one abandons episodes
    assert len({*first[0], *others[0][0], *others[1][0]}) > 2
    for _ in range(2):
        assert start(batch, 7)[0] == first[0]
        np.testing.assert_array_equal(batch.get_obs(), first[1])
        np.testing.assert_array_equal(batch.get_state(), first[2])
        doubled.trouble("step", "die")
        batch.step([WAIT] * 2)  # the game is started anew
    other = make(1)
    assert start(other, 8)[0][0] in first[0]
    np.testing.assert_array_equal(other.get_obs()[0], first[1][1])


def test_rewards_are_scaled_by_the_episodes_own_enemies(make, doubled):
    batch = make(1)
    for seed in range(3):  # SMACv2 would keep the first one's scale
        batch.reset(seed)
        (team,) = drawn(doubled)
        total = 30 + sum({"stalker": 10, "zealot": 20, "colossus": 40}[n] for n in team.split())
        for _ in range(2):
            reward = batch.step([HIT])[0]
            np.testing.assert_allclose(reward, 2 / (total / 400), rtol=1e-6)


def test_other_teams_are_drawn_if_units_do_not_appear(make, doubled):
    batch = make(1)
    doubled.trouble("place", "blocked", times=2)
    batch.reset(3)
    retried = drawn(doubled)
    assert len(doubled.games()) == 3
    assert len(doubled.alive()) == 1
    batch.reset(3)
    assert drawn(doubled) != retried


def test_units_that_never_appear_are_an_error(make, doubled):
    doubled.trouble("place", "blocked", times=99)
    batch = make(1)
    batch.env.start_retries = 0
    with pytest.raises(SimulatorError, match="did not place the units of 10 random teams"):
        batch.reset(0)


def test_a_resumed_run_meets_the_same_teams(doubled, tmp_path):
    small = [
        *("n_parallel=2", "test_nepisode=0", "buffer_size=50", "batch_size=2", "hidden_dim=4"),
        *("learning_starts=0", "updates_per_round=1", "log_interval=8", "save_model_interval=8"),
        *("use_tensorboard=False", f"local_results_path={tmp_path}", "env_args.simulator=smacv2"),
    ]

    def train(*settings):
        words = ["--config=qmix", "--env-config=sc2_gen_protoss", "with", *small, *settings]
        assert main.main(words) == 0
        run = max(tmp_path.glob("qmix_*"), key=lambda path: path.stat().st_mtime_ns)
        lines = drawn(doubled)
        rounds = [sorted(lines[k : k + 2]) for k in range(0, len(lines), 2)]
        return run, rounds, metrics(run)

    _, whole, numbers = train("t_max=16")
    half, before, _ = train("t_max=8")
    _, after, resumed = train("t_max=16", f"checkpoint_path={half}")
    assert len({*map(tuple, whole)}) > 1
    assert before + after == whole
    assert resumed == numbers


# --- the real SMACv2, on a fake game

needs_smacv2 = pytest.mark.skipif(
    find_spec("smacv2") is None, reason="needs smacv2: pip install --no-deps, from its repository"
)
EVERYTHING_RANDOM = {
    **CAPABILITIES,
    "attack": {
        "dist_type": "per_agent_uniform",
        "lower_bound": [0.3],
        "upper_bound": [0.9],
        "observe": True,
    },
    "health": FIXED,
    "enemy_mask": {"dist_type": "mask", "mask_probability": 0.5},
}
PROTOSS_ALLY, PROTOSS_ENEMY = 8, 7  # numbers of a unit in the state; the last three are its type


def types(state: np.ndarray) -> list:
    """The units of both sides, from the state of five Protoss units with the default settings."""
    allies = state[: 5 * PROTOSS_ALLY].reshape(5, PROTOSS_ALLY)
    enemies = state[5 * PROTOSS_ALLY :][: 5 * PROTOSS_ENEMY].reshape(5, PROTOSS_ENEMY)
    return [sorted(side[:, -3:].argmax(axis=1).tolist()) for side in (allies, enemies)]


@needs_smacv2
def test_a_seed_fixes_the_teams(fake_game):
    seen = []
    with closing(SMACv2("10gen_protoss", capability_config=CAPABILITIES)) as env:
        for seed in (0, 1, 0):
            env.reset(seed)
            seen.append(types(env.get_state()))
    assert seen[0] == seen[2] != seen[1]
    assert all(allies == enemies for allies, enemies in seen)


@needs_smacv2
def test_a_seed_fixes_all_other_luck_too(fake_game):
    odd = {
        **{"prob_obs_enemy": 0.5, "action_mask": False, "conic_fov": True, "num_fov_actions": 5},
        **{"use_unit_ranges": True, "obs_timestep_number": True, "obs_last_action": True},
    }
    env = SMACv2("10gen_protoss", capability_config=EVERYTHING_RANDOM, **odd)
    rows = []
    for _ in range(2):  # in a new game
        with closing(env.make_batch(1)) as batch:
            (rollout,) = play(batch, RandomPolicy(0), 1, 1, record=True)
            rows.append(rollout.rows)
    for name, values in rows[0].items():
        np.testing.assert_array_equal(values, rows[1][name], name)


@needs_smacv2
def test_from_online_training_to_evaluation(fake_game, tmp_path):
    where = [f"local_results_path={tmp_path}", f"dataset_root={tmp_path}", "env_args.n_workers=1"]
    small = [*where, "test_nepisode=0", "hidden_dim=4", "use_tensorboard=False", "num_threads=1"]

    def train(config, environment, *settings):
        words = [f"--config={config}", f"--env-config={environment}", "with", *small, *settings]
        assert main.main(words) == 0
        return max(tmp_path.glob(f"{config}_*"), key=lambda path: path.stat().st_mtime_ns)

    online = ["n_parallel=1", "t_max=1", "batch_size=1", "buffer_size=2", "learning_starts=0"]
    run = train("qmix", "sc2_gen_zerg", *online, "updates_per_round=1")
    assert (
        collect.main([f"--checkpoint={run}", "--name=medium", "--episodes=2", "with", *where]) == 0
    )
    offline = train("bc", "sc2_gen_zerg_offline", "t_max=2", "batch_size=2")
    assert offline.name.startswith("bc_sc2_gen_zerg_offline_smacv2-zerg_5_vs_5_medium_seed0_")
    settings = ["test_nepisode=1", "evaluate=True", f"checkpoint_path={offline}"]
    tested = train("bc", "sc2_gen_zerg_offline", *settings)
    (row,) = metrics(tested)
    assert (row["map_name"], row["test_battle_won_mean"]) == ("zerg_5_vs_5", "0.0")
