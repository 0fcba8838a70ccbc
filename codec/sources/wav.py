"""The head of a WAV stream, so that a live one need not go through FFmpeg.

FFmpeg's WAV reader looks at 64 KB for S/PDIF before it gives the first sample, whatever
probesize and analyzeduration say: measured here 691 ms late at 48 kHz mono and 2 s at 16 kHz,
and a source that starts late stays late. Read like this the same pipe is late by nothing but
its own writes.
"""

import struct
from dataclasses import dataclass
from typing import Final

from codec.sources.raw import ByteStream, RawFormat

_PCM: Final = 1
_FLOAT: Final = 3
_EXTENSIBLE: Final = 0xFFFE
_ENCODINGS: Final = {
    (_PCM, 8): "u8",
    (_PCM, 16): "s16le",
    (_PCM, 24): "s24le",
    (_PCM, 32): "s32le",
    (_FLOAT, 32): "f32le",
}
# Writers that cannot know the length put 0 or something near 2 or 4 GB.
_UNKNOWN_LENGTH: Final = 0x7FFF0000
# Chunks before the sound (LIST, bext) are small; longer than this and it is not a live stream.
_MAX_HEADER_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class WavHead:
    """What was read before the sound.

    `consumed` is every byte taken from the stream. `raw` is None if this is no WAV, or none whose
    samples we read ourselves; then the bytes must be given to another reader. `data_bytes` is
    None for a stream of unknown length.
    """

    consumed: bytes
    raw: RawFormat | None = None
    data_bytes: int | None = None


def read_wav_head(stream: ByteStream) -> WavHead:
    """Read `stream` up to its first sample. Never raises for what it reads."""
    taken = _Taken(stream)
    riff = taken.read(12)
    if riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        return WavHead(taken.data)
    raw: RawFormat | None = None
    while len(taken.data) < _MAX_HEADER_BYTES:
        head = taken.read(8)
        if len(head) < 8:
            break
        name, size = struct.unpack("<4sI", head)
        if name == b"data":
            length = None if size == 0 or size >= _UNKNOWN_LENGTH else size
            return WavHead(taken.data, raw, length)
        if size > _MAX_HEADER_BYTES:
            break
        # Chunks are padded to even lengths.
        body = taken.read(size + size % 2)
        if name == b"fmt ":
            raw = _parse_format(body)
    return WavHead(taken.data)


class _Taken:
    """Reads exactly, and remembers."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self.data = b""

    def read(self, size: int) -> bytes:
        """`size` bytes, or fewer at the end of the stream."""
        start = len(self.data)
        while len(self.data) - start < size:
            more = self._stream.read1(size - (len(self.data) - start))
            if not more:
                break
            self.data += more
        return self.data[start:]


def _parse_format(body: bytes) -> RawFormat | None:
    if len(body) < 16:
        return None
    tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", body)
    if tag == _EXTENSIBLE and len(body) >= 26:
        # The true tag begins the sub-format GUID, behind size, valid bits and speaker mask.
        (tag,) = struct.unpack_from("<H", body, 24)
    encoding = _ENCODINGS.get((tag, bits))
    if encoding is None:
        return None
    try:
        return RawFormat(encoding, rate, channels)
    except ValueError:
        return None
