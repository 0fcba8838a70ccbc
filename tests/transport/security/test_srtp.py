"""One SSRC under one key, against RFC 3711 and RFC 7714 worked out here a second time."""

import random
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.rtp.packet import Extension, RtpPacket
from transport.rtp.rtcp import Bye, ReceiverReport, SourceDescription, serialise_compound
from transport.security.srtp import (
    MAX_PLAIN_BYTES,
    REPORT_TAIL_BYTES,
    TAG_BYTES,
    EpochOpener,
    EpochSealer,
)

SSRC = 0x0A0B0C0D
KEY = bytes(range(28))
SEQUENCES = pytest.mark.parametrize("sequence", [0, 1, 32_767, 32_768, 64_999, 65_535])
EXTENSION = Extension(0x1000, bytes(range(68)))


def plain(sequence: int = 0, ssrc: int = SSRC) -> bytes:
    return RtpPacket(
        96, sequence, 1_000, ssrc, b"a frame of sound", extension=EXTENSION
    ).serialise()


REPORT = serialise_compound((ReceiverReport(SSRC), SourceDescription(SSRC, "us"), Bye((SSRC,))))


def refused(opener: EpochOpener, data: bytes) -> str:
    with pytest.raises(MalformedPacket) as error:
        opener.open(data)
    return error.value.reason


# ------------------------------------------------------------------ as the RFCs say
def session_key(label: int, length: int) -> bytes:
    """RFC 3711 section 4.3 with a 96-bit salt (RFC 7714 section 11): AES in counter mode."""
    x = int.from_bytes(KEY[16:] + bytes(2), "big") ^ label << 48
    counter = (x << 16).to_bytes(16, "big")
    stream = Cipher(algorithms.AES(KEY[:16]), modes.CTR(counter)).encryptor()
    return stream.update(bytes(length))


def nonce(before: int, ssrc: int, after: int, salt: bytes) -> bytes:
    mixed = before << 80 | ssrc << 48 | after
    return (mixed ^ int.from_bytes(salt, "big")).to_bytes(12, "big")


@SEQUENCES
def test_an_rtp_packet_is_sealed_as_rfc_7714_says(sequence: int) -> None:
    """Section 8.1: two zero octets, SSRC, rollover counter (here 0) and sequence number."""
    head = 12 + 4 + 68
    expected = AESGCM(session_key(0, 16)).encrypt(
        nonce(0, SSRC, sequence, session_key(2, 12)), plain(sequence)[head:], plain(sequence)[:head]
    )
    assert EpochSealer(SSRC, KEY).seal(plain(sequence)) == plain(sequence)[:head] + expected


def test_an_rtcp_packet_is_sealed_as_rfc_7714_says() -> None:
    """Section 9.1: two zero octets, SSRC, two zero octets, index; E and the index at the end."""
    sealer = EpochSealer(SSRC, KEY)
    for index in (1, 2, 3):
        tail = (1 << 31 | index).to_bytes(4, "big")
        expected = AESGCM(session_key(3, 16)).encrypt(
            nonce(0, SSRC, index, session_key(5, 12)), REPORT[8:], REPORT[:8] + tail
        )
        assert sealer.seal_report(REPORT) == REPORT[:8] + expected + tail


def test_a_seal_has_the_size_that_is_said() -> None:
    sealer = EpochSealer(SSRC, KEY)
    assert len(sealer.seal(plain())) == len(plain()) + TAG_BYTES
    assert len(sealer.seal_report(REPORT)) == len(REPORT) + REPORT_TAIL_BYTES


# ------------------------------------------------------------------ opening
@SEQUENCES
def test_whoever_joins_late_opens_any_packet(sequence: int) -> None:
    sealed = EpochSealer(SSRC, KEY).seal(plain(sequence))
    assert EpochOpener(SSRC, KEY).open(sealed) == plain(sequence)


def test_packets_open_in_any_order_and_as_often_as_they_come() -> None:
    sealer = EpochSealer(SSRC, KEY)
    sealed = {sequence: sealer.seal(plain(sequence)) for sequence in range(0, 65_536, 500)}
    order = [*sealed, *sealed]
    random.Random(1).shuffle(order)
    opener = EpochOpener(SSRC, KEY)
    assert all(opener.open(sealed[sequence]) == plain(sequence) for sequence in order)


@pytest.mark.parametrize("far", [40_000, 65_535])
def test_one_packet_from_the_group_with_a_far_number_keeps_no_other_out(far: int) -> None:
    """The library alone would refuse all that follows: too old, or of another rollover."""
    station, thief = EpochSealer(SSRC, KEY), EpochSealer(SSRC, KEY)
    opener = EpochOpener(SSRC, KEY)
    assert opener.open(station.seal(plain(100))) == plain(100)
    assert opener.open(thief.seal(plain(far))) == plain(far)
    assert opener.open(station.seal(plain(101))) == plain(101)


