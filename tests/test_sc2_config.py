"""Which simulator plays, what is recorded of it, and which dataset is meant. No battle is fought here."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import PROJECT, main_command, make_args, metrics
from foreign_layouts import write_cfcql

from inspo.data.catalogue import find_dataset, resolve_dataset
from inspo.data.formats import from_episodes, load_dataset, write_h5
from inspo.envs import REGISTRY, sc2
from inspo.envs.sc2 import smax
from inspo.run.run_folder import new_run_name
from inspo.utils.errors import ConfigError, DatasetError, SimulatorError


@pytest.fixture
def with_game(monkeypatch):
    monkeypatch.setattr(sc2, "installed", lambda: "")


@pytest.fixture
def without_game(monkeypatch):
    monkeypatch.setattr(sc2, "installed", lambda: "the game is not in /games")


def args(**env_args):
    return make_args("bc", "sc2_offline", env_args=env_args)


def dataset(root: Path, simulator: str, name: str, map_name: str = "3m", /, **about: str) -> Path:
    """Four random episodes with the sizes of SMAX-3m; `about` goes into the metadata."""
    rng = np.random.default_rng(0)
    episodes = []
    for steps in (3, 5, 4, 6):
        last = np.arange(steps + 1) == steps - 1
        available = np.ones((steps + 1, 3, 8), dtype=bool)
        episodes.append(
            {
                "state": rng.random((steps + 1, 60)),
                "obs": rng.random((steps + 1, 3, 75)),
                "actions": rng.integers(8, size=(steps + 1, 3)),
                "avail_actions": available,
                "reward": np.append(rng.random(steps), 0.0),
                "terminated": last,
                "truncated": np.zeros_like(last),
            }
        )
    said = {
        "environment": "sc2",
        "env_args": {"map_name": map_name},
        "behaviour": "random",
        "command": "pytest",
    }
    said |= about
    path = root / "sc2" / simulator / map_name / f"{name}.h5"
    write_h5(from_episodes(episodes, said, str(path)), path)
    return path


def test_auto_is_starcraft_where_the_game_is(with_game):
    settings = args().env_args
    assert settings["simulator"] == "starcraft2"
    assert settings["reward_scale_rate"] == 20  # all of SMAC's settings are on record
    assert args(difficulty=7).env_args == settings
    assert REGISTRY["sc2"].notice(settings) == ""


def test_auto_is_smax_elsewhere_and_says_so(without_game):
    settings = args().env_args
    assert settings == {
        "simulator": "smax",
        "map_name": "2s3z",
        "reward_scale": 10.0,
        "dataset": "auto",
    }
    notice = REGISTRY["sc2"].notice(settings)
    assert "SMAX, NOT STARCRAFT II" in notice
    assert "SMAX-2s3z" in notice
    assert "the game is not in /games" in notice
    assert len({len(line) for line in notice.splitlines()[1:]}) == 1  # a box
    assert len(notice.splitlines()) >= 5


def test_smax_can_be_asked_for_where_the_game_is(with_game):
    settings = args(simulator="smax").env_args
    assert settings["simulator"] == "smax"
    assert "env_args.simulator=starcraft2 plays it" in REGISTRY["sc2"].notice(settings)


@pytest.mark.parametrize(("given", "scale"), [(True, 10.0), (False, 1.0), (5, 5)])
def test_smacs_switch_for_the_scale_of_rewards(without_game, given, scale):
    settings = args(reward_scale=given).env_args
    assert settings["reward_scale"] == scale
    assert REGISTRY["sc2"].resolve(settings) == settings


def test_a_setting_without_meaning_on_smax_is_pointed_out(without_game, caplog):
    assert "difficulty" not in args(difficulty="A").env_args
    assert "env_args.difficulty=A has no meaning on SMAX" in caplog.text
    caplog.clear()
    args(difficulty="7")  # SMAC's default
    args(difficulty=7)
    assert not caplog.text


def test_what_is_wrong_is_named(without_game):
    with pytest.raises(
        ConfigError,
        match=r"env_args.simulator=smx: there is no such simulator; did you mean 'smax'",
    ):
        args(simulator="smx")
    with pytest.raises(
        ConfigError, match=r"unknown key 'env_args.dificulty' .* did you mean 'difficulty'"
    ):
        args(dificulty="7")
    with pytest.raises(
        ConfigError, match=r"env_args.map_name=2s3y: SMAX has no such map; did you mean '2s3z'"
    ):
        REGISTRY["sc2"](simulator="smax", map_name="2s3y")
    with pytest.raises(ConfigError, match=r"env_args.map_name=3: SMAX has no such map"):
        REGISTRY["sc2"](
            **{key: value for key, value in args(map_name=3).env_args.items() if key != "dataset"}
        )


def test_a_yaml_without_a_map_means_smacs_default(without_game):
    assert REGISTRY["sc2"].resolve({"simulator": "auto"})["map_name"] == "2s3z"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(smax, "find_spec", lambda name: None)
    with pytest.raises(SimulatorError, match="jaxmarl is not installed: pip install"):
        REGISTRY["sc2"](simulator="smax", map_name="2s3z")
    monkeypatch.setattr(smax, "version_info", (3, 10))
    with pytest.raises(
        SimulatorError, match=r"jaxmarl is for Python 3[.]11 and later; this is 3[.]10"
    ):
        REGISTRY["sc2"](simulator="smax", map_name="2s3z")


def test_sizes_are_known_without_jax():
    code = (
        "from inspo import main, envs; import sys; "
        "env = envs.REGISTRY['sc2'](simulator='smax', map_name='2s3z'); "
        "assert env.get_env_info()['obs_shape'] == 127; assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


def test_auto_means_the_first_dataset_there_is(without_game, tmp_path, caplog):
    caplog.set_level("INFO")
    settings = args(map_name="3m")
    assert resolve_dataset(settings, tmp_path).env_args["dataset"] == "scripted"
    for name in ("expert", "mixed", "medium-replay", "medium"):
        dataset(tmp_path, "smax", name)
        assert resolve_dataset(settings, tmp_path).env_args["dataset"] == name
    assert (
        "env_args.dataset=auto: 'medium', the first of medium, medium-replay, mixed, expert"
        in caplog.text
    )
    assert resolve_dataset(args(map_name="8m"), tmp_path).env_args["dataset"] == "scripted"
    assert (
        resolve_dataset(args(map_name="3m", dataset="expert"), tmp_path).env_args["dataset"]
        == "expert"
    )


def test_a_dataset_by_name_or_by_path(without_game, tmp_path):
    path = dataset(tmp_path, "smax", "expert")
    for name in ("expert", str(path)):
        assert find_dataset(args(map_name="3m", dataset=name), None, tmp_path).n_episodes == 4
    with pytest.raises(
        DatasetError, match=r"env_args.dataset=exprt: neither in .* did you mean 'expert'"
    ):
        find_dataset(args(map_name="3m", dataset="exprt"), None, tmp_path)
    with pytest.raises(
        ConfigError, match="--env-config=sc2 names no dataset; give env_args.dataset=NAME"
    ):
        find_dataset(make_args("bc", "sc2"), None, tmp_path)


def test_the_scripts_dataset_takes_a_simulator_to_be_made(without_game, tmp_path):
    with pytest.raises(DatasetError, match="without SMAX none can be made"):
        find_dataset(args(dataset="scripted"), None, tmp_path)


def test_a_dataset_of_the_other_simulator_can_only_be_trained_on(without_game, tmp_path):
    path = str(dataset(tmp_path, "smax", "expert"))
    with pytest.raises(
        DatasetError,
        match=r"state_shape is 60, the environment's is 160.*test_nepisode=0 trains on it",
    ):
        find_dataset(
            args(map_name="8m", dataset=path),
            REGISTRY["sc2"](simulator="smax", map_name="8m"),
            tmp_path,
        )


def test_a_dataset_of_another_map_is_refused_with_the_maps_name(without_game, tmp_path):
    path = str(dataset(tmp_path, "smax", "expert", simulator="smax"))
    with pytest.raises(
        DatasetError,
        match=r"n_agents is 3.*recorded elsewhere: env_args.map_name was '3m', is '8m'",
    ):
        find_dataset(
            args(map_name="8m", dataset=path),
            REGISTRY["sc2"](simulator="smax", map_name="8m"),
            tmp_path,
        )


def test_downloaded_data_of_starcraft_is_not_passed_over_in_silence(without_game, tmp_path, caplog):
    """CFCQL's folder as it is, where no StarCraft II is: SMAX cannot play it, but it can be trained on."""
    source, downloaded = (
        dataset(tmp_path / "x", "smax", "medium"),
        tmp_path / "offline_datasets" / "3m_medium.h5",
    )
    downloaded.parent.mkdir()
    write_cfcql(load_dataset(source), downloaded)
    settings = args(map_name="3m", dataset="medium")
    with pytest.raises(
        DatasetError,
        match=f"{downloaded} is of StarCraft II: env_args.simulator=starcraft2 test_nepis",
    ):
        find_dataset(settings, None, tmp_path)
    assert resolve_dataset(args(map_name="3m"), tmp_path).env_args["dataset"] == "scripted"
    assert f"{downloaded} is of StarCraft II, not of SMAX" in caplog.text
    settings = args(map_name="3m", simulator="starcraft2", dataset="medium")
    assert find_dataset(settings, None, tmp_path).n_episodes == 4


