"""What control says to the other processes, and they to it, over Unix datagram sockets.

The supervisor makes the socket pairs and keeps them, so a process that dies and returns finds its
end as it was. State is declared whole, never replayed: whoever starts anew is told everything.
"""

import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from transport.control.wire import MAX_MESSAGE_BYTES, Vocabulary, vocabulary
from transport.errors import MalformedPacket
from transport.recovery.erasure import Code

Sent = TypeVar("Sent")
Received = TypeVar("Received")
# So that several long declarations may wait; the system cuts it to what it allows.
_SOCKET_BUFFER = 1 << 20
_SESSION = struct.Struct("!Q")


class TooLongError(Exception):
    """A declaration that the bus cannot carry whole; nothing of it was sent."""


@dataclass(frozen=True, slots=True)
class StreamOrder:
    """One encoding of a programme. `serial` is what its certificate will call it.

    `clear` is the number of its twin in clear, for stock receivers; None where there is none.
    `copies` says which earlier frames each sealed packet carries once more, by how many samples
    before its own they began; `code` is what goes along instead, once there is any
    of it. Both may change while it sounds.
    """

    stream: int
    frame_ms: float
    serial: int
    clear: int | None = None
    copies: tuple[int, ...] = ()
    code: Code | None = None


@dataclass(frozen=True, slots=True)
class ProgrammeOrder:
    """A programme the producer shall take audio for, from whoever shows the ticket.

    Whenever `rekey` rises, an epoch begins soon whose key nobody has been told yet.
    """

    programme: str
    streams: tuple[StreamOrder, ...]
    ticket: str
    bitrate: int
    complexity: int
    dtx: bool
    inband_fec: bool
    expected_loss_percent: int
    rekey: int = 0


@dataclass(frozen=True, slots=True)
class DeclareProgrammes:
    """Every programme that shall be; the producer ends any other."""

    programmes: tuple[ProgrammeOrder, ...]


@dataclass(frozen=True, slots=True)
class EpochReport:
    """An epoch of a stream: its number, its SSRC, its SRTP master key and salt."""

    number: int
    ssrc: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StreamReport:
    """The numbers and keys that the producer drew for a stream.

    `ssrc` is that of its first epoch, by which it is known; `public` verifies its packets;
    `epochs` are the one just over, if there was one, the one that sounds, and the next.
    `clear_ssrc` is its twin's in clear.
    """

    stream: int
    ssrc: int
    timestamp_offset: int
    public: bytes
    epochs: tuple[EpochReport, ...]
    clear_ssrc: int | None = None

    @property
    def sounding(self) -> EpochReport:
        """The epoch that sounds."""
        return self.epochs[-2]


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


@dataclass(frozen=True, slots=True)
class TicketRefusal:
    """Somebody at this address wanted to speak, and was told why not, so many times."""

    address: str
    why: str
    times: int


@dataclass(frozen=True, slots=True)
class TicketRefusals:
    """Whom the producer has refused since it last said so."""

    refusals: tuple[TicketRefusal, ...]


# Upper bounds, us, of the lateness that senders count: from 50 us to 100 ms, then all beyond.
LATENESS_BOUNDS_US = (
    *(50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 4_000, 5_000),
    *(7_500, 10_000, 15_000, 20_000, 30_000, 50_000, 100_000),
)


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What one life of one sender has done, of `shard` 0 to N - 1.

    `datagrams` were taken by the kernel; `errors` it refused, one destination each; `stale` were
    not sent, for their time was over; `overruns` are entries of the ring that were lost. `lateness`
    counts datagrams by how late after their slots they left: one count for each bound of
    `LATENESS_BOUNDS_US`, and one for those beyond. `queue` is how many entries are being sent, and
    `deepest` the most there were; `destinations` of all routes together.
    """

    instance: str
    shard: int
    datagrams: int
    overruns: int
    errors: int
    stale: int
    lateness: tuple[int, ...]
    late_max_us: int
    queue: int
    deepest: int
    destinations: int

    def __post_init__(self) -> None:
        if len(self.lateness) != len(LATENESS_BOUNDS_US) + 1:
            raise ValueError("one count a bound, and one beyond")


@dataclass(frozen=True, slots=True)
class UsherReport:
    """What one life of the usher has done.

    `malformed` makes no sense, `refused` makes sense and has a wrong key; `paths` are open now;
    `dropped` are time requests, keep-alives and reports that the kernel had no room for. `repairs`
    are packets that were sent again (each twice, in `repair_bundles`) for who asked by
    `repair_requests`; those asked for that it had not are `repairs_unknown`, those that one
    loudspeaker or group had no share left for `repairs_limited`; of those that were sent
    `repairs_to_groups` went to whole groups, and what was asked for meanwhile is
    `repairs_covered`. `overruns` are packets of the ring that came and went before they were read.
    """

    instance: str
    time_answers: int
    malformed: int
    refused: int
    receivers: int
    worst_fraction_lost: float
    paths: int
    dropped: int = 0
    repair_requests: int = 0
    repair_bundles: int = 0
    repairs: int = 0
    repairs_unknown: int = 0
    repairs_limited: int = 0
    overruns: int = 0
    repairs_to_groups: int = 0
    repairs_covered: int = 0


@dataclass(frozen=True, slots=True)
class PathReport:
    """Where a session's media port is, as its authenticated keep-alives show."""

    session: int
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class DeclarePaths:
    """Paths that have opened or moved, and sessions whose path is gone."""

    opened: tuple[PathReport, ...]
    closed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What one life of the gateway has done, and the sessions (eight bytes each) that are there.

    `dropped` are datagrams for who does not read, `refused` callers without a good token.
    """

    instance: str
    sessions: bytes
    datagrams: int
    dropped: int
    overruns: int
    malformed: int = 0
    refused: int = 0


def pack_sessions(sessions: Iterable[int]) -> bytes:
    """Eight bytes each."""
    return b"".join(_SESSION.pack(session) for session in sessions)


def unpack_sessions(packed: bytes) -> tuple[int, ...]:
    """What `pack_sessions` was given; ValueError for anything else."""
    if len(packed) % _SESSION.size:
        raise ValueError("the last session is cut off")
    return tuple(session for (session,) in _SESSION.iter_unpack(packed))


@dataclass(frozen=True, slots=True)
class WhoIsThere:
    """Control has started: report now."""


TO_PRODUCER = vocabulary(DeclareProgrammes, WhoIsThere)
FROM_PRODUCER = vocabulary(ProducerReport, TicketRefusals)
TO_SENDERS = vocabulary(WhoIsThere)
FROM_SENDERS = vocabulary(SenderReport)
TO_USHER = vocabulary(WhoIsThere)
FROM_USHER = vocabulary(UsherReport, DeclarePaths)
TO_GATEWAY = vocabulary(WhoIsThere)
FROM_GATEWAY = vocabulary(GatewayReport)


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
