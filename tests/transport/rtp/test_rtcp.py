from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    parse_compound,
    report_interval_ns,
    serialise_compound,
)

U32 = st.integers(0, 2**32 - 1)


def utf8(smallest: int) -> st.SearchStrategy[str]:
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=smallest, max_size=255)
    return text.filter(lambda text: len(text.encode()) <= 255)


BLOCKS = st.builds(
    ReportBlock, U32, st.integers(0, 255), st.integers(-(2**23), 2**23 - 1), U32, U32, U32, U32
)
REPORTS = st.lists(BLOCKS, max_size=31).map(tuple)
SENDER_REPORTS = st.builds(SenderReport, U32, st.integers(0, 2**64 - 1), U32, U32, U32, REPORTS)
RECEIVER_REPORTS = st.builds(ReceiverReport, U32, REPORTS)
OTHERS = st.builds(SourceDescription, U32, utf8(1)) | st.builds(
    Bye, st.lists(U32, max_size=31).map(tuple), utf8(0)
)
COMPOUNDS = st.builds(
    lambda first, rest: (first, *rest),
    SENDER_REPORTS | RECEIVER_REPORTS,
    st.lists(SENDER_REPORTS | RECEIVER_REPORTS | OTHERS, max_size=4),
)

# Laid out by hand from the figures of RFC 3550 sections 6.4.1, 6.4.2, 6.5 and 6.6.
BLOCK_WIRE = bytes.fromhex("0a0b0c0d 40fffffe 0001ffff 0000001e 12345678 00018000")
BLOCK = ReportBlock(0x0A0B0C0D, 64, -2, 0x1FFFF, 30, 0x12345678, 98304)
SR_WIRE = (
    bytes.fromhex("81c8000c 00000001 e000000080000000 fffffe20 00000005 00000258") + BLOCK_WIRE
)
SR = SenderReport(1, 0xE000000080000000, 2**32 - 480, 5, 600, (BLOCK,))
RR_WIRE = bytes.fromhex("81c90007 00000002") + BLOCK_WIRE
RR = ReceiverReport(2, (BLOCK,))
EMPTY_RR = bytes.fromhex("80c90001 00000002")
SDES_WIRE = bytes.fromhex("81ca0003 00000001 0105") + b"loa@x" + b"\0"
BYE_WIRE = bytes.fromhex("81cb0003 00000001 04") + b"done" + bytes(3)


@pytest.mark.parametrize(
    ("packets", "wire"),
    [
        ((SR,), SR_WIRE),
        ((RR,), RR_WIRE),
        ((ReceiverReport(2), SourceDescription(1, "loa@x")), EMPTY_RR + SDES_WIRE),
        ((ReceiverReport(2), Bye((1,), "done")), EMPTY_RR + BYE_WIRE),
        ((ReceiverReport(2), Bye((1,))), EMPTY_RR + bytes.fromhex("81cb0001 00000001")),
    ],
)
class TestBytesWrittenByHand:
    def test_are_read(self, packets: tuple[RtcpPacket, ...], wire: bytes) -> None:
        assert parse_compound(wire) == packets

    def test_are_what_we_write(self, packets: tuple[RtcpPacket, ...], wire: bytes) -> None:
        assert serialise_compound(packets) == wire


@given(COMPOUNDS)
def test_round_trips(packets: tuple[RtcpPacket, ...]) -> None:
    assert parse_compound(serialise_compound(packets)) == packets


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_packets_or_malformed(data: bytes) -> None:
    try:
        packets = parse_compound(data)
    except MalformedPacket:
        return
    assert parse_compound(serialise_compound(packets)) == packets


@given(
    st.lists(
        st.tuples(st.integers(0, 31), st.integers(200, 205), st.binary(max_size=80)), max_size=4
    )
)
def test_arbitrary_bodies_are_packets_or_malformed(parts: list[tuple[int, int, bytes]]) -> None:
    data = EMPTY_RR
    for count, kind, body in parts:
        words = len(body) // 4
        data += struct.pack("!BBH", 0x80 | count, kind, words) + body[: 4 * words]
    try:
        packets = parse_compound(data)
    except MalformedPacket:
        return
    assert parse_compound(serialise_compound(packets)) == packets


