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
from server.ingest import IngestError
from server.processes.bus import ProgrammeOrder, StreamOrder
from server.processes.ring import MAX_DATAGRAM, REPAIR, RTCP, RTP, Entry
from server.producer.programme import ENDED, LIVE, WAITING, Programme
from tests.support.produced import Ear, seeded
from transport.clock.timeline import NS_PER_SECOND, media_sample, ns_of_samples
from transport.rtp.packet import RtpPacket
from transport.rtp.rtcp import Bye, RtcpPacket, SenderReport, SourceDescription

START = 84_000_000_000_017  # no multiple of any frame
ORDER = ProgrammeOrder(
    programme="live-1",
    streams=(StreamOrder(3, 10.0, 4711),),
    ticket="t",
    bitrate=128_000,  # enough that Opus chooses its transform codec, whose delay is exact
    complexity=9,
    dtx=False,
    inband_fec=False,
    expected_loss_percent=0,
)
OFFSET = 0xFFFF_F000


def framed(frame_ms: float, bitrate: int = ORDER.bitrate) -> ProgrammeOrder:
    """The order with frames of another length."""
    return replace(ORDER, streams=(StreamOrder(3, frame_ms, 4711),), bitrate=bitrate)


class OnAir:
    """A programme and what it wrote, of all its encodings or of the one numbered `only`."""

    def __init__(self, order: ProgrammeOrder = ORDER, only: int | None = None) -> None:
        self.written: list[Entry] = []
        self.told = 0
        self._only = only
        self._heard = 0
        self._now_sample = START
        self._ear = Ear(order)
        draw = seeded(first=OFFSET.to_bytes(4))
        self.programme = Programme(order, draw, lambda: 0.5, self._write, self._tell)

    def _write(self, entry: Entry) -> None:
        if self._only in {None, entry.stream}:
            self.written.append(entry)

    def _tell(self) -> None:
        self.told += 1

    def say(self, sound: Samples, start: int = START, block: int = 480) -> None:
        for at in range(0, len(sound), block):
            piece = sound[at : at + block]
            self._now_sample = start + at + len(piece)
            self.programme.feed(start + at, piece, ns_of_samples(self._now_sample))
            self.hear()

    def hear(self) -> None:
        """Open what was written since."""
        new = self.written[self._heard :]
        self._heard = len(self.written)
        self._ear.hear(self.programme.report(), new, self._now_sample)

    def packets_of(self, stream: int | None = None) -> list[RtpPacket]:
        self.hear()
        return [packet for number, packet in self._ear.packets if stream in {None, number}]

    @property
    def packets(self) -> list[RtpPacket]:
        return self.packets_of()

    @property
    def control(self) -> list[RtcpPacket]:
        self.hear()
        return [packet for _, packet in self._ear.control]

    @property
    def epochs(self) -> list[int]:
        self.hear()
        return self._ear.epochs

    def media_sample(self, packet: RtpPacket) -> int:
        return self._ear.times[id(packet)]


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
    assert [p.sequence for p in packets] == list(range(len(packets)))
    (stream,) = on_air.programme.report().streams
    assert {p.ssrc for p in packets} == {stream.ssrc}


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
    assert [entry.kind for entry in on_air.written][:3] == [RTP, REPAIR, RTCP]
    assert 3 <= len(reports) <= 5  # a uniform draw of one half: a little over 4 s
    names = [p.cname for p in on_air.control if isinstance(p, SourceDescription)]
    assert set(names) == {"loa-live-1"}


def test_a_sender_report_says_which_sample_is_now() -> None:
    on_air = OnAir()
    now_ns = ns_of_samples(START + 960)
    on_air.programme.feed(START, np.zeros(960, np.float32), now_ns)
    report = next(p for p in on_air.control if isinstance(p, SenderReport))
    sample = media_sample(report.rtp_timestamp, OFFSET, START)
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
    assert goodbyes == [Bye((on_air.programme.report().streams[0].ssrc,))]
    assert on_air.control[-1] == goodbyes[0]
    assert on_air.written[-1].kind == RTCP


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
    (stream,) = report.streams
    assert (stream.stream, stream.timestamp_offset, stream.clear_ssrc) == (3, OFFSET, None)
    assert [epoch.number for epoch in stream.epochs] == [0, 1]
    assert stream.sounding.ssrc == stream.ssrc
    assert report.seconds == pytest.approx(1.0)
    assert report.level_dbfs == pytest.approx(-23.0, abs=0.1)  # peak -20


