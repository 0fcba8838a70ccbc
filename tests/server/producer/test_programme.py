"""A programme on air, down to the sample: what it sends is decoded and compared.

A receiver plays the first decoded sample of a packet at the packet's media time. So when every
packet is decoded in order, decoded sample k belongs at (time of the first packet) + k, and what
was captured at media sample n must be found at exactly n.
"""

from dataclasses import replace

import numpy as np
import pytest

from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from codec.opus import Decoder
from server.bus import ProgrammeOrder, StreamOrder, StreamReport
from server.ingest import IngestError
from server.producer.programme import ENDED, LIVE, WAITING, Programme, StreamNumbers
from server.ring import MAX_DATAGRAM, RTCP, RTP, Entry
from transport.clock.timeline import NS_PER_SECOND, media_sample, ns_of_samples
from transport.rtp.packet import RtpPacket
from transport.rtp.rtcp import Bye, RtcpPacket, SenderReport, SourceDescription, parse_compound

START = 84_000_000_000_017  # no multiple of any frame
ORDER = ProgrammeOrder(
    programme="live-1",
    streams=(StreamOrder(3, 10.0),),
    ticket="t",
    bitrate=128_000,  # enough that Opus chooses its transform codec, whose delay is exact
    complexity=9,
    dtx=False,
    inband_fec=False,
    expected_loss_percent=0,
)
NUMBERS = StreamNumbers(ssrc=0xC0FFEE, first_sequence=65_530, timestamp_offset=0xFFFF_F000)


def framed(frame_ms: float, bitrate: int = ORDER.bitrate) -> ProgrammeOrder:
    """The order with frames of another length."""
    return replace(ORDER, streams=(StreamOrder(3, frame_ms),), bitrate=bitrate)


class OnAir:
    """A programme and what it wrote, of all its encodings or of the one numbered `only`."""

    def __init__(self, order: ProgrammeOrder = ORDER, only: int | None = None) -> None:
        self.written: list[Entry] = []
        self._only = only
        self.programme = Programme(order, lambda: NUMBERS, lambda: 0.5, self._write)

    def _write(self, entry: Entry) -> None:
        if self._only in {None, entry.stream}:
            self.written.append(entry)

    def say(self, sound: Samples, start: int = START, block: int = 480) -> None:
        for at in range(0, len(sound), block):
            piece = sound[at : at + block]
            self.programme.feed(start + at, piece, ns_of_samples(start + at + len(piece)))

    @property
    def packets(self) -> list[RtpPacket]:
        return [RtpPacket.parse(e.datagram) for e in self.written if e.kind == RTP]

    @property
    def control(self) -> list[RtcpPacket]:
        return [p for e in self.written if e.kind == RTCP for p in parse_compound(e.datagram)]

    def media_sample(self, packet: RtpPacket) -> int:
        return media_sample(packet.timestamp, NUMBERS.timestamp_offset, START)


def noise(seconds: float) -> Samples:
    """Noise that Opus passes whole; its autocorrelation is a spike."""
    samples = round(seconds * SAMPLE_RATE)
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal(samples))
    frequency = np.fft.rfftfreq(samples, 1 / SAMPLE_RATE)
    spectrum[(frequency < 200) | (frequency > 16_000)] = 0
    sound = np.fft.irfft(spectrum, samples)
    quiet: Samples = (0.3 * sound / np.max(np.abs(sound))).astype(np.float32)
    return quiet


def found_at(sound: Samples, heard: Samples) -> int:
    """The index in `heard` where `sound` begins: the peak of the cross-correlation."""
    size = len(sound) + len(heard)
    cross = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(sound, size)), size)
    peak = int(np.argmax(cross))
    return peak if peak < len(heard) else peak - size


def heard_from(on_air: OnAir) -> tuple[int, Samples]:
    """What a loudspeaker decodes, and the media sample of its beginning."""
    decoder = Decoder()
    heard = np.concatenate([decoder.decode(packet.payload) for packet in on_air.packets])
    return on_air.media_sample(on_air.packets[0]), heard


