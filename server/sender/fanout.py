"""Datagrams to destinations, a chunk at a time, each chunk in its slot."""

import heapq
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import numpy as np

from server.processes.bus import LATENESS_BOUNDS_US
from server.processes.ring import RTCP, RTP, Entry
from server.processes.routing import Route, Routes
from server.sender.pacing import Pacing, chunk_of, gap_ns
from transport.clock.timeline import NS_PER_MS
from transport.net.batch import Addresses, PlainTransmitter
from transport.net.clocks import HostClock

MAX_QUEUE: Final = 256
# Reports are in no hurry, and must not delay the frame that comes with them.
_REPORTS_SLOWER = 4
_STALE_NS = 200 * NS_PER_MS
_STALE_FRAMES = 4
# The kernel's buffer is full: what a few hundred packets take has left by then.
_ROOM_NS = NS_PER_MS // 2

type_pair = tuple[Addresses, Addresses]


@dataclass(slots=True)
class FanOutCounters:
    """What became of datagrams; each is as `SenderReport` says."""

    datagrams: int = 0
    errors: int = 0
    stale: int = 0
    lateness: list[int] = field(default_factory=lambda: [0] * (len(LATENESS_BOUNDS_US) + 1))
    late_max_us: int = 0
    queue: int = 0
    deepest: int = 0
    destinations: int = 0


@dataclass(frozen=True, slots=True)
class _Way:
    """Where datagrams of one kind of one stream go, how many at a time, and how fast."""

    to: Addresses
    gap_ns: float
    stale_ns: float
    chunk: int


@dataclass(slots=True)
class _Job:
    """A datagram on its way: `at` is the first destination that it was not yet sent to."""

    datagram: bytes
    way: _Way
    written_ns: int
    at: int = 0

    @property
    def slot_ns(self) -> int:
        """When its next chunk shall leave."""
        return self.written_ns + int((self.at - self.at % self.way.chunk) * self.way.gap_ns)

    @property
    def left(self) -> int:
        """To how many it is still to be sent."""
        return len(self.way.to) - self.at


