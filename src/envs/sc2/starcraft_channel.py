"""Messages between the project's process and a game's player, over a socket.

Takes a third of the CPU of `multiprocessing.connection.Connection`, which reads each message in two
parts. The module imports nothing of the project: see starcraft_worker.py.
"""

import pickle
import struct
from socket import socket
from typing import Any

LENGTH = struct.Struct("=I")  # precedes each message
CHUNK_BYTES = 2**16  # of one read; most messages are shorter


class Channel:
    """One end of a pair of connected sockets, between processes of this project only."""

    def __init__(self, end: socket):
        self.socket = end
        self.received = b""

    def send(self, content: Any) -> None:
        """Sends what can be pickled.

        Raises:
            OSError: the other side is gone, or does not read.
        """
        data = pickle.dumps(content)
        self.socket.sendall(LENGTH.pack(len(data)) + data)

    def receive(self, timeout: float | None = None) -> Any:
        """The next message.

        Args:
            timeout: in seconds; None waits for ever.

        Raises:
            TimeoutError: it does not come in time.
            EOFError: the other side is gone.
        """
        self.socket.settimeout(timeout)
        try:
            start = self._read(LENGTH.size)
            end = LENGTH.size + LENGTH.unpack_from(start)[0]
            data = self._read(end)
        except (BlockingIOError, TimeoutError):
            raise TimeoutError from None
        except OSError:
            raise EOFError from None
        self.received = data[end:]
        return pickle.loads(memoryview(data)[LENGTH.size : end])

    def close(self) -> None:
        """Closes this end."""
        self.socket.close()

    def _read(self, n_bytes: int) -> bytes:
        """At least `n_bytes` of what was received and is not taken yet."""
        while len(self.received) < n_bytes:
            chunk = self.socket.recv(CHUNK_BYTES)
            if not chunk:
                raise EOFError
            self.received += chunk
        return self.received