def test_without_a_dataset_starcraft_tells_two_ways_to_get_one(with_game, tmp_path):
    for name in ("auto", "medium"):
        settings = args(map_name="3m", dataset=name)
        with pytest.raises(
            DatasetError, match=r"(?s)Two ways to get one:.*collect.py.*dataset.py fetch"
        ):
            find_dataset(resolve_dataset(settings, tmp_path), None, tmp_path)
    dataset(tmp_path, "smax", "medium")  # the other simulator's
    with pytest.raises(DatasetError, match="Two ways"):
        resolve_dataset(args(map_name="3m"), tmp_path)


def test_evaluating_a_policy_needs_no_dataset(with_game, tmp_path):
    settings = args(map_name="3m").model_copy(update={"evaluate": True})
    assert resolve_dataset(settings, tmp_path) is settings


def test_the_run_folder_is_named_after_simulator_and_map(without_game, tmp_path):
    name = new_run_name(resolve_dataset(args(map_name="3m"), tmp_path))
    assert name.startswith("bc_sc2_offline_smax-3m_scripted_seed0_")


def test_training_alone_never_imports_jax_and_everything_names_the_simulator(tmp_path, monkeypatch):
    """test_nepisode=0, and a dataset that is there: as a user types it, with jax made impossible to import."""
    dataset(tmp_path / "data", "smax", "medium")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "jax.py").write_text("raise RuntimeError('jax was imported')")
    settings = [
        "env_args.map_name=3m",
        "env_args.simulator=smax",
        "test_nepisode=0",
        "t_max=4",
        "log_interval=2",
    ]
    where = [f"dataset_root={tmp_path / 'data'}", "local_results_path=results"]
    process = main_command(
        "--config=bc", "--env-config=sc2_offline", "with", *settings, *where, cwd=tmp_path
    )
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("THE SIMULATOR IS SMAX, NOT STARCRAFT II") == 2
    run = next((tmp_path / "results").glob("bc_sc2_offline_smax-3m_medium_seed0_*"))
    rows = metrics(run)
    assert [(row["step"], row["simulator"], row["map_name"]) for row in rows] == [
        ("2", "smax", "3m"),
        ("4", "smax", "3m"),
    ]
    for file in ("run_info.json", "summary.json", "config.json"):
        assert json.loads((run / file).read_text())["env_args"]["simulator"] == "smax"
    recorded = json.loads((run / "metrics.json").read_text())  # sacred's
    assert {name: recorded[name]["values"] for name in ("simulator", "map_name")} == {
        "simulator": ["smax"],
        "map_name": ["3m"],
    }
    assert "THE SIMULATOR IS SMAX" in (run / "run.log").read_text()
