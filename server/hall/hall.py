"""The connections of a hall: TLS and WebSocket like control's own, but handed on, not accepted."""

import asyncio
import resource
import socket
import ssl
from collections import deque
from collections.abc import Callable

from typing_extensions import override
from uvicorn.server import ServerState

from server.door import MAX_TOGETHER, Door
from server.entrance import Entrance
from server.hall.relay import Relay
from server.limits import connections, limits_here

# Of the descriptors that a process may have: the rest is its own, and for those who come and go.
_OF_ALL = 0.75


def places_here() -> int:
    """How many connections a process with this one's descriptors may hold."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else int(soft * _OF_ALL)


class HandedOn(socket.socket):
    """Looks like a listening socket; who calls there was accepted by control."""

    def __init__(self) -> None:
        # Readable as long as somebody waits: there is one byte in it then.
        here, there = socket.socketpair()
        super().__init__(fileno=here.detach())
        self._there = there
        self._waiting: deque[socket.socket] = deque()

    def __len__(self) -> int:
        """How many wait to be accepted."""
        return len(self._waiting)

    def __bool__(self) -> bool:
        """True, however few wait."""
        return True

    def put(self, connection: socket.socket) -> None:
        """One more."""
        self._waiting.append(connection)
        if len(self._waiting) == 1:
            self._there.send(b"!")

    @override
    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """The one that waits longest, and its address; as a socket's otherwise."""
        if not self._waiting:
            raise BlockingIOError
        connection = self._waiting.popleft()
        if not self._waiting:
            self.recv(1)
        try:
            return connection, connection.getpeername()
        except OSError:
            connection.close()
            raise ConnectionAbortedError from None

    @override
    def close(self) -> None:
        """Also of those that wait."""
        for connection in self._waiting:
            connection.close()
        self._waiting.clear()
        self._there.close()
        super().close()


class Hall:
    """A running hall; `end` is its end of the link to control, and is closed with it."""

    def __init__(
        self,
        end: socket.socket,
        context: ssl.SSLContext,
        first_session: int,
        places: int | None = None,
    ) -> None:
        self._handed = HandedOn()
        self._state = ServerState()
        limits = limits_here()
        self.relay = Relay(
            end, places or places_here(), first_session, self._handed.put, self._count
        )
        self._config = connections(self.relay, limits)
        self._config.load()
        self._entrance = Entrance(
            self._handed,
            context,
            self._connection,
            self.relay.changed,
            door=Door(together=min(MAX_TOGETHER, limits.together)),
            most_waiting=limits.together,
        )
        self._entrance.open()

    def close(self) -> None:
        """End all connections."""
        self._entrance.close()
        self.relay.close()
        self._handed.close()
        for connection in list(self._state.connections):
            connection.transport.abort()

    def _count(self) -> tuple[int, int]:
        return len(self._handed) + len(self._entrance), len(self._state.connections)

    def _connection(self, _: str) -> asyncio.Protocol:
        protocol: Callable[..., asyncio.Protocol] = self._config.http_protocol_class
        return protocol(config=self._config, server_state=self._state, app_state={})
