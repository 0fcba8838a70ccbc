"""Wrong clocks on virtual time, and exchanges between them over the seeded virtual network."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.network import MS, SECOND, Link
from transport.clock.exchange import Exchange

# What the station's media clock shows when true time is 0.
MEDIA_EPOCH_NS = 1_790_000_000 * SECOND
_BURST = 8
_BURST_PAUSE_NS = 30 * MS
_PAUSE_NS = SECOND // 2
# How long the station holds a question before it answers: a busy machine's 15 us on average.
_HELD_NS = 15_000


@dataclass(frozen=True, slots=True)
class OwnClock:
    """What a loudspeaker's clock shows at a true time: off, fast, and wandering as a sine.

    Closed form, so that a test knows the truth to the nanosecond.
    """

    offset_s: float = 0.0
    skew_ppm: float = 0.0
    wander_ppm: float = 0.0
    wander_period_s: float = 200.0
    phase: float = 0.0

    def of_true(self, true_ns: int) -> int:
        """What it shows."""
        speed = 2 * math.pi / self.wander_period_s
        angle = speed * true_ns / SECOND + self.phase
        wander_s = self.wander_ppm * 1e-6 / speed * (math.cos(self.phase) - math.cos(angle))
        drift_ns = true_ns * self.skew_ppm * 1e-6 + wander_s * SECOND
        return true_ns + round(self.offset_s * SECOND) + round(drift_ns)


def media_ns(true_ns: int) -> int:
    """What the station's media clock shows."""
    return MEDIA_EPOCH_NS + true_ns


def asking_times_ns(length_s: float) -> list[int]:
    """A burst of eight questions, then two a second."""
    times_ns = [index * _BURST_PAUSE_NS for index in range(_BURST)]
    while times_ns[-1] < length_s * SECOND:
        times_ns.append(times_ns[-1] + _PAUSE_NS)
    return times_ns


def exchanges(
    own: OwnClock,
    links: tuple[Link, Link],
    rng: np.random.Generator,
    length_s: float,
    clock_set_ns: int = 1,
) -> Iterator[tuple[int, Exchange]]:
    """(true time of its end, exchange) for all that come back over (down, up), in order."""
    down, up = links
    asked_ns = asking_times_ns(length_s)
    for index, true_ns in enumerate(asked_ns):
        up.send(index.to_bytes(4), true_ns)
    held_ns = [
        (true_ns, true_ns + int(rng.exponential(_HELD_NS)), d) for true_ns, d in up.due(2**62)
    ]
    stamps: dict[bytes, tuple[int, int]] = {}
    for came_ns, left_ns, data in sorted(held_ns, key=lambda item: item[1]):
        stamps[data] = came_ns, left_ns
        down.send(data, left_ns)
    for back_ns, data in down.due(2**62):
        came_ns, left_ns = stamps[data]
        yield (
            back_ns,
            Exchange(
                t1_ns=own.of_true(asked_ns[int.from_bytes(data)]),
                t2_ns=media_ns(came_ns),
                t3_ns=media_ns(left_ns),
                t4_ns=own.of_true(back_ns),
                clock_set_ns=clock_set_ns,
            ),
        )


def exchange_at(
    own: OwnClock, true_ns: int, *, there_ns: int, back_ns: int, clock_set_ns: int = 1
) -> Exchange:
    """One exchange begun at a true time, with these delays."""
    return Exchange(
        t1_ns=own.of_true(true_ns),
        t2_ns=media_ns(true_ns + there_ns),
        t3_ns=media_ns(true_ns + there_ns),
        t4_ns=own.of_true(true_ns + there_ns + back_ns),
        clock_set_ns=clock_set_ns,
    )
