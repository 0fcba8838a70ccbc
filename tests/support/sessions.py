"""Control sessions with a WebSocket of our own: the station's sessions, and loudspeakers."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from server.bus import ProducerReport, ProgrammeReport, StreamReport
from server.directory import Directory
from server.programmes import LiveRequest, Programme
from server.sessions import Sessions
from server.station import Station
from transport.control.messages import (
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Adjust,
    Command,
    Done,
    Hello,
    Listen,
    Ready,
    Refused,
    Telemetry,
    Welcome,
)

Word = Hello | Telemetry | Ready | Done

WELCOME = Welcome(VERSION, 7460, 7463)
IDLE = Telemetry(
    state="idle",
    level_dbfs=-96.0,
    sync_error_us=0.0,
    clock_uncertainty_us=10.0,
    packets_received=0,
    packets_lost=0,
    packets_late=0,
    packets_dropped=0,
    underruns=0,
    uptime_s=1.0,
)


def hello(name: str = "a", version: int = VERSION, *, multicast: bool = False) -> Hello:
    return Hello(version, name, multicast, 50_000)


class Peer:
    """The WebSocket as the station sees it, and the loudspeaker at its other end."""

    def __init__(self, address: str = "192.0.2.1", subprotocols: tuple[str, ...] = ()) -> None:
        self.scope = {"subprotocols": list(subprotocols)}
        self.client = type("Client", (), {"host": address})()
        self.subprotocol: str | None = None
        self.why_closed: tuple[int, str] | None = None
        self.closed = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.broken = False
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._heard: asyncio.Queue[Welcome | Refused | Listen] = asyncio.Queue()
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self.adjusted: list[Adjust] = []
        self.heard: list[Welcome | Refused | Listen | Adjust | Command] = []

    # ------------------------------------------------------------- what Starlette offers
    async def accept(self, subprotocol: str | None = None) -> None:
        if self.broken:
            raise RuntimeError("the peer has gone")
        self.subprotocol = subprotocol

    async def receive(self) -> dict[str, Any]:
        return await self._incoming.get()

    async def send_bytes(self, data: bytes) -> None:
        await self.reads.wait()
        if self.broken:
            raise RuntimeError("the peer has gone")
        heard = TO_SPEAKER.decode(data)
        self.heard.append(heard)
        match heard:
            case Adjust() as adjust:
                self.adjusted.append(adjust)
            case Command() as command:
                self._commands.put_nowait(command)
            case word:
                self._heard.put_nowait(word)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self.why_closed = code, reason
        self.closed.set()

    # ------------------------------------------------------------- what a loudspeaker does
    def say(self, word: Word) -> None:
        self.say_bytes(TO_STATION.encode(word))

    def say_bytes(self, data: bytes) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "bytes": data})

    def say_text(self, text: str) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    def go(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def hears(self) -> Welcome | Refused | Listen:
        """The next word but those on how loud to be and what to do, which are kept apart."""
        return await self._heard.get()

    async def is_commanded(self) -> Command:
        return await self._commands.get()

    @property
    def heard_nothing_more(self) -> bool:
        return self._heard.empty() and self._commands.empty()


class Room:
    """The station's sessions; every member's task must end without an error."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        tickets = map(str, itertools.count())
        self.station = Station(
            "239.192.76.0/24", 5004, lambda: next(tickets), 0, Directory("Tân Phú")
        )
        self.sessions = Sessions(self.station, WELCOME, self.now_ns, self.publish)
        self._tasks: list[asyncio.Task[None]] = []

    def now_ns(self) -> int:
        return round(self.loop.time() * 1e9)

    def publish(self) -> None:
        self.sessions.declare()

    def connect(self, peer: Peer) -> None:
        websocket: Any = peer
        self._tasks.append(asyncio.create_task(self.sessions.serve(websocket)))

    async def join(self, name: str = "a", address: str = "192.0.2.1") -> Peer:
        peer = Peer(address)
        self.connect(peer)
        peer.say(hello(name))
        assert await peer.hears() == WELCOME
        first = await peer.hears()
        assert isinstance(first, Listen)
        peer.say(Ready(first.revision))
        return peer

    def speak(self, *to: str, ssrc: int = 1) -> Programme:
        programme = self.station.open(LiveRequest(to), self.now_ns())
        streams = tuple(StreamReport(s.stream, ssrc, 0) for s in programme.streams)
        report = ProgrammeReport(programme.name, "live", -20.0, 0.0, streams)
        self.station.update(ProducerReport("life", (report,)), self.now_ns())
        self.publish()
        return programme

    def is_online(self, name: str = "a") -> bool:
        return self.station.speakers[name].session is not None

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


@contextmanager
def lasting(room: Room, seconds: float) -> Iterator[None]:
    """What happens inside takes so long, in virtual time."""
    began_s = room.loop.time()
    yield
    assert room.loop.time() - began_s == pytest.approx(seconds, abs=0.01)
