"""What is asked of the station's state, and changes nothing: rows, as the API shows them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from server.books import Books
from server.discovery import Discovery
from server.errors import StationError
from server.keeper import Keeper
from server.neighbours import Neighbours
from server.programmes import Programme
from server.station import Station
from server.stepping import Stepping, Steps
from server.store.records import ProgrammeRecord
from server.store.store import Store
from server.views import is_online, programme_rows, sender_row, speaker_rows, state_of, usher_row


class Part(Protocol):
    """The part of a station that somebody sees; see `server.api.seen`."""

    whole: bool
    names: frozenset[str]

    def zones(self) -> Mapping[str, frozenset[str]]:
        """Those within, `all` among them."""

    def programme(self, programme: Programme) -> bool:
        """Whether it is seen."""


class Queries:
    """Looks at what there is now, and in the store at what was."""

    def __init__(
        self,
        name: str,
        ports: Mapping[str, int],
        station: Station,
        books: Books,
        neighbours: Neighbours,
        discovery: Discovery,
        store: Store,
        keeper: Keeper,
        describe: Callable[[Programme], str | None],
        now_ns: Callable[[], int],
    ) -> None:
        """`describe` makes a programme's SDP; None before it has started."""
        self._name = name
        self._ports = dict(ports)
        self._station = station
        self._books = books
        self._neighbours = neighbours
        self._discovery = discovery
        self._store = store
        self._keeper = keeper
        self._describe = describe
        self._now_ns = now_ns
        self._stepping = Stepping(station)

    def summary(self, seen: Part | None = None) -> dict[str, Any]:
        """The station at a glance, or the part of it that is seen."""
        now_ns, station, neighbours = self._now_ns(), self._station, self._neighbours
        whole = seen is None or seen.whole
        names = station.directory.endpoints if seen is None else seen.names
        here = [station.speakers[name] for name in names if name in station.speakers]
        programmes = station.programmes.values()
        zones = len(station.zones.definitions)
        return {
            "name": self._name,
            "ports": self._ports,
            "speakers": len(names),
            "sessions": sum(s.session is not None for s in here),
            "online": sum(is_online(s, now_ns) for s in here),
            # `all` is no zone that somebody has defined.
            "zones": zones if seen is None or whole else len(seen.zones()) - 1,
            "programmes": sum(seen is None or seen.programme(p) for p in programmes),
            "sender": sender_row(neighbours.sender_reports) if whole else {},
            "usher": usher_row(neighbours.usher_report) if whole else {},
            "step": self.steps().row if whole else {},
        }

    def speakers(self, names: Iterable[str] | None = None) -> list[dict[str, Any]]:
        """Each loudspeaker's state and figures, by name, or those of these."""
        if names is None:
            names = sorted(self._station.directory.endpoints)
        last_seen, now_ns = self._books.last_seen, self._now_ns()
        return speaker_rows(self._station, names, last_seen, now_ns, self.steps())

    def state(self, name: str) -> str:
        """What a registered loudspeaker's row says of its state."""
        return state_of(self._station, self._station.directory.endpoint(name), self._now_ns())

    def steps(self) -> Steps:
        """How far neighbours are apart."""
        return self._stepping.steps(self._now_ns())

    def programmes(self) -> list[dict[str, Any]]:
        """Each programme's state; tickets stay secret."""
        return programme_rows(self._station)

    async def past_programmes(
        self, before: int | None, limit: int, naming: Collection[str] | None = None
    ) -> Sequence[ProgrammeRecord]:
        """The newest programmes there were, or the newest before that number, newest first.

        Those that named one of `naming`, loudspeakers and zones, if that is given; where that is
        not known any more, all.
        """
        read, named = self._store.programmes, self._books.named
        if naming is None:
            return await self._keeper.do(read, limit, before)
        numbers, floor = named.naming(naming, before), named.floor
        found: list[ProgrammeRecord] = []
        # Some may be forgotten by now.
        while numbers and len(found) < limit:
            asked, numbers = numbers[: limit - len(found)], numbers[limit - len(found) :]
            found += await self._keeper.do(read, limit, among=asked)
        if len(found) < limit and floor:
            older = floor if before is None else min(floor, before)
            found += await self._keeper.do(read, limit - len(found), older)
        return found

    def found(self) -> list[dict[str, Any]]:
        """The loudspeakers that mDNS has found, and whether they are registered here."""
        known = self._station.directory.endpoints
        return [
            {**asdict(speaker), "registered": speaker.name in known}
            for speaker in self._discovery.found
        ]

    def description(self, name: str) -> str:
        """A programme's SDP; StationError where there is none."""
        programme = self._station.programme(name)
        if not programme.clear:
            raise StationError(
                f"{name} is sealed, and no stock player can hear it: `loa zones clear ZONE on` has "
                "the next programme to that zone heard in clear too"
            )
        text = self._describe(programme)
        if text is None:
            raise StationError(f"{name} has not started yet: try again in a moment")
        return text
