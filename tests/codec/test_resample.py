import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.dsp.resample import HALF_TAPS, interpolate


def decibels(error: npt.NDArray[np.floating]) -> float:
    """Of the error's RMS, re the RMS of a full-scale sine."""
    return float(20 * np.log10(np.sqrt(2 * np.mean(error**2))))


def test_whole_positions_are_the_samples_themselves() -> None:
    history = np.random.default_rng(1).uniform(-1, 1, 500).astype(np.float32)
    positions = np.arange(HALF_TAPS - 1, len(history) - HALF_TAPS, dtype=np.float64)
    assert np.max(np.abs(interpolate(history, positions) - history[positions.astype(int)])) < 1e-6


@pytest.mark.parametrize("frequency", [50, 1_000, 7_000, 15_000])
@pytest.mark.parametrize("fraction", [0.001, 0.25, 0.5, 0.77777, 0.9999])
def test_a_sine_is_delayed_by_a_fraction(frequency: float, fraction: float) -> None:
    w = 2 * np.pi * frequency / 48_000
    history = np.sin(w * np.arange(1_000)).astype(np.float32)
    positions = np.arange(HALF_TAPS, 900, dtype=np.float64) + fraction
    assert decibels(interpolate(history, positions) - np.sin(w * positions)) < -80


@pytest.mark.parametrize("ppm", [-300, 40, 300])
def test_a_drifting_clock_is_followed_without_a_seam(ppm: float) -> None:
    """Positions, not a rate: block after block, the error does not grow."""
    w = 2 * np.pi * 7_000 / 48_000
    step = 1 + ppm * 1e-6
    signal = np.sin(w * np.arange(49_000))
    for first in range(0, 48_000, 480):
        positions = 20.0 + (first + np.arange(480, dtype=np.float64)) * step
        start = int(positions[0]) - HALF_TAPS + 1
        history = signal[start : start + 520].astype(np.float32)
        heard = interpolate(history, positions - start)
        assert decibels(heard - np.sin(w * positions)) < -80


@given(st.floats(HALF_TAPS - 1, 100 - HALF_TAPS - 1))
def test_a_constant_stays_what_it_is(position: float) -> None:
    value = interpolate(np.full(100, 0.5, np.float32), np.array([position]))
    assert value.dtype == np.float32
    assert value[0] == pytest.approx(0.5, abs=1e-6)


def test_positions_may_come_in_any_order() -> None:
    history = np.random.default_rng(2).uniform(-1, 1, 200).astype(np.float32)
    positions = np.random.default_rng(3).uniform(HALF_TAPS, 150, 64)
    forwards = interpolate(history, np.sort(positions))
    assert np.array_equal(interpolate(history, positions), forwards[positions.argsort().argsort()])


def test_both_ends_of_the_range_are_inside_it() -> None:
    history = np.linspace(0, 63 / 64, 64).astype(np.float32)
    ends = np.array([HALF_TAPS - 1, 64 - HALF_TAPS - 1], dtype=np.float64)
    assert interpolate(history, ends) == pytest.approx(ends / 64, abs=1e-6)


@pytest.mark.parametrize("position", [HALF_TAPS - 1.001, 64 - HALF_TAPS - 0.999, np.nan, -5, 1e9])
def test_positions_outside_the_history_are_refused(position: float) -> None:
    with pytest.raises(ValueError, match="positions must lie"):
        interpolate(np.zeros(64, np.float32), np.array([20.0, position]))


def test_too_short_a_history_and_stereo_are_refused() -> None:
    with pytest.raises(ValueError, match="positions must lie"):
        interpolate(np.zeros(20, np.float32), np.array([15.0]))
    with pytest.raises(ValueError, match="one-dimensional"):
        interpolate(np.zeros((64, 2), np.float32), np.array([20.0]))


def test_no_positions_give_no_samples() -> None:
    assert interpolate(np.zeros(64, np.float32), np.zeros(0)).shape == (0,)
