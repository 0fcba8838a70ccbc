"""Compound RTCP packets (RFC 3550 section 6) and how often to send them (section 6.3.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from transport.errors import MalformedPacket
from transport.seq import require_unsigned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = [
    "Bye",
    "ReceiverReport",
    "ReportBlock",
    "RtcpPacket",
    "SenderReport",
    "SourceDescription",
    "parse_compound",
    "report_interval_ns",
    "serialise_compound",
]

_VERSION = 2
_SR, _RR, _SDES, _BYE = 200, 201, 202, 203
_SDES_CNAME = 1
_HEADER = struct.Struct("!BBH")
_SENDER_INFO = struct.Struct("!IQIII")
_BLOCK = struct.Struct("!6I")
_MAX_COUNT = 31  # five bits

# RFC 3550 section 6.2 and appendix A.7.
_RTCP_SHARE = 0.05
_SENDERS_SHARE = 0.25
_MINIMUM_INTERVAL_S = 5.0
_COMPENSATION = 1.21828  # e - 3/2: timer reconsideration converges below the intended mean


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What one receiver says of one source (RFC 3550 section 6.4.1).

    `fraction_lost` in 1/256, `jitter` in timestamp units, `last_sr` the middle 32 bits of an NTP
    time, `delay_since_last_sr` in 1/65536 s.
    """

    ssrc: int
    fraction_lost: int
    cumulative_lost: int
    highest_sequence: int
    jitter: int
    last_sr: int = 0
    delay_since_last_sr: int = 0

    def __post_init__(self) -> None:
        require_unsigned("fraction lost", self.fraction_lost, 8)
        # Signed: duplicates may outnumber losses.
        require_unsigned("cumulative lost + 2**23", self.cumulative_lost + (1 << 23), 24)
        for name in ("ssrc", "highest_sequence", "jitter", "last_sr", "delay_since_last_sr"):
            require_unsigned(name, getattr(self, name), 32)


