"""Copies of earlier frames inside a packet: payload type 97.

RFC 2198 has the same idea, but its offset of 14 bits ends at 341 ms, and an outage lasts longer.
So the form is our own: `count u8`, then for each copy `offset u24` (samples before this packet's
frame) and `length u16`, then the copies in that order, then the packet's own frame to the end. A
packet without copies stays what it was, payload type 96.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from codec.format import SAMPLE_RATE
from transport.errors import MalformedPacket

COPIES_PAYLOAD_TYPE: Final = 97
MAX_COPIES: Final = 8
# What a copy costs beside its frame, and all of them together: their heads, and the count.
COPY_BYTES: Final = 5
COUNT_BYTES: Final = 1
DIGEST_BYTES: Final = 16
# What is longer ago has sounded, whatever the playout delay (10 s at most).
KEPT_SAMPLES: Final = 12 * SAMPLE_RATE
# Offset (a byte, then 16 bits) and length.
_HEAD = struct.Struct("!BHH")
_OFFSETS, _LENGTHS = 1 << 24, 1 << 16


@dataclass(frozen=True, slots=True)
class Copy:
    """The frame that began `offset` samples before the packet's own, once more."""

    offset: int
    payload: bytes

    def __post_init__(self) -> None:
        if not 0 < self.offset < _OFFSETS:
            raise ValueError(f"a copy is of 1 to {_OFFSETS - 1} samples before, not {self.offset}")
        if not 0 < len(self.payload) < _LENGTHS:
            raise ValueError(f"a copy has 1 to {_LENGTHS - 1} bytes, not {len(self.payload)}")


def pack(primary: bytes, copies: Sequence[Copy]) -> bytes:
    """The payload of a packet of type 97: 1 to 8 copies of different frames, and its own."""
    if not primary or not 1 <= len(copies) <= MAX_COPIES:
        raise ValueError(f"a payload has 1 to {MAX_COPIES} copies and a frame of its own")
    if len({copy.offset for copy in copies}) < len(copies):
        raise ValueError("two copies are of one frame")
    heads = [_HEAD.pack(c.offset >> 16, c.offset & 0xFFFF, len(c.payload)) for c in copies]
    return b"".join((bytes((len(copies),)), *heads, *(c.payload for c in copies), primary))


def unpack(payload: bytes) -> tuple[bytes, tuple[Copy, ...]]:
    """The packet's own frame, and the copies; MalformedPacket("copies") unless `pack` made it."""
    count = payload[0] if payload else 0
    at = COUNT_BYTES + count * COPY_BYTES
    if not 1 <= count <= MAX_COPIES or len(payload) <= at:
        raise MalformedPacket("copies")
    copies = []
    for high, low, length in _HEAD.iter_unpack(payload[COUNT_BYTES:at]):
        offset = high << 16 | low
        if not offset or not length or at + length > len(payload):
            raise MalformedPacket("copies")
        copies.append(Copy(offset, payload[at : at + length]))
        at += length
    if at == len(payload) or len({copy.offset for copy in copies}) < count:
        raise MalformedPacket("copies")
    return payload[at:], tuple(copies)


def digest(payload: bytes, primary: bytes) -> bytes:
    """What stands in a signature for all that `payload` has before `primary`.

    Half of SHA-256 is enough: whoever would pass other copies off needs a second preimage of what
    the station chose, not two of his own that collide.
    """
    before = payload[: len(payload) - len(primary)]
    return hashlib.sha256(before).digest()[:DIGEST_BYTES]


class CopyBook:
    """What one stream has sent of late, to be sent along once more."""

    def __init__(self, most: int = KEPT_SAMPLES) -> None:
        """It forgets what began more than `most` samples before the last."""
        self._most = most
        self._payloads: dict[int, bytes] = {}

    def __len__(self) -> int:
        return len(self._payloads)

    def remember(self, media_sample: int, payload: bytes) -> None:
        """This frame was sent; each begins later than the one before."""
        self._payloads[media_sample] = payload
        while (first := next(iter(self._payloads))) < media_sample - self._most:
            del self._payloads[first]

    def copies(self, media_sample: int, offsets: Sequence[int], room: int) -> tuple[Copy, ...]:
        """Copies for the frame at `media_sample`, nearest first, at most 8.

        Of each offset the frame that began exactly so many samples before, if there was one; in a
        pause there was none. `room` is how many bytes longer the payload may become, heads and all:
        what does not fit is left out.
        """
        found: list[Copy] = []
        left = room - COUNT_BYTES
        for offset in sorted(set(offsets)):
            payload = self._payloads.get(media_sample - offset)
            if payload is None or len(found) == MAX_COPIES or COPY_BYTES + len(payload) > left:
                continue
            found.append(Copy(offset, payload))
            left -= COPY_BYTES + len(payload)
        return tuple(found)
