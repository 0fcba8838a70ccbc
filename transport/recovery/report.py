"""What a loudspeaker can say about the way to it: loss, the longest burst, jitter. Pure."""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from codec.format import SAMPLE_RATE
from transport.seq import unwrap

__all__ = ["DelaySpread", "LossReport", "LossSummary"]

_PERCENTILE = 0.95
# Three in four packets come so long before they are needed; of fewer than these nobody can tell.
_SELDOM, _LEAST_MARGINS = 0.25, 50
_REFRESH = 16  # packets from one reckoning of the percentile to the next
_WINDOW_SAMPLES = 30 * SAMPLE_RATE
# 30 s of 20 ms frames are 1,500 packets; of shorter frames less than 30 s is remembered.
_MOST_PACKETS = 4_096
_SAMPLES_PER_MS = SAMPLE_RATE / 1_000


class DelaySpread:
    """The least delay of the last packets, and how far nearly all of them are above it.

    Delays are in any unit and may be negative: sender and receiver need not share their clock's
    origin. Sorted once in 16 packets, so a packet costs a microsecond or two.
    """

    __slots__ = ("_delays", "_since", "least", "spread")

    def __init__(self, window: int) -> None:
        self._delays: deque[int] = deque(maxlen=window)
        self._since = 0
        self.least = 0
        self.spread = 0

    def add(self, delay: int) -> None:
        """One packet's delay."""
        self._delays.append(delay)
        self._since += 1
        if self._since >= _REFRESH or len(self._delays) < _REFRESH:
            self._since = 0
            ordered = sorted(self._delays)
            self.least = ordered[0]
            self.spread = ordered[int(_PERCENTILE * (len(ordered) - 1))] - self.least
        elif delay < self.least:
            self.least = delay


@dataclass(frozen=True, slots=True)
class LossSummary:
    """How the way was during the last 30 s, before anything was repaired.

    `loss` is the share of packets that did not come themselves, 0 to 1; `longest_burst_ms` the
    sound that the longest run of them held; `jitter_ms` how much later than the quickest packet
    95 % of them came at most; `margin_ms` how long before their sound was to be decoded three in
    four of them came at least (below 0: too late), None while nothing is heard.
    """

    loss: float = 0.0
    longest_burst_ms: float = 0.0
    jitter_ms: float = 0.0
    margin_ms: float | None = None

    def __post_init__(self) -> None:
        if not (0.0 <= self.loss <= 1.0 and self.longest_burst_ms >= 0.0 and self.jitter_ms >= 0.0):
            raise ValueError("loss lies in 0..1, and times are not negative")


@dataclass(frozen=True, slots=True)
class _Came:
    start: int
    epoch: int
    sequence: int  # unwrapped
    delay: int
    margin: int | None


class LossReport:
    """Remembers the packets of one stream that came themselves: 30 s of them, 4,096 at most.

    `frame_samples` is what a packet holds. Times are media samples.
    """

    def __init__(self, frame_samples: int) -> None:
        if frame_samples <= 0:
            raise ValueError("a frame holds at least one sample")
        self._frame_samples = frame_samples
        self._came: deque[_Came] = deque(maxlen=_MOST_PACKETS)

    def arrived(
        self,
        start_sample: int,
        now_sample: int,
        sequence: int,
        epoch: int,
        margin_samples: int | None = None,
    ) -> None:
        """A packet came by itself, not as a copy nor as a repair; so long before it was needed."""
        came = self._came
        if came and came[-1].epoch == epoch:
            sequence = unwrap(sequence, came[-1].sequence, 16)
        delay = now_sample - start_sample
        came.append(_Came(start_sample, epoch, sequence, delay, margin_samples))

    def summary(self, now_sample: int) -> LossSummary:
        """What is known of the last 30 s; the packets after the newest are not missing yet."""
        came, since = self._came, now_sample - _WINDOW_SAMPLES
        while came and came[0].start < since:
            came.popleft()
        if not came:
            return LossSummary()
        places = sorted({(packet.epoch, packet.sequence) for packet in came})
        gaps = [self._gap(before, after) for before, after in pairwise(places)]
        lost = sum(gaps)
        delays = sorted(packet.delay for packet in came)
        spread = delays[int(_PERCENTILE * (len(delays) - 1))] - delays[0]
        return LossSummary(
            loss=lost / (lost + len(places)),
            longest_burst_ms=max(gaps, default=0) * self._frame_samples / _SAMPLES_PER_MS,
            jitter_ms=spread / _SAMPLES_PER_MS,
            margin_ms=self._margin_ms(),
        )

    def _margin_ms(self) -> float | None:
        margins = sorted(packet.margin for packet in self._came if packet.margin is not None)
        if len(margins) < _LEAST_MARGINS:
            return None
        return margins[int(_SELDOM * (len(margins) - 1))] / _SAMPLES_PER_MS

    def _gap(self, before: tuple[int, int], after: tuple[int, int]) -> int:
        """Packets missing between two that came one after the other."""
        # An epoch's packets are numbered from 0; how many ended the last one nobody knows here.
        missing = after[1] - before[1] - 1 if after[0] == before[0] else after[1]
        # More than the whole window holds was not lost: the sender began anew. Nor is a number
        # before an epoch's first one.
        return missing if 0 <= missing * self._frame_samples <= _WINDOW_SAMPLES else 0
