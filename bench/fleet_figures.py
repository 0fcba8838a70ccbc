"""What a fleet of simulated loudspeakers counted, and how the counts of several add up. Pure."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from typing import Any, Self

_SUMS = (
    *("endpoints", "joined", "received", "expected", "lost", "duplicate", "corrupt", "too_late"),
    *("simulator_dropped", "rejoined"),
)
_MOST = ("late_max_ms", "longest_gap_ms")


@dataclass(frozen=True, slots=True)
class Histogram:
    """(upper bound in ms, how many values lie below it and above any lower bound), rising."""

    rows: tuple[tuple[float, int], ...]

    @classmethod
    def of(cls, rows: Iterable[Sequence[float]]) -> "Histogram":
        """From rows in any order; those of the same bound are added up."""
        counts: dict[float, int] = defaultdict(int)
        for bound_ms, count in rows:
            counts[float(bound_ms)] += int(count)
        return cls(tuple(sorted((bound, count) for bound, count in counts.items() if count)))

    @property
    def total(self) -> int:
        """How many values there are."""
        return sum(count for _, count in self.rows)

    def at_ms(self, share: float) -> float:
        """The bound at or below which this share of the values lies, 0 to 1; 0 without values."""
        if not self.rows:
            return 0.0
        below = list(accumulate(count for _, count in self.rows))
        return self.rows[bisect_left(below, share * below[-1])][0]

    def plus(self, other: "Histogram") -> "Histogram":
        """Both together."""
        return Histogram.of((*self.rows, *other.rows))

    def minus(self, before: "Histogram") -> "Histogram":
        """What came after `before`."""
        return Histogram.of((*self.rows, *((bound, -count) for bound, count in before.rows)))


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """What some loudspeakers counted in one stretch of time.

    `late` is how much later than the earliest of its second a packet was at its loudspeaker,
    `transit` from the media time of its first sample. `longest_gap_ms` is the longest time in which
    one of them received nothing. What the simulator itself dropped is in `lost` as well.
    """

    endpoints: int
    joined: int
    received: int
    expected: int
    lost: int
    duplicate: int
    corrupt: int
    too_late: int
    simulator_dropped: int
    rejoined: int
    late_max_ms: float
    longest_gap_ms: float
    late: Histogram
    transit: Histogram

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Self:
        """From what `loa fleet` says; KeyError if something is missing."""
        numbers: dict[str, Any] = {name: event[name] for name in (*_SUMS, *_MOST)}
        return cls(
            **numbers,
            late=Histogram.of(event["late_histogram"]),
            transit=Histogram.of(event["transit_histogram"]),
        )

    @property
    def received_ratio(self) -> float:
        """The share of what should have been received that was; 0 where nothing should have."""
        return self.received / self.expected if self.expected else 0.0

    def late_at_ms(self, share: float) -> float:
        """At most so late was this share of the packets, 0 to 1."""
        return min(self.late.at_ms(share), self.late_max_ms)

    def plus(self, other: "FleetFigures") -> "FleetFigures":
        """Both together."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in _SUMS}
        most = {name: max(getattr(self, name), getattr(other, name)) for name in _MOST}
        return FleetFigures(
            **sums,
            **most,
            late=self.late.plus(other.late),
            transit=self.transit.plus(other.transit),
        )


def merged(figures: Sequence[FleetFigures]) -> FleetFigures:
    """All together; ValueError if there are none."""
    if not figures:
        raise ValueError("no fleet was asked")
    return reduce(FleetFigures.plus, figures)
