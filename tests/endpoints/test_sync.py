"""Asking for the time over loopback, on trio's virtual clock."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from endpoints.sync import TimeSync
from tests.support.clock import MEDIA_EPOCH_NS
from tests.support.station import SECOND, TimeServer, TrioClock, time_server, true_ns

MS = 1_000_000


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.001
    return mock_clock


@asynccontextmanager
async def asking(
    clock: TrioClock, server: TimeServer, changed: Callable[[], None] = lambda: None
) -> AsyncIterator[TimeSync]:
    sync = TimeSync(clock, changed)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sync.run)
        await wait_all_tasks_blocked()
        sync.ask("127.0.0.1", server.port)
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
@pytest.mark.parametrize("ahead_s", [-10, 0, 3_600])
async def test_after_the_burst_the_stations_time_is_known(world: MockClock, ahead_s: int) -> None:
    clock = TrioClock(ahead_s * SECOND)
    async with time_server() as server, asking(clock, server) as sync:
        assert sync.estimate is None
        await trio.sleep(0.3)
        assert abs(error_ns(sync, clock, server)) < 2 * MS
    assert sync.malformed == 0


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
        sync.ask("127.0.0.1", port)
        await trio.sleep(2)
        async with time_server() as other:
            sync.ask("127.0.0.1", other.port)
            await trio.sleep(0.3)
            assert sync.estimate is not None
        nursery.cancel_scope.cancel()


@pytest.mark.trio
async def test_rubbish_and_copies_are_counted_and_do_no_harm(world: MockClock) -> None:
    clock = TrioClock(5 * SECOND)
    async with time_server() as server, asking(clock, server) as sync:
        server.spoil = lambda reply: [b"", b"rubbish" * 9, reply[:47], reply, reply]
        await trio.sleep(1)
        assert abs(error_ns(sync, clock, server)) < 2 * MS
    assert sync.malformed == 4 * len(server.asked_s)


@pytest.mark.trio
async def test_a_stamp_that_cannot_be_trusted_is_no_exchange(world: MockClock) -> None:
    clock = TrioClock(stamps_trusted=False)
    async with time_server() as server, asking(clock, server) as sync:
        await trio.sleep(1)
        assert sync.estimate is None
    assert sync.malformed == 0


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
async def test_its_socket_is_closed_when_it_ends(world: MockClock) -> None:
    async with time_server() as server, asking(TrioClock(), server) as sync:
        await trio.sleep(0.1)
    assert sync._socket.fileno() == -1
