"""A write that was asked for twice is done once: the header `Idempotency-Key`.

As draft-ietf-httpapi-idempotency-key-header has it. What was answered is kept in memory alone, for
an answer may show a secret that is nowhere else (a token, a code), so that a key means nothing
after an hour, or when the station has been restarted.
"""

import asyncio
import hashlib
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.problem import problem
from server.rights.identity import Identity

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"
KEPT_S = 3600.0
# Of one identity, so that none can push out another's; and of all of them.
_MOST_EACH, _MOST_BYTES = 64, 16 << 20
_WRITES = {"POST", "PUT", "PATCH", "DELETE"}
# Bare or as a structured field's string (RFC 8941): UUIDs and the like.
_KEY = re.compile(r'"?([!#-~]{1,128})"?', re.ASCII)
_Who = tuple[str, str]

PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": (
        "Any text of yours, such as a UUID. Asked again with the same one, the station answers as "
        f"it did, with `{REPLAYED}: true`, and does nothing: for an hour, or until it restarts."
    ),
    "schema": {"type": "string", "pattern": "^[!#-~]{1,128}$"},
}


@dataclass(slots=True)
class _Answer:
    """What was asked with a key, and what was answered; `parts` is empty while it is not."""

    asked: bytes
    until_s: float
    parts: list[Message] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How many bytes are kept of it."""
        return sum(len(part.get("body", b"")) for part in self.parts)


class Answers:
    """What was done by its key, bounded: the oldest are forgotten. Pure."""

    def __init__(self, most_each: int = _MOST_EACH, most_bytes: int = _MOST_BYTES) -> None:
        self._most_each = most_each
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[_Who, str], _Answer] = OrderedDict()
        self._by_who: dict[_Who, dict[str, None]] = {}
        self._bytes = 0

    def find(self, who: _Who, key: str, now_s: float) -> _Answer | None:
        """What was asked with this key, if that is not too long ago."""
        while self._kept and next(iter(self._kept.values())).until_s <= now_s:
            self._forget(next(iter(self._kept)))
        return self._kept.get((who, key))

    def begin(self, who: _Who, key: str, asked: bytes, now_s: float) -> _Answer:
        """It is being done."""
        his = self._by_who.setdefault(who, {})
        if len(his) >= self._most_each:
            self._forget((who, next(iter(his))))
            his = self._by_who.setdefault(who, {})
        his[key] = None
        answer = self._kept[who, key] = _Answer(asked, now_s + KEPT_S)
        return answer

    def keep(self, who: _Who, key: str, parts: list[Message]) -> None:
        """It was done, and this was answered."""
        answer = self._kept.get((who, key))
        if answer is None:
            return  # so many others have come meanwhile
        answer.parts = parts
        self._bytes += answer.size
        while self._bytes > self._most_bytes:
            self._forget(next(iter(self._kept)))

    def undo(self, who: _Who, key: str) -> None:
        """It was not done, and may be asked again."""
        if (who, key) in self._kept:
            self._forget((who, key))

    def _forget(self, which: tuple[_Who, str]) -> None:
        self._bytes -= self._kept.pop(which).size
        who, key = which
        del self._by_who[who][key]
        if not self._by_who[who]:
            del self._by_who[who]


class Idempotency:
    """Answers a write with a known key as it was answered before.

    It stands where it is known who asks, and where a body is bounded.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._answers = Answers()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        identity: Identity | None = scope.get("state", {}).get("identity")
        given = [value for name, value in scope.get("headers", ()) if name == b"idempotency-key"]
        if identity is None or not given or scope.get("method") not in _WRITES:
            await self._app(scope, receive, send)
            return
        key = _KEY.fullmatch(given[0].decode("latin-1")) if len(given) == 1 else None
        if key is None:
            why = f"{HEADER}: one text of 1 to 128 letters, digits and signs, without blanks"
            await problem(400, why)(scope, receive, send)
            return
        try:
            body = await _whole(receive)
        except HTTPException as error:  # it is too long, or too slow
            await problem(error.status_code, error.detail)(scope, _nothing, send)
            return
        if body is None:
            return  # whoever asked has gone
        await self._once((identity.kind, identity.who), key[1], scope, body, send)

    async def _once(self, who: _Who, key: str, scope: Scope, body: bytes, send: Send) -> None:
        now_s = asyncio.get_running_loop().time()
        asked = _fingerprint(scope, body)
        known = self._answers.find(who, key, now_s)
        if known is None:
            self._answers.begin(who, key, asked, now_s)
            await self._do(who, key, scope, body, send)
        elif known.asked != asked:
            why = f"this {HEADER} was given with another request: choose a new one for each"
            await problem(422, why)(scope, _nothing, send)
        elif not known.parts:
            why = f"the first request with this {HEADER} is not done yet: ask again in a moment"
            await problem(409, why, {"Retry-After": "1"})(scope, _nothing, send)
        else:
            for part in known.parts:
                await send(part)

    async def _do(self, who: _Who, key: str, scope: Scope, body: bytes, send: Send) -> None:
        parts: list[Message] = []

        async def sent(message: Message) -> None:
            parts.append(message)
            await send(message)

        try:
            await self._app(scope, _given(body), sent)
        finally:
            if parts and parts[0]["status"] < 300:
                self._answers.keep(who, key, [_replayed(parts[0]), *parts[1:]])
            else:
                # What was refused changed nothing, and may be right another time.
                self._answers.undo(who, key)


def _replayed(start: Message) -> Message:
    return {**start, "headers": [*start["headers"], (REPLAYED.lower().encode(), b"true")]}


def _fingerprint(scope: Scope, body: bytes) -> bytes:
    parts = (scope["method"].encode(), scope["path"].encode(), scope["query_string"], body)
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()


async def _whole(receive: Receive) -> bytes | None:
    """The body; None if the peer has gone before its end."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _given(body: bytes) -> Receive:
    """The same body, once."""
    left = [body]

    async def receive() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await _forever()

    return receive


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _forever() -> Message:
    await asyncio.Event().wait()
    return {"type": "http.disconnect"}