@pytest.mark.parametrize("frame_ms", [2.5, 5.0, 10.0, 20.0, 40.0, 60.0])
@pytest.mark.parametrize("block", [480, 331])
def test_sound_is_at_the_media_sample_it_was_captured_at(frame_ms: float, block: int) -> None:
    on_air = OnAir(framed(frame_ms))
    sound = noise(0.6)
    on_air.say(sound, block=block)
    first, heard = heard_from(on_air)
    assert first + found_at(sound, heard) == START


@pytest.mark.parametrize("frame_ms", [10.0, 20.0, 60.0])
def test_at_a_voice_s_bitrate_sound_is_within_three_samples_of_its_time(frame_ms: float) -> None:
    # Opus's speech codec (SILK) resamples inside, and its filters' delay is not quite the
    # look-ahead that libopus reports: 1 to 2.4 samples, alike at every loudspeaker.
    on_air = OnAir(framed(frame_ms, bitrate=24_000))
    sound = noise(0.6)
    on_air.say(sound)
    first, heard = heard_from(on_air)
    assert abs(first + found_at(sound, heard) - START) <= 3


@pytest.mark.parametrize("frame_ms", [2.5, 10.0, 60.0])
def test_the_last_sample_said_is_heard_too(frame_ms: float) -> None:
    on_air = OnAir(framed(frame_ms))
    sound = noise(0.311)
    on_air.say(sound)
    on_air.programme.finish()
    first, heard = heard_from(on_air)
    assert first + len(heard) >= START + len(sound)


@pytest.mark.parametrize("frame_ms", [5.0, 20.0])
def test_media_times_and_sequence_numbers_go_on_without_a_hole(frame_ms: float) -> None:
    on_air = OnAir(framed(frame_ms))
    on_air.say(noise(0.3))
    packets, frame = on_air.packets, samples_of_ms(frame_ms)
    first = on_air.media_sample(packets[0])
    assert [on_air.media_sample(p) for p in packets] == [
        first + n * frame for n in range(len(packets))
    ]
    assert [p.sequence for p in packets] == [
        (NUMBERS.first_sequence + n) % 65_536 for n in range(len(packets))
    ]
    assert {p.ssrc for p in packets} == {NUMBERS.ssrc}


def test_the_first_packet_of_a_talkspurt_alone_is_marked() -> None:
    on_air = OnAir()
    on_air.say(noise(0.1))
    on_air.say(noise(0.1), START + 10 * SAMPLE_RATE)
    marked = [on_air.media_sample(p) for p in on_air.packets if p.marker]
    first, second = marked
    assert second - first == 10 * SAMPLE_RATE


def test_dtx_sends_next_to_nothing_in_silence() -> None:
    talkative, thrifty = OnAir(), OnAir(replace(ORDER, dtx=True, bitrate=24_000))
    for on_air in (talkative, thrifty):
        on_air.say(np.zeros(2 * SAMPLE_RATE, np.float32))
    assert len(talkative.packets) == 200
    assert 0 < len(thrifty.packets) < 60


def test_after_dtx_the_sound_is_at_its_own_media_time() -> None:
    on_air = OnAir(replace(ORDER, dtx=True, bitrate=24_000))
    on_air.say(np.zeros(SAMPLE_RATE, np.float32))
    spoken_at = START + SAMPLE_RATE
    quiet = len(on_air.packets)
    on_air.say(noise(0.2), spoken_at)
    resumed = on_air.packets[quiet:]
    lookahead = on_air.media_sample(on_air.packets[0]) - START
    assert on_air.media_sample(resumed[0]) == spoken_at + lookahead
    assert resumed[0].marker


