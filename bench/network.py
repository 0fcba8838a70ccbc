"""The seeded virtual network: one direction of a path, without sockets, on virtual time.

Bursts and outages are weather: they happen in time whatever is sent, and each has a generator of
its own. So two schemes measured with one seed meet the same bad moments, however many packets
each of them sends; but for those that a narrow line's own queue delays. A recorded trace tells
packets, not times: its weather depends on how many are sent.
"""

import heapq
import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from bench.trace import Trace

MS = 1_000_000
SECOND = 1_000 * MS
_PACKET_BYTES = 1_500


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
class Bottleneck:
    """So many bits a second, behind a queue of so many bytes that drops what finds it full.

    Each packet counts `overhead_bytes` more than its data: by default UDP's header and IPv4's. Of
    what is on its way out, what is not yet out counts as waiting.
    """

    bits_per_second: int
    queue_bytes: int
    overhead_bytes: int = 28

    def __post_init__(self) -> None:
        _require(min(self.bits_per_second, self.queue_bytes) > 0, "a rate and a queue are not 0")
        _require(self.overhead_bytes >= 0, "an overhead is not negative")

    def takes_ns(self, wire_bytes: int) -> int:
        """How long so many bytes take to leave."""
        return wire_bytes * 8 * SECOND // self.bits_per_second


@dataclass(frozen=True, slots=True)
class Impairments:
    """What one direction of a path does to packets. The default is a perfect wire.

    `loss` and `duplicate` are rates of independent events; `extra_delay_ns` is this direction's
    bias, which no exchange of timestamps can see. A `trace` says what becomes of each packet in
    place of `loss`, `burst`, `outages`, `jitter`, `tail` and `reorder` (ValueError with any of
    them); its delays come on top of the two here. It begins at its packet number `trace_at`.
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
    bottleneck: Bottleneck | None = None
    trace: Trace | None = None
    trace_at: int = 0

    def __post_init__(self) -> None:
        _require(0.0 <= self.loss <= 1.0 and 0.0 <= self.duplicate <= 1.0, "a rate lies in 0..1")
        _require(min(self.delay_ns, self.extra_delay_ns) >= 0, "a delay is not negative")
        laws = (self.burst, self.outages, self.jitter, self.tail, self.reorder)
        lawless = not self.loss and all(law is None for law in laws)
        _require(self.trace is None or lawless, "a trace takes the place of loss and jitter")
        packets = 1 if self.trace is None else len(self.trace)
        _require(0 <= self.trace_at < packets, "a trace begins at one of its packets")


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


class _Replay:
    """A trace from one of its packets on; from one drawn anew each time it has ended."""

    def __init__(self, trace: Trace, place: int, rng: np.random.Generator) -> None:
        self._fates, self._place, self._rng = trace.fates, place, rng

    def next_ns(self) -> int | None:
        """The next packet's delay; None if it is lost."""
        if self._place == len(self._fates):
            self._place = int(self._rng.integers(len(self._fates)))
        fate = self._fates[self._place]
        self._place += 1
        return fate


class Link:
    """One direction of a path: packets go in at a time and come out later, or not at all.

    At most `limit` packets are in flight; what is sent beyond that, or finds the bottleneck's
    queue full, is counted in `dropped`. Always sent + duplicated = delivered + lost + dropped +
    in_flight. Generators are spawned from `rng`: links made from one generator differ, and repeat
    when its seed does.

    With `fates`, what became of each packet is appended to it: the delay in ns of whichever copy
    comes first, or None. `Trace(tuple(fates))` on a link without other delays then repeats it.
    """

    def __init__(
        self,
        path: Impairments,
        rng: np.random.Generator,
        limit: int = 100_000,
        fates: list[int | None] | None = None,
    ) -> None:
        self.sent = self.duplicated = self.delivered = self.lost = self.dropped = 0
        self._path, self._fates = path, fates
        self._limit, self._now_ns = limit, 0
        self._in_flight: list[tuple[int, int, bytes]] = []
        self._fate, self._wait, burst_rng, outage_rng = rng.spawn(4)
        self._weather: list[_BurstWeather | _OutageWeather] = []
        if path.burst is not None:
            self._weather.append(_BurstWeather(path.burst, burst_rng))
        if path.outages is not None:
            self._weather.append(_OutageWeather(path.outages, outage_rng))
        self._replay: _Replay | None = None
        if path.trace is not None:
            self._replay = _Replay(path.trace, path.trace_at, self._wait)
        self._busy_until_ns = 0  # when all that waits in the bottleneck's queue is out

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
        replayed_ns = 0 if self._replay is None else self._replay.next_ns()
        left_ns = self._pass_bottleneck(len(data), now_ns)
        delays_ns: list[int] = []
        if left_ns is None:
            self.dropped += 1
        elif replayed_ns is None or for_loss < self._path.loss or self._is_bad(left_ns):
            self.lost += 1
        else:
            twice = bool(for_twice < self._path.duplicate)
            self.duplicated += twice
            base_ns = left_ns + replayed_ns
            for _ in range(1 + twice):
                self._enqueue(data, base_ns, now_ns, delays_ns)
        if self._fates is not None:
            self._fates.append(min(delays_ns, default=None))

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

    def _is_bad(self, now_ns: int) -> bool:
        return any(bad.is_bad(now_ns) for bad in self._weather)

    def _pass_bottleneck(self, data_bytes: int, now_ns: int) -> int | None:
        """When it is out of the queue; None if the queue is full."""
        neck = self._path.bottleneck
        if neck is None:
            return now_ns
        out_ns = max(self._busy_until_ns, now_ns)
        out_ns += neck.takes_ns(data_bytes + neck.overhead_bytes)
        if out_ns - now_ns > neck.takes_ns(neck.queue_bytes):
            return None
        self._busy_until_ns = out_ns
        return out_ns

    def _enqueue(self, data: bytes, left_ns: int, sent_ns: int, delays_ns: list[int]) -> None:
        if len(self._in_flight) >= self._limit:
            self.dropped += 1
            return
        arrival_ns = left_ns + self._delay_ns()
        delays_ns.append(arrival_ns - sent_ns)
        serial = self.sent + self.duplicated  # keeps equal arrival times in order of sending
        heapq.heappush(self._in_flight, (arrival_ns, serial, data))

    def _delay_ns(self) -> int:
        delay_ns = self._path.delay_ns + self._path.extra_delay_ns
        if self._path.jitter is not None:
            delay_ns += self._path.jitter.draw_ns(self._wait)
        for straggle in (self._path.tail, self._path.reorder):
            if straggle is not None and self._wait.random() < straggle.rate:
                delay_ns += straggle.extra_ns
        return delay_ns


