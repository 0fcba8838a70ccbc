"""One stream's frames into samples, without a network or a clock: segments are made by hand."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from codec.opus import Application, Decoder, Encoder, EncoderSettings
from endpoints.voice import Voice
from tests.support.chain import human_voice, snr_db
from transport.control.messages import StreamSpec
from transport.jitter.buffer import EncodedFrame
from transport.jitter.playout import Segment
from transport.rtp.rtcp import Bye, ReceiverReport, SourceDescription, serialise_compound
from transport.session.receiver import ClearOpener

DELAY = 4_800
SPEC = StreamSpec("p", 1, 7, 96, 0, 20.0, inband_fec=False, playout_delay_ms=DELAY / 48)
FRAME = 960
ORIGINS = pytest.mark.parametrize("origin", [0, -10 * FRAME, 1_790_000_000 * SAMPLE_RATE])


@cache
def payloads(frame_ms: float = 20.0, count: int = 40) -> tuple[bytes, ...]:
    encoder = Encoder(EncoderSettings(frame_ms=frame_ms))
    size = samples_of_ms(frame_ms)
    sound = human_voice()[9_600:]
    return tuple(encoder.encode(sound[n * size : (n + 1) * size]) for n in range(count))


def make(frames: Sequence[EncodedFrame]) -> Voice:
    voice = Voice(SPEC, ClearOpener(SPEC))
    for frame in frames:
        voice.receiver.buffer.insert(frame)
    voice.receiver.reach = voice.receiver.buffer.reach()
    return voice


def due(voice: Voice, start: int, samples: int = 240) -> tuple[int, int] | None:
    """When a voice is due in a block, from the media sample `start` on; D is taken off."""
    span = voice.due(start + DELAY, start + DELAY + samples)
    return None if span is None else (span[0] - DELAY, span[1] - DELAY)


def frames_from(origin: int, frame_ms: float = 20.0, count: int = 40) -> list[EncodedFrame]:
    size = samples_of_ms(frame_ms)
    made = enumerate(payloads(frame_ms, count))
    return [EncodedFrame(origin + n * size, size, payload) for n, payload in made]


def segment(start: int, samples: int = 240, fraction: float = 0.0, ratio: float = 1.0) -> Segment:
    return Segment(start, fraction, ratio, samples, 0.0, reanchored=False)


def read(voice: Voice, start: int, count: int) -> Samples:
    """`count` media samples from `start` on, as they are heard D later."""
    first = start + DELAY
    blocks = [voice.read(segment(at)) for at in range(first, first + count, 240)]
    return np.concatenate(blocks)[:count]


def decoded(packets: Sequence[bytes]) -> Samples:
    decoder = Decoder()
    return np.concatenate([decoder.decode(packet) for packet in packets])


def goodbye() -> bytes:
    return serialise_compound((ReceiverReport(7), SourceDescription(7, "x"), Bye((7,))))


@ORIGINS
def test_a_frame_is_heard_at_its_media_time_plus_d(origin: int) -> None:
    heard = read(make(frames_from(origin)), origin - FRAME, 30 * FRAME)
    assert np.abs(heard[:FRAME]).max() < 1e-5  # the interpolator's foot
    assert snr_db(heard[FRAME:], decoded(payloads())[: 29 * FRAME]) > 100


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_between_the_samples_the_sound_goes_on(fraction: float) -> None:
    voice = make(frames_from(0))
    starts = range(DELAY, DELAY + 30 * FRAME, 240)
    heard = np.concatenate([voice.read(segment(at, fraction=fraction)) for at in starts])
    sound = decoded(payloads())
    # An independent way to shift by part of a sample: turn the phases of the whole spectrum.
    turned = np.fft.rfft(sound) * np.exp(2j * np.pi * np.fft.rfftfreq(len(sound)) * fraction)
    expected = np.fft.irfft(turned, len(sound)).astype(np.float32)
    middle = slice(5 * FRAME, 25 * FRAME)
    assert snr_db(heard[middle], expected[middle]) > 60


def test_frames_of_another_length_than_declared_are_heard_as_well() -> None:
    """What lasts how long is in the packets; `frame_ms` is for what is missing."""
    short, long = frames_from(0, 20.0, 10), frames_from(10 * FRAME, 60.0, 5)
    heard = read(make(short + long), 0, 20 * FRAME)
    expected = decoded([frame.payload for frame in short + long])
    assert snr_db(heard, expected[: len(heard)]) > 100


def test_a_frame_that_begins_inside_another_is_heard_from_that_ones_end() -> None:
    """A sender that began anew is on a grid of its own."""
    first, second = frames_from(0, count=3), frames_from(2 * FRAME + 500, count=10)
    heard = read(make(first + second), 0, 10 * FRAME)
    expected = decoded([frame.payload for frame in first + second])
    assert snr_db(heard[: 3 * FRAME], expected[: 3 * FRAME]) > 100
    resumed = expected[3 * FRAME + 460 :]
    assert snr_db(heard[3 * FRAME :], resumed[: 7 * FRAME]) > 100


def test_a_hole_of_no_whole_frames_is_filled_to_the_sample() -> None:
    """The grid moves by 100 samples: concealment comes in steps of 120, and must not push on."""
    first, second = frames_from(0, count=10), frames_from(10 * FRAME + 100, count=10)
    heard = read(make(first + second), 0, 20 * FRAME)
    decoder = Decoder()
    expected = [decoder.decode(frame.payload) for frame in first]
    expected.append(decoder.conceal(120)[:100])
    expected += [decoder.decode(frame.payload) for frame in second]
    assert snr_db(heard, np.concatenate(expected)[: len(heard)]) > 100


def test_a_missing_frame_is_concealed_as_opus_would() -> None:
    frames = frames_from(0)
    del frames[10]
    voice = make(frames)
    heard = read(voice, 0, 20 * FRAME)
    decoder = Decoder()
    expected = [decoder.decode(frame.payload) for frame in frames[:10]]
    expected.append(decoder.conceal(FRAME))
    expected += [decoder.decode(frame.payload) for frame in frames[10:20]]
    assert snr_db(heard, np.concatenate(expected)[: len(heard)]) > 100
    assert voice.concealed_frames == 1


def test_before_the_first_frame_nothing_is_concealed() -> None:
    voice = make(frames_from(100 * FRAME))
    assert not read(voice, 0, 99 * FRAME).any()
    assert voice.concealed_frames == 0


def test_concealment_ends_after_half_a_second() -> None:
    voice = make(frames_from(0, count=10))
    heard = read(voice, 0, 100 * FRAME)
    assert np.abs(heard[10 * FRAME + SAMPLE_RATE // 2 + FRAME + 16 :]).max() < 1e-9
    assert SAMPLE_RATE // 2 <= voice.concealed_frames * FRAME <= SAMPLE_RATE // 2 + FRAME


@pytest.mark.parametrize("missing", [1, 4, 6, 7, 15, 24])
@pytest.mark.parametrize("application", ["voip", "audio", "lowdelay"])
def test_what_returns_after_a_gap_does_not_click(application: Application, missing: int) -> None:
    """A tone, returning at every phase: no step is larger than anywhere in the tone itself."""
    encoder = Encoder(EncoderSettings(frame_ms=20.0, application=application))
    tone = 0.5 * np.sin(2 * np.pi * 210.7 / SAMPLE_RATE * np.arange(100 * FRAME))
    made = encoder_frames(encoder, tone.astype(np.float32))
    own = np.abs(np.diff(decoded(made)[20 * FRAME :])).max()
    steps = []
    for first in range(40, 50):
        frames = [EncodedFrame(n * FRAME, FRAME, payload) for n, payload in enumerate(made)]
        del frames[first : first + missing]
        heard = read(make(frames), (first - 10) * FRAME, (missing + 11) * FRAME)
        steps.append(np.abs(np.diff(heard[-FRAME - 120 : -FRAME // 2])).max())
    assert max(steps) <= own * 1.25  # Opus's own, where one frame is missing


def encoder_frames(encoder: Encoder, sound: Samples) -> list[bytes]:
    return [encoder.encode(block) for block in sound.reshape(-1, encoder.frame_samples)]


def loudest_frame() -> int:
    levels = decoded(payloads(count=150)).reshape(-1, FRAME).std(axis=1)
    return 20 + int(levels[20:120].argmax())


def test_after_120_ms_of_concealment_there_is_silence() -> None:
    frames, lost = frames_from(0, count=150), loudest_frame() + 1
    del frames[lost : lost + 20]
    heard = read(make(frames), (lost - 10) * FRAME, 30 * FRAME)
    gap = heard[10 * FRAME : 30 * FRAME]
    assert gap[: 2 * FRAME].std() > 0.01
    assert not gap[6 * FRAME + 16 : -16].any()


def test_what_in_band_fec_restores_is_no_invention_and_fades_in() -> None:
    encoder = Encoder(EncoderSettings(inband_fec=True, expected_loss_percent=30, frame_ms=20.0))
    sound = human_voice()[9_600:]
    made = encoder_frames(encoder, sound[: 150 * FRAME])
    frames, lost = [EncodedFrame(n * FRAME, FRAME, p) for n, p in enumerate(made)], loudest_frame()
    restored = frames[lost]
    del frames[lost - 14 : lost + 1]
    levels = []
    for fec in (True, False):
        voice = Voice(replace(SPEC, inband_fec=fec), ClearOpener(SPEC))
        for frame in frames:
            voice.receiver.buffer.insert(frame)
        heard = read(voice, restored.start_sample - 20 * FRAME, 21 * FRAME)[-FRAME:]
        levels.append(heard[240:].std())
        assert np.abs(heard[:16]).max() < 0.01
    assert levels[0] > 0.01
    assert levels[1] < 1e-3


def test_a_pause_of_discontinuous_transmission_keeps_the_noise_of_its_room() -> None:
    """A frame comes every 420 ms; silence between them would throb."""
    noise = np.random.default_rng(1).standard_normal(150 * FRAME)
    sound = 0.003 * noise.astype(np.float32)
    sound[: 50 * FRAME] += human_voice()[9_600:][: 50 * FRAME]
    encoder = Encoder(EncoderSettings(frame_ms=20.0, dtx=True))
    made = encoder_frames(encoder, sound)
    frames = [EncodedFrame(n * FRAME, FRAME, payload) for n, payload in enumerate(made) if payload]
    assert len(frames) < 100
    pause = read(make(frames), 0, 148 * FRAME)[90 * FRAME :]
    levels = 20 * np.log10(pause.reshape(-1, FRAME).std(axis=1))
    assert levels.min() > levels.max() - 6


@pytest.mark.parametrize("jump", [-5 * FRAME, -100, 100, 5 * FRAME, 48_000])
def test_a_jump_of_the_playhead_goes_on_at_the_new_place(jump: int) -> None:
    voice = make(frames_from(0))
    read(voice, 0, 10 * FRAME)
    voice.rewind()
    heard = read(voice, 10 * FRAME + jump, 20 * FRAME)
    expected = decoded(payloads())[10 * FRAME + jump :]
    # What was taken is gone and the decoder is another moment's; after that all is well.
    settled = slice(10 * FRAME, min(len(expected), 20 * FRAME))
    if jump < 48_000:
        assert snr_db(heard[settled], expected[settled]) > 10
    else:
        assert not heard.any()


def test_its_memory_does_not_grow_while_it_plays() -> None:
    voice = make(frames_from(0))
    held = []
    for at in range(DELAY, DELAY + 30 * FRAME, 240):
        voice.read(segment(at))
        held.append(len(voice._history))
    assert max(held) <= 240 + FRAME + 64


# ------------------------------------------------------------------ when it is due
def test_it_is_due_from_the_very_sample_at_which_its_first_frame_sounds() -> None:
    voice = make(frames_from(1_000))
    assert [due(voice, at) for at in (0, 720, 960, 1_200)] == [
        None,
        None,
        (1_000, 1_200),
        (1_200, 1_440),
    ]


def test_a_first_frame_that_is_overtaken_still_is_the_beginning() -> None:
    first, *others = frames_from(1_000, count=3)
    voice = make(others)
    assert due(voice, 0) is None
    voice.receiver.buffer.insert(first)
    assert due(voice, 960) == (1_000, 1_200)


def test_it_stays_due_through_the_pauses_of_discontinuous_transmission() -> None:
    voice = make(frames_from(0, count=2))
    assert due(voice, 0) == (0, 240)
    read(voice, 0, 20 * FRAME)
    assert due(voice, 20 * FRAME) == (20 * FRAME, 20 * FRAME + 240)


def test_it_is_due_for_half_a_second_after_the_last_that_came() -> None:
    voice = make(frames_from(0, count=2))
    assert due(voice, 0) == (0, 240)
    read(voice, 0, 26 * FRAME)
    assert due(voice, 26 * FRAME + 900) == (26 * FRAME + 900, 27 * FRAME)
    assert due(voice, 28 * FRAME) is None


def test_after_a_goodbye_it_is_due_until_its_last_sample_has_sounded() -> None:
    voice = make(frames_from(0, count=2))
    voice.receiver.receive(goodbye(), 0)
    spans = []
    for at in range(0, 4 * FRAME, 240):
        spans.append(due(voice, at))
        voice.read(segment(at + DELAY))
    assert [s is not None for s in spans] == [True] * 8 + [False] * 8


def test_a_voice_that_was_not_heard_is_over_when_its_frames_have_gone_by() -> None:
    voice = make(frames_from(0, count=2))
    voice.receiver.receive(goodbye(), 0)
    spans = []
    for at in range(0, 4 * FRAME, 100):
        spans.append(due(voice, at, 100))
        voice.skip(segment(at + DELAY, 100))
    assert [s for s in spans if s is not None][-1] == (1900, 1920)
    assert spans[20:] == [None] * 19


def test_a_voice_whose_frames_all_come_too_late_is_never_due() -> None:
    voice = make(frames_from(0, count=2))
    assert due(voice, 2 * FRAME) is None


def test_after_a_jump_to_before_its_beginning_it_is_not_due_yet() -> None:
    voice = make(frames_from(50 * FRAME))
    spans = [due(voice, 50 * FRAME)]
    voice.rewind()
    spans += [due(voice, 0), due(voice, 50 * FRAME)]
    assert [s is not None for s in spans] == [True, False, True]


def test_without_a_frame_it_is_never_due() -> None:
    voice = make([])
    assert due(voice, 0) is None
    voice.receiver.receive(goodbye(), 0)
    assert due(voice, 0) is None


def test_a_voice_that_is_resumed_sounds_as_if_it_had_never_been_skipped() -> None:
    """A decoder that begins in mid-stream is first given 80 ms that nobody hears."""
    voice = make(frames_from(0))
    for at in range(DELAY, DELAY + 20 * FRAME, 240):
        voice.skip(segment(at))
    resumed = read(voice, 20 * FRAME, 10 * FRAME)
    assert snr_db(resumed, decoded(payloads())[20 * FRAME : 30 * FRAME]) > 20
