"""The pictures of Bridge and of matrix games."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from inspo.envs.bridge import Bridge
from inspo.envs.matrix_game import MatrixGame
from inspo.film.bridge_panel import BridgePanel
from inspo.film.episode import FilmedEpisode, film_episode
from inspo.film.film import Film
from inspo.film.matrix_panel import MatrixPanel
from inspo.utils.errors import ConfigError

STAY, UP, DOWN, RIGHT, LEFT = range(5)


class Fixed:
    """Plays given joint actions."""

    def __init__(self, *joint_actions):
        self.joint_actions = list(joint_actions)

    def start(self, env):
        self.left = list(self.joint_actions)

    def act(self, obs, avail_actions, last_actions):
        return np.array([self.left.pop(0)])


def film(panel_class, env, *episodes) -> tuple[list[FilmedEpisode], object]:
    """Films episodes of given joint actions; the episodes and the panel."""
    games = env.make_batch(1)
    filmed = [film_episode(games, Fixed(*actions), 0, panel_class.look) for actions in episodes]
    axes = Figure(figsize=(4, 3)).add_axes((0.1, 0.1, 0.8, 0.6))
    return filmed, panel_class(axes, env, filmed, filmed)


# To their goals: agent 1 pushes agent 0 back and passes it.
CROSSING = [
    *[(LEFT, LEFT), (LEFT, LEFT), (STAY, LEFT), (DOWN, LEFT)],
    *[(RIGHT, LEFT), (UP, UP), (RIGHT, STAY), (RIGHT, STAY)],
    *[(RIGHT, STAY), (RIGHT, STAY), (DOWN, STAY)],
]


def by_hand(env: Bridge, joint_actions) -> tuple[list, list[float]]:
    """Positions and returns of Bridge, played without a film."""
    env.reset()
    positions, totals, over = [env.positions], [0.0], False
    for actions in joint_actions:
        assert not over
        _, reward, terminated, truncated, _ = env.step(np.array(actions))
        over = terminated or truncated
        positions.append(env.positions)
        totals.append(totals[-1] + reward)
    assert over
    return positions, totals


def test_the_legend_of_bridge_fits_into_one_panel():
    env = Bridge(episode_limit=50)
    filmed, _ = film(BridgePanel, env, CROSSING)
    player = SimpleNamespace(env=env, title="InSPO", subtitle="bridge")
    pictures = Film([player], [filmed], BridgePanel, size=400)
    pictures.pixels(0)
    (legend,) = pictures.figure.legends
    box = legend.get_window_extent()
    assert 0 < box.x0 < box.x1 < pictures.figure.bbox.x1


def test_bridge_moments_are_those_of_the_game():
    (filmed,), _ = film(BridgePanel, Bridge(), CROSSING)
    positions, totals = by_hand(Bridge(), CROSSING)
    assert filmed.length == len(CROSSING)
    assert filmed.terminated
    assert filmed.won is None
    assert [tuple(map(tuple, moment.scene.tolist())) for moment in filmed.moments] == positions
    assert [moment.total for moment in filmed.moments] == pytest.approx(totals)
    taken = [tuple(moment.actions) for moment in filmed.moments[:-1]]
    assert taken == CROSSING
    assert filmed.moments[-1].actions is None


def test_bridge_agents_stand_in_their_cells_and_point_where_they_go():
    (filmed,), panel = film(BridgePanel, Bridge(), CROSSING)
    for step in range(filmed.length + 1):
        panel.show(0, step)
        rows_columns = filmed.moments[step].scene
        for agent, circle in enumerate(panel.agents):
            row, column = rows_columns[agent]
            x, y = circle.get_center()
            assert abs(x - column) < 0.5
            assert y == row
            assert panel.names[agent].get_position() == (x, y)
    panel.show(0, 5)  # agent 0: up, agent 1: up
    up, also_up = panel.arrows
    assert up.U[0] == also_up.U[0] == 0
    assert up.V[0] < 0
    panel.show(0, 4)  # agent 0: right, agent 1: left
    assert panel.arrows[0].U[0] > 0 > panel.arrows[1].U[0]
    panel.show(0, 6)  # agent 1: stay
    assert panel.arrows[0].get_visible()
    assert not panel.arrows[1].get_visible()


def test_bridge_captions():
    (filmed,), panel = film(BridgePanel, Bridge(), CROSSING)
    assert panel.caption(0, 0) == "step 0    return 0.00    0 left, 1 left"
    total = f"{filmed.moments[-1].total:.2f}"
    assert panel.caption(0, 99) == f"step {filmed.length}    return {total}    both crossed"
    _, stuck = film(BridgePanel, Bridge(episode_limit=2), [(STAY, STAY)] * 2)
    assert stuck.caption(0, 2).endswith("out of time")


def test_bridge_agents_in_one_cell_are_both_seen():
    (filmed,), panel = film(BridgePanel, Bridge(episode_limit=1), [(STAY, STAY)])
    filmed.moments[1].scene[:] = (0, 0)  # agent 1 is on its goal, agent 0 passes
    panel.show(0, 1)
    first, second = (circle.get_center()[0] for circle in panel.agents)
    assert second - first > 0.3


XOR = {"n_agents": 2, "n_actions": 2, "payoff": [[0, 1], [1, -2]]}


def texts(panel) -> dict:
    return {cell: share.get_text() for cell, (_, share) in panel.texts.items()}


def test_matrix_cells_count_the_plays_so_far():
    plays = [[(0, 1)], [(0, 1)], [(1, 1)], [(1, 0)]]
    _, panel = film(MatrixPanel, MatrixGame(**XOR), *plays)
    assert {cell: text.get_text() for cell, (text, _) in panel.texts.items()} == {
        (0, 0): "0",
        (0, 1): "1",
        (1, 0): "1",
        (1, 1): "-2",
    }
    panel.show(0, 0)
    assert set(texts(panel).values()) == {"0 (0%)"}
    assert not panel.latest.get_visible()
    assert panel.caption(0, 0) == "play 0 of 4"
    panel.show(2, 1)
    assert texts(panel)[0, 1] == "2 (67%)"
    assert texts(panel)[1, 1] == "1 (33%)"
    np.testing.assert_allclose(panel.shades.get_array().ravel(), [0, 2 / 3, 0, 1 / 3])
    assert panel.latest.get_visible()
    assert np.round(panel.latest.get_xy()).tolist() == [1, 1]
    assert panel.caption(2, 1) == "play 3 of 4    mean reward 0.00"
    panel.show(3, 1)
    assert np.round(panel.latest.get_xy()).tolist() == [0, 1]  # column, row


def test_matrix_games_of_three_agents_have_a_column_for_each_joint_action_of_the_others():
    payoff = np.arange(12).reshape(2, 3, 2)
    env = MatrixGame(n_agents=3, n_actions=[2, 3, 2], payoff=payoff.tolist(), episode_limit=2)
    _, panel = film(MatrixPanel, env, [(1, 2, 0), (0, 1, 1)])
    names = [label.get_text() for label in panel.axes.get_xticklabels()]
    assert names == ["AA", "AB", "BA", "BB", "CA", "CB"]
    panel.show(0, 1)
    assert texts(panel)[1, 4] == "1 (100%)"
    assert panel.texts[1, 4][0].get_text() == str(payoff[1, 2, 0])
    assert panel.caption(0, 2) == f"play 2 of 2    mean reward {(10 + 3) / 2:.2f}"


def test_a_game_of_one_agent_has_one_column():
    env = MatrixGame(n_agents=1, n_actions=3, payoff=[1, 2, 3])
    _, panel = film(MatrixPanel, env, [(2,)])
    panel.show(0, 1)
    assert texts(panel) == {(0, 0): "0 (0%)", (1, 0): "0 (0%)", (2, 0): "1 (100%)"}


def test_a_table_that_cannot_be_read_is_refused():
    payoff = np.zeros((3, 3, 3, 3)).tolist()
    env = MatrixGame(n_agents=4, n_actions=3, payoff=payoff)
    with pytest.raises(ConfigError, match="payoff table of 3 rows and 27 columns is too large"):
        film(MatrixPanel, env, [(0, 0, 0, 0)])