@dataclass(frozen=True, slots=True)
class SenderReport:
    """The sender's clock and counters; `ntp_time` is a 64-bit NTP timestamp of `rtp_timestamp`."""

    ssrc: int
    ntp_time: int
    rtp_timestamp: int
    packet_count: int
    octet_count: int
    reports: tuple[ReportBlock, ...] = ()

    def __post_init__(self) -> None:
        require_unsigned("ntp_time", self.ntp_time, 64)
        for name in ("ssrc", "rtp_timestamp", "packet_count", "octet_count"):
            require_unsigned(name, getattr(self, name), 32)
        require_unsigned("number of reports", len(self.reports), 5)

    @property
    def compact_ntp(self) -> int:
        """The middle 32 bits of `ntp_time`, which a receiver returns as `last_sr`."""
        return self.ntp_time >> 16 & 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """Reports of one who sends no media."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()

    def __post_init__(self) -> None:
        require_unsigned("ssrc", self.ssrc, 32)
        require_unsigned("number of reports", len(self.reports), 5)


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """The name of a source that survives a change of SSRC (RFC 3550 section 6.5.1)."""

    ssrc: int
    cname: str

    def __post_init__(self) -> None:
        require_unsigned("ssrc", self.ssrc, 32)
        if not 1 <= len(self.cname.encode()) <= 255:
            raise ValueError("a CNAME is 1 to 255 bytes of UTF-8")


@dataclass(frozen=True, slots=True)
class Bye:
    """Sources that leave (RFC 3550 section 6.6)."""

    ssrcs: tuple[int, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        require_unsigned("number of sources", len(self.ssrcs), 5)
        for ssrc in self.ssrcs:
            require_unsigned("ssrc", ssrc, 32)
        require_unsigned("length of reason", len(self.reason.encode()), 8)


RtcpPacket: TypeAlias = SenderReport | ReceiverReport | SourceDescription | Bye


def parse_compound(data: bytes) -> tuple[RtcpPacket, ...]:
    """Read one datagram, skipping packet types, SDES items and trailing words we do not know.

    Each SDES chunk becomes a `SourceDescription`; a chunk without a CNAME says nothing to us.
    """
    packets: list[RtcpPacket] = []
    for kind, count, body in _split(data):
        read = _READERS.get(kind)
        if read is not None:
            packets.extend(read(count, body))
    return tuple(packets)


def serialise_compound(packets: Sequence[RtcpPacket]) -> bytes:
    """Return one datagram. The caller adds a `SourceDescription`, which RFC 3550 6.1 wants in each.

    Raises `ValueError` unless a sender or receiver report comes first.
    """
    if not packets or not isinstance(packets[0], SenderReport | ReceiverReport):
        raise ValueError("a compound packet starts with a sender or receiver report")
    return b"".join(_serialise(packet) for packet in packets)


def report_interval_ns(
    rng_uniform: float,
    members: int,
    senders: int,
    *,
    session_bandwidth_bps: float,
    average_size_bytes: float,
    we_sent: bool,
    initial: bool = False,
) -> int:
    """Return the time until the next report (RFC 3550 section 6.3.1, appendix A.7).

    `rng_uniform` is the caller's draw from [0, 1); `average_size_bytes` counts UDP and IP headers.
    Reports of all members together take 5 % of the session, a quarter of that for its senders.
    """
    if not 0 <= rng_uniform < 1 or not 0 <= senders <= members or session_bandwidth_bps <= 0:
        raise ValueError("want 0 <= uniform < 1, 0 <= senders <= members and a bandwidth")
    bytes_per_s = session_bandwidth_bps / 8 * _RTCP_SHARE
    sharing = members
    if senders <= members * _SENDERS_SHARE:
        bytes_per_s *= _SENDERS_SHARE if we_sent else 1 - _SENDERS_SHARE
        sharing = senders if we_sent else members - senders
    minimum_s = _MINIMUM_INTERVAL_S / 2 if initial else _MINIMUM_INTERVAL_S
    interval_s = max(minimum_s, average_size_bytes * sharing / bytes_per_s)
    # Between half and one and a half of it, so that receivers do not fall into step.
    return round(interval_s * (rng_uniform + 0.5) / _COMPENSATION * 1e9)


def _split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (type, count, body without padding); the checks of RFC 3550 appendix A.2."""
    if len(data) < _HEADER.size or data[1] not in {_SR, _RR}:
        raise MalformedPacket("rtcp_first")
    start = 0
    while start < len(data):
        if start + _HEADER.size > len(data):
            raise MalformedPacket("rtcp_length")
        first, kind, words = _HEADER.unpack_from(data, start)
        body, end = start + _HEADER.size, start + 4 * (words + 1)
        if first >> 6 != _VERSION:
            raise MalformedPacket("rtcp_version")
        if end > len(data):
            raise MalformedPacket("rtcp_length")
        padding = _padding(data, body, end) if first & 0x20 else 0
        yield kind, first & _MAX_COUNT, data[body : end - padding]
        start = end


def _padding(data: bytes, body: int, end: int) -> int:
    # Only the last packet may be padded, by whole words, and the count includes itself (6.4.1).
    if end != len(data) or end == body:
        raise MalformedPacket("rtcp_padding")
    padding = data[end - 1]
    if not 4 <= padding <= end - body or padding % 4:
        raise MalformedPacket("rtcp_padding")
    return padding


def _read_blocks(count: int, body: bytes, start: int) -> tuple[ReportBlock, ...]:
    if start + count * _BLOCK.size > len(body):
        raise MalformedPacket("rtcp_report")
    blocks = []
    for index in range(count):
        ssrc, loss, *rest = _BLOCK.unpack_from(body, start + index * _BLOCK.size)
        lost = ((loss & 0xFFFFFF) ^ 0x800000) - 0x800000  # sign of 24 bits
        blocks.append(ReportBlock(ssrc, loss >> 24, lost, *rest))
    return tuple(blocks)


def _read_sender_report(count: int, body: bytes) -> tuple[SenderReport]:
    if len(body) < _SENDER_INFO.size:
        raise MalformedPacket("rtcp_report")
    info: tuple[int, int, int, int, int] = _SENDER_INFO.unpack_from(body)
    return (SenderReport(*info, reports=_read_blocks(count, body, _SENDER_INFO.size)),)


