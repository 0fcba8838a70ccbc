"""What control writes into the store as time passes: programmes, and who was there."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

from server.audit.caller import STATION, Caller
from server.audit.row import instant
from server.keeper import Keeper
from server.named import Named
from server.programmes import Programme
from server.recording import Recorder
from server.station import Station
from server.store.store import Store
from server.views import is_online
from transport.clock.timeline import NS_PER_SECOND
from transport.control.priority import Priority

# So many of the newest are looked up when control begins, which takes 20 ms.
_KNOWN = 2_000


def _named(store: Store) -> Named:
    newest = store.programmes(_KNOWN)
    named = Named(newest[-1].number if len(newest) == _KNOWN else 0)
    for record in reversed(newest):
        asked = record.request  # by whatever version of Loa
        named.add(record.number, (*asked.get("to", ()), *asked.get("zones", ())))
    return named


class Books:
    """The station's books; `last_seen` says of each loudspeaker when, in seconds (UTC)."""

    def __init__(
        self,
        station: Station,
        store: Store,
        keeper: Keeper,
        now_ns: Callable[[], int],
        last_seen: Mapping[str, int],
        recorder: Recorder,
    ) -> None:
        self._station = station
        self._store = store
        self._keeper = keeper
        self._now_ns = now_ns
        self._recorder = recorder
        self.last_seen = dict(last_seen)
        self.named = _named(store)
        # Programmes whose end is written, or is being.
        self._ended: set[int] = set()

    def _now_s(self) -> int:
        return self._now_ns() // NS_PER_SECOND

    # ------------------------------------------------------------- programmes
    async def begin(self, programme: Programme) -> None:
        """A programme is on the disk when this returns; StationError if it cannot be."""
        request = programme.request
        # At once: if it is never written, who asks for this number finds none.
        self.named.add(programme.number, (*request.to, *request.zones))
        told = {
            "programme": programme.name,
            "priority": Priority(programme.priority).name.lower(),
            "to": request.to,
            "zones": request.zones,
            "loudspeakers": len(self._station.audience(programme)),
            "test": request.test,
            "clear": programme.clear,
        }
        await self._recorder.change(
            [self._recorder.entry("programme.begin", told)],
            self._store.programme_began,
            programme.number,
            programme.name,
            priority=programme.priority,
            request=asdict(request),
            playout_delay_ms=programme.plan.playout_delay_ms,
            at=self._now_s(),
        )

    def note_ends(self, by: Caller = STATION) -> None:
        """Write down which programmes have ended since, and by whose doing."""
        for programme in self._station.programmes.values():
            if programme.ended_at_ns is not None and programme.number not in self._ended:
                self._ended.add(programme.number)
                self._end(programme, programme.ended_at_ns, programme.why_ended, by)

    def forget(self, over: Iterable[Programme]) -> None:
        """Nothing is heard of these any more; some have never been spoken on."""
        for programme in over:
            if programme.ended_at_ns is None:
                self._end(programme, self._now_ns(), "nobody spoke", STATION)
            self._ended.discard(programme.number)

    def _end(self, programme: Programme, at_ns: int, why: str, by: Caller) -> None:
        at_s = at_ns // NS_PER_SECOND
        told = {"programme": programme.name, "at": instant(at_ns)}
        entry = self._recorder.entry("programme.end", told, why=why, by=by)
        ended = self._store.programme_ended
        self._recorder.change_later(lambda: None, entry, ended, programme.number, at_s, why)

    # ------------------------------------------------------------- loudspeakers
    def save_newcomers(self) -> None:
        """In one go: after a power cut all of them come at once."""
        station = self._station
        names, station.unsaved = station.unsaved, set()
        found = [station.directory.endpoints[name] for name in names]
        if found:

            def failed() -> None:
                station.unsaved |= names & station.directory.endpoints.keys()

            told = {endpoint.name: endpoint.delivery for endpoint in found}
            entry = self._recorder.entry(
                "speaker.network", {"count": len(found), "speakers": told}, by=STATION
            )
            save = self._store.save_endpoints
            self._recorder.change_later(failed, entry, save, found, self._now_s())

    def save_seen(self) -> None:
        """Who is here now."""
        now_ns = self._now_ns()
        here = [s for s in self._station.speakers.values() if is_online(s, now_ns)]
        seen = {speaker.name: speaker.last_seen_ns // NS_PER_SECOND for speaker in here}
        self.last_seen |= seen
        self._keeper.later(self._store.seen, seen)
