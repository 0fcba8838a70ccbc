"""Events over control's own uvicorn, real loopback sockets and TLS, in real time."""

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from server import remote
from server.changes.wire import Event, read_events
from server.directory import Endpoint
from server.keys.tls import Trust, certificate_hash
from server.limits import Limits
from server.remote import ApiError, Credentials, download
from tests.support.serving import serving
from tests.support.tls import station_tls

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
pytestmark = pytest.mark.realtime

# Never waited for unless something is broken.
PATIENCE_S = 20.0
# In which a busy machine, too, must have asked for the events.
PATIENCE_OF_STATION_S = 1.0


def put(room: Room, name: str, **parts: Any) -> None:
    directory = room.control.station.directory
    directory.put_endpoint(Endpoint(name, directory.root, **parts))


async def next_event(events: Iterator[Event]) -> Event:
    return await asyncio.wait_for(asyncio.to_thread(lambda: next(events)), PATIENCE_S)


def test_events_come_over_a_connection_that_says_nothing_for_longer_than_others_may(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(room: Room) -> None:
        birth = room.births["server"]
        trust = Trust(certificate_hash(Path(birth.tls_certificate)))
        mine = Credentials(room.control.access.token, trust)
        monkeypatch.setattr(remote, "find_credentials", lambda *_: mine)
        async with serving(room, Limits(patience_s=PATIENCE_OF_STATION_S)) as address:
            parts = download(address, "/api/v1/events?kinds=speaker")
            events = read_events(parts)
            first = await next_event(events)
            assert first.kind == "reset"
            await asyncio.sleep(1.5)
            put(room, "a")
            second = await next_event(events)
            told = json.loads(second.data)
            assert (second.kind, told["what"], told["name"]) == ("speaker", "added", "a")
            assert len(room.control.watching.readers) == 1
            parts.close()  # type: ignore[attr-defined]
            async with asyncio.timeout(PATIENCE_S):
                while len(room.control.watching.readers):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            # Meanwhile.
            put(room, "a", volume=7)
            await asyncio.sleep(1.5)
            again = download(address, f"/api/v1/events?kinds=speaker&last={second.id}")
            third = await next_event(read_events(again))
            assert json.loads(third.data)["row"]["volume"] == 7
            again.close()  # type: ignore[attr-defined]

    play_control(scenario, real_time=True)


def test_whoever_may_not_is_told_why_in_one_line(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(room: Room) -> None:
        birth = room.births["server"]
        trust = Trust(certificate_hash(Path(birth.tls_certificate)))
        room.control.watching.readers._each = 0
        shown = Credentials(room.control.access.token, trust)
        monkeypatch.setattr(remote, "find_credentials", lambda *_: shown)
        async with serving(room, Limits()) as address:
            with pytest.raises(ApiError, match="you read 0 streams of events already"):
                await asyncio.to_thread(lambda: next(download(address, "/api/v1/events")))

    play_control(scenario, real_time=True)


def test_a_reader_that_does_not_read_is_gone_before_long(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        async with serving(room, Limits(patience_s=PATIENCE_OF_STATION_S)) as address:
            host, _, port = address.partition(":")
            calling = station_tls().calling()
            _, writer = await asyncio.open_connection(host, int(port), ssl=calling)
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            head = f"Host: x\r\nAuthorization: Bearer {room.control.access.token}"
            writer.write(f"GET /api/v1/events HTTP/1.1\r\n{head}\r\n\r\n".encode())
            async with asyncio.timeout(PATIENCE_S):
                while not len(room.control.watching.readers):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            # More than the buffers on the way take.
            for number in range(19_000):
                put(room, f"{number:06}")
            async with asyncio.timeout(3 * PATIENCE_S):
                while len(room.control.watching.readers):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            writer.transport.abort()

    play_control(scenario, real_time=True)
