"""The programmes there shall be, against the programmes there are."""

import threading
from collections.abc import Callable

from server.bus import DeclareProgrammes, ProducerReport, ProgrammeOrder
from server.producer.programme import ENDED, LIVE, Programme

# A source whose connection broke may come back with its ticket for so long.
_ABANDONED_NS = 5_000_000_000


class Registry:
    """Holds each declared programme and who speaks in it; shared between threads."""

    def __init__(self, instance: str, build: Callable[[ProgrammeOrder], Programme]) -> None:
        self._instance = instance
        self._build = build
        self._lock = threading.Lock()
        self._programmes: dict[str, Programme] = {}
        self._speaking: dict[str, object] = {}

    def declare(self, wanted: DeclareProgrammes) -> None:
        """Begin what is new, end what is no longer wanted."""
        orders = {order.programme: order for order in wanted.programmes}
        with self._lock:
            gone = [name for name in self._programmes if name not in orders]
            ended = [self._programmes.pop(name) for name in gone]
            for name, order in orders.items():
                if name not in self._programmes:
                    self._programmes[name] = self._build(order)
        for programme in ended:
            programme.finish()

    def claim(self, ticket: str, speaker: object) -> Programme | None:
        """The programme this ticket may speak in; a newer speaker replaces an older one."""
        with self._lock:
            for name, programme in self._programmes.items():
                if programme.order.ticket == ticket and programme.state != ENDED:
                    self._speaking[name] = speaker
                    programme.abandoned_at_ns = None
                    return programme
        return None

    def speaks(self, programme: Programme, speaker: object) -> bool:
        """Whether `speaker` still has the word."""
        with self._lock:
            return self._speaking.get(programme.order.programme) is speaker

    def abandon(self, programme: Programme, speaker: object, now_ns: int) -> None:
        """The speaker's connection broke without a farewell."""
        if self.speaks(programme, speaker) and programme.state == LIVE:
            programme.abandoned_at_ns = now_ns

    def report(self, now_ns: int) -> ProducerReport:
        """The state of everything; programmes abandoned for good are ended on the way."""
        with self._lock:
            programmes = list(self._programmes.values())
        for programme in programmes:
            since = programme.abandoned_at_ns
            if since is not None and now_ns - since > _ABANDONED_NS:
                programme.finish()
        return ProducerReport(self._instance, tuple(p.report() for p in programmes))
