"""The limiter against its promises: never above, never late, untouched where nothing is needed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from codec.dsp.limiter import Limiter
from codec.format import Samples

CEILING = 10 ** (-1 / 20)
# Any finite float32, not only what sound should be.
_finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
_blocks = st.lists(hnp.arrays(np.float32, st.integers(0, 700), elements=_finite), max_size=6)


def run(limiter: Limiter, sound: Samples, block: int = 480) -> Samples:
    """All of the output, as many samples later as it says."""
    pieces = [limiter.process(sound[at : at + block]) for at in range(0, len(sound), block)]
    return np.concatenate([*pieces, limiter.flush()])


def noise(seconds: float, level: float = 0.3, seed: int = 0) -> Samples:
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal(round(seconds * 48_000))).astype(np.float32)


@given(_blocks, st.floats(0, 40), st.sampled_from([0, 1, 5, 10]))
def test_no_sample_passes_the_ceiling(blocks: list[Samples], gain: float, lookahead: float) -> None:
    limiter = Limiter(gain, lookahead_ms=lookahead)
    heard = [limiter.process(block) for block in blocks]
    assert [len(block) for block in heard] == [len(block) for block in blocks]
    whole = np.concatenate([*heard, limiter.flush()])
    assert np.all(np.abs(whole.astype(np.float64)) <= CEILING)


@pytest.mark.parametrize("gain", [0, 12, 40])
def test_no_peak_of_clipped_noise_passes_the_ceiling_in_stereo(gain: float) -> None:
    sound = noise(1).reshape(-1, 2).clip(-1, 1)
    heard = run(Limiter(gain), sound)
    assert heard.shape == (len(sound) + 240, 2)
    assert np.max(np.abs(heard)) <= CEILING


@pytest.mark.parametrize("gain_db", [0, 6])
def test_below_the_ceiling_it_is_exactly_a_gain_and_a_delay(gain_db: float) -> None:
    sound = (0.4 * np.sin(np.arange(4_800) / 7)).astype(np.float32)
    limiter = Limiter(gain_db)
    heard = run(limiter, sound)
    assert limiter.delay_samples == 240
    assert not np.any(heard[:240])
    assert np.array_equal(heard[240:], sound * np.float32(10 ** (gain_db / 20)))


def test_after_a_peak_it_becomes_transparent_again() -> None:
    sound = np.full(48_000 * 3, 0.1, np.float32)
    sound[1_000] = 1.0
    heard = run(Limiter(6), sound)[240:]
    passed = np.float32(10 ** (6 / 20)) * np.float32(0.1)
    assert heard[1_001] < 0.9 * passed
    assert np.all(heard[96_000:] == passed)


def test_half_of_the_reduction_is_gone_after_a_tenth_of_a_second() -> None:
    sound = np.full(48_000, 0.1, np.float32)
    sound[:480] = 1.0
    heard = run(Limiter(12), sound)[240:]
    reductions = 20 * np.log10(heard / (0.1 * 10 ** (12 / 20)))
    assert reductions[1_000] < -12
    assert -7.5 < reductions[480 + 4_800] < -6


def test_the_gain_has_come_down_before_the_peak_without_a_step() -> None:
    sound = np.full(4_800, 0.1, np.float32)
    sound[2_400:] = 1.0
    gains = (run(Limiter(), sound)[240:] / sound)[: len(sound)]
    assert np.all(gains[: 2_400 - 241] == 1.0)
    assert np.max(np.abs(np.diff(gains[:2_400]))) < 0.001
    assert gains[2_400] == pytest.approx(CEILING, abs=1e-6)


@pytest.mark.parametrize("block", [1, 7, 480, 50_000])
def test_the_length_of_the_blocks_changes_nothing(block: int) -> None:
    sound = noise(0.05 if block == 1 else 2)
    whole = run(Limiter(12), sound, len(sound))
    assert np.max(np.abs(run(Limiter(12), sound, block) - whole)) < 1e-6


def test_both_sides_are_turned_down_alike() -> None:
    left = noise(0.5)
    sound = np.stack([left, 0.25 * left], axis=1)
    heard = run(Limiter(20), sound)
    assert np.max(np.abs(heard[:, 1] - 0.25 * heard[:, 0])) < 1e-6


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf, np.float32(3e38)])
def test_what_is_not_sound_comes_out_finite_and_is_over_within_a_second(broken: float) -> None:
    sound = np.full(96_000, 0.1, np.float32)
    sound[1_000:1_010] = broken
    heard = run(Limiter(), sound)
    assert np.all(np.abs(heard) <= CEILING)
    assert np.all(heard[60_000:-240] > 0.095)


def test_after_a_flush_it_begins_anew_even_with_other_channels() -> None:
    limiter = Limiter(40)
    run(limiter, noise(0.1))
    sound = np.full((480, 2), 0.001, np.float32)
    assert np.array_equal(run(limiter, sound)[240:], sound * np.float32(100))


def test_nothing_in_nothing_out() -> None:
    limiter = Limiter()
    assert limiter.flush().shape == (0,)
    assert limiter.process(np.zeros(0, np.float32)).shape == (0,)


def test_channels_that_change_are_refused() -> None:
    limiter = Limiter()
    limiter.process(np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="were begun"):
        limiter.process(np.zeros((10, 2), np.float32))


@pytest.mark.parametrize("wrong", [{"gain_db": np.nan}, {"ceiling_dbfs": 1}, {"lookahead_ms": -1}])
def test_settings_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not"):
        Limiter(**wrong)
