"""Programmes that have begun, ended or changed so that a person would look. Pure."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from server.changes.log import Changes, Kind, What
from server.changes.units import Counts, count_units, differing
from server.station import Station
from server.views import programme_rows
from transport.clock.timeline import NS_PER_SECOND

# However often it changes whom they are meant for, that is told so often at most.
_EACH_NS = NS_PER_SECOND
# Of a row; figures change all the time, and how many hear it is told by units.
_FIGURES = {"seconds", "level_dbfs", "copies_ms", "codes", "speakers"}


class _Kept(NamedTuple):
    """A programme as it was told last: by how many in which units it is heard, and its reach."""

    salient: dict[str, Any]
    counts: Counts
    reach: tuple[str, ...]

    @property
    def units(self) -> set[str]:
        return self.counts.keys() | set(self.reach)


class ProgrammeWatch:
    """Looks at all of them when one has another state, or somebody may hear others."""

    def __init__(self, station: Station, changes: Changes) -> None:
        """What there is at the first look has not changed."""
        self._station = station
        self._changes = changes
        self._kept: dict[str, _Kept] = {}
        self._looked_for: tuple[object, object] | None = None
        self._due_ns = 0

    def look(self, now_ns: int) -> Iterator[None]:
        """Programme by programme."""
        station, begun = self._station, self._looked_for is not None
        wanted = self._states(), (station.directory.version, station.zones.version)
        if self._looked_for is not None:
            same = wanted[0] == self._looked_for[0]
            if wanted == self._looked_for or (same and now_ns < self._due_ns):
                return
        self._looked_for, self._due_ns = wanted, now_ns + _EACH_NS
        rows = {row["name"]: row for row in programme_rows(station)}
        for name in self._kept.keys() - rows.keys():
            gone = self._kept.pop(name)
            self._tell(now_ns, What.REMOVED, name, gone.units)
        for name, row in rows.items():
            yield
            if name in station.programmes:
                self._compare(name, row, now_ns, begun=begun)

    def _states(self) -> object:
        return tuple(
            (p.name, p.report and p.report.state, p.ended_at_ns is not None)
            for p in self._station.programmes.values()
        )

    def _compare(self, name: str, row: dict[str, Any], now_ns: int, *, begun: bool) -> None:
        station, before = self._station, self._kept.get(name)
        programme = station.programmes[name]
        salient = {part: value for part, value in row.items() if part not in _FIGURES}
        counts = count_units(station.audience(programme), station.directory.endpoints)
        now = self._kept[name] = _Kept(salient, counts, programme.reach)
        if before is None:
            if begun:
                self._tell(now_ns, What.BEGUN, name, now.units)
        elif before.salient != salient:
            ended = salient["state"] == "ended" != before.salient["state"]
            what = What.ENDED if ended else What.CHANGED
            self._tell(now_ns, what, name, before.units | now.units)
        elif before.counts != counts:
            self._tell(now_ns, What.CHANGED, name, differing(before.counts, counts))

    def _tell(self, now_ns: int, what: What, name: str, units: set[str]) -> None:
        self._changes.add(now_ns, Kind.PROGRAMME, what, name, tuple(sorted(units)))
