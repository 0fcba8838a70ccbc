import json
import math
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import measure
from bench.measure import (
    MeasureError,
    Recording,
    apart_ns,
    change_over_ns,
    find_markers,
    offset_seconds,
    spread_ms,
)

RATE = 48_000
SECOND = 1_000_000_000
MICROSECOND = 1e-6
VOICE = Path(__file__).parents[2] / "bench" / "audio" / "voice.wav"


def load_voice() -> np.ndarray:
    """The human voice at 48 kHz, band-limited to 8 kHz, with 100 ms of silence around it."""
    with wave.open(str(VOICE)) as wav:
        pcm = np.frombuffer(wav.readframes(wav.getnframes()), "<i2") / 32768
    pcm = np.pad(pcm, 1600)
    spectrum = np.fft.rfft(pcm)
    spectrum[-1] = 0
    return np.fft.irfft(np.pad(spectrum, (0, len(pcm))), 3 * len(pcm)) * 3


VOICE_48K = load_voice()


def delayed(samples: np.ndarray, by_samples: float) -> np.ndarray:
    """Band-limited delay by any fraction; what goes out at the end comes in at the beginning."""
    omega = 2 * np.pi * np.fft.rfftfreq(len(samples))
    return np.fft.irfft(np.fft.rfft(samples) * np.exp(-1j * omega * by_samples), len(samples))


def record(samples: np.ndarray, first_ns: int = 0, rate: int = RATE) -> Recording:
    return Recording(samples.astype(np.float32), rate, first_ns)


def speech(sounds_at_ns: int = 0, first_ns: int = 0) -> Recording:
    """The voice, emitted at a time, as a recorder hears it whose first sample is at another."""
    return record(delayed(VOICE_48K, (sounds_at_ns - first_ns) * RATE / SECOND), first_ns)


def chirp() -> np.ndarray:
    """20 ms from 1 to 6 kHz."""
    time = np.arange(960) / RATE
    phase = 2 * np.pi * (1_000 * time + (5_000 / 0.02) * time**2 / 2)
    return np.sin(phase) * np.hanning(960)


# ------------------------------------------------------------------ files and windows
def write_wav(
    path: Path, samples: np.ndarray, channels: int = 1, width: int = 2, **sidecar: object
) -> Path:
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(channels)
        wav.setsampwidth(width)
        wav.setframerate(RATE)
        wav.writeframes(samples.tobytes())
    beside = {"sample_rate": RATE, "first_sample_time_ns": 5, **sidecar}
    Path(f"{path}.json").write_text(json.dumps(beside))
    return path


def test_a_recording_loads_with_its_time(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.array([0, 16384, -32768], "<i2"), speaker="x")
    loaded = Recording.load(path)
    assert loaded.samples.tolist() == [0.0, 0.5, -1.0]
    assert loaded.samples.dtype == np.float32
    assert (loaded.rate, loaded.first_sample_time_ns) == (RATE, 5)


