"""What control, producer and sender say to each other, over Unix datagram sockets.

The supervisor makes the socket pairs and keeps them, so a process that dies and returns finds its
end as it was. State is declared whole, never replayed: whoever starts anew is told everything.
"""

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from transport.control.wire import MAX_MESSAGE_BYTES, Vocabulary, vocabulary
from transport.errors import MalformedPacket

Sent = TypeVar("Sent")
Received = TypeVar("Received")
# So that several long declarations may wait; the system cuts it to what it allows.
_SOCKET_BUFFER = 1 << 20
# IPv4 address, RTP port, RTCP port.
_DESTINATION = struct.Struct("!4sHH")


class TooLongError(Exception):
    """A declaration that the bus cannot carry whole; nothing of it was sent."""


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """One encoding of a programme."""

    stream: int
    frame_ms: float


@dataclass(frozen=True, slots=True)
class ProgrammeOrder:
    """A programme the producer shall take audio for, from whoever shows the ticket."""

    programme: str
    streams: tuple[StreamOrder, ...]
    ticket: str
    bitrate: int
    complexity: int
    dtx: bool
    inband_fec: bool
    expected_loss_percent: int


@dataclass(frozen=True, slots=True)
class DeclareProgrammes:
    """Every programme that shall be; the producer ends any other."""

    programmes: tuple[ProgrammeOrder, ...]


@dataclass(frozen=True, slots=True)
class StreamReport:
    """The numbers that the producer drew for a stream (RFC 3550 section 5.1)."""

    stream: int
    ssrc: int
    timestamp_offset: int


@dataclass(frozen=True, slots=True)
class ProgrammeReport:
    """How a programme is: "waiting" for its audio, "live", or "ended"."""

    programme: str
    state: str
    level_dbfs: float
    seconds: float
    streams: tuple[StreamReport, ...]


@dataclass(frozen=True, slots=True)
class ProducerReport:
    """All programmes of one life of the producer."""

    instance: str
    programmes: tuple[ProgrammeReport, ...]


class Destination(NamedTuple):
    """Where a stream's RTP goes; its RTCP goes to `rtcp_port`."""

    address: str
    port: int
    rtcp_port: int


def pack_destinations(destinations: Iterable[Destination]) -> bytes:
    """Eight bytes each: as maps of their fields they would take 46, and 1,437 fill the bus."""
    return b"".join(
        _DESTINATION.pack(socket.inet_aton(to.address), to.port, to.rtcp_port)
        for to in destinations
    )


def unpack_destinations(packed: bytes) -> tuple[Destination, ...]:
    """What `pack_destinations` was given."""
    return tuple(
        Destination(socket.inet_ntoa(address), port, rtcp_port)
        for address, port, rtcp_port in _DESTINATION.iter_unpack(packed)
    )


@dataclass(frozen=True, slots=True)
class Route:
    """One stream's packed destinations, and its SDP if SAP shall announce it."""

    stream: int
    destinations: bytes
    announce: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if len(self.destinations) % _DESTINATION.size:
            raise ValueError("the last destination is cut off")


@dataclass(frozen=True, slots=True)
class DeclareRoutes:
    """Every stream the sender forwards."""

    routes: tuple[Route, ...]


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What one life of the sender has done."""

    instance: str
    datagrams: int
    overruns: int
    errors: int
    time_answers: int
    malformed: int
    receivers: int
    worst_fraction_lost: float


@dataclass(frozen=True, slots=True)
class WhoIsThere:
    """Control has started: report now."""


TO_PRODUCER = vocabulary(DeclareProgrammes, WhoIsThere)
FROM_PRODUCER = vocabulary(ProducerReport)
TO_SENDER = vocabulary(DeclareRoutes, WhoIsThere)
FROM_SENDER = vocabulary(SenderReport)


class Bus(Generic[Sent, Received]):
    """One end of a socket pair."""

    def __init__(
        self, end: socket.socket, sends: Vocabulary[Sent], receives: Vocabulary[Received]
    ) -> None:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER)
        self._end = end
        self._sends = sends
        self._receives = receives
        self.undelivered = 0

    def fileno(self) -> int:
        """For a selector."""
        return self._end.fileno()

    def send(self, message: Sent) -> bool:
        """Send, or drop and count if the other side is not reading: false, declare it again.

        TooLongError for what the other side would not take either.
        """
        data = self._sends.encode(message)
        if len(data) > MAX_MESSAGE_BYTES:
            raise TooLongError(
                f"{type(message).__name__} takes {len(data)} bytes, more than the bus carries "
                f"({MAX_MESSAGE_BYTES})"
            )
        try:
            self._end.send(data)
        except OSError:  # its queue is full, or it is gone
            self.undelivered += 1
            return False
        return True

    def receive(self) -> Iterator[Received]:
        """Every message that waits."""
        while True:
            try:
                data = self._end.recv(MAX_MESSAGE_BYTES)
            except OSError:
                return
            try:
                yield self._receives.decode(data)
            except MalformedPacket:  # of another version of ours, across a restart
                self.undelivered += 1


def bus_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a bus."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
