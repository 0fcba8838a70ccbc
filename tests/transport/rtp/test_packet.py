from __future__ import annotations

import struct
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.rtp.packet import Extension, RtpPacket, is_rtcp

with warnings.catch_warnings():  # its warnings on import are not about us
    warnings.simplefilter("ignore")
    from scapy.layers.rtp import RTP

U16 = st.integers(0, 2**16 - 1)
U32 = st.integers(0, 2**32 - 1)
EXTENSIONS = st.builds(
    Extension, U16, st.integers(0, 20).flatmap(lambda n: st.binary(min_size=4 * n, max_size=4 * n))
)
PACKETS = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=U16,
    timestamp=U32,
    ssrc=U32,
    payload=st.binary(max_size=200),
    marker=st.booleans(),
    csrcs=st.lists(U32, max_size=15).map(tuple),
    extension=st.none() | EXTENSIONS,
)

# Version 2, marker, payload type 96, sequence 65535, timestamp 2**32-480, SSRC 0x0A0B0C0D.
PLAIN = bytes.fromhex("80 e0 ffff fffffe20 0a0b0c0d") + b"opus"


def packet(sequence: int = 0, timestamp: int = 0, payload: bytes = b"opus") -> RtpPacket:
    return RtpPacket(96, sequence, timestamp, 0x0A0B0C0D, payload)


def test_parses_a_packet_written_by_hand() -> None:
    expected = RtpPacket(96, 65535, 2**32 - 480, 0x0A0B0C0D, b"opus", marker=True)
    assert RtpPacket.parse(PLAIN) == expected


def test_serialises_to_the_bytes_written_by_hand() -> None:
    written = RtpPacket(96, 65535, 2**32 - 480, 0x0A0B0C0D, b"opus", marker=True).serialise()
    assert written == PLAIN


@pytest.mark.parametrize("sequence", [0, 1, 65533, 65535])
@pytest.mark.parametrize("timestamp", [0, 1, 2**31, 2**32 - 480, 2**32 - 1])
def test_carries_numbers_at_the_wrap(sequence: int, timestamp: int) -> None:
    sent = packet(sequence, timestamp)
    assert RtpPacket.parse(sent.serialise()) == sent


@given(PACKETS)
def test_round_trips(sent: RtpPacket) -> None:
    assert RtpPacket.parse(sent.serialise()) == sent


@given(PACKETS)
def test_scapy_reads_what_we_write(sent: RtpPacket) -> None:
    seen = RTP(sent.serialise())
    assert (seen.version, seen.padding, bool(seen.marker)) == (2, 0, sent.marker)
    assert (seen.payload_type, seen.sequence) == (sent.payload_type, sent.sequence)
    assert (seen.timestamp, seen.sourcesync) == (sent.timestamp, sent.ssrc)
    assert tuple(seen.sync) == sent.csrcs
    assert bytes(seen).endswith(sent.payload)
    if sent.extension is not None:
        assert seen.payload.header_id == sent.extension.profile
        assert struct.pack(f"!{len(seen.payload.header)}I", *seen.payload.header) == (
            sent.extension.data
        )


@given(
    sequence=U16, timestamp=U32, ssrc=U32, marker=st.booleans(), csrcs=st.lists(U32, max_size=15)
)
def test_we_read_what_scapy_writes(
    sequence: int, timestamp: int, ssrc: int, marker: bool, csrcs: list[int]
) -> None:
    written = RTP(
        marker=int(marker),
        payload_type=111,
        sequence=sequence,
        timestamp=timestamp,
        sourcesync=ssrc,
        numsync=len(csrcs),
        sync=csrcs,
    )
    read = RtpPacket.parse(bytes(written) + b"sound")
    assert read == RtpPacket(111, sequence, timestamp, ssrc, b"sound", marker, tuple(csrcs))


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_a_packet_or_malformed(data: bytes) -> None:
    try:
        read = RtpPacket.parse(data)
    except MalformedPacket:
        return
    assert RtpPacket.parse(read.serialise()) == read


@given(first=st.integers(0x80, 0xBF), rest=st.binary(min_size=11, max_size=64))
def test_arbitrary_bytes_after_a_valid_version_never_raise_anything_else(
    first: int, rest: bytes
) -> None:
    data = bytes((first,)) + rest
    try:
        read = RtpPacket.parse(data)
    except MalformedPacket:
        return
    assert read.payload in data


@given(PACKETS, st.integers(1, 255))
def test_padding_is_removed(sent: RtpPacket, padding: int) -> None:
    wire = bytearray(sent.serialise()) + bytes(padding - 1) + bytes((padding,))
    wire[0] |= 0x20
    assert RtpPacket.parse(bytes(wire)) == sent


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"", "rtp_truncated"),
        (PLAIN[:11], "rtp_truncated"),
        (b"\x40" + PLAIN[1:], "rtp_version"),
        (b"\x83" + PLAIN[1:], "rtp_csrc"),
        (b"\x90" + PLAIN[1:12] + b"\xbe", "rtp_extension"),
        (b"\x90" + PLAIN[1:12] + b"\xbe\xde\0\x02" + bytes(4), "rtp_extension"),
        (b"\xa0" + PLAIN[1:12], "rtp_padding"),
        (b"\xa0" + PLAIN[1:12] + b"\0", "rtp_padding"),
        (b"\xa0" + PLAIN[1:12] + b"\x02", "rtp_padding"),
    ],
)
def test_each_lie_has_its_reason(wire: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket) as caught:
        RtpPacket.parse(wire)
    assert caught.value.reason == str(caught.value) == reason


@pytest.mark.parametrize("bad", [-1, 65536])
def test_a_sequence_that_does_not_fit_is_our_mistake(bad: int) -> None:
    with pytest.raises(ValueError, match="sequence"):
        packet(sequence=bad)


@pytest.mark.parametrize("bad", [-1, 2**32])
def test_a_timestamp_that_does_not_fit_is_our_mistake(bad: int) -> None:
    with pytest.raises(ValueError, match="timestamp"):
        packet(timestamp=bad)


def test_sixteen_contributing_sources_are_too_many() -> None:
    with pytest.raises(ValueError, match="CSRC count"):
        RtpPacket(96, 0, 0, 0, b"", csrcs=tuple(range(16)))


def test_a_contributing_source_must_fit() -> None:
    with pytest.raises(ValueError, match="CSRC"):
        RtpPacket(96, 0, 0, 0, b"", csrcs=(2**32,))


@pytest.mark.parametrize(("profile", "data"), [(65536, b""), (0, b"abc"), (0, bytes(4 * 65536))])
def test_an_extension_that_does_not_fit_is_our_mistake(profile: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="extension"):
        Extension(profile, data)


@pytest.mark.parametrize("kind", [192, 200, 201, 202, 203, 204, 207, 223])
def test_rtcp_is_known_by_its_packet_type(kind: int) -> None:
    assert is_rtcp(bytes((0x80, kind, 0, 1)))


@pytest.mark.parametrize("payload_type", [0, 8, 9, 63, 96, 111, 127])
@pytest.mark.parametrize("marker", [False, True])
def test_rtp_is_not_taken_for_rtcp(payload_type: int, marker: bool) -> None:
    assert not is_rtcp(RtpPacket(payload_type, 0, 0, 0, b"", marker).serialise())


@pytest.mark.parametrize("data", [b"", b"\x80"])
def test_a_stump_is_not_taken_for_rtcp(data: bytes) -> None:
    assert not is_rtcp(data)
