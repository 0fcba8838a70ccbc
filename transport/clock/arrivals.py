"""How our clock runs against the station's, from packets of sound that come one way, many a second.

The packet of media time m leaves the station at m plus a constant, and comes after its way. What
the constant is nobody here knows, but all neighbours hear the same one; and how the fastest packet
of each second moves against our clock is how our crystal runs, wander and all. With that taken out
of them, old exchanges bound the offset as well as new ones do.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_BIN_NS = 1_000_000_000
_BINS = 120
# Below this nothing is known that exchanges do not tell better.
_LEAST_BINS = 10
# A second in which too few packets came has no fastest one to speak of.
_LEAST_PACKETS = 5
# A rate that changes by so much within a second is usual: ns a second, each second.
_WANDER_NS = 100.0
_STAMP_NOISE_NS = 100.0
# Once nothing has come for so long, the stream is over.
_STALE_NS = 5_000_000_000
# A bin that is so many times the usual noise from the course is a queue's, and counts for little.
_FAR = 4.0
_REFITS = 3
# Of the second differences of white noise, the median without sign over the standard deviation.
_MEDIAN_OF_DIFFERENCES = 0.6745 * 6**0.5

_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """Where their clock was against ours, but for a constant, from `begin_ns` to `end_ns` of ours.

    `values_ns` are a second apart from the first on; before and after it goes straight on.
    """

    begin_ns: int
    values_ns: _Floats
    noise_ns: float

    @property
    def end_ns(self) -> int:
        """The newest time it is known for."""
        return self.begin_ns + (len(self.values_ns) - 1) * _BIN_NS

    @property
    def slope(self) -> float:
        """How fast it moves at its end: a skew."""
        return float(self.values_ns[-1] - self.values_ns[-2]) / _BIN_NS

    @property
    def slope_noise(self) -> float:
        """How far its mean slope may be from the truth: that of a line through so many points."""
        count = len(self.values_ns)
        return float(12**0.5 * self.noise_ns / _BIN_NS / count**1.5)

    def at(self, since_begin_ns: _Floats) -> _Floats:
        """Its value at these times after `begin_ns`."""
        places = since_begin_ns / _BIN_NS
        last = len(self.values_ns) - 1
        inside = np.interp(places, np.arange(last + 1), self.values_ns)
        first = self.values_ns[1] - self.values_ns[0]
        before, after = np.minimum(places, 0.0), np.maximum(places - last, 0.0)
        values: _Floats = inside + before * first + after * self.slope * _BIN_NS
        return values


class Arrivals:
    """The fastest packet of each of the last two minutes' seconds; of one stream at a time."""

    def __init__(self) -> None:
        self._stream: int | None = None
        # Of each second: how far ahead the fastest packet was, when it came, and how many came.
        self._bins: dict[int, tuple[int, int, int]] = {}

    def forget(self) -> None:
        """One of the clocks is another."""
        self._bins.clear()

    def add(self, stream: int, media_ns: int, arrived_ns: int) -> None:
        """The packet of this media time came, by our clock; another stream begins anew."""
        if stream != self._stream:
            self._stream = stream
            self._bins.clear()
        bin_, ahead_ns = arrived_ns // _BIN_NS, media_ns - arrived_ns
        best_ns, at_ns, count = self._bins.get(bin_, (ahead_ns, arrived_ns, 0))
        if ahead_ns > best_ns:
            best_ns, at_ns = ahead_ns, arrived_ns
        self._bins[bin_] = best_ns, at_ns, count + 1
        if not count and len(self._bins) > _BINS:
            del self._bins[min(self._bins)]

    def course(self, now_ns: int) -> Course | None:
        """What they tell now; None if it is too little, or of too long ago."""
        newest = now_ns // _BIN_NS
        whole = (b for b, (_, _, n) in self._bins.items() if n >= _LEAST_PACKETS)
        bins = sorted(b for b in whole if newest - _BINS <= b <= newest)
        if len(bins) < _LEAST_BINS or now_ns - (bins[-1] + 1) * _BIN_NS > _STALE_NS:
            return None
        best = [self._bins[b] for b in bins]
        begin_ns = bins[0] * _BIN_NS + _BIN_NS // 2
        values_ns = np.array([float(ahead_ns - best[0][0]) for ahead_ns, _, _ in best])
        times_ns = np.array([float(at_ns - begin_ns) for _, at_ns, _ in best])
        places = np.array(bins) - bins[0]
        # To the middles of their seconds: those of a quiet wire come all at one end.
        slope = float(np.median(np.diff(values_ns) / np.diff(times_ns)))
        values_ns += slope * (places * _BIN_NS - times_ns)
        smooth_ns, noise_ns = _smoothed(places, values_ns)
        return Course(begin_ns, smooth_ns, noise_ns)


def _smoothed(places: NDArray[np.int64], values: _Floats) -> tuple[_Floats, float]:
    """The likeliest course through values at these places, which may have gaps; and their noise.

    A Whittaker smoother: noise weighs against wander. Whoever is far away weighs less and less.
    """
    count = int(places[-1]) + 1
    bends = np.diff(values, 2)
    noise = float(np.median(np.abs(bends))) / _MEDIAN_OF_DIFFERENCES + _STAMP_NOISE_NS
    weights, wanted = np.zeros(count), np.zeros(count)
    weights[places], wanted[places] = 1.0, values
    smooth = wanted
    for _ in range(_REFITS):
        smooth = np.array(_whittaker(weights.tolist(), wanted.tolist(), (noise / _WANDER_NS) ** 2))
        far = np.maximum(np.abs(values - smooth[places]) / (_FAR * noise), 1.0)
        weights[places] = 1 / far**2
    return smooth, noise


def _whittaker(weights: list[float], values: list[float], stiffness: float) -> list[float]:
    """Least sum of weighted squares of distances, and of `stiffness` times those of bends.

    By the Cholesky factors (LDL) of a matrix of five diagonals, in place of a library's solver,
    which would start a thread on each processor for it.
    """
    count = len(weights)
    pivots, firsts, seconds = [0.0] * count, [0.0] * count, [0.0] * count
    solved = [0.0] * count
    for i in range(count):
        bends = min(i + 1, count - i, 3)  # how many second differences this one is part of
        pivot = weights[i] + stiffness * (1.0, 5.0, 6.0)[bends - 1]
        first = -2.0 * stiffness if i in (0, count - 2) else -4.0 * stiffness
        solved[i] = weights[i] * values[i]
        if i > 0:
            pivot -= firsts[i - 1] ** 2 * pivots[i - 1]
            first -= firsts[i - 1] * seconds[i - 1] * pivots[i - 1]
            solved[i] -= firsts[i - 1] * solved[i - 1]
        if i > 1:
            pivot -= seconds[i - 2] ** 2 * pivots[i - 2]
            solved[i] -= seconds[i - 2] * solved[i - 2]
        pivots[i], firsts[i], seconds[i] = pivot, first / pivot, stiffness / pivot
    for i in range(count - 1, -1, -1):
        solved[i] /= pivots[i]
        solved[i] -= firsts[i] * solved[i + 1] if i + 1 < count else 0.0
        solved[i] -= seconds[i] * solved[i + 2] if i + 2 < count else 0.0
    return solved
