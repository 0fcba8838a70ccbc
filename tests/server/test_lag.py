"""How late a loop is, on a loop whose time a test sets."""

from collections.abc import Callable
from typing import Any

import pytest

from server.lag import LAG_BOUNDS_S, LoopLag


class Loop:
    """Calls one thing at a time, as late as a test says."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.due_s = 0.0
        self.cancelled = False

    def time(self) -> float:
        return self.now_s

    def call_at(self, due_s: float, call: Callable[..., None], *arguments: Any) -> "Loop":
        self.due_s, self._call, self._arguments = due_s, call, arguments
        return self

    def cancel(self) -> None:
        self.cancelled = True

    def turn(self, late_s: float) -> None:
        self.now_s = self.due_s + late_s
        self._call(*self._arguments)


def lag_of(loop: Any) -> LoopLag:
    return LoopLag(loop)


@pytest.mark.parametrize(
    ("late_s", "place"), [(-0.001, 0), (0.0, 0), (0.0015, 1), (0.3, 8), (1.5, len(LAG_BOUNDS_S))]
)
def test_a_delay_is_counted_in_its_place(late_s: float, place: int) -> None:
    loop = Loop()
    lag = lag_of(loop)
    loop.turn(late_s)
    assert lag.counts[place] == 1
    assert sum(lag.counts) == 1
    assert lag.total_s == pytest.approx(max(late_s, 0))


def test_what_was_late_does_not_make_the_next_late() -> None:
    loop = Loop()
    lag = lag_of(loop)
    for late_s in (5.0, 0.0, 0.0):
        loop.turn(late_s)
    assert (lag.counts[0], lag.counts[-1]) == (2, 1)


def test_it_ends_when_it_is_closed() -> None:
    loop = Loop()
    lag_of(loop).close()
    assert loop.cancelled
