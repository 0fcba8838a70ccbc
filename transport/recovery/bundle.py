"""Several repair packets in one datagram: 0x41, then each after its length (16 bits).

RFC 7983 gives first bytes from 64 to 79 to TURN channels, which nobody here has: so this is taken
neither for RTP (128 to 191) nor for STUN (0 to 3).
"""

from collections.abc import Sequence
from typing import Final

from transport.errors import MalformedPacket

BUNDLE: Final = 0x41
MAX_BUNDLED: Final = 32
_HEAD_BYTES, _LENGTH_BYTES = 1, 2
_LENGTHS = 1 << 16


def bundle(packets: Sequence[bytes], most: int = 1_200) -> list[bytes]:
    """As few datagrams of `most` bytes as hold these packets in their order.

    A packet that is too long to fit goes alone, in a datagram that is longer.
    """
    bundles: list[list[bytes]] = []
    length = 0
    for packet in packets:
        if not 0 < len(packet) < _LENGTHS:
            raise ValueError(f"a packet in a bundle has 1 to 65535 bytes, not {len(packet)}")
        needed = _LENGTH_BYTES + len(packet)
        if not bundles or length + needed > most or len(bundles[-1]) == MAX_BUNDLED:
            bundles.append([])
            length = _HEAD_BYTES
        bundles[-1].append(packet)
        length += needed
    return [_datagram(bundled) for bundled in bundles]


def _datagram(packets: Sequence[bytes]) -> bytes:
    pieces = [bytes((BUNDLE,))]
    for packet in packets:
        pieces += (len(packet).to_bytes(_LENGTH_BYTES, "big"), packet)
    return b"".join(pieces)


def unbundle(data: bytes) -> tuple[bytes, ...]:
    """The packets in a datagram; MalformedPacket("bundle") unless it is 1 to 32, and whole."""
    if data[:_HEAD_BYTES] != bytes((BUNDLE,)):
        raise MalformedPacket("bundle")
    packets: list[bytes] = []
    at = _HEAD_BYTES
    while at < len(data):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(data[at:begin], "big")
        if at > len(data) or at == begin or len(packets) == MAX_BUNDLED:
            raise MalformedPacket("bundle")
        packets.append(data[begin:at])
    if not packets:
        raise MalformedPacket("bundle")
    return tuple(packets)
