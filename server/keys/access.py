"""Who may use the API: whoever shows the operator's token (RFC 6750 section 2.1)."""

import hashlib
import hmac

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_BEARER = "bearer"
# What a person needs to learn how to show it, and sees nothing of the station.
_OPEN = {"/api/docs", "/api/openapi.json"}
# What stock players fetch, who can show no token: of a programme that goes out in clear anyway.
_DESCRIPTIONS = "/programmes/", ".sdp"
# Loudspeakers prove their own keys there.
_SESSIONS = "/control"
_MISSING = (
    "this needs the operator's token: send `Authorization: Bearer TOKEN` "
    "(`loa keys token` prints it on the station's machine)"
)
_WRONG = "that is not the operator's token: `loa keys token` prints it on the station's machine"


class Access:
    """Tells who may; `token` may be set anew, and the old one is then worth nothing."""

    def __init__(self, token: str) -> None:
        self.token = token

    def allows(self, shown: str) -> bool:
        """Whether that is the token; how long it takes tells nothing of it, nor of its length."""
        mine = hashlib.sha256(self.token.encode()).digest()
        theirs = hashlib.sha256(shown.encode(errors="replace")).digest()
        return hmac.compare_digest(mine, theirs) and bool(self.token)


class AccessCheck:
    """Lets nobody further without the token, before anything of a request's body is read."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan" or _is_open(scope):
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        shown = _shown(scope)
        if shown is not None and self._access.allows(shown):
            await self._app(scope, receive, send)
            return
        reply = JSONResponse(
            {"error": _MISSING if shown is None else _WRONG},
            401,
            {"WWW-Authenticate": "Bearer"},
        )
        await reply(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    if scope["type"] == "websocket":
        return bool(scope["path"] == _SESSIONS)
    path: str = scope["path"]
    before, after = _DESCRIPTIONS
    described = path.startswith(before) and path.endswith(after)
    return scope["method"] == "GET" and (path in _OPEN or described)


def _shown(scope: Scope) -> str | None:
    """The token of a request; None if it shows none, or more than one."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, token = values[0].decode("latin-1").strip().partition(" ")
    return token.strip() or None if scheme.lower() == _BEARER else None
