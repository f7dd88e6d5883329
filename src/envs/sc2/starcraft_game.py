"""One StarCraft II game, seen from the project's process: requests with time limits."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from socket import socketpair
from typing import Any

from inspo.envs.sc2.starcraft_channel import Channel
from inspo.envs.sc2.starcraft_install import game_root
from inspo.envs.sc2.starcraft_messages import SLOW, fast_messages
from inspo.utils.files import scratch_folder

WORKER = Path(__file__).with_name("starcraft_worker.py")
KILL_SECONDS = 15.0  # longer than the guard needs for games that do not end at once
LOG_BYTES = 2000  # how much of a failed game's output is shown


class GameProcessError(Exception):
    """A game did not start, raised an error, hung or died. The message holds its output."""


class NoAnswerError(GameProcessError):
    """A game did not answer in time, or its player died."""


class RefusedError(GameProcessError):
    """The game or SMAC does not know a setting. Trying again will not help."""


class Game:
    """The processes of one game, started at once; see starcraft_worker.py.

    Args:
        smac_args: arguments of `smac.env.StarCraft2Env`.
    """

    def __init__(self, smac_args: dict[str, Any]):
        # First, since this may take seconds, and Ctrl-C in them must leave nothing behind.
        messages = {} if fast_messages() else SLOW
        ours, theirs = socketpair()
        self.log = tempfile.TemporaryFile()  # noqa: SIM115 - read if something goes wrong
        # For temporary files of pysc2 and the game. The guard removes it, even after a kill.
        self.scratch = scratch_folder("starcraft")
        socket = theirs.fileno()
        with theirs:
            self.guard = subprocess.Popen(
                [sys.executable, str(WORKER), str(os.getpid()), str(socket), self.scratch],
                pass_fds=[socket],
                stdin=subprocess.DEVNULL,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must not reach the game: the project handles it and closes its games.
                start_new_session=True,
                env={**os.environ, **messages, **self._variables()},
            )
        self.channel = Channel(ours)
        self.unanswered = 0  # requests whose answers have not been received
        with suppress(OSError):
            self.channel.send(smac_args)

    def send(self, request: str, *arguments: Any) -> None:
        """Calls a method of `starcraft_worker.Player`. `receive` returns the answer."""
        self.unanswered += 1
        with suppress(OSError):  # `receive` reports that the process is dead
            self.channel.send((request, arguments))

    def receive(self, timeout: float) -> Any:
        """The answer to the oldest unanswered request.

        Raises:
            NoAnswerError: there is no answer within `timeout` seconds.
            RefusedError: a setting cannot work.
            GameProcessError: the request failed.
        """
        try:
            outcome, answer = self.channel.receive(max(timeout, 0.0))
        except TimeoutError:
            raise NoAnswerError(f"no answer in time{self._output()}") from None
        except EOFError:
            raise NoAnswerError(f"its process died{self._output()}") from None
        if outcome == "refused":
            raise RefusedError(answer)
        if outcome == "failed":
            raise GameProcessError(f"{answer}{self._output()}")
        self.unanswered -= 1
        return answer

    def call(self, timeout: float, request: str, *arguments: Any) -> Any:
        """`send`, then `receive`."""
        self.send(request, *arguments)
        return self.receive(timeout)

    def kill(self) -> None:
        """Ends all processes of the game, whatever state they are in."""
        self.guard.terminate()  # the guard ends the others
        try:
            self.guard.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.guard.pid, signal.SIGKILL)
            self.guard.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)  # a guard may end before it could do so
        self.channel.close()
        self.log.close()

    def _variables(self) -> dict[str, str]:
        """Environment variables that differ from the project's own."""
        return {
            "SC2PATH": str(game_root()),
            "TMPDIR": self.scratch,
            "PYTHONSAFEPATH": "",  # the worker imports its neighbours
        }

    def _output(self) -> str:
        """The end of what the processes printed."""
        log = self.log.fileno()
        size = os.fstat(log).st_size
        # pread does not move the position at which the processes write.
        printed = os.pread(log, LOG_BYTES, max(size - LOG_BYTES, 0))
        text = printed.decode(errors="replace").strip()
        return f"; it printed:\n{text}" if text else ""
