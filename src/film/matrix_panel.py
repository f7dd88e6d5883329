"""The picture of a matrix game."""

from collections.abc import Sequence
from itertools import product
from string import ascii_uppercase

import numpy as np
from matplotlib.artist import Artist
from matplotlib.patches import Rectangle

from inspo.envs import VectorEnv
from inspo.film.episode import FilmedEpisode
from inspo.film.panel import BLUE, DARK, GREY, VERMILLION, Panel
from inspo.utils.errors import ConfigError

MOST_ROWS, MOST_COLUMNS = 12, 16  # of a table that can still be read
DARK_CELL = 0.5  # share of plays from which a cell needs white letters


class MatrixPanel(Panel):
    """The payoff table, the joint action just played, and how often each was played.

    Agent 0 chooses the row, the others choose the column. Every play is a frame. There is nothing
    else to see of the game, so a scene is None.
    """

    margin_above = 0.42
    margin_left = 0.45
    default_episodes = 40
    shows_every_start = False

    @staticmethod
    def look(env: VectorEnv) -> None:
        return None

    def draw_scene(self) -> None:
        payoff = self.env.payoff
        self.table = payoff.reshape(len(payoff), -1)  # float64 [rows, columns]
        rows, columns = self.table.shape
        if rows > MOST_ROWS or columns > MOST_COLUMNS:
            raise ConfigError(
                f"a payoff table of {rows} rows and {columns} columns is too large for a film; "
                f"{MOST_ROWS} rows and {MOST_COLUMNS} columns are possible"
            )
        moments = [moment for filmed in self.episodes for moment in filmed.moments[:-1]]
        joint_actions = np.array([moment.actions for moment in moments])
        cells = np.ravel_multi_index(tuple(joint_actions.T), payoff.shape)
        self.played = np.stack(np.divmod(cells, columns), axis=-1)  # int [plays, 2]
        self._add_table()

    def show(self, episode: int, step: int) -> None:
        n_plays = self._plays(episode, step)
        counts = np.zeros(self.table.shape, dtype=int)
        np.add.at(counts, tuple(self.played[:n_plays].T), 1)
        shares = counts / max(n_plays, 1)
        self.shades.set_array(shares)
        for cell, (payoff, share) in self.texts.items():
            colour = "white" if shares[cell] > DARK_CELL else DARK
            payoff.set_color(colour)
            share.set_color(colour)
            share.set_text(f"{counts[cell]} ({shares[cell]:.0%})")
        self.latest.set_visible(n_plays > 0)
        if n_plays:
            row, column = self.played[n_plays - 1]
            self.latest.set_xy((column - 0.46, row - 0.46))

    @staticmethod
    def aspect(everyone: Sequence[FilmedEpisode]) -> float:
        return 0.66

    @staticmethod
    def legend(everyone: Sequence[FilmedEpisode]) -> list[Artist]:
        latest = Rectangle((0, 0), 1, 1, label="joint action just played")
        latest.set(fill=False, edgecolor=VERMILLION, linewidth=3)
        shade = Rectangle((0, 0), 1, 1, color=BLUE, label="share of plays (darker: more)")
        return [latest, shade]

    def caption(self, episode: int, step: int) -> str:
        n_plays = self._plays(episode, step)
        total = len(self.played)
        if not n_plays:
            return f"play 0 of {total}"
        mean = self.table[tuple(self.played[:n_plays].T)].mean()
        return f"play {n_plays} of {total}    mean reward {mean:.2f}"

    def _plays(self, episode: int, step: int) -> int:
        """How many plays there were until a moment."""
        before = sum(filmed.length for filmed in self.episodes[:episode])
        return before + min(step, self.episodes[episode].length)

    def _add_table(self) -> None:
        rows, columns = self.table.shape
        self.axes.set_xlim(-0.5, columns - 0.5)
        self.axes.set_ylim(rows - 0.5, -0.5)
        edges = (np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5)
        self.shades = self.axes.pcolormesh(*edges, np.zeros(self.table.shape))
        self.shades.set(cmap="Blues", clim=(0, 1), edgecolor=GREY, linewidth=0.8)
        others = [ascii_uppercase[:size] for size in self.env.payoff.shape[1:]]
        column_names = ["".join(letters) for letters in product(*others)]
        self.axes.set_xticks(range(columns), column_names)
        self.axes.set_yticks(range(rows), ascii_uppercase[:rows])
        self.axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
        self.axes.set_ylabel("agent 0")
        self.axes.xaxis.set_label_position("top")
        names = ", ".join(str(agent) for agent in range(1, self.env.n_agents))
        self.axes.set_xlabel(f"agent{'s' if ',' in names else ''} {names}" if names else "")
        self._add_cells(rows, columns)

    def _add_cells(self, rows: int, columns: int) -> None:
        large = min(18.0, 60.0 / max(rows, columns))
        self.texts = {}
        for row, column in np.ndindex(rows, columns):
            centre = {"ha": "center", "va": "center"}
            reward = f"{self.table[row, column]:g}"
            payoff = self.axes.text(column, row - 0.08, reward, fontsize=large, **centre)
            share = self.axes.text(column, row + 0.27, "", fontsize=large * 0.55, **centre)
            self.texts[row, column] = (payoff, share)
            self.changing += [payoff, share]
        self.latest = Rectangle((0, 0), 0.92, 0.92)
        self.latest.set(fill=False, edgecolor=VERMILLION, linewidth=3, visible=False)
        self.axes.add_patch(self.latest)
        self.changing += [self.shades, self.latest]
