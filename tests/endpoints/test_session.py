"""The control session against a station of the test's making, on trio's virtual clock."""

import socket
from itertools import pairwise
from typing import Self

import pytest
import trio
from trio.testing import MockClock
from websockets.exceptions import ConnectionClosedError
from websockets.server import ServerProtocol
from websockets.trio.server import ServerConnection

from endpoints.session import RefusedForGood, RestartAsked
from tests.support.station import (
    Station,
    Talk,
    refuse,
    running_station,
    welcome_and_listen,
)
from tests.support.visitor import HELLO, TELEMETRY, Visitor, visit
from transport.control.messages import (
    SUBPROTOCOL,
    TO_SPEAKER,
    VERSION,
    Adjust,
    Command,
    Done,
    Listen,
    Ready,
    Refused,
    StreamSpec,
    Telemetry,
    Welcome,
)
from transport.control.wire import MAX_MESSAGE_BYTES

SPEC = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=100.0)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.005
    return mock_clock


# ------------------------------------------------------------------ a good station
@pytest.mark.trio
async def test_it_says_hello_and_is_welcomed(world: MockClock) -> None:
    visitor, station = await visit(welcome_and_listen, 0.3)
    assert station.hellos == [HELLO]
    assert visitor.speaker.welcomes == [("127.0.0.1", "127.0.0.1", station.welcome)]
    assert visitor.said == [f"joined the station at 127.0.0.1:{station.port}"]


@pytest.mark.trio
async def test_it_tells_how_it_is_twice_a_second(world: MockClock) -> None:
    _, station = await visit(welcome_and_listen, 3.2)
    assert [message for _, message in station.telemetry] == [TELEMETRY] * 7
    times = [at for at, _ in station.telemetry]
    assert [b - a for a, b in pairwise(times)] == pytest.approx([0.5] * 6, abs=0.05)


@pytest.mark.trio
async def test_it_does_as_told_and_confirms_each_revision(world: MockClock) -> None:
    async def declare(station: Station) -> None:
        for revision, streams in ((1, (SPEC,)), (2, ()), (7, (SPEC,))):
            await trio.sleep(0.2)
            await station.say(Listen(revision, streams))

    visitor, station = await visit(welcome_and_listen, 1.0, declare)
    told = [Listen(1, (SPEC,)), Listen(2, ()), Listen(7, (SPEC,))]
    assert visitor.speaker.listens == told
    assert station.readies == [Ready(1), Ready(2), Ready(7)]


@pytest.mark.trio
async def test_it_stays_as_long_as_the_station_does(world: MockClock) -> None:
    world.autojump_threshold = 0.001
    visitor, station = await visit(welcome_and_listen, 120)
    assert len(station.came_s) == 1
    assert visitor.waits_s == []


# ------------------------------------------------------------------ how loud, and what to do
@pytest.mark.trio
async def test_it_is_as_loud_as_told(world: MockClock) -> None:
    told = [Adjust(30, muted=False), Adjust(30, muted=True)]

    async def adjust(station: Station) -> None:
        for word in told:
            await trio.sleep(0.2)
            await station.say(word)

    visitor, station = await visit(welcome_and_listen, 1.0, adjust)
    assert visitor.speaker.adjusts == told
    assert station.readies == []


@pytest.mark.trio
async def test_it_does_what_it_is_asked_to_and_says_so(world: MockClock) -> None:
    asked = [Command(3, "tone", 2.0), Command(4, "identify")]

    async def ask(station: Station) -> None:
        for word in asked:
            await trio.sleep(0.2)
            await station.say(word)

    visitor, station = await visit(welcome_and_listen, 1.0, ask)
    assert visitor.speaker.commands == asked
    assert station.answers == [Done(3), Done(4)]


@pytest.mark.trio
@pytest.mark.parametrize("action", ["tone", "identify", "restart"])
async def test_it_says_why_it_does_not_do_what_it_is_asked_to(
    world: MockClock, action: str
) -> None:
    async with running_station() as station, trio.open_nursery() as nursery:
        visitor = Visitor(station.port)
        visitor.speaker.objection = "live-1 is being heard"
        nursery.start_soon(visitor.run_for, 1.0)
        await trio.sleep(0.5)
        await station.say(Command(7, action))
    assert station.answers == [Done(7, "live-1 is being heard")]
    assert len(station.came_s) == 1


@pytest.mark.trio
async def test_it_ends_where_it_is_asked_to_begin_anew_after_saying_that_it_does(
    world: MockClock,
) -> None:
    async with running_station() as station, trio.open_nursery() as nursery:
        visitor = Visitor(station.port)

        async def ask() -> None:
            await trio.sleep(0.5)
            await station.say(Command(7, "restart"))

        nursery.start_soon(ask)
        with pytest.RaisesGroup(RestartAsked, flatten_subgroups=True, allow_unwrapped=True):
            await visitor.session.run()
        await trio.sleep(0.1)
    assert station.answers == [Done(7)]


