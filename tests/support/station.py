"""A station that says what a test wants: real sockets on loopback, trio's virtual clock."""

import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.support.certificate import server_tls
from tests.support.chain import GENERATION, STATION
from tests.support.clock import MEDIA_EPOCH_NS
from transport.clock.exchange import answer
from transport.control.address import StationAddress
from transport.control.messages import (
    NONCE_BYTES,
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Done,
    Enrol,
    Hello,
    Identity,
    Ready,
    Refused,
    Telemetry,
    Welcome,
)
from transport.errors import MalformedPacket
from transport.security import stun
from transport.security.certificates import StationCertificate, bind_tls
from transport.security.enrolment import EnrolmentCode, check_enrolment_mac
from transport.security.handshake import Speech, check_proof, split
from transport.security.keys import SigningKey, fingerprint
from transport.security.session_keys import open_time, seal_time, session_key, time_session

SECOND = 1_000_000_000
ROOT = SigningKey(b"root" + bytes(28))
# Of this run of the station, as it were; sessions' keys are derived from it.
SECRET = b"secret" + bytes(26)
GATEWAY_PORT = 7464


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
    """Answers who asks for the time, as long as `awake`; `spoil` may change its answers.

    They take `back_s` to come back, and questions nothing.

    A session's question is answered under the session's key, a bare one barely.
    """

    def __init__(self) -> None:
        self.udp = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.port = 0
        self.asked_s: list[float] = []
        self.awake = True
        self.clock_set_ns = 1
        self.ahead_ns = 0
        self.back_s = 0.0
        self.spoil: Callable[[bytes], list[bytes]] = lambda reply: [reply]

    async def run(self) -> None:
        while True:
            request, address = await self.udp.recvfrom(200)
            self.asked_s.append(trio.current_time())
            for data in self.answers(request) if self.awake else ():
                await trio.sleep(self.back_s)
                await self.udp.sendto(data, address)

    def answers(self, request: bytes) -> list[bytes]:
        session = time_session(request)
        key = b"" if session is None else session_key(SECRET, session)
        packet = request if session is None else open_time(request, session, key)
        media_ns = MEDIA_EPOCH_NS + true_ns() + self.ahead_ns
        replies = self.spoil(answer(packet, media_ns, media_ns, self.clock_set_ns))
        return [r if session is None else seal_time(r, session, key) for r in replies]


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


class MediaServer:
    """Sends sound, from the port where it hears keep-alives; `open` says whether UDP gets through.

    It believes every address, and leaves challenges to the tests of those.
    """

    def __init__(self) -> None:
        self.udp = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.port = 0
        self.open = True
        self.paths: dict[int, tuple[str, int]] = {}
        self.heard: list[bytes] = []

    async def run(self) -> None:
        while True:
            data, address = await self.udp.recvfrom(2_000)
            if self.open:
                await self._hear(data, address)

    async def _hear(self, data: bytes, address: tuple[str, int]) -> None:
        try:
            request = stun.parse_request(data)
        except MalformedPacket:
            self.heard.append(data)
            return
        key = session_key(SECRET, request.session)
        stun.check_request(request, key)
        self.paths[request.session] = address
        await self.udp.sendto(stun.success(request.transaction, *address, key), address)

    async def send(self, data: bytes) -> None:
        """To the loudspeaker that came last."""
        await self.udp.sendto(data, self.paths[max(self.paths)])


@asynccontextmanager
async def media_server() -> AsyncIterator[MediaServer]:
    """One that runs while the block does."""
    server = MediaServer()
    with server.udp:
        await server.udp.bind(("127.0.0.1", 0))
        server.port = int(server.udp.getsockname()[1])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
            yield server
            nursery.cancel_scope.cancel()


Talk = Callable[["Station", "Guest"], Awaitable[None]]


