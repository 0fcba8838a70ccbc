"""A live source against the media clock: crystals, jitter, bursts and gaps in virtual time."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from codec.format import SAMPLE_RATE, Samples
from server.live.pace import LiveBuffer

MS = 48
BLOCK = 480
FADE = 240


def ramp(start: int, count: int) -> Samples:
    """Samples that say which they are: the resampler passes whole positions exactly."""
    return (np.arange(start, start + count) / 1e6).astype(np.float32)


def fill(buffer: LiveBuffer, samples: int, now: int = 0, start: int = 0) -> None:
    for at in range(0, samples, BLOCK):
        buffer.push(ramp(start + at, BLOCK), now)


@dataclass(frozen=True)
class Source:
    """When each block arrives, in media samples, and the rate it was taken at."""

    block: int
    arrivals: npt.NDArray[np.int64]
    ppm: npt.NDArray[np.float64]


def live_source(
    seconds: float,
    ppm: float,
    *,
    wander_ppm: float = 0,
    block: int = BLOCK,
    jitter_ms: float = 0.5,
    burst_s: float = 0,
    stalls_ms: float = 0,
) -> Source:
    """A crystal `ppm` fast, wandering once an hour; late at random, in bursts, at times stalled."""
    rng = np.random.default_rng(1)
    count = int(seconds * SAMPLE_RATE / block)
    rates = ppm + wander_ppm * np.sin(2 * np.pi * np.arange(count) * block / SAMPLE_RATE / 3_600)
    due = np.cumsum(block / (1 + rates * 1e-6))
    if burst_s:
        due = np.ceil(due / (burst_s * SAMPLE_RATE)) * burst_s * SAMPLE_RATE
    late = rng.exponential(jitter_ms * MS, count)
    # Once in two minutes or so the machine was busy.
    late += stalls_ms * MS * (rng.random(count) < block / SAMPLE_RATE / 120)
    arrivals = np.maximum.accumulate(due + late).astype(np.int64)
    return Source(block, arrivals, rates)


@dataclass(frozen=True)
class Heard:
    """Per pull: the fill behind it (ms), how far the rate was off (ppm); see `residual_db`."""

    residual_db: float
    fill_ms: npt.NDArray[np.float64]
    error_ppm: npt.NDArray[np.float64]


def listen(
    buffer: LiveBuffer, source: Source, frequency: float, pull: int = BLOCK, after_s: float = 1
) -> Heard:
    """The source's tone of `frequency` through the buffer; its sound is judged from `after_s`."""
    second = 0.5 * np.sin(2 * np.pi * frequency / SAMPLE_RATE * np.arange(SAMPLE_RATE))
    tone = np.tile(second.astype(np.float32), 2)
    sound, fills, errors, residuals = [], [], [], [-np.inf]
    arrived = 0
    for now in range(pull, int(source.arrivals[-1]) - pull, pull):
        while source.arrivals[arrived] <= now:
            start = arrived * source.block % SAMPLE_RATE
            buffer.push(tone[start : start + source.block], int(source.arrivals[arrived]))
            arrived += 1
        heard = buffer.pull(pull, now)
        fills.append(buffer.fill_samples / MS)
        errors.append(buffer.rate_ppm - source.ppm[arrived])
        if now > after_s * SAMPLE_RATE:
            sound.append(heard)
        if len(sound) * pull > 20 * SAMPLE_RATE:
            # An hour of sound is not kept; one block is, so that no seam is left out.
            residuals.append(residual_db(np.concatenate(sound), frequency))
            sound = sound[-1:]
    residuals.append(residual_db(np.concatenate(sound), frequency))
    return Heard(max(residuals), np.array(fills), np.array(errors))


