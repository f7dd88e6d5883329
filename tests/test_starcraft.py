"""StarCraft II as far as it can be tested without the game: against a double of SMAC, with true processes."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from conftest import PROJECT, make_data
from smac_double import Double, is_alive

from inspo.envs.sc2 import starcraft, starcraft_install
from inspo.envs.sc2.starcraft import StarCraft
from inspo.envs.sc2.starcraft_game import Game
from inspo.envs.sc2.starcraft_worker import game_version
from inspo.runners.batch_runner import BatchRunner
from inspo.utils.errors import ConfigError, SimulatorError

WAIT, DIE, HIT = [1, 1], [2, 2], [6, 6]


@pytest.fixture
def double(tmp_path, monkeypatch):
    made = Double(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(made.path)
    monkeypatch.setattr(starcraft, "LAUNCH_GAP_SECONDS", 0.05)
    monkeypatch.setattr(starcraft, "BACK_OFF_SECONDS", 0.05)
    yield made
    assert made.all_gone()


@pytest.fixture
def make(double):
    """Makes environments, and closes them and their batches after the test."""
    opened = []

    def make(n_envs=None, **env_args):
        env = StarCraft(**{"start_timeout": 20, "step_timeout": 20, **env_args})
        opened.append(env)
        if n_envs is None:
            return env
        opened.append(env.make_batch(n_envs))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def worker_tree(game) -> list[psutil.Process]:
    """Guard, player, and what stands for StarCraft II."""
    guard = psutil.Process(game.guard.pid)
    player = guard.children()[0]
    return [guard, player, *player.children()]


def test_interface_and_how_episodes_end(make, double):
    env = make()
    assert double.games() == {}  # sizes are known without a game
    assert env.get_env_info() == {
        "n_agents": 2, "n_actions": 7, "obs_shape": 4, "state_shape": 3, "episode_limit": 5
    }  # fmt: skip
    assert env.provenance() == {"simulator": "starcraft2", "game_version": "Base75689"}
    obs = env.reset(seed=42)
    np.testing.assert_array_equal(obs, [[0, 4, 42, 1]] * 2)
    assert obs.dtype == env.get_state().dtype == np.float32
    assert env.get_avail_actions().dtype == bool
    with pytest.raises(
        ValueError, match=r"agent 1 cannot take action 3; available to it: \[1, 2, 6\]"
    ):
        env.step([1, 3])
    ends = {}
    for name, plan in {
        "won": [HIT] * 2,
        "lost": [DIE],
        "time": [WAIT] * 5,
        "late": [WAIT] * 3 + [HIT] * 2,
    }.items():
        if name != "won":  # the episode that has begun
            env.reset()
        for number, actions in enumerate(plan):
            obs, _, terminated, truncated, info = env.step(actions)
            assert (terminated or truncated) == (number == len(plan) - 1)
        ends[name] = (terminated, truncated, info["battle_won"], info["crashed"])
    assert ends["won"] == ends["late"] == (True, False, True, False)
    assert ends["lost"] == (True, False, False, False)
    assert ends["time"] == (False, True, False, False)
    assert len(double.games()) == 1
    assert next(iter(double.games().values()))[0] == "42"


@pytest.mark.parametrize("continuing_episode", [True, False])
def test_a_battle_lost_at_the_limit_is_terminated(make, continuing_episode):
    env = make(continuing_episode=continuing_episode)
    for last, truncated in ((DIE, False), ([1, 2], True)):
        env.reset()
        for actions in [WAIT] * 4:
            env.step(actions)
        assert env.step(last)[2:4] == (not truncated, truncated)


def test_an_abandoned_first_episode_leaves_no_second_game(make, double):
    env = make()
    env.reset()
    env.reset()  # SMAC would launch anew here
    assert len(double.games()) == 2
    assert len(double.alive()) == 1


class Script:
    """Every agent always takes the same action, if it can."""

    def __init__(self, action):
        self.action = action

    def start(self, env):
        pass

    def act(self, obs, avail_actions, last_actions):
        return np.where(avail_actions[..., self.action], self.action, 0)


def test_more_episodes_than_games_are_played_in_rounds(make, double):
    lanes = make(n_envs=32, n_workers=3)
    assert lanes.n_envs == 3
    rollouts = list(BatchRunner(lanes).play(Script(6), n_episodes=7, seed=100, record=True))
    assert [len(rollout.lengths) for rollout in rollouts] == [3, 3, 3]
    assert {seed for seed, _ in double.games().values()} == {"100", "101", "102"}
    for rollout in rollouts:
        assert (rollout.lengths == 2).all()
        assert (rollout.returns == 40).all()
        assert rollout.battle_won.all()
        np.testing.assert_array_equal(rollout.rows["obs"][:, :, 0, 1], [[4, 2, 0]] * 3)
        np.testing.assert_array_equal(rollout.rows["state"][:, :, 0], [[0, 1, 2]] * 3)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("raise", "OSError: the zerg ate the cable"),
        ("die", "its process died; it printed:\nsegmentation fault of a kind"),
        ("hang", "no answer in time"),
        ("lost", "StarCraft II was lost in mid-episode"),
    ],
)
def test_a_game_that_fails_in_mid_episode_is_dropped_and_restarted(
    make, double, caplog, kind, words
):
    lanes = make(n_envs=2)
    lanes.reset(0)
    lanes.step([WAIT, WAIT])
    before = lanes.get_obs()
    double.trouble("step", kind)
    lanes.env.step_timeout = 2 if kind == "hang" else 20
    reward, terminated, truncated, info = lanes.step([HIT, HIT])
    assert words in caplog.text
    (lost,) = np.flatnonzero(info["crashed"])
    assert truncated[lost]
    assert not terminated.any()
    assert reward[lost] == 0
    assert reward[1 - lost] == 20
    np.testing.assert_array_equal(lanes.playing, ~info["crashed"])
    np.testing.assert_array_equal(lanes.get_obs()[lost], before[lost])
    assert len(double.alive()) == 1  # the broken game is gone at once
    lanes.step([HIT, HIT])  # the other one goes on
    assert not lanes.playing.any()
    played = list(BatchRunner(lanes).play(Script(6), n_episodes=2, seed=0))
    assert [len(rollout.lengths) for rollout in played] == [2]
    assert len(double.games()) == 3


@pytest.mark.parametrize("kind", ["die", "restart"])
def test_a_failed_start_is_tried_again(make, double, caplog, kind):
    env = make()
    double.trouble("reset", kind, times=2)
    env.reset(seed=0)
    assert caplog.text.count("did not start (try") == 2
    assert env.step(HIT)[1] == 20
    assert len(double.alive()) == 1


def test_a_game_that_never_starts_is_an_error_with_its_words(make, double):
    double.trouble("reset", "raise", times=99)
    env = make(start_retries=1)
    with pytest.raises(
        SimulatorError, match=r"did not start in 2 tries(.|\n)*OSError: the zerg ate the cable"
    ):
        env.reset()
    assert len(double.games()) == 2
    assert double.alive() == []


def test_a_start_that_takes_too_long_is_given_up(make, double):
    env = make(start_retries=0)
    env.start_timeout = 1.0
    double.trouble("reset", "hang")
    with pytest.raises(SimulatorError, match="no answer in time"):
        env.reset()
    assert double.all_gone()


def test_smac_refuses_its_arguments(double):
    with pytest.raises(SimulatorError, match="ValueError: step_mul must not be 0"):
        StarCraft(step_mul=0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"start_timeout": 0}, "start_timeout is 0"),
        ({"n_workers": 0}, "n_workers is 0"),
        ({"step_timeout": "x"}, "'x'"),
        ({"game_version": 4.10}, "needs quotes"),
    ],
)
def test_wrong_settings_are_refused(double, wrong, words):
    with pytest.raises(ValueError, match=words):
        StarCraft(**wrong)


def test_closing_leaves_nothing(make, double):
    lanes = make(n_envs=2)
    lanes.reset(0)
    processes = [process.pid for game in lanes.games for process in worker_tree(game)]
    assert len(processes) == 6
    assert all(map(is_alive, processes))
    lanes.close()
    assert double.all_gone(*processes, seconds=0)


@pytest.mark.parametrize("victim", [0, 1], ids=["guard", "player"])
def test_kill_9_of_a_worker_ends_its_game(make, double, victim):
    """The project's process need not even look."""
    lanes = make(n_envs=1)
    lanes.reset(0)
    processes = [process.pid for process in worker_tree(lanes.games[0])]
    os.kill(processes[victim], signal.SIGKILL)
    assert double.all_gone(*processes)
    assert lanes.step([WAIT])[3]["crashed"].all()
    lanes.reset(0)
    assert (lanes.step([HIT])[0] == 20).all()


