"""Which simulator plays, what is recorded of it, and which dataset is meant. Plays no battle."""

import json
import shutil
import time
from functools import partial
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from conftest import main_command, make_args, metrics, needs_smax
from filelock import FileLock
from public_layouts import write_cfcql

from inspo.data import policy_cards
from inspo.data.catalogue import Recorder, find_dataset, resolve_dataset
from inspo.data.formats import from_episodes, load_dataset, write_h5
from inspo.envs import REGISTRY, sc2, without_dataset
from inspo.envs.sc2 import smax
from inspo.run.run_folder import new_run_name
from inspo.run.shipped_policies import recorders
from inspo.utils.errors import ConfigError, DatasetError, SimulatorError, StorageError


@pytest.fixture
def with_game(monkeypatch):
    monkeypatch.setattr(sc2, "starcraft_problem", lambda: "")


@pytest.fixture
def without_game(monkeypatch):
    monkeypatch.setattr(sc2, "starcraft_problem", lambda: "the game is not in /games")


def args(**env_args):
    return make_args("bc", "sc2_offline", env_args=env_args)


def make_smax(map_name: str):
    return REGISTRY["sc2"](simulator="smax", map_name=map_name)


def random_episode(rng: np.random.Generator, steps: int) -> dict[str, np.ndarray]:
    """With the sizes of SMAX-3m."""
    last = np.arange(steps + 1) == steps - 1
    return {
        "state": rng.random((steps + 1, 60)),
        "obs": rng.random((steps + 1, 3, 75)),
        "actions": rng.integers(8, size=(steps + 1, 3)),
        "avail_actions": np.ones((steps + 1, 3, 8), dtype=bool),
        "reward": np.append(rng.random(steps), 0.0),
        "terminated": last,
        "truncated": np.zeros_like(last),
    }


def dataset(root: Path, simulator: str, name: str, map_name: str = "3m", /, **about: str) -> Path:
    """Four random episodes; `about` goes into the metadata."""
    rng = np.random.default_rng(0)
    episodes = [random_episode(rng, steps) for steps in (3, 5, 4, 6)]
    metadata = {
        "environment": "sc2",
        "env_args": {"map_name": map_name},
        "behaviour": "random",
        "command": "pytest",
        **about,
    }
    path = root / "sc2" / simulator / map_name / f"{name}.h5"
    write_h5(from_episodes(episodes, metadata, str(path)), path)
    return path


def test_auto_is_starcraft_if_the_game_is_installed(with_game):
    settings = args().env_args
    assert settings["simulator"] == "starcraft2"
    assert settings["reward_scale_rate"] == 20  # all of SMAC's settings are recorded
    assert args(difficulty=7).env_args == settings
    assert REGISTRY["sc2"].notice(settings) == ""


def test_auto_is_smax_elsewhere_with_a_notice(without_game):
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


def test_smax_can_be_chosen_if_the_game_is_installed(with_game):
    settings = args(simulator="smax").env_args
    assert settings["simulator"] == "smax"
    assert "set env_args.simulator=starcraft2" in REGISTRY["sc2"].notice(settings)


@pytest.mark.parametrize(("given", "scale"), [(True, 10.0), (False, 1.0), (5, 5)])
def test_smacs_switch_for_the_scale_of_rewards(without_game, given, scale):
    settings = args(reward_scale=given).env_args
    assert settings["reward_scale"] == scale
    assert REGISTRY["sc2"].resolve(settings) == settings


def test_a_warning_about_settings_without_effect_on_smax(without_game, caplog):
    assert "difficulty" not in args(difficulty="A").env_args
    assert "env_args.difficulty=A has no effect on SMAX" in caplog.text
    caplog.clear()
    args(difficulty="7")  # SMAC's default
    args(difficulty=7)
    assert not caplog.text


def test_an_unknown_simulator_or_key_is_named_with_a_suggestion(without_game):
    message = r"env_args.simulator=smx: there is no such simulator; did you mean 'smax'"
    with pytest.raises(ConfigError, match=message):
        args(simulator="smx")
    message = r"unknown key 'env_args.dificulty' .* did you mean 'difficulty'"
    with pytest.raises(ConfigError, match=message):
        args(dificulty="7")


@needs_smax
def test_an_unknown_map_is_named_with_a_suggestion(without_game):
    message = r"env_args.map_name=2s3y: SMAX has no such map; did you mean '2s3z'"
    with pytest.raises(ConfigError, match=message):
        make_smax("2s3y")
    with pytest.raises(ConfigError, match=r"env_args.map_name=3: SMAX has no such map"):
        REGISTRY["sc2"](**without_dataset(args(map_name=3).env_args))


