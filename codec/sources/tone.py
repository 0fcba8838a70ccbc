"""A sine, for tests, line-up and the loudspeaker that nobody has heard yet."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from codec.dsp.meter import amplitude_of
from codec.format import SAMPLE_RATE, Samples, samples_of_ms

# Long enough not to click.
_FADE_SAMPLES: Final = samples_of_ms(5)


class ToneSource:
    """A sine whose peak is `level_dbfs`, alike on every channel, for ever if `seconds` is None.

    Computed from the sample's index alone, so it has no seam between blocks, however long they
    are, and any sample of it can be predicted.
    """

    def __init__(
        self,
        frequency_hz: float = 440,
        level_dbfs: float = -20,
        channels: int = 1,
        seconds: float | None = None,
    ) -> None:
        if not 0 < frequency_hz < SAMPLE_RATE / 2:
            msg = f"frequency_hz must be between 0 and {SAMPLE_RATE // 2}, not {frequency_hz}"
            raise ValueError(msg)
        if level_dbfs > 0 or channels not in {1, 2}:
            msg = f"level_dbfs must be <= 0 and channels 1 or 2, not {level_dbfs}, {channels}"
            raise ValueError(msg)
        self._frequency_hz = frequency_hz
        self._amplitude = amplitude_of(level_dbfs)
        self._channels = channels
        self._total = None if seconds is None else round(seconds * SAMPLE_RATE)

    def __iter__(self) -> Iterator[Samples]:
        """Blocks of 10 ms, from the beginning."""
        return self.blocks(samples_of_ms(10))

    def blocks(self, samples: int) -> Iterator[Samples]:
        """Blocks of `samples`, from the beginning; the last may be shorter."""
        start = 0
        while self._total is None or start < self._total:
            count = samples if self._total is None else min(samples, self._total - start)
            yield self._render(start, count)
            start += count

    def _render(self, start: int, count: int) -> Samples:
        index = np.arange(start, start + count, dtype=np.float64)
        # Reduced before it is scaled: the phase stays exact for years.
        cycles = np.mod(index * self._frequency_hz, SAMPLE_RATE) / SAMPLE_RATE
        fade = np.minimum(1.0, index / _FADE_SAMPLES)
        tone = (self._amplitude * fade * np.sin(2.0 * np.pi * cycles)).astype(np.float32)
        return tone if self._channels == 1 else np.repeat(tone[:, np.newaxis], 2, axis=1)
