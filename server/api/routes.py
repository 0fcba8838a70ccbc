"""The HTTP API. Every reply of an error is `{"error": "one line"}`."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from server.app import Control
from server.station import LiveRequest, StationError, UnknownSpeakerError
from transport.control.messages import MAX_PLAYOUT_DELAY_MS


class LiveBody(BaseModel):
    """A request to speak."""

    model_config = ConfigDict(extra="forbid")

    to: Annotated[list[str], Field(min_length=1, max_length=10_000)]
    bitrate: Annotated[int, Field(ge=6000, le=510_000)] = 24_000
    frame_ms: float = 10.0
    complexity: Annotated[int, Field(ge=0, le=10)] = 9
    dtx: bool = False
    inband_fec: bool = False
    expected_loss_percent: Annotated[int, Field(ge=0, le=100)] = 0
    playout_delay_ms: Annotated[float, Field(ge=5, le=MAX_PLAYOUT_DELAY_MS)] = 40.0
    multicast: bool = False


def build_api(control: Control) -> FastAPI:
    """The application, bound to one station."""
    api = FastAPI(
        title="Loa", docs_url="/api/docs", openapi_url="/api/openapi.json", redoc_url=None
    )
    _add_errors(api)
    _add_queries(api, control)

    @api.post("/api/live", status_code=201)
    async def live(body: LiveBody) -> dict[str, Any]:
        """Grant a ticket to speak."""
        request = LiveRequest(**{**body.model_dump(), "to": tuple(body.to)})
        return await control.open_live(request)

    @api.websocket("/control")
    async def session(websocket: WebSocket) -> None:
        await control.sessions.serve(websocket)

    return api


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(StationError)
    async def refused(_: Request, error: StationError) -> JSONResponse:
        status = 404 if isinstance(error, UnknownSpeakerError) else 409
        return JSONResponse({"error": str(error)}, status)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])
        return JSONResponse({"error": f"{where or 'body'}: {first['msg']}"}, 422)


def _add_queries(api: FastAPI, control: Control) -> None:
    @api.get("/api/station")
    async def station() -> dict[str, Any]:
        """Where the station's other ports are, and how its processes do."""
        return control.summary()

    @api.get("/api/speakers")
    async def speakers() -> list[dict[str, Any]]:
        """Every loudspeaker seen since the station started."""
        return control.speakers()

    @api.get("/api/programmes")
    async def programmes() -> list[dict[str, Any]]:
        """What is on air."""
        return control.programmes()

    @api.get("/programmes/{name}.sdp")
    async def description(name: Annotated[str, Path(max_length=64)]) -> Response:
        """A multicast programme in SDP, for stock players."""
        return Response(control.description(name), media_type="application/sdp")