@needs_smax
@pytest.mark.parametrize("scale", ["nan", "none", [10]])
def test_a_factor_of_the_rewards_that_is_no_number_is_named(without_game, scale):
    with pytest.raises(ConfigError, match=r"env_args.reward_scale is .*; it must be a number"):
        REGISTRY["sc2"](**without_dataset(args(reward_scale=scale).env_args))


def test_without_a_map_it_is_smacs_default(without_game):
    assert REGISTRY["sc2"].resolve({"simulator": "auto"})["map_name"] == "2s3z"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(smax, "find_spec", lambda name: None)
    monkeypatch.setattr(smax, "version_info", (3, 11))
    with pytest.raises(SimulatorError, match="jaxmarl is not installed: pip install"):
        make_smax("2s3z")
    monkeypatch.setattr(smax, "version_info", (3, 10))
    message = r"jaxmarl is for Python 3[.]11 and later; this is 3[.]10"
    with pytest.raises(SimulatorError, match=message):
        make_smax("2s3z")


def test_auto_means_the_first_dataset_that_exists(without_game, tmp_path, caplog):
    def found(**env_args) -> str:
        return resolve_dataset(args(**env_args), tmp_path).env_args["dataset"]

    caplog.set_level("INFO")
    assert found(map_name="3m") == "scripted"
    for name in ("expert", "mixed", "medium-replay", "medium"):
        dataset(tmp_path, "smax", name)
        assert found(map_name="3m") == name
    message = "env_args.dataset=auto: 'medium', the first of medium, medium-replay, mixed, expert"
    assert message in caplog.text
    assert found(map_name="8m") == "scripted"
    assert found(map_name="2s3z") == "hesitant"  # policies of this map are shipped
    assert found(map_name="5m_vs_6m") == "medium"  # without an expert
    assert found(map_name="3m", dataset="expert") == "expert"


def test_a_dataset_by_name_or_by_path(without_game, tmp_path):
    path = dataset(tmp_path, "smax", "expert")
    for name in ("expert", str(path)):
        assert find_dataset(args(map_name="3m", dataset=name), None, tmp_path).n_episodes == 4
    message = r"env_args.dataset=exprt: neither in .* did you mean 'expert'"
    with pytest.raises(DatasetError, match=message):
        find_dataset(args(map_name="3m", dataset="exprt"), None, tmp_path)
    dataset(tmp_path, "smax", "medium-shipped-0a1b2c", "5m_vs_6m")
    message = "no policies of 5m_vs_6m that play it"
    for name, advice in {
        "expert": r"; .*src/collect.py .*map_name=5m_vs_6m",
        "hesitant": "",
    }.items():
        with pytest.raises(DatasetError, match=f"{message}{advice}$") as error:
            find_dataset(args(map_name="5m_vs_6m", dataset=name), None, tmp_path)
        assert "medium-shipped" not in str(error.value)
    settings = make_args(
        "bc",
        "sc2_offline",
        env_args={"map_name": "8m", "dataset": "random"},
        dataset_root="my data",
    )
    command = "--random --env-config=sc2 --name=random with env_args.simulator=smax"
    with pytest.raises(
        DatasetError, match=f"{command} env_args.map_name=8m dataset_root='my data'$"
    ):
        find_dataset(settings, None, tmp_path)
    message = "env_args.dataset=some/where.h5: not an existing path; known: scripted$"
    with pytest.raises(DatasetError, match=message):
        find_dataset(args(map_name="8m", dataset="some/where.h5"), None, tmp_path)
    message = "--env-config=sc2 names no dataset; give env_args.dataset=NAME"
    with pytest.raises(ConfigError, match=message):
        find_dataset(make_args("bc", "sc2"), None, tmp_path)


@pytest.mark.parametrize("name", ["scripted", "hesitant", "medium"])
def test_datasets_that_are_made_need_a_simulator(without_game, tmp_path, name):
    settings = args(dataset=name, map_name="2s3z")
    with pytest.raises(DatasetError, match=r"without SMAX none can be made$"):
        find_dataset(settings, None, tmp_path)
    path = dataset(tmp_path, "smax", f"{name}-shipped-0a1b2c", "2s3z")
    with pytest.raises(DatasetError, match=f"; {path} was made with it: give its path$"):
        find_dataset(settings, None, tmp_path)
    settings = args(dataset=str(path), map_name="2s3z")
    assert find_dataset(settings, None, tmp_path).n_episodes == 4


def test_a_dataset_of_the_former_script_still_loads_with_a_warning(without_game, tmp_path, caplog):
    dataset(tmp_path, "smax", "scripted", full_state_script=True)
    data = find_dataset(args(map_name="3m", dataset="scripted"), None, tmp_path)
    assert data.n_episodes == 4
    assert "by the script of version 0.1, which sees the whole state" in caplog.text


