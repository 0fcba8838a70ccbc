"""Readers of server-sent events over the ASGI interface, and two communes that they are told of."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from server.api.routes import build_api
from server.changes import enrolments, places, programmes, speakers
from server.changes.wire import Event, read_events
from server.editing import EndpointChange
from tests.support.people import cheap_passwords

Room = Any  # the fixture's; see conftest
ROOT = "Tân Phú"
A, B = f"{ROOT}/A", f"{ROOT}/B"


def tell_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In virtual time the station's clock stands still.

    How often what is told is for the tests of each watch.
    """
    for watch in (speakers, programmes, places, enrolments):
        monkeypatch.setattr(watch, "_EACH_NS", 0)
    monkeypatch.setattr(places, "_REST_NS", 0)


class Stream:
    """One reader: what has come, and how it ended, if it did."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.counts: list[int] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.gone = asyncio.Event()
        self.ended = False

    @property
    def events(self) -> list[Event]:
        return list(read_events([self.body]))

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Kind, name and what of each but resets."""
        rows = [(e.kind, json.loads(e.data)) for e in self.events if e.kind != "reset"]
        return [(kind, data["name"], data["what"]) for kind, data in rows]

    @property
    def resets(self) -> int:
        return sum(event.kind == "reset" for event in self.events)

    def row(self, kind: str, name: str) -> Any:
        """As the newest event of it has it."""
        datas = [json.loads(e.data) for e in self.events if e.kind == kind]
        return [data["row"] for data in datas if data["name"] == name][-1]

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
        else:
            self.body += message["body"]
            self.counts.append(message["body"].count(b"event: "))


@asynccontextmanager
async def reading(
    room: Room, shown: str | None = None, query: str = "", last: str = "", api: Any = None
) -> AsyncIterator[Stream]:
    """Somebody reads while the block runs."""
    api = build_api(room.control) if api is None else api
    stream = Stream()
    shown = room.control.access.token if shown is None else shown
    headers = [(b"authorization", f"Bearer {shown}".encode())]
    headers += [(b"last-event-id", last.encode())] if last else []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/api/v1/events",
        "raw_path": b"/api/v1/events",
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    incoming = [{"type": "http.request", "body": b""}]

    async def receive() -> Any:
        return incoming.pop() if incoming else await stream.receive()

    async def serve() -> None:
        await api(scope, receive, stream.send)
        stream.ended = True

    serving = asyncio.create_task(serve())
    await room.settle()
    yield stream
    stream.gone.set()
    stream.reads.set()
    await serving


def wake(room: Room) -> None:
    """As after a look that has found something."""
    watching = room.control.watching
    news, watching._news = watching._news, asyncio.Event()
    news.set()


async def two_communes(room: Room) -> None:
    """Loudspeakers a1 and a2 in one, b1 in another; a zone of each."""
    cheap_passwords(room)
    for unit in (A, B):
        await room.control.editing.add_unit(unit)
    for name, unit in (("a1", A), ("a2", A), ("b1", B)):
        room.join(name)
        await room.control.editing.change_endpoints([name], EndpointChange(unit=unit))
    for name, unit in (("za", A), ("zb", B)):
        await room.control.editing.put_zone(name, {"unit": unit})
    await room.settle(3)


async def volume(room: Room, name: str, value: int) -> None:
    await room.control.editing.change_endpoints([name], EndpointChange(volume=value))
    await room.settle(1.3)


def only_figures(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "last_seen_s"}
