"""The HTTP API: loudspeakers, one by one and by zones."""

from typing import Any

from fastapi import FastAPI

from server.api.bodies import MuteBody, Name, SpeakerBody, Target, ToneBody, VolumeBody
from server.app import Control
from server.editing import EndpointChange
from transport.control.messages import spelt_alike


def add_loudspeakers(api: FastAPI, control: Control) -> None:
    """Their list, what is changed about them, and what they are asked to do."""
    _add_list(api, control)
    _add_loudness(api, control)
    _add_commands(api, control)


def _add_list(api: FastAPI, control: Control) -> None:
    @api.get("/api/speakers")
    async def speakers() -> list[dict[str, Any]]:
        """Every registered loudspeaker."""
        return control.speakers()

    @api.patch("/api/speakers/{name}")
    async def change(name: Name, body: SpeakerBody) -> dict[str, Any]:
        """Say where a loudspeaker belongs and stands."""
        name = spelt_alike(name)
        await control.editing.change_endpoints([name], body.change())
        return next(row for row in control.speakers() if row["name"] == name)

    @api.delete("/api/speakers/{name}", status_code=204)
    async def remove(name: Name) -> None:
        """Forget a loudspeaker that is switched off."""
        await control.editing.remove_endpoint(spelt_alike(name))


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
