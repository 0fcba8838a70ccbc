"""The one place that reads the machine's clocks.

A machine's own clock is CLOCK_BOOTTIME: as CLOCK_MONOTONIC, but it goes on while the machine is
suspended, as the station's time does. Where a system has none, CLOCK_MONOTONIC takes its place.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol


class Clock(Protocol):
    """A machine's own clock: it may be hours off and run fast, but it never steps."""

    def now_ns(self) -> int:
        """Nanoseconds since some moment of its own."""

    def of_kernel_stamp(self, realtime_ns: int) -> int | None:
        """When a packet arrived, on this clock; None if the stamp cannot be trusted."""


_OWN: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# A wall clock that moved more than this between two looks has been stepped, not slewed.
_STEP_NS = 1_000_000
# Two readings of a clock next to each other take about a tenth of a microsecond.
_TIGHT_NS = 2_000
_TRIES = 20


def now_ns() -> int:
    """CLOCK_BOOTTIME, which all processes of this machine share."""
    return time.clock_gettime_ns(_OWN)


def wall_offset_ns() -> int:
    """CLOCK_REALTIME minus CLOCK_BOOTTIME."""
    return _ahead_ns(time.time_ns)


def slept_ns() -> int:
    """How long this machine has been suspended, in all, since it was started.

    0 where there is no CLOCK_BOOTTIME; no two answers differ by more than some microseconds unless
    it has slept between them.
    """
    return -_ahead_ns(time.monotonic_ns)


def _ahead_ns(other_ns: Callable[[], int]) -> int:
    """What another clock shows beyond CLOCK_BOOTTIME.

    Between two readings the scheduler may take the processor away for milliseconds; half of
    that would be the error. So several tries, and the tightest pair of readings counts.
    """
    best_gap_ns, best_ns = 1 << 62, 0
    for _ in range(_TRIES):
        before = now_ns()
        other = other_ns()
        after = now_ns()
        if after - before < best_gap_ns:
            best_gap_ns, best_ns = after - before, other - (before + after) // 2
        if best_gap_ns < _TIGHT_NS:
            break
    return best_ns


class HostClock:
    """CLOCK_BOOTTIME, and kernel stamps (CLOCK_REALTIME) brought over to it."""

    def __init__(self) -> None:
        self._offset_ns = wall_offset_ns()
        self._stepped_ns = 0

    def now_ns(self) -> int:
        """CLOCK_BOOTTIME."""
        return now_ns()

    def of_kernel_stamp(self, realtime_ns: int) -> int | None:
        """Convert at once: after a step of the wall clock the old stamps mean nothing.

        More than one of them may be waiting, so what was stamped before the step was noticed, or
        seems to be of the future, is refused for good.
        """
        previous, self._offset_ns = self._offset_ns, wall_offset_ns()
        own_ns = now_ns()
        if abs(self._offset_ns - previous) > _STEP_NS:
            self._stepped_ns = own_ns
            return None
        arrival_ns = realtime_ns - self._offset_ns
        trusted = self._stepped_ns <= arrival_ns <= own_ns + _STEP_NS
        return arrival_ns if trusted else None


def media_epoch_ns() -> int:
    """What to add to CLOCK_BOOTTIME for a media clock that starts at the right wall time."""
    return wall_offset_ns()


class MediaClock:
    """The station's clock: CLOCK_BOOTTIME set once, at the station's start, to the wall time.

    All processes of one station are given the same `epoch_ns`, so they agree without talking.
    """

    def __init__(self, epoch_ns: int) -> None:
        self._epoch_ns = epoch_ns
        self._host = HostClock()
        # Two stations started at the same moment are still two clocks.
        self.set_ns = epoch_ns

    def now_ns(self) -> int:
        """Media time."""
        return self._host.now_ns() + self._epoch_ns

    def of_kernel_stamp(self, realtime_ns: int) -> int | None:
        """Media time of a kernel stamp; None across a step of the wall clock."""
        arrival_ns = self._host.of_kernel_stamp(realtime_ns)
        return None if arrival_ns is None else arrival_ns + self._epoch_ns
