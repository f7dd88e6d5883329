"""The film: panels side by side, frame by frame."""

from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inspo.film.episode import FilmedEpisode
from inspo.film.panel import DARK, GREY, Panel
from inspo.film.player import FilmedPlayer

# All lengths are inches.
PANEL_WIDTH, MARGIN = 4.0, 0.12
HEADER, CAPTION, LEGEND_ROW = 0.5, 0.32, 0.21


class Film:
    """A figure with a panel for each player. Its frames are shown in the order of `timeline`.

    Args:
        players: who plays.
        episodes: those of each player, the same number of each.
        panel_class: how the game is drawn.
        size: width of a panel, in pixels.
    """

    def __init__(
        self,
        players: Sequence[FilmedPlayer],
        episodes: Sequence[Sequence[FilmedEpisode]],
        panel_class: type[Panel],
        size: int,
    ):
        self.players, self.episodes, self.panel_class = players, episodes, panel_class
        everyone = [filmed for own in episodes for filmed in own]
        handles = panel_class.legend(everyone)
        legend_columns = min(panel_class.legend_columns * len(players), len(handles))
        legend_rows = -(-len(handles) // legend_columns)
        self.footer = CAPTION + LEGEND_ROW * legend_rows + 0.06
        self.figure = self._make_figure(size / PANEL_WIDTH, panel_class.aspect(everyone))
        self.panels, self.captions = [], []
        for number in range(len(players)):
            self._add_panel(number, everyone)
        self.figure.legend(
            handles=handles,
            loc="lower center",
            ncols=legend_columns,
            fontsize=8.5,
            frameon=False,
            borderaxespad=0.2,
            handletextpad=0.5,
            columnspacing=1.4,
        )
        self.timeline = self._timeline()
        self.background = None  # the picture of what never changes, once it is drawn
        changing = [artist for panel in self.panels for artist in panel.changing]
        self.changing = sorted([*changing, *self.captions], key=lambda artist: artist.get_zorder())
        for artist in self.changing:
            artist.set_animated(True)

    def __len__(self) -> int:
        """How many frames there are."""
        return len(self.timeline)

    def show(self, frame: int) -> None:
        """Sets all artists to a frame."""
        episode, step = self.timeline[frame]
        for panel, caption in zip(self.panels, self.captions, strict=True):
            panel.show(episode, step)
            caption.set_text(panel.caption(episode, step))

    def pixels(self, frame: int) -> np.ndarray:
        """A frame's picture, uint8 [height, width, 3]."""
        canvas = self.figure.canvas
        if self.background is None:
            canvas.draw()  # leaves out what is animated
            self.background = canvas.copy_from_bbox(self.figure.bbox)
        self.show(frame)
        canvas.restore_region(self.background)
        for artist in self.changing:
            self.figure.draw_artist(artist)
        return np.array(canvas.buffer_rgba())[..., :3]

    def is_held(self, frame: int) -> bool:
        """Whether a frame is shown longer than others, as the end of an episode or of the film."""
        if frame == len(self) - 1:
            return True
        episode, next_episode = self.timeline[frame][0], self.timeline[frame + 1][0]
        return self.panel_class.shows_every_start and episode != next_episode

    def _make_figure(self, dpi: float, aspect: float) -> Figure:
        self.axes_width = PANEL_WIDTH - 2 * MARGIN - self.panel_class.margin_left
        self.axes_height = self.axes_width * aspect
        above = self.panel_class.margin_above + HEADER
        height = self.footer + self.axes_height + above
        # Video codecs want an even number of pixels.
        even_height = 2 * round(height * dpi / 2) / dpi
        figure = Figure(figsize=(PANEL_WIDTH * len(self.players), even_height), dpi=dpi)
        FigureCanvasAgg(figure)
        return figure

    def _add_panel(self, number: int, everyone: Sequence[FilmedEpisode]) -> None:
        player = self.players[number]
        width, height = self.figure.get_size_inches()
        left = PANEL_WIDTH * number + MARGIN + self.panel_class.margin_left
        corner = (left / width, self.footer / height)
        size = (self.axes_width / width, self.axes_height / height)
        axes = self.figure.add_axes((*corner, *size))
        self.panels.append(self.panel_class(axes, player.env, self.episodes[number], everyone))
        middle = corner[0] + size[0] / 2
        texts = (
            (player.title, 1 - 0.08 / height, {"fontsize": 12, "fontweight": "bold"}),
            (player.subtitle, 1 - 0.31 / height, {"fontsize": 9, "color": GREY}),
        )
        for text, y, style in texts:
            self.figure.text(middle, y, text, ha="center", va="top", **style)
        caption_y = (self.footer - 0.08) / height
        caption = self.figure.text(middle, caption_y, "", ha="center", va="top", fontsize=10)
        caption.set_color(DARK)
        self.captions.append(caption)

    def _timeline(self) -> list[tuple[int, int]]:
        """(episode, step) of each frame. All players wait for the longest episode of them."""
        frames = []
        for episode, simultaneous in enumerate(zip(*self.episodes, strict=True)):
            first = 0 if episode == 0 or self.panel_class.shows_every_start else 1
            last = max(filmed.length for filmed in simultaneous)
            frames += [(episode, step) for step in range(first, last + 1)]
        return frames
