"""StarCraft II without the game: real processes, with a double of SMAC."""

import logging
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from conftest import make_data
from smac_double import is_alive

from inspo.envs.sc2 import starcraft
from inspo.envs.sc2.starcraft import StarCraft
from inspo.envs.sc2.starcraft_game import WORKER, Game, GameProcessError
from inspo.runners.batch_runner import BatchRunner
from inspo.utils.errors import ConfigError, SimulatorError

WAIT, DIE, HIT = [1, 1], [2, 2], [6, 6]


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


def test_interface(make, double):
    env = make()
    assert double.games() == {}  # sizes are known without a game
    sizes = {"n_agents": 2, "n_actions": 7, "obs_shape": 4, "state_shape": 3, "episode_limit": 5}
    assert env.get_env_info() == sizes
    assert env.provenance() == {"simulator": "starcraft2", "game_version": "4.10.0.75689"}
    obs = env.reset(seed=42)
    np.testing.assert_array_equal(obs, [[0, 4, 42, 1]] * 2)
    assert obs.dtype == env.get_state().dtype == np.float32
    assert env.get_avail_actions().dtype == bool
    message = r"agent 1 cannot take action 3; available to it: \[1, 2, 6\]"
    with pytest.raises(ValueError, match=message):
        env.step([1, 3])
    assert [seed for seed, _ in double.games().values()] == ["42"]


def test_how_episodes_end(make, double):
    env = make()
    plans = {
        "won": [HIT] * 2,
        "lost": [DIE],
        "time": [WAIT] * 5,
        "late": [WAIT] * 3 + [HIT] * 2,
    }
    ends = {}
    for name, plan in plans.items():
        env.reset()
        for number, actions in enumerate(plan):
            _, _, terminated, truncated, info = env.step(actions)
            assert (terminated or truncated) == (number == len(plan) - 1)
        ends[name] = (terminated, truncated, info["battle_won"], info["crashed"])
    assert ends["won"] == ends["late"] == (True, False, True, False)
    assert ends["lost"] == (True, False, False, False)
    assert ends["time"] == (False, True, False, False)
    assert len(double.games()) == 1


@pytest.mark.parametrize("continuing_episode", [True, False])
def test_a_battle_lost_at_the_limit_is_terminated(make, continuing_episode):
    env = make(continuing_episode=continuing_episode)
    # Agent 1 only heals: a battle without agent 0 is lost.
    for last, truncated in ((DIE, False), ([1, 2], True), ([2, 1], False)):
        env.reset()
        for actions in [WAIT] * 4:
            env.step(actions)
        assert env.step(last)[2:4] == (not truncated, truncated)


def test_an_abandoned_first_episode_leaves_no_second_game(make, double):
    env = make()
    env.reset()
    env.reset()  # SMAC would start a second game here
    assert len(double.games()) == 2
    assert len(double.alive()) == 1
    assert env.step(HIT)[1] == 20  # and would count the enemies' health twice: 16


class Script:
    """Every agent always takes the same action, if it can."""

    def __init__(self, action):
        self.action = action

    def start(self, env):
        pass

    def act(self, obs, avail_actions, last_actions):
        return np.where(avail_actions[..., self.action], self.action, 0)


def test_more_episodes_than_games_are_played_in_rounds(make, double):
    env = make(n_envs=32, n_workers=3)
    assert env.n_envs == 3
    rollouts = list(BatchRunner(env).play(Script(6), n_episodes=7, seed=100, record=True))
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
        ("lost", "GameLostError: StarCraft II was lost: the cable fell out"),
    ],
)
def test_a_game_that_fails_during_an_episode_is_replaced(make, double, caplog, kind, words):
    env = make(n_envs=2)
    env.reset(0)
    env.step([WAIT, WAIT])
    before = env.get_obs()
    double.trouble("step", kind)
    env.env.step_timeout = 2 if kind == "hang" else 20
    reward, terminated, truncated, info = env.step([HIT, HIT])
    assert words in caplog.text
    (lost,) = np.flatnonzero(info["crashed"])
    assert truncated[lost]
    assert not terminated.any()
    assert (reward[lost], reward[1 - lost]) == (0, 20)
    np.testing.assert_array_equal(env.playing, ~info["crashed"])
    np.testing.assert_array_equal(env.get_obs()[lost], before[lost])
    assert len(double.alive()) == 1  # the broken game is gone at once
    env.step([HIT, HIT])  # the other one continues
    assert not env.playing.any()
    played = list(BatchRunner(env).play(Script(6), n_episodes=2, seed=0))
    assert [len(rollout.lengths) for rollout in played] == [2]
    assert len(double.games()) == 3  # SMAC started none by itself


@pytest.mark.parametrize("kind", ["die", "restart"])
def test_a_failed_start_is_tried_again(make, double, caplog, kind):
    env = make()
    double.trouble("reset", kind, times=2)
    env.reset(seed=0)
    assert caplog.text.count("did not start (try") == 2
    assert env.step(HIT)[1] == 20
    assert len(double.alive()) == 1


