"""The seeded virtual network: one direction of a path, without sockets, on virtual time.

Bursts and outages are weather: they happen in time whatever is sent, and each has a generator of
its own. So two schemes measured with one seed meet the same bad moments, however many packets
each of them sends.
"""

import heapq
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

MS = 1_000_000
SECOND = 1_000 * MS


def _require(ok: bool, what: str) -> None:
    if not ok:
        raise ValueError(what)


@dataclass(frozen=True, slots=True)
class Burst:
    """Gilbert-Elliott loss in continuous time: a bad state that loses everything.

    `rate` is the mean loss (the share of time that is bad), `mean_ns` the mean length of a bad
    spell; both spells are exponential, so neither figure depends on how often packets are sent.
    """

    rate: float
    mean_ns: int

    def __post_init__(self) -> None:
        _require(0.0 < self.rate < 1.0 and self.mean_ns > 0, "0 < rate < 1, and a duration")


@dataclass(frozen=True, slots=True)
class Outages:
    """One gap in every period, of evenly distributed length, at a random place inside it."""

    every_ns: int
    shortest_ns: int
    longest_ns: int

    def __post_init__(self) -> None:
        fits = 0 < self.every_ns >= self.longest_ns >= self.shortest_ns >= 0
        _require(fits, "0 <= shortest <= longest <= every, and every > 0")


@dataclass(frozen=True, slots=True)
class Jitter:
    """Delay drawn anew for each packet: exponential of mean `scale_ns`, or a GEV of that scale.

    The latter has location and shape 0. Its negative part, 37 %, is no jitter: an empty queue.
    """

    law: Literal["exponential", "gev"]
    scale_ns: int

    def __post_init__(self) -> None:
        _require(self.scale_ns >= 0, "jitter is not negative")

    def draw_ns(self, rng: np.random.Generator) -> int:
        """One extra delay."""
        if self.law == "exponential":
            return round(rng.exponential(self.scale_ns))
        return max(0, round(rng.gumbel(0.0, self.scale_ns)))


@dataclass(frozen=True, slots=True)
class Straggle:
    """Some packets wait `extra_ns` longer: jitter's heavy tail, or a reordered packet."""

    rate: float
    extra_ns: int

    def __post_init__(self) -> None:
        _require(0.0 <= self.rate <= 1.0 and self.extra_ns >= 0, "0 <= rate <= 1, extra_ns >= 0")


@dataclass(frozen=True, slots=True)
class Impairments:
    """What one direction of a path does to packets. The default is a perfect wire.

    `loss` and `duplicate` are rates of independent events; `extra_delay_ns` is this direction's
    bias, which no exchange of timestamps can see.
    """

    loss: float = 0.0
    burst: Burst | None = None
    outages: Outages | None = None
    delay_ns: int = 0
    extra_delay_ns: int = 0
    jitter: Jitter | None = None
    tail: Straggle | None = None
    reorder: Straggle | None = None
    duplicate: float = 0.0

    def __post_init__(self) -> None:
        _require(0.0 <= self.loss <= 1.0 and 0.0 <= self.duplicate <= 1.0, "a rate lies in 0..1")
        _require(min(self.delay_ns, self.extra_delay_ns) >= 0, "a delay is not negative")


class _BurstWeather:
    """Where the two-state process stands; advanced to the time of each packet."""

    def __init__(self, burst: Burst, rng: np.random.Generator) -> None:
        self._rng = rng
        self._rate = burst.rate
        self._mean_ns = {True: burst.mean_ns, False: burst.mean_ns * (1 / burst.rate - 1)}
        self._bad, self._until_ns = False, -1

    def is_bad(self, now_ns: int) -> bool:
        if self._until_ns < 0 or now_ns - self._until_ns > 1_000 * sum(self._mean_ns.values()):
            # The beginning, or a silence so long that nothing is left to remember.
            self._bad = self._rng.random() < self._rate
            self._until_ns = now_ns + self._spell_ns()
        while self._until_ns <= now_ns:
            self._bad = not self._bad
            self._until_ns += self._spell_ns()
        return self._bad

    def _spell_ns(self) -> int:
        return 1 + int(self._rng.exponential(self._mean_ns[self._bad]))


class _OutageWeather:
    """The gap of the period that a packet falls in, seeded by the period's number."""

    def __init__(self, outages: Outages, rng: np.random.Generator) -> None:
        self._plan = outages
        self._seed = int(rng.integers(2**63))
        self._period = -1
        self._gap_ns = range(0)

    def is_bad(self, now_ns: int) -> bool:
        period, plan = now_ns // self._plan.every_ns, self._plan
        if period != self._period:
            self._period = period
            rng = np.random.default_rng((self._seed, period))
            length_ns = int(rng.integers(plan.shortest_ns, plan.longest_ns, endpoint=True))
            wait_ns = int(rng.integers(0, plan.every_ns - length_ns, endpoint=True))
            start_ns = period * plan.every_ns + wait_ns
            self._gap_ns = range(start_ns, start_ns + length_ns)
        return now_ns in self._gap_ns


