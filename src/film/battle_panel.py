"""The picture of a battle on SMAX."""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform

from inspo.film import battle_scene
from inspo.film.battle_scene import BattleScene, shots
from inspo.film.episode import FilmedEpisode
from inspo.film.panel import BLUE, DARK, GREEN, GREY, LIGHT, VERMILLION, YELLOW, Panel

MAP_SIZE = 32.0
GROUND = "#FAFAF7"
TEAMS = (("allies", BLUE), ("enemies", VERMILLION))
# By the number of a unit's type: name, marker, and the marker's width in the map's units. Units
# are 0.75 to 1.25 wide; triangles are drawn wider so that they look as large as squares.
UNIT_TYPES = (
    ("marine", "o", 0.9),
    ("marauder", "h", 1.2),
    ("stalker", "s", 1.1),
    ("zealot", "^", 1.4),
    ("zergling", "v", 1.0),
    ("hydralisk", "D", 1.0),
)
BAR_WIDTH, BAR_GAP = 1.2, 0.3  # of health bars, in the map's units
FRAME = 1.4  # units of the map that are shown around where units are
LEAST_AREA = (14.0, 8.0)  # width and height of the part of the map that is shown
ASPECTS = (0.45, 0.8)  # least and largest height as a share of the width
SIDESTEP = 0.14  # how far lines pass to the right of the units' centres, so that two units that
#                  attack each other have two lines


