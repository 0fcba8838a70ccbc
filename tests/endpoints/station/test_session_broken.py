"""A control session that does not come about, or breaks: it is told why, and comes back."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock
from websockets.exceptions import ConnectionClosedError

from endpoints.station import session as session_module
from endpoints.station.session import RefusedForGood
from endpoints.station.tls import TlsPeer
from tests.support.chain import GENERATION, STATION
from tests.support.station import (
    ROOT,
    Guest,
    Station,
    Talk,
    refuse,
    running_station,
    welcome_and_listen,
)
from tests.support.visitor import Visitor, store_of, visit
from transport.control.messages import (
    TO_SPEAKER,
    VERSION,
    Enrolled,
    Identity,
    Listen,
    Pending,
    Refused,
    StreamSpec,
    Telemetry,
    Welcome,
)
from transport.control.session import SETTLED_S
from transport.control.wire import MAX_MESSAGE_BYTES
from transport.security.certificates import StationCertificate

SPEC = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=100.0)
GROUP_SPEC = replace(SPEC, group="239.1.2.3", port=5004)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.005
    return mock_clock


# ------------------------------------------------------------------ no station, or a bad one
@pytest.mark.trio
async def test_where_nobody_is_it_tries_for_ever_and_backs_off(
    world: MockClock, tmp_path: Path
) -> None:
    async with running_station() as station:
        port = station.port
    visitor = Visitor(store_of(tmp_path, port))
    await visitor.run_for(40)
    pauses = [after - before for before, after in pairwise(visitor.waits_s)]
    assert pauses[:5] == pytest.approx([0.25, 0.5, 1, 2, 4], abs=0.05)
    assert pauses[5:] == pytest.approx([4] * len(pauses[5:]), abs=0.05)
    assert len(pauses) >= 10


@pytest.mark.trio
async def test_what_is_wrong_is_said_once_and_in_one_line(world: MockClock, tmp_path: Path) -> None:
    async with running_station() as station:
        port = station.port
    visitor = Visitor(store_of(tmp_path, port))
    await visitor.run_for(20)
    assert visitor.said == [
        f"station not found at 127.0.0.1:{port}: Connection refused; trying again"
    ]


@pytest.mark.trio
async def test_a_name_that_nobody_knows_is_said_so(world: MockClock, tmp_path: Path) -> None:
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
    visitor = Visitor(store_of(tmp_path, 80, host="station.invalid"))
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
async def test_a_final_refusal_ends_it(world: MockClock, tmp_path: Path) -> None:
    async with running_station(refuse("protocol version 1", final=True)) as station:
        with pytest.RaisesGroup(
            pytest.RaisesExc(RefusedForGood, match=r"^protocol version 1$"),
            allow_unwrapped=True,
            flatten_subgroups=True,
        ):
            await Visitor(store_of(tmp_path, station.port)).session.run()
    assert len(station.hellos) == 1


def instead_of_a_welcome(data: bytes | str) -> Talk:
    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.send(guest.frame_of(data) if isinstance(data, bytes) else data)
        await trio.sleep_forever()

    return talk


def after_the_welcome(data: bytes | str) -> Talk:
    async def talk(station: Station, guest: Guest) -> None:
        await guest.greet()
        await guest.say(station.welcome())
        await trio.sleep(0.1)
        await guest.send(guest.frame_of(data) if isinstance(data, bytes) else data)
        await trio.sleep_forever()

    return talk


RUBBISH = pytest.mark.parametrize(
    ("data", "why"),
    [
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
    visitor, station = await visit(after_the_welcome(bytes(MAX_MESSAGE_BYTES)), 2)
    assert len(station.came_s) >= 2
    assert not visitor.speaker.listens


@pytest.mark.trio
async def test_a_station_that_says_nothing_is_given_up_after_five_seconds(
    world: MockClock,
) -> None:
    async def silent(station: Station, guest: Guest) -> None:
        await guest.greet()
        await trio.sleep_forever()

    visitor, station = await visit(silent, 12)
    assert station.came_s[1] - station.came_s[0] == pytest.approx(5.25, abs=0.1)
    assert visitor.said[0].endswith(": no answer; trying again")


@pytest.mark.trio
@pytest.mark.parametrize(
    ("lasts_s", "pauses_s"),
    [
        # A session that lasted begins the waiting anew, or after some restarts it would be slow.
        (SETTLED_S + 1, [0.25] * 4),
        # Two loudspeakers of one state file send each other away for ever: not four times a second.
        (1, [0.25, 0.5, 1, 2, 4, 4, 4]),
    ],
)
async def test_a_station_that_closes_is_found_again(
    world: MockClock, lasts_s: float, pauses_s: list[float]
) -> None:
    async def awhile(station: Station, guest: Guest) -> None:
        with trio.move_on_after(lasts_s):
            await welcome_and_listen(station, guest)
        await guest.connection.aclose()

    in_all_s = sum(pauses_s) + (len(pauses_s) + 0.5) * lasts_s
    visitor, station = await visit(awhile, in_all_s)
    pauses = [after - before - lasts_s for before, after in pairwise(station.came_s)]
    assert pauses == pytest.approx(pauses_s, abs=0.2)
    assert visitor.said[1].startswith(f"lost the station at 127.0.0.1:{station.port}: ")


async def pass_on(source: trio.SocketStream, to: trio.SocketStream, cut: trio.Event) -> None:
    """One way of a connection; once it is cut, what comes is taken and goes nowhere."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in source:
            if not cut.is_set():
                await to.send_all(data)


