"""What a loudspeaker tells of a group's packets, so that its station can hold it against others.

The same packet of a group comes to neighbours at the same moment. When that was by each one's own
knowledge of the media clock differs by what they are out of step, and by their ways. Sans-I/O.
"""

import heapq

from transport.clock.timeline import NS_PER_SECOND, samples_of_ns
from transport.control.lateness import MAX_FASTEST, MAX_LATE_US, Lateness

# So long at least is told of at once.
_LEAST_S = 4
# What a window tells is of now for so many times its length.
_FRESH = 2


class LatenessWatch:
    """Of each window the fastest packets, for others have waited.

    Windows are whole multiples of their length in media time: the same for all neighbours.
    """

    def __init__(self) -> None:
        self._length_s = _LEAST_S
        self._window: tuple[int, int] | None = None
        # A heap of the fastest, the slowest of them first: (ns it was early, where it begins).
        self._fastest: list[tuple[int, int]] = []
        self._told: Lateness | None = None

    def begin(self, every_s: float) -> None:
        """It is asked as often as this; windows are no shorter, so that none is left out."""
        length_s = _LEAST_S
        while length_s < every_s:
            length_s *= 2
        if length_s != self._length_s:
            self._length_s = length_s
            self.forget()

    def forget(self) -> None:
        """The media clock is another one."""
        self._window, self._told = None, None
        self._fastest.clear()

    def add(self, stream: int, media_ns: int, late_ns: int) -> None:
        """A packet of this media time came so much later than that, by the media clock."""
        second = media_ns // NS_PER_SECOND
        begin_s = second - second % self._length_s
        if (stream, begin_s) != self._window:
            if self._window == (stream, begin_s + self._length_s):
                return  # it was overtaken by the first of the next window
            self._close()
            self._window = stream, begin_s
        packet = -late_ns, samples_of_ns(media_ns - begin_s * NS_PER_SECOND)
        if len(self._fastest) < MAX_FASTEST:
            heapq.heappush(self._fastest, packet)
        else:
            heapq.heappushpop(self._fastest, packet)

    def _close(self) -> None:
        self._told = None
        if self._window is not None and len(self._fastest) == MAX_FASTEST:
            fastest = sorted(self._fastest, reverse=True)
            places = tuple(place for _, place in fastest)
            late_us = tuple(round(_within(-early_ns / 1e3), 1) for early_ns, _ in fastest)
            self._told = Lateness(*self._window, self._length_s, places, late_us)
        self._fastest.clear()

    def told(self, media_ns: int) -> Lateness | None:
        """Of the last window that is over; None if it is over for long."""
        if self._told is None:
            return None
        age_s = media_ns // NS_PER_SECOND - self._told.begin_s
        return self._told if 0 <= age_s <= (1 + _FRESH) * self._length_s else None


def _within(late_us: float) -> float:
    return min(max(late_us, -MAX_LATE_US), MAX_LATE_US)