def test_a_sender_report_goes_out_with_the_first_sound_and_then_now_and_again() -> None:
    on_air = OnAir()
    on_air.say(np.zeros(10 * SAMPLE_RATE, np.float32))
    reports = [p for p in on_air.control if isinstance(p, SenderReport)]
    assert on_air.written[1].kind == RTCP
    assert 3 <= len(reports) <= 5  # a uniform draw of one half: a little over 4 s
    names = [p.cname for p in on_air.control if isinstance(p, SourceDescription)]
    assert set(names) == {"loa-live-1"}


def test_a_sender_report_says_which_sample_is_now() -> None:
    on_air = OnAir()
    now_ns = ns_of_samples(START + 960)
    on_air.programme.feed(START, np.zeros(960, np.float32), now_ns)
    report = next(p for p in on_air.control if isinstance(p, SenderReport))
    sample = media_sample(report.rtp_timestamp, NUMBERS.timestamp_offset, START)
    assert abs(sample - (START + 960)) <= 1
    assert report.packet_count == 2


def test_nothing_is_said_before_the_first_sound() -> None:
    assert OnAir().written == []


def test_goodbye_is_said_last_and_exactly_once() -> None:
    on_air = OnAir()
    on_air.say(noise(0.1))
    on_air.programme.finish()
    on_air.programme.finish()
    goodbyes = [p for p in on_air.control if isinstance(p, Bye)]
    assert goodbyes == [Bye((NUMBERS.ssrc,))]
    assert goodbyes[0] in parse_compound(on_air.written[-1].datagram)


def test_nothing_is_taken_after_the_end() -> None:
    on_air = OnAir()
    on_air.say(noise(0.1))
    on_air.programme.finish()
    before = list(on_air.written)
    on_air.say(noise(0.1), START + SAMPLE_RATE)
    assert on_air.written == before
    assert on_air.programme.report().seconds == pytest.approx(0.1)


def test_it_waits_then_lives_then_has_ended() -> None:
    on_air = OnAir()
    states = [on_air.programme.report().state]
    on_air.say(noise(0.02))
    states.append(on_air.programme.report().state)
    on_air.programme.finish()
    states.append(on_air.programme.report().state)
    assert states == [WAITING, LIVE, ENDED]


def test_its_report_names_the_stream_and_the_level() -> None:
    on_air = OnAir()
    t = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    on_air.say((0.1 * np.sin(2 * np.pi * 440 * t)).astype(np.float32))
    report = on_air.programme.report()
    assert report.programme == "live-1"
    assert report.streams == (StreamReport(3, NUMBERS.ssrc, NUMBERS.timestamp_offset),)
    assert report.seconds == pytest.approx(1.0)
    assert report.level_dbfs == pytest.approx(-23.0, abs=0.1)  # peak -20


@pytest.mark.parametrize(
    ("frame_ms", "bitrate"), [(20.0, 510_000), (40.0, 260_000), (60.0, 173_333)]
)
def test_the_loudest_noise_at_the_highest_bitrate_fits_the_ring(
    frame_ms: float, bitrate: int
) -> None:
    on_air = OnAir(framed(frame_ms, bitrate=bitrate))
    on_air.say(np.random.default_rng(1).uniform(-1, 1, SAMPLE_RATE).astype(np.float32))
    largest = max(len(e.datagram) for e in on_air.written)
    assert 1200 < largest <= MAX_DATAGRAM


def test_an_order_that_no_encoder_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="frame_ms must be one of"):
        OnAir(framed(7.0))


# ------------------------------------------------------------------ several encodings
THREE = (StreamOrder(8, 10.0), StreamOrder(9, 20.0), StreamOrder(10, 60.0))


@pytest.mark.parametrize("stream", THREE)
def test_in_every_encoding_sound_is_at_the_media_sample_it_was_captured_at(
    stream: StreamOrder,
) -> None:
    on_air = OnAir(replace(ORDER, streams=THREE), only=stream.stream)
    sound = noise(0.6)
    on_air.say(sound, block=331)
    first, heard = heard_from(on_air)
    assert first + found_at(sound, heard) == START


