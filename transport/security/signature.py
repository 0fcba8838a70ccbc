"""The station's signature on each packet: the group's key cannot tell it from a loudspeaker.

On RTP it is a header extension (RFC 8285 section 4.3, the two-byte form), which stock receivers
skip; on RTCP a last packet of type APP (RFC 3550 section 6.7). Both are made before sealing.

Of copies and symbols that go along a digest is signed, so the frame holds without them: when it is
sent again, alone, it has the same signature (`transport.recovery.repair`).
"""

import struct
from dataclasses import replace

from transport.errors import MalformedPacket
from transport.recovery.along import signed_part
from transport.rtp.packet import Extension, RtpPacket
from transport.security.certificates import StreamCertificate
from transport.security.keys import SigningKey, VerifyKey

SIGNATURE_BYTES = 64
# What the signature adds to an RTP packet, the extension's own head included.
EXTENSION_BYTES = 72
_RTP_DOMAIN, _RTCP_DOMAIN = "loa.rtp.2", "loa.rtcp.2"
# Stream, epoch, sequence number, media sample, payload type and marker.
_SIGNED = struct.Struct("!QIIqB")
_EPOCH = struct.Struct("!QI")
_TWO_BYTE_FORM = 0x1000
_EXTENSION_HEAD = struct.Struct("!HH")
# Version 2, an extension, neither padding nor CSRCs: the only form that the station sends.
_PLAIN_WITH_EXTENSION = 0x90
_ELEMENT = bytes((1, SIGNATURE_BYTES))
_PADDING = bytes(2)
_BODY_BYTES = len(_ELEMENT) + SIGNATURE_BYTES + len(_PADDING)
# Version 2, subtype 0; APP; 19 words in all.
_APP = bytes((0x80, 204, 0, 18))
_APP_NAME = b"LOAS"
_APP_HEAD_BYTES = len(_APP) + 4 + len(_APP_NAME)
_APP_BYTES = _APP_HEAD_BYTES + SIGNATURE_BYTES


def _place(packet: RtpPacket, serial: int, epoch: int, media_sample: int) -> bytes:
    kind = packet.payload_type | packet.marker << 7
    return _SIGNED.pack(serial, epoch, packet.sequence, media_sample, kind)


class PacketSigner:
    """Signs one stream's packets with the key that its certificate names."""

    def __init__(self, key: SigningKey, serial: int) -> None:
        self._key = key
        self._serial = serial

    def sign(self, packet: RtpPacket, epoch: int, media_sample: int) -> RtpPacket:
        """The same packet with its signature."""
        place = _place(packet, self._serial, epoch, media_sample)
        signed = signed_part(packet.payload_type, packet.payload)
        signature = self._key.sign(_RTP_DOMAIN, place, signed)
        body = _ELEMENT + signature + _PADDING
        return replace(packet, extension=Extension(_TWO_BYTE_FORM, body))

    def sign_report(self, compound: bytes, ssrc: int, epoch: int) -> bytes:
        """A compound RTCP packet of `ssrc` with its signature behind it."""
        signature = self._key.sign(_RTCP_DOMAIN, _EPOCH.pack(self._serial, epoch), compound)
        return compound + _APP + ssrc.to_bytes(4, "big") + _APP_NAME + signature


class PacketVerifier:
    """Tells the station's packets from those of others who have the group's key.

    MalformedPacket("unsigned") or ("signature"), or ("copies") or ("symbols") for a payload that is
    not of its type's form.
    """

    def __init__(self, certificate: StreamCertificate) -> None:
        self._key = VerifyKey(certificate.public)
        self._serial = certificate.serial

    def verify(
        self, packet: RtpPacket, epoch: int, media_sample: int, signed: bytes | None = None
    ) -> None:
        """Nothing, if the packet is what the station sent at that place of that epoch.

        `signed` is what is signed of its payload, where the packet has not all of it any more.
        """
        signature = _signature_of(packet.extension)
        place = _place(packet, self._serial, epoch, media_sample)
        if signed is None:
            signed = signed_part(packet.payload_type, packet.payload)
        self._key.verify(signature, _RTP_DOMAIN, place, signed)

    def verify_report(self, data: bytes, epoch: int) -> bytes:
        """The compound RTCP packet without its signature."""
        signature = signature_of_report(data)
        compound, place = data[:-_APP_BYTES], _EPOCH.pack(self._serial, epoch)
        self._key.verify(signature, _RTCP_DOMAIN, place, compound)
        return compound


# Where a packet without CSRCs and padding has its extension; its head and the element's head.
_EXTENSION_AT = 12
_SIGNED_FORM = _EXTENSION_HEAD.pack(_TWO_BYTE_FORM, _BODY_BYTES // 4) + _ELEMENT


def check_signed(data: bytes) -> None:
    """MalformedPacket("unsigned") for a datagram that cannot hold a signature, sealed as it is.

    The extension travels in clear, so this costs nothing.
    """
    form = data[_EXTENSION_AT : _EXTENSION_AT + len(_SIGNED_FORM)]
    if data[0] != _PLAIN_WITH_EXTENSION or form != _SIGNED_FORM:
        raise MalformedPacket("unsigned")


def signature_of_report(data: bytes) -> bytes:
    """What a compound RTCP packet that has been opened is signed with; likewise."""
    head = data[-_APP_BYTES:][:_APP_HEAD_BYTES]
    if len(data) < _APP_BYTES + 8 or head != _APP + data[4:8] + _APP_NAME:
        raise MalformedPacket("unsigned")
    return data[-SIGNATURE_BYTES:]


def _signature_of(extension: Extension | None) -> bytes:
    # To the bit: what is not signed itself must have one form only.
    if extension is None or extension.profile != _TWO_BYTE_FORM:
        raise MalformedPacket("unsigned")
    body = extension.data
    if len(body) != _BODY_BYTES or body[:2] != _ELEMENT or body[-2:] != _PADDING:
        raise MalformedPacket("unsigned")
    return body[2:-2]
