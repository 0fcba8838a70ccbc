"""Keeps asking the station for its time."""

import secrets
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

import trio

from endpoints.pace import QuestionPace
from endpoints.way.datagrams import Reader
from endpoints.way.tasks import Tasks
from transport.clock.asymmetry import AsymmetryJump, AsymmetryWatch
from transport.clock.estimator import ClockEstimate, ClockEstimator
from transport.clock.exchange import ExchangeClient
from transport.errors import MalformedPacket
from transport.net.clocks import Clock
from transport.net.stamped import (
    ANCILLARY_BYTES,
    connected_socket,
    enable_stamps,
    realtime_stamp_ns,
)
from transport.security.session_keys import TIME_BYTES, open_time, seal_time

# Until there is a station.
_LOOK_S = 0.5
# So many questions without an answer, and the gateway is asked as well. A burst over a long way has
# as many under way, and asking twice harms nobody.
_PATIENCE = 4


class TimeGateway(Protocol):
    """The way for time packets where UDP does not go through."""

    def send_time(self, packet: bytes) -> bool:
        """Send one: false where this is no way."""

    def hear_time(self, take: Callable[[bytes, int], None]) -> None:
        """Whom to give the answers, with the time when they came, by this machine's clock."""


class _Station(NamedTuple):
    """Whom to ask, and by which session's key."""

    address: str
    port: int
    session: int
    key: bytes
    every_s: float


class TimeSync:
    """One UDP socket, one estimator. The estimate outlives the connection to the station.

    Answers that are not the station's, or to nothing we asked, are counted in `dropped`.
    `clock_changed` is called when the station's clock is another one, `way_changed` when the way
    there has become another in one direction, which no exchange can put right.
    """

    def __init__(
        self,
        clock: Clock,
        clock_changed: Callable[[], None],
        way_changed: Callable[[AsymmetryJump], None] = lambda _: None,
    ) -> None:
        self.dropped: Counter[str] = Counter()
        self._clock = clock
        self._clock_changed = clock_changed
        self._way_changed = way_changed
        self._watch = AsymmetryWatch()
        self._client = ExchangeClient(lambda: secrets.randbits(64))
        self._estimator = ClockEstimator()
        self._station: _Station | None = None
        self._tasks = Tasks()
        self._reader: Reader | None = None
        self._gateway: TimeGateway | None = None
        self._by_gateway = False
        self._unanswered = 0
        self._pace = QuestionPace()
        self._hurry = trio.Event()

    @property
    def estimate(self) -> ClockEstimate | None:
        """The newest knowledge of the media clock; None before the first burst."""
        return self._estimator.estimate

    def send_through(self, gateway: TimeGateway) -> None:
        """Ask by this way as well, whenever UDP brings no answers."""
        self._gateway = gateway
        gateway.hear_time(self._came_through)

    def ask(self, address: str, port: int, session: int, key: bytes, every_s: float = 1.0) -> None:
        """The station is there, and `key` is our session's: begin with a burst.

        It is asked every `every_s` once its time is known well.
        """
        self._station = _Station(address, port, session, key, every_s)
        if self._reader is not None:
            self._reader.close()
            self._reader = None  # our own address may be another by now
        self._begin_burst()

    def arrived(self, stream: int, media_ns: int, arrived_ns: int) -> None:
        """An authentic packet of a group's stream came: see `ClockEstimator.arrived`."""
        self._estimator.arrived(stream, media_ns, arrived_ns)

    def woken(self) -> None:
        """This machine has slept, and its clock need not have kept step with how long: ask anew."""
        self._estimator = ClockEstimator()
        self._begin_burst()

    def _begin_burst(self) -> None:
        self._pace.begin()
        self._hurry.set()

    async def run(self) -> None:
        """Ask and listen until cancelled; the socket is closed then."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_for_ever)
            nursery.start_soon(self._tasks.run)

    # ------------------------------------------------------------- questions
    async def _ask_for_ever(self) -> None:
        while True:
            if self._station is not None:
                self._ask_once(self._station)
            every_s = self._station.every_s if self._station is not None else _LOOK_S
            with trio.move_on_after(self._pause_s(every_s)):
                await self._hurry.wait()
            self._hurry = trio.Event()

    def _pause_s(self, every_s: float) -> float:
        answered = self._unanswered < 2 or self._by_gateway
        return self._pace.pause_s(every_s, self._estimator.exchanges, answered=answered)

    def _ask_once(self, station: _Station) -> None:
        self._unanswered += 1
        with suppress(OSError):  # no route just now; the next question may find one
            if self._reader is None:
                self._reader = self._listen(station)
            self._reader.send(self._question(station))
        by_gateway = (
            self._gateway is not None
            and self._unanswered > _PATIENCE
            and self._gateway.send_time(self._question(station))
        )
        if by_gateway and not self._by_gateway:
            self._begin_burst()
        self._by_gateway = by_gateway

    def _listen(self, station: _Station) -> Reader:
        udp = connected_socket(station.address, station.port)
        enable_stamps(udp)
        reader = Reader(udp, lambda: self._read_one(udp))
        self._tasks.start(reader.run)
        return reader

    def _question(self, station: _Station) -> bytes:
        nonce, packet = self._client.request()
        question = seal_time(packet, station.session, station.key)
        self._client.sent(nonce, self._clock.now_ns())
        return question

    # ------------------------------------------------------------- answers
    def _read_one(self, udp: socket.socket) -> None:
        data, ancillary, _, _ = udp.recvmsg(TIME_BYTES * 2, ANCILLARY_BYTES)
        packet = self._opened(data)
        if packet is None:
            return
        stamp_ns = realtime_stamp_ns(ancillary)
        arrival_ns = (
            self._clock.now_ns() if stamp_ns is None else self._clock.of_kernel_stamp(stamp_ns)
        )
        if arrival_ns is not None and self._learn(packet, arrival_ns):
            # None: the wall clock was stepped meanwhile.
            self._unanswered = 0

    def _came_through(self, data: bytes, arrival_ns: int) -> None:
        packet = self._opened(data)
        if packet is not None:
            self._learn(packet, arrival_ns)

    def _opened(self, data: bytes) -> bytes | None:
        """The packet inside, if the station said it to this session."""
        if self._station is None:
            return None
        try:
            return open_time(data, self._station.session, self._station.key)
        except MalformedPacket as error:
            self.dropped[error.reason] += 1
            return None

    def _learn(self, packet: bytes, arrival_ns: int) -> bool:
        """Whether it was an answer to what we asked."""
        try:
            exchange = self._client.receive(packet, arrival_ns)
        except MalformedPacket as error:
            self.dropped[error.reason] += 1
            return False
        if self._estimator.add(exchange):
            self._clock_changed()
            self._begin_burst()
        elif self._estimator.in_doubt and not self._pace.in_burst:
            self._begin_burst()  # to know in a moment whether a clock has been stepped
        if (jump := self._watch.add(exchange, self._estimator.estimate)) is not None:
            self._way_changed(jump)
        return True