@pytest.mark.trio
async def test_a_station_that_hangs_is_given_up_when_it_answers_no_ping(
    world: MockClock, tmp_path: Path
) -> None:
    came_s: list[float] = []
    async with running_station() as station, trio.open_nursery() as nursery:

        async def connect(stream: trio.SocketStream) -> None:
            """To a station whose process is stopped soon after it has welcomed us."""
            came_s.append(trio.current_time())
            cut = trio.Event()
            behind = await trio.open_tcp_stream("127.0.0.1", station.port)
            async with stream, behind, trio.open_nursery() as ways:
                ways.start_soon(pass_on, stream, behind, cut)
                ways.start_soon(pass_on, behind, stream, cut)
                await trio.sleep(0.1)
                cut.set()

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, connect, [listener])
        visitor = Visitor(store_of(tmp_path, listener.socket.getsockname()[1]))
        await visitor.run_for(40)
        nursery.cancel_scope.cancel()
    # A ping after 0.5 s, its answer awaited for 10 s, a second to close, and the back-off.
    assert came_s[1] - came_s[0] == pytest.approx(11.75, abs=1.1)
    assert visitor.said[0].startswith("joined the station at ")
    assert visitor.said[1].startswith("lost the station at ")


@pytest.mark.trio
async def test_something_else_that_listens_there_is_no_station(
    world: MockClock, tmp_path: Path
) -> None:
    async def other(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"220 mail.example ESMTP\r\n")
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    visitor = Visitor(store_of(tmp_path, listener.socket.getsockname()[1]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, other, [listener])
        await visitor.run_for(3)
        nursery.cancel_scope.cancel()
    assert len(visitor.waits_s) >= 3
    assert visitor.said[0].startswith("station not found at ")
    assert "\n" not in visitor.said[0]


@pytest.mark.trio
async def test_a_mistake_of_our_own_is_not_taken_for_the_stations(
    world: MockClock, tmp_path: Path
) -> None:
    def wrong() -> Telemetry:
        raise ZeroDivisionError

    async with running_station() as station:
        visitor = Visitor(store_of(tmp_path, station.port))
        visitor.speaker.telemetry = wrong  # type: ignore[method-assign]
        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True, allow_unwrapped=True):
            await visitor.session.run()


@pytest.mark.trio
async def test_being_switched_off_ends_it_cleanly(world: MockClock, tmp_path: Path) -> None:
    async with running_station() as station:
        for number, seconds in enumerate((0.001, 0.05, 0.7)):
            store = store_of(tmp_path / str(number), station.port)
            await Visitor(store).run_for(seconds)


@pytest.mark.trio
async def test_a_connection_that_breaks_while_it_is_switched_off_is_no_crash(
    world: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Breaking:
        """Says that it was closed where it was cancelled."""

        certificate = StationCertificate.issue(ROOT, GENERATION, STATION.public)
        tls = TlsPeer("", b"")
        address = local_address = "127.0.0.1"
        nonce = bytes(32)

        async def introduce(self, _: object) -> None:
            return

        async def tell(self, *_: object) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ConnectionClosedError(None, None)

        async def hear(self) -> Welcome:
            if not visitor.speaker.welcomes:
                return Welcome(VERSION, 1, 1, bytes(32), 5, 6, 7)
            await trio.sleep_forever()
            raise AssertionError

    @asynccontextmanager
    async def breaking(*_: object) -> AsyncIterator[Breaking]:
        yield Breaking()

    monkeypatch.setattr(session_module, "meet", breaking)
    visitor = Visitor(store_of(tmp_path))
    await visitor.run_for(1)
    assert len(visitor.said) == 1


@pytest.mark.trio
@pytest.mark.parametrize(
    "word",
    [
        Identity(VERSION, b"", b"", bytes(32)),
        Welcome(VERSION, 9, 9, bytes(32), 1, 2, 3),
        Pending("wait"),
        Enrolled("b"),
    ],
    ids=lambda word: type(word).__name__,
)
async def test_what_belongs_to_the_beginning_is_not_said_later(
    world: MockClock, word: object
) -> None:
    visitor, _ = await visit(after_the_welcome(TO_SPEAKER.encode(word)), 1)
    assert set(visitor.session.refused) == {"message_order"}


@pytest.mark.trio
@pytest.mark.parametrize("hangs", [False, True])
async def test_after_a_sleep_whatever_was_begun_is_begun_anew_at_once(
    world: MockClock, tmp_path: Path, hangs: bool
) -> None:
    """A session, and a connection that is still being made: it would be waited for for 30 s."""
    came_s: list[float] = []
    async with running_station() as station, trio.open_nursery() as nursery:

        async def connect(stream: trio.SocketStream) -> None:
            came_s.append(trio.current_time())
            if hangs:
                await trio.sleep_forever()
            cut = trio.Event()
            behind = await trio.open_tcp_stream("127.0.0.1", station.port)
            async with stream, behind, trio.open_nursery() as ways:
                ways.start_soon(pass_on, stream, behind, cut)
                ways.start_soon(pass_on, behind, stream, cut)
                await trio.sleep(5)
                cut.set()

        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, connect, [listener])
        visitor = Visitor(store_of(tmp_path, listener.socket.getsockname()[1]))
        nursery.start_soon(visitor.run_for, 8)
        await trio.sleep(6)
        visitor.session.woken()
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert len(came_s) == 2
    assert came_s[1] - came_s[0] == pytest.approx(6.25, abs=0.2)
    assert "this machine has slept; trying again" in visitor.said
    assert hangs or visitor.said[0].startswith("joined the station at ")