def test_a_game_that_never_starts_is_an_error_with_its_output(make, double):
    double.trouble("reset", "raise", times=99)
    env = make(start_retries=1)
    message = (
        r"(?s)did not start in 2 tries\. The last.*OSError: the zerg ate the cable; it printed:"
        r"\na word of the zerg"
    )
    with pytest.raises(SimulatorError, match=message):
        env.reset()
    assert len(double.games()) == 2
    assert double.alive() == []


class NeverStarts:
    """A game that fails like the others, on a port and in a folder of its own."""

    ports = iter(range(30000, 40000))
    unanswered = 0

    def __init__(self, smac_args):
        pass

    def send(self, *request):
        pass

    def receive(self, timeout):
        port = next(self.ports)
        raise GameProcessError(f"Failed: ['-port', '{port}', '/tmp/sc-{port}/']; no lib.so")

    def kill(self):
        pass


def test_what_no_game_survives_is_logged_once(make, caplog, monkeypatch):
    games = make(start_retries=1).make_batch(3)
    monkeypatch.setattr(starcraft, "Game", NeverStarts)
    with pytest.raises(SimulatorError, match=r"in 2 tries\. The last failure: .*no lib.so"):
        games.reset(0)
    first, second = [record.getMessage() for record in caplog.records if record.levelname != "INFO"]
    assert first.startswith("Games 0, 1, 2 did not start (try 1): Failed: ['-port', '30000'")
    assert second == "Games 0, 1, 2 did not start (try 2): as before"


def test_a_game_that_ended_at_once_was_running():
    """pysc2 waits half a minute for a game that it has never seen running."""
    program = """if True:
        import os, subprocess, starcraft_worker
        starcraft_worker._let_children_die_with_this_process()
        game = subprocess.Popen(["false"])
        os.waitid(os.P_PID, game.pid, os.WEXITED | os.WNOWAIT)
        print(game.poll(), game.poll())
    """
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, cwd=WORKER.parent, capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["None", "1"]


def test_an_interrupt_before_the_start_leaves_nothing(make, tmp_path, monkeypatch):
    env, scratch = make(), tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    monkeypatch.setattr("inspo.envs.sc2.starcraft_game.fast_messages", interrupt)
    with pytest.raises(KeyboardInterrupt):
        env.make_batch(1).reset(0)
    assert list(scratch.iterdir()) == []


def interrupt():
    raise KeyboardInterrupt


def test_a_start_that_takes_too_long_is_given_up(make, double):
    env = make(start_retries=0)
    env.start_timeout = 1.0
    double.trouble("reset", "hang")
    with pytest.raises(SimulatorError, match="no answer in time"):
        env.reset()
    assert double.all_gone()


def test_the_time_step_is_the_last_column_of_observations(make):
    env = make(obs_timestep_number=True, obs_instead_of_state=True)
    env.reset(seed=42)
    env.step(WAIT)
    assert env.obs_shape == 5
    np.testing.assert_allclose(env.get_obs(), [[1, 4, 42, 1, 0.2]] * 2)  # SMAC's have a 0 before it
    np.testing.assert_allclose(env.get_state(), [1, 4, 42, 1, 0.2] * 2)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            {"start_timeout": 0, "n_workers": 0},
            "env_args.start_timeout is 0; it must be a number above 0; "
            "env_args.n_workers is 0; it must be at least 1",
        ),
        ({"step_timeout": "x"}, "env_args.step_timeout is 'x'; it must be a number"),
        ({"step_mul": 8.5}, "env_args.step_mul is 8.5; it must be a whole number"),
        ({"obs_last_action": "no"}, "env_args.obs_last_action is 'no'; it must be True or False"),
        ({"move_amount": 2.5, "obs_pathing_grid": True}, "SMAC needs a whole number"),
        ({"game_version": 4.10}, "needs quotes"),
        ({"difficulty": "11"}, "env_args.difficulty is '11'; it must be one of 1, 2, "),
        ({"replay_prefix": "a/b"}, "'a/b'; it is part of the files' names"),
        ({"replay_dir": "/proc/films"}, "env_args.replay_dir=/proc/films: cannot be written to"),
        ({"reward_win": -1}, "SMAC refuses its arguments: ValueError: reward_win must not"),
        ({"map_name": "mine"}, "env_args.map_name=mine: SMAC has no such map"),
        (
            {"game_version": "5.0"},
            "env_args.game_version=5.0: pysc2 cannot start the game: Un",
        ),
    ],
)
def test_wrong_settings_are_one_line_before_any_game(double, wrong, words):
    (double.game / "Maps" / "SMAC_Maps" / "mine.SC2Map").touch()
    with pytest.raises(ConfigError) as error:
        StarCraft(**wrong)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert double.games() == {}


