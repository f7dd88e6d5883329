"""What the pictures of all games have in common: a panel for each player."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from inspo.envs import MultiAgentEnv, VectorEnv
from inspo.film.episode import FilmedEpisode

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which the colour-blind can tell apart.
BLUE, VERMILLION, GREEN, YELLOW = "#0072B2", "#D55E00", "#009E73", "#F0E442"
DARK, GREY, LIGHT = "#333333", "#888888", "#DDDDDD"


class Panel(ABC):
    """One player's picture, which `show` sets to a moment of an episode.

    Args:
        axes: where to draw.
        env: the game.
        episodes: the player's.
        everyone: the episodes of all players of the film, so that all panels have the same scale.
    """

    margin_above: ClassVar[float] = 0.0  # inches that the panel needs above its axes
    margin_left: ClassVar[float] = 0.0  # and to their left
    legend_columns: ClassVar[int] = 4  # that fit into the width of a panel
    default_episodes: ClassVar[int] = 1
    # Whether an episode's start is worth a frame, beyond that of the first episode.
    shows_every_start: ClassVar[bool] = True

    def __init__(
        self,
        axes: "Axes",
        env: MultiAgentEnv,
        episodes: Sequence[FilmedEpisode],
        everyone: Sequence[FilmedEpisode],
    ):
        self.axes, self.env, self.episodes, self.everyone = axes, env, episodes, everyone
        self.changing: list[Artist] = []  # what `show` changes
        axes.set(xticks=[], yticks=[])
        self.draw_scene()

    @staticmethod
    @abstractmethod
    def look(env: VectorEnv) -> Any:
        """The scene: what the panel needs to know of a single game as it stands."""

    @abstractmethod
    def draw_scene(self) -> None:
        """Draws what stays, and fills `changing`."""

    @abstractmethod
    def show(self, episode: int, step: int) -> None:
        """Shows an episode after `step` steps; its end if it was over before."""

    @staticmethod
    @abstractmethod
    def aspect(everyone: Sequence[FilmedEpisode]) -> float:
        """Height of the axes as a share of their width."""

    @staticmethod
    @abstractmethod
    def legend(everyone: Sequence[FilmedEpisode]) -> "list[Artist]":
        """Handles of the film's legend. Their labels explain shapes and colours."""

    def caption(self, episode: int, step: int) -> str:
        """The line below the picture."""
        filmed = self.episodes[episode]
        parts = [f"step {min(step, filmed.length)}", f"return {filmed.at(step).total:.2f}"]
        if len(self.episodes) > 1:
            parts.insert(0, f"episode {episode + 1} of {len(self.episodes)}")
        return "    ".join(parts)
