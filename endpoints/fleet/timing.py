"""How one simulated loudspeaker learns the time: as `endpoints.sync`, without a task or a socket.

Sans-I/O. Ten thousand of these share one socket and one loop.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from endpoints.pace import QuestionPace
from transport.clock.estimator import ClockEstimate
from transport.clock.exchange import Exchange, ExchangeClient
from transport.clock.timeline import NS_PER_SECOND
from transport.security.session_keys import open_time, seal_time

_NEWEST, _LEAST_EXCHANGES = 8, 4


class Estimator(Protocol):
    """Learns another clock from exchanges: see `ClockEstimator`."""

    estimate: ClockEstimate | None

    @property
    def exchanges(self) -> int:
        """How many exchanges the estimate rests on."""

    @property
    def in_doubt(self) -> bool:
        """Whether the newest exchange contradicts the estimate: ask again soon."""

    def add(self, exchange: Exchange) -> bool:
        """Take one exchange in; true if everything known before had to be forgotten."""


class QuickestTrip:
    """An estimator that believes whichever of the newest exchanges waited least, and knows no skew.

    A fit of `ClockEstimator`'s takes half a millisecond, which each loudspeaker has a processor of
    its own for. Here a thousand a second would take a core away from what is measured, and all the
    clocks are one.
    """

    def __init__(self) -> None:
        self.estimate: ClockEstimate | None = None
        self._newest: deque[Exchange] = deque(maxlen=_NEWEST)
        self._count = 0

    @property
    def exchanges(self) -> int:
        """How many there were of this clock."""
        return self._count

    @property
    def in_doubt(self) -> bool:
        """Never."""
        return False

    def add(self, exchange: Exchange) -> bool:
        """Take one exchange in; true if it is of another clock than those before."""
        forgot = bool(self._newest) and self._newest[-1].clock_set_ns != exchange.clock_set_ns
        if forgot:
            self._newest.clear()
            self.estimate, self._count = None, 0
        self._newest.append(exchange)
        self._count += 1
        if len(self._newest) >= _LEAST_EXCHANGES:
            best = min(self._newest, key=lambda e: e.round_trip_ns)
            ours_ns, theirs_ns = best.t1_ns + best.t4_ns, best.t2_ns + best.t3_ns
            self.estimate = ClockEstimate(
                best.t4_ns, 0.0, (theirs_ns - ours_ns) // 2, 0.0, best.round_trip_ns / 2
            )
        return forgot


class TimeLearner:
    """Questions and answers of one loudspeaker."""

    def __init__(self, nonce: Callable[[], int], estimator: Estimator) -> None:
        """`nonce` draws 64 bits."""
        self._client = ExchangeClient(nonce)
        self._estimator = estimator
        self._session, self._key = 0, b""
        self._every_s = 1.0
        self._pace = QuestionPace()
        self._unanswered = 0

    @property
    def estimate(self) -> ClockEstimate | None:
        """The newest knowledge of the media clock."""
        return self._estimator.estimate

    def begin(self, session: int, key: bytes, every_s: float) -> None:
        """A new session, which asks every `every_s` once it knows the time: begin with a burst."""
        self._session, self._key = session, key
        self._every_s = every_s
        self._pace.begin()

    def question(self, now_ns: int) -> bytes:
        """The datagram to send now."""
        nonce, packet = self._client.request()
        self._unanswered += 1
        self._client.sent(nonce, now_ns)
        return seal_time(packet, self._session, self._key)

    def pause_ns(self) -> int:
        """How long to wait from this question to the next; to be called once for each."""
        pause_s = self._pace.pause_s(
            self._every_s, self._estimator.exchanges, answered=self._unanswered < 2
        )
        return round(pause_s * NS_PER_SECOND)

    def answer(self, data: bytes, arrival_ns: int) -> bool:
        """Whether to ask again at once, as the clock may be another; MalformedPacket if it is none.

        `arrival_ns` is of the clock that gave the questions' times.
        """
        packet = open_time(data, self._session, self._key)
        exchange = self._client.receive(packet, arrival_ns)
        self._unanswered = 0
        if self._estimator.add(exchange) or (self._estimator.in_doubt and not self._pace.in_burst):
            self._pace.begin()
            return True
        return False
