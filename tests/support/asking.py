"""Requests to the station over the ASGI interface, without a server."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.types import ASGIApp

from server.api.routes import build_api
from server.app import Control


class InControl(Protocol):
    """Whoever has a control to ask."""

    control: Control


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> str:
        """The one line; AssertionError if that is not what the reply is."""
        body = self.json()
        assert self.headers[b"content-type"] == b"application/problem+json"
        assert list(body) == ["type", "title", "status", "detail"]
        assert (body["type"], body["status"]) == ("about:blank", self.status)
        line = body["detail"]
        assert isinstance(line, str)
        assert line
        assert len(line.splitlines()) == 1
        return line


def next_page(reply: Reply) -> str | None:
    """Where the next page of a list is; None if this is the last one."""
    link = reply.headers.get(b"link", b"").decode()
    if not link:
        return None
    path, _, relation = link.partition(">")
    assert relation == '; rel="next"'
    return path.removeprefix("<")


async def ask(
    room: InControl,
    method: str,
    path: str,
    body: bytes = b"",
    kind: bytes = b"application/json",
    shown: bytes | None = None,
    api: ASGIApp | None = None,
    more: Sequence[tuple[bytes, bytes]] = (),
) -> Reply:
    """One request to the API over the ASGI interface, of whoever has the operator's token.

    With `shown`, that stands in its place in the head of the request; if empty, nothing does.
    `more` stands in the head as well; without `api`, one is made that is asked this once.
    """
    path, _, query = path.partition("?")
    sent: list[dict[str, Any]] = []
    incoming = [{"type": "http.request", "body": body}]

    async def receive() -> dict[str, Any]:
        return incoming.pop() if incoming else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    if shown is None:
        shown = b"Bearer " + room.control.access.token.encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            *([(b"authorization", shown)] if shown else []),
            *more,
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    try:
        await (api or build_api(room.control))(scope, receive, send)
    except Exception:
        # After a reply of 500 the error is raised again, for the server to log.
        if not sent or sent[0]["status"] != 500:
            raise
    data = b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")
    return Reply(sent[0]["status"], dict(sent[0]["headers"]), data)


async def post(room: InControl, path: str, request: object) -> Reply:
    return await ask(room, "POST", path, json.dumps(request).encode())


async def put(room: InControl, path: str, request: object) -> Reply:
    return await ask(room, "PUT", path, json.dumps(request).encode())


async def patch(room: InControl, path: str, request: object) -> Reply:
    return await ask(room, "PATCH", path, json.dumps(request).encode())
