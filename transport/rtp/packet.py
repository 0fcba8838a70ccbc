"""One RTP packet (RFC 3550 section 5.1), and telling it from RTCP on a shared port (RFC 5761)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from transport.errors import MalformedPacket
from transport.seq import require_unsigned

__all__ = ["Extension", "RtpPacket", "is_rtcp", "repair_ssrc"]

_VERSION = 2
_FIXED_HEADER = struct.Struct("!BBHII")
_EXTENSION_HEADER = struct.Struct("!HH")
_PADDING, _EXTENSION, _CSRC_COUNT = 0x20, 0x10, 0x0F
_MARKER = 0x80


def is_rtcp(data: bytes) -> bool:
    """Tell whether a datagram is RTCP, not RTP, by its second octet (RFC 5761 section 4).

    Holds as long as no stream uses payload types 64 to 95, which this package never does.
    """
    return len(data) > 1 and 192 <= data[1] <= 223


def repair_ssrc(ssrc: int) -> int:
    """The SSRC under which packets of `ssrc` are sent again; and back.

    A station draws its SSRCs even, so those of two streams, or of two epochs, are never one.
    """
    return ssrc ^ 1


@dataclass(frozen=True, slots=True)
class Extension:
    """The header extension (RFC 3550 section 5.3.1): `data` is whole 32-bit words."""

    profile: int
    data: bytes

    def __post_init__(self) -> None:
        require_unsigned("extension profile", self.profile, 16)
        if len(self.data) % 4:
            raise ValueError(f"extension data must be whole words, got {len(self.data)} bytes")
        require_unsigned("extension length in words", len(self.data) // 4, 16)


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """An RTP packet in the clear. `timestamp` is in samples of the payload's clock, wrapped.

    Padding is transport noise: `parse` removes it and `serialise` never adds any.
    """

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False
    csrcs: tuple[int, ...] = ()
    extension: Extension | None = None

    def __post_init__(self) -> None:
        # Inlined, not a loop over names: this runs for every packet received.
        if not (
            0 <= self.payload_type < 1 << 7
            and 0 <= self.sequence < 1 << 16
            and 0 <= self.timestamp < 1 << 32
            and 0 <= self.ssrc < 1 << 32
        ):
            raise ValueError(
                f"RTP field out of range: payload type {self.payload_type}, "
                f"sequence {self.sequence}, timestamp {self.timestamp}, SSRC {self.ssrc}"
            )
        if self.csrcs:
            require_unsigned("CSRC count", len(self.csrcs), 4)
            for csrc in self.csrcs:
                require_unsigned("CSRC", csrc, 32)

    @classmethod
    def parse(cls, data: bytes) -> RtpPacket:
        """Read one datagram; raise `MalformedPacket` if it is not RTP version 2."""
        if len(data) < _FIXED_HEADER.size:
            raise MalformedPacket("rtp_truncated")
        first, second, sequence, timestamp, ssrc = _FIXED_HEADER.unpack_from(data)
        if first >> 6 != _VERSION:
            raise MalformedPacket("rtp_version")
        payload_type, marker = second & ~_MARKER, second >= _MARKER
        start = _FIXED_HEADER.size
        if not first & (_PADDING | _EXTENSION | _CSRC_COUNT):  # nearly every packet there is
            return cls(payload_type, sequence, timestamp, ssrc, data[start:], marker)
        csrcs, start = _read_csrcs(data, start, first & _CSRC_COUNT)
        extension = None
        if first & _EXTENSION:
            extension, start = _read_extension(data, start)
        end = _end_of_payload(data, start) if first & _PADDING else len(data)
        payload = data[start:end]
        return cls(payload_type, sequence, timestamp, ssrc, payload, marker, csrcs, extension)

    def serialise(self) -> bytes:
        """Return the packet as it goes on the wire."""
        extension = self.extension
        first = _VERSION << 6 | len(self.csrcs)
        second = self.payload_type | _MARKER if self.marker else self.payload_type
        optional = b""
        if self.csrcs:
            optional = struct.pack(f"!{len(self.csrcs)}I", *self.csrcs)
        if extension is not None:
            first |= _EXTENSION
            words = len(extension.data) // 4
            optional += _EXTENSION_HEADER.pack(extension.profile, words) + extension.data
        fixed = _FIXED_HEADER.pack(first, second, self.sequence, self.timestamp, self.ssrc)
        return fixed + optional + self.payload


def _read_csrcs(data: bytes, start: int, count: int) -> tuple[tuple[int, ...], int]:
    end = start + 4 * count
    if end > len(data):
        raise MalformedPacket("rtp_csrc")
    return struct.unpack_from(f"!{count}I", data, start), end


def _read_extension(data: bytes, start: int) -> tuple[Extension, int]:
    body = start + _EXTENSION_HEADER.size
    if body > len(data):
        raise MalformedPacket("rtp_extension")
    profile, words = _EXTENSION_HEADER.unpack_from(data, start)
    end = body + 4 * words
    if end > len(data):
        raise MalformedPacket("rtp_extension")
    return Extension(profile, data[body:end]), end


def _end_of_payload(data: bytes, start: int) -> int:
    # The count of padding octets is the last of them and includes itself, so zero is a lie.
    padding = data[-1]
    if not 1 <= padding <= len(data) - start:
        raise MalformedPacket("rtp_padding")
    return len(data) - padding
