"""Another clock's time, from exchanges: a two-direction lower envelope with a skew term.

Each exchange bounds the offset (their clock minus ours) from both sides: `t2 - t1` is the offset
plus the way there, `t3 - t4` the offset minus the way back, and no packet travels in negative
time. Between the two clouds of bounds lies a straight corridor; only the fastest packets touch
it, so queueing moves it little. Bounds loosen with age, because a crystal wanders; that is also
what ends the window.

Its slope is the skew. If packets wait for an exponential time on top of the path's own delay, the
likelihood of a skew is exp(n * width / mean wait): the widest corridor is the likeliest. The
estimate is the mean over all skews, weighted so and by what crystals are like. Where a few
exchanges say nothing of the skew, that keeps a slope from being read into their jitter.

While a programme is heard, its packets tell how our clock runs, wander and all (see `arrivals`):
what they tell is taken out of the bounds first, and the corridor is then all but level. They only
refine: where that leads out of what exchanges alone allow, it was not the clock, and is forgotten.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transport.clock.arrivals import Arrivals, Course
from transport.clock.exchange import Exchange

_WINDOW_NS = 120_000_000_000
_CAPACITY = 600
_MIN_EXCHANGES = 4
# Two crystals of 100 ppm each, and room to see that one of them is broken.
_MAX_SKEW = 500e-6
# How far apart two crystals usually run, before anything is measured: half of them within this. A
# Cauchy law, for its tails let a broken one be found out on Wi-Fi in seconds; a bell takes minutes.
_USUAL_SKEW = 30e-6
# How fast a crystal's rate wanders, per second: 0.5 * a * age**2 is what an old bound may be off.
_WANDER_PER_S = 2e-8
# By so much a rate may differ from its mean over the window.
_WANDERED = _WANDER_PER_S * _WINDOW_NS / 1e9
# So many standard deviations are no chance.
_SURE = 4.0
# What stamps are good for: a network that never made anybody wait proves nothing finer.
_STAMP_NOISE_NS = 50.0
# By so much may noise and wander make two bounds cross.
_DENIAL_NS = 10_000.0
# Skews are tried on a grid, which then closes in on the likely ones, by up to 16 times a round.
_GRID = 33
_ROUNDS = 4
_UNLIKELY = 1e-3
# So much narrower than the fastest round trip a corridor may be, plus this share of what a middling
# round trip waited, for the fastest has waited too. More, and the bounds are of no one line.
_MISFIT_NS = 20_000
_MISFIT_SHARE = 0.6
# An exchange whose bounds exclude the estimate by more than its uncertainty and this is a step.
_STEP_NS = 100_000
_STEPS_TO_RESET = 3

_Floats = NDArray[np.float64]


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
        return guess - round(self.skew / (1 + self.skew) * (guess - self.at_ns))


class ClockEstimator:
    """Holds a bounded window of exchanges and the newest estimate."""

    def __init__(self) -> None:
        self.estimate: ClockEstimate | None = None
        self._clock_set_ns: int | None = None
        self._doubted: list[Exchange] = []
        self._arrivals = Arrivals()
        self._rows: list[tuple[float, float, float, float]] = []
        # Rows are relative to these: a float cannot hold a time of today to the nanosecond.
        self._base_ns = 0
        self._epoch_ns = 0

    @property
    def exchanges(self) -> int:
        """How many exchanges the estimate rests on."""
        return len(self._rows)

    @property
    def in_doubt(self) -> bool:
        """Whether the newest exchange contradicts the estimate: ask again soon."""
        return bool(self._doubted)

    def add(self, exchange: Exchange) -> bool:
        """Take one exchange in; true if everything known before had to be forgotten."""
        if exchange.clock_set_ns != self._clock_set_ns:
            forgot = self._clock_set_ns is not None
            self._clock_set_ns = exchange.clock_set_ns
            self.estimate = None
            self._restart([exchange])
            return forgot
        if self._contradicts(exchange):
            return self._doubt(exchange)
        self._doubted = []
        self._keep(exchange)
        if len(self._rows) >= _MIN_EXCHANGES:
            self.estimate = self._fit()
        return False

    def arrived(self, stream: int, media_ns: int, arrived_ns: int) -> None:
        """A packet of sound of this media time came at `arrived_ns` of our clock.

        For those that were sent at their media time and a constant: repairs and copies were not.
        Only for authenticated ones, and of one stream at a time. A stamp that is late does no harm:
        it is as if the packet had waited on its way.
        """
        self._arrivals.add(stream, media_ns, arrived_ns)

    def _contradicts(self, exchange: Exchange) -> bool:
        """Whether the bounds of this exchange exclude the estimate, however slow the network."""
        if self.estimate is None:
            return False
        middle_ns = (exchange.t1_ns + exchange.t4_ns) // 2
        error_ns = (exchange.t2_ns + exchange.t3_ns) // 2 - self.estimate.theirs(middle_ns)
        # After a silence the estimate is as old as that.
        drift_ns = _USUAL_SKEW * abs(middle_ns - self.estimate.at_ns)
        allowed_ns = self.estimate.uncertainty_ns + drift_ns + _STEP_NS
        return abs(error_ns) > exchange.round_trip_ns / 2 + allowed_ns

    def _doubt(self, exchange: Exchange) -> bool:
        """One is an outlier and several in a row are a clock that jumped."""
        self._doubted.append(exchange)
        if len(self._doubted) < _STEPS_TO_RESET:
            return False
        self._restart(self._doubted)
        self.estimate = self._fit()
        return True

    def _restart(self, exchanges: list[Exchange]) -> None:
        self._doubted = []
        self._arrivals.forget()
        self._rows = []
        self._base_ns = exchanges[0].t2_ns - exchanges[0].t1_ns
        self._epoch_ns = exchanges[0].t1_ns
        for exchange in exchanges:
            self._keep(exchange)

    def _keep(self, exchange: Exchange) -> None:
        self._rows.append(
            (
                float(exchange.t1_ns - self._epoch_ns),
                float(exchange.t2_ns - exchange.t1_ns - self._base_ns),
                float(exchange.t4_ns - self._epoch_ns),
                float(exchange.t3_ns - exchange.t4_ns - self._base_ns),
            )
        )
        oldest = exchange.t4_ns - self._epoch_ns - _WINDOW_NS
        while self._rows[0][2] < oldest or len(self._rows) > _CAPACITY:
            self._rows.pop(0)

    def _fit(self) -> ClockEstimate:
        now_ns = self._epoch_ns + round(self._rows[-1][2])
        alone = self._corridor(None)
        told = self._told(self._arrivals.course(now_ns), alone)
        while told is None and alone.is_misfit and len(self._rows) > _MIN_EXCHANGES:
            # One of the clocks has changed its rate: the oldest bounds no longer hold.
            del self._rows[: len(self._rows) // 4]
            alone = self._corridor(None)
        best = told or alone
        return ClockEstimate(now_ns, best.offset_ns, self._base_ns, best.skew, best.uncertainty_ns)

    def _told(self, course: Course | None, alone: "_Corridor") -> "_Corridor | None":
        """The corridor by this course; None if there is none, or if exchanges deny it.

        Then the path of the programme has changed, or its sender: what it told was not the clock.
        """
        if course is None:
            return None
        told = self._corridor(course)
        told = replace(told, skew=told.skew + course.slope)
        if told.is_misfit or not (alone.is_misfit or alone.allows(told)):
            self._arrivals.forget()
            return None
        return told

    def _corridor(self, course: Course | None) -> "_Corridor":
        rows = np.array(self._rows)
        if course is None:
            return _likely_corridor(rows, rows[-1, 2] - rows[:, (0, 2)], _USUAL_SKEW)
        # As if our clock had run like theirs: each bound is moved by what has passed since.
        begin_ns = course.begin_ns - self._epoch_ns
        times_ns = rows[:, (0, 2)] - begin_ns
        rows[:, (1, 3)] += course.at(rows[-1:, 2] - begin_ns) - course.at(times_ns)
        unknown_ns = np.maximum(-times_ns, 0.0)
        return _likely_corridor(rows, unknown_ns, min(course.slope_noise, _USUAL_SKEW))


@dataclass(frozen=True, slots=True)
class _Corridor:
    """Its middle at the newest row's end, its slope, and the width of the widest there is.

    `spread_ns` is the standard deviation of the middles of all that are likely, `skew_spread` that
    of their slopes.
    """

    offset_ns: float
    spread_ns: float
    skew: float
    skew_spread: float
    width_ns: float
    least_width_ns: float

    @property
    def uncertainty_ns(self) -> float:
        """How far from its middle the truth may be."""
        return max(self.width_ns, 0.0) / 2 + 2 * self.spread_ns

    def allows(self, other: "_Corridor") -> bool:
        """Whether both may be true of one clock, now and until the next exchange."""
        faster = abs(other.skew - self.skew)
        away_ns = abs(other.offset_ns - self.offset_ns)
        is_near = away_ns <= self.uncertainty_ns + other.uncertainty_ns
        return is_near and faster <= _SURE * self.skew_spread + _WANDERED

    @property
    def is_misfit(self) -> bool:
        """Whether even the widest is too narrow to be true."""
        return self.width_ns < self.least_width_ns


def _likely_corridor(rows: _Floats, unknown_ns: _Floats, usual_skew: float) -> _Corridor:
    """The mean corridor through rows of (t1, t2 - t1, t4, t3 - t4).

    `unknown_ns` (n, 2) is how long each bound has not been told of a clock that wanders, and
    `usual_skew` how steep the corridor is in half of all cases.
    """
    now = rows[-1, 2]
    there, back = now - rows[:, 0], now - rows[:, 2]
    # In seconds: that keeps the allowance's square well scaled.
    allowances = 0.5e9 * _WANDER_PER_S * (unknown_ns / 1e9) ** 2
    upper, lower = rows[:, 1] + allowances[:, 0], rows[:, 3] - allowances[:, 1]
    bounds = there, upper, back, lower
    skews = np.linspace(-_MAX_SKEW, _MAX_SKEW, _GRID)
    for _ in range(_ROUNDS):
        likely = np.flatnonzero(_weigh(skews, usual_skew, *bounds)[0] > _UNLIKELY)
        low, high = max(likely[0] - 1, 0), min(likely[-1] + 1, _GRID - 1)
        skews = np.linspace(skews[low], skews[high], _GRID)
    weights, middles, width = _weigh(skews, usual_skew, *bounds)
    share = weights / weights.sum()
    offset = float(share @ middles)
    spread = float(share @ (middles - offset) ** 2) ** 0.5
    skew = float(share @ skews)
    skew_spread = float(share @ (skews - skew) ** 2) ** 0.5
    return _Corridor(offset, spread, skew, skew_spread, width, _least_width(rows))


def _least_width(rows: _Floats) -> float:
    """Along the true line the corridor is as wide as the way there and back without any wait."""
    round_trips = rows[:, 1] - rows[:, 3]
    fastest = round_trips.min()
    waited = float(np.median(round_trips) - fastest)
    return float(fastest) - _MISFIT_SHARE * waited - _MISFIT_NS


def _weigh(
    skews: _Floats,
    usual_skew: float,
    there: _Floats,
    upper: _Floats,
    back: _Floats,
    lower: _Floats,
) -> tuple[_Floats, _Floats, float]:
    """How likely each skew is (the likeliest 1), its corridor's middle, the greatest width."""
    # Ages count backwards, hence the plus: a bound of then, carried forward to now.
    highs = upper + skews[:, np.newaxis] * there
    lows = lower + skews[:, np.newaxis] * back
    ceilings, floors = highs.min(axis=1), lows.max(axis=1)
    widths = ceilings - floors
    best = int(np.argmax(widths))
    waits = np.concatenate((highs[best] - ceilings[best], floors[best] - lows[best]))
    # Of an exponential law, whose mean one packet that took seconds would spoil.
    wait = float(np.median(waits)) / math.log(2) + _STAMP_NOISE_NS
    logs = len(there) * (widths - widths[best]) / wait
    # A path takes no negative time: with bounds that cross, a skew is as good as impossible.
    logs += np.minimum(widths, 0.0) / _DENIAL_NS
    logs -= np.log1p((skews / usual_skew) ** 2)
    return np.exp(logs - logs.max()), (ceilings + floors) / 2, float(widths[best])
