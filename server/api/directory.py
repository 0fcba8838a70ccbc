"""The HTTP API: units and zones."""

from functools import partial
from typing import Any

from fastapi import FastAPI

from server.api.answers import PreviewAnswer, UnitAnswer, ZoneAnswer, ZoneRow
from server.api.bodies import Name, UnitBody, UnitPath, ZoneBody, ZoneChangeBody
from server.api.pages import Paged
from server.api.rights import UnitEditor, Viewer, ZoneEditor, units_of_zone
from server.api.seen import Seen
from server.app import Control
from server.directory import SEPARATOR, check_path, is_within
from server.editing import Check
from server.rights.identity import ForbiddenError, Identity
from server.rights.table import Deed
from server.station import Station
from server.zones.definition import check_zone, parse
from transport.control.messages import spelt_alike


def add_directory(api: FastAPI, control: Control) -> None:
    """Units and zones, read and changed."""
    _add_units(api, control)
    _add_zones(api, control)
    _add_changes_of_zones(api, control)


def _add_units(api: FastAPI, control: Control) -> None:
    @api.get("/api/v1/units")
    async def units(asker: Viewer, page: Paged, below: UnitPath | None = None) -> list[str]:
        """Units by their paths, the station's own first: all, or one and what is below it."""
        found = Seen(asker, control.station).units()
        if below is not None:
            unit = control.station.directory.check_unit(below)
            found = [path for path in found if is_within(path, unit)]
        return page.named(found)

    @api.post("/api/v1/units", response_model=UnitAnswer, status_code=201)
    async def add(body: UnitBody, asker: UnitEditor) -> dict[str, Any]:
        """Add a unit below one that exists; it is the one above that you need the right at."""
        check = _check_above(asker, control.station, body.path)
        return {"path": await control.editing.add_unit(body.path, check=check)}

    @api.delete("/api/v1/units/{path:path}", status_code=204)
    async def remove(path: UnitPath, asker: UnitEditor) -> None:
        """Remove an empty unit, and the rights that are held there."""
        await control.editing.remove_unit(path, check=_check_above(asker, control.station, path))
        control.accounts.book.forget_unit(check_path(path))


def _check_above(asker: Identity, station: Station, path: str) -> Check:
    """Of the unit above this one; of the station's own, or where there is none, of that."""
    above = check_path(path).rpartition(SEPARATOR)[0]
    units = station.directory.units
    return lambda: asker.check(Deed.EDIT_UNITS, {above} if above in units else ())


def zone_row(seen: Seen, station: Station, name: str, speakers: object) -> dict[str, Any]:
    """A zone as it is seen; `speakers` is how many, or who."""
    members = station.zones.members(name, station.directory)
    return {
        "name": name,
        "definition": seen.definition(name, members),
        "speakers": speakers,
        "authenticated": not station.zones.is_clear(name),
    }


def _zone(asker: Identity, station: Station, name: str) -> dict[str, Any]:
    seen = Seen(asker, station)
    members = station.zones.members(name, station.directory)
    if not seen.zone(name, members):
        raise ForbiddenError(f"nobody in zone {name!r} is where you may see")
    return zone_row(seen, station, name, sorted(members & seen.names))


def _add_zones(api: FastAPI, control: Control) -> None:
    station = control.station

    @api.get("/api/v1/zones", response_model=list[ZoneRow])
    async def zones(asker: Viewer, page: Paged) -> list[dict[str, Any]]:
        """Every zone, how many loudspeakers are in it, and how it is defined."""
        seen = Seen(asker, station)
        zones = seen.zones()
        return [zone_row(seen, station, name, len(zones[name])) for name in page.named(zones)]

    @api.get("/api/v1/zones/{name}", response_model=ZoneAnswer)
    async def zone(name: Name, asker: Viewer) -> dict[str, Any]:
        """One zone, and who is in it now."""
        return _zone(asker, station, spelt_alike(name))

    @api.post("/api/v1/zones/preview", response_model=PreviewAnswer)
    async def preview(body: ZoneBody, asker: Viewer) -> dict[str, Any]:
        """Who would be in a zone, without defining it."""
        members = station.zones.preview(parse(body.definition), station.directory)
        return {"speakers": sorted(members & Seen(asker, station).names)}


def _add_changes_of_zones(api: FastAPI, control: Control) -> None:
    station, editing = control.station, control.editing

    def check_as_it_is(asker: Identity, name: str) -> None:
        """Who changes a zone needs the right wherever somebody is in it."""
        name, zones = check_zone(name), station.zones
        if name in zones.definitions:
            members = zones.members(name, station.directory)
            units = units_of_zone(station, zones.definition(name), members)
            asker.check(Deed.EDIT_ZONES, units)

    @api.put("/api/v1/zones/{name}", response_model=ZoneAnswer)
    async def put(name: Name, body: ZoneBody, asker: ZoneEditor) -> dict[str, Any]:
        """Define a zone, or define it anew; you need the right wherever somebody is in it."""

        def check() -> None:
            check_as_it_is(asker, name)
            definition = parse(body.definition)
            members = station.zones.preview(definition, station.directory)
            asker.check(Deed.EDIT_ZONES, units_of_zone(station, definition, members))

        defined = await editing.put_zone(name, body.definition, clear=body.clear, check=check)
        return _zone(asker, station, defined)

    @api.patch("/api/v1/zones/{name}", response_model=ZoneAnswer)
    async def change(name: Name, body: ZoneChangeBody, asker: ZoneEditor) -> dict[str, Any]:
        """Have a zone heard by stock players too, in clear, or no longer."""
        check = partial(check_as_it_is, asker, name)
        return _zone(asker, station, await editing.set_clear(name, clear=body.clear, check=check))

    @api.delete("/api/v1/zones/{name}", status_code=204)
    async def remove(name: Name, asker: ZoneEditor) -> None:
        """Forget a zone that nothing uses."""
        check = partial(check_as_it_is, asker, name)
        await editing.remove_zone(spelt_alike(name), check=check)
