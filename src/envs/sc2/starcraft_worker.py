"""One StarCraft II game in its own processes: the script that `starcraft_game.Game` runs.

    the project's process -- guard -- player -- StarCraft II

The player holds SMAC's environment and answers requests over a socket. The guard ends all of them,
including the game, when the player or the project's process is gone, even after kill -9. The player
does the same when the guard is gone. On Linux, the kernel ends the game with the player, so that
nothing survives if all three are killed at once.

The script imports only the standard library, psutil, SMAC and its neighbours here, to use little
memory per game.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from contextlib import suppress
from socket import socket
from typing import Any

import psutil
from starcraft_channel import Channel

POLL_SECONDS = 0.2  # how soon the end of a process is noticed
KILL_SECONDS = 10.0  # how long to wait for processes to end after SIGKILL
REAP_SECONDS = 0.02  # between two looks whether killed processes are gone
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # from <sys/prctl.h>
# Packages whose errors tell the user all. Others are shown with their traceback.
CLEAR_ERRORS = ("pysc2", "starcraft_player")


def guard(main_pid: int, handle: int, scratch: str) -> None:
    """Starts the player. Ends everything when the player or `main_pid` is gone, or at SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    if sys.platform == "linux":  # makes a dead player's game the guard's child
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard_pid = os.getpid()
    player_pid = os.fork()
    if player_pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        watch = threading.Thread(target=_watch_guard, args=(guard_pid, scratch), daemon=True)
        watch.start()
        play(Channel(socket(fileno=handle)))
        watch.join()  # until the guard ends this process, or is gone itself
        return
    # Only the player keeps its end open: the project reads end-of-file when the player is gone.
    os.close(handle)
    try:
        while os.getppid() == main_pid and os.waitpid(player_pid, os.WNOHANG) == (0, 0):
            time.sleep(POLL_SECONDS)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end_everything(scratch)


def play(channel: Channel) -> None:
    """Answers requests until `close`. The first message holds the arguments of Player.

    A request is the name of one of Player's methods and its arguments. An answer is ("done",
    result), ("failed", message), or ("refused", message) for settings that cannot work.
    """
    from smacv2_player import make_player
    from starcraft_messages import prepare_messages
    from starcraft_player import RefusedError

    prepare_messages()
    if sys.platform == "linux":
        _let_children_die_with_this_process()
    sys.path.pop(0)  # this folder: its modules are the project's, not SMAC's
    with suppress(EOFError, OSError):  # the other side is gone; the guard takes care of it
        player, request = None, ""
        smac_args = channel.receive()
        while request != "close":
            request, arguments = channel.receive()
            try:
                player = player or make_player(smac_args)
                answer = "done", getattr(player, request)(*arguments)
            except RefusedError as error:
                answer = "refused", str(error)
            except Exception as error:  # noqa: BLE001 - of SMAC, pysc2 or the game
                answer = "failed", explain(error)
            channel.send(answer)


def explain(error: Exception) -> str:
    """What the user is told about an error."""
    package = type(error).__module__.partition(".")[0]
    if package in CLEAR_ERRORS or isinstance(error, ImportError):
        return f"{type(error).__name__}: {error}"
    return traceback.format_exc().strip()


def _let_children_die_with_this_process() -> None:
    """pysc2 starts the game by subprocess.Popen. Call it from the thread that will do so.

    A game that ends at once is reported at once, too.
    """
    prctl, player_pid = ctypes.CDLL(None).prctl, os.getpid()

    def prepare_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != player_pid:  # gone before the call
            os._exit(1)

    class Popen(subprocess.Popen):
        def __init__(self, *args: Any, **kwargs: Any):
            super().__init__(*args, **{"preexec_fn": prepare_child, **kwargs})
            self.n_looks = 0

        def poll(self) -> int | None:
            # pysc2 gives up at once on a game that was seen running, and else waits half a minute.
            self.n_looks += 1
            return None if self.n_looks == 1 else super().poll()

    subprocess.Popen = Popen


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
        time.sleep(REAP_SECONDS)
        # A dead player's game is this process's child now, and stays a zombie until it is read.
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)  # this process too, and orphans that were not adopted


if __name__ == "__main__":
    guard(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
