"""Symbols of a block code beside a frame: payload type 99.

A block is up to 16 frames in a row, frame by frame a place of its own, whether there was a frame
in it or a pause. Each frame is written as a source symbol, its length before it and zeros behind,
all as long as the longest of them; a place without a frame is zeros. Repair symbol n of a block of
K places is the sum of the source symbols j, each times 1 / ((K + n) xor j), in the field of 256
elements by x^8 + x^4 + x^3 + x^2 + 1: a Cauchy matrix, so from any K of all symbols follow all
others, and what is lost by chance is made good by just as many symbols as frames were lost.

ISA-L does the sums, by way of PyECLib. What it is given is made here: it never sees a length or a
number that came from outside, only symbols that are all as long as they have to be.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pyeclib.ec_iface import ECDriver, ECDriverError

from transport.errors import MalformedPacket

CODE_PAYLOAD_TYPE: Final = 99
LEAST_FRAMES: Final = 2
MOST_FRAMES: Final = 16
# Of a block, source symbols and repair symbols together: as many as the library knows.
MOST_SYMBOLS: Final = 32
MOST_IN_PACKET: Final = 8
# Places, symbols here, offset (a byte, then 16 bits), places with a frame, first symbol, length.
_HEAD = struct.Struct("!BBBHHBH")
HEAD_BYTES: Final = _HEAD.size
_LENGTH = struct.Struct("!H")
LENGTH_BYTES: Final = _LENGTH.size
_OFFSETS, _LENGTHS = 1 << 24, 1 << 16
_KINDS_KEPT = 64


@dataclass(frozen=True, slots=True)
class Code:
    """How much is coded: so many repair symbols for each block of so many frames."""

    frames: int
    symbols: int

    def __post_init__(self) -> None:
        if not LEAST_FRAMES <= self.frames <= MOST_FRAMES:
            raise ValueError(f"a block has {LEAST_FRAMES} to {MOST_FRAMES} frames")
        if not 1 <= self.symbols <= MOST_SYMBOLS - self.frames:
            raise ValueError(f"frames and symbols of a block are {MOST_SYMBOLS} at most")


@dataclass(frozen=True, slots=True)
class Symbols:
    """Some repair symbols of one block, numbered from `first` on, all of one length.

    The block has `places`; the first began `offset` samples before the packet's own frame. Bit i of
    `sent` says whether there was a frame in place i; in the first there was.
    """

    places: int
    offset: int
    sent: int
    first: int
    data: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not LEAST_FRAMES <= self.places <= MOST_FRAMES or not 0 < self.offset < _OFFSETS:
            raise ValueError("there is no such block")
        if not self.sent & 1 or self.sent >> self.places:
            raise ValueError("a block begins with a frame, and has no more than its places")
        if not 1 <= len(self.data) <= MOST_IN_PACKET:
            raise ValueError(f"a packet has 1 to {MOST_IN_PACKET} symbols")
        if not 0 <= self.first <= MOST_SYMBOLS - self.places - len(self.data):
            raise ValueError("a block has no such symbols")
        if not LENGTH_BYTES < self.length < _LENGTHS or len(set(map(len, self.data))) > 1:
            raise ValueError("symbols of a block are of one length, and no frame is empty")

    @property
    def length(self) -> int:
        """Of each symbol, in bytes."""
        return len(self.data[0])


def pack(primary: bytes, symbols: Symbols) -> bytes:
    """The payload of a packet of type 99: symbols, then its own frame."""
    if not primary:
        raise ValueError("a payload has a frame of its own")
    offset = symbols.offset >> 16, symbols.offset & 0xFFFF
    head = (symbols.places, len(symbols.data), *offset, symbols.sent, symbols.first, symbols.length)
    return b"".join((_HEAD.pack(*head), *symbols.data, primary))


def unpack(payload: bytes) -> tuple[bytes, Symbols]:
    """The packet's own frame, and the symbols; MalformedPacket("symbols") unless `pack` made it."""
    if len(payload) < HEAD_BYTES:
        raise MalformedPacket("symbols")
    places, count, high, low, sent, first, length = _HEAD.unpack_from(payload)
    end = HEAD_BYTES + count * length
    if count > MOST_IN_PACKET or end >= len(payload):
        raise MalformedPacket("symbols")
    data = tuple(payload[HEAD_BYTES + n * length :][:length] for n in range(count))
    try:
        return payload[end:], Symbols(places, high << 16 | low, sent, first, data)
    except ValueError as error:
        raise MalformedPacket("symbols") from error


# ------------------------------------------------------------------ the code
@lru_cache(maxsize=MOST_FRAMES)
def _driver(places: int) -> ECDriver:
    return ECDriver(ec_type="isa_l_rs_cauchy", k=places, m=MOST_SYMBOLS - places)


@lru_cache(maxsize=_KINDS_KEPT)
def _heads(places: int, length: int) -> tuple[bytes, ...]:
    """What the library writes before each of a block's symbols: it depends on nothing else."""
    pieces = _driver(places).encode(bytes(places * length))
    return tuple(piece[: len(piece) - length] for piece in pieces)


def _source(frame: bytes | None, length: int) -> bytes:
    if frame is None:
        return bytes(length)
    return (_LENGTH.pack(len(frame)) + frame).ljust(length, b"\0")


def encode(frames: Sequence[bytes | None], count: int) -> tuple[bytes, ...]:
    """The first `count` repair symbols of a block with these frames; None is a pause."""
    length = LENGTH_BYTES + max(len(frame) for frame in frames if frame is not None)
    pieces = _driver(len(frames)).encode(b"".join(_source(frame, length) for frame in frames))
    return tuple(piece[-length:] for piece in pieces[len(frames) : len(frames) + count])


def decode(
    frames: Sequence[bytes | None], sent: int, symbols: Mapping[int, bytes]
) -> dict[int, bytes]:
    """The frames that are missing, by their places: as many as there are symbols at least.

    `frames` are those that are there, None for the others and for pauses; `sent` says which is
    which. The symbols are of one length. MalformedPacket("symbols") if they are of other frames.
    """
    places, length = len(frames), len(next(iter(symbols.values())))
    missing = [n for n in range(places) if frames[n] is None and sent >> n & 1]
    if any(frame is not None and LENGTH_BYTES + len(frame) > length for frame in frames):
        raise MalformedPacket("symbols")
    try:
        heads = _heads(places, length)
        pieces = [heads[n] + _source(frames[n], length) for n in range(places) if n not in missing]
        needed = sorted(symbols)[: len(missing)]
        pieces += [heads[places + n] + symbols[n] for n in needed]
        block = _driver(places).decode(pieces)
    except ECDriverError as error:
        raise MalformedPacket("symbols") from error
    return {n: _frame_in(block[n * length : (n + 1) * length]) for n in missing}


def _frame_in(source: bytes) -> bytes:
    (length,) = _LENGTH.unpack_from(source)
    frame = source[LENGTH_BYTES : LENGTH_BYTES + length]
    if not frame or source != _source(frame, len(source)) or len(frame) < length:
        raise MalformedPacket("symbols")
    return frame
