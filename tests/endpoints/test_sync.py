"""Asking for the time over loopback, on trio's virtual clock."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from endpoints.sync import TimeSync
from tests.support.clock import MEDIA_EPOCH_NS
from tests.support.station import SECOND, SECRET, TimeServer, TrioClock, time_server, true_ns
from transport.clock.asymmetry import AsymmetryJump
from transport.clock.exchange import ExchangeClient, answer
from transport.net.stamped import udp_socket
from transport.security.session_keys import seal_time, session_key

MS = 1_000_000
SESSION = 3
KEY = session_key(SECRET, SESSION)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.001
    return mock_clock


@asynccontextmanager
async def asking(
    clock: TrioClock,
    server: TimeServer,
    changed: Callable[[], None] = lambda: None,
    *,
    every_s: float = 1.0,
) -> AsyncIterator[TimeSync]:
    sync = TimeSync(clock, changed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync.run)
        await wait_all_tasks_blocked()
        sync.ask("127.0.0.1", server.port, SESSION, KEY, every_s)
        yield sync
        nursery.cancel_scope.cancel()


def error_ns(sync: TimeSync, clock: TrioClock, server: TimeServer) -> int:
    assert sync.estimate is not None
    return sync.estimate.theirs(clock.now_ns()) - MEDIA_EPOCH_NS - true_ns() - server.ahead_ns


@pytest.mark.trio
async def test_it_begins_with_a_burst_goes_on_twice_a_second_and_then_once(
    world: MockClock,
) -> None:
    async with time_server() as server, asking(TrioClock(), server):
        await trio.sleep(70)
    pauses = [after - before for before, after in pairwise(server.asked_s)]
    assert pauses[:8] == pytest.approx([0.03] * 8, abs=0.002)
    assert pauses[8:80] == pytest.approx([0.5] * 72, abs=0.01)
    assert pauses[-5:] == pytest.approx([1.0] * 5, abs=0.01)


@pytest.mark.trio
@pytest.mark.parametrize("every_s", [1.5, 10.0, 30.0])
async def test_one_of_thousands_asks_only_as_often_as_the_station_says(
    world: MockClock, every_s: float
) -> None:
    clock = TrioClock(5 * SECOND)
    async with time_server() as server, asking(clock, server, every_s=every_s) as sync:
        await trio.sleep(10 + 5.5 * every_s)
        assert abs(error_ns(sync, clock, server)) < 2 * MS
    pauses = [after - before for before, after in pairwise(server.asked_s)]
    assert pauses[:8] == pytest.approx([0.03] * 8, abs=0.002)
    assert pauses[8:12] == pytest.approx([min(2.0, every_s)] * 4, abs=0.01)
    assert pauses[12:] == pytest.approx([every_s] * len(pauses[12:]), abs=0.01)
    assert len(pauses) >= 16


@pytest.mark.trio
async def test_one_of_thousands_that_is_not_answered_asks_sooner(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server, every_s=10.0):
        await trio.sleep(45)
        server.awake = False
        asked = len(server.asked_s)
        await trio.sleep(20)
        since = server.asked_s[asked:]
    pauses = [after - before for before, after in pairwise(since)]
    assert pauses[0] == pytest.approx(10.0, abs=0.1)
    assert pauses[1:] == pytest.approx([2.0] * len(pauses[1:]), abs=0.1)
    assert len(pauses) >= 2


@pytest.mark.trio
@pytest.mark.parametrize("ahead_s", [-10, 0, 3_600])
async def test_after_the_burst_the_stations_time_is_known(world: MockClock, ahead_s: int) -> None:
    clock = TrioClock(ahead_s * SECOND)
    async with time_server() as server, asking(clock, server) as sync:
        assert sync.estimate is None
        await trio.sleep(0.3)
        assert abs(error_ns(sync, clock, server)) < 2 * MS
    assert not sync.dropped


@pytest.mark.trio
async def test_before_it_is_told_where_the_station_is_it_asks_nobody(world: MockClock) -> None:
    sync = TimeSync(TrioClock(), lambda: None)
    with trio.move_on_after(5):
        await sync.run()
    assert sync.estimate is None


@pytest.mark.trio
async def test_a_station_that_sleeps_is_asked_until_it_wakes(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server) as sync:
        server.awake = False
        await trio.sleep(10)
        assert sync.estimate is None
        server.awake = True
        await trio.sleep(2.5)
        assert sync.estimate is not None


@pytest.mark.trio
async def test_a_closed_port_is_asked_until_somebody_opens_it(world: MockClock) -> None:
    async with time_server() as server:
        port = server.port
    sync = TimeSync(TrioClock(), lambda: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync.run)
        sync.ask("127.0.0.1", port, SESSION, KEY)
        await trio.sleep(2)
        async with time_server() as other:
            sync.ask("127.0.0.1", other.port, SESSION, KEY)
            await trio.sleep(0.3)
            assert sync.estimate is not None
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_copies_are_counted_and_do_no_harm(world: MockClock) -> None:
    clock = TrioClock(5 * SECOND)
    async with time_server() as server, asking(clock, server) as sync:
        server.spoil = lambda reply: [reply, reply]
        await trio.sleep(1)
        assert abs(error_ns(sync, clock, server)) < 2 * MS
    assert sync.dropped == {"time_unasked": len(server.asked_s)}


@pytest.mark.trio
async def test_a_way_back_that_has_become_longer_is_told_once(world: MockClock) -> None:
    told: list[AsymmetryJump] = []
    async with time_server() as server:
        sync = TimeSync(TrioClock(), lambda: None, told.append)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sync.run)
            await wait_all_tasks_blocked()
            sync.ask("127.0.0.1", server.port, SESSION, KEY)
            await trio.sleep(60)
            assert not told
            server.back_s = 0.03
            await trio.sleep(120)
            nursery.cancel_scope.cancel()
    (jump,) = told
    assert abs(jump.shift_ns) == pytest.approx(15 * MS, rel=0.2)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.trio
@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda reply: reply[:48],
        lambda reply: reply[:-1],
        lambda reply: reply + b"\0",
        lambda reply: flipped(reply, 40),
        lambda reply: flipped(reply, 50),
        lambda reply: flipped(reply, 71),
        lambda reply: seal_time(reply[:48], SESSION, bytes(32)),
        lambda reply: seal_time(reply[:48], SESSION + 1, session_key(SECRET, SESSION + 1)),
    ],
)
async def test_answers_without_the_sessions_authenticator_are_dropped_and_counted(
    world: MockClock, spoil: Callable[[bytes], bytes]
) -> None:
    """They say that it is an hour later; whoever forges them knows what was asked."""
    clock = TrioClock()
    async with time_server() as server, asking(clock, server) as sync:
        honest = server.answers

        def answers(request: bytes) -> list[bytes]:
            server.ahead_ns = 3_600 * SECOND
            forged = [spoil(reply) for reply in honest(request)]
            server.ahead_ns = 0
            return forged + honest(request)

        server.answers = answers  # type: ignore[method-assign]
        await trio.sleep(2)
        assert abs(error_ns(sync, clock, server)) < 2 * MS
    assert sync.dropped == {"time_mac": len(server.asked_s)}


@pytest.mark.trio
async def test_forgeries_alone_teach_it_nothing(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server) as sync:
        server.answers = lambda request: [request[:48] + bytes(24)]  # type: ignore[method-assign]
        await trio.sleep(5)
        assert sync.estimate is None


@pytest.mark.trio
async def test_our_own_questions_sent_back_are_no_answers(world: MockClock) -> None:
    """They bear the right authenticator."""
    async with time_server() as server, asking(TrioClock(), server) as sync:
        server.answers = lambda request: [request]  # type: ignore[method-assign]
        await trio.sleep(5)
        assert sync.estimate is None
    assert sync.dropped == {"time_mode": len(server.asked_s)}


@pytest.mark.trio
async def test_answers_of_a_session_that_is_over_are_not_taken(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server) as sync:
        await trio.sleep(1)
        server.awake = False
        sync.ask("127.0.0.1", server.port, SESSION + 1, session_key(SECRET, SESSION + 1))
        kept: list[bytes] = []
        honest = server.answers
        server.answers = lambda request: kept or honest(request)  # type: ignore[method-assign]
        _, packet = ExchangeClient(lambda: 1).request()
        kept.append(seal_time(answer(packet, 1, 1, 1), SESSION, KEY))
        server.awake = True
        await trio.sleep(1)
    assert set(sync.dropped) == {"time_mac"}


@pytest.mark.trio
async def test_a_stamp_that_cannot_be_trusted_is_no_exchange(world: MockClock) -> None:
    clock = TrioClock(stamps_trusted=False)
    async with time_server() as server, asking(clock, server) as sync:
        await trio.sleep(1)
        assert sync.estimate is None
    assert not sync.dropped


@pytest.mark.trio
async def test_a_station_that_was_restarted_is_asked_in_a_new_burst(world: MockClock) -> None:
    changes: list[float] = []
    clock = TrioClock()
    async with (
        time_server() as server,
        asking(clock, server, lambda: changes.append(trio.current_time())) as sync,
    ):
        await trio.sleep(5)
        assert changes == []
        server.clock_set_ns, server.ahead_ns = 2, 17 * SECOND
        await trio.sleep(1)
        assert len(changes) == 1
        assert abs(error_ns(sync, clock, server)) < 2 * MS
    since = [asked for asked in server.asked_s if changes[0] <= asked < changes[0] + 0.25]
    assert len(since) >= 8


@pytest.mark.trio
@pytest.mark.parametrize("which", ["ours", "theirs"])
@pytest.mark.parametrize("step_s", [-60, 0.05, 60])
async def test_a_step_of_either_clock_is_mended_within_a_second(
    world: MockClock, which: str, step_s: float
) -> None:
    """One doubt is enough to ask at once; waiting for three at one a second would be heard."""
    changes: list[float] = []
    clock = TrioClock()
    async with (
        time_server() as server,
        asking(clock, server, lambda: changes.append(trio.current_time())) as sync,
    ):
        await trio.sleep(70)
        if which == "ours":
            clock.ahead_ns += round(step_s * SECOND)
        else:
            server.ahead_ns += round(step_s * SECOND)
        await trio.sleep(1.3)
        assert len(changes) == 1
        assert abs(error_ns(sync, clock, server)) < 2 * MS


@pytest.mark.trio
@pytest.mark.parametrize("wrong_s", [-0.9, 0.0, 0.9])
async def test_after_a_sleep_nothing_is_believed_until_the_station_has_been_asked_anew(
    world: MockClock, wrong_s: float
) -> None:
    """How long it was, a machine knows by a clock that may count whole seconds only."""
    clock = TrioClock()
    async with time_server() as server, asking(clock, server) as sync:
        await trio.sleep(70)
        clock.ahead_ns += round(wrong_s * SECOND)
        sync.woken()
        assert sync.estimate is None
        await trio.sleep(0.5)
        assert abs(error_ns(sync, clock, server)) < 2 * MS


@pytest.mark.trio
async def test_what_a_stranger_sends_does_not_even_reach_us(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server) as sync:
        await trio.sleep(0.1)
        assert sync._reader is not None
        with closing(udp_socket("127.0.0.1", 0)) as stranger:
            stranger.sendto(bytes(72), ("127.0.0.1", sync._reader.port))
        await trio.sleep(1)
    assert not sync.dropped


@pytest.mark.trio
async def test_a_station_without_a_route_does_no_harm(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server) as sync:
        sync.ask("255.255.255.255", 9, SESSION, KEY)
        await trio.sleep(5)
        sync.ask("127.0.0.1", server.port, SESSION, KEY)
        await trio.sleep(0.3)
        assert sync.estimate is not None


# ------------------------------------------------------------------ through the gateway
class FakeGateway:
    """Carries time packets to a time server and back, while it is `open`."""

    def __init__(self, server: TimeServer) -> None:
        self.server = server
        self.open = True
        self.asked_s: list[float] = []
        self.spoil: Callable[[bytes], bytes] = lambda reply: reply
        self.take: Callable[[bytes, int], None] | None = None

    def send_time(self, packet: bytes) -> bool:
        if not self.open:
            return False
        self.asked_s.append(trio.current_time())
        assert self.take is not None
        for reply in self.server.answers(packet):
            self.take(self.spoil(reply), true_ns())
        return True

    def hear_time(self, take: Callable[[bytes, int], None]) -> None:
        self.take = take


@pytest.mark.trio
async def test_where_udp_brings_no_time_it_is_asked_through_the_gateway_in_a_burst(
    world: MockClock,
) -> None:
    clock = TrioClock()
    async with time_server() as server, asking(clock, server) as sync:
        server.awake = False
        gateway = FakeGateway(server)
        gateway.open = False
        sync.send_through(gateway)
        await trio.sleep(1.9)
        assert sync.estimate is None
        gateway.open = True
        began = trio.current_time()
        await trio.sleep(1)
        assert abs(error_ns(sync, clock, server)) < 2 * MS
    assert gateway.asked_s[7] - began < 0.8


@pytest.mark.trio
async def test_while_udp_brings_the_time_the_gateway_is_not_asked(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server) as sync:
        gateway = FakeGateway(server)
        sync.send_through(gateway)
        await trio.sleep(100)
        assert gateway.asked_s == []


@pytest.mark.trio
async def test_when_udp_brings_the_time_again_the_gateway_is_asked_no_more(
    world: MockClock,
) -> None:
    clock = TrioClock()
    async with time_server() as server, asking(clock, server) as sync:
        gateway = FakeGateway(server)
        sync.send_through(gateway)
        server.awake = False
        await trio.sleep(20)
        assert len(gateway.asked_s) > 20
        server.awake = True
        await trio.sleep(1.1)
        asked = len(gateway.asked_s)
        await trio.sleep(20)
        assert len(gateway.asked_s) == asked
        assert abs(error_ns(sync, clock, server)) < 2 * MS


@pytest.mark.trio
async def test_what_the_gateway_brings_is_checked_as_well(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server) as sync:
        server.awake = False
        gateway = FakeGateway(server)
        gateway.spoil = lambda reply: flipped(reply, 71)
        sync.send_through(gateway)
        await trio.sleep(5)
        assert sync.estimate is None
        assert sync.dropped == {"time_mac": len(gateway.asked_s)}


@pytest.mark.trio
async def test_its_socket_is_closed_when_it_ends(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server) as sync:
        await trio.sleep(0.1)
        assert sync._reader is not None
        port = sync._reader.port
    with closing(udp_socket("127.0.0.1", port)):
        pass
