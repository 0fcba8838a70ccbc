"""How much of the modulation that carries speech a chain keeps: STIPA by IEC 60268-16.

The test signal is noise in seven octave bands from 125 Hz to 8 kHz, as loud to each other as in a
man's speech, each band swelling at two rates of its own. The share of each swell that arrives makes
the index, 0 to 1; from 0.75 on speech is understood excellently. What depends on how loud it is in
a room is left out, for this is a measure of a chain without one: there is no masking, and in place
of the threshold of hearing a floor so far below the whole sound. The swells are compared with those
that were sent, so that noise's own fluctuations cancel.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from codec.format import SAMPLE_RATE, Samples

# Band centre in Hz: (level in dB, the two rates of modulation in Hz, weight, redundancy with the
# next band); IEC 60268-16:2011, annexes A, B and C.
_BANDS: Final = (
    (125.0, 2.9, (1.60, 8.00), 0.085, 0.085),
    (250.0, 2.9, (1.00, 5.00), 0.127, 0.078),
    (500.0, -0.8, (0.63, 3.15), 0.230, 0.065),
    (1_000.0, -6.8, (2.00, 10.0), 0.233, 0.011),
    (2_000.0, -12.8, (1.25, 6.25), 0.309, 0.047),
    (4_000.0, -18.8, (0.80, 4.00), 0.224, 0.095),
    (8_000.0, -24.8, (2.50, 12.5), 0.173, 0.0),
)
_DEPTH = 0.55
_LEVEL = 0.1  # RMS: peaks are some 14 dB above, and stay within full scale
_MOST_SNR_DB = 15.0
_LEAST_S = 10.0
# Of the power of all that is heard: for speech of 65 dB, what a quiet ear just hears at 1 kHz.
_FLOOR = 1e-6
_STEP = 240  # samples of one value of an envelope: 5 ms, of swells of 80 ms or more
_Floats = NDArray[np.float64]


def stipa_signal(seconds: float, seed: int = 1) -> Samples:
    """The test signal, RMS -20 dBFS, of 10 s or more (ValueError): the longer, the less chance."""
    if seconds < _LEAST_S:
        raise ValueError(f"a STIPA signal of {seconds:g} s is too short: {_LEAST_S:g} or more")
    count = round(seconds * SAMPLE_RATE)
    rng = np.random.default_rng(seed)
    at = np.arange(count) / SAMPLE_RATE
    total = np.zeros(count)
    for centre, level_db, (slow, fast), *_ in _BANDS:
        # Half an octave of noise in the middle of each octave: bands do not run into each other.
        carrier = _band(rng.standard_normal(count), centre, 0.25)
        carrier *= 10 ** (level_db / 20) / np.sqrt(np.mean(np.square(carrier)))
        swell = np.sin(2 * np.pi * slow * at) - np.sin(2 * np.pi * fast * at)
        total += carrier * np.sqrt(0.5 * (1 + _DEPTH * swell))
    scaled: Samples = (total * (_LEVEL / np.sqrt(np.mean(np.square(total))))).astype(np.float32)
    return scaled


def stipa(sent: Samples, heard: Samples) -> float:
    """The index, 0 to 1, of what was heard of a test signal: both 48 kHz, aligned, as long.

    ValueError if they are of different lengths or too short.
    """
    if len(sent) != len(heard) or len(sent) < _LEAST_S * SAMPLE_RATE:
        raise ValueError(f"STIPA compares two signals as long, of {_LEAST_S:g} s or more")
    before, after = _envelopes(sent), _envelopes(heard)
    floor = _FLOOR * sum(float(np.mean(band)) for band in after)
    kept = [
        _transferred(before[band], after[band] + floor, rates)
        for band, (_, _, rates, *_) in enumerate(_BANDS)
    ]
    index = sum(alpha * share for share, (_, _, _, alpha, _) in zip(kept, _BANDS, strict=True))
    for share, following, (*_, beta) in zip(kept, kept[1:], _BANDS, strict=False):
        index -= beta * float(np.sqrt(share * following))
    return float(np.clip(index, 0.0, 1.0))


def _envelopes(sound: Samples) -> list[_Floats]:
    """Each band's intensity, every 5 ms; a whole octave, as the standard's filters are."""
    spectrum = np.fft.rfft(sound)
    bands = (_cut(spectrum, len(sound), centre, 0.5) for centre, *_ in _BANDS)
    whole = len(sound) // _STEP * _STEP
    return [np.square(band[:whole]).reshape(-1, _STEP).mean(axis=1) for band in bands]


def _transferred(before: _Floats, after: _Floats, rates: tuple[float, float]) -> float:
    """The band's modulation transfer index, 0 to 1: the mean over its two rates."""
    indexes = []
    for rate in rates:
        ratio = _depth(after, rate) / max(_depth(before, rate), 1e-12)
        share = float(np.clip(ratio, 1e-6, 1 - 1e-6))
        snr_db = float(np.clip(10 * np.log10(share / (1 - share)), -_MOST_SNR_DB, _MOST_SNR_DB))
        indexes.append((snr_db + _MOST_SNR_DB) / (2 * _MOST_SNR_DB))
    return float(np.mean(indexes))


def _depth(intensity: _Floats, rate: float) -> float:
    """How deep an intensity swells at a rate, over a whole number of its periods; 0 in silence."""
    each_s = _STEP / SAMPLE_RATE
    count = round(int(len(intensity) * each_s * rate) / rate / each_s)
    whole = float(np.sum(intensity[:count]))
    turns = np.exp(-2j * np.pi * rate * each_s * np.arange(count))
    return 2 * abs(complex(np.dot(intensity[:count], turns))) / whole if whole > 0 else 0.0


def _band(sound: _Floats, centre: float, half_octaves: float) -> _Floats:
    """What lies within so many octaves to either side."""
    return _cut(np.fft.rfft(sound), len(sound), centre, half_octaves)


def _cut(
    spectrum: NDArray[np.complexfloating], count: int, centre: float, half_octaves: float
) -> _Floats:
    frequencies = np.fft.rfftfreq(count, 1 / SAMPLE_RATE)
    low, high = (centre * 2.0**octaves for octaves in (-half_octaves, half_octaves))
    inside = (frequencies >= low) & (frequencies < high)
    return np.fft.irfft(np.where(inside, spectrum, 0), count)
