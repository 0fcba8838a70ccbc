"""Whether a source that goes on has gone quiet."""

import math
from typing import Final, Literal

import numpy as np

from codec.dsp.meter import amplitude_of
from codec.format import SAMPLE_RATE, Samples, samples_of_ms

Change = Literal["silence", "sound"]

_WINDOW_SAMPLES: Final = samples_of_ms(20)


class SilenceDetector:
    """Says so once when the level has stayed below a threshold for so long, and once when not.

    The level is the RMS over 20 ms, of the louder channel, without its mean: the constant offset
    of an open input is no sound. ValueError for times and thresholds that cannot be.
    """

    def __init__(self, seconds: float = 10.0, threshold_dbfs: float = -60.0) -> None:
        if not (math.isfinite(seconds) and seconds > 0 and threshold_dbfs < 0):
            msg = f"seconds must be > 0 and threshold_dbfs < 0, not {seconds}, {threshold_dbfs}"
            raise ValueError(msg)
        self.seconds: Final = seconds
        self.silent = False
        self._needed = seconds * SAMPLE_RATE
        self._threshold = amplitude_of(threshold_dbfs)
        self._held = np.zeros((0, 1), np.float32)
        self._quiet_samples = 0

    def feed(self, block: Samples) -> Change | None:
        """Take a block of any length, (n,) or (n, 2); the state it led to, if that is new."""
        columns = block if block.ndim == 2 else block[:, np.newaxis]
        if columns.shape[1] != self._held.shape[1]:
            self._held = np.zeros((0, columns.shape[1]), np.float32)
        held = np.concatenate([self._held, columns])
        whole = len(held) - len(held) % _WINDOW_SAMPLES
        self._held = held[whole:].copy()
        if not whole:
            return None
        self._count(held[:whole].reshape(-1, _WINDOW_SAMPLES, held.shape[1]))
        silent = self._quiet_samples >= self._needed
        if silent == self.silent:
            return None
        self.silent = silent
        return "silence" if silent else "sound"

    def _count(self, windows: Samples) -> None:
        # The standard deviation is the RMS without the mean. Written so that NaN is loud.
        levels = windows.std(axis=1, dtype=np.float64).max(axis=1)
        (loud,) = np.nonzero(~(levels < self._threshold))
        if len(loud):
            self._quiet_samples = (len(levels) - 1 - int(loud[-1])) * _WINDOW_SAMPLES
        else:
            self._quiet_samples += len(levels) * _WINDOW_SAMPLES
