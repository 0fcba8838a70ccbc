"""The programmes there shall be, against the programmes there are."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from codec.dsp.meter import FLOOR_DBFS
from codec.errors import CodecError
from server.processes.bus import DeclareProgrammes, ProducerReport, ProgrammeOrder, ProgrammeReport
from server.producer.programme import ENDED, LIVE, Programme

# A source whose connection broke may come back with its ticket for so long.
_ABANDONED_NS = 5_000_000_000
# Tickets of so many programmes that are over are known as such.
_REMEMBERED = 256
_log = logging.getLogger(__name__)


class Registry:
    """Holds each declared programme and who speaks in it; shared between threads."""

    def __init__(self, instance: str, build: Callable[[ProgrammeOrder], Programme]) -> None:
        self._instance = instance
        self._build = build
        self._lock = threading.Lock()
        self._programmes: dict[str, Programme] = {}
        self._speaking: dict[str, object] = {}
        self._refused: tuple[str, ...] = ()
        self._over: deque[str] = deque(maxlen=_REMEMBERED)

    def declare(self, wanted: DeclareProgrammes, now_ns: int) -> None:
        """Begin what is new, end what is no longer wanted, or no longer wanted as it was.

        What shall only have other keys or copies goes on: whoever speaks and listens notices
        nothing. An order that cannot be met is reported as ended: one bad order must not cost the
        others their voice.
        """
        orders = {order.programme: order for order in wanted.programmes}
        with self._lock:
            gone = [n for n, p in self._programmes.items() if not _is_wanted(p, orders.get(n))]
            ended = [self._programmes.pop(name) for name in gone]
            self._over.extend(programme.order.ticket for programme in ended)
            for name in gone:
                self._speaking.pop(name, None)
            for name, programme in self._programmes.items():
                before, order = programme.order, orders[name]
                if order.rekey != before.rekey:
                    programme.rekey(order, now_ns)
                if order.streams != before.streams:
                    programme.adapt(order)
            new = [order for name, order in orders.items() if name not in self._programmes]
            self._refused = tuple(order.programme for order in new if not self._begin(order))
        for programme in ended:
            programme.finish()

    def _begin(self, order: ProgrammeOrder) -> bool:
        try:
            self._programmes[order.programme] = self._build(order)
        except (ValueError, CodecError) as error:
            _log.warning("loa: %s cannot be encoded: %s", order.programme, error)
            return False
        return True

    def claim(self, ticket: str, speaker: object) -> Programme | None:
        """The programme this ticket may speak in; a newer speaker replaces an older one."""
        with self._lock:
            for name, programme in self._programmes.items():
                if programme.order.ticket == ticket and programme.state != ENDED:
                    self._speaking[name] = speaker
                    programme.abandoned_at_ns = None
                    return programme
        return None

    def is_over(self, ticket: str) -> bool:
        """Whether a ticket was good once: there is no point in showing it again."""
        with self._lock:
            return ticket in self._over or any(
                p.state == ENDED for p in self._programmes.values() if p.order.ticket == ticket
            )

    def speaks(self, programme: Programme, speaker: object) -> bool:
        """Whether `speaker` still has the word, in a programme that is still to be."""
        with self._lock:
            return self._has_the_word(programme, speaker)

    def _has_the_word(self, programme: Programme, speaker: object) -> bool:
        current = self._speaking.get(programme.order.programme)
        return programme.state != ENDED and current is speaker

    def abandon(self, programme: Programme, speaker: object, now_ns: int) -> None:
        """The speaker's connection broke without a farewell."""
        with self._lock:
            if self._has_the_word(programme, speaker) and programme.state == LIVE:
                programme.abandoned_at_ns = now_ns

    def report(self, now_ns: int) -> ProducerReport:
        """The state of everything; programmes abandoned for good are ended on the way."""
        with self._lock:
            # Under the lock, so that nobody claims a programme between the look and its end.
            for programme in self._programmes.values():
                since = programme.abandoned_at_ns
                if since is not None and now_ns - since > _ABANDONED_NS:
                    programme.finish()
            reports = [programme.report() for programme in self._programmes.values()]
            refused = [ProgrammeReport(n, ENDED, FLOOR_DBFS, 0.0, ()) for n in self._refused]
        return ProducerReport(self._instance, (*reports, *refused))


def _is_wanted(programme: Programme, order: ProgrammeOrder | None) -> bool:
    """Whether a programme is what was ordered, but perhaps for its keys and what goes along."""
    return order is not None and _lasting(order) == _lasting(programme.order)


def _lasting(order: ProgrammeOrder) -> ProgrammeOrder:
    """What an order says that does not change while a programme sounds."""
    streams = tuple(replace(stream, copies=(), code=None) for stream in order.streams)
    return replace(order, streams=streams, rekey=0)