def residual_db(sound: Samples, frequency: float) -> float:
    """What a sine near `frequency` leaves over, in the worst 50 ms.

    In each, level, phase and frequency are fitted: as a slowly turning phase, by the sine's first
    two derivatives, which suffice for 500 ppm at 1 kHz.
    """
    window = SAMPLE_RATE // 20
    n = np.linspace(-1, 1, window)
    phase = 2 * np.pi * frequency / SAMPLE_RATE * np.arange(window)
    turns = [n**k * wave for k in range(3) for wave in (np.sin(phase), np.cos(phase))]
    basis, _ = np.linalg.qr(np.stack(turns, axis=1))
    parts = sound[: len(sound) // window * window].reshape(-1, window).astype(np.float64)
    rests = parts - (parts @ basis) @ basis.T
    return float(20 * np.log10(np.sqrt(2 * np.max(np.mean(rests**2, axis=1))) / 0.5))


def linear(history: Samples, positions: npt.NDArray[np.float64]) -> Samples:
    """In place of the resampler, where only positions matter: at 100 Hz it is 94 dB good."""
    whole = positions.astype(np.intp)
    along = (positions - whole).astype(np.float32)
    value: Samples = history[whole] * (1 - along) + history[whole + 1] * along
    return value


@pytest.mark.parametrize(
    ("ppm", "wander_ppm", "burst_s", "target_ms", "rms_ppm"),
    [(100, 0, 0, 20, 5), (-100, 0, 0, 20, 5), (0, 20, 0, 20, 5), (-50, 0, 1, 1_500, 120)],
    ids=["fast microphone", "slow microphone", "wandering microphone", "radio in bursts"],
)
def test_an_hour_of_a_strange_crystal(
    monkeypatch: pytest.MonkeyPatch,
    ppm: float,
    wander_ppm: float,
    burst_s: float,
    target_ms: float,
    rms_ppm: float,
) -> None:
    monkeypatch.setattr("server.live.pace.interpolate", linear)
    # Longer blocks than a true source's, for the test's own speed.
    source = live_source(
        3_600, ppm, wander_ppm=wander_ppm, block=3_000, burst_s=burst_s, stalls_ms=5
    )
    buffer = LiveBuffer(target_ms, 4 * target_ms + 1_000)
    heard = listen(buffer, source, 100, pull=2_880, after_s=5)
    settled = heard.error_ppm[-10_000:]
    fills = heard.fill_ms[100:]
    off_ppm = float(np.sqrt(np.mean(settled**2)))
    print(
        f"\n{ppm:+} ppm, wandering {wander_ppm}: fill {fills.min():.1f} to {fills.max():.1f} ms, "
        f"rate off by {off_ppm:.2f} ppm rms, {np.max(np.abs(settled)):.1f} at most, "
        f"residual of the tone {heard.residual_db:.0f} dB"
    )
    assert buffer.holes == 0
    assert buffer.dropped_samples == 0
    assert np.min(fills) > 0
    # What is unread just after a pull: the target, a block or a burst of it, and some.
    assert np.max(fills) < 1.2 * target_ms + 65 + 1_100 * burst_s
    assert off_ppm < rms_ppm
    assert np.max(np.abs(settled)) < 4 * rms_ppm
    assert heard.residual_db < -70


@pytest.mark.parametrize("ppm", [-300, 300])
def test_a_tone_from_the_worst_crystal_comes_through_clean(ppm: float) -> None:
    buffer = LiveBuffer()
    heard = listen(buffer, live_source(60, ppm), 1_000)
    assert (buffer.holes, buffer.dropped_samples) == (0, 0)
    assert np.min(heard.fill_ms[10:]) > 5
    assert heard.residual_db < -70


@pytest.mark.parametrize("ppm", [-300, 0, 300])
def test_the_crystal_is_known_after_some_minutes(
    monkeypatch: pytest.MonkeyPatch, ppm: float
) -> None:
    monkeypatch.setattr("server.live.pace.interpolate", linear)
    buffer = LiveBuffer()
    heard = listen(buffer, live_source(1_200, ppm, block=2_000), 100, pull=1_920)
    assert np.max(np.abs(heard.error_ppm[-2_000:])) < 15
    assert np.mean(heard.error_ppm[-2_000:]) == pytest.approx(0, abs=4)


def test_it_gives_silence_until_the_target_is_reached() -> None:
    buffer = LiveBuffer(target_ms=20)
    sounds = []
    for now in range(480, 3_840, 480):
        fill(buffer, 480, now=now, start=now)
        sounds.append(bool(np.any(buffer.pull(480, now))))
    # 480 are pulled when 960 lie behind them.
    assert sounds == [False] * 3 + [True] * 4
    assert buffer.fill_samples == 960 + 480
    assert buffer.holes == 0


@pytest.mark.parametrize("ms", [10, 60, 125, 400])
@pytest.mark.parametrize("patient", [True, False])
def test_a_recorder_that_gives_long_blocks_is_no_hole(ms: int, patient: bool) -> None:
    """As `arecord` does, eight times a second, whether cut into short blocks or not."""
    buffer = LiveBuffer(target_ms=20, patient=patient)
    length = ms * MS
    heard = np.zeros(0, np.float32)
    for now in range(480, 480 * 400, 480):
        if now % length < 480:
            for at in range(0, length, BLOCK):
                buffer.push(np.ones(min(BLOCK, length - at), np.float32), now)
        heard = buffer.pull(480, now)
    assert np.all(heard > 0.9)
    assert (buffer.holes, buffer.dropped_samples) == (0, 0)
    assert buffer.fill_samples <= 960 + 2 * length + 480


def test_a_source_that_stalls_before_it_has_begun_is_waited_for() -> None:
    buffer = LiveBuffer(target_ms=20)
    heard = []
    for now in range(480, 48_000, 480):
        if now == 480 or now > 9_600:
            fill(buffer, 480, now=now)
        heard.append(bool(np.any(buffer.pull(480, now))))
    assert heard.index(True) == 9_600 // 480 + 2
    assert all(heard[heard.index(True) :])
    assert buffer.holes == 0


def test_a_backlog_at_the_beginning_is_no_delay() -> None:
    buffer = LiveBuffer(target_ms=20)
    fill(buffer, 9_600, now=480)
    heard = np.zeros(0, np.float32)
    for now in range(960, 4_800, 480):
        fill(buffer, 480, now=now, start=now)
        heard = buffer.pull(480, now)
    assert np.any(heard)
    assert buffer.fill_samples <= 960 + 960
    assert buffer.dropped_samples == 0


def test_a_patient_buffer_loses_nothing_of_the_beginning() -> None:
    buffer = LiveBuffer(target_ms=20, patient=True)
    fill(buffer, 49_440)
    heard = np.concatenate([buffer.pull(480, 480 * n) for n in range(1, 51)])
    assert np.array_equal(heard[FADE:], ramp(0, 24_000)[FADE:])
    assert buffer.dropped_samples == 0


def test_it_begins_softly_and_stops_softly() -> None:
    buffer = LiveBuffer()
    one = np.ones(9_600, np.float32)
    blocks = [buffer.pull(480, 9_600)]
    buffer.push(one, 9_600)
    blocks += [buffer.pull(480, 9_600 + 480 * n) for n in range(1, 30)]
    heard = np.concatenate(blocks)
    assert np.max(np.abs(np.diff(heard))) < 0.006
    assert np.max(heard) == pytest.approx(1)
    assert heard[-1] == 0


def test_a_gap_is_a_hole_and_then_the_target_is_gathered_again() -> None:
    buffer = LiveBuffer(target_ms=20)
    fill(buffer, 1_920, now=480)
    heard = [bool(np.any(buffer.pull(480, 480 * n))) for n in range(1, 10)]
    assert heard == [False] * 3 + [True] * 4 + [False] * 2
    assert buffer.holes == 1
    fill(buffer, 4_800, now=4_800, start=1_920)
    heard = [bool(np.any(buffer.pull(480, 480 * n))) for n in range(10, 16)]
    assert heard == [False] * 3 + [True] * 3
    assert buffer.holes == 1


def test_too_much_is_dropped_down_to_the_target_and_counted() -> None:
    buffer = LiveBuffer(target_ms=20)
    one = np.ones(480, np.float32)
    for n in range(6):
        buffer.push(one, 480 * n)
    assert np.any(buffer.pull(480, 2_880))
    before = buffer.fill_samples
    pushed = -(-(1_020 * MS - before) // 480) * 480
    for _ in range(pushed // 480):
        assert buffer.dropped_samples == 0
        buffer.push(one, 2_880)
    assert buffer.fill_samples == 960 + 480
    assert buffer.dropped_samples == before + pushed - buffer.fill_samples


@pytest.mark.parametrize("frequency", [331, 777, 1_013])
def test_where_it_drops_it_fades_over(frequency: float) -> None:
    buffer = LiveBuffer(target_ms=20)
    tone = np.sin(np.arange(120_000) * 2 * np.pi * frequency / SAMPLE_RATE).astype(np.float32)
    buffer.push(tone[:3_000], 0)
    heard = [buffer.pull(480, 3_000)]
    assert np.any(heard)
    for at in range(3_000, 60_000, 480):
        buffer.push(tone[at : at + 480], 3_000)
    assert buffer.dropped_samples
    heard += [buffer.pull(480, 3_480 + 480 * n) for n in range(2)]
    steepest = 2 * np.pi * frequency / SAMPLE_RATE + 1 / FADE
    assert np.max(np.abs(np.diff(np.concatenate(heard)))) < 1.1 * steepest


def test_what_can_be_read_as_fast_as_one_likes_is_passed_on_as_it_is() -> None:
    """A pipe from a file: held back again and again, and after a pause soon once more."""
    buffer = LiveBuffer(target_ms=20, patient=True)
    heard, start = [], 0
    for n in range(1, 2_000):
        paused = 500 < n < 550
        while not (paused or buffer.full):
            buffer.push(ramp(start, BLOCK), 480 * n)
            start += BLOCK
        heard.append(buffer.pull(480, 480 * n))
        assert buffer.rate_ppm == 0
    assert np.array_equal(np.concatenate(heard)[FADE:], ramp(0, 480 * 1_999)[FADE:])
    assert (buffer.holes, buffer.dropped_samples) == (0, 0)


def test_a_pipe_from_a_microphone_is_followed() -> None:
    buffer = LiveBuffer(target_ms=20, patient=True)
    heard = listen(buffer, live_source(120, 200), 1_000)
    assert np.all(heard.error_ppm[:190] == -200)
    assert np.max(np.abs(heard.error_ppm[-1_000:])) < 100
    assert np.max(heard.fill_ms) < 60
    assert heard.residual_db < -70


def test_a_patient_buffer_is_full_at_its_bound_and_drops_nothing() -> None:
    buffer = LiveBuffer(target_ms=20, bound_ms=100, patient=True)
    fullness = []
    for samples in (4_320, 480, 48_000):
        fill(buffer, samples)
        fullness.append(buffer.full)
    assert fullness == [False, True, True]
    assert buffer.fill_samples == 52_800
    assert buffer.dropped_samples == 0


def test_time_that_the_station_lost_is_skipped_by_what_is_live() -> None:
    buffer = LiveBuffer(target_ms=20)
    for n in range(1, 31):
        fill(buffer, 480, now=480 * n)
        buffer.pull(480, 480 * n)
    left = buffer.fill_samples
    fill(buffer, 4_800, now=19_200)
    buffer.skip(4_800)
    assert buffer.dropped_samples == 4_800
    assert buffer.fill_samples == left


def test_time_that_the_station_lost_is_not_lost_of_a_file() -> None:
    buffer = LiveBuffer(target_ms=20, patient=True)
    fill(buffer, 48_000 + 4_800)
    buffer.pull(480, 480)
    buffer.skip(4_800)
    assert buffer.dropped_samples == 0


def test_what_is_held_at_the_end_is_still_heard_and_the_end_is_no_hole() -> None:
    buffer = LiveBuffer(target_ms=20)
    fill(buffer, 960)
    buffer.finish()
    heard = []
    while not buffer.drained:
        heard.append(buffer.pull(100, 0))
    whole = np.concatenate(heard)
    assert len(whole) == 1_000
    assert np.allclose(whole[FADE:900], ramp(0, 960)[FADE:900])
    assert buffer.holes == 0


def test_without_any_sound_the_end_is_at_once() -> None:
    buffer = LiveBuffer()
    assert not buffer.drained
    buffer.finish()
    assert buffer.drained


def test_both_channels_are_read_at_the_same_moment() -> None:
    buffer = LiveBuffer(channels=2)
    wave = np.sin(np.arange(48_000) / 10).astype(np.float32)
    heard = []
    for n in range(100):
        block = wave[480 * n : 480 * n + 480]
        buffer.push(np.stack([block, -block], axis=1), round(480 * n * (1 - 200e-6)))
        heard.append(buffer.pull(480, 480 * n))
    sound = np.concatenate(heard)
    assert sound.shape == (48_000, 2)
    assert np.array_equal(sound[:, 0], -sound[:, 1])
    assert np.any(sound)


@pytest.mark.parametrize(
    ("target_ms", "bound_ms", "channels"), [(0, None, 1), (20, 20, 1), (20, None, 3)]
)
def test_buffers_that_cannot_be_are_refused(
    target_ms: float, bound_ms: float | None, channels: int
) -> None:
    with pytest.raises(ValueError, match="target_ms of at least 1"):
        LiveBuffer(target_ms, bound_ms, channels=channels)


def test_blocks_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 channels was expected"):
        LiveBuffer().push(np.zeros((480, 2), np.float32), 0)