class FanOut:
    """Sends each ring entry to its stream's destinations; a failing one slows no other.

    Of `shards` senders this one has every destination whose number in its route leaves `shard`.
    Datagrams of one kind of one stream leave one after another, so that each destination has them
    in order; those of different streams take turns by their slots. `now_ns` reads CLOCK_BOOTTIME,
    for how late a chunk was is known when it has left.
    """

    def __init__(
        self,
        transmitter: PlainTransmitter,
        shard: int = 0,
        shards: int = 1,
        *,
        pacing: Pacing | None = None,
        now_ns: Callable[[], int] | None = None,
    ) -> None:
        self._transmitter = transmitter
        self._rows = slice(shard, None, shards)
        self._pacing = pacing or Pacing()
        self._now_ns = now_ns or HostClock().now_ns
        self._laid_out: dict[bytes, type_pair] = {}
        self._ways: dict[tuple[int, int], _Way] = {}
        self._jobs: dict[tuple[int, int], deque[_Job]] = {}
        # (slot of the first job's next chunk, the order they came in, whose it is)
        self._slots: list[tuple[int, int, tuple[int, int]]] = []
        self._order = count()
        self._blocked_until_ns = 0
        self.counters = FanOutCounters()

    def declare(self, routes: Routes) -> None:
        """The streams to forward from now on; entries of any other are dropped.

        What is being sent goes on to those it was for.
        """
        laid_out: dict[bytes, type_pair] = {}
        for route in routes.routes:
            key = route.destinations
            if key not in laid_out:
                laid_out[key] = self._laid_out.get(key) or self._lay_out(route)
        self._laid_out = laid_out
        frames = [
            (*laid_out[r.destinations], r.stream, r.frame_ms * NS_PER_MS) for r in routes.routes
        ]
        share = self._pacing.share((len(rtp), frame_ns) for rtp, _, _, frame_ns in frames)
        self._ways = {}
        for rtp, rtcp, stream, frame_ns in frames:
            gap = gap_ns(share, len(rtp), frame_ns)
            stale_ns = max(_STALE_NS, _STALE_FRAMES * frame_ns)
            chunk, slower = chunk_of(gap), gap * _REPORTS_SLOWER
            self._ways[stream, RTP] = _Way(rtp, gap, stale_ns, chunk)
            self._ways[stream, RTCP] = _Way(rtcp, slower, stale_ns, chunk_of(slower))
        self.counters.destinations = sum(len(rtp) for rtp, _, _, _ in frames)

    def _lay_out(self, route: Route) -> type_pair:
        rows, family = route.rows[self._rows], self._transmitter.family
        rtp = Addresses(rows["address"], rows["port"], family)
        if np.array_equal(rows["port"], rows["rtcp_port"]):
            return rtp, rtp
        return rtp, Addresses(rows["address"], rows["rtcp_port"], family)

    def take(self, entry: Entry, now_ns: int) -> None:
        """A datagram to send; the oldest gives way when too many are on their way.

        What no route was declared for is dropped: other streams, and repairs of all.
        """
        key = (entry.stream, entry.kind)
        way = self._ways.get(key)
        if way is None:
            return
        self.counters.errors += way.to.unreachable
        if not len(way.to):
            return
        if self.counters.queue >= MAX_QUEUE:
            self._give_up()
        job = _Job(entry.datagram, way, entry.written_ns or now_ns)
        waiting = self._jobs.setdefault(key, deque())
        waiting.append(job)
        if len(waiting) == 1:
            heapq.heappush(self._slots, (job.slot_ns, next(self._order), key))
        self.counters.queue += 1
        self.counters.deepest = max(self.counters.deepest, self.counters.queue)

    def work(self, now_ns: int) -> int | None:
        """Send one chunk if one is due; when the next one is, or None if there is none.

        What is too late to be heard is not sent. A time that has passed already means: call again.
        """
        if not self._slots:
            return None
        if now_ns < self._blocked_until_ns:
            return self._blocked_until_ns
        slot_ns, _, key = self._slots[0]
        if slot_ns > now_ns:
            return slot_ns
        job = self._jobs[key][0]
        if now_ns - slot_ns > job.way.stale_ns:
            self._give_up()
        else:
            self._send_chunk(job, slot_ns)
            self._go_on(key, job)
        if now_ns < self._blocked_until_ns:
            return self._blocked_until_ns
        return self._slots[0][0] if self._slots else None

    def _send_chunk(self, job: _Job, slot_ns: int) -> None:
        to, counters = job.way.to, self.counters
        stop = min(len(to), job.at - job.at % job.way.chunk + job.way.chunk)
        sent, failed, left = self._transmitter.send(job.datagram, to, job.at, stop)
        job.at = stop - left
        now_ns = self._now_ns()
        if left:
            self._blocked_until_ns = now_ns + _ROOM_NS
        late_us = max(0, now_ns - slot_ns) // 1_000
        counters.lateness[bisect_left(LATENESS_BOUNDS_US, late_us)] += sent
        counters.late_max_us = max(counters.late_max_us, late_us)
        counters.datagrams += sent
        counters.errors += failed

    def _give_up(self) -> None:
        """Drop what should have left first."""
        _, _, key = self._slots[0]
        job = self._jobs[key][0]
        self.counters.stale += job.left
        job.at = len(job.way.to)
        self._go_on(key, job)

    def _go_on(self, key: tuple[int, int], job: _Job) -> None:
        """The first slot has been dealt with: put that stream where its next one belongs."""
        waiting = self._jobs[key]
        if not job.left:
            waiting.popleft()
            self.counters.queue -= 1
        if waiting:
            heapq.heapreplace(self._slots, (waiting[0].slot_ns, next(self._order), key))
        else:
            heapq.heappop(self._slots)
            del self._jobs[key]
