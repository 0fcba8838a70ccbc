"""Sounds of the loudspeaker's own: a test tone, and the beeps by which it says "here I am"."""

import numpy as np

from codec.dsp.fade import FADE_SAMPLES, Fader
from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from codec.sources.tone import ToneSource

_TONE_HZ = 1000.0
_TONE_DBFS = -20.0
_BEEP_HZ = 880.0
_BEEPS = 3


def line_up_tone(seconds: float) -> Samples:
    """A line-up tone: 1 kHz at -20 dBFS."""
    return _faded(_TONE_HZ, _TONE_DBFS, round(seconds * SAMPLE_RATE))


def beeps() -> Samples:
    """Three short ones, half a second apart."""
    beep = _faded(_BEEP_HZ, _TONE_DBFS, samples_of_ms(200))
    pause = np.zeros(samples_of_ms(300), np.float32)
    return np.concatenate([beep, pause] * _BEEPS)


def _faded(frequency_hz: float, level_dbfs: float, samples: int) -> Samples:
    if samples == 0:
        return np.zeros(0, np.float32)
    tone = next(ToneSource(frequency_hz, level_dbfs).blocks(samples))
    tail = min(FADE_SAMPLES, samples)
    tone[-tail:] *= np.linspace(1, 0, tail, dtype=np.float32)
    return tone


class LocalSound:
    """One sound at a time, which gives way to every programme."""

    def __init__(self) -> None:
        self._left = np.zeros(0, np.float32)
        self._played = 0
        self._fader = Fader()

    def play(self, samples: Samples) -> None:
        """From now on; what played before is over."""
        self._left = samples

    def read(self, samples: int, *, alone: bool) -> Samples:
        """The next `samples`; silent, though it goes on, unless it is `alone`."""
        if self._fader.target != float(alone):
            self._fader.turn(float(alone), self._played)
        offsets = np.arange(samples, dtype=np.float64)
        block = np.zeros(samples, np.float32)
        now, self._left = self._left[:samples], self._left[samples:]
        self._fader.is_silent(self._played, self._played)  # forgets what is past
        block[: len(now)] = now
        block *= self._fader.gains(self._played, offsets)
        self._played += samples
        return block
