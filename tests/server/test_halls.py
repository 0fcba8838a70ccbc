"""Control's side and a hall together, with loudspeakers that call over TLS."""

import asyncio
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from server.hall.words import Holds
from server.halls import RelayedSession
from tests.support.clienthello import client_hello
from tests.support.halls import Door, echo, play
from tests.support.tls import station_tls
from transport.control.messages import SUBPROTOCOL


def closed_with(caller: Any) -> tuple[int | None, str | None]:
    return caller.close_code, caller.close_reason


def test_words_pass_both_ways_in_order() -> None:
    async def scenario(door: Door) -> None:
        caller = await door.call()
        assert caller.subprotocol == SUBPROTOCOL
        words = [bytes([number]) * (number * 400 + 1) for number in range(150)]

        async def say() -> None:
            for word in words:
                await caller.send(word)

        saying = asyncio.create_task(say())
        assert [await caller.recv() for _ in words] == words
        await saying
        assert len(door.control) == 1
        assert not door.kept

    play(Door(), scenario)


def test_control_knows_who_calls_and_how() -> None:
    seen: list[RelayedSession] = []

    async def serve(session: RelayedSession) -> None:
        seen.append(session)
        await echo(session)

    async def scenario(door: Door) -> None:
        for subprotocol in (SUBPROTOCOL, None):
            caller = await door.call(subprotocol=subprotocol)
            await caller.send(b"!")
            await caller.recv()
        first, second = seen
        assert first.client == door.callers[0].local_address
        assert first.scope["subprotocols"] == [SUBPROTOCOL]
        assert second.scope["subprotocols"] == []

    play(Door(serve), scenario)


def test_who_is_no_loudspeaker_is_control_s_own() -> None:
    async def scenario(door: Door) -> None:
        for alpn in (None, "http/1.1"):
            calling = asyncio.create_task(door.call(alpn=alpn))
            await door.until(lambda: bool(door.kept))
            with door.kept.pop() as kept:
                assert kept.recv(1) == b"\x16"  # it is read as if nobody had looked
            calling.cancel()
        assert door.control.turned_away == 0

    play(Door(), scenario)


def test_control_hands_none_on_before_its_own_places_are_taken() -> None:
    async def scenario(door: Door) -> None:
        door.own = 1
        calling = asyncio.create_task(door.call())
        await door.until(lambda: bool(door.kept))
        calling.cancel()
        door.own = 2
        await door.call()
        assert len(door.control) == 1

    play(Door(own_places=2), scenario)


def test_the_hall_that_has_fewest_is_given_the_next() -> None:
    async def scenario(door: Door) -> None:
        for _ in range(6):
            await door.call()
            # One that is just through TLS is counted twice for a moment.
            await door.until(
                lambda: all(
                    ours.load == len(hall.relay)
                    for ours, hall in zip(door.control._halls, door.halls, strict=True)
                )
            )
        assert [len(hall.relay) for hall in door.halls] == [3, 3]

    play(Door(), scenario, halls=2)


def test_with_no_room_anywhere_they_are_turned_away_and_counted() -> None:
    async def scenario(door: Door) -> None:
        first = await door.call()
        with pytest.raises(ConnectionError):
            await door.call()
        assert door.control.turned_away == 1
        first.transport.abort()
        # What the hall holds is known again soon after it has gone.
        await door.called()

    play(Door(places=1), scenario)


def test_whom_no_hall_has_room_for_control_keeps_while_it_has_room() -> None:
    async def scenario(door: Door) -> None:
        await door.call()
        calling = asyncio.create_task(door.call())
        await door.until(lambda: bool(door.kept))
        calling.cancel()
        door.own = 1
        with pytest.raises(ConnectionError):
            await door.call()
        assert door.control.turned_away == 1

    play(Door(places=1, most_own=1), scenario)


def test_control_s_close_reaches_the_loudspeaker() -> None:
    async def serve(session: RelayedSession) -> None:
        await session.send_bytes(b"goodbye")
        await session.close(1008, "too many messages")
        await session.close(1000, "once more")

    async def scenario(door: Door) -> None:
        caller = await door.call()
        assert await caller.recv() == b"goodbye"
        await caller.wait_closed()
        assert closed_with(caller) == (1008, "too many messages")
        await door.until(lambda: len(door.control) == len(door.halls[0].relay) == 0)

    play(Door(serve), scenario)


def test_a_session_that_control_has_done_with_is_closed() -> None:
    async def serve(session: RelayedSession) -> None:
        await session.receive()

    async def scenario(door: Door) -> None:
        caller = await door.call()
        await caller.send(b"!")
        await caller.wait_closed()
        assert caller.close_code == 1000

    play(Door(serve), scenario)


def test_a_mistake_of_control_ends_that_session_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def serve(session: RelayedSession) -> None:
        if (await session.receive())["bytes"] == b"1":
            raise ZeroDivisionError
        await session.send_bytes(b"well")
        await echo(session)

    async def scenario(door: Door) -> None:
        bad, good = await door.call(), await door.call()
        await bad.send(b"1")
        await good.send(b"2")
        await bad.wait_closed()
        assert bad.close_code == 1011
        assert await good.recv() == b"well"

    play(Door(serve), scenario)
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("how", ["close", "abort"])
def test_control_hears_that_a_loudspeaker_has_gone(how: str) -> None:
    heard: list[dict[str, Any]] = []

    async def serve(session: RelayedSession) -> None:
        heard.extend([await session.receive(), await session.receive()])
        with pytest.raises(Exception, match=r"4000|1005"):
            await session.send_bytes(b"?")

    async def scenario(door: Door) -> None:
        caller = await door.call()
        if how == "close":
            await caller.close(4000)
        else:
            caller.transport.abort()
        await door.until(lambda: bool(heard) and len(door.control) == 0)
        code = 4000 if how == "close" else 1005  # what uvicorn calls a lost one
        assert heard == [{"type": "websocket.disconnect", "code": code}] * 2

    play(Door(serve), scenario)


