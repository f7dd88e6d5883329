"""Films a trained policy: the function `inspo.watch`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inspo.envs import MultiAgentEnv
from inspo.envs.bridge import Bridge
from inspo.envs.matrix_game import MatrixGame
from inspo.envs.sc2 import ON_STARCRAFT
from inspo.envs.sc2.smax import SMAX
from inspo.film.episode import FilmedEpisode, film_episode
from inspo.film.files import check_suffix, write_film
from inspo.film.panel import Panel
from inspo.film.player import FilmedPlayer, make_player
from inspo.film.replay import write_replay
from inspo.run.checkpoint import open_checkpoint
from inspo.utils.addresses import refuse_address
from inspo.utils.errors import ConfigError
from inspo.utils.pictures import must_draw

if TYPE_CHECKING:
    from inspo.film.film import Film

MIN_SIZE = 200  # pixels


def watch(
    run: str | os.PathLike,
    *more: str | os.PathLike,
    out: str | os.PathLike = "film.gif",
    seed: int = 0,
    episodes: int | None = None,
    greedy: bool | None = None,
    fps: int = 8,
    size: int = 400,
    frame: int = -1,
) -> Path:
    """Films trained policies at play.

    Args:
        run: a run folder (its newest checkpoint), `RUN:STEP`, or a checkpoint file.
        more: runs on the same game, shown beside it. Episodes start in the same way for all.
        out: the film: `.gif`, `.mp4` (needs ffmpeg), or `.png` for a single frame. StarCraft II
            writes a replay instead, of the same name with the suffix `.SC2Replay`.
        seed: of the first episode, its game and its sampled actions; later ones count up from it.
        episodes: how many are shown, one after the other; None: 1, and 40 of a matrix game.
        greedy: take the likeliest (or most valued) actions; None: as the run was evaluated.
        fps: frames (game steps) per second.
        size: width of each run's picture, in pixels.
        frame: which frame a `.png` shows, -1 being the last one.

    Returns:
        the film's absolute path.

    Raises:
        UserError: there is no such checkpoint, its game cannot be played here or filmed, the runs
            play different games, or the film cannot be drawn or written.
    """
    if min(fps, 1 if episodes is None else episodes) < 1:
        raise ConfigError(f"fps={fps} and episodes={episodes} must be at least 1")
    if size < MIN_SIZE:
        raise ConfigError(f"size={size}: letters cannot be read below {MIN_SIZE} pixels")
    path = _absolute(out)
    checkpoints = [open_checkpoint(name) for name in (run, *more)]
    if any(is_starcraft(content) for _, content in checkpoints):
        if more:
            raise ConfigError("StarCraft II films one run at a time; give a single one")
        return write_replay(*checkpoints[0], path, seed, episodes or 1, greedy)
    check_suffix(path)
    players = [make_player(*checkpoint, greedy) for checkpoint in checkpoints]
    check_same_game(players)
    film = make_film(players, seed, episodes, size)
    if not -len(film) <= frame < len(film):
        raise ConfigError(f"frame={frame}: the film has {len(film)} frames")
    write_film(film, path, fps, frame)
    return path


def _absolute(out: str | os.PathLike) -> Path:
    refuse_address(out)
    return Path(out).expanduser().absolute()


def make_film(
    players: Sequence[FilmedPlayer], seed: int, n_episodes: int | None = None, size: int = 400
) -> "Film":
    """Plays the episodes and draws what stays the same in all frames.

    Args:
        seed, n_episodes, size: as those of `watch`.

    Raises:
        ConfigError: there are no pictures of this game.
        DrawingError: matplotlib fails.
    """
    with must_draw():
        panel_class = panel_of(players[0].env)
    if panel_class is None:
        raise ConfigError(f"env={players[0].args.env}: there are no films of this environment")
    n_episodes = n_episodes or panel_class.default_episodes
    episodes = [film_episodes(player, panel_class, seed, n_episodes) for player in players]
    with must_draw():
        from inspo.film.film import Film

        return Film(players, episodes, panel_class, size)


def panel_of(env: MultiAgentEnv) -> type[Panel] | None:
    """How a game is drawn; None if there are no pictures of it."""
    # Matplotlib may fail when it is imported.
    from inspo.film.battle_panel import BattlePanel
    from inspo.film.bridge_panel import BridgePanel
    from inspo.film.matrix_panel import MatrixPanel

    panels: dict[type[MultiAgentEnv], type[Panel]] = {
        SMAX: BattlePanel,
        Bridge: BridgePanel,
        MatrixGame: MatrixPanel,
    }
    return panels.get(type(env))


def film_episodes(
    player: FilmedPlayer, panel_class: type[Panel], seed: int, n_episodes: int
) -> list[FilmedEpisode]:
    """Plays one episode for each seed from `seed` on."""
    env = player.env.make_batch(1)
    try:
        return [
            film_episode(env, player.policy(number), number, panel_class.look)
            for number in range(seed, seed + n_episodes)
        ]
    finally:
        env.close()


def check_same_game(players: Sequence[FilmedPlayer]) -> None:
    """Raises ConfigError, which says what differs, if the players play different games."""
    first, *others = (player.game() for player in players)
    for other in others:
        keys = sorted(key for key in {*first, *other} if first.get(key) != other.get(key))
        if keys:
            differing = (f"{key}: {first.get(key)} and {other.get(key)}" for key in keys)
            raise ConfigError(f"the runs play different games ({'; '.join(differing)})")


def is_starcraft(content: dict[str, Any]) -> bool:
    """Whether a checkpoint's policies play StarCraft II itself."""
    return content["config"]["env_args"].get("simulator") in ON_STARCRAFT
