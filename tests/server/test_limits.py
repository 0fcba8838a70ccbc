"""What one peer may cost the HTTP side, over TLS and real loopback sockets; patience is short."""

import asyncio
import json
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import pytest
import uvloop
from fastapi import FastAPI, Request, WebSocket

from server.__main__ import _Server
from server.api.errors import BodyLimit, add_errors
from server.door import MAX_EACH
from server.entrance import Manners
from server.limits import (
    Crowd,
    HttpConnection,
    Limits,
    Turn,
    connections,
    give_up_on_the_deaf,
    limits_here,
    wait_for_words,
)
from server.supervise import _allow_descriptors
from tests.support.tls import station_tls

# Never waited for unless something is broken.
PATIENCE_S = 20.0
# Of the station, where somebody must have said something within it: a busy machine may take long.
SHORT_S = 1.0
UPGRADE = (
    b"GET /control HTTP/1.1\r\nHost: loa\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
GET = b"GET /short HTTP/1.1\r\nHost: loa\r\n\r\n"


def play(scenario: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(scenario, 4 * PATIENCE_S))


def little_api(**budget: float) -> FastAPI:
    api = FastAPI()
    api.add_middleware(BodyLimit, **budget)  # type: ignore[arg-type]
    add_errors(api)

    @api.post("/short")
    @api.post("/api/v1/live")
    async def body(request: Request) -> int:
        return len(await request.body())

    @api.get("/short")
    async def short() -> str:
        return "here"

    @api.get("/long")
    async def long() -> str:
        return "x" * (16 << 20)

    @api.websocket("/never")
    async def never(websocket: WebSocket) -> None:
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    @api.websocket("/control")
    async def session(websocket: WebSocket) -> None:
        await websocket.accept()
        while (await websocket.receive())["type"] != "websocket.disconnect":
            pass

    return api


class Station:
    def __init__(self, port: int, connection: type[HttpConnection]) -> None:
        self.port = port
        self.crowd = connection.crowd
        self.peers: list[Peer] = []

    async def connect(self, said: bytes = b"") -> "Peer":
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=station_tls().calling()
        )
        writer.write(said)
        self.peers.append(Peer(reader, writer))
        return self.peers[-1]

    async def knock(self, said: bytes = b"") -> "Peer":
        """Without a word of TLS, but for what is said."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(said)
        self.peers.append(Peer(reader, writer))
        return self.peers[-1]

    def call(self) -> ssl.SSLSocket:
        """Over a socket that reads when it is told to; blocks for a moment."""
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        return station_tls().trust.secure(plain, "127.0.0.1")

    async def ask(self, said: bytes = GET) -> bytes:
        peer = await self.connect(said)
        return await peer.status()

    async def hosts(self, number: int) -> None:
        """Until there are so many connections that are no sessions."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.crowd) != number:  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0)


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def status(self) -> bytes:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        return head.split()[1]

    async def error(self) -> tuple[bytes, str]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
        length = int(head.lower().split(b"content-length: ")[1].split()[0])
        plain = json.loads(await self.reader.readexactly(length))
        text = plain["detail"]
        return head.split()[1], text

    async def is_sent_away(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionError, ssl.SSLError):
                while await self.reader.read(1 << 16):
                    pass