PARENT = """
import logging, sys
from inspo.envs.sc2.starcraft import StarCraft
logging.basicConfig(level=logging.INFO)
lanes = StarCraft().make_batch(2)
lanes.reset(0)
print("playing", flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("then", "number"),
    [
        ("lanes.step([[1, 1]] * 2); import time; time.sleep(600)", signal.SIGKILL),
        ("lanes.step([[1, 1]] * 2)", signal.SIGKILL),  # while a game hangs
        ("", None),  # the program just ends, and closes nothing
    ],
)
def test_nothing_survives_the_project(double, then, number):
    if number and "sleep" not in then:
        double.trouble("step", "hang")
    environment = {
        **os.environ,
        **double.environment,
        "PYTHONPATH": f"{double.path}:{PROJECT / 'src'}",
    }
    command = [sys.executable, "-c", PARENT.format(then=then)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "playing\n"
        family = [process.pid for process in psutil.Process(parent.pid).children(recursive=True)]
        if number:
            time.sleep(0.3)
            parent.send_signal(number)
    assert double.all_gone(*family)
    assert len(double.games()) == 2


def test_an_interrupt_in_mid_step_costs_the_episode_and_no_time(make, double, monkeypatch):
    lanes = make(n_envs=2)
    lanes.reset(0)
    double.trouble("step", "hang")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Game, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lanes.step([HIT, HIT])
    lanes.reset(0)
    np.testing.assert_array_equal(
        lanes.get_state(), [[0, 4, 2]] * 2
    )  # no answer to the step is taken for the reset's
    assert len(double.games()) == 4


def test_replays_are_saved_when_games_are_closed(make, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    lanes = make(n_envs=2, replay_dir="films")
    lanes.reset(0)
    lanes.close()
    files = sorted((tmp_path / "films").iterdir())
    assert [file.name for file in files] == ["2s3z_game0_now.SC2Replay", "2s3z_game1_now.SC2Replay"]
    for file in files:
        assert str(file) in caplog.text


def test_installed_says_what_is_missing(double, tmp_path, monkeypatch):
    installed = starcraft_install.installed
    assert installed() == ""

    package = double.path / "smac"
    (package / "env").rename(tmp_path / "env")
    assert "not the StarCraft Multi-Agent Challenge" in installed()
    (package / "facade").mkdir()  # what PyPI's package looks like
    assert "hyper-parameter optimiser" in installed()
    assert "oxwhirl/smac" in installed()
    package.rename(tmp_path / "elsewhere")
    assert "`smac` is not installed" in installed()

    for file in starcraft_install.map_folder().iterdir():
        file.unlink()
    assert f"maps are not in {double.game}/Maps/SMAC_Maps" in installed()
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nowhere"))
    told = installed()
    assert f"the game is not in {tmp_path / 'nowhere'}" in told
    assert "docker/install_sc2.sh" in told
    with pytest.raises(SimulatorError, match="cannot be played: the game is not in"):
        StarCraft()


def test_a_missing_map_names_the_place_and_the_maps(double):
    with pytest.raises(
        ConfigError, match=r"SMAC_Maps/2s3x.SC2Map; did you mean '2s3z'\?; there are: 2s3z, 3m"
    ):
        StarCraft(map_name="2s3x")


def test_version_is_the_one_that_pysc2_starts(monkeypatch):
    """With a double of pysc2's run configurations."""
    known = {name: SimpleNamespace(game_version=name, build_version=build)
             for name, build in (("4.10.0", 75689), ("4.11.0", 77379), ("4.11.2", 77379))}  # fmt: skip
    started = {None: ("latest", 75689), "4.11": ("4.11.0", 77379), "6": ("latest", 99999)}

    def get(version):
        name, build = started[version]
        return SimpleNamespace(version=SimpleNamespace(game_version=name, build_version=build))

    lib = SimpleNamespace(VERSIONS=known)
    run_configs = SimpleNamespace(get=get, lib=lib)
    monkeypatch.setitem(sys.modules, "pysc2", SimpleNamespace(run_configs=run_configs))
    monkeypatch.setitem(sys.modules, "pysc2.run_configs", run_configs)
    monkeypatch.setitem(sys.modules, "pysc2.run_configs.lib", lib)
    assert [game_version(wanted) for wanted in started] == [
        "4.10.0.75689",
        "4.11.0.77379",
        "Base99999",
    ]


