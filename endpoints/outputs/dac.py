"""When a sound card's samples sound: a smooth line through noisy readings, broken by real jumps.

A reading says when the sample with a certain number sounds. Readings are noisy (tens of
microseconds through PulseAudio, more where the processor was taken away meanwhile), and the line
must be smooth, for the player mends every jump of 2 ms at once. But when the card has skipped or
moved, the line has to follow, and soon.
"""

from dataclasses import dataclass

from codec.format import SAMPLE_RATE
from transport.clock.timeline import NS_PER_MS, ns_of_samples

# Further than this from the line, a reading is either wrong or the first after a jump.
_JUMP_NS = 1 * NS_PER_MS
# A jump is believed when so many readings in a row, over so long, agree about it. While a card is
# being filled it asks many times within a millisecond, and knows nothing of when it will sound.
_WITNESSES = 3
_WITNESSED_NS = 4 * NS_PER_MS
# Noise is averaged over so long. A crystal 50 ppm off puts the line 50e-6 * 0.25 s = 13 us behind,
# for ever the same, so loudspeakers of one make are alike in it.
_SMOOTH_SAMPLES = SAMPLE_RATE // 4


@dataclass(frozen=True, slots=True)
class Reading:
    """Sample `index` of the card sounds at `sounds_ns`, as it seemed at `taken_ns`."""

    index: int
    sounds_ns: int
    taken_ns: int

    @property
    def start_ns(self) -> int:
        """When sample 0 would have sounded, had the card played at its nominal rate."""
        return self.sounds_ns - ns_of_samples(self.index)


class DacClock:
    """Pure: readings in, predictions out. Times are nanoseconds of the caller's clock."""

    def __init__(self) -> None:
        self._start_ns: int | None = None
        self._shift_ns = 0.0  # apart, so that smoothing does not round to whole nanoseconds
        self._last_index = 0
        self._smoothed = 0
        self._witnesses: list[Reading] = []

    @property
    def known(self) -> bool:
        """Whether there is a line yet."""
        return self._start_ns is not None

    def sounds_at_ns(self, index: int) -> int:
        """When sample `index` will sound; ValueError while nothing is known."""
        if self._start_ns is None:
            raise ValueError("no readings yet")
        return self._start_ns + round(self._shift_ns) + ns_of_samples(index)

    def read(self, reading: Reading) -> None:
        """Take one more reading, in the order they were made."""
        if self._start_ns is not None:
            apart_ns = reading.start_ns - self._start_ns - self._shift_ns
            if abs(apart_ns) <= _JUMP_NS:
                self._smooth(reading.index, apart_ns)
                return
        self._witness(reading)

    def _smooth(self, index: int, apart_ns: float) -> None:
        self._witnesses.clear()
        elapsed = index - self._last_index
        self._last_index = index
        # At first the mean of all so far, later an exponential average.
        self._smoothed = min(self._smoothed + elapsed, _SMOOTH_SAMPLES)
        if self._smoothed:
            self._shift_ns += apart_ns * min(elapsed / self._smoothed, 1.0)

    def _witness(self, reading: Reading) -> None:
        if self._witnesses:
            previous_ns = self._witnesses[-1].start_ns
            if abs(reading.start_ns - previous_ns) > _JUMP_NS:
                self._witnesses.clear()
        self._witnesses.append(reading)
        first = self._witnesses[0]
        lasted_ns = reading.taken_ns - first.taken_ns
        if len(self._witnesses) < _WITNESSES or lasted_ns < _WITNESSED_NS:
            del self._witnesses[1:-_WITNESSES]
            return
        # The last one: a card that has just begun is surer with every reading.
        self._start_ns, self._shift_ns = reading.start_ns, 0.0
        self._last_index, self._smoothed = reading.index, reading.index - first.index
        self._witnesses.clear()
