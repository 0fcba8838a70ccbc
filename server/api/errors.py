"""Every error is answered with problem details, and no body of a request is too much."""

import asyncio
from dataclasses import dataclass

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.directory import SEPARATOR
from server.errors import NoSuchError, StationError
from server.problem import problem
from server.rights.identity import ForbiddenError, Identity
from server.rights.table import Deed
from server.users.errors import SignInError, TooManyAttemptsError

# A name for each of 10,000 loudspeakers, in JSON's longest spelling, is less.
_LONG = 4 << 20
_SHORT = 64 << 10
# Those that take lists of names.
_LONG_PATHS = (
    "/api/v1/live",
    "/api/v1/volume",
    "/api/v1/mute",
    "/api/v1/tone",
    "/api/v1/identify",
    "/api/v1/restart",
)
_LONG_FOLDER = "/api/v1/zones/"


class SenselessError(StationError):
    """A request whose parts are right and whose whole is not."""


@dataclass(slots=True)
class _Budget:
    """How many bytes of bodies there may be now.

    What bodies have beyond their first 64 KB is counted apart: whoever hogs the room for long
    ones keeps nobody from a short one.
    """

    short: int = 8 << 20
    long: int = 24 << 20

    def take(self, before: int, after: int) -> None:
        """Make room for a body that grows; it is given back by taking the other way round."""
        self.short -= min(after, _SHORT) - min(before, _SHORT)
        self.long -= max(after, _SHORT) - max(before, _SHORT)

    def spent(self, size: int) -> bool:
        """Whether a body of this size is one too many."""
        return self.short < 0 or (size > _SHORT and self.long < 0)


class _Body:
    """One request's body, as it comes."""

    def __init__(self, scope: Scope, receive: Receive, budget: _Budget, deadline_s: float) -> None:
        path = scope["path"]
        long = path in _LONG_PATHS or path.startswith(_LONG_FOLDER)
        self._most = _LONG if long else _SHORT
        self._said = _said_length(scope)
        self._receive = receive
        self._budget = budget
        self._deadline_s = deadline_s
        self._whole = False
        self._size = 0

    async def receive(self) -> Message:
        """The next part of it, or the peer's goodbye."""
        if self._whole:
            return await self._receive()
        self._check(self._said)  # so that it need not be read
        try:
            async with asyncio.timeout_at(self._deadline_s):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "the request did not come whole in time") from None
        size = self._size + len(message.get("body", b""))
        self._budget.take(self._size, size)
        self._size = size
        self._check(size)
        if self._budget.spent(size):
            raise HTTPException(503, "too many long requests at once; try again")
        self._whole = not message.get("more_body", False)
        return message

    def release(self) -> None:
        """It is read no more."""
        self._budget.take(self._size, 0)
        self._size = 0

    def _check(self, size: int) -> None:
        if size > self._most:
            raise HTTPException(413, f"a request of this kind has at most {self._most} bytes")


def _said_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0


class BodyLimit:
    """Ends a request whose body is too long, too slow, or too much beside all others.

    FastAPI's own limit answers in plain text.
    """

    def __init__(
        self, app: ASGIApp, body_s: float = 10.0, short: int = 8 << 20, long: int = 24 << 20
    ) -> None:
        self._app = app
        self._body_s = body_s
        self._budget = _Budget(short, long)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        deadline_s = asyncio.get_running_loop().time() + self._body_s
        body = _Body(scope, receive, self._budget, deadline_s)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.release()


def _status(error: StationError) -> int:
    match error:
        case NoSuchError():
            return 404
        case ForbiddenError():
            return 403
        case SignInError():
            return 401
        case TooManyAttemptsError():
            return 429
        case SenselessError():
            return 422
        case _:
            return 409


def _sees_all(request: Request) -> bool:
    """Whether whoever asks may see the whole station."""
    identity: Identity | None = getattr(request.state, "identity", None)
    return identity is not None and any(SEPARATOR not in u for u in identity.reach(Deed.SEE))


def add_errors(api: FastAPI) -> None:
    """Have every error answered in one way."""

    @api.exception_handler(StationError)
    async def refused(request: Request, error: StationError) -> Response:
        text = str(error)
        if isinstance(error, NoSuchError) and not _sees_all(request):
            # What is near to a name that is not known may be another's.
            text = text.partition("; nearest:")[0]
        headers = {}
        if isinstance(error, TooManyAttemptsError):
            headers["Retry-After"] = str(error.wait_s)
        return problem(_status(error), text, headers)

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return problem(422, f"the body is no JSON: {first['ctx']['error']}")
        where = ".".join(str(part) for part in first["loc"][1:])
        return problem(422, f"{where or 'body'}: {first['msg']}")

    @api.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail))

    @api.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> Response:
        return problem(500, f"the station has made a mistake: {type(error).__name__}")
