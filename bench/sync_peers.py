"""How others learn a clock, on the same exchanges as ours: estimators of three kinds.

They are told more than in their homes: the four times of each exchange to the nanosecond, by
kernel stamps. None is tuned to a profile.
"""

from abc import ABC, abstractmethod
from collections import deque
from statistics import median

import numpy as np
from typing_extensions import override

from transport.clock.estimator import ClockEstimate
from transport.clock.exchange import Exchange

_MEDIAN_OF = 200
_BEST, _BEST_OF = 5, 30
_BURST = 8
# A crystal's rate is anything within this before it is measured, and then wanders so much a second
# (as a random walk, per square root of a second).
_RATE_STD = 30e-6
_RATE_WALK = 1e-8


class _OfOneClock(ABC):
    """What the estimators have in common: one clock at a time, and times relative to a base."""

    def __init__(self) -> None:
        self.estimate: ClockEstimate | None = None
        self._clock_set_ns: int | None = None
        self._count = self._base_ns = 0

    @property
    def exchanges(self) -> int:
        """How many there have been of this clock."""
        return self._count

    @property
    def in_doubt(self) -> bool:
        """Never: none of these doubts."""
        return False

    def add(self, exchange: Exchange) -> bool:
        """Take one exchange in; true if it is of another clock than those before."""
        forgot = self._clock_set_ns not in (None, exchange.clock_set_ns)
        if exchange.clock_set_ns != self._clock_set_ns:
            self._clock_set_ns = exchange.clock_set_ns
            self.estimate, self._count = None, 0
            self._base_ns = exchange.t2_ns - exchange.t1_ns
            self._forget()
        self._count += 1
        self._learn(exchange, self._offset_ns(exchange))
        return forgot

    def _offset_ns(self, exchange: Exchange) -> float:
        there_ns, back_ns = exchange.t2_ns - exchange.t1_ns, exchange.t3_ns - exchange.t4_ns
        return (there_ns + back_ns - 2 * self._base_ns) / 2

    @abstractmethod
    def _forget(self) -> None:
        """All that was learnt is of another clock."""

    @abstractmethod
    def _learn(self, exchange: Exchange, offset_ns: float) -> None:
        """One more exchange, whose middle says this offset."""

    def _is(self, at_ns: int, offset_ns: float, skew: float = 0.0) -> None:
        self.estimate = ClockEstimate(at_ns, offset_ns, self._base_ns, skew, 0.0)


class MedianOf200(_OfOneClock):
    """The median of the newest 200 offsets, without a skew: as Snapcast does."""

    def __init__(self) -> None:
        super().__init__()
        self._offsets: deque[float] = deque(maxlen=_MEDIAN_OF)

    @override
    def _forget(self) -> None:
        self._offsets.clear()

    @override
    def _learn(self, exchange: Exchange, offset_ns: float) -> None:
        self._offsets.append(offset_ns)
        self._is(exchange.t4_ns, median(self._offsets))


class Best5Of30(_OfOneClock):
    """The mean of those 5 of the newest 30 offsets whose round trips were the fastest."""

    def __init__(self) -> None:
        super().__init__()
        self._newest: deque[tuple[int, float]] = deque(maxlen=_BEST_OF)

    @override
    def _forget(self) -> None:
        self._newest.clear()

    @override
    def _learn(self, exchange: Exchange, offset_ns: float) -> None:
        self._newest.append((exchange.round_trip_ns, offset_ns))
        best = sorted(self._newest)[:_BEST]
        self._is(exchange.t4_ns, sum(offset for _, offset in best) / len(best))


class BurstKalman(_OfOneClock):
    """The fastest of eight goes to a Kalman filter of offset and rate: as Sendspin does.

    Half of its round trip is taken for the standard deviation of its error. Eight that follow each
    other here count for a burst.
    """

    def __init__(self) -> None:
        super().__init__()
        self._burst: list[tuple[int, int, float]] = []
        self._state, self._spread = np.zeros(2), np.zeros((2, 2))
        self._at_ns = 0

    @override
    def _forget(self) -> None:
        self._burst.clear()
        self._at_ns = 0

    @override
    def _learn(self, exchange: Exchange, offset_ns: float) -> None:
        self._burst.append((exchange.round_trip_ns, exchange.t4_ns, offset_ns))
        if len(self._burst) < _BURST:
            return
        round_trip_ns, at_ns, measured_ns = min(self._burst)
        self._burst.clear()
        variance = max(round_trip_ns / 2, 1.0) ** 2
        if self.estimate is None:
            self._state = np.array([measured_ns, 0.0])
            self._spread = np.diag([variance, (_RATE_STD * 1e9) ** 2])  # rates in ns a second
        else:
            self._predict((at_ns - self._at_ns) / 1e9)
            gain = self._spread[:, 0] / (self._spread[0, 0] + variance)
            self._state = self._state + gain * (measured_ns - self._state[0])
            self._spread = self._spread - np.outer(gain, self._spread[0])
        self._at_ns = at_ns
        self._is(at_ns, float(self._state[0]), float(self._state[1]) / 1e9)

    def _predict(self, elapsed_s: float) -> None:
        """On to the next burst's best, which came later: bursts do not overlap."""
        move = np.array([[1.0, elapsed_s], [0.0, 1.0]])
        walk = (_RATE_WALK * 1e9) ** 2 * elapsed_s
        grown = walk * np.array([[elapsed_s**2 / 3, elapsed_s / 2], [elapsed_s / 2, 1.0]])
        self._state = move @ self._state
        self._spread = move @ self._spread @ move.T + grown