@asynccontextmanager
async def serving(
    limits: Limits, handshake_s: float = 5.0, **budget: float
) -> AsyncIterator[Station]:
    config = connections(little_api(**budget), limits)
    connection = cast("type[HttpConnection]", config.http)
    server = _Server(config, station_tls().accepting(), Manners(handshake_s, handshake_s))
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        give_up_on_the_deaf(listening)
        task = asyncio.create_task(server._serve([listening]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0)
        station = Station(listening.getsockname()[1], connection)
        try:
            yield station
        finally:
            for peer in station.peers:
                peer.writer.close()
                with suppress(ConnectionError, ssl.SSLError):
                    await peer.writer.wait_closed()
            server.should_exit = server.force_exit = True
            await task


@pytest.mark.parametrize(
    "said", [b"", b"GET /short HT", GET], ids=["nothing", "half a head", "one request"]
)
def test_who_says_no_more_is_sent_away(said: bytes) -> None:
    async def scenario() -> None:
        async with serving(Limits(patience_s=0.1, rest_s=0)) as station:
            peer = await station.connect(said)
            await peer.is_sent_away()
            await station.hosts(0)

    play(scenario())


def test_who_has_been_answered_may_think() -> None:
    async def scenario() -> None:
        async with serving(Limits(patience_s=SHORT_S)) as station:
            peer = await station.connect(GET)
            assert await peer.status() == b"200"
            # Came later, has said nothing, and is sent away.
            await (await station.connect()).is_sent_away()
            peer.writer.write(GET)
            assert await peer.status() == b"200"

    play(scenario())


@pytest.mark.parametrize("before", [b"", GET], ids=["the first", "the next"])
def test_a_head_that_drips_is_not_waited_for(before: bytes) -> None:
    async def scenario() -> None:
        async with serving(Limits(patience_s=0.1)) as station:
            peer = await station.connect(before + b"GET /short HTTP/1.1\r\nX: ")

            async def drip() -> None:
                while True:
                    peer.writer.write(b"x")
                    await asyncio.sleep(0.01)

            dripping = asyncio.create_task(drip())
            await peer.is_sent_away()
            dripping.cancel()

    play(scenario())


def test_a_session_is_no_connection_that_says_nothing() -> None:
    async def scenario() -> None:
        async with serving(Limits(patience_s=SHORT_S)) as station:
            session = await station.connect(UPGRADE)
            assert await session.status() == b"101"
            await station.hosts(0)
            # Came later, is sent away, and the session is not.
            await (await station.connect()).is_sent_away()
            session.writer.write(b"\x89\x80\x00\x00\x00\x00")
            pong = await asyncio.wait_for(session.reader.readexactly(2), PATIENCE_S)
            assert pong == b"\x8a\x00"

    play(scenario())


def test_who_does_not_read_the_reply_is_sent_away() -> None:
    async def scenario() -> None:
        async with serving(Limits(patience_s=SHORT_S)) as station:
            asked = b"GET /long HTTP/1.1\r\nHost: loa\r\n\r\n" * 2
            with await asyncio.to_thread(station.call) as deaf:
                deaf.sendall(asked)
                await station.hosts(1)
                await station.hosts(0)

    play(scenario())


def test_the_kernel_is_told_how_long_to_wait_for_whom() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        give_up_on_the_deaf(listening)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            tcp = socket.IPPROTO_TCP
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            assert [accepted.getsockopt(tcp, option) for option in options] == [20, 10, 3]
            assert accepted.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == 15_000


def test_who_says_nothing_is_left_to_the_kernel() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        wait_for_words(listening)
        listening.settimeout(0.1)
        with socket.create_connection(listening.getsockname()) as caller:
            with pytest.raises(TimeoutError):
                listening.accept()
            caller.sendall(b"\x16")
            listening.settimeout(PATIENCE_S)
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.recv(1) == b"\x16"


def test_the_oldest_idle_connection_of_an_address_makes_room() -> None:
    async def scenario() -> None:
        async with serving(Limits(each=3, fresh_s=0.0)) as station:
            session = await station.connect(UPGRADE)
            assert await session.status() == b"101"
            idle = [await station.connect() for _ in range(3)]
            assert await station.ask() == b"200"
            await idle[0].is_sent_away()
            idle[1].writer.write(GET)
            assert await idle[1].status() == b"200"

    play(scenario())


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 10\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"X: x\r\n" * 129,
        b"X: " + b"x" * 9000 + b"\r\n",
    ],
    ids=["a body", "pieces of a body", "too many fields", "too long a field"],
)
def test_who_asks_for_a_session_wrongly_is_ended_at_once(fields: bytes) -> None:
    async def scenario() -> None:
        async with serving(Limits(patience_s=60.0)) as station:
            peer = await station.connect(UPGRADE[:-2] + fields + b"\r\n")
            await peer.is_sent_away()
            await station.hosts(0)

    play(scenario())


def test_who_asks_for_a_session_that_does_not_begin_is_sent_away() -> None:
    async def scenario() -> None:
        async with serving(Limits(patience_s=0.1)) as station:
            peer = await station.connect(UPGRADE.replace(b"/control", b"/never"))
            await peer.is_sent_away()
            await station.hosts(0)

    play(scenario())


def test_who_asks_for_a_session_that_does_not_begin_makes_room() -> None:
    async def scenario() -> None:
        async with serving(Limits(each=3, fresh_s=0.0)) as station:
            asking = [
                await station.connect(UPGRADE.replace(b"/control", b"/never")) for _ in range(3)
            ]
            await station.hosts(3)
            assert await station.ask() == b"200"
            await asking[0].is_sent_away()

    play(scenario())


def test_of_endless_unfinished_handshakes_the_oldest_make_room() -> None:
    async def scenario() -> None:
        async with serving(Limits(), handshake_s=60.0) as station:
            for _ in range(MAX_EACH + 20):
                await station.knock(b"\x16")
            held = list(station.peers)
            assert await station.ask() == b"200"
            for peer in held[:20]:
                await peer.is_sent_away()
            assert not any(peer.reader.at_eof() for peer in held[30:])

    play(scenario())