@needs_smax
def test_datasets_that_are_made_have_the_rewards_of_the_game(without_game, tmp_path):
    dataset(tmp_path, "smax", "scripted", env_args={"map_name": "3m", "reward_scale": 10.0})
    small = dataset(tmp_path, "smax", "scripted-scale0.5")
    for scale, name in {10: "scripted.h5", True: "scripted.h5", 0.5: small.name}.items():
        settings = args(map_name="3m", dataset="scripted", reward_scale=scale)
        found = find_dataset(settings, make_smax("3m"), tmp_path)
        assert Path(found.path).name == name
    as_shipped, small = (
        recorders(args(map_name="2s3z"), smax.SMAX("2s3z", scale)) for scale in (10.0, 0.5)
    )
    assert as_shipped.keys() == small.keys()
    assert all(as_shipped[name].stem != small[name].stem for name in small)


def recorder(tmp_path: Path) -> dict[str, Recorder]:
    """Of `medium` on 3m: a recording is a copy."""
    source = dataset(tmp_path / "source", "smax", "medium")
    record = partial(shutil.copyfile, source)
    return {"medium": Recorder("medium-shipped-0a1b2c", record)}


def test_of_two_runs_the_second_waits_for_the_recording(without_game, tmp_path, caplog):
    settings, makers = args(map_name="3m", dataset="medium"), recorder(tmp_path)
    folder = tmp_path / "sc2" / "smax" / "3m"
    folder.mkdir(parents=True)
    caplog.set_level("INFO")
    found = []
    with FileLock(folder / ".medium-shipped-0a1b2c.lock"):
        load = partial(find_dataset, settings, None, tmp_path, makers)
        run = Thread(target=lambda: found.append(load()), daemon=True)
        run.start()
        told, end = "another process is recording it; waiting", time.monotonic() + 60
        while told not in caplog.text and run.is_alive() and time.monotonic() < end:
            time.sleep(0.01)
        assert told in caplog.text
        assert not found
    run.join(timeout=60)
    assert found[0].n_episodes == 4


def test_a_recording_that_cannot_be_written_names_its_file(without_game, tmp_path):
    folder = tmp_path / "sc2" / "smax" / "3m"
    (folder / ".medium-shipped-0a1b2c.lock").mkdir(parents=True)
    settings, makers = args(map_name="3m", dataset="medium"), recorder(tmp_path)
    with pytest.raises(StorageError, match=r"3m/medium-shipped-0a1b2c\.h5: a folder of that name"):
        find_dataset(settings, None, tmp_path, makers)


@needs_smax
@pytest.mark.parametrize(
    ("name", "made"),
    [("medium-shipped-0a1b2c", True), ("scripted", True), ("expert", False)],
)
def test_a_damaged_dataset_that_is_made_here_can_be_made_again(without_game, tmp_path, name, made):
    dataset(tmp_path, "smax", name).write_bytes(b"")
    settings = args(map_name="3m", dataset=name.partition("-")[0])
    with pytest.raises(DatasetError, match=r"\.h5: cannot be read as h5") as error:
        find_dataset(settings, make_smax("3m"), tmp_path, recorder(tmp_path))
    advice = "If the file is damaged, delete it: it is made when it is needed"
    assert (advice in str(error.value)) == made


def test_policies_need_both_of_their_files(without_game, tmp_path, monkeypatch):
    monkeypatch.setattr(policy_cards, "POLICIES", tmp_path)
    (tmp_path / "2s3z.yaml").write_text("datasets: {expert: [one]}\n...\n")
    resolved = resolve_dataset(args(map_name="2s3z"), tmp_path)
    assert resolved.env_args["dataset"] == "scripted"
    (tmp_path / "2s3z.pt").touch()
    resolved = resolve_dataset(args(map_name="2s3z"), tmp_path)
    assert resolved.env_args["dataset"] == "hesitant"
    damaged = {"policies: {one: {step: 0}}\ndatasets:\n...": "no datasets"}
    damaged["datasets:\n  expert:\n  - one"] = "its last line, `...`, is missing"
    for text, what in damaged.items():
        (tmp_path / "2s3z.yaml").write_text(text)
        with pytest.raises(ConfigError, match=rf"2s3z\.yaml is damaged: {what}; get that file"):
            resolve_dataset(args(map_name="2s3z"), tmp_path)


