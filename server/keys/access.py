"""Who asks: whoever shows the operator's token, a session or a token of a user (RFC 6750).

What that may do is for the routes to say; here it is only found out who it is.
"""

import hashlib
import hmac
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from server.audit.caller import calling
from server.problem import problem
from server.rights.identity import Identity
from transport.control.address import plain_address

_BEARER = "bearer"
# What a person needs to learn how to show it, and sees nothing of the station; and where somebody
# signs in.
_OPEN = {("GET", "/api/v1/docs"), ("GET", "/api/v1/openapi.json"), ("POST", "/api/v1/login")}
# What stock players fetch, who can show no token: of a programme that goes out in clear anyway.
_DESCRIPTIONS = "/programmes/", ".sdp"
# Loudspeakers prove their own keys there.
_SESSIONS = "/control"
_MISSING = (
    "this needs a session or a token: send `Authorization: Bearer SESSION` (`loa login` gets one; "
    "`loa keys token` prints the operator's token on the station's machine)"
)
_WRONG = (
    "that session or token opens nothing here, or no more: sign in with `loa login` (or `loa keys "
    "token` prints the operator's token on the station's machine)"
)


def _nobody(_: str) -> Identity | None:
    return None


class Access:
    """Tells who asks; `token` may be set anew, and the old one is then worth nothing.

    Whoever shows it is the machine's own administrator, at `root`. `others` says who else
    somebody is.
    """

    def __init__(
        self,
        token: str,
        root: str = "",
        others: Callable[[str], Identity | None] = _nobody,
    ) -> None:
        self.token = token
        self._machine = Identity.machine(root)
        self._others = others

    def allows(self, shown: str) -> bool:
        """Whether that is the token; how long it takes tells nothing of it, nor of its length."""
        mine = hashlib.sha256(self.token.encode()).digest()
        theirs = hashlib.sha256(shown.encode(errors="replace")).digest()
        return hmac.compare_digest(mine, theirs) and bool(self.token)

    def identify(self, shown: str) -> Identity | None:
        """Who shows this; None if nobody who may come in."""
        return self._machine if self.allows(shown) else self._others(shown)


class AccessCheck:
    """Lets nobody further without a name, before anything of a request's body is read.

    Who it is stands in the scope's state as `identity`, and what was shown as `shown`.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if _is_open(scope):
            with calling("", _where(scope)):
                await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        shown = _shown(scope)
        identity = None if shown is None else self._access.identify(shown)
        if identity is not None:
            scope.setdefault("state", {}).update(identity=identity, shown=shown)
            with calling(identity.who, _where(scope)):
                await self._app(scope, receive, send)
            return
        why = _MISSING if shown is None else _WRONG
        reply = problem(401, why, {"WWW-Authenticate": "Bearer"})
        await reply(scope, receive, send)


def _where(scope: Scope) -> str:
    host: str = (scope.get("client") or ("",))[0]
    try:
        return plain_address(host)
    except ValueError:
        return host


def _is_open(scope: Scope) -> bool:
    if scope["type"] == "websocket":
        return bool(scope["path"] == _SESSIONS)
    path: str = scope["path"]
    before, after = _DESCRIPTIONS
    described = path.startswith(before) and path.endswith(after)
    return (scope["method"], path) in _OPEN or (scope["method"] == "GET" and described)


def _shown(scope: Scope) -> str | None:
    """What a request shows; None if it shows nothing, or more than one thing."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, token = values[0].decode("latin-1").strip().partition(" ")
    return token.strip() or None if scheme.lower() == _BEARER else None
