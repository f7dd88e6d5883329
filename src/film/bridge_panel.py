"""The picture of the Bridge."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Rectangle

from inspo.envs import VectorEnv
from inspo.envs.bridge import ACTION_NAMES, COLUMNS, GOALS, MOVES, ROWS, WALLS
from inspo.film.episode import FilmedEpisode
from inspo.film.panel import BLUE, DARK, LIGHT, VERMILLION, Panel

COLOURS = (BLUE, VERMILLION)  # of the agents
RADIUS = 0.3  # of the agents, in cells
ARROW_FROM, ARROW_LENGTH, ARROW_ASIDE = 0.32, 0.4, 0.09  # in cells
ASIDE = 0.18  # how far agents in one cell are drawn from its middle


class BridgePanel(Panel):
    """The grid, the agents, their goals, and what each agent does next.

    A scene is the agents' cells, int [2, 2]: (row, column) of each.
    """

    legend_columns = 3

    @staticmethod
    def look(env: VectorEnv) -> np.ndarray:
        # The state: (row, column, goal row, goal column) of each agent.
        agents = env.get_state()[0].reshape(2, 4)
        return agents[:, :2].astype(int)

    def draw_scene(self) -> None:
        self.axes.set_xlim(-0.5, COLUMNS - 0.5)
        self.axes.set_ylim(ROWS - 0.5, -0.5)
        self._add_grid()
        self.agents, self.names, self.arrows = [], [], []
        for agent, colour in enumerate(COLOURS):
            self._add_agent(str(agent), colour)

    def show(self, episode: int, step: int) -> None:
        moment = self.episodes[episode].at(step)
        # An agent on its goal can be passed: then both are in one cell.
        in_one_cell = (moment.scene[0] == moment.scene[1]).all()
        for agent, (row, column) in enumerate(moment.scene):
            aside = ASIDE * (2 * agent - 1) if in_one_cell else 0.0
            x, y = column + aside, row
            self.agents[agent].set_center((x, y))
            self.names[agent].set_position((x, y))
            down, right = (0, 0) if moment.actions is None else MOVES[moment.actions[agent]]
            arrow = self.arrows[agent]
            # A little to the right of its way, so that arrows at each other stay apart.
            tail = (
                x + ARROW_FROM * right - ARROW_ASIDE * down,
                y + ARROW_FROM * down + ARROW_ASIDE * right,
            )
            arrow.set_offsets([tail])
            arrow.set_UVC(ARROW_LENGTH * right, ARROW_LENGTH * down)
            arrow.set_visible(bool(down or right))

    @staticmethod
    def aspect(everyone: Sequence[FilmedEpisode]) -> float:
        return ROWS / COLUMNS

    @staticmethod
    def legend(everyone: Sequence[FilmedEpisode]) -> list[Artist]:
        style = {"marker": "o", "linestyle": "", "markersize": 9}
        agents = [
            Line2D([], [], color=colour, label=f"agent {agent}", **style)
            for agent, colour in enumerate(COLOURS)
        ]
        goal = Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=DARK, hatch="////")
        goal.set_label("goal of this colour's agent")
        wall = Rectangle((0, 0), 1, 1, color=DARK, label="wall")
        arrow = Line2D([], [], color=DARK, linestyle="", markersize=12)
        arrow.set(marker=r"$\rightarrow$", label="next move")
        return [*agents, arrow, goal, wall]

    def caption(self, episode: int, step: int) -> str:
        text = super().caption(episode, step)
        filmed = self.episodes[episode]
        actions = filmed.at(step).actions
        if actions is None:
            return f"{text}    {'both crossed' if filmed.terminated else 'out of time'}"
        moves = [f"{agent} {ACTION_NAMES[action]}" for agent, action in enumerate(actions)]
        return f"{text}    {', '.join(moves)}"

    def _add_grid(self) -> None:
        for row in range(ROWS):
            for column in range(COLUMNS):
                colour = DARK if (row, column) in WALLS else "white"
                cell = Rectangle((column - 0.5, row - 0.5), 1, 1)
                cell.set(facecolor=colour, edgecolor=LIGHT, linewidth=1)
                self.axes.add_patch(cell)
        for (row, column), colour in zip(GOALS, COLOURS, strict=True):
            goal = Rectangle((column - 0.46, row - 0.46), 0.92, 0.92)
            goal.set(facecolor="white", edgecolor=colour, linewidth=2, hatch="////")
            self.axes.add_patch(goal)

    def _add_agent(self, name: str, colour: str) -> None:
        circle = Circle((0, 0), RADIUS)
        circle.set(facecolor=colour, edgecolor="white", linewidth=1.5, zorder=4)
        label = self.axes.text(0, 0, name, color="white", fontsize=13, fontweight="bold")
        label.set(ha="center", va="center", zorder=6)
        arrow = self.axes.quiver([0], [0], [1], [0], angles="xy", scale_units="xy", scale=1)
        arrow.set(color=colour, zorder=5)
        self.agents.append(self.axes.add_patch(circle))
        self.names.append(label)
        self.arrows.append(arrow)
        self.changing += [circle, label, arrow]
