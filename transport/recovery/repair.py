"""A packet that is sent again, its frame alone: payload type 98, under the repair SSRC.

Sequence number, timestamp and signature are those of the first time. The payload says what is
signed: `kind u8` (the first time's marker and payload type), of types 97 and 99 the digest that
stands for what went along, and the frame.
"""

from dataclasses import replace
from typing import Final

from transport.errors import MalformedPacket
from transport.recovery.along import ALONG_PAYLOAD_TYPES, unpack
from transport.recovery.copies import DIGEST_BYTES, digest
from transport.rtp.packet import RtpPacket, repair_ssrc

REPAIR_PAYLOAD_TYPE: Final = 98
_MARKER = 0x80


def repair_of(packet: RtpPacket) -> RtpPacket:
    """The repair of a packet that was sent, signed already if its stream is."""
    kind = bytes((packet.payload_type | (_MARKER if packet.marker else 0),))
    payload = packet.payload
    if packet.payload_type in ALONG_PAYLOAD_TYPES:
        primary, _ = unpack(packet.payload_type, payload)
        payload = digest(payload, primary) + primary
    return replace(
        packet,
        payload_type=REPAIR_PAYLOAD_TYPE,
        ssrc=repair_ssrc(packet.ssrc),
        payload=kind + payload,
        marker=False,
    )


def restore(repair: RtpPacket) -> tuple[RtpPacket, bytes]:
    """The packet as it was the first time but for what went along, and its signed part.

    MalformedPacket("payload_type") if it is no repair, "repair" if it is not of the form of one.
    """
    if repair.payload_type != REPAIR_PAYLOAD_TYPE:
        raise MalformedPacket("payload_type")
    kind = repair.payload[0] if repair.payload else REPAIR_PAYLOAD_TYPE
    payload_type = kind & ~_MARKER
    before = 1 + (DIGEST_BYTES if payload_type in ALONG_PAYLOAD_TYPES else 0)
    if payload_type == REPAIR_PAYLOAD_TYPE or repair.marker or len(repair.payload) <= before:
        raise MalformedPacket("repair")
    primary = repair.payload[before:]
    packet = replace(
        repair,
        payload_type=payload_type,
        ssrc=repair_ssrc(repair.ssrc),
        payload=primary,
        marker=kind >= _MARKER,
    )
    return packet, primary + repair.payload[1:before]
