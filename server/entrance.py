"""Accepts connections and has them shake hands by TLS; whoever does not get on makes room."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from server.door import Door

# Of one turn of the loop: those that are within come between.
_CALLERS = 16
# Without descriptors there is nothing to accept with; asking again at once would be all we do.
_REST_S = 0.1


@dataclass(frozen=True, slots=True)
class Manners:
    """How long TLS may take to begin, and to end."""

    handshake_s: float = 5.0
    goodbye_s: float = 5.0


class _Caller:
    """A connection that is not through TLS."""

    task: asyncio.Task[None]

    def drop(self) -> None:
        self.task.cancel()


class Entrance:
    """Of one listening socket, which stays its owner's.

    `receive` makes the protocol for a connection from an address; it is told of the connection
    after TLS, or never. `refused` is called for each that is ended before.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        receive: Callable[[str], asyncio.Protocol],
        refused: Callable[[], None] = lambda: None,
        *,
        manners: Manners | None = None,
        door: Door | None = None,
    ) -> None:
        self._listening = listening
        self._context = context
        self._receive = receive
        self._refused = refused
        self._manners = manners or Manners()
        self._door = Door() if door is None else door  # an empty one is false
        self._loop = asyncio.get_running_loop()
        self._callers: set[_Caller] = set()
        self._resting: asyncio.TimerHandle | None = None
        listening.setblocking(False)

    def __len__(self) -> int:
        """How many are not through TLS."""
        return len(self._door)

    def open(self) -> None:
        """Accept, from now on."""
        self._resting = None
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more, and end all that are not through TLS."""
        self._loop.remove_reader(self._listening)
        if self._resting is not None:
            self._resting.cancel()
        for caller in self._callers:
            caller.drop()

    def _accept(self) -> None:
        for _ in range(_CALLERS):
            try:
                connection, (address, *_) = self._listening.accept()
            except (BlockingIOError, ConnectionError):  # nobody is there any more
                return
            except OSError:
                self._loop.remove_reader(self._listening)
                self._resting = self._loop.call_later(_REST_S, self.open)
                return
            connection.setblocking(False)
            self._greet(connection, address)

    def _greet(self, connection: socket.socket, address: str) -> None:
        caller = _Caller()
        caller.task = self._loop.create_task(self._shake_hands(connection, address))
        caller.task.add_done_callback(partial(self._through, caller, connection))
        self._callers.add(caller)
        self._door.arrive(caller, address)

    async def _shake_hands(self, connection: socket.socket, address: str) -> None:
        await self._loop.connect_accepted_socket(
            partial(self._receive, address),
            connection,
            ssl=self._context,
            ssl_handshake_timeout=self._manners.handshake_s,
            ssl_shutdown_timeout=self._manners.goodbye_s,
        )

    def _through(
        self, caller: _Caller, connection: socket.socket, task: asyncio.Task[None]
    ) -> None:
        self._callers.discard(caller)
        self._door.leave(caller)
        # It speaks no TLS, was too slow, is gone, or has made room.
        if task.cancelled() or task.exception() is not None:
            connection.close()
            self._refused()
