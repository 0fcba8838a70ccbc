"""What was measured, as it is told. Pure."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transport.clock.timeline import NS_PER_MS

# 10 us to 10 s, each bound 5.9 % above the one before: finer than any two runs agree.
_LOWEST_NS, _DECADES, _STEPS = 10_000, 6, 40
_BOUNDS_NS = np.array(
    [round(_LOWEST_NS * 10 ** (step / _STEPS)) for step in range(_DECADES * _STEPS + 1)]
)


class Histogram:
    """Times in nanoseconds, counted by size; the largest is kept exactly."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_BOUNDS_NS) + 1, np.int64)
        self._most_ns = 0

    def add(self, times_ns: NDArray[np.int64]) -> None:
        """Count these; a negative one is none at all."""
        if len(times_ns):
            bins = np.searchsorted(_BOUNDS_NS, times_ns)
            self._counts += np.bincount(bins, minlength=len(self._counts))
            self._most_ns = max(self._most_ns, int(times_ns.max()))

    @property
    def most_ms(self) -> float:
        """The largest of all."""
        return self._most_ns / NS_PER_MS

    def at_most_ms(self, share: float) -> float:
        """At most so long was this share of them, 0 to 1; 0 where there were none.

        It is the next bound above the true value, or the largest of all.
        """
        total = int(self._counts.sum())
        if not total:
            return 0.0
        wanted = max(math.ceil(share * total), 1)
        bin_ = int(np.searchsorted(np.cumsum(self._counts), wanted))
        bound_ns = int(_BOUNDS_NS[bin_]) if bin_ < len(_BOUNDS_NS) else self._most_ns
        return min(bound_ns, self._most_ns) / NS_PER_MS

    def rows(self) -> list[tuple[float, int]]:
        """(upper bound in ms, how many lie between it and the one before), where there are any."""
        bounds = [*(_BOUNDS_NS / NS_PER_MS), self.most_ms]
        return [(float(b), int(n)) for b, n in zip(bounds, self._counts, strict=True) if n]


@dataclass(frozen=True, slots=True)
class Heard:
    """What all loudspeakers have heard of the frames of the measured window.

    `expected` are copies that should have come, one of each frame for each that listened;
    `received` those that did, `lost` the others. Apart from these: `duplicate` copies that came
    again, `corrupt` ones with other bytes, `stray` ones of no stream that is known, or seconds too
    late to be counted; `too_late` came in time to be counted, and too late to sound.
    """

    expected: int = 0
    received: int = 0
    lost: int = 0
    duplicate: int = 0
    corrupt: int = 0
    stray: int = 0
    too_late: int = 0
    late_p50_ms: float = 0.0
    late_p99_ms: float = 0.0
    late_max_ms: float = 0.0
    transit_p50_ms: float = 0.0
    transit_p99_ms: float = 0.0
    longest_gap_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Details:
    """What figures are made of: histograms of (upper bound in ms, count), a gap a loudspeaker."""

    late_histogram: list[tuple[float, int]]
    transit_histogram: list[tuple[float, int]]
    gaps_ms: list[float]


@dataclass(frozen=True, slots=True)
class Figures:
    """The whole fleet's, as `loa fleet` says them each second.

    `rejoined` counts welcomes after the first of each; `refused` who will not be let in;
    `settled` who knows the time; `simulator_dropped` what this machine's sockets had no room for;
    `cpu_s` what this process has used since it began.
    """

    endpoints: int
    joined: int
    settled: int
    rejoined: int
    refused: int
    simulator_dropped: int
    cpu_s: float
    heard: Heard

    def as_dict(self) -> dict[str, Any]:
        """Flat, and rounded, for JSON."""
        plain = asdict(self)
        return {
            name: round(value, 3) if isinstance(value, float) else value
            for name, value in (plain | plain.pop("heard")).items()
            if name != "heard"
        }