class BattlePanel(Panel):
    """Units by type and team, their health, whom they attack, and both teams' health."""

    margin_above = 0.36
    look = staticmethod(battle_scene.look)

    def draw_scene(self) -> None:
        first = self.episodes[0].moments[0].scene
        self.teams = (np.arange(len(first.types)) >= self.env.n_agents).astype(int)
        self.colours = np.array([colour for _, colour in TEAMS])[self.teams]
        self.axes.set_facecolor(GROUND)
        self._frame_map()
        self._add_lines()
        self._add_units()
        self._add_team_bars()
        self._add_banner()

    def show(self, episode: int, step: int) -> None:
        filmed = self.episodes[episode]
        step = min(step, filmed.length)
        scene = filmed.moments[step].scene
        self._show_units(scene)
        self._show_lines(filmed.moments[max(step - 1, 0)].scene, scene)
        for team in range(2):
            mine = self.teams == team
            self.team_bars[team].set_width(0.48 * scene.health[mine].mean())
            name, alive = TEAMS[team][0], scene.alive[mine].sum()
            self.team_labels[team].set_text(f"{name}: {alive} of {mine.sum()}")
        self._show_banner(filmed, step)

    @staticmethod
    def aspect(everyone: Sequence[FilmedEpisode]) -> float:
        width, height = np.diff(_living_area(everyone), axis=0)[0]
        return float(np.clip(height / width, *ASPECTS))

    @staticmethod
    def legend(everyone: Sequence[FilmedEpisode]) -> list[Artist]:
        types = [filmed.moments[0].scene.types for filmed in everyone]
        handles = []
        for number in np.unique(np.concatenate(types)):
            name, marker, _ = UNIT_TYPES[number]
            handles.append(_mark(marker, GREY, name))
        for name, colour in TEAMS:
            handles.append(Rectangle((0, 0), 1, 1, color=colour, label=name))
        handles.append(_mark("x", GREY, "dead", mew=2))
        handles.append(Line2D([], [], color=DARK, lw=1.2, ls=":", label="attacks"))
        handles.append(Line2D([], [], color=DARK, lw=2.4, label="fires"))
        return handles

    def caption(self, episode: int, step: int) -> str:
        text = super().caption(episode, step)
        if len(self.episodes) == 1:
            return text
        is_over = step >= self.episodes[episode].length
        finished = self.episodes[: episode + is_over]
        return f"{text}    won {sum(filmed.won for filmed in finished)}"

    def _frame_map(self) -> None:
        low, high = _living_area(self.everyone)
        centre_x, centre_y = (low + high) / 2
        aspect = self.aspect(self.everyone)
        width = max(high[0] - low[0], (high[1] - low[1]) / aspect)
        height = width * aspect
        self.axes.set_xlim(centre_x - width / 2, centre_x + width / 2)
        self.axes.set_ylim(centre_y - height / 2, centre_y + height / 2)
        edge = Rectangle((0, 0), MAP_SIZE, MAP_SIZE, fill=False, edgecolor=DARK, linewidth=1.5)
        self.axes.add_patch(edge)
        figure = self.axes.figure
        inches = figure.get_figwidth() * self.axes.get_position().width
        self.points_per_unit = 72 * inches / width

    def _add_lines(self) -> None:
        self.attacks = LineCollection([], linewidths=1.2, linestyles=":", zorder=3)
        self.shots = LineCollection([], linewidths=2.2, zorder=5)
        for lines in (self.attacks, self.shots):
            self.axes.add_collection(lines, autolim=False)
        self.changing += [self.attacks, self.shots]

    def _add_units(self) -> None:
        self.units = PathCollection(
            [],
            facecolors=self.colours,
            edgecolors="white",
            linewidths=0.8,
            offsets=np.zeros((len(self.teams), 2)),
            offset_transform=self.axes.transData,
            zorder=4,
        )
        self.units.set_transform(IdentityTransform())
        self.dead = self.axes.scatter([], [], marker="x", s=36, linewidths=2, zorder=1)
        thickness = min(0.22 * self.points_per_unit, 3.0)
        self.empty_bars = LineCollection([], colors=DARK, linewidths=thickness + 1.6, zorder=6)
        self.health_bars = LineCollection([], colors=YELLOW, linewidths=thickness, zorder=7)
        for artist in (self.units, self.empty_bars, self.health_bars):
            self.axes.add_collection(artist, autolim=False)
        self.changing += [self.units, self.dead, self.empty_bars, self.health_bars]

    def _add_team_bars(self) -> None:
        """Above the map: the mean health of each team."""
        height = self.axes.figure.get_figheight() * self.axes.get_position().height
        above = self.axes.inset_axes((0, 1 + 0.05 / height, 1, 0.1 / height))
        above.set(xlim=(0, 1), ylim=(0, 1), frame_on=False, xticks=[], yticks=[])
        self.team_bars, self.team_labels = [], []
        for (_, colour), left in zip(TEAMS, (0.0, 0.52), strict=True):
            above.add_patch(Rectangle((left, 0), 0.48, 1, color=LIGHT))
            bar = above.add_patch(Rectangle((left, 0), 0.48, 1, facecolor=colour))
            label = above.text(left, 1.3, "", fontsize=9, color=colour, va="bottom")
            self.team_bars.append(bar)
            self.team_labels.append(label)
        self.changing += [*self.team_bars, *self.team_labels]

    def _add_banner(self) -> None:
        self.banner = self.axes.text(0.5, 0.5, "", transform=self.axes.transAxes, zorder=9)
        self.banner.set(ha="center", va="center", color="white", fontsize=17, fontweight="bold")
        self.changing.append(self.banner)

    def _show_units(self, scene: BattleScene) -> None:
        alive = scene.alive
        self.units.set_paths([_marker_path(number) for number in scene.types[alive]])
        widths = np.array([UNIT_TYPES[number][2] for number in scene.types[alive]])
        points = widths * self.points_per_unit
        self.units.set_sizes(points**2, dpi=self.axes.figure.dpi)
        self.units.set_offsets(scene.positions[alive])
        self.units.set_facecolors(self.colours[alive])
        self.dead.set_offsets(scene.positions[~alive])
        self.dead.set_color(self.colours[~alive])
        self.dead.set_alpha(0.45)
        self._show_health(scene.positions[alive], widths, scene.health[alive])

    def _show_health(self, positions: np.ndarray, widths: np.ndarray, health: np.ndarray) -> None:
        """Bars above units: positions [units, 2], widths and health [units]."""
        starts = positions.copy()
        starts[:, 0] -= BAR_WIDTH / 2
        starts[:, 1] += widths / 2 + BAR_GAP
        lengths = np.zeros_like(starts)
        lengths[:, 0] = BAR_WIDTH
        self.empty_bars.set_segments(np.stack([starts, starts + lengths], axis=1))
        lengths[:, 0] *= health
        self.health_bars.set_segments(np.stack([starts, starts + lengths], axis=1))

    def _show_lines(self, before: BattleScene, scene: BattleScene) -> None:
        fired = shots(before, scene)
        attacking = np.flatnonzero(before.alive & (scene.targets >= 0))
        for lines, wanted in ((self.attacks, ~fired), (self.shots, fired)):
            chosen = attacking[wanted[attacking]]
            lines.set_segments(_segments(scene, chosen))
            lines.set_color(self.colours[chosen])

    def _show_banner(self, filmed: FilmedEpisode, step: int) -> None:
        if step < filmed.length:
            self.banner.set_text("")
            return
        text, colour = ("WON", GREEN) if filmed.won else ("LOST", VERMILLION)
        self.banner.set_text(text if filmed.terminated else "OUT OF TIME")
        self.banner.set_bbox({"facecolor": colour, "edgecolor": "none", "boxstyle": "round"})
        # Away from the units that are left.
        scene = filmed.moments[-1].scene
        middle = np.mean(self.axes.get_ylim())
        is_low = scene.alive.any() and scene.positions[scene.alive, 1].mean() < middle
        self.banner.set_y(0.85 if is_low else 0.15)


def _living_area(everyone: Sequence[FilmedEpisode]) -> np.ndarray:
    """Lower and upper corner of the area in which units are ever alive, [2, 2]."""
    scenes = [moment.scene for filmed in everyone for moment in filmed.moments]
    places = np.concatenate([scene.positions[scene.alive] for scene in scenes])
    low, high = places.min(axis=0) - FRAME, places.max(axis=0) + FRAME
    centre, size = (low + high) / 2, np.maximum(high - low, LEAST_AREA)
    return np.stack([centre - size / 2, centre + size / 2])


def _segments(scene: BattleScene, attackers: np.ndarray) -> np.ndarray:
    """Lines from the attackers to their targets, [lines, 2, 2]."""
    start = scene.positions[attackers]
    end = scene.positions[scene.targets[attackers]]
    along = end - start
    along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    aside = SIDESTEP * np.stack([along[:, 1], -along[:, 0]], axis=-1)
    return np.stack([start + aside, end + aside], axis=1)


def _marker_path(number: int) -> Path:
    marker = MarkerStyle(UNIT_TYPES[number][1])
    return marker.get_path().transformed(marker.get_transform())


def _mark(marker: str, colour: str, label: str, mew: float = 1.0) -> Line2D:
    return Line2D([], [], marker=marker, ls="", color=colour, markersize=8, mew=mew, label=label)