class Guest:
    """A loudspeaker that has come: what it says is proved, what it is told is signed."""

    def __init__(self, station: "Station", connection: ServerConnection) -> None:
        self.connection = connection
        self.sent: list[bytes] = []
        self.speech: Speech | None = None
        self.key = b""
        self._station = station
        self._nonce = station.draw(NONCE_BYTES)

    @property
    def identity(self) -> Identity:
        station = self._station
        binding = bind_tls(station.key, station.tls_hash, self._nonce)
        return Identity(VERSION, station.certificate.serialise(), binding, self._nonce)

    async def greet(self) -> None:
        """Show who we are, and hear who has come."""
        await self.send(TO_SPEAKER.encode(self.identity))
        frame = await self.connection.recv()
        assert isinstance(frame, bytes)
        signature, body = split(frame)
        word = TO_STATION.decode(body)
        assert isinstance(word, Hello | Enrol)
        check_proof(word.key, signature, self._nonce, self._station.tls_hash, body)
        if isinstance(word, Enrol):
            check_enrolment_mac(
                self._station.code.key, word.mac, self._nonce, self._station.tls_hash, word.key
            )
            self._station.enrols.append(word)
        else:
            self._station.hellos.append(word)
        self.key = word.key
        self.speech = Speech(self._station.key, word.key, word.nonce, self._nonce)

    def frame(self, word: object) -> bytes:
        """What is to be sent for a word, next in order."""
        return self.frame_of(TO_SPEAKER.encode(word))

    def frame_of(self, body: bytes) -> bytes:
        assert self.speech is not None
        return self.speech.say(body)

    async def say(self, word: object) -> None:
        await self.send(self.frame(word))

    async def send(self, data: bytes | str) -> None:
        if isinstance(data, bytes):
            self.sent.append(data)
        await self.connection.send(data)


class Station:
    """Welcomes everybody, unless told to `talk` otherwise; keeps what it hears.

    Its keys are always the same, so that a loudspeaker that belongs to one belongs to all.
    """

    def __init__(self, time: TimeServer, media: MediaServer) -> None:
        self.time = time
        self.media = media
        self.port = 0
        self.talk: Talk = welcome_and_listen
        self.root, self.key = ROOT, STATION
        self.certificate = StationCertificate.issue(ROOT, GENERATION, STATION.public)
        self.tls, self.tls_hash = server_tls()
        self.code = EnrolmentCode(
            StationAddress("127.0.0.1", 1), fingerprint(ROOT.public), b"c" * 10
        )
        self.came_s: list[float] = []
        self.guests: list[Guest] = []
        self.welcomes: list[Welcome] = []
        self.hellos: list[Hello] = []
        self.enrols: list[Enrol] = []
        self.telemetry: list[tuple[float, Telemetry]] = []
        self.readies: list[Ready] = []
        self.answers: list[Done] = []
        self._drawn = itertools.count(1)

    def draw(self, count: int) -> bytes:
        """Never the same twice."""
        return hashlib.shake_256(b"station %d" % next(self._drawn)).digest(count)

    def welcome(self) -> Welcome:
        """The next one."""
        number = len(self.welcomes) + 1
        key = session_key(SECRET, number)
        ports = self.time.port, self.media.port, GATEWAY_PORT
        self.welcomes.append(Welcome(VERSION, number, number, key, *ports))
        return self.welcomes[-1]

    async def handle(self, connection: ServerConnection) -> None:
        self.came_s.append(trio.current_time())
        guest = Guest(self, connection)
        self.guests.append(guest)
        with suppress(ConnectionClosed):
            await self.talk(self, guest)

    async def say(self, message: object) -> None:
        """To the loudspeaker that came last."""
        await self.guests[-1].say(message)


async def welcome_and_listen(station: Station, guest: Guest) -> None:
    """What a station does."""
    await guest.greet()
    await guest.say(station.welcome())
    await listen(station, guest)


def welcome_at(every_s: float) -> Talk:
    """What a station does that has many loudspeakers, who tell how they are only so often."""

    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(replace(station.welcome(), telemetry_s=every_s))
        await listen(station, guest)

    return talk


async def listen(station: Station, guest: Guest) -> None:
    """Hear what a loudspeaker says."""
    async for data in guest.connection:
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

    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(Refused(reason, final))

    return talk


@asynccontextmanager
async def running_station(talk: Talk = welcome_and_listen, port: int = 0) -> AsyncIterator[Station]:
    """One that runs while the block does."""
    async with time_server() as time, media_server() as media, trio.open_nursery() as nursery:
        station = Station(time, media)
        station.talk = talk
        listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
        station.port = int(listeners[0].socket.getsockname()[1])
        station.code = replace(station.code, server=StationAddress("127.0.0.1", station.port))

        async def serve_guests() -> None:
            await serve(
                station.handle,
                listeners=listeners,
                ssl=station.tls,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                ping_interval=None,
                close_timeout=1,
            )

        nursery.start_soon(serve_guests)
        yield station
        nursery.cancel_scope.cancel()
