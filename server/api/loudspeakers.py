"""The HTTP API: loudspeakers, one by one and by zones."""

import asyncio
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Query, Response

from server.api.answers import ChangedAnswer, CommandAnswer, DistanceAnswer, SpeakerAnswer
from server.api.bodies import (
    DistanceBody,
    MuteBody,
    Name,
    SpeakerBody,
    State,
    Target,
    ToneBody,
    UnitPath,
    VolumeBody,
)
from server.api.pages import Page, Paged
from server.api.rights import Changer, Enroller, Manager, Viewer, check_named
from server.api.seen import Seen
from server.app import Control
from server.directory import check_path
from server.distance import delays
from server.editing import EndpointChange
from server.rights.identity import Identity
from server.rights.table import Deed
from server.station import Station
from transport.control.messages import spelt_alike

# Rows take 10 us each; whoever else has something to do comes between.
_AT_ONCE = 200


def add_loudspeakers(api: FastAPI, control: Control) -> None:
    """Their list, what is changed about them, and what they are asked to do."""
    _add_list(api, control)
    _add_changes(api, control)
    _add_loudness(api, control)
    _add_distance(api, control)
    _add_commands(api, control)


class Wanted:
    """Which loudspeakers a list is to be of: those of which all that is said is true."""

    def __init__(
        self,
        unit: str | None,
        zone: str | None,
        tag: str | None,
        state: State | None,
        faulty: bool | None,
    ) -> None:
        self._unit = None if unit is None else check_path(unit)
        self._zone = None if zone is None else spelt_alike(zone)
        self._tag = None if tag is None else spelt_alike(tag)
        self._state = state
        self._faulty = faulty

    def among(self, names: Collection[str], station: Station) -> Collection[str]:
        """Those of these names that might be; NoSuchError for a unit or zone that is none."""
        endpoints = station.directory.endpoints
        if self._zone is not None:
            names = station.zones.members(self._zone, station.directory).intersection(names)
        if self._unit is not None:
            unit = station.directory.check_unit(self._unit)
            names = set(station.directory.names_in([unit])).intersection(names)
        if self._tag is not None:
            names = [name for name in names if self._tag in endpoints[name].tags]
        return names

    def by_state(self, names: list[str], control: Control) -> list[str]:
        """Those of these that are in that state: it is quicker told than a whole row is made."""
        if self._state is None:
            return names
        # Some may have been forgotten since the page was begun.
        there = (name for name in names if name in control.station.directory.endpoints)
        return [name for name in there if control.queries.state(name) == self._state]

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether one is, by its row."""
        return self._faulty is None or self._faulty == bool(row["fault"])


async def _wanted(
    unit: Annotated[UnitPath | None, Query(description="In it, or below.")] = None,
    zone: Annotated[Name | None, Query(description="In this zone now.")] = None,
    tag: Annotated[Name | None, Query(description="With this tag.")] = None,
    state: Annotated[State | None, Query(description="As its row says.")] = None,
    faulty: Annotated[bool | None, Query(description="With a fault, or without.")] = None,
) -> Wanted:
    return Wanted(unit, zone, tag, state, faulty)


def _add_list(api: FastAPI, control: Control) -> None:
    @api.get("/api/v1/speakers", response_model=list[SpeakerAnswer])
    async def speakers(
        asker: Viewer, wanted: Annotated[Wanted, Depends(_wanted)], page: Paged
    ) -> Response:
        """Registered loudspeakers by name: all, or those that are wanted."""
        names = wanted.among(Seen(asker, control.station).names, control.station)
        rows = await _wanted_rows(control, wanted, names, page)
        body = f"[{','.join(rows)}]".encode()
        return Response(body, media_type="application/json", headers=page.headers)

    @api.get(
        "/api/v1/speakers/{name}",
        response_model=SpeakerAnswer,
        response_model_exclude_unset=True,
    )
    async def speaker(name: Name, asker: Viewer) -> dict[str, Any]:
        """One loudspeaker."""
        name = spelt_alike(name)
        check_named(asker, Deed.SEE, control.station, [name])()
        return control.queries.speakers([name])[0]


def _add_changes(api: FastAPI, control: Control) -> None:
    @api.patch(
        "/api/v1/speakers/{name}",
        response_model=SpeakerAnswer,
        response_model_exclude_unset=True,
    )
    async def change(name: Name, body: SpeakerBody, asker: Changer) -> dict[str, Any]:
        """Say where a loudspeaker belongs and stands.

        To have it in another unit needs the right to edit units at both; to have it play what goes
        out in clear, the right to enrol; all else, the right to manage it.
        """
        name, wanted, directory = spelt_alike(name), body.change(), control.station.directory

        def check() -> None:
            here = directory.endpoint(name).unit
            if wanted.unit is not None:
                asker.check(Deed.EDIT_UNITS, {here, directory.check_unit(wanted.unit)})
            if wanted.clear is not None:
                asker.check(Deed.ENROL, {here})
            if replace(wanted, unit=None, clear=None) != EndpointChange() or not body.says_more:
                asker.check(Deed.MANAGE_SPEAKERS, {here})

        await control.editing.change_endpoints([name], wanted, check=check)
        return control.queries.speakers([name])[0]

    @api.delete("/api/v1/speakers/{name}", status_code=204)
    async def remove(name: Name, asker: Enroller) -> None:
        """Forget a loudspeaker that is switched off."""
        name = spelt_alike(name)
        check = check_named(asker, Deed.ENROL, control.station, [name])
        await control.editing.remove_endpoint(name, check=check)


async def _wanted_rows(
    control: Control, wanted: Wanted, names: Iterable[str], page: Page
) -> list[str]:
    """The page's rows in JSON, made in slices: thousands at once would keep all waiting."""
    behind = page.behind(names)
    found: list[dict[str, Any]] = []
    for at in range(0, len(behind), _AT_ONCE):
        some = wanted.by_state(behind[at : at + _AT_ONCE], control)
        found += filter(wanted.fits, control.queries.speakers(some))
        if len(found) > page.limit:
            break
        await asyncio.sleep(0)
    return [
        json.dumps(row, ensure_ascii=False, allow_nan=False)
        for row in page.cut(found, lambda row: str(row["name"]))
    ]