@given(COMPOUNDS, st.data())
def test_no_part_of_a_compound_is_taken_for_the_whole_unless_cut_between_packets(
    packets: tuple[RtcpPacket, ...], data: st.DataObject
) -> None:
    wire = serialise_compound(packets)
    cut = wire[: data.draw(st.integers(0, len(wire) - 1))]
    try:
        read = parse_compound(cut)
    except MalformedPacket:
        return
    assert read == packets[: len(read)]
    assert len(read) < len(packets)


@pytest.mark.parametrize("padding", [4, 8, 252])
def test_padding_of_the_last_packet_is_removed(padding: int) -> None:
    last = bytes((0xA1, 203)) + struct.pack("!HI", 1 + padding // 4, 1)
    wire = EMPTY_RR + last + bytes(padding - 1) + bytes((padding,))
    assert parse_compound(wire) == (ReceiverReport(2), Bye((1,)))


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"", "rtcp_first"),
        (RR_WIRE[:3], "rtcp_first"),
        (SDES_WIRE, "rtcp_first"),
        (b"\x41" + RR_WIRE[1:], "rtcp_version"),
        (EMPTY_RR + b"\x41" + SDES_WIRE[1:], "rtcp_version"),
        (RR_WIRE[:-4], "rtcp_length"),
        (EMPTY_RR + b"\x80\xca", "rtcp_length"),
        (EMPTY_RR + SDES_WIRE[:-4], "rtcp_length"),
        (b"\xa0" + EMPTY_RR[1:] + SDES_WIRE, "rtcp_padding"),
        (EMPTY_RR + bytes.fromhex("a0cb0000"), "rtcp_padding"),
        (EMPTY_RR + bytes.fromhex("a0cb0001 00000000"), "rtcp_padding"),
        (EMPTY_RR + bytes.fromhex("a0cb0001 00000003"), "rtcp_padding"),
        (EMPTY_RR + bytes.fromhex("a0cb0001 00000008"), "rtcp_padding"),
        (b"\x82" + RR_WIRE[1:], "rtcp_report"),
        (bytes.fromhex("80c90000"), "rtcp_report"),
        (bytes.fromhex("80c80001 00000001"), "rtcp_report"),
        (EMPTY_RR + bytes.fromhex("81ca0000"), "rtcp_sdes"),
        (EMPTY_RR + bytes.fromhex("81ca0002 00000001 01024142"), "rtcp_sdes"),
        (EMPTY_RR + bytes.fromhex("81ca0002 00000001 01034142"), "rtcp_sdes"),
        (EMPTY_RR + bytes.fromhex("81ca0002 00000001 01014101"), "rtcp_sdes"),
        (EMPTY_RR + bytes.fromhex("81ca0002 00000001 0101ff00"), "rtcp_cname"),
        (EMPTY_RR + bytes.fromhex("81ca0002 00000001 01000000"), "rtcp_cname"),
        (EMPTY_RR + bytes.fromhex("82cb0001 00000001"), "rtcp_bye"),
        (EMPTY_RR + bytes.fromhex("80cb0001 04414243"), "rtcp_bye"),
    ],
)
def test_each_lie_has_its_reason(wire: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket) as caught:
        parse_compound(wire)
    assert caught.value.reason == reason


def test_unknown_packet_types_are_skipped() -> None:
    application = bytes.fromhex("80cc0002 00000001 6e616d65")
    feedback = bytes.fromhex("81cd0003 00000001 00000002 00050000")
    wire = EMPTY_RR + application + feedback + SDES_WIRE
    assert parse_compound(wire) == (ReceiverReport(2), SourceDescription(1, "loa@x"))


def test_profile_extensions_of_a_report_are_skipped() -> None:
    wire = bytes.fromhex("80c90002 00000002 cafebabe")
    assert parse_compound(wire) == (ReceiverReport(2),)


def test_items_other_than_the_cname_are_skipped() -> None:
    items = b"\x06\x03loa" + b"\x01\x03a@b" + b"\x08\x00" + bytes(4)
    wire = EMPTY_RR + bytes.fromhex("81ca0005 00000001") + items
    assert parse_compound(wire)[1:] == (SourceDescription(1, "a@b"),)


def test_each_chunk_is_a_description() -> None:
    first = bytes.fromhex("00000001") + b"\x01\x01a\0"
    second = bytes.fromhex("00000002") + b"\x01\x02bc" + bytes(4)
    wire = EMPTY_RR + bytes.fromhex("82ca0005") + first + second
    assert parse_compound(wire)[1:] == (SourceDescription(1, "a"), SourceDescription(2, "bc"))