def test_every_encoding_is_written_as_its_own_stream_in_frames_of_its_length() -> None:
    on_air = OnAir(replace(ORDER, streams=THREE))
    on_air.say(noise(0.6))
    packets = [entry.stream for entry in on_air.written if entry.kind == RTP]
    assert {number: packets.count(number) for number in (8, 9, 10)} == {8: 60, 9: 30, 10: 10}


def test_numbers_are_drawn_for_each_encoding() -> None:
    drawn = iter([StreamNumbers(n, n, 7 * n) for n in (1, 2, 3)])
    programme = Programme(
        replace(ORDER, streams=THREE), lambda: next(drawn), lambda: 0.5, lambda _: None
    )
    assert programme.report().streams == (
        StreamReport(8, 1, 7),
        StreamReport(9, 2, 14),
        StreamReport(10, 3, 21),
    )


def test_every_encoding_says_its_last_words_and_goodbye() -> None:
    for stream in THREE:
        on_air = OnAir(replace(ORDER, streams=THREE), only=stream.stream)
        sound = noise(0.311)
        on_air.say(sound)
        on_air.programme.finish()
        first, heard = heard_from(on_air)
        assert first + len(heard) >= START + len(sound)
        assert Bye((NUMBERS.ssrc,)) in parse_compound(on_air.written[-1].datagram)


def test_a_voice_is_counted_and_measured_once_however_often_it_is_encoded() -> None:
    on_air = OnAir(replace(ORDER, streams=THREE))
    on_air.say(noise(0.6))
    assert on_air.programme.report().seconds == pytest.approx(0.6)


def test_an_order_of_which_one_encoding_cannot_be_is_refused_whole() -> None:
    with pytest.raises(ValueError, match="frame_ms must be one of"):
        OnAir(replace(ORDER, streams=(*THREE, StreamOrder(11, 7.0))))


def told(count: int, step: int, length: int, per_block_ns: int) -> None:
    """So many blocks of so many samples, each `step` on from the last, as time passes."""
    programme, sound = OnAir().programme, np.zeros(length, np.float32)
    for n in range(count):
        programme.feed(START + n * step, sound, n * per_block_ns)


def test_blocks_that_bring_nothing_new_are_no_more_than_two_thousand_at_once() -> None:
    told(2_000, 0, 1, 0)
    with pytest.raises(IngestError, match="blocks"):
        told(2_002, 0, 1, 0)


def test_blocks_that_bring_nothing_new_may_come_as_time_passes() -> None:
    told(5_000, 0, 1, NS_PER_SECOND // 2_000)
    with pytest.raises(IngestError):
        told(5_000, 0, 1, NS_PER_SECOND // 5_000)


def test_sound_that_overlaps_by_more_than_a_second_in_sum_is_too_much() -> None:
    told(101, 0, 480, 0)
    with pytest.raises(IngestError, match="overlap"):
        told(103, 0, 480, 0)


def test_what_overlaps_by_a_little_may_go_on_for_ever() -> None:
    told(1_000, 432, 480, 0)  # a tenth of each, from a clock that shakes


def test_a_second_said_twice_is_no_more_than_a_second() -> None:
    told(2, 0, SAMPLE_RATE, 0)


def test_sound_of_a_clock_that_was_put_back_is_dropped_until_it_is_new() -> None:
    on_air = OnAir()
    on_air.say(noise(0.1), start=START + 3 * SAMPLE_RATE)
    on_air.say(noise(4.0), start=START)


def test_a_source_that_comes_back_after_a_long_time_owes_nothing() -> None:
    on_air = OnAir()
    programme, sample = on_air.programme, np.zeros(1, np.float32)
    for _ in range(2_000):
        programme.feed(START, sample, 0)
    on_air.say(noise(0.2), start=START + 5 * SAMPLE_RATE, block=48)
