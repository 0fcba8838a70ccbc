"""How late an event loop comes to what it should do at a moment: how busy it is, in one figure."""

from asyncio import AbstractEventLoop, TimerHandle
from bisect import bisect_left

# Upper bounds in seconds; uvloop counts time in milliseconds.
LAG_BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_EVERY_S = 0.25


class LoopLag:
    """Counts from its making on, four times a second, until `close`.

    `counts` has one for each of `LAG_BOUNDS_S`, and one for those beyond; `total_s` is their sum.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.counts = [0] * (len(LAG_BOUNDS_S) + 1)
        self.total_s = 0.0
        self._loop = loop
        self._timer = self._wait()

    def close(self) -> None:
        """Count no more."""
        self._timer.cancel()

    def _wait(self) -> TimerHandle:
        due_s = self._loop.time() + _EVERY_S
        return self._loop.call_at(due_s, self._look, due_s)

    def _look(self, due_s: float) -> None:
        late_s = max(self._loop.time() - due_s, 0.0)
        self.counts[bisect_left(LAG_BOUNDS_S, late_s)] += 1
        self.total_s += late_s
        self._timer = self._wait()
