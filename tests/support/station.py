"""A station that says what a test wants: real sockets on loopback, trio's virtual clock."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.support.clock import MEDIA_EPOCH_NS
from transport.clock.exchange import answer
from transport.control.messages import (
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Done,
    Hello,
    Ready,
    Refused,
    Telemetry,
    Welcome,
)

SECOND = 1_000_000_000


def true_ns() -> int:
    """The world's time, which is trio's."""
    return round(trio.current_time() * SECOND)


@dataclass(slots=True)
class TrioClock:
    """A loudspeaker's own clock in that world; `ahead_ns` may be changed to make it step."""

    ahead_ns: int = 0
    stamps_trusted: bool = True

    def now_ns(self) -> int:
        return true_ns() + self.ahead_ns

    def of_kernel_stamp(self, realtime_ns: int) -> int | None:  # noqa: ARG002
        """What arrives is looked at in the same moment of virtual time."""
        return self.now_ns() if self.stamps_trusted else None


class TimeServer:
    """Answers who asks for the time, as long as `awake`; `spoil` may change its answers."""

    def __init__(self) -> None:
        self.udp = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.port = 0
        self.asked_s: list[float] = []
        self.awake = True
        self.clock_set_ns = 1
        self.ahead_ns = 0
        self.spoil: Callable[[bytes], list[bytes]] = lambda reply: [reply]

    async def run(self) -> None:
        while True:
            request, address = await self.udp.recvfrom(200)
            self.asked_s.append(trio.current_time())
            media_ns = MEDIA_EPOCH_NS + true_ns() + self.ahead_ns
            reply = answer(request, media_ns, media_ns, self.clock_set_ns)
            if self.awake:
                for data in self.spoil(reply):
                    await self.udp.sendto(data, address)


@asynccontextmanager
async def time_server() -> AsyncIterator[TimeServer]:
    """One that runs while the block does."""
    server = TimeServer()
    with server.udp:
        await server.udp.bind(("127.0.0.1", 0))
        server.port = int(server.udp.getsockname()[1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            yield server
            nursery.cancel_scope.cancel()


Talk = Callable[["Station", ServerConnection], Awaitable[None]]


class Station:
    """Welcomes everybody, unless told to `talk` otherwise; keeps what it hears."""

    def __init__(self, time: TimeServer, rtcp: trio.socket.SocketType) -> None:
        self.time = time
        self.rtcp = rtcp
        self.port = 0
        self.welcome = Welcome(VERSION, time.port, int(rtcp.getsockname()[1]))
        self.talk: Talk = welcome_and_listen
        self.came_s: list[float] = []
        self.hellos: list[Hello] = []
        self.telemetry: list[tuple[float, Telemetry]] = []
        self.readies: list[Ready] = []
        self.answers: list[Done] = []
        self.connection: ServerConnection | None = None

    async def handle(self, connection: ServerConnection) -> None:
        self.came_s.append(trio.current_time())
        self.connection = connection
        try:
            await self.talk(self, connection)
        except ConnectionClosed:
            return

    async def say(self, message: object) -> None:
        """To the loudspeaker that came last."""
        assert self.connection is not None
        await self.connection.send(TO_SPEAKER.encode(message))

    async def hear_hello(self, connection: ServerConnection) -> None:
        data = await connection.recv()
        assert isinstance(data, bytes)
        self.hellos.append(TO_STATION.decode(data))


async def welcome_and_listen(station: Station, connection: ServerConnection) -> None:
    """What a station does."""
    await station.hear_hello(connection)
    await connection.send(TO_SPEAKER.encode(station.welcome))
    async for data in connection:
        assert isinstance(data, bytes)
        message = TO_STATION.decode(data)
        if isinstance(message, Telemetry):
            station.telemetry.append((trio.current_time(), message))
        if isinstance(message, Ready):
            station.readies.append(message)
        if isinstance(message, Done):
            station.answers.append(message)


def refuse(reason: str, *, final: bool) -> Talk:
    """What a station does that does not like a loudspeaker."""

    async def talk(station: Station, connection: ServerConnection) -> None:
        await station.hear_hello(connection)
        await connection.send(TO_SPEAKER.encode(Refused(reason, final)))

    return talk


@asynccontextmanager
async def running_station(talk: Talk = welcome_and_listen) -> AsyncIterator[Station]:
    """One that runs while the block does."""
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as rtcp:
        await rtcp.bind(("127.0.0.1", 0))
        async with time_server() as time, trio.open_nursery() as nursery:
            station = Station(time, rtcp)
            station.talk = talk
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            station.port = int(listeners[0].socket.getsockname()[1])

            async def listen() -> None:
                await serve(
                    station.handle,
                    listeners=listeners,
                    subprotocols=[Subprotocol(SUBPROTOCOL)],
                    compression=None,
                    ping_interval=None,
                    close_timeout=1,
                )

            nursery.start_soon(listen)
            yield station
            nursery.cancel_scope.cancel()