def test_thousands_behind_one_address_come_back_at_once() -> None:
    async def scenario() -> None:
        async with serving(Limits()) as station:
            ready = await asyncio.gather(*(station.ask() for _ in range(2 * MAX_EACH)))
            assert set(ready) == {b"200"}

    play(scenario())


def test_many_unfinished_handshakes_shut_nobody_out_and_are_ended() -> None:
    async def scenario() -> None:
        began_s = time.monotonic()
        # All of them must have come before the first is sent away.
        async with serving(Limits(), handshake_s=3.0) as station:
            # Nothing; the beginning of a client's first word; and something else.
            for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16"):
                for _ in range(MAX_EACH // 3 - 1):
                    await station.knock(said)
            held = list(station.peers)
            assert await station.ask() == b"200"
            session = await station.connect(UPGRADE)
            assert await session.status() == b"101"
            assert not any(peer.reader.at_eof() for peer in held), "they were not held"
            for peer in held:
                await peer.is_sent_away()
            assert time.monotonic() - began_s >= 3.0
            await station.hosts(1)

    play(scenario())


@pytest.mark.parametrize(
    "said", [GET, bytes(100), b"\x16\x03\x01\xff\xff" + bytes(600)], ids=["HTTP", "zeros", "long"]
)
def test_who_speaks_no_tls_is_ended_and_fills_no_log(
    said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with serving(Limits()) as station:
            await (await station.knock(said)).is_sent_away()
            assert await station.ask() == b"200"

    play(scenario())
    assert caplog.text == ""


def test_older_tls_is_not_spoken() -> None:
    async def scenario() -> None:
        async with serving(Limits()) as station:

            def call() -> None:
                context = station_tls().calling()
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                with (
                    socket.create_connection(("127.0.0.1", station.port), PATIENCE_S) as plain,
                    pytest.raises((ssl.SSLError, ConnectionError)),
                ):
                    context.wrap_socket(plain)

            await asyncio.to_thread(call)

    play(scenario())


def test_many_idle_connections_shut_nobody_out() -> None:
    async def scenario() -> None:
        async with serving(Limits(each=20, together=30)) as station:
            held = [await station.connect() for _ in range(200)]
            assert await station.ask() == b"200"
            session = await station.connect(UPGRADE)
            assert await session.status() == b"101"
            assert len(station.crowd) <= 30
            assert len(held) == 200

    play(scenario())


def test_one_body_too_slow_is_given_up_with_one_line() -> None:
    async def scenario() -> None:
        async with serving(Limits(), body_s=0.1) as station:
            peer = await station.connect(post("/short", 10) + b"half")
            status, text = await peer.error()
            assert (status, text) == (b"408", "the request did not come whole in time")

    play(scenario())


def test_who_stays_after_such_an_answer_is_sent_away() -> None:
    async def scenario() -> None:
        async with serving(Limits(patience_s=SHORT_S), body_s=0.1) as station:
            peer = await station.connect(post("/short", 10) + b"half")
            await peer.error()
            await peer.is_sent_away()

    play(scenario())


def post(path: str, length: int) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: loa\r\nContent-Length: {length}\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("path", "most"), [("/short", 1 << 16), ("/api/v1/live", 4 << 20)], ids=["short", "long"]
)
def test_only_lists_may_be_long(path: str, most: int) -> None:
    async def scenario() -> None:
        async with serving(Limits()) as station:
            assert await station.ask(post(path, most) + bytes(most)) == b"200"
            # It is refused before it is sent.
            assert await station.ask(post(path, most + 1)) == b"413"

    play(scenario())


def test_a_body_that_does_not_say_its_length_ends_at_the_same_size() -> None:
    async def scenario() -> None:
        async with serving(Limits()) as station:
            head = b"POST /short HTTP/1.1\r\nHost: loa\r\nTransfer-Encoding: chunked\r\n\r\n"
            peer = await station.connect(head + b"10001\r\n" + bytes(0x10001) + b"\r\n")
            status, text = await peer.error()
            assert (status, text) == (b"413", "a request of this kind has at most 65536 bytes")

    play(scenario())


def test_all_bodies_together_have_a_budget_and_short_ones_their_own() -> None:
    async def scenario() -> None:
        async with serving(Limits(), long=1 << 20) as station:
            hog = await station.connect(post("/api/v1/live", 2 << 20) + bytes(2 << 20)[:-1])
            status, text = await hog.error()
            assert (status, text) == (b"503", "too many long requests at once; try again")
            most = (1 << 20) + (1 << 16)
            patient = await station.connect(post("/api/v1/live", most) + bytes(most - 1))
            await patient.writer.drain()
            assert await station.ask(post("/short", 4) + b"here") == b"200"
            patient.writer.write(b"x")
            # What is over has given back all that it took.
            assert await patient.status() == b"200"
            assert await station.ask(post("/api/v1/live", most) + bytes(most)) == b"200"

    play(scenario())


def test_short_bodies_have_a_budget_too() -> None:
    async def scenario() -> None:
        async with serving(Limits(), short=10) as station:
            assert await station.ask(post("/short", 11) + bytes(11)) == b"503"
            assert await station.ask(post("/short", 10) + bytes(10)) == b"200"

    play(scenario())


async def flood(station: Station, frames: bytes, opening: bytes = b"") -> None:
    """Send for ever and read nothing, until the connection is ended."""

    def send() -> None:
        with station.call() as deaf, suppress(ConnectionError, ssl.SSLError):
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(UPGRADE)
            while not deaf.recv(4096).endswith(b"\r\n\r\n"):
                pass
            deaf.sendall(opening)
            while True:
                deaf.sendall(frames)

    await asyncio.to_thread(send)


def test_who_pings_and_never_reads_is_ended() -> None:
    async def scenario() -> None:
        async with serving(Limits()) as station:
            ping = b"\x89\xfd\x00\x00\x00\x00" + bytes(125)
            await flood(station, ping * 500)

    play(scenario())


def test_who_does_not_wait_to_be_let_in_is_ended_and_fills_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        async with serving(Limits()) as station:
            for rubbish in (b"\xff" * 20, b"\x00\x80\x00\x00\x00\x00"):
                # Some come in one piece with the request, and some before its answer.
                for wait in range(4):
                    peer = await station.connect(UPGRADE)
                    for _ in range(wait):
                        await asyncio.sleep(0)
                    peer.writer.write(rubbish)
                    with suppress(ConnectionError, ssl.SSLError):
                        await asyncio.wait_for(peer.reader.read(4096), PATIENCE_S)
                    peer.writer.write(rubbish)
                    await peer.is_sent_away()

    play(scenario())
    assert caplog.text == ""


def test_a_message_of_endless_empty_pieces_is_ended() -> None:
    async def scenario() -> None:
        async with serving(Limits()) as station:
            await flood(station, b"\x00\x80\x00\x00\x00\x00" * 100, b"\x02\x80\x00\x00\x00\x00")

    play(scenario())


class Guest:
    def __init__(self) -> None:
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True


def arrivals(crowd: Crowd, number: int, address: str = "a", now_s: float = 0.0) -> list[Guest]:
    guests = [Guest() for _ in range(number)]
    for guest in guests:
        crowd.arrive(guest, address, now_s)
    return guests


def dropped(guests: list[Guest]) -> list[bool]:
    return [guest.dropped for guest in guests]


def test_a_rush_of_newcomers_behind_one_address_is_let_in() -> None:
    crowd = Crowd(Limits(each=2, together=100, fresh_s=1.0))
    rush = arrivals(crowd, 10)
    assert not any(dropped(rush))
    # Those that still say nothing after a second make room.
    arrivals(crowd, 1, now_s=1.0)
    assert dropped(rush) == [True] * 9 + [False]
    assert len(crowd) == 2


def test_another_address_has_room_of_its_own() -> None:
    crowd = Crowd(Limits(each=2, fresh_s=0.0))
    first = arrivals(crowd, 2)
    other = arrivals(crowd, 2, "b", 1.0)
    assert not any(dropped(first + other))


def test_who_is_being_answered_never_makes_room_and_a_body_only_after_the_idle() -> None:
    crowd = Crowd(Limits(each=3, fresh_s=1.0))
    guests = arrivals(crowd, 3)
    crowd.turn(guests[0], Turn.ANSWER, 0.0)
    crowd.turn(guests[1], Turn.BODY, 0.0)
    arrivals(crowd, 1, now_s=1.0)
    assert dropped(guests) == [False, False, True]
    arrivals(crowd, 1, now_s=1.0)
    assert dropped(guests) == [False, True, True]


def test_a_newcomer_goes_when_all_others_are_busy() -> None:
    crowd = Crowd(Limits(together=2))
    busy = arrivals(crowd, 2)
    for guest in busy:
        crowd.turn(guest, Turn.ANSWER, 0.0)
    (newcomer,) = arrivals(crowd, 1)
    assert newcomer.dropped
    assert not any(dropped(busy))
    crowd.leave(newcomer)
    assert len(crowd) == 2


def test_a_quarter_of_the_descriptors_is_for_what_is_no_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for soft, together in ((1024, 256), (1 << 20, 4096), (resource.RLIM_INFINITY, 4096)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert limits_here().together == together


def test_the_supervisor_takes_all_descriptors_it_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 5000))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: taken.append(limits))
    _allow_descriptors()
    assert taken == [(5000, 5000)]
