"""An alarm for what no exchange can put right: one direction of the path has become another.

If a path grows longer one way only, the clock seems to move by half of that, and whoever believes
it is out of step with the neighbours. From one such moment alone nobody can tell it from a clock
that was set; but a clock that is set leaves round trips as they were, and a path that is longer
both ways leaves the offset. Where both jump, and together, it is the path: time for a new trim.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from transport.clock.estimator import ClockEstimate
from transport.clock.exchange import Exchange

# So many exchanges are compared with so many before; twice, for once may be a queue.
BLOCK = 16
# The fastest of n that wait for w on average waits for w / n; this many times that is no chance.
_SURE = 4.0
_STAMP_NOISE_NS = 20_000.0
# What the skew may be wrong by, and wander, between the two.
_DRIFT = 2e-6
# One way only, half of a round trip's change is in the offset; both ways alike, none of it.
_ONE_WAY_SHARE = 0.25
# Two blocks in a row that say about the same.
_ALIKE = 0.3


@dataclass(frozen=True, slots=True)
class AsymmetryJump:
    """Seen at `at_ns` of our clock; both may be negative.

    Their clock seems to be `shift_ns` later than before, and round trips take `round_trip_ns` more.
    """

    at_ns: int
    shift_ns: float
    round_trip_ns: float


@dataclass(frozen=True, slots=True)
class _Fastest:
    """Of one block, against a line: the fastest way there and back, and how sure those are."""

    end_ns: int
    there_ns: float
    back_ns: float
    noise_ns: float


@dataclass(frozen=True, slots=True)
class _Reference:
    """What was known when a block was over, and what the block was like by that."""

    line: ClockEstimate
    fastest: _Fastest


class AsymmetryWatch:
    """Looks at every exchange; its memory is one block.

    A change of both ways by opposite amounts cannot be told from a clock that was set, and one that
    creeps in over many blocks is no jump.
    """

    def __init__(self) -> None:
        self._block: list[Exchange] = []
        # Of the last two blocks: in the last one the jump may have come, and made it look noisy.
        self._references: deque[_Reference] = deque(maxlen=2)
        self._suspected: AsymmetryJump | None = None

    def add(self, exchange: Exchange, estimate: ClockEstimate | None) -> AsymmetryJump | None:
        """Take one exchange in, and what the estimator makes of all; a jump when it is certain."""
        if estimate is None or self._is_of_another_clock(exchange):
            self._block.clear()
            self._references.clear()
            self._suspected = None
        self._block.append(exchange)
        if len(self._block) < BLOCK or estimate is None:
            return None
        block, self._block = self._block, []
        jump = self._compare(block)
        certain = jump is not None and _agree(jump, self._suspected)
        if certain:
            self._references.clear()
        if jump is None or certain:
            self._references.append(_Reference(estimate, _fastest(block, estimate)))
        self._suspected = None if certain else jump
        return jump if certain else None

    def _is_of_another_clock(self, exchange: Exchange) -> bool:
        return bool(self._block) and self._block[-1].clock_set_ns != exchange.clock_set_ns

    def _compare(self, block: Sequence[Exchange]) -> AsymmetryJump | None:
        """What has changed since the block before the last, if it is a jump of one way."""
        if not self._references:
            return None
        before = self._references[0].fastest
        now = _fastest(block, self._references[0].line)
        there_ns, back_ns = now.there_ns - before.there_ns, now.back_ns - before.back_ns
        jump = AsymmetryJump(now.end_ns, (there_ns - back_ns) / 2, there_ns + back_ns)
        uncertain_ns = _SURE * (before.noise_ns + now.noise_ns) + _STAMP_NOISE_NS
        uncertain_ns += _DRIFT * abs(now.end_ns - before.end_ns)
        is_jump = abs(jump.round_trip_ns) > 2 * uncertain_ns and abs(jump.shift_ns) > uncertain_ns
        return jump if is_jump and _is_one_way(jump) else None


def _is_one_way(jump: AsymmetryJump) -> bool:
    share = abs(jump.shift_ns) / abs(jump.round_trip_ns)
    return _ONE_WAY_SHARE < share < 1 - _ONE_WAY_SHARE


def _agree(jump: AsymmetryJump, other: AsymmetryJump | None) -> bool:
    if other is None:
        return False
    return abs(jump.shift_ns - other.shift_ns) < _ALIKE * abs(jump.shift_ns)


def _fastest(block: Sequence[Exchange], line: ClockEstimate) -> _Fastest:
    there_ns = [e.t2_ns - line.theirs(e.t1_ns) for e in block]
    back_ns = [line.theirs(e.t4_ns) - e.t3_ns for e in block]
    waits_ns = [median(ways) - min(ways) for ways in (there_ns, back_ns)]
    return _Fastest(block[-1].t4_ns, min(there_ns), min(back_ns), sum(waits_ns) / len(block))
