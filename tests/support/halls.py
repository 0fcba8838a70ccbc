"""A station's door with halls behind it, in one loop, and loudspeakers that knock by real TLS."""

import asyncio
import itertools
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from server.entrance import first_bytes
from server.hall.hall import Hall
from server.halls import Halls, RelayedSession, Serve
from server.processes.child import hall_pair
from tests.support.tls import station_tls
from transport.control.messages import SUBPROTOCOL

# Never waited for unless something is broken.
PATIENCE_S = 15.0
_SESSIONS = itertools.count(1, 1 << 32)


async def echo(session: RelayedSession) -> None:
    """Say back what comes, until it goes."""
    await session.accept(SUBPROTOCOL)
    while (message := await session.receive())["type"] == "websocket.receive":
        await session.send_bytes(message["bytes"])


@dataclass(slots=True)
class Door:
    """Accepts as control's entrance does, and keeps whom the halls do not take."""

    serve: Serve = echo
    own_places: int = 0
    most_own: int = 0
    places: int = 100
    kept: list[socket.socket] = field(default_factory=list)
    callers: list[ClientConnection] = field(default_factory=list)
    own: int = 0
    listening: socket.socket = field(default_factory=socket.socket)
    ends: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    halls: list[Hall] = field(default_factory=list)
    control: Halls = field(init=False)

    def open(self, halls: int) -> None:
        self.ends += [hall_pair() for _ in range(halls)]
        self.halls += [self.hall(number) for number in range(halls)]
        self.control = self.new_control(self.serve)
        self.listening.bind(("127.0.0.1", 0))
        self.listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        self.listening.setblocking(False)
        self.listening.listen(128)
        asyncio.get_running_loop().add_reader(self.listening, self._accept)

    def hall(self, number: int) -> Hall:
        """A hall's life; the supervisor keeps the end, so it outlives this."""
        end = socket.socket(fileno=os.dup(self.ends[number][1].fileno()))
        return Hall(end, station_tls().accepting(), next(_SESSIONS), self.places)

    def new_control(self, serve: Serve) -> Halls:
        ends = tuple(ours.fileno() for ours, _ in self.ends)
        return Halls(ends, serve, self.own_places, lambda: self.own, self.most_own)

    def _accept(self) -> None:
        connection, _ = self.listening.accept()
        connection.setblocking(False)
        if not self.control.offer(connection, first_bytes(connection)):
            self.kept.append(connection)

    @property
    def port(self) -> int:
        return int(self.listening.getsockname()[1])

    async def call(
        self,
        path: str = "/control",
        alpn: str | None = SUBPROTOCOL,
        subprotocol: str | None = SUBPROTOCOL,
    ) -> ClientConnection:
        context = station_tls().calling()
        if alpn:
            context.set_alpn_protocols([alpn])
        caller = await connect(
            f"wss://127.0.0.1:{self.port}{path}",
            ssl=context,
            subprotocols=[Subprotocol(subprotocol)] if subprotocol else None,
            compression=None,
            ping_interval=None,
            proxy=None,
        )
        self.callers.append(caller)
        return caller

    async def called(self) -> ClientConnection:
        """As soon as there is a hall with room: one that has just begun is not known yet."""
        while True:
            try:
                return await self.call()
            except (OSError, EOFError):
                await asyncio.sleep(0.02)

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():  # noqa: ASYNC110 - there is no event for what a test asks
            await asyncio.sleep(0.005)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.listening)
        for caller in self.callers:
            caller.transport.abort()
        self.control.close()
        for hall in self.halls:
            hall.close()
        for connection in (self.listening, *self.kept, *itertools.chain(*self.ends)):
            connection.close()


def play(door: Door, scenario: Callable[[Door], Awaitable[None]], halls: int = 1) -> None:
    """Play it in a loop of its own."""

    async def main() -> None:
        door.open(halls)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await door.until(lambda: all(hall.has_room for hall in door.control._halls))
                await scenario(door)
        finally:
            door.close()
            await asyncio.sleep(0.01)  # whatever was aborted hears of it

    uvloop.run(main())