def test_a_dataset_of_another_simulator_or_version_is_noticed():
    data = make_data()
    here = {"simulator": "starcraft2", "game_version": "4.10.0.75689"}
    assert data.made_elsewhere("test", {}, here) == ""  # it does not say
    data.metadata |= {**here, "env_args": {"simulator": "auto", "n_workers": 2, "step_mul": 8}}
    env_args = {"simulator": "starcraft2", "n_workers": 8, "step_mul": 8}
    assert data.made_elsewhere("test", env_args, here) == ""
    assert (
        data.made_elsewhere("test", {**env_args, "step_mul": 4}, here)
        == "env_args.step_mul was 8, is 4"
    )
    told = data.made_elsewhere(
        "test", env_args, {"simulator": "smax", "game_version": "jaxmarl 0.2.0"}
    )
    assert (
        told == "simulator was starcraft2, is smax; game_version was 4.10.0.75689, is jaxmarl 0.2.0"
    )


@pytest.mark.skipif(
    shutil.which("unzip") is None or sys.platform != "linux", reason="needs Linux and unzip"
)
def test_the_install_script_puts_game_and_maps_where_they_are_found(tmp_path, monkeypatch):
    """With archives of the true layout, but without encryption."""
    program = tmp_path / "game" / "StarCraftII" / "Versions" / "Base75689" / "SC2_x64"
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    (tmp_path / "maps" / "SMAC_Maps").mkdir(parents=True)
    (tmp_path / "maps" / "SMAC_Maps" / "2s3z.SC2Map").touch()
    archives = {
        name: shutil.make_archive(str(tmp_path / name), "zip", tmp_path / name)
        for name in ("game", "maps")
    }
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SC2_ARCHIVE": archives["game"],
    }

    def install(**settings):
        script = PROJECT / "docker" / "install_sc2.sh"
        return subprocess.run(
            [script], env={**environment, **settings}, capture_output=True, text=True
        )

    monkeypatch.setenv("SC2PATH", str(tmp_path / "StarCraftII"))
    assert "set SC2_PASSWORD" in install().stderr
    wrong = install(SC2_PASSWORD="x", SC2_ARCHIVE=archives["maps"])
    assert wrong.returncode == 1
    assert "does not hold version 4.10" in wrong.stderr
    assert "the game is not in" in starcraft_install.installed()
    for _ in range(2):  # the second time, there is nothing left to do
        done = install(SC2_PASSWORD="x", MAPS_ARCHIVE=archives["maps"])
        assert done.returncode == 0, done.stderr
        assert "4.10 with 1 SMAC maps" in done.stdout
    assert starcraft_install.map_names() == ["2s3z"]
    assert "the game is not in" not in starcraft_install.installed()
    assert os.access(tmp_path / "StarCraftII/Versions/Base75689/SC2_x64", os.X_OK)