class Link:
    """One direction of a path: packets go in at a time and come out later, or not at all.

    At most `limit` packets are in flight; what is sent beyond that is counted in `dropped`. Always
    sent + duplicated = delivered + lost + dropped + in_flight. Generators are spawned from `rng`:
    links made from one generator differ, and repeat when its seed does.
    """

    def __init__(self, path: Impairments, rng: np.random.Generator, limit: int = 100_000) -> None:
        self.sent = self.duplicated = self.delivered = self.lost = self.dropped = 0
        self._path = path
        self._limit, self._now_ns = limit, 0
        self._in_flight: list[tuple[int, int, bytes]] = []
        self._fate, self._wait, burst_rng, outage_rng = rng.spawn(4)
        self._weather: list[_BurstWeather | _OutageWeather] = []
        if path.burst is not None:
            self._weather.append(_BurstWeather(path.burst, burst_rng))
        if path.outages is not None:
            self._weather.append(_OutageWeather(path.outages, outage_rng))

    @property
    def in_flight(self) -> int:
        """Packets accepted and not yet handed out."""
        return len(self._in_flight)

    def send(self, data: bytes, now_ns: int) -> None:
        """Put a packet on the path. Times never go back, nor below 0: ValueError."""
        _require(now_ns >= self._now_ns, "time does not go back")
        self._now_ns = now_ns
        self.sent += 1
        # Two draws for every packet, so that the fate of one does not shift the next one's.
        for_loss, for_twice = self._fate.random(2)
        if for_loss < self._path.loss or any(bad.is_bad(now_ns) for bad in self._weather):
            self.lost += 1
            return
        self._enqueue(data, now_ns)
        if for_twice < self._path.duplicate:
            self.duplicated += 1
            self._enqueue(data, now_ns)

    def due(self, now_ns: int) -> list[tuple[int, bytes]]:
        """Take what has arrived by now, as (arrival time in ns, data) in order of arrival."""
        arrived: list[tuple[int, bytes]] = []
        while self._in_flight and self._in_flight[0][0] <= now_ns:
            arrived.append(heapq.heappop(self._in_flight)[::2])
        self.delivered += len(arrived)
        return arrived

    def next_due_ns(self) -> int | None:
        """When the next packet arrives; None if none is in flight."""
        return self._in_flight[0][0] if self._in_flight else None

    def _enqueue(self, data: bytes, now_ns: int) -> None:
        if len(self._in_flight) >= self._limit:
            self.dropped += 1
            return
        serial = self.sent + self.duplicated  # keeps equal arrival times in order of sending
        heapq.heappush(self._in_flight, (now_ns + self._delay_ns(), serial, data))

    def _delay_ns(self) -> int:
        delay_ns = self._path.delay_ns + self._path.extra_delay_ns
        if self._path.jitter is not None:
            delay_ns += self._path.jitter.draw_ns(self._wait)
        for straggle in (self._path.tail, self._path.reorder):
            if straggle is not None and self._wait.random() < straggle.rate:
                delay_ns += straggle.extra_ns
        return delay_ns


@dataclass(frozen=True, slots=True)
class Profile:
    """A path that is alike both ways, but for an uplink bias drawn once for each endpoint."""

    path: Impairments
    uplink_bias_ns: tuple[int, int] = (0, 0)

    def links(self, rng: np.random.Generator) -> tuple[Link, Link]:
        """Make an endpoint's path: (station to speaker, speaker to station)."""
        bias_ns = int(rng.integers(*self.uplink_bias_ns, endpoint=True))
        up = replace(self.path, extra_delay_ns=self.path.extra_delay_ns + bias_ns)
        return Link(self.path, rng), Link(up, rng)


# With exponential jitter of 2 ms, 0.67 % is above 10 ms anyway: this tail makes it 5 % in all.
_TAIL = Straggle((0.05 - math.exp(-5)) / (1 - math.exp(-5)), 10 * MS)
_WIFI = Impairments(burst=Burst(0.05, 20 * MS), jitter=Jitter("exponential", 2 * MS), tail=_TAIL)
_GAPS = Outages(30 * SECOND, 60 * MS, 60 * MS)
_EDGE = Impairments(burst=Burst(0.20, 200 * MS), delay_ns=75 * MS)

# What the measured profiles define and no more: where they name no delay, it is 0.
PROFILES: dict[str, Profile] = {
    "L0": Profile(Impairments(loss=0.0001, delay_ns=MS // 10)),
    "L1": Profile(_WIFI),
    "L2": Profile(Impairments(burst=Burst(0.10, 40 * MS))),
    "M1": Profile(Impairments(loss=0.005, outages=_GAPS, jitter=Jitter("gev", 15 * MS))),
    "M2": Profile(Impairments(burst=Burst(0.10, 100 * MS), delay_ns=50 * MS)),
    "M3": Profile(_EDGE, uplink_bias_ns=(10 * MS, 40 * MS)),
    "O1": Profile(Impairments(loss=0.01, outages=Outages(5 * SECOND, 100 * MS, 500 * MS))),
    **{f"R{percent}": Profile(Impairments(loss=percent / 100)) for percent in (5, 10, 20, 30)},
}
