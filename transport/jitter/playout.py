"""Where in media time the loudspeaker is, and how fast it must read to stay there.

Three objects: the caller measures (which media time does the DAC reach with its next sample?),
`DriftServo` decides (a rate), `Playhead` applies it. The playhead runs in silence too, so the
sound card's crystal is known before the first word. A programme is read at playhead minus D.
"""

from dataclasses import dataclass

import numpy as np

from codec.format import SAMPLE_RATE
from transport.clock.timeline import split_samples_of_ns

_MAX_SLEW = 300e-6
_REANCHOR_SAMPLES = SAMPLE_RATE * 20 // 1000
# Beyond this, slewing at 300 ppm would take an hour: sound out of step is worse than a skip.
_HOPELESS_SAMPLES = SAMPLE_RATE
# Between two blocks the target moves by the block's length and the noise of the readings. More
# than this means that the device has missed some: the hole has been heard, so mend it at once.
_MISSED_SAMPLES = SAMPLE_RATE * 2 // 1000
# Radians a second of a critically damped loop. A 50 ppm crystal met unprepared is then at most
# 50e-6 / (e * 0.5) s = 37 us off, and 50 us of noise on each reading averages out.
_BANDWIDTH = 0.5


class DriftServo:
    """A proportional-integral loop from phase error to rate, without a dead band.

    `bandwidth` (rad/s) may be changed while it runs; `max_slew` is a ratio, as 300e-6.
    """

    def __init__(self, bandwidth: float = _BANDWIDTH, max_slew: float = _MAX_SLEW) -> None:
        self.bandwidth = bandwidth
        self._max_slew = max_slew
        self._drift = 0.0

    def update(self, error_samples: float, elapsed_samples: int) -> float:
        """How much faster than 1 to read; at most `max_slew` either way."""
        error_s = error_samples / SAMPLE_RATE
        elapsed_s = elapsed_samples / SAMPLE_RATE
        proportional = 2 * self.bandwidth * error_s
        drift = self._drift + self.bandwidth**2 * error_s * elapsed_s
        wanted = drift + proportional
        if abs(wanted) <= self._max_slew:
            self._drift = drift  # at the limit the integral must not wind up
        return float(np.clip(wanted, -self._max_slew, self._max_slew))


@dataclass(frozen=True, slots=True)
class Segment:
    """The media samples that one device block plays: `start + fraction + i * ratio`."""

    start: int
    fraction: float
    ratio: float
    samples: int
    error_samples: float
    reanchored: bool

    @property
    def end(self) -> int:
        """The media sample that the next block starts with, if the playhead does not jump."""
        return self.start + int(self.fraction + self.samples * self.ratio)

    def positions(self, origin: int) -> np.ndarray:
        """Positions relative to media sample `origin`, float64, one per device sample."""
        first = (self.start - origin) + self.fraction
        return first + self.ratio * np.arange(self.samples)


class Playhead:
    """Follows the media clock as the device clock pulls."""

    def __init__(self, servo: DriftServo | None) -> None:
        """Without a servo the device's own crystal is trusted: for showing why it cannot be."""
        self._servo = servo
        self._start: int | None = None
        self._fraction = 0.0
        self._expected = 0

    def forget(self) -> None:
        """The media clock is another one: the next block anchors anew."""
        self._start = None

    def advance(self, samples: int, target_media_ns: int, *, pause: bool) -> Segment:
        """The next `samples`, the first of which sounds when the media clock shows the target.

        In a `pause` nobody hears a skip, so an error above 20 ms is mended at once.
        """
        target, target_fraction = split_samples_of_ns(target_media_ns)
        error = 0.0
        reanchored = self._start is None
        if self._start is not None:
            error = (target - self._start) + (target_fraction - self._fraction)
            missed = abs(target - self._expected) > _MISSED_SAMPLES
            limit = _REANCHOR_SAMPLES if pause else _HOPELESS_SAMPLES
            reanchored = missed or abs(error) > limit
        self._expected = target + samples
        if self._start is None or reanchored:
            start, fraction = target, target_fraction
        else:
            start, fraction = self._start, self._fraction
        slew = 0.0
        if self._servo is not None and not reanchored:
            slew = self._servo.update(error, samples)
        segment = Segment(start, fraction, 1.0 + slew, samples, error, reanchored)
        whole, self._fraction = divmod(fraction + samples * (1.0 + slew), 1.0)
        self._start = start + int(whole)
        return segment