def test_a_shipped_card_that_is_cut_off_anywhere_is_refused(tmp_path, monkeypatch):
    card = (policy_cards.POLICIES / "2s3z.yaml").read_text()
    monkeypatch.setattr(policy_cards, "POLICIES", tmp_path)
    (tmp_path / "2s3z.pt").touch()
    for length in range(0, len(card.rstrip()) - 2, 97):
        (tmp_path / "2s3z.yaml").write_text(card[:length])
        with pytest.raises(ConfigError, match=r"2s3z\.yaml"):
            policy_cards.card_of("2s3z")
    for edited in (f"{card}# edited", card.replace("\n", "\r\n")):
        (tmp_path / "2s3z.yaml").write_bytes(edited.encode("utf-16"))
        assert policy_cards.card_of("2s3z")["map_name"] == "2s3z"


@needs_smax
@pytest.mark.parametrize(
    ("about", "message"),
    [
        # Nothing is known of where it was recorded: perhaps on StarCraft II.
        ({}, r"state_shape is 60, the environment's is 160.*test_nepisode=0 trains on it"),
        (
            {"simulator": "smax"},
            r"n_agents is 3.*recorded elsewhere: env_args.map_name was '3m', is '8m'",
        ),
    ],
)
def test_a_dataset_with_other_sizes_is_refused_with_the_reason(
    without_game, tmp_path, about, message
):
    path = dataset(tmp_path, "smax", "expert", **about)
    with pytest.raises(DatasetError, match=message):
        find_dataset(args(map_name="8m", dataset=str(path)), make_smax("8m"), tmp_path)


def test_downloaded_data_of_starcraft_is_named(without_game, tmp_path, caplog):
    """CFCQL's folder, without StarCraft II. SMAX cannot play it, but a run can train on it."""
    source = dataset(tmp_path / "x", "smax", "medium")
    downloaded = tmp_path / "offline_datasets" / "3m_medium.h5"
    downloaded.parent.mkdir()
    write_cfcql(load_dataset(source), downloaded)
    settings = args(map_name="3m", dataset="medium")
    message = f"{downloaded} is of StarCraft II: env_args.simulator=starcraft2 test_nepis"
    with pytest.raises(DatasetError, match=message):
        find_dataset(settings, None, tmp_path)
    assert resolve_dataset(args(map_name="3m"), tmp_path).env_args["dataset"] == "scripted"
    told = f"{downloaded} is of StarCraft II, not of SMAX"
    assert told in caplog.text
    # SMAX's own dataset of that name is not taken in silence.
    caplog.clear()
    assert find_dataset(settings, None, tmp_path, recorder(tmp_path)).n_episodes == 4
    assert told in caplog.text
    settings = args(map_name="3m", simulator="starcraft2", dataset="medium")
    assert find_dataset(settings, None, tmp_path).n_episodes == 4


def test_without_a_dataset_starcraft_tells_two_ways_to_get_one(with_game, tmp_path):
    message = r"(?s)Two ways to get one:.*collect.py.*dataset.py fetch"
    for name in ("auto", "medium"):
        settings = args(map_name="3m", dataset=name)
        with pytest.raises(DatasetError, match=message):
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


@needs_smax
def test_training_alone_never_imports_jax_and_all_records_name_the_simulator(tmp_path, monkeypatch):
    """test_nepisode=0 and an existing dataset, with a jax that cannot be imported.

    The dataset's sizes are compared with the map's, which are therefore known without jax.
    """
    dataset(tmp_path / "data", "smax", "medium")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "jax.py").write_text("raise RuntimeError('jax was imported')")
    settings = [
        "env_args.map_name=3m",
        "env_args.simulator=smax",
        "test_nepisode=0",
        "t_max=4",
        "log_interval=2",
        "use_tensorboard=False",
        f"dataset_root={tmp_path / 'data'}",
        "local_results_path=results",
    ]
    command = ["--config=bc", "--env-config=sc2_offline", "with", *settings]
    process = main_command(*command, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stderr.count("THE SIMULATOR IS SMAX, NOT STARCRAFT II") == 2
    run = next((tmp_path / "results").glob("bc_sc2_offline_smax-3m_medium_seed0_*"))
    labels = [(row["step"], row["simulator"], row["map_name"]) for row in metrics(run)]
    assert labels == [("2", "smax", "3m"), ("4", "smax", "3m")]
    for file in ("run_info.json", "summary.json", "config.json"):
        assert json.loads((run / file).read_text())["env_args"]["simulator"] == "smax"
    recorded = json.loads((run / "metrics.json").read_text())  # sacred's
    assert recorded["simulator"]["values"] == ["smax"]
    assert recorded["map_name"]["values"] == ["3m"]
    assert "THE SIMULATOR IS SMAX" in (run / "run.log").read_text()
