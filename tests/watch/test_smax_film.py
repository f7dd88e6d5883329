"""Films of battles on SMAX: what they hold, against a battle played by hand."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image
from untrained import checkpoint

pytest.importorskip("jaxmarl", reason="needs jaxmarl, which is for Python 3.11 and later")

from inspo.envs.sc2.smax import SMAX
from inspo.envs.sc2.smax_maps import FIRST_ATTACK
from inspo.film.battle_panel import BattlePanel
from inspo.film.battle_scene import shots
from inspo.film.player import make_player
from inspo.film.watching import film_episodes, make_film, watch
from inspo.run.checkpoint import open_checkpoint

SETTINGS = {"env_args": {"map_name": "3m", "simulator": "smax"}, "test_greedy": False}
N_ALLIES = 3
MARINE_SHARE = 9 / 45  # of a marine's health, that a marine's shot takes
SEED = 4


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Checkpoints of two untrained policies."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return [
        checkpoint(folder / f"{seed}.pt", "sc2_offline", seed=seed, **SETTINGS) for seed in (0, 1)
    ]


@pytest.fixture(scope="module")
def players(files):
    return [make_player(*open_checkpoint(file)) for file in files]


@pytest.fixture(scope="module")
def episodes(players):
    """The first player's battles of five seeds."""
    return film_episodes(players[0], BattlePanel, SEED, 5)


@pytest.fixture(scope="module")
def film(players):
    """Both players, side by side."""
    return make_film(players, SEED)


def test_the_moments_are_those_of_the_battle(players, episodes):
    env, policy = SMAX("3m").make_batch(1), players[0].policy(SEED)
    env.reset(SEED)
    policy.start(env)
    actions, total, info = np.full((1, N_ALLIES), -1), 0.0, {}
    for moment in episodes[0].moments:
        units = env.units()
        scene = moment.scene
        np.testing.assert_array_equal(scene.positions, units.positions[0])
        np.testing.assert_array_equal(scene.alive, units.alive[0])
        np.testing.assert_array_equal(scene.types, units.types[0])
        np.testing.assert_allclose(scene.health * 45, units.health[0], rtol=1e-5)
        assert moment.total == pytest.approx(total)
        own_targets = np.where(actions[0] >= FIRST_ATTACK, actions[0] - FIRST_ATTACK + N_ALLIES, -1)
        np.testing.assert_array_equal(scene.targets[:N_ALLIES], own_targets)
        if not env.playing[0]:
            break
        actions = policy.act(env.get_obs(), env.get_avail_actions(), actions)
        np.testing.assert_array_equal(moment.actions, actions[0])
        reward, terminated, _, info = env.step(actions)
        total += float(reward[0])
    assert moment is episodes[0].moments[-1]
    assert moment.actions is None
    assert episodes[0].terminated == terminated[0]
    assert episodes[0].won == info["battle_won"][0]


def test_health_falls_by_the_shots_that_hit(episodes):
    """Targets and shots of both teams explain every loss of health, and nothing else does."""
    hits = np.zeros(2 * N_ALLIES)
    for episode in episodes:
        scenes = [moment.scene for moment in episode.moments]
        for before, after in pairwise(scenes):
            fired = shots(before, after)
            taken = np.bincount(after.targets[fired], minlength=2 * N_ALLIES)
            lost = before.health - after.health
            np.testing.assert_allclose(
                lost, np.minimum(taken * MARINE_SHARE, before.health), atol=1e-5
            )
            hits += taken
    assert hits[:N_ALLIES].sum() > 20
    assert hits[N_ALLIES:].sum() > 5


def test_enemies_do_not_shoot_at_their_own(episodes):
    for episode in episodes:
        for moment in episode.moments:
            enemies = moment.scene.targets[N_ALLIES:]
            assert (enemies < N_ALLIES).all()


def test_a_frame_for_each_step_and_one_for_the_start(players, episodes):
    assert len(make_film(players[:1], SEED)) == episodes[0].length + 1
    lengths = [episode.length for episode in episodes[:2]]
    assert len(make_film(players[:1], SEED, n_episodes=2)) == sum(lengths) + 2


def test_side_by_side_the_battle_starts_the_same_and_goes_its_own_ways(film):
    first, second = (own[0] for own in film.episodes)
    for name in ("positions", "health", "types", "alive"):
        starts = [getattr(episode.moments[0].scene, name) for episode in (first, second)]
        np.testing.assert_array_equal(*starts)
    ways = [episode.at(12).scene.positions for episode in (first, second)]
    assert not np.array_equal(*ways)
    assert len(film) == max(first.length, second.length) + 1
    assert film.panels[0].axes.get_xlim() == film.panels[1].axes.get_xlim()
    assert film.panels[0].axes.get_ylim() == film.panels[1].axes.get_ylim()


def test_frames_show_their_moments(film):
    for frame in (0, 9, len(film) - 1):
        film.show(frame)
        for panel, own, caption in zip(film.panels, film.episodes, film.captions, strict=True):
            scene = own[0].at(frame).scene
            np.testing.assert_array_equal(panel.units.get_offsets(), scene.positions[scene.alive])
            step = min(frame, own[0].length)
            assert caption.get_text() == f"step {step}    return {own[0].at(frame).total:.2f}"


def test_a_frames_picture_depends_on_the_frame_alone(film):
    early = film.pixels(5)
    late = film.pixels(len(film) - 1)
    assert not np.array_equal(early, late)
    np.testing.assert_array_equal(film.pixels(5), early)
    assert early.shape[1] == 2 * 400
    assert early.shape[0] % 2 == 0


def test_the_same_seed_gives_the_same_film(files, tmp_path):
    films = {
        name: watch(files[0], out=tmp_path / f"{name}.gif", seed=seed, size=200)
        for name, seed in {"one": 4, "again": 4, "other": 5}.items()
    }
    content = {name: path.read_bytes() for name, path in films.items()}
    assert content["one"] == content["again"]
    assert content["one"] != content["other"]


def test_the_gif_has_the_films_frames(files, episodes, tmp_path):
    path = watch(files[0], out=tmp_path / "a.gif", seed=SEED, size=300, fps=10)
    with Image.open(path) as picture:
        assert picture.n_frames == episodes[0].length + 1
        assert picture.width == 300
        durations = []
        for frame in range(picture.n_frames):
            picture.seek(frame)
            durations.append(picture.info["duration"])
    assert set(durations[:-1]) == {100}
    assert durations[-1] == 2500