@pytest.mark.parametrize(
    ("frame_ms", "bitrate"), [(20.0, 480_000), (20.0, 508_400), (40.0, 254_200), (60.0, 169_466)]
)
def test_the_loudest_noise_at_the_highest_bitrate_fits_the_ring(
    frame_ms: float, bitrate: int
) -> None:
    on_air = OnAir(framed(frame_ms, bitrate=bitrate))
    on_air.say(np.random.default_rng(1).uniform(-1, 1, SAMPLE_RATE).astype(np.float32))
    largest = max(len(e.datagram) for e in on_air.written)
    assert 1300 < largest <= min(MAX_DATAGRAM, 1500 - 28)  # behind the heads of IPv4 and UDP


def test_an_order_that_no_encoder_takes_is_refused() -> None:
    with pytest.raises(ValueError, match="frame_ms must be one of"):
        OnAir(framed(7.0))


# ------------------------------------------------------------------ several encodings
THREE = (StreamOrder(8, 10.0, 1), StreamOrder(9, 20.0, 2), StreamOrder(10, 60.0, 3))


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


def test_numbers_and_keys_are_drawn_for_each_encoding() -> None:
    streams = OnAir(replace(ORDER, streams=THREE)).programme.report().streams
    assert [stream.stream for stream in streams] == [8, 9, 10]
    assert len({stream.public for stream in streams}) == 3
    assert len({stream.timestamp_offset for stream in streams}) == 3
    epochs = [epoch for stream in streams for epoch in stream.epochs]
    assert len({epoch.key for epoch in epochs}) == len({epoch.ssrc for epoch in epochs}) == 6


def test_every_encoding_says_its_last_words_and_goodbye() -> None:
    for stream in THREE:
        on_air = OnAir(replace(ORDER, streams=THREE), only=stream.stream)
        sound = noise(0.311)
        on_air.say(sound)
        on_air.programme.finish()
        first, heard = heard_from(on_air)
        assert first + len(heard) >= START + len(sound)
        assert isinstance(on_air.control[-1], Bye)


def test_a_voice_is_counted_and_measured_once_however_often_it_is_encoded() -> None:
    on_air = OnAir(replace(ORDER, streams=THREE))
    on_air.say(noise(0.6))
    assert on_air.programme.report().seconds == pytest.approx(0.6)


def test_an_order_of_which_one_encoding_cannot_be_is_refused_whole() -> None:
    with pytest.raises(ValueError, match="frame_ms must be one of"):
        OnAir(replace(ORDER, streams=(*THREE, StreamOrder(11, 7.0, 4))))


# ------------------------------------------------------------------ epochs
def rekeyed(on_air: OnAir, order: ProgrammeOrder, now_sample: int) -> None:
    order = replace(order, rekey=order.rekey + 1)
    on_air.programme.rekey(order, ns_of_samples(now_sample))


def test_whoever_was_told_of_the_next_epoch_misses_no_frame_when_it_begins() -> None:
    on_air = OnAir(framed(2.5, bitrate=24_000))
    on_air.say(np.zeros(SAMPLE_RATE, np.float32))
    rekeyed(on_air, on_air.programme.order, START + SAMPLE_RATE)
    on_air.say(np.zeros(2 * SAMPLE_RATE, np.float32), START + SAMPLE_RATE)
    assert len(on_air.packets) == 1200
    assert sorted(set(on_air.epochs)) == [0, 2]  # 1 was told to somebody who shall not hear
    assert on_air.epochs.count(0) == pytest.approx(800, abs=4)