@pytest.mark.parametrize(
    "fault",
    [{"channels": 2}, {"width": 1}, {"sample_rate": 16_000}, {"first_sample_time_ns": "soon"}],
)
def test_a_recording_of_another_kind_is_refused(tmp_path: Path, fault: dict[str, object]) -> None:
    path = write_wav(tmp_path / "a.wav", np.zeros(4, "<i2"), **fault)  # type: ignore[arg-type]
    with pytest.raises(MeasureError, match=r"a\.wav"):
        Recording.load(path)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", "{"])
def test_a_recording_without_its_sidecar_is_refused(tmp_path: Path, content: str | None) -> None:
    path = write_wav(tmp_path / "a.wav", np.zeros(4, "<i2"))
    beside = Path(f"{path}.json")
    beside.unlink()
    if content is not None:
        beside.write_text(content)
    with pytest.raises(MeasureError, match=r"a\.wav"):
        Recording.load(path)


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a sound"])
def test_what_is_not_a_wav_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write_wav(tmp_path / "a.wav", np.zeros(4, "<i2"))
    path.write_bytes(content)
    with pytest.raises(MeasureError, match=r"a\.wav"):
        Recording.load(path)


def test_only_one_channel_of_float32_is_a_recording() -> None:
    with pytest.raises(MeasureError):
        Recording(np.zeros(4), RATE, 0)  # type: ignore[arg-type]
    with pytest.raises(MeasureError):
        Recording(np.zeros((4, 2), np.float32), RATE, 0)


def test_a_window_starts_at_its_absolute_time_with_the_fraction_left_over() -> None:
    recording = record(np.arange(100), first_ns=10**18, rate=1_000)
    cut = recording.window(10**18 + 20_250_000, 5_000_000)
    assert cut.samples.tolist() == [20, 21, 22, 23, 24]
    assert cut.remainder == 0.25


@pytest.mark.parametrize(("start_ns", "length_ns"), [(-1, 10**6), (96 * 10**6, 10**7), (0, 0)])
def test_a_window_outside_the_recording_is_refused(start_ns: int, length_ns: int) -> None:
    with pytest.raises(MeasureError):
        record(np.arange(100), rate=1_000).window(start_ns, length_ns)


# ------------------------------------------------------------------ offsets
@pytest.mark.parametrize("by_samples", [0.0, 0.5, -0.5, 1.3, -7.123, 47.999, 2_000.25, -2_399.0])
def test_a_known_shift_is_measured_within_a_tenth_of_a_microsecond(by_samples: float) -> None:
    shifted = record(delayed(VOICE_48K, by_samples))
    measured = offset_seconds(record(VOICE_48K), shifted, SECOND, SECOND)
    assert measured.seconds == pytest.approx(by_samples / RATE, abs=MICROSECOND / 10)
    assert measured.correlation > 0.9999


# Recorders that started at other times, fractions of a sample and large clocks included.
@settings(max_examples=25, deadline=None)
@given(
    st.integers(-40_000_000, 40_000_000),
    st.integers(-30_000_000, 30_000_000),
    st.integers(0, 10**18),
)
def test_only_absolute_time_counts(sounds_later_ns: int, starts_later_ns: int, at_ns: int) -> None:
    a = speech(at_ns, first_ns=at_ns)
    b = speech(at_ns + sounds_later_ns, first_ns=at_ns + starts_later_ns)
    measured = offset_seconds(a, b, at_ns + 2 * SECOND, SECOND)
    assert measured.seconds == pytest.approx(sounds_later_ns / SECOND, abs=MICROSECOND / 10)


def test_the_direction_reverses_when_the_recordings_do() -> None:
    a, b = speech(0), speech(345_678)
    there, back = offset_seconds(a, b, SECOND, SECOND), offset_seconds(b, a, SECOND, SECOND)
    assert there.seconds == pytest.approx(345.678e-6, abs=MICROSECOND / 10)
    assert back.seconds == pytest.approx(-there.seconds, abs=MICROSECOND / 10)


def test_a_quieter_noisy_copy_is_still_placed_and_its_correlation_says_so() -> None:
    rng = np.random.default_rng(1)
    copy = delayed(VOICE_48K, 12.34) * 0.1
    noisy = record(copy + rng.normal(0, copy.std() / 3, len(copy)))
    measured = offset_seconds(record(VOICE_48K), noisy, SECOND, 2 * SECOND)
    assert measured.seconds == pytest.approx(12.34 / RATE, abs=2 * MICROSECOND)
    assert 0.85 < measured.correlation < 0.98


def test_white_sound_is_placed_within_a_fraction_of_a_sample() -> None:
    white = np.random.default_rng(2).normal(0, 0.1, 2 * RATE)
    for fraction in (-0.5, -0.49, 0.3, 0.5):
        measured = offset_seconds(
            record(white), record(delayed(white, 10 + fraction)), SECOND // 2, SECOND
        )
        assert measured.seconds * RATE == pytest.approx(10 + fraction, abs=0.01)


def test_a_window_at_the_edge_of_the_other_recording_is_measured() -> None:
    a = speech(0)
    b = record(a.samples[RATE : 2 * RATE], first_ns=SECOND)
    measured = offset_seconds(a, b, SECOND, SECOND)
    assert measured.seconds == pytest.approx(0, abs=MICROSECOND)


def test_a_steady_tone_has_no_one_offset() -> None:
    tone = record(np.sin(2 * np.pi * 1_000 * np.arange(3 * RATE) / RATE))
    with pytest.raises(MeasureError, match="repeats"):
        offset_seconds(tone, tone, SECOND, SECOND)


def test_silence_cannot_be_compared() -> None:
    silence = record(np.zeros(3 * RATE))
    for a, b in [(silence, speech()), (speech(), silence), (silence, silence)]:
        with pytest.raises(MeasureError, match="no common sound"):
            offset_seconds(a, b, SECOND, SECOND)


def test_unrelated_sound_has_a_low_correlation() -> None:
    other = record(VOICE_48K[::-1])
    assert offset_seconds(speech(), other, SECOND, SECOND).correlation < 0.5


def test_recordings_at_two_rates_are_not_compared() -> None:
    with pytest.raises(MeasureError, match="Hz"):
        offset_seconds(speech(), record(VOICE_48K, rate=44_100), SECOND, SECOND)


# ------------------------------------------------------------------ spread
def test_the_spread_is_the_largest_pair_in_any_window() -> None:
    early, middle, late = speech(-400_000), speech(0), speech(700_000)
    windows = [(SECOND, SECOND), (3 * SECOND, SECOND)]
    assert spread_ms([middle, early, late], windows) == pytest.approx(1.1, abs=1e-4)
    assert spread_ms([early, late, middle], windows) == pytest.approx(1.1, abs=1e-4)
    assert spread_ms([late, middle], windows) == pytest.approx(0.7, abs=1e-4)
    assert spread_ms([early, early], windows) == pytest.approx(0, abs=1e-6)


def test_one_bad_window_decides_the_spread() -> None:
    slipped = speech().samples.copy()
    slipped[3 * RATE :] = np.roll(slipped[3 * RATE :], 48)
    windows = [(SECOND, SECOND), (4 * SECOND, SECOND)]
    assert spread_ms([speech(), record(slipped)], windows) == pytest.approx(1.0, abs=1e-4)


def test_a_spread_needs_two_recordings_and_a_window() -> None:
    with pytest.raises(MeasureError):
        spread_ms([speech()], [(SECOND, SECOND)])
    with pytest.raises(MeasureError):
        spread_ms([speech(), speech()], [])


# ------------------------------------------------------------------ markers
def with_markers(delays_ms: list[float], first_ns: int) -> Recording:
    """A chirp in each second of absolute time, heard so much later; at infinity, never."""
    sound = np.zeros((len(delays_ms) + 1) * RATE)
    for second, delay_ms in enumerate(delays_ms):
        if math.isfinite(delay_ms):
            alone = np.zeros(len(sound))
            alone[:960] = 0.3 * chirp()
            heard_ns = second * SECOND + delay_ms * 1e6
            sound += delayed(alone, (heard_ns - first_ns) * RATE / SECOND)
    return record(sound, first_ns)


@pytest.mark.parametrize("first_ns", [-500_000_000, -499_993_333])
def test_markers_are_heard_with_their_delay(first_ns: int) -> None:
    expected = [0.0, 40.0, 40.0371, 99.99]
    recording = with_markers(expected, first_ns)
    times = [second * SECOND for second in range(4)]
    heard = find_markers(recording, chirp().astype(np.float32), times, 100_000_000)
    assert heard == pytest.approx(expected, abs=1e-3)


def test_a_marker_that_is_not_there_is_none() -> None:
    recording = with_markers([10.0, math.inf, 10.0], -SECOND // 2)
    times = [0, SECOND, 2 * SECOND, 60 * SECOND]
    heard = find_markers(recording, chirp().astype(np.float32), times, 100_000_000)
    assert heard == [pytest.approx(10), None, pytest.approx(10), None]


def test_noise_and_speech_are_no_markers() -> None:
    noise = record(np.random.default_rng(1).normal(0, 0.3, 3 * RATE))
    for recording in (noise, speech()):
        times = list(range(0, 2 * SECOND, SECOND // 5))
        marker = chirp().astype(np.float32)
        assert find_markers(recording, marker, times, 100_000_000) == [None] * 10


def test_a_marker_is_heard_through_noise() -> None:
    clean = with_markers([10.01], -SECOND // 2)
    noise = np.random.default_rng(1).normal(0, 0.05, len(clean.samples))
    noisy = record(clean.samples + noise, clean.first_sample_time_ns)
    [heard] = find_markers(noisy, chirp().astype(np.float32), [0], 100_000_000)
    assert heard == pytest.approx(10.01, abs=0.005)


# ------------------------------------------------------------------ levels
def test_levels_are_relative_to_a_full_scale_square_wave() -> None:
    square = np.tile(np.array([1, -1], np.float32), 480)
    sine = np.sin(2 * np.pi * np.arange(480) / 48).astype(np.float32)
    assert measure.level_dbfs(square) == 0
    assert measure.level_dbfs(sine) == pytest.approx(-3.0103, abs=1e-3)
    assert measure.level_dbfs(sine * np.float32(0.1)) == pytest.approx(-23.0103, abs=1e-3)


def test_silence_has_no_level() -> None:
    assert measure.level_dbfs(np.zeros(9, np.float32)) == -math.inf
    assert measure.level_dbfs(np.zeros(0, np.float32)) == -math.inf


@pytest.mark.parametrize(("steps", "silent"), [(0, True), (1, True), (2, False)])
def test_one_click_ends_silence_but_the_last_bit_does_not(steps: int, silent: bool) -> None:
    samples = np.zeros(1000)
    samples[500] = -steps / 32768
    assert measure.is_silent(record(samples)) is silent


def test_a_recording_without_samples_is_silent() -> None:
    assert measure.is_silent(record(np.zeros(0)))


# ------------------------------------------------------------------ change-overs
def two_voices(at: int, shift: float = 0.0) -> tuple[Recording, Recording, Recording]:
    """Two sounds, and what is heard of a loudspeaker that turns from one to the other at `at`."""
    draw = np.random.default_rng(7)
    one, other = (np.convolve(draw.normal(0, 0.1, 48_000), np.hanning(40), "same") for _ in "ab")
    ramp = np.sin(np.clip((np.arange(48_000) - at) / 240, 0, 1) * np.pi / 2) ** 2
    heard = (1 - ramp) * one + ramp * other
    start_ns = 5_000_000_000
    late_ns = round(shift * 1e9 / 48_000)
    return (
        Recording(heard.astype(np.float32), 48_000, start_ns + late_ns),
        Recording(one.astype(np.float32), 48_000, start_ns),
        Recording(other.astype(np.float32), 48_000, start_ns),
    )


@pytest.mark.parametrize("at", [20_000, 24_000, 24_001, 27_500])
def test_a_change_over_is_found_to_the_sample(at: int) -> None:
    heard, one, other = two_voices(at)
    true_ns = 5_000_000_000 + at * 1_000_000_000 // 48_000
    for found_ns in change_over_ns(heard, one, other, 5_500_000_000, 0.1):
        assert abs(found_ns - true_ns) < 500_000


def test_a_change_over_is_found_though_the_loudspeakers_are_a_little_apart() -> None:
    heard, one, other = two_voices(24_000, shift=1.5)
    for found_ns in change_over_ns(heard, one, other, 5_500_000_000, 0.1):
        assert abs(found_ns - 5_500_000_000) < 700_000


def test_in_a_pause_nobody_can_tell_when_and_that_is_what_is_said() -> None:
    heard, one, other = two_voices(24_000)
    pause = slice(23_000, 25_000)
    for recording in (heard, one, other):
        recording.samples[pause] = 0
    earliest_ns, latest_ns = change_over_ns(heard, one, other, 5_500_000_000, 0.1)
    assert earliest_ns < 5_500_000_000 - 10_000_000
    assert latest_ns > 5_500_000_000 + 10_000_000


def test_moments_that_may_be_one_are_not_apart() -> None:
    assert apart_ns([(0, 10), (5, 20), (9, 9)]) == 0
    assert apart_ns([(0, 10), (15, 20)]) == 5


def test_where_something_else_was_heard_there_is_no_change_over() -> None:
    heard, one, _ = two_voices(24_000)
    stranger = Recording(heard.samples[::-1].copy(), 48_000, heard.first_sample_time_ns)
    with pytest.raises(MeasureError, match="not the one sound and then the other"):
        change_over_ns(heard, one, stranger, 5_500_000_000, 0.1)


def test_where_one_sound_is_silent_nobody_can_tell() -> None:
    heard, one, _ = two_voices(24_000)
    silence = Recording(np.zeros(48_000, np.float32), 48_000, heard.first_sample_time_ns)
    with pytest.raises(MeasureError, match="silent"):
        change_over_ns(heard, one, silence, 5_500_000_000, 0.1)
