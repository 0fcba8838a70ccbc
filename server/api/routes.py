"""The HTTP API. Every reply of an error is `{"error": "one line"}`."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.app import Control
from server.station import (
    LiveRequest,
    StationError,
    UnknownProgrammeError,
    UnknownSpeakerError,
)
from transport.control.messages import MAX_PLAYOUT_DELAY_MS, spelt_alike

# A name for each of 10,000 loudspeakers, in JSON's longest spelling, is less.
_MAX_BODY = 4 << 20
_Name = Annotated[str, Field(max_length=64)]


class LiveBody(BaseModel):
    """A request to speak."""

    model_config = ConfigDict(extra="forbid")

    to: Annotated[list[_Name], Field(min_length=1, max_length=10_000)]
    bitrate: Annotated[int, Field(ge=6000, le=510_000)] = 24_000
    frame_ms: float = 10.0
    complexity: Annotated[int, Field(ge=0, le=10)] = 9
    dtx: bool = False
    inband_fec: bool = False
    expected_loss_percent: Annotated[int, Field(ge=0, le=100)] = 0
    playout_delay_ms: Annotated[float, Field(ge=5, le=MAX_PLAYOUT_DELAY_MS)] = 40.0
    multicast: bool = False


class _BodyLimit:
    """Ends a request whose body is too long. FastAPI's own limit answers in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if scope["type"] == "http" and size > _MAX_BODY:
                raise HTTPException(413, f"a request has at most {_MAX_BODY} bytes")
            return message

        await self._app(scope, limited, send)


def build_api(control: Control) -> FastAPI:
    """The application, bound to one station."""
    api = FastAPI(
        title="Loa",
        docs_url="/api/docs",
        openapi_url="/api/openapi.json",
        redoc_url=None,
    )
    api.add_middleware(_BodyLimit)
    _add_errors(api)
    _add_queries(api, control)

    @api.post("/api/live", status_code=201)
    async def live(body: LiveBody) -> dict[str, Any]:
        """Grant a ticket to speak."""
        return await control.open_live(_request(body))

    @api.websocket("/control")
    async def session(websocket: WebSocket) -> None:
        await control.sessions.serve(websocket)

    return api


class _SenselessError(StationError):
    """A request whose parts are right and whose whole is not."""


def _request(body: LiveBody) -> LiveRequest:
    try:
        return LiveRequest(**{**body.model_dump(), "to": tuple(map(spelt_alike, body.to))})
    except ValueError as error:
        raise _SenselessError(str(error)) from None


def _status(error: StationError) -> int:
    match error:
        case UnknownSpeakerError() | UnknownProgrammeError():
            return 404
        case _SenselessError():
            return 422
        case _:
            return 409


def _error(text: str, status: int) -> JSONResponse:
    # The text may quote what a stranger sent: line breaks, or half a character.
    line = " ".join(text.split()).encode(errors="replace").decode()
    return JSONResponse({"error": line}, status)


def _add_errors(api: FastAPI) -> None:
    @api.exception_handler(StationError)
    async def refused(_: Request, error: StationError) -> JSONResponse:
        return _error(str(error), _status(error))

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return _error(f"the body is no JSON: {first['ctx']['error']}", 422)
        where = ".".join(str(part) for part in first["loc"][1:])
        return _error(f"{where or 'body'}: {first['msg']}", 422)

    @api.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> JSONResponse:
        return _error(str(error.detail), error.status_code)

    @api.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        return _error(f"the station has made a mistake: {type(error).__name__}", 500)


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
