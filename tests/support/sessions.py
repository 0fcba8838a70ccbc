"""Control sessions with a WebSocket of our own: the station's sessions, and loudspeakers."""

import asyncio
import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from server.directory import Directory, Endpoint
from server.editing import Editing
from server.enrolling import Enrolling
from server.enrolment import Enrolment
from server.keeper import Keeper
from server.keys.certifier import Certifier
from server.keys.credentials import Credentials
from server.processes.bus import ProducerReport
from server.programmes import LiveRequest, Programme
from server.recording import Recorder
from server.sessions import Sessions
from server.station import Station
from server.store.store import Store
from tests.support.stations import key_of_name, report_of, signer_of_name
from transport.control.messages import (
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Adjust,
    Command,
    Done,
    Enrol,
    Enrolled,
    Hello,
    Identity,
    Listen,
    Pending,
    Ready,
    Refused,
    Telemetry,
    Welcome,
)
from transport.security.certificates import StationCertificate
from transport.security.enrolment import enrolment_mac, key_of, number_of
from transport.security.handshake import Ear, prove
from transport.security.keys import SigningKey, VerifyKey, fingerprint
from transport.security.session_keys import session_key

Word = Hello | Enrol | Telemetry | Ready | Done
Heard = Welcome | Refused | Listen | Pending | Enrolled

ROOT = SigningKey(bytes(32))
TLS_HASH = hashlib.sha256(b"what TLS shows").digest()
SECRET = bytes(range(32))
BOOT = 7
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


def credentials(generation: int) -> Credentials:
    """The station's, of this generation."""
    key = SigningKey(bytes([generation]) * 32)
    certificate = StationCertificate.issue(ROOT, generation, key.public)
    return Credentials(key, certificate.serialise(), TLS_HASH)


def welcome(number: int, session: int) -> Welcome:
    return Welcome(VERSION, number, session, session_key(SECRET, session), 7460, 7462, 7464)


class Peer:
    """The WebSocket as the station sees it, and the loudspeaker at its other end.

    It checks every word of the station's as a loudspeaker does.
    """

    def __init__(
        self,
        address: str = "192.0.2.1",
        subprotocols: tuple[str, ...] = (),
        *,
        name: str = "a",
        key: SigningKey | None = None,
        tls_hash: bytes = TLS_HASH,
    ) -> None:
        self.scope = {"subprotocols": list(subprotocols)}
        self.client = type("Client", (), {"host": address})()
        self.name = name
        self.key = key or signer_of_name(name)
        self.tls_hash = tls_hash
        self.nonce = hashlib.sha256(self.key.public + address.encode()).digest()
        self.subprotocol: str | None = None
        self.why_closed: tuple[int, str] | None = None
        self.closed = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.broken = False
        self._identity: asyncio.Future[Identity] = asyncio.get_running_loop().create_future()
        self._ear: Ear | None = None
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()
        self._commands: asyncio.Queue[Command] = asyncio.Queue()
        self.adjusted: list[Adjust] = []
        self.heard: list[Heard | Adjust | Command] = []
        self.frames: list[bytes] = []

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
        if not self._identity.done():
            self._identity.set_result(TO_SPEAKER.decode(data))
            return
        assert self._ear is not None, "the station speaks before it knows to whom"
        self.frames.append(data)
        heard = TO_SPEAKER.decode(self._ear.hear(data))
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
    async def identity(self) -> Identity:
        """The station's first word."""
        return await asyncio.shield(self._identity)

    def hello(self, *, version: int = VERSION, multicast: bool = False) -> Hello:
        return Hello(version, self.name, multicast, self.key.public, self.nonce)

    async def enrol(self, secret: bytes, *, multicast: bool = False) -> Enrol:
        """The first word with a code."""
        nonce = (await self.identity()).nonce
        mac = enrolment_mac(key_of(secret), nonce, self.tls_hash, self.key.public)
        return Enrol(
            VERSION, self.name, self.key.public, self.nonce, number_of(secret), mac, multicast
        )

    async def frame(self, word: Word) -> bytes:
        """A first word, with its proof; what comes after it is heard with this word's nonce."""
        identity = await self.identity()
        station = VerifyKey(StationCertificate.parse(identity.certificate).public)
        self._ear = Ear(station, self.key.public, self.nonce, identity.nonce)
        return prove(self.key, identity.nonce, self.tls_hash, TO_STATION.encode(word))

    async def prove(self, word: Word) -> None:
        """Say a first word."""
        self.say_bytes(await self.frame(word))

    def say(self, word: Word) -> None:
        self.say_bytes(TO_STATION.encode(word))

    def say_bytes(self, data: bytes) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "bytes": data})

    def say_text(self, text: str) -> None:
        self._incoming.put_nowait({"type": "websocket.receive", "text": text})

    def go(self) -> None:
        self._incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def hears(self) -> Heard:
        """The next word but those on how loud to be and what to do, which are kept apart."""
        return await self._heard.get()

    async def is_commanded(self) -> Command:
        return await self._commands.get()

    @property
    def heard_nothing_more(self) -> bool:
        return self._heard.empty() and self._commands.empty()


