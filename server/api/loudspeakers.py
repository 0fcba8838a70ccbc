"""The HTTP API: loudspeakers, one by one and by zones."""

import asyncio
import json
from collections.abc import Iterator
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
from server.app import Control
from server.distance import delays
from server.editing import EndpointChange
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
    @api.get("/api/speakers", response_model=list[dict[str, Any]])
    async def speakers() -> Response:
        """Every registered loudspeaker."""
        return Response(await _in_json(control), media_type="application/json")

    @api.patch("/api/speakers/{name}")
    async def change(name: Name, body: SpeakerBody) -> dict[str, Any]:
        """Say where a loudspeaker belongs and stands."""
        name = spelt_alike(name)
        await control.editing.change_endpoints([name], body.change())
        return control.speakers([name])[0]

    @api.delete("/api/speakers/{name}", status_code=204)
    async def remove(name: Name) -> None:
        """Forget a loudspeaker that is switched off."""
        await control.editing.remove_endpoint(spelt_alike(name))


async def _in_json(control: Control) -> bytes:
    """All rows, in slices: as FastAPI does it, 10,000 keep everybody waiting for half a second."""
    slices = []
    for some in _slices(sorted(control.station.directory.endpoints)):
        slices += [
            json.dumps(row, ensure_ascii=False, allow_nan=False) for row in control.speakers(some)
        ]
        await asyncio.sleep(0)
    return f"[{','.join(slices)}]".encode()


def _slices(names: list[str]) -> Iterator[list[str]]:
    return (names[at : at + _AT_ONCE] for at in range(0, len(names), _AT_ONCE))


def _add_loudness(api: FastAPI, control: Control) -> None:
    async def change(target: Target, change: EndpointChange) -> dict[str, Any]:
        names = sorted(control.station.named(*target.names()))
        await control.editing.change_endpoints(names, change)
        return {"changed": names}

    @api.post("/api/volume")
    async def volume(body: VolumeBody) -> dict[str, Any]:
        """Set how loud loudspeakers are, now and when they come back."""
        return await change(body, EndpointChange(volume=body.volume))

    @api.post("/api/mute")
    async def mute(body: MuteBody) -> dict[str, Any]:
        """Silence loudspeakers, or let them be heard again."""
        return await change(body, EndpointChange(muted=body.muted))


def _add_distance(api: FastAPI, control: Control) -> None:
    @api.post("/api/trim/distance")
    async def distance(body: DistanceBody) -> dict[str, Any]:
        """The trims by which sound that spreads from one place is heard once along a street."""
        endpoints = control.station.directory.endpoints
        there = [endpoints[name] for name in control.station.named(*body.names())]
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
            await control.editing.change_each(changes)
        return {"trims": trims, "stored": body.store}


def _add_commands(api: FastAPI, control: Control) -> None:
    async def command(target: Target, action: str, seconds: float = 0.0) -> dict[str, Any]:
        answers = await control.command(*target.names(), action, seconds)
        return {
            "done": [name for name, error in answers.items() if not error],
            "failed": {name: error for name, error in answers.items() if error},
        }

    @api.post("/api/tone")
    async def tone(body: ToneBody) -> dict[str, Any]:
        """Sound a test tone where no programme is heard."""
        return await command(body, "tone", body.seconds)

    @api.post("/api/identify")
    async def identify(body: Target) -> dict[str, Any]:
        """Have loudspeakers beep three times."""
        return await command(body, "identify")

    @api.post("/api/restart")
    async def restart(body: Target) -> dict[str, Any]:
        """Have loudspeakers begin anew."""
        return await command(body, "restart")
