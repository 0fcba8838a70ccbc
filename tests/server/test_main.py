"""Control's uvicorn, as it is configured, over real loopback sockets and in real time."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from server.__main__ import _open_store, _server
from server.child import Birth, adopt
from server.limits import Limits
from transport.control.messages import (
    SUBPROTOCOL,
    TO_SPEAKER,
    TO_STATION,
    VERSION,
    Adjust,
    Hello,
    Listen,
    Refused,
    Welcome,
)

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]

HELLO = TO_STATION.encode(Hello(VERSION, "a", False, 50_000))
# Never waited for unless something is broken.
PATIENCE_S = 5.0


@asynccontextmanager
async def serving(room: Room, limits: Limits | None = None) -> AsyncIterator[str]:
    """Control serves; `host:port`."""
    server = _server(room.control, limits)
    with adopt(room.births["server"].http) as listening:
        host, port = listening.getsockname()
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0)
        yield f"{host}:{port}"
        server.should_exit = server.force_exit = True
        await task


def session(address: str) -> connect:
    return connect(
        f"ws://{address}/control",
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        proxy=None,
        close_timeout=0.1,
    )


async def word(connection: ClientConnection) -> Welcome | Refused | Adjust | Listen:
    data = await asyncio.wait_for(connection.recv(), PATIENCE_S)
    assert isinstance(data, bytes)
    heard: Welcome | Refused | Adjust | Listen = TO_SPEAKER.decode(data)
    return heard


async def is_told_everything(connection: ClientConnection) -> None:
    """Until the loudspeaker has heard all that a newcomer is told."""
    for kind in (Welcome, Adjust, Listen):
        assert isinstance(await word(connection), kind)


def test_a_loudspeaker_s_session_over_a_real_socket(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        async with serving(room) as address, session(address) as connection:
            await connection.send(HELLO)
            welcome = await word(connection)
            assert isinstance(welcome, Welcome)
            ports = room.control.summary()["ports"]
            assert (welcome.time_port, welcome.rtcp_port) == (ports["time"], ports["rtcp"])
            assert await word(connection) == Adjust(100, muted=False)
            assert isinstance(await word(connection), Listen)
            assert connection.subprotocol == SUBPROTOCOL
            # It would cost 87 KB a session.
            assert "Sec-WebSocket-Extensions" not in connection.response.headers  # type: ignore[union-attr]
            assert room.control.station.speakers["a"].address == "127.0.0.1"

    play_control(scenario, real_time=True)


@pytest.mark.parametrize(
    "said",
    ["hello", b"\xc1", HELLO],
    ids=["text", "rubbish", "hello twice"],
)
def test_what_does_not_belong_ends_that_session_and_no_other(
    play_control: Play, said: str | bytes
) -> None:
    async def scenario(room: Room) -> None:
        async with (
            serving(room) as address,
            session(address) as bad,
            session(address) as good,
        ):
            await good.send(TO_STATION.encode(Hello(VERSION, "good", False, 50_000)))
            await bad.send(HELLO)
            for connection in (good, bad):
                await is_told_everything(connection)
            await bad.send(said)
            with pytest.raises(ConnectionClosed):
                await word(bad)
            pong = await good.ping()
            await asyncio.wait_for(pong, PATIENCE_S)
            assert room.control.station.speakers["good"].session is not None

    play_control(scenario, real_time=True)


def test_a_message_larger_than_any_of_ours_is_not_even_read(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        async with serving(room) as address, session(address) as connection:
            await connection.send(HELLO)
            await is_told_everything(connection)
            await connection.send(bytes((1 << 16) + 1))
            with pytest.raises(ConnectionClosed):
                await word(connection)
            assert connection.close_code == 1009  # RFC 6455: too big to process

    play_control(scenario, real_time=True)


def test_a_name_in_use_is_refused_over_a_real_socket(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        async with serving(room) as address, session(address) as first:
            await first.send(HELLO)
            await word(first)
            async with session(address) as second:
                await second.send(HELLO)
                refusal = await word(second)
                assert isinstance(refusal, Refused)
                assert "in use" in refusal.reason

    play_control(scenario, real_time=True)


def test_who_says_nothing_is_sent_away_and_a_session_is_not(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        async with (
            serving(room, Limits(patience_s=0.1)) as address,
            session(address) as connection,
        ):
            await connection.send(HELLO)
            await is_told_everything(connection)
            reader, writer = await asyncio.open_connection(*address.split(":"))
            assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
            writer.close()
            await asyncio.wait_for(await connection.ping(), PATIENCE_S)

    play_control(scenario, real_time=True)


def test_an_interrupt_does_not_stop_the_serving(play_control: Play) -> None:
    # Ctrl-C reaches the whole group, and the supervisor alone shall answer it.
    async def scenario(room: Room) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            async with serving(room) as address:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(0)
                async with session(address) as connection:
                    await connection.send(HELLO)
                    assert isinstance(await word(connection), Welcome)
                assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        finally:
            signal.signal(signal.SIGINT, before)

    play_control(scenario, real_time=True)


def test_a_folder_without_a_station_ends_control_with_one_line(
    births: dict[str, Birth], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"^loa serve: there is no station at ") as ended:
        _open_store(replace(births["server"], data=str(tmp_path)))
    assert len(str(ended.value).splitlines()) == 1