class Room:
    """The station's sessions; every member's task must end without an error."""

    def __init__(self, database: Path, joined: Callable[[], None] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        tickets = map(str, itertools.count())
        self.store = Store.open(database)
        contents = self.store.load()
        directory = Directory(contents.root)
        for endpoint in contents.endpoints:
            directory.put_endpoint(endpoint)
        self.station = Station("239.192.76.0/24", 5004, lambda: next(tickets), 0, directory)
        self.telemetry_s = 0.5
        self.random_bytes = random.Random(7).randbytes
        self.keeper = Keeper()
        self.store.begin_audit(ROOT.public, 0)
        self.recorder = Recorder(self.store, self.keeper, self.now_ns)
        editing = Editing(self.station, self.store, self.keeper, self.publish, self.recorder)
        self.enrolment = Enrolment(contents.codes)
        self.enrolling = Enrolling(
            editing, self.enrolment, fingerprint(ROOT.public), self.now_ns, self.random_bytes
        )
        now = credentials(1)
        numbers = itertools.count((BOOT << 32) + 1)
        self.sessions = Sessions(
            self.station,
            now,
            self.enrolling,
            lambda number, session: replace(welcome(number, session), telemetry_s=self.telemetry_s),
            certify=Certifier(now.key, 1).certificate,
            next_number=lambda: next(numbers),
            random_bytes=self.random_bytes,
            now_ns=self.now_ns,
            joined=joined or self.publish,
            refused=self.recorder.refused,
        )
        self._ssrcs = itertools.count(2, 2)  # even, as a producer draws them
        self._tasks: list[asyncio.Task[None]] = []

    def now_ns(self) -> int:
        return round(self.loop.time() * 1e9)

    def publish(self) -> None:
        self.sessions.declare()

    def connect(self, peer: Peer) -> None:
        websocket: Any = peer
        self._tasks.append(asyncio.create_task(self.sessions.serve(websocket)))

    def register(self, name: str = "a") -> None:
        """A loudspeaker is enrolled, in memory."""
        known = self.station.directory.endpoints.get(name)
        endpoint = known or Endpoint(name, self.station.directory.root)
        self.station.enrol(replace(endpoint, key=key_of_name(name)))

    async def join(self, name: str = "a", address: str = "192.0.2.1") -> Peer:
        """A loudspeaker that is enrolled comes; it has confirmed what it was told."""
        self.register(name)
        peer = Peer(address, name=name)
        self.connect(peer)
        await peer.prove(peer.hello())
        assert isinstance(await peer.hears(), Welcome)
        first = await peer.hears()
        assert isinstance(first, Listen)
        peer.say(Ready(first.revision))
        return peer

    async def code(self, name: str = "a", minutes: int = 60) -> bytes:
        """The secret of a new code."""
        (issued,) = await self.enrolling.issue([name], None, minutes)
        return issued.secret

    async def try_code(
        self, secret: bytes, name: str = "a", address: str = "192.0.2.1"
    ) -> tuple[Peer, Heard]:
        """A loudspeaker with a key of its own name comes with a code; what it is told."""
        peer = Peer(address, name=name)
        self.connect(peer)
        await peer.prove(await peer.enrol(secret))
        return peer, await peer.hears()

    def speak(self, *to: str, ssrc: int | None = None) -> Programme:
        programme = self.station.open(LiveRequest(to), self.now_ns())
        report = report_of(programme, ssrc=next(self._ssrcs) if ssrc is None else ssrc)
        self.station.update(ProducerReport("life", report.programmes), self.now_ns())
        self.publish()
        return programme

    def is_online(self, name: str = "a") -> bool:
        speaker = self.station.speakers.get(name)
        return speaker is not None and speaker.session is not None

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        self.store.close()


@contextmanager
def lasting(room: Room, seconds: float) -> Iterator[None]:
    """What happens inside takes so long, in virtual time."""
    began_s = room.loop.time()
    yield
    assert room.loop.time() - began_s == pytest.approx(seconds, abs=0.01)
