"""Reading a signal between its samples, to follow a sound card's clock.

A loudspeaker must know to the fraction of a sample which moment of the programme it is playing;
otherwise neighbours drift apart inside the resampler. So this takes the exact positions to read
at and holds no state. A streaming resampler such as soxr in variable-rate mode takes a rate, and
keeps the position it has reached, and its delay, to itself: that is why Loa has its own. Each
value is a Kaiser-windowed sinc over the 32 nearest samples. For drifts of tens to 300 ppm there
is nothing to filter out above the new Nyquist frequency, so one kernel serves every rate.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from codec.format import Samples

# Samples used on each side of a position.
HALF_TAPS: Final = 16
# Kernels stored per sample. Between them we go linearly, an error of (w / PHASES)^2 / 8: -115 dB
# at 15 kHz.
_PHASES: Final = 512
# 90 dB of stopband; with 32 taps the transition begins near 19.6 kHz.
_KAISER_BETA: Final = 9.0


def _kernels() -> npt.NDArray[np.float32]:
    """One kernel per phase, phases 0 to 1 inclusive, each with unity gain at DC."""
    taps = np.arange(-HALF_TAPS + 1, HALF_TAPS + 1)
    distance = taps[np.newaxis, :] - np.linspace(0.0, 1.0, _PHASES + 1)[:, np.newaxis]
    inside = np.maximum(0.0, 1.0 - (distance / HALF_TAPS) ** 2)
    kernels = np.sinc(distance) * np.i0(_KAISER_BETA * np.sqrt(inside))
    # Without this, a constant would ripple by the window's truncation error.
    kernels /= kernels.sum(axis=1, keepdims=True)
    return kernels.astype(np.float32)


_KERNELS: Final = _kernels()
_STEPS: Final = np.diff(_KERNELS, axis=0)


def interpolate(history: Samples, positions: npt.NDArray[np.float64]) -> Samples:
    """Read the band-limited signal through `history` (mono) at fractional indices `positions`.

    Each position lies in [HALF_TAPS - 1, len(history) - HALF_TAPS - 1], in any order; ValueError
    otherwise. Whole positions give the samples themselves. Error below -80 dB up to 15 kHz.
    """
    if history.ndim != 1 or positions.ndim != 1:
        msg = f"history and positions are one-dimensional, not {history.ndim}, {positions.ndim}"
        raise ValueError(msg)
    if positions.size == 0:
        return np.zeros(0, np.float32)
    low, high = HALF_TAPS - 1, len(history) - HALF_TAPS - 1
    # Written so that NaN fails too.
    if not (positions.min() >= low and positions.max() <= high):
        msg = f"positions must lie in [{low}, {high}]"
        raise ValueError(msg)
    whole = np.floor(positions)
    phase = (positions - whole) * _PHASES
    row = phase.astype(np.intp)
    along = (phase - row).astype(np.float32)
    kernels = _STEPS[row]
    kernels *= along[:, np.newaxis]
    kernels += _KERNELS[row]
    windows = np.lib.stride_tricks.sliding_window_view(history, 2 * HALF_TAPS)
    first = whole.astype(np.intp) - (HALF_TAPS - 1)
    value: Samples = np.einsum("ij,ij->i", windows[first], kernels)
    return value
