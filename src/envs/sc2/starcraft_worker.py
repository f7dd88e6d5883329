"""One StarCraft II game in processes of its own: a script that `starcraft_game.Game` runs.

    the project's process -- guard -- player -- StarCraft II

The player holds SMAC's environment and answers requests over a socket. The guard ends all of them, game included, when
the player or the project's process is gone, in whatever way (kill -9 is one); the player does the same when the guard
is gone. Before SMAC is imported only the standard library and psutil are: a game costs little beside the game.
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
KILL_SECONDS = 10.0  # until what survives a SIGKILL is given up
PR_SET_CHILD_SUBREAPER = 36  # <sys/prctl.h>
SIZES = ("n_agents", "n_actions", "obs_shape", "state_shape", "episode_limit")


class Player:
    """SMAC's environment, one method for each request.

    Args:
        smac_args: of `smac.env.StarCraft2Env`.
    """

    def __init__(self, smac_args: dict[str, Any]):
        _let_old_protocol_code_run()
        from smac.env import StarCraft2Env

        self.smac_args = smac_args
        self.env = StarCraft2Env(**smac_args)
        self.sizes = {name: int(self.env.get_env_info()[name]) for name in SIZES}
        self.steps = 0
        self.launched = self.finished_an_episode = False

    def describe(self) -> tuple[dict[str, int], str]:
        """The sizes, under PyMARL's names, and the version of the game. Starts no game."""
        return self.sizes, game_version(self.smac_args["game_version"])

    def reset(self) -> tuple:
        """Starts an episode, and the game first if it does not run. Returns what `look` does."""
        if self.launched and not self.finished_an_episode:
            self.env.close()  # SMAC would start a second game beside the first
        restarts = getattr(self.env, "force_restarts", 0)
        self.launched, self.steps = True, 0
        self.env.reset()
        if getattr(self.env, "force_restarts", 0) != restarts:
            raise RuntimeError(
                "StarCraft II was lost at the start of an episode; SMAC's units are those of the last"
            )
        return self.look()

    def step(self, actions: list[int]) -> tuple:
        """Reward, terminated, truncated, battle_won, and what `look` returns."""
        reward, over, info = self.env.step(actions)
        if (
            over and "battle_won" not in info
        ):  # SMAC's answer where it lost the connection, and started a new game
            raise RuntimeError("StarCraft II was lost in mid-episode")
        self.steps += 1
        self.finished_an_episode |= bool(over)
        truncated = bool(over) and self._out_of_time(info)
        return (
            float(reward),
            bool(over) and not truncated,
            truncated,
            bool(info.get("battle_won", False)),
            self.look(),
        )

    def look(self) -> tuple[list, Any, list]:
        """Observations N x [O], state [S] and available actions N x [A], as SMAC gives them."""
        return self.env.get_obs(), self.env.get_state(), self.env.get_avail_actions()

    def save_replay(self) -> list[str]:
        """Writes a replay of all episodes so far; returns the paths of the new files in `replay_dir`."""
        folder = Path(self.smac_args["replay_dir"])
        before = set(folder.glob("*.SC2Replay"))
        self.env.save_replay()
        return sorted(str(path) for path in {*folder.glob("*.SC2Replay")} - before)

    def close(self) -> None:
        """Ends the game."""
        self.env.close()

    def _out_of_time(self, info: dict[str, Any]) -> bool:
        """Whether the time limit ended the episode, and not the battle.

        With continuing_episode SMAC says so; without, it is over at the limit while units live on both sides. (Not
        told apart then: a side left with Medivacs alone, which has lost, if it comes to that in the very last step.)
        """
        if "episode_limit" in info or self.smac_args["continuing_episode"]:
            return bool(info.get("episode_limit", False))
        allies_live = info["dead_allies"] < self.sizes["n_agents"]
        return self.steps >= self.sizes["episode_limit"] and allies_live and not info["battle_won"]


def game_version(wanted: str | None) -> str:
    """The version that pysc2 starts, as `4.10.0.75689`; `Base75689` if only the build is known."""
    try:
        from pysc2 import run_configs
        from pysc2.run_configs.lib import VERSIONS
    except ImportError:
        builds = (Path(os.environ["SC2PATH"]) / "Versions").glob("Base*")
        return wanted or max(build.name for build in builds)
    chosen = run_configs.get(version=wanted).version
    names = [
        known.game_version
        for known in VERSIONS.values()
        if known.build_version == chosen.build_version
    ]
    name = chosen.game_version if chosen.game_version in names else (names or [""])[-1]
    return f"{name}.{chosen.build_version}" if name else f"Base{chosen.build_version}"


def _let_old_protocol_code_run() -> None:
    """s2clientprotocol's generated code is refused by protobuf 4 and later, except by its implementation in Python."""
    with suppress(PackageNotFoundError):
        if int(version("protobuf").partition(".")[0]) >= 4:
            os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"


def guard(main_pid: int, socket: int, scratch: str) -> None:
    """Starts the player; ends everything when it or the process `main_pid` has ended, or at SIGTERM."""
    if (
        sys.platform == "linux"
    ):  # a dead player's game becomes the guard's child, and is found by it
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard_pid = os.getpid()
    player_pid = os.fork()
    if player_pid == 0:
        threading.Thread(target=_outlive, args=(guard_pid, scratch), daemon=True).start()
        play(Connection(socket))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    os.close(
        socket
    )  # the player's end alone is left: when it is gone, the other side reads the end of the file
    try:
        while os.getppid() == main_pid and os.waitpid(player_pid, os.WNOHANG) == (0, 0):
            time.sleep(POLL_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_everything(scratch)


def play(connection: Connection) -> None:
    """Answers requests (method of Player, arguments) with (True, result) or (False, traceback), until asked to close.

    The first message holds the arguments of Player.
    """
    with suppress(EOFError, OSError):  # nobody is there any more; the guard knows
        player, smac_args, request = None, connection.recv(), ""
        while request != "close":
            request, arguments = connection.recv()
            try:
                player = player or Player(smac_args)
                answer = True, getattr(player, request)(*arguments)
            except Exception:  # noqa: BLE001 - whatever SMAC, pysc2 or the game raises, the user has to read it
                answer = False, traceback.format_exc()
            connection.send(answer)


def _outlive(guard_pid: int, scratch: str) -> None:
    """In the player: does the guard's work if the guard is gone."""
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
    os.killpg(0, signal.SIGKILL)  # this process too, and orphans that could not be adopted


if __name__ == "__main__":
    sys.path.pop(0)  # this folder: its modules are the project's, not SMAC's
    guard(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