def _add_loudness(api: FastAPI, control: Control) -> None:
    async def change(asker: Identity, target: Target, change: EndpointChange) -> dict[str, Any]:
        names = sorted(control.station.named(*target.names()))
        check = check_named(asker, Deed.MANAGE_SPEAKERS, control.station, names)
        await control.editing.change_endpoints(names, change, check=check)
        return {"changed": names}

    @api.post("/api/v1/volume", response_model=ChangedAnswer)
    async def volume(body: VolumeBody, asker: Manager) -> dict[str, Any]:
        """Set how loud loudspeakers are, now and when they come back."""
        return await change(asker, body, EndpointChange(volume=body.volume))

    @api.post("/api/v1/mute", response_model=ChangedAnswer)
    async def mute(body: MuteBody, asker: Manager) -> dict[str, Any]:
        """Silence loudspeakers, or let them be heard again."""
        return await change(asker, body, EndpointChange(muted=body.muted))


def _add_distance(api: FastAPI, control: Control) -> None:
    @api.post("/api/v1/trim/distance", response_model=DistanceAnswer)
    async def distance(body: DistanceBody, asker: Changer) -> dict[str, Any]:
        """The trims by which sound that spreads from one place is heard once along a street.

        To have them kept needs the right to manage all of these loudspeakers.
        """
        endpoints = control.station.directory.endpoints
        names = sorted(control.station.named(*body.names()))
        deed = Deed.MANAGE_SPEAKERS if body.store else Deed.SEE
        check = check_named(asker, deed, control.station, names)
        check()
        there = [endpoints[name] for name in names]
        found = delays(there, body.origin.place(), body.temperature_c)
        trims = [
            {
                "name": delay.name,
                "distance_m": round(delay.distance_m, 2),
                "before_us": endpoints[delay.name].trim_us,
                "trim_us": delay.trim_us,
            }
            for delay in found
        ]
        if body.store:
            changes = {d.name: EndpointChange(trim_us=d.trim_us) for d in found}
            await control.editing.change_each(changes, check=check)
        return {"trims": trims, "stored": body.store}


def _add_commands(api: FastAPI, control: Control) -> None:
    async def command(
        asker: Identity, target: Target, action: str, seconds: float = 0.0
    ) -> dict[str, Any]:
        to, zones = target.names()
        names = control.station.named(to, zones)
        check_named(asker, Deed.MANAGE_SPEAKERS, control.station, names)()
        answers = await control.command(to, zones, action, seconds)
        return {
            "done": [name for name, error in answers.items() if not error],
            "failed": {name: error for name, error in answers.items() if error},
        }

    @api.post("/api/v1/tone", response_model=CommandAnswer)
    async def tone(body: ToneBody, asker: Manager) -> dict[str, Any]:
        """Sound a test tone where no programme is heard."""
        return await command(asker, body, "tone", body.seconds)

    @api.post("/api/v1/identify", response_model=CommandAnswer)
    async def identify(body: Target, asker: Manager) -> dict[str, Any]:
        """Have loudspeakers beep three times."""
        return await command(asker, body, "identify")

    @api.post("/api/v1/restart", response_model=CommandAnswer)
    async def restart(body: Target, asker: Manager) -> dict[str, Any]:
        """Have loudspeakers begin anew."""
        return await command(asker, body, "restart")
