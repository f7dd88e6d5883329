"""SMAC's environment inside a game's player process, and what is mended in it.

Three things are wrong in SMAC (`smac` 1.0.0) and right here: docs/battles.md tells them.

The module imports nothing of the project: see starcraft_worker.py.
"""

import glob
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

SIZES = ("n_agents", "n_actions", "obs_shape", "state_shape", "episode_limit")


class RefusedError(Exception):
    """A setting that SMAC, pysc2 or the installed game does not know. No game was started."""


class GameLostError(Exception):
    """StarCraft II died, or answered with an error."""


class Player:
    """SMAC's environment. Each request calls one of the methods.

    Args:
        smac_args: arguments of `smac.env.StarCraft2Env`.

    Raises:
        RefusedError: SMAC does not accept them.
    """

    def __init__(self, smac_args: dict[str, Any]):
        self.smac_args = smac_args
        self.env = self.make_env()
        # SMAC would launch a new game inside a step or a reset, and hide why.
        self.env.full_restart = _give_up
        info = self.env.get_env_info()
        self.sizes = {name: int(info[name]) for name in SIZES}
        self.initial_max_reward = self.env.max_reward
        self.launched = self.finished_an_episode = False

    def describe(self) -> tuple[dict[str, int], str]:
        """Sizes under PyMARL's names, and the game's version. Does not start the game."""
        return self.sizes, game_version(self.smac_args["game_version"])

    def make_env(self) -> Any:
        """Makes SMAC's environment."""
        from smac.env import StarCraft2Env

        return accepted(StarCraft2Env, self.smac_args)

    def begin(self, seed: int) -> None:
        """Calls SMAC's reset.

        Args:
            seed: of what differs between episodes. On SMAC's maps nothing does.
        """
        self.env.reset()

    def reset(self, seed: int) -> bytes:
        """Starts an episode, and the game if it is not running. Returns what `observe` returns.

        SMAC launches the game in the first episode, and again if that one is abandoned. It adds up
        the enemies' health for its scale of rewards then: several times if it launches several
        times, and if units appear late.
        """
        if self.launched and not self.finished_an_episode:
            self.env.close()  # SMAC would start a second game
        self.launched = True
        self.begin(seed)
        self.env.max_reward = self.initial_max_reward
        for unit in self.env.enemies.values():
            self.env.max_reward += unit.health_max + unit.shield_max
        return self.observe()

    def step(self, actions: list[int]) -> tuple:
        """Returns reward, terminated, truncated, battle_won, and what `observe` returns."""
        timeouts = self.env.timeouts
        reward, over, info = self.env.step(actions)
        truncated = self.env.timeouts > timeouts  # and not the battle ended the episode
        self.finished_an_episode |= bool(over)
        won = bool(info["battle_won"])
        return float(reward), bool(over) and not truncated, truncated, won, self.observe()

    def observe(self) -> bytes:
        """Observations [N, O] and state [S], float32, then available actions, bool [N, A].

        Their bytes alone: to send arrays takes ten times as long.
        """
        obs = np.array(self.env.get_obs(), dtype=np.float32)
        if self.smac_args["obs_timestep_number"] and obs.shape[1] == self.sizes["obs_shape"] + 1:
            obs = np.delete(obs, -2, axis=1)  # SMAC leaves a zero before the time step
        if self.smac_args["obs_instead_of_state"]:
            state = obs
        else:
            state = np.array(self.env.get_state(), dtype=np.float32)
        avail_actions = np.array(self.env.get_avail_actions(), dtype=bool)
        return obs.tobytes() + state.tobytes() + avail_actions.tobytes()

    def save_replay(self) -> list[str]:
        """Writes a replay of all episodes so far. Returns the new files in `replay_dir`."""
        folder = Path(self.smac_args["replay_dir"])
        # Other games save theirs at the same time.
        own = f"{glob.escape(self.smac_args['replay_prefix'])}_*.SC2Replay"
        before = set(folder.glob(own))
        self.env.save_replay()
        return sorted(str(path) for path in {*folder.glob(own)} - before)

    def close(self) -> None:
        """Ends the game."""
        self.env.close()


def accepted(make: Callable, smac_args: dict[str, Any]) -> Any:
    """What `make` makes with SMAC's arguments.

    Raises:
        RefusedError: SMAC does not accept them.
    """
    try:
        return make(**smac_args)
    except KeyError as error:
        if error.args != (smac_args["map_name"],):
            raise
        raise RefusedError(f"env_args.map_name={error.args[0]}: SMAC has no such map") from None
    except (TypeError, ValueError) as error:
        raise RefusedError(f"SMAC refuses its arguments: {type(error).__name__}: {error}") from None


def game_version(wanted: str | None) -> str:
    """The version that pysc2 starts, as `4.10.0.75689`; `Base75689` if only the build is known.

    Raises:
        RefusedError: it is not installed.
    """
    from absl import flags
    from pysc2 import run_configs
    from pysc2.run_configs.lib import VERSIONS

    if not flags.FLAGS.is_parsed():  # pysc2 reads its settings from them; SMAC parses them, too
        flags.FLAGS(["starcraft_worker"])
    try:
        config = run_configs.get(version=wanted)
    except Exception as error:  # noqa: BLE001 - pysc2 has its own, and Python's from odd folders
        setting = f"env_args.game_version={wanted}: " if wanted else ""
        raise RefusedError(f"{setting}pysc2 cannot start the game: {error}") from None
    build = config.version.build_version
    program = Path(config.data_dir, "Versions", f"Base{build:05d}", config._exec_name)
    if not os.access(program, os.X_OK):
        raise RefusedError(f"the game's program {program} is missing, or cannot be executed")
    names = [known.game_version for known in VERSIONS.values() if known.build_version == build]
    if not names:
        return f"Base{build}"
    name = config.version.game_version
    return f"{name if name in names else names[-1]}.{build}"


def _give_up() -> NoReturn:
    """Takes the place of SMAC's `full_restart`. SMAC calls it while it handles an error."""
    raise GameLostError(f"StarCraft II was lost: {sys.exc_info()[1]}") from None