def test_a_chunk_without_a_name_says_nothing() -> None:
    wire = EMPTY_RR + bytes.fromhex("81ca0002 00000001 00000000")
    assert parse_compound(wire) == (ReceiverReport(2),)


def test_a_goodbye_with_bad_letters_is_still_a_goodbye() -> None:
    wire = EMPTY_RR + bytes.fromhex("81cb0002 00000001 0341ff42")
    assert parse_compound(wire)[1:] == (Bye((1,), "AB"),)


def test_the_compact_time_is_the_middle_of_the_ntp_time() -> None:
    assert SenderReport(1, 0x1122334455667788, 0, 0, 0).compact_ntp == 0x33445566


@pytest.mark.parametrize("packets", [(), (Bye((1,)), RR), (SourceDescription(1, "a"),)])
def test_a_compound_that_starts_with_no_report_is_our_mistake(
    packets: tuple[RtcpPacket, ...],
) -> None:
    with pytest.raises(ValueError, match="starts with"):
        serialise_compound(packets)


@pytest.mark.parametrize("lost", [-(2**23) - 1, 2**23])
def test_cumulative_loss_has_24_signed_bits(lost: int) -> None:
    with pytest.raises(ValueError, match="cumulative"):
        ReportBlock(1, 0, lost, 0, 0)


def test_fraction_lost_has_eight_bits() -> None:
    with pytest.raises(ValueError, match="fraction"):
        ReportBlock(1, 256, 0, 0, 0)


def test_thirty_two_reports_are_too_many() -> None:
    with pytest.raises(ValueError, match="number of reports"):
        ReceiverReport(1, (BLOCK,) * 32)


@pytest.mark.parametrize("cname", ["", "a" * 256, "ệ" * 86])
def test_a_cname_has_1_to_255_bytes(cname: str) -> None:
    with pytest.raises(ValueError, match="CNAME"):
        SourceDescription(1, cname)


def test_a_reason_has_at_most_255_bytes() -> None:
    with pytest.raises(ValueError, match="reason"):
        Bye((1,), "a" * 256)


# ------------------------------------------------------------------ RFC 3550 section 6.3.1
def interval_s(uniform: float, members: int, senders: int, **changes: bool) -> float:
    """With 100-byte reports in a 64 kb/s session: 400 octets a second for all of them."""
    flags = {"we_sent": False, "initial": False} | changes
    interval_ns = report_interval_ns(
        uniform, members, senders, session_bandwidth_bps=64_000, average_size_bytes=100, **flags
    )
    return interval_ns / 1e9


@pytest.mark.parametrize(
    ("uniform", "seconds"), [(0.0, 2.5 / 1.21828), (0.5, 5 / 1.21828), (0.75, 6.25 / 1.21828)]
)
def test_a_small_session_reports_about_every_five_seconds(uniform: float, seconds: float) -> None:
    assert interval_s(uniform, members=2, senders=1) == pytest.approx(seconds)


def test_the_first_report_comes_twice_as_soon() -> None:
    first = interval_s(0.5, members=2, senders=1, initial=True)
    assert first == pytest.approx(2.5 / 1.21828)


def test_receivers_share_three_quarters_of_the_reports() -> None:
    # 999 receivers at 100 octets over 300 octets a second.
    assert interval_s(0.5, members=1000, senders=1) == pytest.approx(333 / 1.21828)


def test_few_senders_share_a_quarter_of_the_reports() -> None:
    # 100 senders at 100 octets over 100 octets a second.
    sent = interval_s(0.5, members=1000, senders=100, we_sent=True)
    assert sent == pytest.approx(100 / 1.21828)


def test_many_senders_share_with_everybody() -> None:
    # 1000 members at 100 octets over 400 octets a second.
    sent = interval_s(0.5, members=1000, senders=251, we_sent=True)
    assert sent == pytest.approx(250 / 1.21828)


@pytest.mark.parametrize(("uniform", "members", "senders"), [(1.0, 2, 1), (-0.1, 2, 1), (0, 1, 2)])
def test_an_impossible_session_is_our_mistake(uniform: float, members: int, senders: int) -> None:
    with pytest.raises(ValueError, match="want"):
        interval_s(uniform, members, senders)
