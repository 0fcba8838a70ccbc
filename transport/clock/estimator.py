"""Another clock's time, from exchanges: a two-direction lower envelope with a skew term.

Each exchange bounds the offset (their clock minus ours) from both sides: `t2 - t1` is the offset
plus the way there, `t3 - t4` the offset minus the way back, and no packet travels in negative
time. The estimate is the middle of the widest straight corridor between the two clouds of bounds:
only the fastest packets touch it, so queueing moves it little. Bounds loosen with age, because a
crystal wanders; that is also what ends the window.
"""

from dataclasses import dataclass

import numpy as np

from transport.clock.exchange import Exchange

_WINDOW_NS = 120_000_000_000
_CAPACITY = 400
# Two crystals of 100 ppm each, and room to see that one of them is broken.
_MAX_SKEW = 500e-6
# A slope from a shorter span would be the jitter's, not the crystal's. Until then bounds loosen
# with age as fast as two ordinary crystals may drift apart, so that only the newest count.
_MIN_SPAN_NS = 3_000_000_000
_UNKNOWN_SKEW = 100e-6
_MIN_EXCHANGES = 4
# How fast a crystal's rate wanders, per second: 0.5 * a * age**2 is what an old bound may be off.
_WANDER_PER_S = 2e-8
# An exchange that contradicts the estimate by more than its own round trip and this is a step.
_STEP_NS = 2_000_000
_STEPS_TO_RESET = 3


@dataclass(frozen=True, slots=True)
class ClockEstimate:
    """Theirs = ours + offset, `offset` moving with `skew` (dimensionless) from `at_ns` on."""

    at_ns: int
    offset_ns: float
    base_ns: int
    skew: float
    uncertainty_ns: float

    def theirs(self, ours_ns: int) -> int:
        """Their clock's reading when ours reads `ours_ns`."""
        drift = self.offset_ns + self.skew * (ours_ns - self.at_ns)
        return ours_ns + self.base_ns + round(drift)

    def ours(self, theirs_ns: int) -> int:
        """Our clock's reading when theirs reads `theirs_ns`."""
        guess = theirs_ns - self.base_ns - round(self.offset_ns)
        return guess - round(self.skew * (guess - self.at_ns))


class ClockEstimator:
    """Holds a bounded window of exchanges and the newest estimate."""

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._base_ns = 0
        self._epoch_ns = 0
        self._clock_set_ns: int | None = None
        self._rows: list[tuple[float, float, float, float]] = []
        self._skew = 0.0
        self._contradictions = 0
        self.estimate: ClockEstimate | None = None

    @property
    def exchanges(self) -> int:
        """How many exchanges the estimate rests on."""
        return len(self._rows)

    def add(self, exchange: Exchange) -> bool:
        """Take one exchange in; true if everything known before had to be forgotten."""
        forgot = False
        if exchange.clock_set_ns != self._clock_set_ns or self._stepped(exchange):
            forgot = self._clock_set_ns is not None
            self._clear()
            self._clock_set_ns = exchange.clock_set_ns
            self._base_ns = exchange.t2_ns - exchange.t1_ns
            self._epoch_ns = exchange.t1_ns
        if self._contradictions:
            return forgot
        self._rows.append(
            (
                float(exchange.t1_ns - self._epoch_ns),
                float(exchange.t2_ns - exchange.t1_ns - self._base_ns),
                float(exchange.t4_ns - self._epoch_ns),
                float(exchange.t3_ns - exchange.t4_ns - self._base_ns),
            )
        )
        self._expire(exchange.t4_ns - self._epoch_ns)
        if len(self._rows) >= _MIN_EXCHANGES:
            self.estimate = self._fit()
        return forgot

    def _stepped(self, exchange: Exchange) -> bool:
        """Whether one of the clocks has jumped: several exchanges in a row say so."""
        if self.estimate is None:
            return False
        middle_ns = (exchange.t1_ns + exchange.t4_ns) // 2
        error = (exchange.t2_ns + exchange.t3_ns) / 2 - self.estimate.theirs(middle_ns)
        if abs(error) <= exchange.round_trip_ns / 2 + _STEP_NS:
            self._contradictions = 0
            return False
        self._contradictions += 1
        return self._contradictions >= _STEPS_TO_RESET

    def _expire(self, now: float) -> None:
        while self._rows[0][0] < now - _WINDOW_NS or len(self._rows) > _CAPACITY:
            self._rows.pop(0)

    def _fit(self) -> ClockEstimate:
        rows = np.array(self._rows)
        now = rows[-1, 2]
        # Ages in seconds keep the allowance's square well scaled.
        ages_there, ages_back = (now - rows[:, 0]) / 1e9, (now - rows[:, 2]) / 1e9
        upper = rows[:, 1] + 0.5e9 * _WANDER_PER_S * ages_there**2
        lower = rows[:, 3] - 0.5e9 * _WANDER_PER_S * ages_back**2
        if rows[-1, 0] - rows[0, 0] < _MIN_SPAN_NS:
            upper += _UNKNOWN_SKEW * ages_there * 1e9
            lower -= _UNKNOWN_SKEW * ages_back * 1e9
        else:
            self._skew = _widest_corridor(ages_there * 1e9, upper, ages_back * 1e9, lower)
        # Ages count backwards, hence the plus: a bound of then, carried forward to now.
        ceiling = float(np.min(upper + self._skew * ages_there * 1e9))
        floor = float(np.max(lower + self._skew * ages_back * 1e9))
        return ClockEstimate(
            at_ns=self._epoch_ns + round(now),
            offset_ns=(ceiling + floor) / 2,
            base_ns=self._base_ns,
            skew=self._skew,
            uncertainty_ns=max(ceiling - floor, 0.0) / 2,
        )


def _widest_corridor(
    ages_there: np.ndarray, upper: np.ndarray, ages_back: np.ndarray, lower: np.ndarray
) -> float:
    """The slope whose corridor between the bounds is widest.

    The width at a slope is a minimum of straight lines, so it is concave and a golden-section
    search finds its top; 40 steps narrow 1000 ppm to far below 1e-9.
    """

    def width(skew: float) -> float:
        ceiling = np.min(upper + skew * ages_there)
        return float(ceiling - np.max(lower + skew * ages_back))

    low, high = -_MAX_SKEW, _MAX_SKEW
    ratio = (5**0.5 - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    width_left, width_right = width(left), width(right)
    for _ in range(40):
        if width_left < width_right:
            low, left, width_left = left, right, width_right
            right = low + ratio * (high - low)
            width_right = width(right)
        else:
            high, right, width_right = right, left, width_left
            left = high - ratio * (high - low)
            width_left = width(left)
    return (low + high) / 2