# ------------------------------------------------------------------ no station, or a bad one
@pytest.mark.trio
async def test_where_nobody_is_it_tries_for_ever_and_backs_off(world: MockClock) -> None:
    async with running_station() as station:
        port = station.port
    visitor = Visitor(port)
    await visitor.run_for(40)
    pauses = [after - before for before, after in pairwise(visitor.waits_s)]
    assert pauses[:5] == pytest.approx([0.25, 0.5, 1, 2, 4], abs=0.05)
    assert pauses[5:] == pytest.approx([4] * len(pauses[5:]), abs=0.05)
    assert len(pauses) >= 10


@pytest.mark.trio
async def test_what_is_wrong_is_said_once_and_in_one_line(world: MockClock) -> None:
    async with running_station() as station:
        port = station.port
    visitor = Visitor(port)
    await visitor.run_for(20)
    assert visitor.said == [
        f"station not found at 127.0.0.1:{port}: Connection refused; trying again"
    ]


@pytest.mark.trio
async def test_a_name_that_nobody_knows_is_said_so(world: MockClock) -> None:
    class NoSuchName(trio.abc.HostnameResolver):
        async def getaddrinfo(  # type: ignore[override, explicit-override]
            self, *_: object
        ) -> list[object]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def getnameinfo(  # type: ignore[explicit-override]
            self, *_: object
        ) -> tuple[str, str]:
            raise NotImplementedError

    trio.socket.set_custom_hostname_resolver(NoSuchName())
    visitor = Visitor(80, "station.invalid")
    await visitor.run_for(1)
    assert visitor.said == [
        "station not found at station.invalid:80: Name or service not known; trying again"
    ]


@pytest.mark.trio
async def test_a_refused_name_keeps_asking(world: MockClock) -> None:
    visitor, station = await visit(refuse("the name a is taken", final=False), 20)
    assert len(station.hellos) >= 6
    assert visitor.said == ["the name a is taken; trying again"]
    assert not visitor.speaker.welcomes


@pytest.mark.trio
async def test_a_refused_name_is_let_in_when_it_has_become_free(world: MockClock) -> None:
    async def free(station: Station) -> None:
        await trio.sleep(2)
        station.talk = welcome_and_listen

    visitor, station = await visit(refuse("taken", final=False), 10, free)
    assert len(visitor.speaker.welcomes) == 1
    assert visitor.said[-1] == f"joined the station at 127.0.0.1:{station.port}"


@pytest.mark.trio
async def test_a_final_refusal_ends_it(world: MockClock) -> None:
    async with running_station(refuse("protocol version 1", final=True)) as station:
        with pytest.RaisesGroup(
            pytest.RaisesExc(RefusedForGood, match=r"^protocol version 1$"),
            allow_unwrapped=True,
            flatten_subgroups=True,
        ):
            await Visitor(station.port).session.run()
    assert len(station.hellos) == 1


def instead_of_a_welcome(data: bytes | str) -> Talk:
    async def talk(station: Station, connection: ServerConnection) -> None:
        await station.hear_hello(connection)
        await connection.send(data)
        await trio.sleep_forever()

    return talk


def after_the_welcome(data: bytes | str) -> Talk:
    async def talk(station: Station, connection: ServerConnection) -> None:
        await station.hear_hello(connection)
        await connection.send(TO_SPEAKER.encode(station.welcome))
        await trio.sleep(0.1)
        await connection.send(data)
        await trio.sleep_forever()

    return talk


RUBBISH = pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "message_encoding"),
        (b"\xc1rubbish", "message_encoding"),
        (b"\x91" * 600, "message_encoding"),
        (b"\x80", "message_shape"),
        (b"\x81\xa4type\xa5Hello", "message_type"),
        (b"\x81\xa4type\xa7Welcome", "message_field"),
        (TO_SPEAKER.encode(Refused("", final=False)).replace(b"\xc2", b"\x07"), "message_field"),
        ("a text", "message_text"),
    ],
)


@RUBBISH
@pytest.mark.trio
async def test_rubbish_instead_of_a_welcome_ends_the_session_and_it_comes_back(
    world: MockClock, data: bytes | str, why: str
) -> None:
    visitor, station = await visit(instead_of_a_welcome(data), 3)
    address = f"127.0.0.1:{station.port}"
    assert len(station.came_s) >= 3
    assert visitor.said == [f"station not found at {address}: {why}; trying again"]


@RUBBISH
@pytest.mark.trio
async def test_rubbish_after_the_welcome_ends_the_session_and_it_comes_back(
    world: MockClock, data: bytes | str, why: str
) -> None:
    visitor, station = await visit(after_the_welcome(data), 2)
    address = f"127.0.0.1:{station.port}"
    assert len(station.came_s) >= 3
    assert visitor.said[:2] == [
        f"joined the station at {address}",
        f"lost the station at {address}: {why}; trying again",
    ]


@pytest.mark.trio
async def test_orders_before_the_welcome_are_not_followed(world: MockClock) -> None:
    data = TO_SPEAKER.encode(Listen(1, (SPEC,)))
    visitor, station = await visit(instead_of_a_welcome(data), 2)
    assert not visitor.speaker.listens
    assert len(station.came_s) >= 3


