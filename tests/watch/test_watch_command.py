"""The command: files of each kind, and what it refuses."""

import os
import sys

import numpy as np
import pytest
from PIL import Image
from untrained import checkpoint

from inspo.envs import EnvInfo
from inspo.envs.sc2.smax import smax_problem
from inspo.film.command import main
from inspo.film.files import Palette
from inspo.film.player import make_player
from inspo.film.watching import make_film
from inspo.run.checkpoint import open_checkpoint

FAKE_FFMPEG = f"""#!{sys.executable}
import sys
if "-version" not in sys.argv:
    open(sys.argv[-1], "wb").write(sys.stdin.buffer.read())
    open(sys.argv[0] + ".arguments", "w").write(" ".join(sys.argv))
"""


@pytest.fixture(scope="module")
def xor(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("xor") / "step_0000000000.pt")


@pytest.fixture(scope="module")
def bridge(tmp_path_factory):
    settings = {"env_args": {"episode_limit": 6}}
    path = tmp_path_factory.mktemp("bridge") / "step_0000000000.pt"
    return checkpoint(path, "bridge_offline", **settings)


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """A program of that name that keeps the raw frames."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FAKE_FFMPEG)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return program


def film_of(file, *args):
    return make_film([make_player(*open_checkpoint(file))], *args)


def n_frames(path) -> int:
    with Image.open(path) as picture:
        return picture.n_frames


def test_a_gif_of_bridge_has_a_frame_for_each_step(bridge, tmp_path, capsys):
    out = tmp_path / "new folder" / "film.gif"
    assert main([str(bridge), f"--out={out}", "--seed=3"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert n_frames(out) == len(film_of(bridge, 3)) == 7


def test_a_gif_of_a_matrix_game_has_a_frame_for_each_play(xor, tmp_path):
    out = tmp_path / "film.gif"
    assert main([str(xor), f"--out={out}"]) == 0
    assert n_frames(out) == 41
    assert main([str(xor), f"--out={out}", "--episodes=5"]) == 0
    assert n_frames(out) == 6


def test_two_runs_are_shown_side_by_side(xor, tmp_path):
    out = tmp_path / "both.gif"
    assert main([str(xor), str(xor), f"--out={out}", "--size=250", "--episodes=2"]) == 0
    with Image.open(out) as picture:
        assert picture.width == 500


@pytest.mark.parametrize(("option", "frame"), [([], -1), (["--frame=2"], 2)])
def test_a_png_is_one_frame(bridge, tmp_path, option, frame):
    out = tmp_path / "frame.png"
    assert main([str(bridge), f"--out={out}", *option]) == 0
    film = film_of(bridge, 0)
    with Image.open(out) as picture:
        np.testing.assert_array_equal(np.array(picture), film.pixels(range(7)[frame]))


def test_an_mp4_is_made_of_the_films_frames(bridge, tmp_path, ffmpeg):
    out = tmp_path / "film.mp4"
    assert main([str(bridge), f"--out={out}", "--fps=4"]) == 0
    film = film_of(bridge, 0)
    height, width, _ = film.pixels(0).shape
    frames = np.fromfile(out, np.uint8).reshape(-1, height, width, 4)
    assert len(frames) == 6 + 4 * 2.5  # the end is shown for 2.5 seconds
    np.testing.assert_array_equal(frames[6], frames[-1])
    assert not np.array_equal(frames[0], frames[1])
    close = np.abs(frames[3, ..., :3].astype(int) - film.pixels(3)) < 10
    assert close.mean() > 0.99
    arguments = ffmpeg.with_name("ffmpeg.arguments").read_text()
    assert f"-s {width}x{height}" in arguments
    assert "-framerate 4" in arguments


@pytest.mark.parametrize(("option", "greedy"), [("--greedy", True), ("--sample", False)])
def test_actions_are_the_likeliest_or_sampled(xor, tmp_path, monkeypatch, option, greedy):
    made = []

    def make(*args):
        made.append(make_player(*args))
        return made[-1]

    monkeypatch.setattr("inspo.film.watching.make_player", make)
    assert main([str(xor), f"--out={tmp_path / 'a.png'}", option]) == 0
    assert [player.greedy for player in made] == [greedy]


def test_a_palette_keeps_the_commonest_colours():
    frame = np.zeros((20, 20, 3), dtype=np.uint8)
    frame[:10] = (250, 249, 247)
    frame[0] = np.random.default_rng(0).integers(0, 256, (20, 3))
    palette = Palette([frame])
    shown = np.array(palette.picture(frame).convert("RGB"))
    np.testing.assert_array_equal(shown, frame)
    # A colour that the palette lacks becomes the nearest one that it has.
    near = np.full((2, 2, 3), (251, 249, 247), dtype=np.uint8)
    shown = np.array(palette.picture(near).convert("RGB"))
    assert (shown == (250, 249, 247)).all()


def refused(capsys, *arguments: str) -> str:
    """The one line that the command says."""
    assert main(list(arguments)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "CheckpointError: nowhere: no checkpoint found"),
        ([], "ConfigError: the following arguments are required: RUN; watch.py --help"),
        (["{xor}", "--out=a.avi"], "a.avi: a film's name ends in one of .gif, .mp4, .png"),
        (["{xor}", "--out=https://x.org/a.gif"], "https://x.org/a.gif: this is an address"),
        (["{xor}", "--out=film"], "film: a film's name ends in one of .gif, .mp4, .png"),
        (["{xor}", "{bridge}"], "the runs play different games (env: matrix_game and bridge"),
        (["{xor}", "--fps=0"], "--fps: '0' must be a whole number, at least 1"),
        (["{xor}", "--size=20"], "size=20: letters cannot be read below 200 pixels"),
        (["{xor}", "--greedy", "--sample"], "not allowed with argument --greedy"),
        (["{xor}", "--out=a.png", "--frame=41"], "frame=41: the film has 41 frames"),
        (["{xor}", "--sed=3"], "unknown argument '--sed'; did you mean '--seed'?"),
    ],
)
def test_wrong_input_is_one_message(xor, bridge, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    filled = [argument.format(xor=xor, bridge=bridge) for argument in arguments]
    assert message in refused(capsys, *filled)
    assert not list(tmp_path.iterdir())


def test_an_mp4_without_ffmpeg_is_refused(xor, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    line = refused(capsys, str(xor), f"--out={tmp_path / 'film.mp4'}")
    assert "film.mp4 needs ffmpeg, which is not on the PATH" in line
    assert line.endswith("film.gif can be written without it")


def test_a_damaged_checkpoint_is_refused(tmp_path, capsys):
    file = tmp_path / "half.pt"
    file.write_bytes(b"not a checkpoint")
    assert "cannot be read as a checkpoint" in refused(capsys, str(file))


# Not pytest.importorskip: importing jaxmarl replaces the streams that capsys reads.
@pytest.mark.skipif(bool(smax_problem()), reason=f"needs SMAX: {smax_problem()}")
def test_another_games_map_is_refused(tmp_path, capsys):
    files = [
        checkpoint(
            tmp_path / f"{name}.pt",
            "sc2_offline",
            env_args={"map_name": name, "simulator": "smax"},
        )
        for name in ("3m", "8m")
    ]
    line = refused(capsys, *map(str, files))
    assert line == "ConfigError: the runs play different games (map_name: 3m and 8m)"


STARCRAFT = {"env_args": {"simulator": "starcraft2"}}
DOUBLE_INFO = EnvInfo(n_agents=2, n_actions=7, obs_shape=4, state_shape=3, episode_limit=5)


@pytest.fixture(scope="module")
def starcraft_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("starcraft") / "step_0000000000.pt"
    return checkpoint(path, "sc2_offline", info=DOUBLE_INFO, **STARCRAFT)


def test_starcraft_writes_a_replay(starcraft_file, double, tmp_path, capsys):
    out = tmp_path / "films" / "battle.gif"
    assert main([str(starcraft_file), f"--out={out}"]) == 0
    replay = out.with_suffix(".SC2Replay")
    assert capsys.readouterr().out == f"{replay}\n"
    assert replay.read_bytes() == b"replay"
    assert list(out.parent.iterdir()) == [replay]


def test_starcraft_films_one_run_at_a_time(starcraft_file, capsys):
    line = refused(capsys, str(starcraft_file), str(starcraft_file))
    assert line == "ConfigError: StarCraft II films one run at a time; give a single one"


def test_starcraft_that_is_missing_is_one_message(starcraft_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SC2PATH", str(tmp_path / "nowhere"))
    line = refused(capsys, str(starcraft_file), f"--out={tmp_path / 'a.gif'}")
    assert line.startswith("SimulatorError: StarCraft II cannot be played: ")
    assert not list(tmp_path.iterdir())
