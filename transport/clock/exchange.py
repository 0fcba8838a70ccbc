"""The four-timestamp exchange, in standard NTPv4 packets (RFC 5905).

Both ends are sans-I/O: times come in as arguments, in nanoseconds. The station stamps with its
media clock, the loudspeaker with its own monotonic clock; neither need know the other's epoch.
"""

import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from transport.errors import MalformedPacket

# LI/VN/mode, stratum, poll, precision, root delay, root dispersion, reference id, and four
# timestamps: reference, origin, receive, transmit (RFC 5905 section 7.3).
_PACKET = struct.Struct("!BBbbII4sQQQQ")
PACKET_BYTES = _PACKET.size
_VERSION = 4
_CLIENT, _SERVER = 3, 4
_PRECISION = -20  # about a microsecond, what a kernel stamp is good for
_UNIX_TO_NTP_S = 2_208_988_800
_MAX_PENDING = 16
# By so much may the stamps of two machines next to each other deny that light has a speed.
_STAMP_NOISE_NS = 10_000


def ntp_of_ns(unix_ns: int) -> int:
    """The 64-bit NTP timestamp of nanoseconds since the Unix epoch; the era is cut off."""
    seconds, nanoseconds = divmod(unix_ns, 1_000_000_000)
    fraction = ((nanoseconds << 32) + 500_000_000) // 1_000_000_000
    return (((seconds + _UNIX_TO_NTP_S) << 32) + fraction) & 0xFFFF_FFFF_FFFF_FFFF


def ns_of_ntp(timestamp: int) -> int:
    """Nanoseconds since the Unix epoch; the era is chosen between 1968 and 2104 (RFC 4330)."""
    seconds, fraction = timestamp >> 32, timestamp & 0xFFFF_FFFF
    era_s = 0 if seconds & 0x8000_0000 else 1 << 32
    return (seconds + era_s - _UNIX_TO_NTP_S) * 1_000_000_000 + (
        (fraction * 1_000_000_000 + (1 << 31)) >> 32
    )


@dataclass(frozen=True, slots=True)
class Exchange:
    """One round trip: t1, t4 on the client's clock, t2, t3 on the server's; all nanoseconds.

    `clock_set_ns` is when the server's clock was last set (the NTP reference timestamp): another
    value means another clock, and everything learnt of the old one is void.
    """

    t1_ns: int
    t2_ns: int
    t3_ns: int
    t4_ns: int
    clock_set_ns: int

    @property
    def round_trip_ns(self) -> int:
        """Time on the network alone."""
        return (self.t4_ns - self.t1_ns) - (self.t3_ns - self.t2_ns)


def answer(request: bytes, received_ns: int, transmit_ns: int, clock_set_ns: int) -> bytes:
    """The server's reply; raises MalformedPacket for what is not a client's request."""
    fields = _parse(request)
    if fields[0] & 7 != _CLIENT:
        raise MalformedPacket("time_mode")
    return _PACKET.pack(
        (_VERSION << 3) | _SERVER,
        1,  # stratum 1: the media clock is its own reference
        fields[2],
        _PRECISION,
        0,
        0,
        b"LOA\0",
        ntp_of_ns(clock_set_ns),
        fields[10],
        ntp_of_ns(received_ns),
        ntp_of_ns(transmit_ns),
    )


def _parse(data: bytes) -> tuple[int, int, int, int, int, int, bytes, int, int, int, int]:
    if len(data) < PACKET_BYTES:  # longer is allowed: extension fields follow
        raise MalformedPacket("time_length")
    fields = _PACKET.unpack_from(data)
    if (fields[0] >> 3) & 7 not in (3, _VERSION):
        raise MalformedPacket("time_version")
    return fields


class ExchangeClient:
    """Makes requests and pairs the answers with them.

    The transmit timestamp of a request is a nonce, not a time: it gives nothing away and an
    answer that was not asked for cannot match it (RFC 8633 section 5.3 asks for that check).
    """

    def __init__(self, nonce: Callable[[], int]) -> None:
        self._nonce = nonce
        self._pending: OrderedDict[int, int] = OrderedDict()

    def request(self) -> tuple[int, bytes]:
        """A nonce and its packet; the caller reads its clock, sends, then calls `sent`."""
        nonce = self._nonce() & 0xFFFF_FFFF_FFFF_FFFF
        packet = _PACKET.pack(
            (_VERSION << 3) | _CLIENT, 0, 0, _PRECISION, 0, 0, bytes(4), 0, 0, 0, nonce
        )
        return nonce, packet

    def sent(self, nonce: int, t1_ns: int) -> None:
        """The request left at `t1_ns`; only the newest few are remembered."""
        self._pending[nonce] = t1_ns
        while len(self._pending) > _MAX_PENDING:
            self._pending.popitem(last=False)

    def receive(self, data: bytes, t4_ns: int) -> Exchange:
        """The exchange that this answer completes; MalformedPacket if it answers nothing."""
        fields = _parse(data)
        if fields[0] & 7 != _SERVER or fields[1] == 0:  # stratum 0 is a kiss-o'-death
            raise MalformedPacket("time_mode")
        t1_ns = self._pending.pop(fields[8], None)
        if t1_ns is None:
            raise MalformedPacket("time_unasked")
        exchange = Exchange(
            t1_ns, ns_of_ntp(fields[9]), ns_of_ntp(fields[10]), t4_ns, ns_of_ntp(fields[7])
        )
        if exchange.t3_ns < exchange.t2_ns or exchange.t4_ns < t1_ns:
            raise MalformedPacket("time_order")
        if exchange.round_trip_ns < -_STAMP_NOISE_NS:  # held for longer than it was away
            raise MalformedPacket("time_order")
        return exchange