def test_that_other_keys_are_to_be_told_is_said_when_an_epoch_begins_and_only_then() -> None:
    on_air = OnAir()
    on_air.say(noise(0.5))
    rekeyed(on_air, ORDER, START + SAMPLE_RATE // 2)
    assert on_air.told == 0
    on_air.say(noise(2.0), START + SAMPLE_RATE // 2)
    assert on_air.told == 1
    (stream,) = on_air.programme.report().streams
    assert [epoch.number for epoch in stream.epochs] == [0, 2, 3]


def test_other_keys_change_neither_sound_nor_state() -> None:
    plain, changed = OnAir(), OnAir()
    sound = noise(3.0)
    half = len(sound) // 2 // 480 * 480
    for on_air in (plain, changed):
        on_air.say(sound[:half])
        if on_air is changed:
            rekeyed(on_air, ORDER, START + half)
        on_air.say(sound[half:], START + half)
    payloads = [[p.payload for p in on_air.packets] for on_air in (plain, changed)]
    assert payloads[0] == payloads[1]
    assert set(changed.epochs) == {0, 2}
    before, after = (on_air.programme.report() for on_air in (plain, changed))
    assert replace(after, streams=before.streams) == before
    assert after.streams[0].public == before.streams[0].public


def test_what_has_ended_is_given_no_other_keys() -> None:
    on_air = OnAir()
    on_air.programme.finish()
    before = on_air.programme.report()
    rekeyed(on_air, ORDER, START)
    assert on_air.programme.report() == before


def test_reports_are_signed_in_every_epoch() -> None:
    on_air = OnAir()
    on_air.say(np.zeros(SAMPLE_RATE, np.float32))
    rekeyed(on_air, ORDER, START + SAMPLE_RATE)
    on_air.say(np.zeros(11 * SAMPLE_RATE, np.float32), START + SAMPLE_RATE)
    (stream,) = on_air.programme.report().streams
    reports = {p.ssrc for p in on_air.control if isinstance(p, SenderReport)}
    assert reports == {stream.ssrc, stream.sounding.ssrc}


# ------------------------------------------------------------------ the twin in clear
TWIN = replace(ORDER, streams=(StreamOrder(8, 10.0, 1, clear=15), StreamOrder(9, 20.0, 2)))


def test_the_twin_has_the_same_sound_at_the_same_times_and_nothing_of_the_seal() -> None:
    on_air = OnAir(TWIN)
    on_air.say(noise(0.6))
    sealed, clear = on_air.packets_of(8), on_air.packets_of(15)
    assert len(clear) == 60
    for attribute in ("payload", "timestamp", "marker"):
        of_both = ([getattr(p, attribute) for p in packets] for packets in (sealed, clear))
        assert next(of_both) == next(of_both)
    assert {packet.extension for packet in clear} == {None}
    told, _ = on_air.programme.report().streams
    assert {packet.ssrc for packet in clear} == {told.clear_ssrc}
    assert told.clear_ssrc not in {epoch.ssrc for epoch in told.epochs}


def test_the_twin_reports_and_says_goodbye_by_itself() -> None:
    on_air = OnAir(TWIN, only=15)
    on_air.say(noise(0.1))
    on_air.programme.finish()
    ssrc = on_air.programme.report().streams[0].clear_ssrc
    assert ssrc is not None
    assert {p.ssrc for p in on_air.control if isinstance(p, SenderReport)} == {ssrc}
    assert on_air.control[-1] == Bye((ssrc,))


def test_the_twin_goes_on_where_the_sealed_sound_goes_over_to_another_epoch() -> None:
    on_air = OnAir(TWIN, only=15)
    on_air.say(noise(0.5))
    rekeyed(on_air, TWIN, START + SAMPLE_RATE // 2)
    on_air.say(noise(2.0), START + SAMPLE_RATE // 2)
    sequences = [packet.sequence for packet in on_air.packets]
    assert sequences == [(sequences[0] + n) % 65_536 for n in range(250)]


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