def _from_anywhere(path: Impairments, trace: Trace, rng: np.random.Generator) -> Impairments:
    return replace(path, trace_at=int(rng.integers(len(trace))))


@dataclass(frozen=True, slots=True)
class Profile:
    """A path that is alike both ways, but for an uplink bias drawn once for each endpoint.

    Unless `uplink` says what the way up is like.
    """

    path: Impairments
    uplink_bias_ns: tuple[int, int] = (0, 0)
    uplink: Impairments | None = None

    def links(self, rng: np.random.Generator, limit: int = 100_000) -> tuple[Link, Link]:
        """Make an endpoint's path: (station to speaker, speaker to station)."""
        bias_ns = int(rng.integers(*self.uplink_bias_ns, endpoint=True))
        up = self.path if self.uplink is None else self.uplink
        up = replace(up, extra_delay_ns=up.extra_delay_ns + bias_ns)
        if up.trace is not None and self.uplink is None:  # not both ways in step
            up = replace(up, trace_at=int(rng.integers(len(up.trace))))
        return Link(self.path, rng, limit), Link(up, rng, limit)

    def anywhere(self, rng: np.random.Generator) -> "Profile":
        """The same, each way's trace from a packet drawn anew: neighbours share no packets."""
        down, up = (
            path if path is None or path.trace is None else _from_anywhere(path, path.trace, rng)
            for path in (self.path, self.uplink)
        )
        return replace(self, path=down or self.path, uplink=up)

    def with_uplink(self, other: "Profile") -> "Profile":
        """The way down of this one, and the way up of another."""
        up = other.path if other.uplink is None else other.uplink
        return replace(self, uplink=up, uplink_bias_ns=other.uplink_bias_ns)

    def with_rtt(self, rtt_ms: float) -> "Profile":
        """The same with a round trip of so long, half of it each way; biases come on top.

        ValueError unless it is 0 to 60,000 ms.
        """
        _require(0 <= rtt_ms <= 60_000, "a round trip takes 0 to 60,000 ms")
        return self._changed(delay_ns=round(rtt_ms * MS / 2))

    def limited(self, kbps: float, queue_ms: float) -> "Profile":
        """The same with a bottleneck each way, whose queue holds what leaves in `queue_ms`.

        ValueError unless that is a packet at least, of 1,500 bytes.
        """
        _require(0 < kbps <= 10_000_000, "a rate is above 0 and at most 10,000,000 kb/s")
        _require(0 < queue_ms <= 60_000, "a queue takes up to 60,000 ms to empty")
        queue_bytes = round(kbps * queue_ms / 8)
        _require(queue_bytes >= _PACKET_BYTES, "a queue has room for a packet of 1,500 bytes")
        return self._changed(bottleneck=Bottleneck(round(kbps * 1000), queue_bytes))

    def _changed(self, **fields: Any) -> "Profile":
        uplink = None if self.uplink is None else replace(self.uplink, **fields)
        return replace(self, path=replace(self.path, **fields), uplink=uplink)


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


def profile(name: str, rtt_ms: float | None = None) -> Profile:
    """One of `PROFILES`, in capitals or not, with a round trip of `rtt_ms` in place of its own.

    ValueError for any other name, and for a round trip that is none.
    """
    if name.upper() not in PROFILES:
        raise ValueError(f"no profile {name!r}: use one of {', '.join(PROFILES)}")
    found = PROFILES[name.upper()]
    return found if rtt_ms is None else found.with_rtt(rtt_ms)
