"""An attention chime: two struck bells, the lower after the higher, made here from nothing."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from codec.dsp.meter import amplitude_of
from codec.format import SAMPLE_RATE, Samples, samples_of_ms

LEVEL_DBFS: Final = -6.0
"""Its peak, unless another is asked for: above speech, below every limiter's ceiling."""

CHIME_SAMPLES: Final = samples_of_ms(2_000)

# When each bell is struck (s), its pitch (Hz): a falling major third, which calls and does not
# alarm.
_STRIKES: Final = ((0.0, 659.255), (0.6, 523.251))
# A tubular bell's partials as the ear keeps them: frequency ratio, amplitude, decay time (s). The
# higher ones die first, or it would ring like a wire.
_PARTIALS: Final = ((1.0, 1.0, 0.50), (2.0, 0.35, 0.30), (2.76, 0.20, 0.16), (5.40, 0.08, 0.06))
# The mallet: long enough not to click, short enough to be a strike.
_ATTACK_S: Final = 0.004
_FADE_S: Final = 0.25


def chime(level_dbfs: float = LEVEL_DBFS) -> Samples:
    """The chime, mono (CHIME_SAMPLES,), its peak at `level_dbfs`; begins and ends at nought.

    ValueError for a level above 0.
    """
    if not level_dbfs <= 0:
        msg = f"level_dbfs must be <= 0, not {level_dbfs}"
        raise ValueError(msg)
    seconds = np.arange(CHIME_SAMPLES) / SAMPLE_RATE
    sound = sum(_bell(seconds - struck, pitch) for struck, pitch in _STRIKES)
    sound = sound * _raised_cosine((seconds[-1] - seconds) / _FADE_S)
    loudest = float(np.max(np.abs(sound)))
    scaled: Samples = (sound * (amplitude_of(level_dbfs) / loudest)).astype(np.float32)
    return scaled


def _bell(seconds: npt.NDArray[np.float64], pitch_hz: float) -> npt.NDArray[np.float64]:
    """One strike at second 0, nothing before it."""
    since = np.maximum(seconds, 0.0)
    ringing = sum(
        amplitude * np.exp(-since / decay_s) * np.sin(2 * math.pi * pitch_hz * ratio * since)
        for ratio, amplitude, decay_s in _PARTIALS
    )
    struck: npt.NDArray[np.float64] = _raised_cosine(since / _ATTACK_S) * ringing
    return struck


def _raised_cosine(along: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """From 0 to 1 without a corner while `along` goes from 0 to 1."""
    shape: npt.NDArray[np.float64] = (1.0 - np.cos(math.pi * np.clip(along, 0.0, 1.0))) / 2.0
    return shape


class ChimeSource:
    """The chime as a source, alike on every channel; ends after CHIME_SAMPLES."""

    def __init__(self, level_dbfs: float = LEVEL_DBFS, channels: int = 1) -> None:
        if channels not in {1, 2}:
            msg = f"channels must be 1 or 2, not {channels}"
            raise ValueError(msg)
        mono = chime(level_dbfs)
        self._sound = mono if channels == 1 else np.repeat(mono[:, np.newaxis], 2, axis=1)

    def __iter__(self) -> Iterator[Samples]:
        """Blocks of 10 ms, from the beginning."""
        return self.blocks(samples_of_ms(10))

    def blocks(self, samples: int) -> Iterator[Samples]:
        """Blocks of `samples`, from the beginning; the last may be shorter."""
        for start in range(0, len(self._sound), samples):
            yield self._sound[start : start + samples]
