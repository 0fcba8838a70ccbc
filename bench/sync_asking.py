"""How a simulated loudspeaker learns the media clock: real packets, at the real pace, over links.

One loudspeaker, one event at a time on virtual time. Questions and answers are the sealed NTP
packets that a station and its loudspeakers exchange, and what makes exchanges of them is
`endpoints.fleet.timing.TimeLearner`, which differs from `endpoints.sync` by having no socket.
"""

import heapq
import itertools
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.network import MS, SECOND, Link
from bench.sync_clocks import MEDIA_EPOCH_NS, OwnTime
from endpoints.fleet.timing import Estimator, TimeLearner
from transport.clock.estimator import ClockEstimate, ClockEstimator
from transport.clock.exchange import Exchange, answer
from transport.errors import MalformedPacket
from transport.security.session_keys import open_time, seal_time, session_key

# How long the station holds a question before it answers: a busy machine's 15 us on average.
_HELD_NS = 15_000
_SESSION = 7
FRAME_NS = 20 * MS
_KEY = session_key(bytes(32), _SESSION)


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a loudspeaker knew from a true time on; `forgot` if its place was void from then."""

    true_ns: int
    exchange: Exchange
    estimate: ClockEstimate | None
    forgot: bool


class Station:
    """Answers questions for the time by a media clock that may be set while it runs."""

    def __init__(self) -> None:
        self.ahead_ns = 0
        self.clock_set_ns = 1
        self.awake = True

    def media_ns(self, true_ns: int) -> int:
        """What its media clock shows."""
        return MEDIA_EPOCH_NS + self.ahead_ns + true_ns

    def answer(self, question: bytes, came_ns: int, left_ns: int) -> bytes:
        """The datagram that answers this one, which was here between these true times."""
        request = open_time(question, _SESSION, _KEY)
        reply = answer(request, self.media_ns(came_ns), self.media_ns(left_ns), self.clock_set_ns)
        return seal_time(reply, _SESSION, _KEY)


class Asking:
    """One loudspeaker's questions and answers under way."""

    def __init__(
        self,
        own: OwnTime,
        links: tuple[Link, Link],
        station: Station,
        rng: np.random.Generator,
        estimator: Estimator,
        every_s: float = 1.0,
    ) -> None:
        """`links` are (station to speaker, speaker to station); it asks as often as `every_s`."""
        self.own = own
        self.questions = 0
        self.dropped = 0
        self._down, self._up = links
        self._station, self._rng = station, rng
        self._estimator = _Noting(estimator)
        self._learner = TimeLearner(lambda: int(rng.integers(2**63)), self._estimator)
        self._learner.begin(_SESSION, _KEY, every_s)
        self._ask_at_ns = 0
        self._serial = itertools.count()
        self._held: list[tuple[int, int, int, bytes]] = []

    @property
    def estimate(self) -> ClockEstimate | None:
        """What it knows now."""
        return self._learner.estimate

    def advance(self, until_ns: int) -> list[Learnt]:
        """Everything that happens up to this true time; what was learnt by it, in order."""
        learnt: list[Learnt] = []
        while (now_ns := self._next_ns()) <= until_ns:
            self._at_station(now_ns)
            for came_ns, data in self._down.due(now_ns):
                learnt += self._hear(data, came_ns)
            if self._ask_at_ns <= now_ns:
                self._ask(now_ns)
        return learnt

    def _next_ns(self) -> int:
        times = [self._ask_at_ns]
        times += [at for link in (self._up, self._down) if (at := link.next_due_ns()) is not None]
        return min(times + [item[0] for item in self._held[:1]])

    def _ask(self, now_ns: int) -> None:
        self.questions += 1
        self._up.send(self._learner.question(self.own.of_true(now_ns)), now_ns)
        self._ask_at_ns = now_ns + self._learner.pause_ns()

    def _at_station(self, now_ns: int) -> None:
        for came_ns, data in self._up.due(now_ns):
            if self._station.awake:
                left_ns = came_ns + round(self._rng.exponential(_HELD_NS))
                heapq.heappush(self._held, (left_ns, next(self._serial), came_ns, data))
        while self._held and self._held[0][0] <= now_ns:
            left_ns, _, came_ns, data = heapq.heappop(self._held)
            self._down.send(self._station.answer(data, came_ns, left_ns), left_ns)

    def _hear(self, data: bytes, came_ns: int) -> list[Learnt]:
        try:
            hurry = self._learner.answer(data, self.own.of_true(came_ns))
        except MalformedPacket:  # a copy, or older than anything that is remembered
            self.dropped += 1
            return []
        if hurry:
            self._ask_at_ns = came_ns
        exchange, forgot = self._estimator.noted.popleft()
        return [Learnt(came_ns, exchange, self._learner.estimate, forgot)]


class _Noting:
    """An estimator as it is, and what it was given."""

    def __init__(self, inner: Estimator) -> None:
        self._inner = inner
        self.estimate = inner.estimate
        self.noted: deque[tuple[Exchange, bool]] = deque()

    @property
    def exchanges(self) -> int:
        return self._inner.exchanges

    @property
    def in_doubt(self) -> bool:
        return self._inner.in_doubt

    def add(self, exchange: Exchange) -> bool:
        forgot = self._inner.add(exchange)
        self.estimate = self._inner.estimate
        self.noted.append((exchange, forgot))
        return forgot


@dataclass(frozen=True, slots=True)
class Sound:
    """What came of a programme: (true time of arrival, media time in ns), in order of arrival."""

    packets: list[tuple[int, int]]


def sound(link: Link, from_s: float, until_s: float, sender_late_ns: NDArray[np.int64]) -> Sound:
    """A programme over this link, each packet sent as late as its number says."""
    first = round(from_s * SECOND)
    count = round((until_s - from_s) * SECOND / FRAME_NS)
    for number in range(count):
        late_ns = int(sender_late_ns[number % len(sender_late_ns)])
        link.send(number.to_bytes(4), first + number * FRAME_NS + late_ns)
    media_ns = first + MEDIA_EPOCH_NS
    arrived = link.due(2**62)
    return Sound([(at_ns, media_ns + int.from_bytes(n) * FRAME_NS) for at_ns, n in arrived])


def relearn(heard: list[Learnt], estimator: Estimator) -> list[Learnt]:
    """What another estimator would have known, from the very same exchanges."""
    again = []
    for one in heard:
        forgot = estimator.add(one.exchange)
        again.append(Learnt(one.true_ns, one.exchange, estimator.estimate, forgot))
    return again


def relearn_by_ear(heard: list[Learnt], own: OwnTime, programme: Sound) -> list[Learnt]:
    """What ours would have known, had it been told of the programme's packets as well."""
    estimator, again, told = ClockEstimator(), [], 0
    for one in heard:
        while told < len(programme.packets) and programme.packets[told][0] <= one.true_ns:
            at_ns, media_ns = programme.packets[told]
            estimator.arrived(1, media_ns, own.of_true(at_ns))
            told += 1
        forgot = estimator.add(one.exchange)
        again.append(Learnt(one.true_ns, one.exchange, estimator.estimate, forgot))
    return again
