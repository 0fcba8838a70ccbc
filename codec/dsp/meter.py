"""How loud it is now."""

import math
from typing import Final

import numpy as np

from codec.format import Samples, samples_of_ms

# What silence reads: the noise floor of 16 bits, and a number a meter can draw.
FLOOR_DBFS: Final = -96.0


def dbfs(amplitude: float) -> float:
    """Express an amplitude in decibels re full scale (1.0), never under the floor."""
    if amplitude <= 0.0:
        return FLOOR_DBFS
    return max(FLOOR_DBFS, 20.0 * math.log10(amplitude))


def amplitude_of(level_dbfs: float) -> float:
    """Give the amplitude that reads `level_dbfs`."""
    return float(10.0 ** (level_dbfs / 20.0))


class Meter:
    """RMS and peak over the last `window_ms` of what was fed.

    The reference is amplitude 1.0, so a full-scale sine reads peak 0 and RMS -3.01 dBFS. Stereo
    is one reading: the RMS over both channels, the peak of the louder. Until the window has
    filled once, the readings are over what has come.
    """

    def __init__(self, window_ms: float = 300) -> None:
        size = samples_of_ms(window_ms)
        if size == 0:
            msg = "a meter needs a window"
            raise ValueError(msg)
        self._energy = np.zeros(size, np.float32)  # mean square of each sample's channels
        self._peak = np.zeros(size, np.float32)
        self._next = 0
        self._filled = 0

    def feed(self, block: Samples) -> None:
        """Take a block of any length, (n,) or (n, 2)."""
        size = len(self._energy)
        # Of a block longer than the window only its end can matter.
        channels = (block if block.ndim == 2 else block[:, np.newaxis])[-size:]
        where = (self._next + np.arange(len(channels))) % size
        self._energy[where] = np.mean(channels * channels, axis=1)
        self._peak[where] = np.max(np.abs(channels), axis=1)
        self._next = (self._next + len(channels)) % size
        self._filled = min(size, self._filled + len(channels))

    @property
    def rms_dbfs(self) -> float:
        """Root mean square over the window, in dBFS; -96 for silence."""
        if self._filled == 0:
            return FLOOR_DBFS
        # Slots not yet filled hold zero, so the sum is right and only the divisor changes.
        return dbfs(math.sqrt(float(np.sum(self._energy, dtype=np.float64)) / self._filled))

    @property
    def peak_dbfs(self) -> float:
        """Largest magnitude in the window, in dBFS; -96 for silence."""
        return dbfs(float(self._peak.max()))
