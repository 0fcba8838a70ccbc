"""Hostile and ordinary datagrams into one stream's receiver. Wrap-around is a parameter."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.opus import Encoder, EncoderSettings
from transport.control.messages import StreamSpec
from transport.rtp.packet import RtpPacket
from transport.rtp.rtcp import (
    Bye,
    ReceiverReport,
    SenderReport,
    SourceDescription,
    serialise_compound,
)
from transport.session.receiver import ClearOpener, StreamReceiver
from transport.session.sender import StreamSender

SSRC = 0x0A0B0C0D
WRAP = 1 << 32
NOW = 1_790_000_000 * 48_000  # of the media clock, in samples
FRAME = 960
PAYLOAD = Encoder(EncoderSettings(frame_ms=20)).encode(np.zeros(FRAME, np.float32))
MAX_LATE = 12 * 48_000

FIRSTS = pytest.mark.parametrize("first", [0, 1, 65_530, 65_535])
# The last of them makes the timestamp wrap three frames after NOW.
OFFSETS = pytest.mark.parametrize("offset", [0, WRAP - 1000, (-NOW - 3 * FRAME) % WRAP])


def spec(offset: int = 0, **fields: float) -> StreamSpec:
    plain = StreamSpec("p", 1, SSRC, 96, offset, 20.0, inband_fec=False, playout_delay_ms=200.0)
    return replace(plain, **fields)  # type: ignore[arg-type]


def receiver_of(declared: StreamSpec) -> StreamReceiver:
    return StreamReceiver(declared, ClearOpener(declared))


class Stream:
    """A sender and a receiver, and the frames on the way between them."""

    def __init__(self, first: int = 0, offset: int = 0, **fields: float) -> None:
        self.first, self.offset = first, offset
        self.receiver = receiver_of(spec(offset, **fields))

    def packet(self, index: int, **changed: int) -> RtpPacket:
        """Frame number `index`, which begins `index` frames after NOW."""
        sequence, timestamp = self.first + index, NOW + index * FRAME + self.offset
        plain = RtpPacket(96, sequence % 65_536, timestamp % WRAP, SSRC, PAYLOAD)
        return replace(plain, **changed)  # type: ignore[arg-type]

    def receive(self, packet: RtpPacket | bytes, now: int = NOW) -> None:
        data = packet if isinstance(packet, bytes) else packet.serialise()
        self.receiver.receive(data, now)

    def frames(self) -> list[int]:
        """The numbers of the frames held, by media time."""
        starts = []
        while (frame := self.receiver.buffer.first()) is not None:
            starts.append((frame.start_sample - NOW) // FRAME)
            self.receiver.buffer.take(frame.start_sample)
        return starts


def received(stream: Stream, order: list[int]) -> Stream:
    for index in order:
        stream.receive(stream.packet(index))
    return stream


# ------------------------------------------------------------------ what is played
@FIRSTS
@OFFSETS
def test_frames_in_order_are_kept_at_their_media_times(first: int, offset: int) -> None:
    stream = received(Stream(first, offset), list(range(12)))
    assert stream.receiver.buffer.first() is not None
    assert stream.frames() == list(range(12))
    assert not stream.receiver.dropped


@FIRSTS
@OFFSETS
def test_reordered_frames_are_kept_at_their_media_times(first: int, offset: int) -> None:
    stream = received(Stream(first, offset), [2, 0, 1, 5, 3, 4, 9, 8, 7, 6])
    assert stream.frames() == list(range(10))
    assert not stream.receiver.dropped


@FIRSTS
@OFFSETS
def test_what_the_sender_of_this_package_sends_is_kept(first: int, offset: int) -> None:
    sender = StreamSender(SSRC, first, offset, 20, "them", lambda: 0.5)
    stream = Stream(first, offset)
    for index in range(8):
        stream.receive(sender.packet(PAYLOAD, NOW + index * FRAME))
    assert stream.frames() == list(range(8))


def test_a_frame_lasts_as_long_as_its_payload_says() -> None:
    stream = Stream()
    payload = Encoder(EncoderSettings(frame_ms=60)).encode(np.zeros(2880, np.float32))
    stream.receive(stream.packet(0, payload=payload))  # type: ignore[arg-type]
    frame = stream.receiver.buffer.first()
    assert frame is not None
    assert frame.samples == 2880


def test_padding_csrcs_and_extensions_are_understood() -> None:
    stream = Stream()
    plain = stream.packet(0).serialise()
    csrcs, extension, padding = bytes(8), b"\xbe\xde\x00\x01\x10\xff\x00\x00", b"\0\0\0\4"
    stream.receive(
        bytes((0x80 | 0x20 | 0x10 | 2,)) + plain[1:12] + csrcs + extension + PAYLOAD + padding
    )
    frame = stream.receiver.buffer.first()
    assert frame is not None
    assert frame.payload == PAYLOAD


@pytest.mark.parametrize("delay_ms", [1_000.0, 10_000.0])
def test_the_buffer_holds_all_the_frames_of_the_longest_delay(delay_ms: float) -> None:
    """A file fed at once, or a speaker far ahead of its D, brings D's worth before any plays."""
    stream = Stream(frame_ms=2.5, playout_delay_ms=delay_ms)
    short = Encoder(EncoderSettings(frame_ms=2.5, application="lowdelay"))
    payload = short.encode(np.zeros(120, np.float32))
    count = round(delay_ms / 2.5)
    for index in range(count):
        packet = RtpPacket(96, index % 65_536, (NOW + 120 * index) % WRAP, SSRC, payload)
        stream.receive(packet, NOW + 120 * index)
    assert not stream.receiver.dropped
    assert len(stream.receiver.buffer) == count


