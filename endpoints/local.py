"""Sounds of the loudspeaker's own: a test tone, and the beeps by which it says "here I am"."""

from dataclasses import dataclass

import numpy as np

from codec.dsp.fade import FADE_SAMPLES, Fader
from codec.dsp.meter import amplitude_of
from codec.format import SAMPLE_RATE, Samples, samples_of_ms

_AMPLITUDE = amplitude_of(-20.0)


@dataclass(frozen=True, slots=True)
class Tone:
    """A sine at -20 dBFS, in pieces of `on` samples every `period`, `samples` in all.

    Made piece by piece as it is played: a minute of it at once would stop the sound card.
    """

    frequency_hz: float
    samples: int
    on: int
    period: int

    def render(self, start: int, count: int) -> Samples:
        """`count` samples from sample `start` on; silence before, between and after."""
        index = np.arange(start, start + count, dtype=np.float64)
        at = np.mod(index, self.period)
        fade = np.clip(np.minimum(at, self.on - at) / FADE_SAMPLES, 0.0, 1.0)
        fade[index >= self.samples] = 0.0
        sound = np.sin(2 * np.pi * self.frequency_hz / SAMPLE_RATE * index)
        rendered: Samples = (_AMPLITUDE * fade * sound).astype(np.float32)
        return rendered


def line_up_tone(seconds: float) -> Tone:
    """1 kHz."""
    samples = max(round(seconds * SAMPLE_RATE), 1)
    return Tone(1000.0, samples, samples, samples)


def beeps() -> Tone:
    """Three short ones, half a second apart."""
    period = samples_of_ms(500)
    return Tone(880.0, 3 * period, samples_of_ms(200), period)


class LocalSound:
    """One sound at a time, which gives way to every programme."""

    def __init__(self) -> None:
        self._tone: Tone | None = None
        self._at = 0  # in the tone
        self._played = 0
        self._fader = Fader()

    def play(self, tone: Tone) -> None:
        """From now on; what played before is over."""
        self._tone, self._at = tone, 0

    def read(self, samples: int, *, alone: bool) -> Samples:
        """The next `samples`; silent, though it goes on, unless it is `alone`."""
        if self._fader.target != float(alone):
            self._fader.turn(float(alone), self._played)
        self._fader.is_silent(self._played, self._played)  # forgets what is past
        block = np.zeros(samples, np.float32)
        if self._tone is not None:
            block = self._tone.render(self._at, samples)
            block *= self._fader.gains(self._played, np.arange(samples, dtype=np.float64))
            self._at += samples
            self._tone = self._tone if self._at < self._tone.samples else None
        self._played += samples
        return block
