"""The HTTP API: the audit log, and that what is refused stands in it."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Query
from fastapi.responses import StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.answers import AuditRowAnswer, AuditStateAnswer
from server.api.document import said_in
from server.api.pages import Paged, Within
from server.api.rights import Auditor
from server.app import Control
from server.audit.caller import Caller
from server.audit.row import Row, instant
from server.problem import detail_of
from server.recording import Recorder
from transport.control.address import plain_address

JSON_LINES = "application/jsonl"
_READING = {"GET", "HEAD", "OPTIONS"}
_WHO_MAY = {401, 403}
# What an error says is shorter.
_MOST_SAID = 2048
_LINES_A_CHUNK = 200


class Watch:
    """Has every refusal written down: of whoever may not, and of whoever asks for a change in vain.

    It stands before all else, for strangers are refused first.
    """

    def __init__(self, app: ASGIApp, recorder: Recorder) -> None:
        self._app = app
        self._recorder = recorder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        answer = _Answer()

        async def sent(message: Message) -> None:
            answer.hear(message)
            await send(message)

        await self._app(scope, receive, sent)
        if answer.refuses(scope.get("method", "")):
            asked = {
                "method": scope.get("method", "WebSocket"),
                "path": scope["path"],
                "status": answer.status,
                **scope.get("state", {}).get("asked", {}),
            }
            self._recorder.refused(asked, answer.why, Caller(_who(scope), _where(scope)))


class _Answer:
    """What is answered, as far as it matters here."""

    def __init__(self) -> None:
        self.status = 0
        self._body = b""

    def hear(self, message: Message) -> None:
        """The next part of it."""
        match message["type"]:
            case "http.response.start":
                self.status = message["status"]
            case "http.response.body" if self.status >= 400 and len(self._body) < _MOST_SAID:
                self._body += message.get("body", b"")[:_MOST_SAID]
            case "websocket.close":
                self.status = 403
            case _:
                pass

    def refuses(self, method: str) -> bool:
        """Whether that is a refusal; who reads what is not there was refused nothing."""
        return self.status in _WHO_MAY or (method not in _READING and 400 <= self.status < 500)

    @property
    def why(self) -> str:
        """The one line of the error."""
        try:
            said = json.loads(self._body)
        except ValueError:
            return ""
        return detail_of(said)


def _who(scope: Scope) -> str:
    """Whoever the check of access has found it to be; empty for strangers."""
    identity = scope.get("state", {}).get("identity")
    return "" if identity is None else str(identity.who)


def _where(scope: Scope) -> str:
    client = scope.get("client")
    return plain_address(client[0]) if client else ""


class Wanted:
    """Which rows a list is to be of; what is None may be anything."""

    def __init__(self, who: str | None, what: str | None, outcome: str | None) -> None:
        self._who = who
        self._what = what
        self._outcome = outcome

    def fits(self, row: Row) -> bool:
        """Whether a row is one of them."""
        _, who, _, what, _, _, outcome = row.texts
        if self._who is not None and who != self._who:
            return False
        if self._what is not None and self._what not in {what, what.partition(".")[0]}:
            return False
        return self._outcome is None or outcome == self._outcome


async def _wanted(
    who: Annotated[str | None, Query(max_length=256, description="By whom.")] = None,
    what: Annotated[
        str | None, Query(max_length=64, description="A verb, or its kind: `zone`.")
    ] = None,
    outcome: Annotated[Literal["done", "ordered", "refused"] | None, Query()] = None,
) -> Wanted:
    return Wanted(who, what, outcome)


def add_audit(api: FastAPI, control: Control) -> None:
    """The log, read; nobody can write it here."""
    vouching = control.audit.vouching

    @api.get("/api/v1/audit", response_model=list[AuditRowAnswer])
    async def newest(
        asker: Auditor,  # noqa: ARG001 - it states the right
        page: Paged,
        wanted: Annotated[Wanted, Depends(_wanted)],
        when: Within,
    ) -> list[dict[str, Any]]:
        """What was done and refused, newest first: all, or those rows of which all is true."""

        def kept(row: Row) -> Row | None:
            return row if wanted.fits(row) and when.holds(row.texts[0]) else None

        return list(map(_shown, await page.sifted(vouching.newest, lambda row: row.seq, kept)))

    @api.get("/api/v1/audit/state", response_model=AuditStateAnswer)
    async def state(asker: Auditor) -> dict[str, Any]:  # noqa: ARG001 - it states the right
        """Up to which row the log is signed, and how those are that keep its heads elsewhere."""
        head = vouching.last
        return {
            "signed": None if head is None else {"seq": head.seq, "at": instant(head.at_ns)},
            "anchors": list(map(asdict, vouching.anchors)),
        }

    @api.get(
        "/api/v1/audit/export", response_class=StreamingResponse, responses=said_in(JSON_LINES)
    )
    async def export(asker: Auditor) -> StreamingResponse:  # noqa: ARG001 - it states the right
        """The whole log in JSON lines, with its signed heads, for whoever verifies it: AUDIT.md."""
        headers = {"Content-Disposition": 'attachment; filename="loa-audit.jsonl"'}
        chunks = _in_chunks(vouching.export())
        return StreamingResponse(chunks, media_type=JSON_LINES, headers=headers)


def _shown(row: Row) -> dict[str, Any]:
    at, who, where, what, on, why, outcome = row.texts
    try:
        details = json.loads(on)
    except ValueError:
        details = on  # somebody has changed it
    return {
        "seq": row.seq,
        "at": at,
        "who": who,
        "where": where,
        "what": what,
        "on": details,
        "why": why,
        "outcome": outcome,
        "hash": row.hash.hex(),
    }


async def _in_chunks(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Lines with their ends, many at once: each chunk costs the server as much as a line."""
    chunk: list[str] = []
    async for line in lines:
        chunk.append(f"{line}\n")
        if len(chunk) == _LINES_A_CHUNK:
            yield "".join(chunk)
            chunk.clear()
    yield "".join(chunk)
