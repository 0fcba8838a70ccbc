from __future__ import annotations

import pytest

from transport.rtp.packetizer import Packetizer
from transport.rtp.rtcp import SenderReport

SSRC = 0xDEADBEEF
FRAME = 480


def packetizer(first_sequence: int = 0, timestamp_offset: int = 0) -> Packetizer:
    return Packetizer(SSRC, 96, first_sequence, timestamp_offset)


def test_a_frame_becomes_a_packet_of_this_stream() -> None:
    packet = packetizer(7, 1000).packetize(b"frame", 480, FRAME)
    assert (packet.ssrc, packet.payload_type, packet.payload) == (SSRC, 96, b"frame")
    assert (packet.sequence, packet.timestamp) == (7, 1480)


@pytest.mark.parametrize("first", [0, 1, 65533, 65535])
def test_sequence_numbers_go_up_by_one_and_wrap(first: int) -> None:
    stream = packetizer(first)
    sequences = [stream.packetize(b"", n * FRAME, FRAME).sequence for n in range(5)]
    assert sequences == [(first + n) % 65536 for n in range(5)]


@pytest.mark.parametrize("offset", [0, 1, 2**31, 2**32 - 480, 2**32 - 1])
@pytest.mark.parametrize("start", [0, 48_000, 2**32 - 480, 83_000_000_000_000])
def test_timestamps_are_media_time_plus_the_offset_and_wrap(offset: int, start: int) -> None:
    stream = packetizer(timestamp_offset=offset)
    times = [start + n * FRAME for n in range(5)]
    timestamps = [stream.packetize(b"", time, FRAME).timestamp for time in times]
    assert timestamps == [(time + offset) % 2**32 for time in times]


def test_sequence_numbers_do_not_skip_in_a_pause() -> None:
    stream = packetizer()
    sequences = [stream.packetize(b"", time, FRAME).sequence for time in (0, FRAME, 48_000)]
    assert sequences == [0, 1, 2]


def test_the_marker_opens_each_talkspurt() -> None:
    stream = packetizer()
    times = [0, FRAME, 2 * FRAME, 48_000, 48_000 + FRAME]
    markers = [stream.packetize(b"", time, FRAME).marker for time in times]
    assert markers == [True, False, False, True, False]


def test_frames_of_changing_length_are_no_gap() -> None:
    stream = packetizer()
    markers = [
        stream.packetize(b"", *frame).marker for frame in ((0, 480), (480, 960), (1440, 480))
    ]
    assert markers == [True, False, False]


def test_a_wrapping_timestamp_is_no_gap() -> None:
    stream = packetizer(timestamp_offset=2**32 - FRAME)
    packets = [stream.packetize(b"", n * FRAME, FRAME) for n in range(2)]
    assert [packet.timestamp for packet in packets] == [2**32 - FRAME, 0]
    assert [packet.marker for packet in packets] == [True, False]


def test_a_stream_may_start_before_media_time_zero() -> None:
    stream = packetizer()
    first, second = (stream.packetize(b"", time, FRAME) for time in (-FRAME, 0))
    assert (first.timestamp, first.marker, second.marker) == (2**32 - FRAME, True, False)


def test_an_overlapping_frame_is_refused() -> None:
    stream = packetizer()
    stream.packetize(b"", 0, FRAME)
    with pytest.raises(ValueError, match="overlaps"):
        stream.packetize(b"", FRAME - 1, FRAME)


def test_a_refused_frame_uses_no_sequence_number() -> None:
    stream = packetizer(5)
    stream.packetize(b"abc", 0, FRAME)
    with pytest.raises(ValueError, match="overlaps"):
        stream.packetize(b"abc", 0, FRAME)
    assert (stream.next_sequence, stream.packet_count, stream.octet_count) == (6, 1, 3)
    assert stream.next_media_sample == FRAME


@pytest.mark.parametrize("samples", [0, -480])
def test_a_frame_without_length_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match="frame"):
        packetizer().packetize(b"", 0, samples)


@pytest.mark.parametrize(
    "arguments", [(2**32, 96, 0, 0), (0, 128, 0, 0), (0, 96, 65536, 0), (0, 96, 0, -1)]
)
def test_numbers_that_do_not_fit_are_refused(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="must fit"):
        Packetizer(*arguments)


def test_counts_packets_and_payload_octets() -> None:
    stream = packetizer()
    for number, payload in enumerate((b"a", b"bcd", b"")):
        stream.packetize(payload, number * FRAME, FRAME)
    assert (stream.packet_count, stream.octet_count) == (3, 4)


def test_a_sender_report_pairs_wall_time_with_media_time() -> None:
    stream = packetizer(timestamp_offset=2**32 - 480)
    stream.packetize(b"abc", 0, FRAME)
    assert stream.sender_report(0xE000_0000_8000_0000, 960) == SenderReport(
        SSRC, 0xE000_0000_8000_0000, rtp_timestamp=480, packet_count=1, octet_count=3
    )


def test_a_sender_report_agrees_with_the_timestamps_of_packets() -> None:
    stream = packetizer(timestamp_offset=123_456_789)
    packet = stream.packetize(b"abc", 9600, FRAME)
    assert stream.sender_report(0, 9600).rtp_timestamp == packet.timestamp


def test_nothing_has_ended_before_the_first_frame() -> None:
    assert packetizer().next_media_sample is None
