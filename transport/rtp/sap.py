"""Announcing a session on multicast (Session Announcement Protocol, RFC 2974)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

from transport.errors import MalformedPacket
from transport.rtp.sdp import parse_address
from transport.seq import require_unsigned

__all__ = [
    "SAP_PORT",
    "SDP_TYPE",
    "SapPacket",
    "announcement_interval_s",
    "sap_group",
]

SAP_PORT = 9875
SDP_TYPE = "application/sdp"

_VERSION = 1
_HEADER = struct.Struct("!BBH")
_IPV6, _DELETION, _ENCRYPTED, _COMPRESSED = 0x10, 0x04, 0x02, 0x01
_SDP_START = "v=0"

# RFC 2974 section 3: announce at the highest address of the administrative scope zone (RFC 2365).
_GLOBAL_GROUP = "224.2.127.254"
_SCOPE_ZONES = (IPv4Network("239.255.0.0/16"), IPv4Network("239.192.0.0/14"))


@dataclass(frozen=True, slots=True)
class SapPacket:
    """An announcement, or its deletion.

    `origin` and `message_id_hash` together name one version of the session, so a listener that
    knows the pair need not parse the payload again. A hash of 0 is for old senders: never send it.
    """

    origin: str
    message_id_hash: int
    deletion: bool
    payload_type: str
    payload: str

    def __post_init__(self) -> None:
        parse_address(self.origin)
        require_unsigned("message_id_hash", self.message_id_hash, 16)
        kind = self.payload_type
        if not kind or not kind.isascii() or "\0" in kind or kind.startswith(_SDP_START):
            raise ValueError("a payload type is ASCII, without NUL, and no session description")
        self.payload.encode()  # a lone surrogate is a ValueError here, not when it is sent

    @classmethod
    def parse(cls, data: bytes) -> SapPacket:
        """Read one datagram; authentication data is skipped, not checked.

        Raises `MalformedPacket` also for encrypted and compressed announcements.
        """
        if len(data) < _HEADER.size:
            raise MalformedPacket("sap_truncated")
        flags, authentication_words, message_id_hash = _HEADER.unpack_from(data)
        if flags >> 5 != _VERSION:
            raise MalformedPacket("sap_version")
        if flags & _ENCRYPTED:
            raise MalformedPacket("sap_encrypted")
        if flags & _COMPRESSED:
            raise MalformedPacket("sap_compressed")
        after_origin = _HEADER.size + (16 if flags & _IPV6 else 4)
        body = after_origin + 4 * authentication_words
        if body > len(data):
            raise MalformedPacket("sap_truncated")
        origin = str(ip_address(data[_HEADER.size : after_origin]))
        payload_type, payload = _read_payload(data[body:])
        return cls(origin, message_id_hash, bool(flags & _DELETION), payload_type, payload)

    def serialise(self) -> bytes:
        """Return the datagram. RFC 2974 section 6 asks for at most 1 kB."""
        origin = parse_address(self.origin)
        flags = _VERSION << 5
        if origin.version == 6:
            flags |= _IPV6
        if self.deletion:
            flags |= _DELETION
        header = _HEADER.pack(flags, 0, self.message_id_hash) + origin.packed
        return header + f"{self.payload_type}\0{self.payload}".encode()


def _read_payload(body: bytes) -> tuple[str, str]:
    """Split off the payload type, which senders older than RFC 2974 leave out (section 6)."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise MalformedPacket("sap_payload") from None
    if text.startswith(_SDP_START):
        return SDP_TYPE, text
    payload_type, end, payload = text.partition("\0")
    if not payload_type or not end or not payload_type.isascii():
        raise MalformedPacket("sap_payload_type")
    return payload_type, payload


def sap_group(destination: str) -> str:
    """Return the group on which to announce a session sent to the multicast `destination`.

    IPv6 sessions are announced at FF0X::2:7FFE in their own scope X. Raises `ValueError` for a
    unicast destination.
    """
    address = parse_address(destination)
    if not address.is_multicast:
        raise ValueError(f"only multicast sessions are announced, got {destination}")
    match address:
        case IPv6Address():
            return f"ff0{address.packed[1] & 0x0F:x}::2:7ffe"
        case IPv4Address():
            zones = (zone for zone in _SCOPE_ZONES if address in zone)
            return next((str(zone.broadcast_address) for zone in zones), _GLOBAL_GROUP)


def announcement_interval_s(
    ads: int, size_bytes: int, uniform: float, limit_bps: int = 4000
) -> float:
    """Return the time to the next announcement, within a third of the base interval (3.1).

    `ads` counts the announcements seen in the group, ours included; `size_bytes` is the size of
    ours; `uniform` is the caller's draw from [0, 1).
    """
    if ads < 1 or size_bytes < 1 or not 0 <= uniform < 1 or limit_bps < 1:
        raise ValueError("want ads >= 1, size_bytes >= 1, 0 <= uniform < 1, limit_bps >= 1")
    base_s = max(300.0, 8 * ads * size_bytes / limit_bps)
    return base_s + base_s * 2 / 3 * uniform - base_s / 3
