"""Oscillators that are wrong in their own way, on virtual time: of machines and of sound cards.

True time is what a simulation counts in. It is the station's media time too, but for
`MEDIA_EPOCH_NS`: all that can be wrong about one clock seen from another is in the loudspeakers'.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.network import SECOND
from codec.format import SAMPLE_RATE

# What the station's media clock shows when true time is 0.
MEDIA_EPOCH_NS = 1_790_000_000 * SECOND
_PPM = 1e-6
# What a room does to a crystal: slowly with the heating, faster with the sun or the processor.
# Their rates change by up to 2.5e-8 and 2.1e-8 a second.
_SLOW_PPM, _SLOW_S = 0.8, (200.0, 600.0)
_FAST_PPM, _FAST_S = 0.1, (30.0, 90.0)
# Unknown clock offsets.
_OFFSET_S = 10.0
_STEPS_TO_INVERT = 4


class OwnTime(Protocol):
    """What a loudspeaker reads the time from."""

    def of_true(self, true_ns: int) -> int:
        """What it shows at a true time."""


@dataclass(frozen=True, slots=True)
class Wave:
    """A rate that swings by `ppm` either way within `period_s`."""

    ppm: float
    period_s: float
    phase: float


@dataclass(frozen=True, slots=True)
class Oscillator:
    """Off by `offset_s` at true time 0, fast by `ppm`, and wandering.

    Closed form, so that the truth is known to the nanosecond at any time.
    """

    offset_s: float = 0.0
    ppm: float = 0.0
    waves: tuple[Wave, ...] = ()

    def of_true(self, true_ns: int) -> int:
        """What a clock that runs by it shows, in nanoseconds."""
        drift_ns = float(self._ahead_s(np.array(true_ns / SECOND))) * SECOND
        return true_ns + round(self.offset_s * SECOND) + round(drift_ns)

    def samples_at(self, true_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Samples that a card which runs by it has played at these true times."""
        samples: NDArray[np.float64] = SAMPLE_RATE * (true_s + self._ahead_s(true_s))
        return samples

    def seconds_at(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """True times at which such a card has played so many samples."""
        seconds = samples / SAMPLE_RATE
        for _ in range(_STEPS_TO_INVERT):  # a contraction by a factor of 10**4 or more each
            seconds = seconds - (self.samples_at(seconds) - samples) / SAMPLE_RATE
        return seconds

    def _ahead_s(self, true_s: NDArray[np.float64]) -> NDArray[np.float64]:
        ahead_s = true_s * (self.ppm * _PPM)
        for wave in self.waves:
            speed = 2 * math.pi / wave.period_s
            swing = math.cos(wave.phase) - np.cos(speed * true_s + wave.phase)
            ahead_s = ahead_s + wave.ppm * _PPM / speed * swing
        return ahead_s


def draw_oscillator(rng: np.random.Generator, most_ppm: float) -> Oscillator:
    """Any crystal within `most_ppm`, in any room, and set to any time within 10 s."""
    offset, skew = rng.uniform(-1, 1, 2)
    waves = tuple(
        Wave(ppm, float(rng.uniform(*periods)), float(rng.uniform(0, 2 * math.pi)))
        for ppm, periods in ((_SLOW_PPM, _SLOW_S), (_FAST_PPM, _FAST_S))
    )
    return Oscillator(float(offset) * _OFFSET_S, float(skew) * most_ppm, waves)