def _read_receiver_report(count: int, body: bytes) -> tuple[ReceiverReport]:
    if len(body) < 4:
        raise MalformedPacket("rtcp_report")
    return (ReceiverReport(int.from_bytes(body[:4], "big"), _read_blocks(count, body, 4)),)


def _read_source_description(count: int, body: bytes) -> list[SourceDescription]:
    found = []
    start = 0
    for _ in range(count):
        if start + 4 > len(body):
            raise MalformedPacket("rtcp_sdes")
        ssrc = int.from_bytes(body[start : start + 4], "big")
        cname, start = _read_chunk(body, start + 4)
        if cname is not None:
            found.append(SourceDescription(ssrc, cname))
    return found


def _read_chunk(body: bytes, start: int) -> tuple[str | None, int]:
    """Return the CNAME among a chunk's items, if any, and where the next chunk starts."""
    cname = None
    while start < len(body) and body[start]:
        end = start + 2 + body[start + 1] if start + 1 < len(body) else len(body) + 1
        if end > len(body):
            raise MalformedPacket("rtcp_sdes")
        if body[start] == _SDES_CNAME:
            cname = _read_cname(body[start + 2 : end])
        start = end
    if start >= len(body):  # the null octet that ends a chunk is not optional (6.5)
        raise MalformedPacket("rtcp_sdes")
    return cname, (start // 4 + 1) * 4


def _read_cname(text: bytes) -> str:
    try:
        cname = text.decode()
    except UnicodeDecodeError:
        raise MalformedPacket("rtcp_cname") from None
    if not cname:
        raise MalformedPacket("rtcp_cname")
    return cname


def _read_bye(count: int, body: bytes) -> tuple[Bye]:
    end = 4 * count
    if end > len(body):
        raise MalformedPacket("rtcp_bye")
    ssrcs = struct.unpack_from(f"!{count}I", body)
    if end == len(body):
        return (Bye(ssrcs),)
    stop = end + 1 + body[end]
    if stop > len(body):
        raise MalformedPacket("rtcp_bye")
    # A reason is for people; bad letters in it are no ground to miss that a source left.
    return (Bye(ssrcs, body[end + 1 : stop].decode(errors="ignore")),)


_READERS: dict[int, Callable[[int, bytes], Sequence[RtcpPacket]]] = {
    _SR: _read_sender_report,
    _RR: _read_receiver_report,
    _SDES: _read_source_description,
    _BYE: _read_bye,
}


def _serialise(packet: RtcpPacket) -> bytes:
    match packet:
        case SenderReport():
            info = _SENDER_INFO.pack(
                packet.ssrc,
                packet.ntp_time,
                packet.rtp_timestamp,
                packet.packet_count,
                packet.octet_count,
            )
            return _frame(_SR, len(packet.reports), info + _pack_blocks(packet.reports))
        case ReceiverReport():
            body = packet.ssrc.to_bytes(4, "big") + _pack_blocks(packet.reports)
            return _frame(_RR, len(packet.reports), body)
        case SourceDescription():
            cname = packet.cname.encode()
            item = bytes((_SDES_CNAME, len(cname))) + cname + b"\0"
            return _frame(_SDES, 1, packet.ssrc.to_bytes(4, "big") + item)
        case Bye():
            reason = packet.reason.encode()
            body = struct.pack(f"!{len(packet.ssrcs)}I", *packet.ssrcs)
            tail = bytes((len(reason),)) + reason if reason else b""
            return _frame(_BYE, len(packet.ssrcs), body + tail)


def _pack_blocks(reports: tuple[ReportBlock, ...]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            block.ssrc,
            block.fraction_lost << 24 | block.cumulative_lost & 0xFFFFFF,
            block.highest_sequence,
            block.jitter,
            block.last_sr,
            block.delay_since_last_sr,
        )
        for block in reports
    )


def _frame(kind: int, count: int, body: bytes) -> bytes:
    """Prepend the common header; null octets to the word boundary are part of SDES and BYE."""
    body += bytes(-len(body) % 4)
    return _HEADER.pack(_VERSION << 6 | count, kind, len(body) // 4) + body
