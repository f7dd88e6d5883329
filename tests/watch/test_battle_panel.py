"""The picture of a battle, of scenes made by hand. No simulator is needed."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from inspo.film.battle_panel import BattlePanel
from inspo.film.battle_scene import BattleScene, shots
from inspo.film.episode import FilmedEpisode, Moment
from inspo.film.panel import BLUE, VERMILLION

STALKER, ZEALOT = 2, 3
# Ally 0 attacks enemy 2, who attacks it; ally 1 is dead; enemy 3 attacks ally 0.
START = BattleScene(
    positions=np.array([[8.0, 16.0], [9.0, 14.0], [14.0, 17.0], [20.0, 15.0]]),
    health=np.array([1.0, 1.0, 1.0, 1.0]),
    alive=np.array([True, True, True, True]),
    types=np.array([STALKER, ZEALOT, ZEALOT, STALKER]),
    cooldowns=np.zeros(4),
    targets=np.full(4, -1),
    step_seconds=0.5,
)
LATER = replace(
    START,
    health=np.array([0.5, 0.0, 0.75, 1.0]),
    alive=np.array([True, False, True, True]),
    cooldowns=np.array([1.4, -0.5, -0.5, 1.5]),
    targets=np.array([2, -1, 0, 0]),
)


def episode(*scenes: BattleScene, won: bool = False, terminated: bool = True) -> FilmedEpisode:
    actions = np.zeros(2, dtype=int)
    moments = [Moment(float(step), scene, actions) for step, scene in enumerate(scenes)]
    moments[-1] = replace(moments[-1], actions=None)
    return FilmedEpisode(moments, terminated, won)


def panel_of(*episodes: FilmedEpisode, everyone=()) -> BattlePanel:
    axes = Figure(figsize=(4, 3)).add_axes((0.1, 0.1, 0.8, 0.6))
    return BattlePanel(axes, SimpleNamespace(n_agents=2), episodes, [*episodes, *everyone])


@pytest.fixture
def panel() -> BattlePanel:
    panel = panel_of(episode(START, LATER, LATER))
    panel.show(0, 1)
    return panel


def colours(artist) -> list[tuple]:
    return [tuple(np.round(colour[:3], 3)) for colour in artist]


def rgb(colour: str) -> tuple:
    return tuple(np.round(to_rgb(colour), 3))


def test_living_units_stand_at_their_positions_in_their_teams_colour(panel):
    np.testing.assert_array_equal(panel.units.get_offsets(), START.positions[[0, 2, 3]])
    assert colours(panel.units.get_facecolors()) == [rgb(BLUE), rgb(VERMILLION), rgb(VERMILLION)]


def test_types_are_told_apart_by_shape(panel):
    stalker, zealot, other_stalker = panel.units.get_paths()
    np.testing.assert_array_equal(stalker.vertices, other_stalker.vertices)
    assert len(stalker.vertices) != len(zealot.vertices)
    labels = [handle.get_label() for handle in panel.legend(panel.everyone)]
    assert labels[:4] == ["stalker", "zealot", "allies", "enemies"]


def test_dead_units_are_crosses_where_they_fell(panel):
    np.testing.assert_array_equal(panel.dead.get_offsets(), START.positions[[1]])
    assert colours(panel.dead.get_edgecolors()) == [rgb(BLUE)]


def test_health_bars_are_as_long_as_units_are_healthy(panel):
    whole, left = (
        np.array([segment[1, 0] - segment[0, 0] for segment in bars.get_segments()])
        for bars in (panel.empty_bars, panel.health_bars)
    )
    np.testing.assert_allclose(left / whole, [0.5, 0.75, 1.0])
    starts = np.array([segment[0] for segment in panel.empty_bars.get_segments()])
    assert (starts[:, 1] > START.positions[[0, 2, 3], 1]).all()


def test_team_bars_show_the_mean_health(panel):
    allies, enemies = (bar.get_width() for bar in panel.team_bars)
    panel.show(0, 0)
    full = panel.team_bars[0].get_width()
    assert (allies / full, enemies / full) == pytest.approx((0.25, 0.875))
    panel.show(0, 1)
    texts = [label.get_text() for label in panel.team_labels]
    assert texts == ["allies: 1 of 2", "enemies: 2 of 2"]


def ends(lines) -> list[tuple[int, int]]:
    """Which units each line joins: the nearest ones to its ends."""
    found = []
    for segment in lines.get_segments():
        distances = np.linalg.norm(segment[:, None] - START.positions, axis=-1)
        assert distances.min(axis=1).max() < 0.3
        found.append(tuple(distances.argmin(axis=1).tolist()))
    return found


def test_lines_join_attackers_and_targets_and_shots_are_bold(panel):
    np.testing.assert_array_equal(shots(START, LATER), [True, False, False, True])
    assert ends(panel.shots) == [(0, 2), (3, 0)]
    assert ends(panel.attacks) == [(2, 0)]
    assert colours(panel.shots.get_colors()) == [rgb(BLUE), rgb(VERMILLION)]
    assert colours(panel.attacks.get_colors()) == [rgb(VERMILLION)]
    # Units that attack each other have two lines side by side.
    (there, *_), (back,) = panel.shots.get_segments(), panel.attacks.get_segments()
    assert np.linalg.norm(there[0] - back[1]) > 0.2


def test_at_the_start_nobody_attacks(panel):
    panel.show(0, 0)
    assert ends(panel.shots) == ends(panel.attacks) == []
    assert len(panel.dead.get_offsets()) == 0


@pytest.mark.parametrize(
    ("won", "terminated", "text"),
    [(True, True, "WON"), (False, True, "LOST"), (False, False, "OUT OF TIME")],
)
def test_the_end_says_how_it_ended(won, terminated, text):
    panel = panel_of(episode(START, LATER, won=won, terminated=terminated))
    panel.show(0, 0)
    assert panel.banner.get_text() == ""
    for step in (1, 5):  # the end stays while another run plays on
        panel.show(0, step)
        assert panel.banner.get_text() == text


def test_a_battle_may_leave_nobody_alive():
    nobody = replace(LATER, alive=np.zeros(4, dtype=bool), health=np.zeros(4))
    panel = panel_of(episode(START, nobody))
    panel.show(0, 1)
    panel.axes.figure.canvas.draw()
    assert panel.banner.get_text() == "LOST"
    assert len(panel.units.get_offsets()) == len(panel.health_bars.get_segments()) == 0
    assert len(panel.dead.get_offsets()) == 4
    assert [label.get_text() for label in panel.team_labels] == [
        "allies: 0 of 2",
        "enemies: 0 of 2",
    ]


def test_the_caption_counts(panel):
    assert panel.caption(0, 1) == "step 1    return 1.00"
    several = panel_of(episode(START, LATER, won=True), episode(START, LATER))
    assert several.caption(0, 0) == "episode 1 of 2    step 0    return 0.00    won 0"
    assert several.caption(0, 1) == "episode 1 of 2    step 1    return 1.00    won 1"
    assert several.caption(1, 1) == "episode 2 of 2    step 1    return 1.00    won 1"


def test_all_panels_show_the_same_part_of_the_map_with_all_living_units():
    far = replace(START, positions=START.positions + np.array([0.0, 9.0]))
    here, there = episode(START, LATER), episode(far, far)
    panels = [panel_of(here, everyone=[there]), panel_of(there, everyone=[here])]
    first, second = ((panel.axes.get_xlim(), panel.axes.get_ylim()) for panel in panels)
    np.testing.assert_allclose(first, second)
    (left, right), (bottom, top) = first
    places = np.concatenate([START.positions, far.positions])
    assert left < places[:, 0].min()
    assert right > places[:, 0].max()
    assert bottom < places[:, 1].min()
    assert top > places[:, 1].max()


def test_a_dead_unit_is_out_of_the_frame_if_it_never_lived_there():
    """As on a map where a team has fewer units than the arrays have room for."""
    gone = replace(LATER, positions=START.positions + np.array([[0, 0], [0, 90], [0, 0], [0, 0]]))
    panel = panel_of(episode(START, gone))
    assert panel.axes.get_ylim()[1] < 32


def test_units_may_change_their_types_between_episodes():
    """As on SMACv2's maps."""
    other = replace(START, types=np.array([ZEALOT, ZEALOT, 0, 0]))
    panel = panel_of(episode(START, LATER), episode(other, other))
    panel.show(0, 0)
    first = [len(path.vertices) for path in panel.units.get_paths()]
    panel.show(1, 0)
    second = [len(path.vertices) for path in panel.units.get_paths()]
    assert first[0] != second[0]
    labels = [handle.get_label() for handle in panel.legend(panel.everyone)]
    assert labels[:3] == ["marine", "stalker", "zealot"]
