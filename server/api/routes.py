"""The HTTP API: what everybody sees, and how somebody speaks."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Response

from server.api.bodies import LiveBody, Name, StopBody
from server.api.directory import add_directory
from server.api.docs import add_docs
from server.api.enrolment import add_enrolment
from server.api.errors import BodyLimit, add_errors
from server.api.loudspeakers import add_loudspeakers
from server.api.metrics import add_metrics
from server.app import Control
from server.keys.access import AccessCheck
from server.views import key_row


def build_api(control: Control, handshakes: Callable[[], int] = lambda: 0) -> FastAPI:
    """The application, bound to one station.

    `handshakes` says how many connections are not through TLS, for whoever watches.
    """
    api = FastAPI(
        title="Loa",
        docs_url=None,
        openapi_url="/api/openapi.json",
        redoc_url=None,
        redirect_slashes=False,
    )
    api.add_middleware(BodyLimit)
    # The outer one: of a stranger's body not even the first byte is read.
    api.add_middleware(AccessCheck, access=control.access)
    add_errors(api)
    _add_station(api, control)
    _add_programmes(api, control)
    add_loudspeakers(api, control)
    add_enrolment(api, control)
    add_directory(api, control)
    add_metrics(api, control, handshakes)
    add_docs(api)
    return api


def _add_station(api: FastAPI, control: Control) -> None:
    @api.get("/api/station")
    async def station() -> dict[str, Any]:
        """Where the station's other ports are, and how its processes do."""
        return control.summary()

    @api.get("/api/found")
    async def found() -> list[dict[str, Any]]:
        """Loudspeakers that mDNS has found, joined or not."""
        return control.found()


def _add_programmes(api: FastAPI, control: Control) -> None:
    @api.post("/api/live", status_code=201)
    async def live(body: LiveBody) -> dict[str, Any]:
        """Grant a ticket to speak."""
        return await control.open_live(body.request())

    @api.get("/api/programmes")
    async def programmes() -> list[dict[str, Any]]:
        """What is on air."""
        return control.programmes()

    @api.get("/api/programmes/past")
    async def past(limit: Annotated[int, Query(ge=1, le=1000)] = 50) -> list[dict[str, Any]]:
        """What has been on air, newest first."""
        return await control.past_programmes(limit)

    @api.get("/api/programmes/{name}/key")
    async def key(name: Name) -> dict[str, Any]:
        """What opens a programme's sound now, for a stock player; it changes with the epoch."""
        return key_row(control.station, control.station.programme(name))

    @api.delete("/api/programmes/{name}")
    async def end(name: Name) -> dict[str, Any]:
        """End one programme, everywhere at the same moment."""
        return {"ended": control.stop([name], "it was stopped")}

    @api.post("/api/stop")
    async def stop(body: StopBody) -> dict[str, Any]:
        """End programmes, all if none is named."""
        return {"ended": control.stop(body.programmes, "it was stopped")}

    @api.get("/programmes/{name}.sdp")
    async def description(name: Annotated[str, Path(max_length=64)]) -> Response:
        """What of a programme goes out in clear, in SDP, for stock players."""
        return Response(control.description(name), media_type="application/sdp")
