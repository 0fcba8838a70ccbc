import numpy as np
import pytest

from codec.dsp.meter import FLOOR_DBFS, Meter
from codec.format import Samples


def sine(samples: int, amplitude: float) -> Samples:
    wave = amplitude * np.sin(2 * np.pi * 1000 / 48_000 * np.arange(samples))
    return np.asarray(wave, np.float32)


def test_nothing_and_silence_read_the_floor() -> None:
    meter = Meter()
    assert (meter.rms_dbfs, meter.peak_dbfs) == (FLOOR_DBFS, FLOOR_DBFS)
    meter.feed(np.zeros(480, np.float32))
    assert (meter.rms_dbfs, meter.peak_dbfs) == (-96.0, -96.0)


@pytest.mark.parametrize("block", [1, 77, 480, 14_400, 50_000])
def test_a_sine_reads_its_level_however_it_is_cut(block: int) -> None:
    meter = Meter()
    sound = sine(50_400 if block > 1 else 2_400, 0.1)
    for at in range(0, len(sound), block):
        meter.feed(sound[at : at + block])
    assert meter.peak_dbfs == pytest.approx(-20.0, abs=0.01)
    assert meter.rms_dbfs == pytest.approx(-23.01, abs=0.02)


def test_a_full_scale_square_reads_zero() -> None:
    meter = Meter()
    meter.feed(np.ones(480, np.float32))
    assert meter.rms_dbfs == pytest.approx(0.0, abs=1e-6)


def test_what_is_older_than_the_window_is_forgotten_to_the_sample() -> None:
    meter = Meter(window_ms=10)
    meter.feed(np.array([0.5], np.float32))
    meter.feed(np.zeros(479, np.float32))
    assert meter.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    meter.feed(np.zeros(1, np.float32))
    assert meter.peak_dbfs == FLOOR_DBFS
    assert meter.rms_dbfs == FLOOR_DBFS


def test_stereo_is_the_power_of_both_and_the_peak_of_the_louder() -> None:
    meter = Meter()
    one_sided = np.stack([np.full(480, 0.5), np.zeros(480)], axis=1).astype(np.float32)
    meter.feed(one_sided)
    assert meter.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert meter.rms_dbfs == pytest.approx(-9.03, abs=0.01)


def test_empty_blocks_change_nothing() -> None:
    meter = Meter()
    meter.feed(sine(480, 0.1))
    before = meter.rms_dbfs
    meter.feed(np.zeros(0, np.float32))
    assert meter.rms_dbfs == before


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="window"):
        Meter(window_ms=0)