@pytest.mark.trio
async def test_a_message_over_the_limit_ends_the_session(world: MockClock) -> None:
    visitor, station = await visit(after_the_welcome(bytes(MAX_MESSAGE_BYTES + 1)), 2)
    assert len(station.came_s) >= 2
    assert not visitor.speaker.listens


@pytest.mark.trio
async def test_a_station_that_says_nothing_is_given_up_after_five_seconds(
    world: MockClock,
) -> None:
    async def silent(station: Station, connection: ServerConnection) -> None:
        await station.hear_hello(connection)
        await trio.sleep_forever()

    visitor, station = await visit(silent, 12)
    assert station.came_s[1] - station.came_s[0] == pytest.approx(5.25, abs=0.1)
    assert visitor.said[0].endswith(": no answer; trying again")


@pytest.mark.trio
async def test_a_station_that_closes_is_found_again(world: MockClock) -> None:
    async def one_second(station: Station, connection: ServerConnection) -> None:
        with trio.move_on_after(1):
            await welcome_and_listen(station, connection)
        await connection.aclose()

    visitor, station = await visit(one_second, 10)
    assert len(station.came_s) >= 7
    # Each success begins the waiting anew, or after some restarts it would be slow to return.
    pauses = [after - before for before, after in pairwise(station.came_s)]
    assert pauses == pytest.approx([1.25] * len(pauses), abs=0.1)
    assert visitor.said[1].startswith(f"lost the station at 127.0.0.1:{station.port}: ")


async def accept_and_hang(listener: trio.SocketListener, came_s: list[float]) -> None:
    """Stations whose process is stopped: their kernel takes what comes, and nobody answers."""

    async def hang(stream: trio.SocketStream) -> None:
        came_s.append(trio.current_time())
        protocol = ServerProtocol(subprotocols=[SUBPROTOCOL])  # type: ignore[list-item]
        while not protocol.events_received():
            protocol.receive_data(await stream.receive_some())
            for request in protocol.events_received():
                protocol.send_response(protocol.accept(request))  # type: ignore[arg-type]
                protocol.send_binary(TO_SPEAKER.encode(Welcome(VERSION, 5, 6)))
                for data in protocol.data_to_send():
                    await stream.send_all(data)
                await trio.sleep_forever()

    await trio.serve_listeners(hang, [listener])


@pytest.mark.trio
async def test_a_station_that_hangs_is_given_up_when_it_answers_no_ping(world: MockClock) -> None:
    came_s: list[float] = []
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    visitor = Visitor(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_and_hang, listener, came_s)
        await visitor.run_for(40)
        nursery.cancel_scope.cancel()
    # A ping after 5 s, its answer awaited for 10 s, a second to close, and the back-off.
    assert came_s[1] - came_s[0] == pytest.approx(16.25, abs=1.1)
    assert visitor.said[0].startswith("joined the station at ")
    assert visitor.said[1].startswith("lost the station at ")


@pytest.mark.trio
async def test_something_else_that_listens_there_is_no_station(world: MockClock) -> None:
    async def other(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"220 mail.example ESMTP\r\n")
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    visitor = Visitor(listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, other, [listener])
        await visitor.run_for(3)
        nursery.cancel_scope.cancel()
    assert len(visitor.waits_s) >= 3
    assert visitor.said[0].startswith("station not found at ")
    assert "\n" not in visitor.said[0]


@pytest.mark.trio
async def test_a_mistake_of_our_own_is_not_taken_for_the_stations(world: MockClock) -> None:
    def wrong() -> Telemetry:
        raise ZeroDivisionError

    async with running_station() as station:
        visitor = Visitor(station.port)
        visitor.speaker.telemetry = wrong  # type: ignore[method-assign]
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True, allow_unwrapped=True):
            await visitor.session.run()


@pytest.mark.trio
async def test_being_switched_off_ends_it_cleanly(world: MockClock) -> None:
    async with running_station() as station:
        for seconds in (0.001, 0.05, 0.7):
            await Visitor(station.port).run_for(seconds)


@pytest.mark.trio
async def test_a_connection_that_breaks_while_it_is_switched_off_is_no_crash(
    world: MockClock,
) -> None:
    class Breaking:
        """Says that it was closed where it was cancelled."""

        remote_address = local_address = ("127.0.0.1", 1)

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            return

        async def send(self, data: bytes) -> None:
            if b"Telemetry" in data:
                try:
                    await trio.sleep_forever()
                finally:
                    raise ConnectionClosedError(None, None)

        async def recv(self) -> bytes:
            if not visitor.speaker.welcomes:
                return TO_SPEAKER.encode(Welcome(VERSION, 5, 6))
            await trio.sleep_forever()
            raise AssertionError

    visitor = Visitor(1)
    visitor.session._connect = Breaking  # type: ignore[assignment,method-assign]
    await visitor.run_for(1)
    assert len(visitor.said) == 1
