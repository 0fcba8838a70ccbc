"""Units and zones that have come, gone or changed. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from server.changes.log import Changes, Kind, What
from server.changes.units import Counts, count_units, differing
from server.station import Station
from server.zones.definition import EVERYBODY, Definition, units_named
from transport.clock.timeline import NS_PER_SECOND

# They are looked at so often at most, and the less often the more there is to look at.
_EACH_NS = NS_PER_SECOND
_REST_NS = 2_000
# So many members are looked at, then others have their turn.
_AT_ONCE = 5_000


class _Kept(NamedTuple):
    """A zone as it was told last."""

    definition: Definition
    clear: bool
    counts: Counts

    @property
    def units(self) -> set[str]:
        return self.counts.keys() | set(units_named(self.definition))


class PlaceWatch:
    """Looks at all of them when the directory or the book of zones has changed."""

    def __init__(self, station: Station, changes: Changes) -> None:
        """What there is at the first look has not changed."""
        self._station = station
        self._changes = changes
        self._units: set[str] = set()
        self._zones: dict[str, _Kept] = {}
        self._looked_for: object = None
        self._due_ns = 0

    def look(self, now_ns: int) -> Iterator[None]:
        """Slice by slice."""
        directory, zones = self._station.directory, self._station.zones
        wanted = directory.version, zones.version, zones.clear
        if wanted == self._looked_for or now_ns < self._due_ns:
            return
        begun, self._looked_for = self._looked_for is not None, wanted
        members = zones.all_members(directory)
        looked_at = sum(map(len, members.values()))
        self._due_ns = now_ns + max(_EACH_NS, looked_at * _REST_NS)
        self._look_at_units(now_ns, begun=begun)
        for name in self._zones.keys() - members.keys():
            self._tell(now_ns, What.REMOVED, name, self._zones.pop(name).units)
        waiting = 0
        for name, its in members.items():
            self._compare(name, its, now_ns, begun=begun)
            waiting += len(its)
            if waiting >= _AT_ONCE:
                waiting = 0
                yield

    def _look_at_units(self, now_ns: int, *, begun: bool) -> None:
        before, self._units = self._units, set(self._station.directory.units)
        if begun:
            for what, paths in (
                (What.ADDED, self._units - before),
                (What.REMOVED, before - self._units),
            ):
                for path in sorted(paths):
                    self._changes.add(now_ns, Kind.UNIT, what, path, (path,))

    def _compare(self, name: str, its: frozenset[str], now_ns: int, *, begun: bool) -> None:
        zones = self._station.zones
        if name != EVERYBODY and name not in zones.definitions:
            return  # it was removed a moment ago, which the next look tells
        counts = count_units(its, self._station.directory.endpoints)
        now = _Kept(zones.definition(name), zones.is_clear(name), counts)
        before, self._zones[name] = self._zones.get(name), now
        if not begun:
            return
        if before is None:
            self._tell(now_ns, What.ADDED, name, now.units)
        elif before[:2] != now[:2]:
            self._tell(now_ns, What.CHANGED, name, before.units | now.units)
        elif before.counts != counts:
            self._tell(now_ns, What.CHANGED, name, differing(before.counts, counts))

    def _tell(self, now_ns: int, what: What, name: str, units: set[str]) -> None:
        self._changes.add(now_ns, Kind.ZONE, what, name, tuple(sorted(units)))
