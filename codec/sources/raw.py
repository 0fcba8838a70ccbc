"""Samples without a container, as microphones are piped: `arecord -t raw`, `ffmpeg -f s16le`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from codec.format import Samples

# How to read one sample, and the value that is full scale. 24 bits are unpacked by hand.
_ENCODINGS: Final[dict[str, tuple[str, float]]] = {
    "u8": ("u1", 128.0),
    "s16le": ("<i2", 32768.0),
    "s16be": (">i2", 32768.0),
    "s24le": ("u1", 2147483648.0),
    "s32le": ("<i4", 2147483648.0),
    "f32le": ("<f4", 1.0),
}
_SAMPLE_BYTES: Final = {"u8": 1, "s16le": 2, "s16be": 2, "s24le": 3, "s32le": 4, "f32le": 4}
# The most taken at once from a pipe that has more; a pipe that has less is not waited for.
_READ_BYTES: Final = 65_536


class ByteStream(Protocol):
    """What is read from: `read1` gives what is there, waits only for the first byte; b"" ends."""

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes."""


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Encoding, rate (Hz) and channels of raw interleaved samples."""

    encoding: str
    rate: int
    channels: int

    def __post_init__(self) -> None:
        """Refuse what nobody could have meant."""
        if self.encoding not in _ENCODINGS:
            msg = f"encoding must be one of {', '.join(_ENCODINGS)}, not {self.encoding!r}"
            raise ValueError(msg)
        if not 4_000 <= self.rate <= 384_000:
            msg = f"rate must be from 4000 to 384000 Hz, not {self.rate}"
            raise ValueError(msg)
        if not 1 <= self.channels <= 32:
            msg = f"channels must be from 1 to 32, not {self.channels}"
            raise ValueError(msg)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "s16le:48000:1". Raises ValueError with the form that was expected."""
        encoding, _, numbers = text.partition(":")
        rate, _, channels = numbers.partition(":")
        if not (rate.isascii() and rate.isdigit() and channels.isascii() and channels.isdigit()):
            msg = f"{text!r} is not ENCODING:RATE:CHANNELS, as in s16le:48000:1"
            raise ValueError(msg)
        return cls(encoding, int(rate), int(channels))

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return _SAMPLE_BYTES[self.encoding] * self.channels

    def decode(self, data: bytes) -> Samples:
        """Float samples, (n, channels), of whole frames of bytes."""
        dtype, scale = _ENCODINGS[self.encoding]
        values = np.frombuffer(data, dtype)
        if self.encoding == "s24le":
            values = _unpack_s24(values)
        floats = values.astype(np.float32)
        if self.encoding == "u8":
            floats -= 128.0
        floats /= np.float32(scale)
        return floats.reshape(-1, self.channels)


def _unpack_s24(octets: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    # Into the upper three bytes of 32 bits, so that the sign needs no care.
    wide = np.zeros((octets.size // 3, 4), np.uint8)
    wide[:, 1:] = octets.reshape(-1, 3)
    return wide.view("<i4").reshape(-1)


def raw_blocks(
    stream: ByteStream, raw: RawFormat, limit_bytes: int | None = None
) -> Iterator[Samples]:
    """Yield what arrives on `stream` as (n, channels), as soon as it arrives.

    Stops at the end of the stream or after `limit_bytes`; part of a frame at the end is dropped.
    """
    held = b""
    left = limit_bytes
    while left is None or left > 0:
        data = stream.read1(_READ_BYTES if left is None else min(_READ_BYTES, left))
        if not data:
            return
        left = None if left is None else left - len(data)
        held += data
        whole = len(held) - len(held) % raw.frame_bytes
        if whole:
            yield raw.decode(held[:whole])
            held = held[whole:]
