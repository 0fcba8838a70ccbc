"""The HTTP API: units and zones."""

from typing import Any

from fastapi import FastAPI

from server.api.bodies import Name, UnitBody, UnitPath, ZoneBody, ZoneChangeBody
from server.app import Control
from server.station import Station
from server.zones.definition import parse, to_plain
from transport.control.messages import spelt_alike


def add_directory(api: FastAPI, control: Control) -> None:
    """Units and zones, read and changed."""
    _add_units(api, control)
    _add_zones(api, control)
    _add_changes_of_zones(api, control)


def _add_units(api: FastAPI, control: Control) -> None:
    @api.get("/api/units")
    async def units() -> list[str]:
        """Every unit by its path, the station's own first."""
        return sorted(control.station.directory.units)

    @api.post("/api/units", status_code=201)
    async def add(body: UnitBody) -> dict[str, Any]:
        """Add a unit below one that exists."""
        return {"path": await control.editing.add_unit(body.path)}

    @api.delete("/api/units/{path:path}", status_code=204)
    async def remove(path: UnitPath) -> None:
        """Remove an empty unit."""
        await control.editing.remove_unit(path)


def _zone_row(station: Station, name: str, speakers: object) -> dict[str, Any]:
    return {
        "name": name,
        "definition": to_plain(station.zones.definition(name)),
        "speakers": speakers,
        "authenticated": not station.zones.is_clear(name),
    }


def _zone(station: Station, name: str) -> dict[str, Any]:
    return _zone_row(station, name, sorted(station.zones.members(name, station.directory)))


def _add_zones(api: FastAPI, control: Control) -> None:
    station = control.station

    @api.get("/api/zones")
    async def zones() -> list[dict[str, Any]]:
        """Every zone, how many loudspeakers are in it, and how it is defined."""
        members = station.zones.all_members(station.directory)
        return [_zone_row(station, name, len(its)) for name, its in sorted(members.items())]

    @api.get("/api/zones/{name}")
    async def zone(name: Name) -> dict[str, Any]:
        """One zone, and who is in it now."""
        return _zone(station, spelt_alike(name))

    @api.post("/api/zones/preview")
    async def preview(body: ZoneBody) -> dict[str, Any]:
        """Who would be in a zone, without defining it."""
        members = station.zones.preview(parse(body.definition), station.directory)
        return {"speakers": sorted(members)}


def _add_changes_of_zones(api: FastAPI, control: Control) -> None:
    station, editing = control.station, control.editing

    @api.put("/api/zones/{name}")
    async def put(name: Name, body: ZoneBody) -> dict[str, Any]:
        """Define a zone, or define it anew."""
        return _zone(station, await editing.put_zone(name, body.definition, clear=body.clear))

    @api.patch("/api/zones/{name}")
    async def change(name: Name, body: ZoneChangeBody) -> dict[str, Any]:
        """Have a zone heard by stock players too, in clear, or no longer."""
        return _zone(station, await editing.set_clear(name, clear=body.clear))

    @api.delete("/api/zones/{name}", status_code=204)
    async def remove(name: Name) -> None:
        """Forget a zone that nothing uses."""
        await editing.remove_zone(spelt_alike(name))
