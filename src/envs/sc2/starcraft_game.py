"""A StarCraft II game seen from the project's process: requests with time limits, and an end that leaves nothing."""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

from inspo.envs.sc2.starcraft_install import game_root

WORKER = Path(__file__).with_name("starcraft_worker.py")
KILL_SECONDS = 15.0  # longer than the guard needs for games that do not die at once
LOG_BYTES = 2000  # so much of what a dead game's processes printed is shown


class GameProcessError(Exception):
    """A game did not start, raised an error, hung or died; its processes' own words are in the message."""


class Game:
    """The processes of one game (see starcraft_worker.py), started at once. Messages are the worker's own: trusted.

    Args:
        smac_args: of `smac.env.StarCraft2Env`.
    """

    def __init__(self, smac_args: dict[str, Any]):
        mine, theirs = socketpair()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - read when something went wrong
        # Temporary files of pysc2 and the game go into a folder that the guard removes, also after a kill.
        environment = os.environ | {
            "SC2PATH": str(game_root()),
            "TMPDIR": tempfile.mkdtemp(prefix="starcraft-"),
        }
        with theirs:
            command = [sys.executable, str(WORKER), str(os.getpid()), str(theirs.fileno())]
            self.guard = subprocess.Popen(
                [*command, environment["TMPDIR"]],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is the project's business, which then closes its games
                env=environment,
            )
        self.connection = Connection(mine.detach())
        self.unanswered = 0  # requests sent whose answers nobody has got
        with suppress(OSError):
            self.connection.send(smac_args)

    def send(self, request: str, *arguments: Any) -> None:
        """Asks for a method of `starcraft_worker.Player`; `receive` has the answer."""
        self.unanswered += 1
        with suppress(OSError):  # it is dead, as `receive` will say
            self.connection.send((request, arguments))

    def receive(self, timeout: float) -> Any:
        """The answer to the oldest request without one; GameProcessError if there is none within `timeout` seconds."""
        try:
            if not self.connection.poll(max(timeout, 0)):
                raise GameProcessError(f"no answer in time{self._printed()}")
            succeeded, answer = self.connection.recv()
        except (EOFError, OSError):
            raise GameProcessError(f"its process died{self._printed()}") from None
        if not succeeded:
            raise GameProcessError(answer.strip())
        self.unanswered -= 1
        return answer

    def call(self, timeout: float, request: str, *arguments: Any) -> Any:
        """`send` and `receive`."""
        self.send(request, *arguments)
        return self.receive(timeout)

    def kill(self) -> None:
        """Ends all processes of the game, whatever state they are in."""
        self.guard.terminate()  # it ends the others
        try:
            self.guard.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.guard.pid, signal.SIGKILL)
            self.guard.wait()
        self.connection.close()
        self.log.close()

    def _printed(self) -> str:
        """The end of what the processes printed. Read without moving the position at which they write."""
        size = os.fstat(self.log.fileno()).st_size
        text = (
            os.pread(self.log.fileno(), LOG_BYTES, max(size - LOG_BYTES, 0))
            .decode(errors="replace")
            .strip()
        )
        return f"; it printed:\n{text}" if text else ""
