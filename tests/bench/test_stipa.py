import numpy as np
import pytest

from bench.stipa import stipa, stipa_signal
from codec.format import SAMPLE_RATE, Samples


@pytest.fixture(scope="module")
def signal() -> Samples:
    return stipa_signal(20.0)


def test_the_signal_is_as_loud_as_it_says_and_the_same_for_the_same_seed(signal: Samples) -> None:
    assert np.sqrt(np.mean(np.square(signal))) == pytest.approx(0.1, rel=0.01)
    assert np.array_equal(signal, stipa_signal(20.0))
    assert not np.array_equal(signal, stipa_signal(20.0, seed=2))


def test_a_chain_that_changes_nothing_but_loudness_has_one(signal: Samples) -> None:
    assert stipa(signal, signal) == pytest.approx(1.0, abs=1e-6)
    assert stipa(signal, signal * np.float32(0.25)) == pytest.approx(1.0, abs=1e-3)


def test_noise_as_loud_as_the_signal_in_every_band_halves_it(signal: Samples) -> None:
    """At 0 dB half of each swell is left, whose index is a half by the standard's own formula."""
    spectrum = np.fft.rfft(signal)
    rng = np.random.default_rng(3)
    turned = np.abs(spectrum) * np.exp(2j * np.pi * rng.random(len(spectrum)))
    noise = np.fft.irfft(turned, len(signal)).astype(np.float32)
    assert stipa(signal, signal + noise) == pytest.approx(0.5, abs=0.02)


def test_an_echo_smooths_the_quick_swells(signal: Samples) -> None:
    echo = np.roll(signal, SAMPLE_RATE // 10)
    assert 0.4 < stipa(signal, signal + echo) < 0.9


def test_what_has_no_swells_has_none(signal: Samples) -> None:
    steady = np.random.default_rng(1).normal(0, 0.1, len(signal)).astype(np.float32)
    assert stipa(signal, steady) < 0.1
    assert stipa(signal, np.zeros_like(signal)) == 0.0


def test_what_is_too_short_or_not_as_long_is_refused(signal: Samples) -> None:
    with pytest.raises(ValueError, match="too short"):
        stipa_signal(1.0)
    with pytest.raises(ValueError, match="as long"):
        stipa(signal, signal[:-1])