def test_reports_open_in_any_order() -> None:
    sealer, opener = EpochSealer(SSRC, KEY), EpochOpener(SSRC, KEY)
    sealed = [sealer.seal_report(REPORT) for _ in range(300)]
    assert [data[-4:] for data in sealed] == [(1 << 31 | n).to_bytes(4) for n in range(1, 301)]
    assert all(opener.open_report(data) == REPORT for data in sealed[::-1])


SEALED = EpochSealer(SSRC, KEY).seal(plain(7))
SEALED_REPORT = EpochSealer(SSRC, KEY).seal_report(REPORT)


def test_every_bit_is_under_the_seal() -> None:
    opener = EpochOpener(SSRC, KEY)
    for bit in range(8 * len(SEALED)):
        spoilt = bytearray(SEALED)
        spoilt[bit // 8] ^= 1 << bit % 8
        assert refused(opener, bytes(spoilt)) == "seal"


def test_every_bit_of_a_report_is_under_the_seal() -> None:
    opener = EpochOpener(SSRC, KEY)
    for bit in range(8 * len(SEALED_REPORT)):
        spoilt = bytearray(SEALED_REPORT)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedPacket, match="seal"):
            opener.open_report(bytes(spoilt))


def test_a_truncated_packet_is_refused_at_any_length() -> None:
    opener = EpochOpener(SSRC, KEY)
    assert {refused(opener, SEALED[:length]) for length in range(len(SEALED))} == {"seal"}


@pytest.mark.parametrize("length", [1_500, 1_501, 9_000])
def test_a_longer_packet_than_any_of_ours_is_refused(length: int) -> None:
    assert refused(EpochOpener(SSRC, KEY), SEALED + bytes(length - len(SEALED))) == "seal"


def test_another_key_or_another_ssrc_opens_nothing() -> None:
    assert refused(EpochOpener(SSRC, bytes(28)), SEALED) == "seal"
    assert refused(EpochOpener(SSRC + 1, KEY), SEALED) == "seal"


@pytest.mark.parametrize("at", range(28))
def test_every_byte_of_the_key_counts(at: int) -> None:
    key = bytearray(KEY)
    key[at] ^= 1
    assert refused(EpochOpener(SSRC, bytes(key)), SEALED) == "seal"


@given(st.binary(max_size=1_600))
def test_arbitrary_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    opener = EpochOpener(SSRC, KEY)
    assert refused(opener, data) == "seal"
    with pytest.raises(MalformedPacket, match="seal"):
        opener.open_report(data)
    assert opener.open(SEALED) == plain(7)


def test_opening_for_an_hour_leaves_nothing_behind() -> None:
    """50 packets a second; the stream is made anew in the library for each."""

    def pages() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1])

    opener = EpochOpener(SSRC, KEY)
    for _ in range(10_000):
        opener.open(SEALED)
    before = pages()
    for _ in range(180_000):
        opener.open(SEALED)
    assert pages() - before < 64  # 256 KB


# ------------------------------------------------------------------ our own misuse
def test_a_sequence_number_is_sealed_once_and_none_below_it() -> None:
    sealer = EpochSealer(SSRC, KEY)
    sealer.seal(plain(10))
    for sequence in (10, 9, 0):
        with pytest.raises(ValueError, match="under this key"):
            sealer.seal(plain(sequence))
    sealer.seal(plain(11))


def test_numbers_that_wrap_are_not_sealed() -> None:
    sealer = EpochSealer(SSRC, KEY)
    sealer.seal(plain(65_535))
    with pytest.raises(ValueError, match="under this key"):
        sealer.seal(plain(0))


def test_a_packet_that_was_not_sealed_takes_no_number() -> None:
    sealer = EpochSealer(SSRC, KEY)
    with pytest.raises(ValueError, match="of this epoch"):
        sealer.seal(plain(5, SSRC + 1))
    assert sealer.seal(plain(0))


def test_what_is_too_long_for_the_library_is_our_own_mistake() -> None:
    sealer = EpochSealer(SSRC, KEY)
    assert sealer.seal(plain(0) + bytes(MAX_PLAIN_BYTES - len(plain(0))))
    with pytest.raises(ValueError, match="too long"):
        sealer.seal(plain(1) + bytes(MAX_PLAIN_BYTES - len(plain(1)) + 1))


@pytest.mark.parametrize("length", [0, 16, 27])
def test_a_short_key_is_our_own_mistake(length: int) -> None:
    with pytest.raises(ValueError, match="28 bytes"):
        EpochSealer(SSRC, bytes(length))
