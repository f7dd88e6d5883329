"""The real packages `smac` and `pysc2`, with a fake of the game that speaks its protocol.

`tests/compare_with_smac.py` plays many more maps and settings.
"""

import importlib.util
import os
from pathlib import Path

import numpy as np
import psutil
import pytest
from compare_with_smac import CASES, compare, ends, install_fake
from conftest import PROJECT
from smac_double import is_alive

from inspo.envs.sc2 import starcraft
from inspo.envs.sc2.starcraft import StarCraft
from inspo.envs.sc2.starcraft_messages import fast_messages
from inspo.utils.errors import ConfigError, SimulatorError

FAKE = PROJECT.parent / "shared" / "tools" / "fake_sc2" / "fake_sc2.py"
PACKAGES = ("smac", "pysc2")


class FakeGames:
    """The processes of the fake game that were started, and the folders of their workers."""

    def __init__(self, folder: Path):
        self.started, self.scratch = folder / "started", folder / "scratch"
        for path in (self.started, self.scratch):
            path.mkdir()

    def alive(self) -> list[int]:
        return [int(file.name) for file in self.started.iterdir() if is_alive(int(file.name))]

    def all_gone(self) -> bool:
        children = psutil.Process().children(recursive=True)
        return not self.alive() and not children and not list(self.scratch.iterdir())


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {' and '.join(missing)} (docs/battles.md)")
    if not FAKE.is_file():
        pytest.skip(f"needs the fake game {FAKE}, which is not part of the project")
    folder = tmp_path_factory.mktemp("fake")
    games = FakeGames(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in install_fake(FAKE, folder).items():
            patch.setenv(name, value)
        patch.setenv("FAKE_SC2_LOG", str(games.started))
        patch.setattr("tempfile.tempdir", str(games.scratch))
        patch.setattr(starcraft, "LAUNCH_GAP_SECONDS", 0.05)
        patch.setattr(starcraft, "BACK_OFF_SECONDS", 0.05)
        yield games
    assert games.all_gone()


@pytest.fixture(scope="module")
def env(fake):
    return StarCraft(map_name="3m", start_timeout=60, start_retries=1)


def play(games) -> dict[str, np.ndarray]:
    """Plays one episode, always the first action that is available. Returns the last info."""
    while games.playing.any():
        *_, info = games.step(games.get_avail_actions().argmax(axis=-1))
    return info


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("time-outs", {"won": 0, "lost": 0, "out of time": 2}),
        ("abandoned twice, late", {"won": 0, "lost": 1, "out of time": 0}),
        ("observations as state", {"won": 0, "lost": 2, "out of time": 0}),
    ],
)
def test_every_step_is_what_smac_returns(fake, name, expected):
    rows, differences = compare(CASES[name])
    assert differences == []
    assert ends(rows) == expected


def test_a_won_battle_returns_20_although_units_appear_late(fake):
    rows, differences = compare(CASES["wins, late"])
    assert differences == []
    assert ends(rows)["won"] == 1
    assert sum(row.get("reward", 0) for row in rows) == pytest.approx(20)


def test_the_fast_implementation_of_the_messages_is_used(env):
    assert fast_messages()
    assert env.provenance() == {"simulator": "starcraft2", "game_version": "4.10.0.75689"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("exit@3", "SC2 probably crashed. Check the error log.; it printed:\nthe fake exits"),
        ("error@3", "new status: Status.in_game, error:\nthe fake's error"),
        ("end@3", "GameLostError: StarCraft II was lost: `actions` called while in state"),
    ],
)
def test_a_lost_game_costs_its_episode_and_says_why(env, fake, caplog, monkeypatch, fault, words):
    monkeypatch.setenv("FAKE_SC2_FAULT", fault)
    monkeypatch.setenv("FAKE_SC2_ONCE", str(fake.scratch / "once"))
    games = env.make_batch(1)
    n_started = len(list(fake.started.iterdir()))
    games.reset(0)
    assert play(games)["crashed"].all()
    assert "its episode is dropped: " in caplog.text
    assert words in caplog.text
    assert fake.alive() == []
    games.reset(0)
    assert not play(games)["crashed"].any()
    games.close()
    (fake.scratch / "once").unlink()
    assert len(list(fake.started.iterdir())) == n_started + 2  # SMAC itself would start a third
    assert fake.all_gone()


def test_a_game_that_does_not_start_says_why(env, fake, monkeypatch):
    monkeypatch.setenv("FAKE_SC2_FAULT", "refuse")
    message = r"(?s)did not start in 2 tries\. .*the fake refuses to start, as told"
    with pytest.raises(SimulatorError, match=message):
        env.make_batch(1).reset(0)
    assert fake.all_gone()


def test_a_game_that_ignores_the_end_is_ended(env, fake, monkeypatch):
    monkeypatch.setenv("FAKE_SC2_STUBBORN", "1")
    games = env.make_batch(1)
    games.reset(0)
    assert len(fake.alive()) == 1
    games.close()
    assert fake.all_gone()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"game_version": "4.6"}, "env_args.game_version=4.6: pysc2 cannot start the game: Unkn"),
        ({"map_name": "mine"}, "env_args.map_name=mine: SMAC has no such map"),
    ],
)
def test_what_only_the_packages_know_is_one_line(fake, wrong, words):
    (Path(os.environ["SC2PATH"]) / "Maps" / "SMAC_Maps" / "mine.SC2Map").touch()
    n_started = len(list(fake.started.iterdir()))
    with pytest.raises(ConfigError) as error:
        StarCraft(**wrong)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert len(list(fake.started.iterdir())) == n_started
