"""The command that plays an environment and reports everything that is wrong with it."""

import habits
import numpy as np
import pytest

from inspo.check_env import main


@pytest.fixture
def check(tmp_path, capsys):
    """Runs the command on a class of habits.py. Returns status, output and errors."""

    def run(name, *words):
        file = tmp_path / "game.yaml"
        file.write_text(f"env: habits:{name}\n")
        status = main([str(file), "--episodes=10", "--games=3", *words])
        return status, *capsys.readouterr()

    return run


def test_a_sound_environment(check):
    status, text, _ = check("Counter")
    assert status == 0
    assert "n_agents 2, n_actions 3, obs_shape 2, state_shape 3, episode_limit 10" in text
    assert "12 random episodes, 3 games side by side" in text
    assert "length 4.0 (4 to 4), 12 terminated, 0 truncated" in text
    assert "steps per second" in text
    assert text.endswith("No problems\n")


def test_the_projects_own_games_pass(capsys):
    assert main(["xor_offline"]) == 0
    assert "No problems" in capsys.readouterr().out


def test_starcraft_ii_need_not_repeat_episodes(double, capsys):
    words = ["with", "env_args.simulator=starcraft2"]
    assert main(["sc2", "--episodes=2", "--games=1", *words]) == 0
    text = capsys.readouterr().out
    assert "2 random episodes, 1 games side by side" in text
    assert "Remark: the same seed does not repeat an episode" in text
    assert "No problems" in text


class ManyProblems(habits.Counter):
    """Several things at once."""

    def reward(self, actions):
        return float("nan") if self.t == 2 else 0.0

    def get_obs(self):
        return [[0.0], [float("inf"), 1.0]]

    def get_avail_actions(self):
        return [[1, 1, 1], [0, 0, 0]]

    def step(self, actions):
        reward, over, _ = super().step(actions)
        return reward, ["yes", over], {"battle_won": 7}


def test_all_problems_are_told_at_once(check, monkeypatch):
    monkeypatch.setattr(habits, "ManyProblems", ManyProblems, raising=False)
    status, text, _ = check("ManyProblems")
    assert status == 1
    for problem in (
        "get_obs() for agent 0 (step 0 of the episode with seed 0): returned [0.0]; expected 2",
        "get_obs() for agent 1 (step 0 of the episode with seed 0): returned NaN",
        "get_avail_actions() for agent 1 (step 0 of the episode with seed 0): no action",
        "step() (step 1 of the episode with seed 0): terminated is ['yes', False]",
        "step() (step 1 of the episode with seed 0): info['battle_won'] is 7, not a flag",
        "step() (step 2 of the episode with seed 0): the reward is nan",
        "times]",
    ):
        assert problem in text
    assert text.endswith("6 problems\n")


class OwnLuck(habits.Counter):
    """Has a random generator of its own, which no seed reaches."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng()

    def reward(self, actions):
        return self.rng.random()


class SharedState(habits.Counter):
    """All games count together."""

    played = [0]  # noqa: RUF012

    def reset(self, seed=None):
        if seed == 0:
            self.played[0] = 0
        return super().reset()

    def reward(self, actions):
        self.played[0] += 1
        return float(self.played[0])


class Failing(habits.Counter):
    def reward(self, actions):
        return {}["missing"]


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (OwnLuck, "the same seed twice: reward differs at step 0 of game 0"),
        (SharedState, "one game alone and beside others: reward differs at step 0 of game 2"),
        (Failing, "step() (step 1 of the episode with seed 0): raised KeyError: 'missing' ("),
    ],
)
def test_what_shows_only_in_play(check, monkeypatch, cls, problem):
    monkeypatch.setattr(habits, cls.__name__, cls, raising=False)
    status, text, _ = check(cls.__name__)
    assert status == 1
    assert f"Problem: reset(seed): {problem}" in text or f"Problem: {problem}" in text


class Remarkable(habits.Counter):
    """Nothing of it need be wrong."""

    def __init__(self):
        super().__init__(steps=10)

    def get_state(self):
        return [255, 0, 0]

    def get_avail_actions(self):
        return [[1, 0, 1], [1, 1, 1]]


def test_remarks_are_no_problems(check, monkeypatch):
    monkeypatch.setattr(habits, "Remarkable", Remarkable, raising=False)
    status, text, _ = check("Remarkable")
    assert status == 0
    assert "Remark: episodes that reach the time limit are terminated, not truncated" in text
    assert "Remark: state holds numbers up to 255" in text
    assert "Remark: never available to agent 0: actions 1" in text


def test_wrong_input(check, capsys):
    status, _, errors = check("NoLimit")
    assert status == 2
    assert "set env_args.episode_limit" in errors
    assert main(["no_such_game"]) == 2
    assert "there is no such environment" in capsys.readouterr().err
    assert check("Counter", "with", "env_args.stps=2")[0] == 2
    assert check("Counter", "with", "env_args.steps=2")[0] == 0
