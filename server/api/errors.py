"""Every reply of an error is `{"error": "one line"}`."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.errors import NoSuchError, StationError

# A name for each of 10,000 loudspeakers, in JSON's longest spelling, is less.
_MAX_BODY = 4 << 20


class SenselessError(StationError):
    """A request whose parts are right and whose whole is not."""


class BodyLimit:
    """Ends a request whose body is too long. FastAPI's own limit answers in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        size = 0

        async def limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if scope["type"] == "http" and size > _MAX_BODY:
                raise HTTPException(413, f"a request has at most {_MAX_BODY} bytes")
            return message

        await self._app(scope, limited, send)


def _status(error: StationError) -> int:
    match error:
        case NoSuchError():
            return 404
        case SenselessError():
            return 422
        case _:
            return 409


def _error(text: str, status: int) -> JSONResponse:
    # The text may quote what a stranger sent: line breaks, or half a character.
    line = " ".join(text.split()).encode(errors="replace").decode()
    return JSONResponse({"error": line}, status)


def add_errors(api: FastAPI) -> None:
    """Have every error answered in one way."""

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