def test_what_is_no_binary_message_ends_the_session() -> None:
    async def scenario(door: Door) -> None:
        caller = await door.call()
        await caller.send("text")
        await caller.wait_closed()
        assert caller.close_code == 1003
        await door.until(lambda: len(door.control) == 0)

    play(Door(), scenario)


@pytest.mark.realtime
def test_who_does_not_read_keeps_control_waiting_and_nobody_else() -> None:
    patience: list[str] = []

    async def serve(session: RelayedSession) -> None:
        if (await session.receive())["bytes"] == b"deaf":
            try:
                while True:
                    async with asyncio.timeout(0.5):  # of one: many go out until none does
                        await session.send_bytes(bytes(60_000))
            except TimeoutError:
                patience.append("is over")
            with pytest.raises(RuntimeError):
                await session.send_bytes(b"more")
        else:
            await echo(session)

    async def scenario(door: Door) -> None:
        deaf, other = await door.call(), await door.call()
        await deaf.send(b"deaf")
        deaf.transport.pause_reading()
        await other.send(b"other")
        await door.until(lambda: bool(patience))
        await other.send(b"still here")
        assert await other.recv() == b"still here"
        # The hall waits no longer than a moment for it to take even the close.
        await door.until(lambda: len(door.control) == len(door.halls[0].relay) == 1)

    play(Door(serve), scenario)


@pytest.mark.realtime
def test_who_says_much_is_not_heard_faster_than_control_listens() -> None:
    listening, heard = asyncio.Event(), list[bytes]()
    sessions: list[RelayedSession] = []

    async def serve(session: RelayedSession) -> None:
        sessions.append(session)
        await listening.wait()
        while (message := await session.receive())["type"] == "websocket.receive":
            heard.append(message["bytes"])

    async def scenario(door: Door) -> None:
        caller = await door.call()
        words = [bytes([number]) * 60_000 for number in range(200)]

        async def say() -> None:
            for word in words:
                await caller.send(word)

        saying = asyncio.create_task(say())
        await door.until(lambda: bool(sessions) and bool(sessions[0]._said))
        await asyncio.sleep(0.3)
        assert not saying.done()  # 12 MB wait at the loudspeaker
        assert len(sessions[0]._said) == 1
        listening.set()
        await saying
        await door.until(lambda: heard == words)

    play(Door(serve), scenario)


@pytest.mark.parametrize("path", ["/", "/api/v1/live", "/control/more"])
def test_there_is_nothing_else_in_a_hall(path: str) -> None:
    async def scenario(door: Door) -> None:
        with pytest.raises(InvalidStatus, match="403"):
            await door.call(path)

    play(Door(), scenario)


def test_a_request_that_is_none_for_a_session_finds_nothing() -> None:
    async def scenario(door: Door) -> None:
        context = station_tls().calling()
        context.set_alpn_protocols([SUBPROTOCOL])
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=context)
        writer.write(b"GET /control HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
        writer.close()
        await door.until(lambda: door.control._halls[0].load == 0)

    play(Door(), scenario)


def test_a_handshake_that_never_ends_is_known_and_forgotten() -> None:
    async def scenario(door: Door) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(client_hello(SUBPROTOCOL)[:-1])
        (hall,) = door.control._halls
        await door.until(lambda: hall._holds.unfinished == 1)
        writer.transport.abort()
        await door.until(lambda: hall.load == 0)

    play(Door(), scenario)


def test_who_asks_for_nothing_is_known_and_forgotten() -> None:
    async def scenario(door: Door) -> None:
        context = station_tls().calling()
        context.set_alpn_protocols([SUBPROTOCOL])
        _, writer = await asyncio.open_connection("127.0.0.1", door.port, ssl=context)
        (hall,) = door.control._halls
        await door.until(lambda: hall._holds == Holds(1, 0, 1))
        writer.transport.abort()
        await door.until(lambda: hall.load == 0)

    play(Door(), scenario)


def test_a_control_born_again_serves_anew_and_ends_what_was() -> None:
    async def scenario(door: Door) -> None:
        before = await door.call()
        await before.send(b"1")
        assert await before.recv() == b"1"
        door.control.close()  # as the kernel does when it is killed
        await before.send(b"lost")
        door.control = door.new_control(echo)
        await before.wait_closed()
        assert before.close_code == 1012
        after = await door.called()
        await after.send(b"2")
        assert await after.recv() == b"2"
        assert len(door.control) == len(door.halls[0].relay) == 1
        # Nothing of what it counted for the one before.
        await door.until(lambda: door.control._halls[0]._holds == Holds(1, 0, 1))

    play(Door(), scenario)


def test_a_hall_born_again_is_given_sessions_and_the_lost_ones_are_over() -> None:
    async def scenario(door: Door) -> None:
        before = await door.call()
        await before.send(b"1")
        assert await before.recv() == b"1"
        door.halls[0].close()
        with pytest.raises(ConnectionClosed):
            await before.recv()
        # These wait for the next hall in the link.
        waiting = [asyncio.create_task(door.call()) for _ in range(3)]
        await door.until(lambda: door.control._halls[0]._given == 1 + len(waiting))
        door.halls[0] = door.hall(0)
        await asyncio.gather(*waiting, return_exceptions=True)
        await door.until(lambda: len(door.control) == len(door.halls[0].relay))
        after = await door.called()
        await after.send(b"2")
        assert await after.recv() == b"2"
        await door.until(lambda: door.control._halls[0].load == len(door.halls[0].relay))

    play(Door(), scenario)
