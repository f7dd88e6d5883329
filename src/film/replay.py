"""StarCraft II films itself: it writes a replay, which the game plays back."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from inspo.data.rollout import play
from inspo.film.player import make_player
from inspo.utils.errors import SimulatorError

log = logging.getLogger(__name__)
SUFFIX = ".SC2Replay"


def write_replay(
    file: Path, content: dict[str, Any], path: Path, seed: int, n_episodes: int, greedy: bool | None
) -> Path:
    """Plays on StarCraft II and moves the game's replay to `path`.

    Args:
        file, content: the checkpoint, as `open_checkpoint` returned it.
        path: its suffix becomes that of replays.

    Returns:
        the replay's path.

    Raises:
        SimulatorError: StarCraft II is not there, or wrote no replay.
    """
    path = path.with_suffix(SUFFIX)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".replay_") as folder:
        player = make_player(file, content, greedy, replay_dir=folder)
        env = player.env.make_batch(1)
        try:
            for rollout in play(env, player.policy(seed), n_episodes, seed):
                log.info("Return %.2f, won: %s", rollout.returns[0], rollout.battle_won[0])
        finally:
            env.close()  # the game writes its replay when it is closed
        written = sorted(Path(folder).rglob(f"*{SUFFIX}"))
        if not written:
            raise SimulatorError("StarCraft II wrote no replay; the log above may say why")
        written[-1].replace(path)
    return path
