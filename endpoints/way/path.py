"""How a loudspeaker opens its way for unicast and keeps it open. Sans-I/O.

STUN Binding requests (RFC 8489) go from the media port to the station's, under the session's key.
They tell the station where the loudspeaker is, hold whatever NAT lies between open, and show
whether UDP goes through at all.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from transport.clock.timeline import NS_PER_SECOND
from transport.errors import MalformedPacket
from transport.security import stun

# RFC 8489 section 6.2.1 doubles as well; but sound waits for this, so it begins earlier.
_TRIES_NS = (100_000_000, 200_000_000, 400_000_000, 800_000_000)
KEEP_ALIVE_NS = 15 * NS_PER_SECOND
RETRY_NS = 5 * NS_PER_SECOND
# Sound that stops may have been cut off. Discontinuous transmission is silent for less.
QUIET_NS = NS_PER_SECOND
# Behind type, length and cookie (RFC 8489 section 5).
_TRANSACTION = slice(8, 8 + stun.TRANSACTION_BYTES)
# A nonce is good for a minute at least, so one that is answered by another is nobody's mistake
# but the station's: it shall not be asked for ever, as fast as the network goes.
_MAX_CHALLENGES = 3


@dataclass(frozen=True, slots=True)
class Opened:
    """The way is open; the station sees us at this address."""

    address: str
    port: int


@dataclass(frozen=True, slots=True)
class Challenged:
    """The station wants to see that we are where we seem to be: ask again, at once."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Four questions had no answer: UDP does not go through now."""


PathEvent = Opened | Challenged | Lost


@dataclass(slots=True)
class _Question:
    """One transaction, said up to four times."""

    transaction: bytes
    nonce: bytes | None = None
    tries: int = 0
    challenges: int = 0


class KeepAlive:
    """Says what to send at which time, and what the answers mean."""

    def __init__(self, draw: Callable[[int], bytes]) -> None:
        """`draw` gives so many random bytes: RFC 8489 section 5 wants unguessable transactions."""
        self._draw = draw
        self._session, self._key = 0, b""
        self._question: _Question | None = None
        self._events: deque[PathEvent] = deque()
        # What may still be answered a second time, for it was asked more than once.
        self._settled: deque[bytes] = deque(maxlen=2 * _MAX_CHALLENGES)
        self._seen_at: Opened | None = None
        self._deadline_ns: int | None = None
        self._quiet_ns: int | None = None
        # Whether sound comes by another way meanwhile, so that there is no hurry.
        self.relayed = False

    @property
    def open(self) -> bool:
        """Whether unicast by UDP reaches us, as far as is known."""
        return self._seen_at is not None

    @property
    def deadline_ns(self) -> int | None:
        """When to call `request` next; None while there is no session."""
        if self._quiet_ns is None or self._deadline_ns is None:
            return self._deadline_ns
        return min(self._deadline_ns, self._quiet_ns)

    def heard(self, now_ns: int) -> bool:
        """Something came by this way; true if `deadline_ns` is earlier by that than it was."""
        if self._seen_at is None or self._question is not None:
            return False
        sooner = self._quiet_ns is None
        self._quiet_ns = now_ns + QUIET_NS
        return sooner

    def begin(self, session: int, key: bytes, now_ns: int) -> None:
        """A new session, whose way is yet to be opened."""
        self._session, self._key = session, key
        self._question = self._seen_at = self._quiet_ns = None
        self._events.clear()
        self._deadline_ns = now_ns

    def request(self, now_ns: int) -> bytes | None:
        """The datagram to send now, if one is due."""
        deadline_ns = self.deadline_ns
        if deadline_ns is None or now_ns < deadline_ns:
            return None
        self._quiet_ns = None
        if self._question is None:
            self._question = _Question(self._draw(stun.TRANSACTION_BYTES))
        question = self._question
        if question.tries == len(_TRIES_NS):
            self._give_up(question, now_ns)
            return None
        self._deadline_ns = now_ns + _TRIES_NS[question.tries]
        question.tries += 1
        return stun.request(question.transaction, self._session, self._key, question.nonce)

    def _give_up(self, question: _Question, now_ns: int) -> None:
        self._settled.append(question.transaction)
        self._question = self._seen_at = None
        self._deadline_ns = now_ns + (KEEP_ALIVE_NS if self.relayed else RETRY_NS)
        self._events.append(Lost())

    def receive(self, data: bytes, now_ns: int) -> None:
        """An answer of the station's; MalformedPacket for what is none to an open question."""
        if not stun.is_stun(data):
            raise MalformedPacket("stun_head")
        transaction = data[_TRANSACTION]
        if transaction in self._settled:
            return  # the second answer to what we asked twice
        question = self._question
        if question is None or transaction != question.transaction:
            raise MalformedPacket("stun_unasked")
        match stun.parse_response(data, question.transaction, self._key):
            case stun.Mapped(address, port):
                self._settle(question, Opened(address, port), now_ns)
            case stun.Challenge(nonce):
                self._take_up(question, nonce, now_ns)

    def _settle(self, question: _Question, seen_at: Opened, now_ns: int) -> None:
        self._settled.append(question.transaction)
        self._question = None
        self._deadline_ns = now_ns + KEEP_ALIVE_NS
        if seen_at != self._seen_at:
            self._seen_at = seen_at
            self._events.append(seen_at)

    def _take_up(self, question: _Question, nonce: bytes, now_ns: int) -> None:
        if question.challenges == _MAX_CHALLENGES:
            raise MalformedPacket("stun_challenges")
        self._settled.append(question.transaction)
        # RFC 8489 section 9.2.5: a new transaction.
        self._question = _Question(
            self._draw(stun.TRANSACTION_BYTES), nonce, challenges=question.challenges + 1
        )
        self._deadline_ns = now_ns
        self._events.append(Challenged())

    def events(self) -> list[PathEvent]:
        """What has happened since this was last asked."""
        events = list(self._events)
        self._events.clear()
        return events
