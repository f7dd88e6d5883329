"""One StarCraft II game in its own processes: the script that `starcraft_game.Game` runs.

    the project's process -- guard -- player -- StarCraft II

The player holds SMAC's environment and answers requests over a socket. The guard ends all of them,
including the game, when the player or the project's process is gone, even after kill -9. The player
does the same when the guard is gone.

The script imports only the standard library, psutil and SMAC, to use little memory per game.
"""

import ctypes
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

POLL_SECONDS = 0.2  # how soon the end of a process is noticed
KILL_SECONDS = 10.0  # how long to wait for processes to end after SIGKILL
PR_SET_CHILD_SUBREAPER = 36  # from <sys/prctl.h>
SIZES = ("n_agents", "n_actions", "obs_shape", "state_shape", "episode_limit")


class Player:
    """SMAC's environment. Each request calls one of the methods.

    Args:
        smac_args: arguments of `smac.env.StarCraft2Env`.
    """

    def __init__(self, smac_args: dict[str, Any]):
        _allow_old_protobuf_code()
        from smac.env import StarCraft2Env

        self.smac_args = smac_args
        self.env = StarCraft2Env(**smac_args)
        info = self.env.get_env_info()
        self.sizes = {name: int(info[name]) for name in SIZES}
        self.steps = 0
        self.launched = self.finished_an_episode = False

    def describe(self) -> tuple[dict[str, int], str]:
        """Sizes under PyMARL's names, and the game's version. Does not start the game."""
        return self.sizes, game_version(self.smac_args["game_version"])

    def reset(self) -> tuple:
        """Starts an episode, and the game if it is not running. Returns what `observe` returns."""
        if self.launched and not self.finished_an_episode:
            self.env.close()  # SMAC would start a second game
        restarts = getattr(self.env, "force_restarts", 0)
        self.launched, self.steps = True, 0
        self.env.reset()
        if getattr(self.env, "force_restarts", 0) != restarts:
            # SMAC's units are still those of the last episode.
            raise RuntimeError("StarCraft II was lost at the start of an episode")
        return self.observe()

    def step(self, actions: list[int]) -> tuple:
        """Returns reward, terminated, truncated, battle_won, and what `observe` returns."""
        reward, over, info = self.env.step(actions)
        if over and "battle_won" not in info:  # SMAC lost the connection and started a new game
            raise RuntimeError("StarCraft II was lost during an episode")
        self.steps += 1
        over, won = bool(over), bool(info.get("battle_won", False))
        self.finished_an_episode |= over
        truncated = over and self._out_of_time(info)
        return float(reward), over and not truncated, truncated, won, self.observe()

    def observe(self) -> tuple[list, Any, list]:
        """Observations N x [O], state [S] and available actions N x [A], as SMAC returns them."""
        return self.env.get_obs(), self.env.get_state(), self.env.get_avail_actions()

    def save_replay(self) -> list[str]:
        """Writes a replay of all episodes so far. Returns the new files in `replay_dir`."""
        folder = Path(self.smac_args["replay_dir"])
        before = set(folder.glob("*.SC2Replay"))
        self.env.save_replay()
        return sorted(str(path) for path in {*folder.glob("*.SC2Replay")} - before)

    def close(self) -> None:
        """Ends the game."""
        self.env.close()

    def _out_of_time(self, info: dict[str, Any]) -> bool:
        """Whether the time limit ended the episode, and not the battle.

        With `continuing_episode`, SMAC reports it. Without, the time limit ended an episode of full
        length in which units of both sides are alive. One case is not recognised: in the very last
        step, a side loses its last units except Medivacs, and with them the battle.
        """
        if "episode_limit" in info or self.smac_args["continuing_episode"]:
            return bool(info.get("episode_limit", False))
        allies_live = info["dead_allies"] < self.sizes["n_agents"]
        return self.steps >= self.sizes["episode_limit"] and allies_live and not info["battle_won"]


def game_version(wanted: str | None) -> str:
    """The version that pysc2 starts, as `4.10.0.75689`; `Base75689` if only the build is known."""
    try:
        from absl import flags
        from pysc2 import run_configs
        from pysc2.run_configs.lib import VERSIONS
    except ImportError:
        builds = (Path(os.environ["SC2PATH"]) / "Versions").glob("Base*")
        return wanted or max(build.name for build in builds)
    if not flags.FLAGS.is_parsed():  # pysc2 reads its settings from them; SMAC parses them, too
        flags.FLAGS(["starcraft_worker"])
    chosen = run_configs.get(version=wanted).version
    build = chosen.build_version
    names = [known.game_version for known in VERSIONS.values() if known.build_version == build]
    if not names:
        return f"Base{build}"
    name = chosen.game_version if chosen.game_version in names else names[-1]
    return f"{name}.{build}"


def guard(main_pid: int, socket: int, scratch: str) -> None:
    """Starts the player. Ends everything when the player or `main_pid` is gone, or at SIGTERM."""
    if sys.platform == "linux":  # makes a dead player's game the guard's child
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard_pid = os.getpid()
    player_pid = os.fork()
    if player_pid == 0:
        threading.Thread(target=_watch_guard, args=(guard_pid, scratch), daemon=True).start()
        play(Connection(socket))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    # Only the player keeps its end open: the project reads end-of-file when the player is gone.
    os.close(socket)
    try:
        while os.getppid() == main_pid and os.waitpid(player_pid, os.WNOHANG) == (0, 0):
            time.sleep(POLL_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_everything(scratch)


def play(connection: Connection) -> None:
    """Answers requests until `close`. The first message holds the arguments of Player.

    A request is the name of one of Player's methods and its arguments. An answer is (True, result)
    or (False, traceback).
    """
    with suppress(EOFError, OSError):  # the other side is gone; the guard takes care of it
        player, smac_args, request = None, connection.recv(), ""
        while request != "close":
            request, arguments = connection.recv()
            try:
                player = player or Player(smac_args)
                answer = True, getattr(player, request)(*arguments)
            except Exception:  # noqa: BLE001 - the user must see any error of SMAC, pysc2 or the game
                answer = False, traceback.format_exc()
            connection.send(answer)


def _allow_old_protobuf_code() -> None:
    """s2clientprotocol's generated code runs on protobuf 4 and later only in pure Python."""
    with suppress(PackageNotFoundError):
        if int(version("protobuf").partition(".")[0]) >= 4:
            os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"


def _watch_guard(guard_pid: int, scratch: str) -> None:
    """Runs in the player. Does the guard's work when the guard is gone."""
    while os.getppid() == guard_pid:
        time.sleep(POLL_SECONDS)
    _end_everything(scratch)


def _end_everything(scratch: str) -> None:
    deadline = time.monotonic() + KILL_SECONDS
    while (processes := psutil.Process().children(recursive=True)) and time.monotonic() < deadline:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=1)
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)  # this process too, and orphans that were not adopted


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are the project's, not SMAC's
    guard(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
