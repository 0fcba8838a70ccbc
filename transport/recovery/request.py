"""A loudspeaker's request for packets that it misses: one small datagram under its session's key.

`0x40 ‖ session (8) ‖ blocks ‖ MAC (16)`; each block is `SSRC (4) ‖ base (2) ‖ length (1) ‖ bitmap`,
whose bit i (from the lowest bit of the first byte on) asks for sequence number base + i. The first
byte is neither RTP's nor STUN's (RFC 7983 section 7).
"""

import hmac
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from transport.errors import MalformedPacket
from transport.seq import require_unsigned
from transport.transcript import transcript

__all__ = [
    "MAX_REQUEST_BYTES",
    "MAX_WANTED",
    "REQUEST",
    "Wanted",
    "open_request",
    "request_session",
    "seal_request",
]

REQUEST: Final = 0x40
MAX_REQUEST_BYTES: Final = 256
MAX_WANTED: Final = 512  # packets that one request may ask for
_DOMAIN: Final = "loa.repair.3"
_HEAD = struct.Struct("!BQ")
_BLOCK = struct.Struct("!IHB")
_MAC_BYTES = 16  # RFC 2104 section 5: half of the hash
_LEAST_BYTES = _HEAD.size + _BLOCK.size + 1 + _MAC_BYTES
_ROOM = MAX_REQUEST_BYTES - _HEAD.size - _MAC_BYTES


@dataclass(frozen=True, slots=True)
class Wanted:
    """Packets of one stream: the SSRC of its own packets, and the sequence numbers, oldest first.

    ValueError for numbers that do not fit their fields.
    """

    ssrc: int
    sequences: tuple[int, ...]

    def __post_init__(self) -> None:
        require_unsigned("ssrc", self.ssrc, 32)
        for sequence in self.sequences:
            require_unsigned("sequence", sequence, 16)


def seal_request(wanted: Sequence[Wanted], session: int, key: bytes) -> bytes:
    """The datagram, of 256 bytes at most: what does not fit is left out, and the first is kept.

    Whoever misses that much asks again in a moment anyway. ValueError if nothing is wanted.
    """
    blocks: list[bytes] = []
    room, left = _ROOM, MAX_WANTED
    for one in wanted:
        for block, count in _blocks(one):
            if len(block) > room or count > left:
                return _sealed(b"".join(blocks), session, key)
            blocks.append(block)
            room -= len(block)
            left -= count
    return _sealed(b"".join(blocks), session, key)


def _sealed(blocks: bytes, session: int, key: bytes) -> bytes:
    if not blocks:
        raise ValueError("a request asks for something")
    said = _HEAD.pack(REQUEST, session) + blocks
    return said + _mac(said, key)


def _blocks(wanted: Wanted) -> Iterator[tuple[bytes, int]]:
    """Blocks for these sequences, each with how many it asks for; short, so that many fit."""
    base, bits, count = 0, 0, 0
    for sequence in wanted.sequences:
        place = (sequence - base) & 0xFFFF
        # Another block takes as much as seven more bytes of bitmap; and 64 bits at most, so that
        # what does not fit a request is no more than the last few.
        if bits and (place >= 64 or place >> 3 >= (bits.bit_length() + 7 >> 3) + _BLOCK.size):
            yield _block(wanted.ssrc, base, bits), count
            bits = 0
        if not bits:
            base, place, count = sequence, 0, 0
        count += not bits >> place & 1
        bits |= 1 << place
    if bits:
        yield _block(wanted.ssrc, base, bits), count


def _block(ssrc: int, base: int, bits: int) -> bytes:
    bitmap = bits.to_bytes(bits.bit_length() + 7 >> 3, "little")
    return _BLOCK.pack(ssrc, base, len(bitmap)) + bitmap


def request_session(data: bytes) -> int | None:
    """The session that a datagram says it is of; None if it has not the form of a request."""
    if not _LEAST_BYTES <= len(data) <= MAX_REQUEST_BYTES or data[0] != REQUEST:
        return None
    session: int = _HEAD.unpack_from(data)[1]
    return session


def open_request(data: bytes, session: int, key: bytes) -> tuple[Wanted, ...]:
    """What the holder of this session's key asks for, in the order of the datagram.

    MalformedPacket("repair_request") for what has not the form, ("repair_mac") for a wrong key.
    """
    if request_session(data) != session:
        raise MalformedPacket("repair_request")
    said, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(said, key)):
        raise MalformedPacket("repair_mac")
    wanted = tuple(_parse(said[_HEAD.size :]))
    if sum(len(one.sequences) for one in wanted) > MAX_WANTED:
        raise MalformedPacket("repair_request")
    return wanted


def _parse(blocks: bytes) -> Iterator[Wanted]:
    at = 0
    while at < len(blocks):
        start = at + _BLOCK.size
        if start > len(blocks):
            raise MalformedPacket("repair_request")
        ssrc, base, length = _BLOCK.unpack_from(blocks, at)
        at = start + length
        bitmap = blocks[start:at]
        # One spelling of each: it begins with a packet that is wanted and ends with another's byte.
        if len(bitmap) != length or not length or not bitmap[0] & 1 or not bitmap[-1]:
            raise MalformedPacket("repair_request")
        bits = int.from_bytes(bitmap, "little")
        places = [place for place in range(bits.bit_length()) if bits >> place & 1]
        yield Wanted(ssrc, tuple((base + place) & 0xFFFF for place in places))


def _mac(said: bytes, key: bytes) -> bytes:
    return hmac.digest(key, transcript(_DOMAIN, said), "sha256")[:_MAC_BYTES]