# ------------------------------------------------------------------ what is dropped, and why
def refused(stream: Stream, data: RtpPacket | bytes, now: int = NOW) -> Counter[str]:
    """Why one datagram was dropped; nothing of it may be left."""
    held = len(stream.receiver.buffer)
    before = Counter(stream.receiver.dropped)
    stream.receive(data, now)
    assert len(stream.receiver.buffer) == held
    return stream.receiver.dropped - before


def test_another_ssrc_is_refused() -> None:
    assert refused(Stream(), Stream().packet(0, ssrc=SSRC + 1)) == {"ssrc": 1}


@pytest.mark.parametrize("payload_type", [0, 95, 98, 127])
def test_another_payload_type_is_refused(payload_type: int) -> None:
    expected = {"payload_type": 1}
    assert refused(Stream(), Stream().packet(0, payload_type=payload_type)) == expected


@FIRSTS
def test_the_same_packet_again_is_a_duplicate(first: int) -> None:
    stream = received(Stream(first), [0, 1, 2])
    for index in (2, 1, 0):
        assert refused(stream, stream.packet(index)) == {"duplicate": 1}


def test_another_packet_with_a_frame_we_hold_is_a_duplicate() -> None:
    stream = received(Stream(), [0])
    again = replace(stream.packet(1), timestamp=stream.packet(0).timestamp)
    assert refused(stream, again) == {"duplicate": 1}


@FIRSTS
@OFFSETS
def test_a_frame_that_has_been_played_past_is_late(first: int, offset: int) -> None:
    stream = received(Stream(first, offset), [0, 2])
    stream.receiver.buffer.drop_before(NOW + 2 * FRAME)
    assert refused(stream, stream.packet(1)) == {"late": 1}
    assert stream.receiver.received == 3  # it did arrive


@OFFSETS
@pytest.mark.parametrize("ahead", [-MAX_LATE - 1, MAX_LATE + 1, 2**31 - 1, -(2**31)])
def test_a_time_far_from_now_is_refused(offset: int, ahead: int) -> None:
    stream = Stream(0, offset)
    packet = stream.packet(0, timestamp=(NOW + offset + ahead) % WRAP)
    assert refused(stream, packet) == {"implausible_time": 1}
    assert stream.receiver.received == 0


@OFFSETS
@pytest.mark.parametrize("ahead", [-MAX_LATE, MAX_LATE])
def test_a_time_as_far_as_the_longest_delay_is_taken(offset: int, ahead: int) -> None:
    stream = Stream(0, offset)
    stream.receive(stream.packet(0, timestamp=(NOW + offset + ahead) % WRAP))
    frame = stream.receiver.buffer.first()
    assert frame is not None
    assert frame.start_sample == NOW + ahead


@FIRSTS
def test_a_lone_jump_of_the_sequence_is_refused(first: int) -> None:
    stream = received(Stream(first), [0, 1])
    assert refused(stream, stream.packet(2, sequence=(first + 20_000) % 65_536)) == {"dropped": 1}


def test_a_full_buffer_refuses_the_newest() -> None:
    stream = Stream()
    for index in range(20_000):
        timestamp = (NOW + index % 500_000) % WRAP
        stream.receive(stream.packet(0, sequence=index % 65_536, timestamp=timestamp))
    assert set(stream.receiver.dropped) == {"overflow"}
    assert len(stream.receiver.buffer) + stream.receiver.dropped["overflow"] == 20_000
    assert len(stream.receiver.buffer) < 5_000


@pytest.mark.parametrize("payload", [b"", b"\xff", b"\x03\x3f", bytes((3, 49)) + bytes(60)])
def test_what_is_no_opus_packet_is_refused(payload: bytes) -> None:
    assert refused(Stream(), replace(Stream().packet(0), payload=payload)) == {"opus": 1}


