"""What of the station an identity sees: its answers are cut to that. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from server.programmes import Programme
from server.rights.identity import Identity
from server.rights.table import Deed, is_reached
from server.station import Station
from server.store.records import ProgrammeRecord
from server.zones.definition import (
    EVERYBODY,
    Definition,
    Speakers,
    Unit,
    Zone,
    parts_of,
    to_plain,
    units_named,
)


class Seen:
    """The part of a station in which an identity may do something, at this moment; mostly see."""

    def __init__(self, identity: Identity, station: Station, deed: Deed = Deed.SEE) -> None:
        self._station = station
        self._reach = identity.reach(deed)
        self.whole = station.directory.root in self._reach
        directory = station.directory
        self.names = frozenset(
            directory.endpoints if self.whole else directory.names_in(self._reach)
        )
        self._zones: dict[str, frozenset[str]] | None = None

    def unit(self, path: str) -> bool:
        """Whether a unit is within."""
        return self.whole or is_reached(path, self._reach)

    def units(self) -> list[str]:
        """All that are within, sorted."""
        return sorted(filter(self.unit, self._station.directory.units))

    # ------------------------------------------------------------- zones
    def zones(self) -> dict[str, frozenset[str]]:
        """The zones that somebody within is in, or that name a unit within; and who is in them."""
        if self._zones is None:
            members = self._station.zones.all_members(self._station.directory)
            seen = {zone: its for zone, its in members.items() if self.zone(zone, its)}
            self._zones = {zone: its & self.names for zone, its in seen.items()}
        return self._zones

    def zone(self, name: str, members: frozenset[str]) -> bool:
        """Whether a zone of these members is to be seen."""
        if self.whole or name == EVERYBODY:
            return True
        definition = self._station.zones.definition(name)
        return bool(members & self.names) or any(map(self.unit, units_named(definition)))

    def definition(self, name: str, members: frozenset[str]) -> dict[str, object]:
        """A zone's; where that might name what is not to be seen, who of it is to be seen."""
        definition = self._station.zones.definition(name)
        if self.whole or name == EVERYBODY:
            return to_plain(definition)
        if members and members <= self.names and all(map(self._part, parts_of(definition))):
            return to_plain(definition)
        return {"speakers": sorted(members & self.names)}

    def _part(self, part: Definition) -> bool:
        """Whether this part of a definition names nothing that is not to be seen."""
        match part:
            case Unit(path):
                return self.unit(path)
            case Speakers(names):
                return self.names.issuperset(names)
            case Zone(name):
                return name == EVERYBODY or name in self.zones()
            case _:
                return True

    # ------------------------------------------------------------- programmes
    @property
    def named(self) -> frozenset[str] | None:
        """The loudspeakers and zones that a programme it is to see may have named; None: any."""
        return None if self.whole else frozenset((*self.names, *self.zones(), EVERYBODY))

    def programme(self, programme: Programme) -> bool:
        """Whether somebody within hears it, or it was opened for within."""
        if self.whole or self._station.audience(programme) & self.names:
            return True
        return any(map(self.unit, programme.reach))

    def programmes(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of `views.programme_rows`, cut."""
        rows = list(rows)
        if self.whole:
            return rows
        on_air = self._station.programmes
        return [self._programme_row(row) for row in rows if self.programme(on_air[row["name"]])]

    def _programme_row(self, row: dict[str, Any]) -> dict[str, Any]:
        audience = self._station.audience(self._station.programmes[row["name"]]) & self.names
        return row | {
            **self._named(row["to"], row["zones"]),
            "speakers": len(audience),
            "interrupted_at": min(row["interrupted_at"], len(audience)),
            "not_in_step": [name for name in row["not_in_step"] if name in audience],
        }

    def past(self, record: ProgrammeRecord) -> ProgrammeRecord | None:
        """A programme, cut; None if it named nobody within and no zone that is to be seen."""
        if self.whole:
            return record
        named = self._named(record.request.get("to", ()), record.request.get("zones", ()))
        if not (named["to"] or named["zones"]):
            return None
        return replace(record, request=record.request | named)

    def _named(self, to: Iterable[str], zones: Iterable[str]) -> dict[str, list[str]]:
        seen = self.zones()
        return {
            "to": [name for name in to if name in self.names or name == EVERYBODY],
            "zones": [zone for zone in zones if zone in seen],
        }
