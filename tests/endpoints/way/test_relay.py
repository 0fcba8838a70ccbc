"""Through the gateway: real TLS and WebSockets on loopback, on trio's virtual clock."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock
from websockets.exceptions import ConnectionClosed

from endpoints.way.relay import LEAVING, MEDIA, TIME, Gate, Relay
from tests.support.station import SECRET
from tests.support.ways import gateway, station_peer
from transport.security.session_keys import gateway_token, session_key

SESSION = 77
KEY = session_key(SECRET, SESSION)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.01
    return mock_clock


class Visit:
    """A relay, and what it said and was told."""

    def __init__(self, gate: Gate) -> None:
        self.came: list[tuple[bytes, bytes]] = []
        self.said: list[str] = []
        self.turns: list[tuple[float, bool]] = []
        self.dropped: Counter[str] = Counter()
        self.relay = Relay(
            gate,
            lambda kind, content: self.came.append((kind, content)),
            lambda: self.turns.append((trio.current_time(), self.relay.open)),
            self.dropped,
            lambda: 1.0,
            self.said.append,
        )


def gate_to(port: int) -> Gate:
    return Gate(station_peer(), port, SESSION, KEY)


@asynccontextmanager
async def visiting(gate: Gate) -> AsyncIterator[Visit]:
    visit = Visit(gate)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(visit.relay.run)
        await trio.sleep(0.1)
        yield visit
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------ a good gateway
@pytest.mark.trio
async def test_it_shows_its_sessions_token_and_is_open_once_it_is_let_in(
    world: MockClock,
) -> None:
    async with gateway() as station, visiting(gate_to(station.port)) as visit:
        assert [token for _, token in station.came] == [gateway_token(SESSION, KEY)]
        assert visit.relay.open
        assert visit.said == [
            f"no UDP from the station: sound comes by its gateway at 127.0.0.1:{station.port}"
        ]
    assert [open_ for _, open_ in visit.turns] == [True, False]


@pytest.mark.trio
async def test_media_and_time_come_through_and_are_told_apart(world: MockClock) -> None:
    async with gateway() as station, visiting(gate_to(station.port)) as visit:
        for frame in (b"\x00media", b"\x01time", b"\x00", b"\x00more"):
            await station.here[SESSION].send(frame)
        await trio.sleep(0.1)
    assert visit.came == [(MEDIA, b"media"), (TIME, b"time"), (MEDIA, b""), (MEDIA, b"more")]
    assert not visit.dropped


@pytest.mark.trio
async def test_time_is_asked_through_it(world: MockClock) -> None:
    async with gateway() as station, visiting(gate_to(station.port)) as visit:
        assert visit.relay.send_time(b"what time is it")
        await trio.sleep(0.1)
    assert station.heard == [b"\x01what time is it"]


@pytest.mark.trio
async def test_where_it_is_shut_no_time_is_asked(world: MockClock) -> None:
    visit = Visit(gate_to(9))
    assert not visit.relay.send_time(b"what time is it")


@pytest.mark.trio
async def test_questions_that_cannot_leave_are_dropped_and_counted(world: MockClock) -> None:
    async with gateway() as station, visiting(gate_to(station.port)) as visit:
        sent = [visit.relay.send_time(b"%d" % number) for number in range(20)]
        # Eight that wait, and one that is on its way.
        assert sent == [True] * 9 + [False] * 11
        await trio.sleep(0.1)
        assert visit.relay.send_time(b"later")
        await trio.sleep(0.1)
    assert len(station.heard) == 10
    assert visit.dropped == {"relay_full": 11}


@pytest.mark.trio
@pytest.mark.parametrize("frame", [b"", b"\x02", b"\x80rtp", b"\xff" * 99, "text", "\0text", ""])
async def test_frames_of_no_known_kind_are_dropped_and_counted(
    world: MockClock, frame: bytes | str
) -> None:
    async with gateway() as station, visiting(gate_to(station.port)) as visit:
        await station.here[SESSION].send(frame)
        await station.here[SESSION].send(b"\x00media")
        await trio.sleep(0.1)
        assert visit.relay.open
    assert visit.came == [(MEDIA, b"media")]
    assert visit.dropped == {"relay_kind": 1}


@pytest.mark.trio
async def test_a_frame_that_is_no_datagram_for_its_length_ends_the_connection(
    world: MockClock,
) -> None:
    async with gateway() as station, visiting(gate_to(station.port)) as visit:
        await station.here[SESSION].send(b"\x00" + bytes(2049))
        await trio.sleep(1)
        assert len(station.came) == 2
    assert not visit.came


# ------------------------------------------------------------------ another, or none
def test_a_gateway_at_an_ipv6_address_is_called_as_urls_have_it() -> None:
    gate = replace(gate_to(7), tls=replace(station_peer(), host="2001:db8::1"))
    assert gate.text == "[2001:db8::1]:7"


@pytest.mark.trio
async def test_a_gateway_with_another_certificate_is_not_talked_to(world: MockClock) -> None:
    """Neither the token nor a request of ours reaches whoever is in between."""
    async with (
        gateway("somebody else") as other,
        visiting(gate_to(other.port)) as visit,
    ):
        await trio.sleep(20)
        assert not visit.relay.open
    assert other.came == []
    assert len(visit.said) == 1
    assert visit.said[0].startswith(f"what answers at 127.0.0.1:{other.port} is not the station's")
    assert visit.said[0].endswith(": it shows another TLS certificate; trying again")
    assert not visit.turns


@pytest.mark.trio
async def test_where_nobody_is_it_tries_for_ever_and_backs_off(world: MockClock) -> None:
    async with gateway() as station:
        port = station.port
    async with visiting(gate_to(port)) as visit:
        await trio.sleep(30)
        assert not visit.relay.open
    assert visit.said == [
        f"the station's gateway is not found at 127.0.0.1:{port}: Connection refused; trying again"
    ]


@pytest.mark.trio
async def test_a_token_that_is_refused_is_shown_again_ever_more_slowly(world: MockClock) -> None:
    async with gateway() as station:
        async with visiting(replace(gate_to(station.port), key=bytes(32))) as visit:
            await trio.sleep(30)
            assert not visit.relay.open
        pauses = [after - before for before, after in pairwise(at for at, _ in station.came)]
    assert pauses[:5] == pytest.approx([0.25, 0.5, 1, 2, 4], abs=0.05)
    assert pauses[5:] == pytest.approx([4] * len(pauses[5:]), abs=0.05)
    assert len(visit.said) == 1
    assert "HTTP 401" in visit.said[0]


@pytest.mark.trio
@pytest.mark.parametrize("greeting", [b"", b"220 mail.example ESMTP\r\n", b"\x16\x03\x01"])
async def test_what_speaks_no_tls_is_no_gateway(world: MockClock, greeting: bytes) -> None:
    async def other(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        if greeting:
            await stream.send_all(greeting)
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, other, [listener])
        async with visiting(gate_to(listener.socket.getsockname()[1])) as visit:
            await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert len(visit.said) == 1
    assert "\n" not in visit.said[0]


@pytest.mark.trio
async def test_what_hangs_in_its_handshake_is_given_up(world: MockClock) -> None:
    came_s: list[float] = []

    async def hang(stream: trio.SocketStream) -> None:
        came_s.append(trio.current_time())
        await trio.sleep_forever()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, hang, [listener])
        async with visiting(gate_to(listener.socket.getsockname()[1])) as visit:
            await trio.sleep(12)
        nursery.cancel_scope.cancel()
    assert came_s[1] - came_s[0] == pytest.approx(5.25, abs=0.1)
    assert visit.said[0].endswith(": no answer; trying again")


@pytest.mark.trio
async def test_a_gateway_that_sends_elsewhere_is_not_followed(world: MockClock) -> None:
    async with gateway() as other, gateway() as station:
        station.elsewhere = f"ws://127.0.0.1:{other.port}/media"
        async with visiting(gate_to(station.port)) as visit:
            await trio.sleep(3)
    assert other.came == []
    assert "HTTP 302" in visit.said[0]


# ------------------------------------------------------------------ coming back
@pytest.mark.trio
async def test_a_broken_connection_is_made_again_and_begins_quickly(world: MockClock) -> None:
    async with gateway() as station, visiting(gate_to(station.port)) as visit:
        for _ in range(3):
            await trio.sleep(10)
            await station.here[SESSION].aclose()
        await trio.sleep(1)
        assert visit.relay.open
        again = [
            came - left for (came, _), left in zip(station.came[1:], station.left_s, strict=False)
        ]
    assert again == pytest.approx([0.25] * 3, abs=0.05)


@pytest.mark.trio
async def test_a_gateway_that_hangs_up_at_once_is_not_hurried_back_to(world: MockClock) -> None:
    async with gateway() as station:

        async def hang_up() -> None:
            while True:
                for connection in list(station.here.values()):
                    await connection.aclose()
                await trio.sleep(0.05)

        async with trio.open_nursery() as nursery, visiting(gate_to(station.port)):
            nursery.start_soon(hang_up)
            await trio.sleep(30)
            nursery.cancel_scope.cancel()
        pauses = [after - before for before, after in pairwise(at for at, _ in station.came)]
    assert pauses[4:] == pytest.approx([4.05] * len(pauses[4:]), abs=0.1)


@pytest.mark.trio
async def test_a_gateway_that_is_full_is_asked_until_it_is_not(world: MockClock) -> None:
    async with gateway() as station:
        station.open = False
        async with visiting(gate_to(station.port)) as visit:
            await trio.sleep(5)
            assert not visit.relay.open
            station.open = True
            await trio.sleep(5)
            assert visit.relay.open


# ------------------------------------------------------------------ leaving
@pytest.mark.trio
async def test_who_leaves_says_so_and_takes_what_still_comes(world: MockClock) -> None:
    async with gateway() as station, visiting(gate_to(station.port)) as visit:
        connection = station.here[SESSION]
        visit.relay.leave()
        assert not visit.relay.open
        await trio.sleep(0.5)
        assert station.heard == [LEAVING]
        await connection.send(b"\x00late")
        await trio.sleep(0.1)
        assert visit.came == [(MEDIA, b"late")]
        await trio.sleep(1)
        assert SESSION not in station.here
        with pytest.raises(ConnectionClosed):
            await connection.send(b"\x00too late")
        await trio.sleep(30)
    assert len(station.came) == 1


@pytest.mark.trio
async def test_who_leaves_before_it_was_let_in_goes_at_once(world: MockClock) -> None:
    async with gateway() as station:
        visit = Visit(gate_to(station.port))
        visit.relay.leave()
        await visit.relay.run()
        async with visiting(gate_to(9)) as visit:
            visit.relay.leave()
            await trio.sleep(10)
    assert station.came == []


@pytest.mark.trio
async def test_who_shall_come_no_more_stays_until_the_connection_ends(world: MockClock) -> None:
    async with gateway() as station, visiting(gate_to(station.port)) as visit:
        visit.relay.come_no_more()
        await station.here[SESSION].send(b"\x00media")
        await trio.sleep(10)
        assert visit.relay.open
        await station.here[SESSION].aclose()
        await trio.sleep(10)
    assert [open_ for _, open_ in visit.turns] == [True, False]
    assert visit.came == [(MEDIA, b"media")]
    assert len(station.came) == 1


@pytest.mark.trio
async def test_a_mistake_of_our_own_is_not_taken_for_the_gateways(world: MockClock) -> None:
    def mistaken(kind: bytes, content: bytes) -> None:
        raise ZeroDivisionError

    async with gateway() as station:
        visit = Visit(gate_to(station.port))
        visit.relay._take = mistaken

        async def speak() -> None:
            await trio.sleep(0.1)
            await station.here[SESSION].send(b"\x00media")

        with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(speak)
                nursery.start_soon(visit.relay.run)