PLAIN = Stream().packet(0).serialise()
REPORT = serialise_compound((ReceiverReport(5), SourceDescription(5, "x"), Bye((SSRC,))))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "rtp_truncated"),
        (PLAIN[:11], "rtp_truncated"),
        (b"\x00" + PLAIN[1:], "rtp_version"),
        (b"\x40" + PLAIN[1:], "rtp_version"),
        (b"\x8f" + PLAIN[1:20], "rtp_csrc"),
        (b"\x90" + PLAIN[1:13], "rtp_extension"),
        (b"\x90" + PLAIN[1:12] + b"\0\0\xff\xff", "rtp_extension"),
        (b"\xa0" + PLAIN[1:12] + b"\0", "rtp_padding"),
        (b"\xa0" + PLAIN[1:12] + b"\xff", "rtp_padding"),
        (PLAIN[:12], "opus"),
        (REPORT[:-1], "rtcp_length"),
        (REPORT[:7], "rtcp_length"),
        (b"\x41" + REPORT[1:], "rtcp_version"),
        (REPORT[8:], "rtcp_first"),
        (b"\x81\xc9\x00\x01" + bytes(4), "rtcp_report"),
    ],
)
def test_what_is_malformed_is_counted_by_its_reason(data: bytes, reason: str) -> None:
    stream = Stream()
    assert refused(stream, data) == {reason: 1}
    assert not stream.receiver.ended
    assert stream.receiver.received == 0


@given(st.binary(max_size=100), st.integers(-(2**62), 2**62))
def test_arbitrary_bytes_never_raise(data: bytes, now: int) -> None:
    stream = Stream()
    stream.receive(data, now)
    assert stream.receiver.dropped.total() + len(stream.receiver.buffer) <= 1


@given(
    st.sampled_from([PLAIN, REPORT]),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4),
    st.integers(0, 80),
    st.integers(NOW - 10**6, NOW + 10**6),
)
def test_nearly_right_bytes_never_raise(
    data: bytes, changes: list[tuple[int, int]], length: int, now: int
) -> None:
    stream = Stream()
    mutated = bytearray(data)
    for at, value in changes:
        mutated[at % len(mutated)] = value
    stream.receive(bytes(mutated[:length]), now)
    assert stream.receiver.dropped.total() + len(stream.receiver.buffer) <= 1
    assert set(parse_reasons(stream)) <= REASONS


REASONS = {
    *("rtp_truncated", "rtp_version", "rtp_csrc", "rtp_extension", "rtp_padding", "opus"),
    *("rtcp_first", "rtcp_length", "rtcp_version", "rtcp_padding", "rtcp_report", "rtcp_sdes"),
    *("rtcp_cname", "rtcp_bye", "ssrc", "payload_type", "implausible_time", "copies", "repair"),
}


def parse_reasons(stream: Stream) -> list[str]:
    return [str(reason) for reason in stream.receiver.dropped]


@given(st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, WRAP - 1)), max_size=40))
def test_hostile_numbers_leave_the_counts_in_balance(numbers: list[tuple[int, int]]) -> None:
    stream = Stream()
    for sequence, timestamp in numbers:
        stream.receive(stream.packet(0, sequence=sequence, timestamp=timestamp))
    held, dropped = len(stream.receiver.buffer), stream.receiver.dropped.total()
    assert held + dropped == len(numbers)
    assert stream.receiver.lost >= 0


# ------------------------------------------------------------------ RTCP
def test_a_sender_report_changes_nothing() -> None:
    stream = received(Stream(), [0])
    report = SenderReport(SSRC, 1 << 40, 0, 1, 1)
    stream.receive(serialise_compound((report, SourceDescription(SSRC, "s"))))
    assert not stream.receiver.dropped
    assert not stream.receiver.ended
    assert stream.receiver.received == 1


@FIRSTS
def test_it_says_what_was_lost(first: int) -> None:
    stream = received(Stream(first), [0, 1, 2, 4, 5, 7])
    assert (stream.receiver.received, stream.receiver.lost) == (6, 2)


def test_a_goodbye_ends_the_stream_where_its_last_frame_ends() -> None:
    stream = received(Stream(), [0, 1])
    stream.receive(StreamSender(SSRC, 0, 0, 20, "them", lambda: 0.5).bye())
    assert stream.receiver.ended
    assert stream.receiver.reach == NOW + 2 * FRAME


def test_after_a_jump_it_reaches_as_far_as_what_is_still_held() -> None:
    stream = received(Stream(), [0, 1])
    stream.receiver.buffer.take(NOW + FRAME)
    stream.receiver.rewind()
    assert stream.receiver.reach is None


def test_another_senders_goodbye_ends_nothing() -> None:
    stream = received(Stream(), [0])
    stream.receive(StreamSender(SSRC + 1, 0, 0, 20, "them", lambda: 0.5).bye())
    assert not stream.receiver.ended


def test_a_goodbye_of_several_sources_ends_ours() -> None:
    stream = Stream()
    goodbye = (ReceiverReport(5), SourceDescription(5, "x"), Bye((1, SSRC)))
    stream.receive(serialise_compound(goodbye))
    assert stream.receiver.ended
