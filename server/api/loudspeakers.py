"""The HTTP API: loudspeakers, one by one and by zones."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fastapi import FastAPI, Response

from server.api.bodies import (
    DistanceBody,
    MuteBody,
    Name,
    SpeakerBody,
    Target,
    ToneBody,
    VolumeBody,
)
from server.api.rights import Changer, Enroller, Manager, Viewer, check_named
from server.api.seen import Seen
from server.app import Control
from server.distance import delays
from server.editing import EndpointChange
from server.rights.identity import Identity
from server.rights.table import Deed
from transport.control.messages import spelt_alike

# Rows take 10 us each; whoever else has something to do comes between.
_AT_ONCE = 200


def add_loudspeakers(api: FastAPI, control: Control) -> None:
    """Their list, what is changed about them, and what they are asked to do."""
    _add_list(api, control)
    _add_loudness(api, control)
    _add_distance(api, control)
    _add_commands(api, control)


def _add_list(api: FastAPI, control: Control) -> None:
    @api.get("/api/v1/speakers", response_model=list[dict[str, Any]])
    async def speakers(asker: Viewer) -> Response:
        """Every registered loudspeaker."""
        seen = sorted(Seen(asker, control.station).names)
        return Response(await _in_json(control, seen), media_type="application/json")

    @api.patch("/api/v1/speakers/{name}")
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
        return control.speakers([name])[0]

    @api.delete("/api/v1/speakers/{name}", status_code=204)
    async def remove(name: Name, asker: Enroller) -> None:
        """Forget a loudspeaker that is switched off."""
        name = spelt_alike(name)
        check = check_named(asker, Deed.ENROL, control.station, [name])
        await control.editing.remove_endpoint(name, check=check)


async def _in_json(control: Control, names: list[str]) -> bytes:
    """Their rows, in slices: as FastAPI does it, 10,000 keep all waiting for half a second."""
    slices = []
    for some in _slices(names):
        slices += [
            json.dumps(row, ensure_ascii=False, allow_nan=False) for row in control.speakers(some)
        ]
        await asyncio.sleep(0)
    return f"[{','.join(slices)}]".encode()


def _slices(names: list[str]) -> Iterator[list[str]]:
    return (names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE))


def _add_loudness(api: FastAPI, control: Control) -> None:
    async def change(asker: Identity, target: Target, change: EndpointChange) -> dict[str, Any]:
        names = sorted(control.station.named(*target.names()))
        check = check_named(asker, Deed.MANAGE_SPEAKERS, control.station, names)
        await control.editing.change_endpoints(names, change, check=check)
        return {"changed": names}

    @api.post("/api/v1/volume")
    async def volume(body: VolumeBody, asker: Manager) -> dict[str, Any]:
        """Set how loud loudspeakers are, now and when they come back."""
        return await change(asker, body, EndpointChange(volume=body.volume))

    @api.post("/api/v1/mute")
    async def mute(body: MuteBody, asker: Manager) -> dict[str, Any]:
        """Silence loudspeakers, or let them be heard again."""
        return await change(asker, body, EndpointChange(muted=body.muted))


def _add_distance(api: FastAPI, control: Control) -> None:
    @api.post("/api/v1/trim/distance")
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

    @api.post("/api/v1/tone")
    async def tone(body: ToneBody, asker: Manager) -> dict[str, Any]:
        """Sound a test tone where no programme is heard."""
        return await command(asker, body, "tone", body.seconds)

    @api.post("/api/v1/identify")
    async def identify(body: Target, asker: Manager) -> dict[str, Any]:
        """Have loudspeakers beep three times."""
        return await command(asker, body, "identify")

    @api.post("/api/v1/restart")
    async def restart(body: Target, asker: Manager) -> dict[str, Any]:
        """Have loudspeakers begin anew."""
        return await command(asker, body, "restart")
