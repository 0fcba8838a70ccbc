import pytest

from transport.clock.exchange import ns_of_ntp
from transport.clock.timeline import media_sample, ns_of_samples
from transport.recovery.copies import Copy, unpack
from transport.recovery.repair import restore
from transport.rtp.packet import RtpPacket
from transport.rtp.rtcp import Bye, ReceiverReport, SenderReport, SourceDescription, parse_compound
from transport.session.sender import OPUS_PAYLOAD_TYPE, StreamSender, report_pause_ns

SECOND = 1_000_000_000
WRAP = 1 << 32
NOW_NS = 1_790_000_000 * SECOND
NOW = 1_790_000_000 * 48_000
FRAME = 960
FIRSTS = pytest.mark.parametrize("first", [0, 65_530, 65_535])
OFFSETS = pytest.mark.parametrize("offset", [0, WRAP - 1000, (-NOW - 3 * FRAME) % WRAP])


def make(first: int = 0, offset: int = 0, uniform: float = 0.5) -> StreamSender:
    return StreamSender(0x0A0B0C0D, first, offset, 20, "them", lambda: uniform)


def sent(sender: StreamSender, count: int, start: int = NOW) -> list[RtpPacket]:
    return [RtpPacket.parse(sender.packet(b"opus", start + n * FRAME)) for n in range(count)]


@FIRSTS
@OFFSETS
def test_packets_are_numbered_and_stamped_across_both_wraps(first: int, offset: int) -> None:
    packets = sent(make(first, offset), 10)
    assert [p.sequence for p in packets] == [(first + n) % 65_536 for n in range(10)]
    assert [p.timestamp for p in packets] == [(NOW + n * FRAME + offset) % WRAP for n in range(10)]
    assert {(p.ssrc, p.payload_type, p.payload) for p in packets} == {
        (0x0A0B0C0D, OPUS_PAYLOAD_TYPE, b"opus")
    }


@OFFSETS
def test_a_receiver_gets_the_media_sample_back(offset: int) -> None:
    packets = sent(make(offset=offset), 10)
    got = [media_sample(packet.timestamp, offset, NOW + 9_999) for packet in packets]
    assert got == [NOW + n * FRAME for n in range(10)]


def test_the_marker_opens_each_talkspurt() -> None:
    sender = make()
    markers = [p.marker for p in sent(sender, 3) + sent(sender, 2, NOW + 50 * FRAME)]
    assert markers == [True, False, False, True, False]


def test_a_frame_before_the_end_of_the_last_is_our_own_mistake() -> None:
    sender = make()
    sender.packet(b"opus", NOW)
    with pytest.raises(ValueError, match="overlaps"):
        sender.packet(b"opus", NOW + FRAME - 1)


@FIRSTS
def test_copies_go_with_a_packet_of_another_type(first: int) -> None:
    sender = make(first)
    copies = (Copy(FRAME, b"before"), Copy(9 * FRAME, b"long before"))
    packets = [
        RtpPacket.parse(sender.packet(b"opus", NOW + n * FRAME, copies if n == 1 else ()))
        for n in range(3)
    ]
    assert [packet.payload_type for packet in packets] == [96, 97, 96]
    assert [packet.sequence for packet in packets] == [(first + n) % 65_536 for n in range(3)]
    assert unpack(packets[1].payload) == (b"opus", copies)
    assert [packet.marker for packet in packets] == [True, False, False]


@FIRSTS
@pytest.mark.parametrize("copies", [(), (Copy(FRAME, b"before"),)])
def test_a_repair_is_the_last_packet_again(first: int, copies: tuple[Copy, ...]) -> None:
    sender = make(first)
    for n in range(3):
        packet = RtpPacket.parse(sender.packet(b"opus %d" % n, NOW + n * FRAME, copies))
        restored, _ = restore(RtpPacket.parse(sender.repair()))
        assert restored.payload == b"opus %d" % n
        assert (restored.payload_type, restored.marker) == (96 + len(copies), packet.marker)
        assert (restored.sequence, restored.timestamp) == (packet.sequence, packet.timestamp)


def test_of_nothing_there_is_no_repair() -> None:
    with pytest.raises(ValueError, match="nothing was sent"):
        make().repair()


def test_there_is_no_report_before_anything_was_sent() -> None:
    assert make().report(NOW_NS) is None


@OFFSETS
def test_the_first_report_goes_with_the_first_packet(offset: int) -> None:
    sender = make(offset=offset)
    sent(sender, 3)
    data = sender.report(NOW_NS)
    assert data is not None
    report, description = parse_compound(data)
    assert description == SourceDescription(0x0A0B0C0D, "them")
    assert isinstance(report, SenderReport)
    assert (report.packet_count, report.octet_count) == (3, 12)
    # The pair of times says the same as the stream: that is all a report is for.
    sample = media_sample(report.rtp_timestamp, offset, NOW)
    assert ns_of_ntp(report.ntp_time) == NOW_NS == ns_of_samples(sample)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_the_next_report_waits_its_random_time(uniform: float) -> None:
    sender = make(uniform=uniform)
    sent(sender, 1)
    assert sender.report(NOW_NS) is not None
    due_ns = NOW_NS + report_pause_ns(uniform)
    assert sender.report(due_ns - 1) is None
    assert sender.report(due_ns) is not None


def test_reports_come_every_five_seconds_between_half_and_one_and_a_half() -> None:
    # RFC 3550 section 6.3.1: 0.5 to 1.5 times 5 s, divided by e - 3/2.
    shortest, longest = (report_pause_ns(u) / 1e9 for u in (0.0, 1 - 2**-53))
    assert shortest == pytest.approx(2.5 / 1.21828)
    assert longest == pytest.approx(7.5 / 1.21828)


def test_a_goodbye_names_the_stream() -> None:
    assert parse_compound(make().bye()) == (
        ReceiverReport(0x0A0B0C0D, ()),
        SourceDescription(0x0A0B0C0D, "them"),
        Bye((0x0A0B0C0D,)),
    )


def test_it_says_how_much_it_has_sent_and_how_far_that_reaches() -> None:
    sender = make()
    assert (sender.sent, sender.reach) == (0, None)
    sent(sender, 3)
    assert (sender.sent, sender.reach) == (3, NOW + 3 * FRAME)