def test_closing_leaves_nothing(make, double):
    env = make(n_envs=2)
    env.reset(0)
    processes = [process.pid for game in env.games for process in worker_tree(game)]
    assert len(processes) == 6
    assert all(map(is_alive, processes))
    env.close()
    assert double.all_gone(*processes, seconds=0)


def test_wrong_actions_are_refused_before_any_game_steps(make):
    env = make(n_envs=2)
    env.reset(0)
    for actions, words in (
        ([WAIT, [3, 1]], "game 1: agent 0 cannot take action 3; available to it: [1, 2, 6]"),
        ([WAIT, [1, -1]], "game 1: agent 1 cannot take action -1"),
        ([[7, 1], WAIT], "game 0: agent 0 cannot take action 7"),
        ([WAIT], "expected actions of shape (2, 2), got (1, 2)"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            env.step(actions)
    env.step([HIT, HIT])
    np.testing.assert_array_equal(env.get_state()[:, 0], [1, 1])  # the first step of both
    env.step([HIT, HIT])
    assert not env.playing.any()
    env.step([[9, 9], [9, 9]])  # games that are over take none


@pytest.mark.parametrize("victim", [0, 1], ids=["guard", "player"])
def test_kill_9_of_a_worker_ends_its_game(make, double, victim):
    """Without any action of the project's process."""
    env = make(n_envs=1)
    env.reset(0)
    processes = [process.pid for process in worker_tree(env.games[0])]
    os.kill(processes[victim], signal.SIGKILL)
    assert double.all_gone(*processes)
    assert env.step([WAIT])[3]["crashed"].all()
    env.reset(0)
    assert (env.step([HIT])[0] == 20).all()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a signal that only Linux has")
def test_kill_9_of_all_workers_at_once_ends_the_game(make, double):
    env = make(n_envs=1)
    env.reset(0)
    guard, player, game = worker_tree(env.games[0])
    for process in (guard, player):
        process.suspend()  # they have no time to notice
    for process in (guard, player):
        process.kill()
    psutil.wait_procs([game], timeout=10)
    assert double.alive() == []
    env.close()  # removes the folder


PARENT = """
import logging, sys
from inspo.envs.sc2.starcraft import StarCraft
logging.basicConfig(level=logging.INFO)
env = StarCraft().make_batch(2)
env.reset(0)
print("playing", flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("then", "number"),
    [
        ("env.step([[1, 1]] * 2); import time; time.sleep(600)", signal.SIGKILL),
        ("env.step([[1, 1]] * 2)", signal.SIGKILL),  # while a game hangs
        ("", None),  # the program ends without closing anything
    ],
)
def test_nothing_survives_the_project(double, then, number):
    if number and "sleep" not in then:
        double.trouble("step", "hang")
    command = [sys.executable, "-c", PARENT.format(then=then)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "playing\n"
        family = [process.pid for process in psutil.Process(parent.pid).children(recursive=True)]
        if number:
            time.sleep(0.3)
            parent.send_signal(number)
    assert double.all_gone(*family)
    assert len(double.games()) == 2


def test_an_interrupt_during_a_step_only_loses_the_episode(make, double, monkeypatch):
    env = make(n_envs=2)
    env.reset(0)
    double.trouble("step", "hang")

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Game, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            env.step([HIT, HIT])
    env.reset(0)
    # The answer to the step is not taken for the answer to the reset.
    np.testing.assert_array_equal(env.get_state(), [[0, 4, 2]] * 2)
    assert len(double.games()) == 4


def test_replays_are_saved_when_games_are_closed(make, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    env = make(n_envs=2, replay_dir="films")
    env.reset(0)
    env.close()
    files = sorted((tmp_path / "films").iterdir())
    assert [file.name for file in files] == ["2s3z_game0_now.SC2Replay", "2s3z_game1_now.SC2Replay"]
    for k, file in enumerate(files):
        assert f"Game {k}'s replay: {file}\n" in caplog.text


def test_a_dataset_of_another_simulator_or_version_is_noticed():
    data = make_data()
    here = {"simulator": "starcraft2", "game_version": "4.10.0.75689"}
    assert data.made_elsewhere("test", {}, here) == ""  # it does not say
    data.metadata |= {**here, "env_args": {"simulator": "auto", "n_workers": 2, "step_mul": 8}}
    env_args = {"simulator": "starcraft2", "n_workers": 8, "step_mul": 8}
    assert data.made_elsewhere("test", env_args, here) == ""
    changes = data.made_elsewhere("test", {**env_args, "step_mul": 4}, here)
    assert changes == "env_args.step_mul was 8, is 4"
    smax = {"simulator": "smax", "game_version": "jaxmarl 0.2.0"}
    assert data.made_elsewhere("test", env_args, smax) == (
        "simulator was starcraft2, is smax; game_version was 4.10.0.75689, is jaxmarl 0.2.0"
    )
