"""Reading a UDP socket so that a flood costs little and starves nobody."""

import socket
from collections.abc import Callable

import trio

_BATCH = 64
_DISTURBED_S = 0.05


class Reader:
    """Reads one non-blocking socket, which is its own from now on, until it is closed."""

    def __init__(self, udp: socket.socket, read_one: Callable[[], None]) -> None:
        """`read_one` reads one datagram, and lets the socket's OSError pass."""
        self._udp = udp
        self._read_one = read_one
        self._scope = trio.CancelScope()

    @property
    def port(self) -> int:
        """Our own."""
        return int(self._udp.getsockname()[1])

    def send(self, data: bytes) -> None:
        """To the peer that the socket is connected to; OSError if it cannot be now."""
        self._udp.send(data)

    def close(self) -> None:
        """Read no more, and close the socket."""
        self._scope.cancel()

    async def run(self) -> None:
        """Until `close`, or until cancelled.

        Between two batches all others have their turn; within a batch there is no waiting, which
        costs more than reading.
        """
        with self._udp, self._scope:
            while True:
                await trio.lowlevel.wait_readable(self._udp)
                try:
                    for _ in range(_BATCH):
                        self._read_one()
                except (BlockingIOError, ConnectionError):
                    continue  # no more waits; or what we sent met a closed port, said once
                except OSError:  # the network is down, which may be said again and again
                    await trio.sleep(_DISTURBED_S)
