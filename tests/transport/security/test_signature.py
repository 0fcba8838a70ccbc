"""What the station's signature on a packet covers, to the bit."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.recovery.along import signed_part
from transport.recovery.copies import Copy, pack
from transport.rtp.packet import Extension, RtpPacket
from transport.rtp.rtcp import Bye, ReceiverReport, SourceDescription, serialise_compound
from transport.security.certificates import StreamCertificate
from transport.security.keys import SigningKey
from transport.security.signature import (
    EXTENSION_BYTES,
    SIGNATURE_BYTES,
    PacketSigner,
    PacketVerifier,
)

KEY, STATION = SigningKey(b"k" * 32), SigningKey(b"s" * 32)
SERIAL, EPOCH, SAMPLE, SSRC = 0x1_0000_0007, 3, 85_000_000_000_000, 0x0A0B0C0D
PLAIN = RtpPacket(96, 64_999, 12_345, SSRC, b"a frame of sound", marker=True)
COMPOUND = serialise_compound((ReceiverReport(SSRC), SourceDescription(SSRC, "x"), Bye((SSRC,))))
SIGNER = PacketSigner(KEY, SERIAL)
SIGNED = SIGNER.sign(PLAIN, EPOCH, SAMPLE)
REPORT = SIGNER.sign_report(COMPOUND, SSRC, EPOCH)


def verifier(key: SigningKey = KEY, serial: int = SERIAL) -> PacketVerifier:
    return PacketVerifier(StreamCertificate.issue(STATION, 1, serial, key.public, 3, False))


def refused(packet: RtpPacket, epoch: int = EPOCH, sample: int = SAMPLE) -> str:
    with pytest.raises(MalformedPacket) as error:
        verifier().verify(packet, epoch, sample)
    return error.value.reason


def refused_report(data: bytes, epoch: int = EPOCH) -> str:
    with pytest.raises(MalformedPacket) as error:
        verifier().verify_report(data, epoch)
    return error.value.reason


# ------------------------------------------------------------------ RTP
def test_what_was_signed_is_believed_and_otherwise_unchanged() -> None:
    verifier().verify(SIGNED, EPOCH, SAMPLE)
    assert replace(SIGNED, extension=None) == PLAIN


def test_the_extension_is_the_two_byte_form_with_one_element() -> None:
    """RFC 8285 section 4.3: ID, length, data, zeros to the word."""
    body = SIGNED.serialise()[12 : 12 + EXTENSION_BYTES]
    assert body[:6].hex() == "1000" + "0011" + "01" + "40"
    assert body[-2:] == bytes(2)
    assert len(SIGNED.serialise()) == len(PLAIN.serialise()) + EXTENSION_BYTES


def test_it_signs_stream_epoch_sequence_time_kind_and_payload() -> None:
    """The bytes, so that others can make and check them."""
    place = bytes.fromhex(f"{SERIAL:016x}{EPOCH:08x}{64_999:08x}{SAMPLE:016x}e0")
    signature = KEY.sign("loa.rtp.2", place, b"a frame of sound")
    assert SIGNED.extension == Extension(0x1000, b"\x01\x40" + signature + bytes(2))


@pytest.mark.parametrize("sample", [-1, 0, -(1 << 63), (1 << 63) - 1])
def test_any_media_time_can_be_signed(sample: int) -> None:
    verifier().verify(SIGNER.sign(PLAIN, EPOCH, sample), EPOCH, sample)


@pytest.mark.parametrize(
    "changed",
    [
        replace(SIGNED, sequence=64_998),
        replace(SIGNED, payload_type=98),
        replace(SIGNED, marker=False),
        replace(SIGNED, payload=b"b frame of sound"),
        replace(SIGNED, payload=b"a frame of sound\0"),
        replace(SIGNED, payload=b""),
    ],
)
def test_a_changed_packet_is_not_the_stations(changed: RtpPacket) -> None:
    assert refused(changed) == "signature"


COPIED = replace(PLAIN, payload_type=97, payload=pack(b"now", [Copy(960, b"before")]))
COPIES_SIGNED = SIGNER.sign(COPIED, EPOCH, SAMPLE)


def test_of_a_packet_with_copies_their_digest_is_signed() -> None:
    """The bytes, so that others can make and check them."""
    place = bytes.fromhex(f"{SERIAL:016x}{EPOCH:08x}{64_999:08x}{SAMPLE:016x}e1")
    before = hashlib.sha256(COPIED.payload[:-3]).digest()[:16]
    signature = KEY.sign("loa.rtp.2", place, b"now" + before)
    assert COPIES_SIGNED.extension == Extension(0x1000, b"\x01\x40" + signature + bytes(2))


def test_a_packet_is_believed_with_its_copies_and_without() -> None:
    verifier().verify(COPIES_SIGNED, EPOCH, SAMPLE)
    alone = replace(COPIES_SIGNED, payload=b"now")
    verifier().verify(alone, EPOCH, SAMPLE, signed_part(97, COPIED.payload))
    with pytest.raises(MalformedPacket, match="signature"):
        verifier().verify(alone, EPOCH, SAMPLE, b"now" + bytes(16))


@pytest.mark.parametrize("bit", range(8 * len(COPIED.payload)))
def test_every_bit_of_the_copies_counts(bit: int) -> None:
    spoilt = bytearray(COPIED.payload)
    spoilt[bit // 8] ^= 1 << bit % 8
    assert refused(replace(COPIES_SIGNED, payload=bytes(spoilt))) in {"signature", "copies"}


def test_neither_kind_of_packet_can_be_taken_for_the_other() -> None:
    assert refused(replace(COPIES_SIGNED, payload_type=96)) == "signature"
    told = replace(COPIES_SIGNED, payload_type=96, payload=signed_part(97, COPIED.payload))
    assert refused(told) == "signature"
    assert refused(replace(SIGNED, payload_type=97)) == "copies"


def test_what_has_not_the_form_of_copies_is_not_signed() -> None:
    with pytest.raises(MalformedPacket, match="copies"):
        SIGNER.sign(replace(PLAIN, payload_type=97), EPOCH, SAMPLE)


def test_at_another_place_it_is_not_the_stations() -> None:
    assert refused(SIGNED, epoch=EPOCH + 1) == "signature"
    assert refused(SIGNED, sample=SAMPLE + 1) == "signature"
    assert refused(SIGNED, sample=SAMPLE + (1 << 32)) == "signature"


def test_another_stream_or_another_key_is_not_the_stations() -> None:
    for other in (verifier(serial=SERIAL + 1), verifier(SigningKey(b"o" * 32))):
        with pytest.raises(MalformedPacket, match="signature"):
            other.verify(SIGNED, EPOCH, SAMPLE)


def test_every_bit_of_the_extension_counts() -> None:
    assert SIGNED.extension is not None
    for bit in range(8 * len(SIGNED.extension.data)):
        spoilt = bytearray(SIGNED.extension.data)
        spoilt[bit // 8] ^= 1 << bit % 8
        reason = refused(replace(SIGNED, extension=Extension(0x1000, bytes(spoilt))))
        assert reason == ("signature" if 16 <= bit < 16 + 8 * SIGNATURE_BYTES else "unsigned")


@pytest.mark.parametrize(
    "extension",
    [
        None,
        Extension(0xBEDE, b"\x10\xff\0\0"),
        Extension(0x1000, b""),
        Extension(0x1001, SIGNED.extension.data if SIGNED.extension else b""),
        Extension(0x1000, (SIGNED.extension.data if SIGNED.extension else b"") + bytes(4)),
    ],
)
def test_without_the_extension_it_is_unsigned(extension: Extension | None) -> None:
    assert refused(replace(SIGNED, extension=extension)) == "unsigned"


# ------------------------------------------------------------------ RTCP
def test_a_signed_report_comes_back_without_its_signature() -> None:
    assert verifier().verify_report(REPORT, EPOCH) == COMPOUND


def test_its_signature_is_a_last_packet_of_type_app() -> None:
    """RFC 3550 section 6.7: version, subtype, type, length in words less one, SSRC, name."""
    assert REPORT[len(COMPOUND) :][:12].hex() == "80cc0012" + "0a0b0c0d" + b"LOAS".hex()
    place = bytes.fromhex(f"{SERIAL:016x}{EPOCH:08x}")
    assert REPORT[-64:] == KEY.sign("loa.rtcp.2", place, COMPOUND)
    assert len(REPORT) == len(COMPOUND) + 76


def test_every_bit_of_a_signed_report_counts() -> None:
    for bit in range(8 * len(REPORT)):
        spoilt = bytearray(REPORT)
        spoilt[bit // 8] ^= 1 << bit % 8
        assert refused_report(bytes(spoilt)) in {"signature", "unsigned"}


def test_a_truncated_report_is_refused_at_any_length() -> None:
    for length in range(len(REPORT)):
        assert refused_report(REPORT[:length]) in {"signature", "unsigned"}


def test_a_report_of_another_epoch_is_not_the_stations() -> None:
    assert refused_report(REPORT, EPOCH + 1) == "signature"


def test_a_report_without_a_signature_is_unsigned() -> None:
    assert refused_report(COMPOUND) == "unsigned"


def test_a_packets_signature_is_none_of_a_report() -> None:
    """Each purpose has a domain of its own."""
    assert SIGNED.extension is not None
    moved = REPORT[:-64] + SIGNED.extension.data[2:-2]
    assert refused_report(moved) == "signature"


@given(st.binary(max_size=200), st.binary(max_size=80))
def test_arbitrary_bytes_are_refused_and_nothing_else(data: bytes, extension: bytes) -> None:
    assert refused_report(data) in {"signature", "unsigned"}
    words = Extension(0x1000, extension[: len(extension) // 4 * 4])
    assert refused(replace(SIGNED, extension=words)) in {"signature", "unsigned"}
