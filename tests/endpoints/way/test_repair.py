"""When a request goes out, and when none does: on trio's virtual clock, without a network."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from endpoints.way.metering import Meter
from endpoints.way.repair import Repair
from tests.support.station import SECOND, TrioClock, true_ns
from tests.support.ways_of_media import AHEAD_NS, SESSION, both_ends
from transport.recovery.request import Wanted, open_request, seal_request

KEY = b"k" * 32
MS = SECOND // 1_000
WANTED = Wanted(5, (7, 9))


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens."""
    mock_clock.autojump_threshold = 0
    return mock_clock


@dataclass
class Missing:
    """A player that misses something at these times, of its own clock."""

    due_ns: list[int] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    looked: int = 0
    round_trip_ns: int = 100 * MS

    def receive(self, data: bytes, now_ns: int, came_ns: int | None = None) -> None:  # noqa: ARG002 - see `Wanting`
        self.heard.append(data)

    def requests(self, now_ns: int) -> list[Wanted]:
        self.looked += 1
        if not self.due_ns or self.due_ns[0] > now_ns:
            return []
        self.due_ns.pop(0)
        return [WANTED]

    def next_request_ns(self) -> int | None:
        return min(self.due_ns, default=None)

    def packets_a_second(self, now_ns: int) -> float:  # noqa: ARG002 - see `Wanting`
        return 50.0


@dataclass
class Way:
    """Where requests go."""

    may_ask: bool = True
    asked: list[tuple[float, bytes]] = field(default_factory=list)

    def ask(self, request: bytes) -> None:
        self.asked.append((trio.current_time(), request))


@asynccontextmanager
async def running(
    player: Missing, way: Way, *, begun: bool = True, meter: Meter | None = None
) -> AsyncIterator[Repair]:
    repair = Repair(player, TrioClock(AHEAD_NS), meter)
    repair.send_through(way)
    if begun:
        repair.begin("192.0.2.1", SESSION, KEY)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(repair.run)
        await wait_all_tasks_blocked()
        yield repair
        nursery.cancel_scope.cancel()


def own(seconds: float) -> int:
    return round(seconds * SECOND) + AHEAD_NS


def hear(repair: Repair, data: bytes = b"\x80 sound") -> None:
    repair.receive(data, true_ns() + AHEAD_NS)


@pytest.mark.trio
async def test_what_comes_is_handed_on(world: MockClock) -> None:
    player = Missing()
    async with running(player, Way()) as repair:
        hear(repair, b"\x80 one")
        hear(repair, b"\x41 two")
    assert player.heard == [b"\x80 one", b"\x41 two"]


@pytest.mark.trio
async def test_it_asks_at_the_very_time_and_by_the_sessions_key(world: MockClock) -> None:
    player, way = Missing([own(1.25), own(1.5)]), Way()
    async with running(player, way) as repair:
        hear(repair)
        await trio.sleep(3)
    assert [at for at, _ in way.asked] == pytest.approx([1.25, 1.5], abs=1e-6)
    assert [open_request(r, SESSION, KEY) for _, r in way.asked] == [(WANTED,)] * 2


@pytest.mark.trio
async def test_a_packet_that_shows_a_gap_makes_it_ask_sooner(world: MockClock) -> None:
    player, way = Missing([own(5)]), Way()
    async with running(player, way) as repair:
        hear(repair)
        await trio.sleep(1)
        player.due_ns.insert(0, own(1.01))
        hear(repair)
        await trio.sleep(1)
    assert [at for at, _ in way.asked] == pytest.approx([1.01], abs=1e-6)


@pytest.mark.trio
async def test_without_anything_missing_it_sleeps(world: MockClock) -> None:
    player = Missing()
    async with running(player, Way()) as repair:
        for _ in range(100):
            hear(repair)
            await trio.sleep(0.02)
        assert player.looked == 0
        assert trio.lowlevel.current_statistics().seconds_to_next_deadline == float("inf")


@pytest.mark.trio
@pytest.mark.parametrize("why", ["no way", "no session"])
async def test_where_nobody_would_answer_nothing_is_asked_for(world: MockClock, why: str) -> None:
    player, way = Missing([own(0.5)]), Way(may_ask=why != "no way")
    async with running(player, way, begun=why != "no session") as repair:
        hear(repair)
        await trio.sleep(1)
    assert way.asked == []
    assert player.due_ns  # and nothing counts as asked for


@pytest.mark.trio
async def test_as_soon_as_the_way_is_open_again_it_asks_with_the_next_packet(
    world: MockClock,
) -> None:
    player, way = Missing([own(0.5)]), Way(may_ask=False)
    async with running(player, way) as repair:
        hear(repair)
        await trio.sleep(1)
        way.may_ask = True
        hear(repair)
        await trio.sleep(0.1)
    assert [at for at, _ in way.asked] == pytest.approx([1.0], abs=1e-6)


@pytest.mark.trio
async def test_a_player_that_always_wants_more_does_not_take_the_whole_processor(
    world: MockClock,
) -> None:
    player, way = Missing([0] * 1_000), Way()
    async with running(player, way) as repair:
        hear(repair)
        await trio.sleep(0.5)
    assert len(way.asked) <= 502


@pytest.mark.trio
async def test_beyond_the_limit_nothing_is_asked_for(world: MockClock) -> None:
    player, way, meter = Missing([own(0.5)]), Way(), Meter(8)
    async with running(player, way, meter=meter) as repair:
        hear(repair, b"\x80" * 200)
        await trio.sleep(1)
    assert way.asked == []
    assert meter.withheld == 2


# ------------------------------------------------------------------ with a station's media port
@pytest.mark.trio
async def test_it_asks_out_of_the_socket_to_which_sound_comes(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0.01
    request = seal_request([WANTED], SESSION, KEY)
    async with both_ends() as here:
        may_ask = [here.media.may_ask]  # nobody knows our place yet
        here.media.ask(request)
        await trio.sleep(1)
        may_ask.append(here.media.may_ask)
        here.media.ask(request)
        await here.port.send(SESSION, b"\x41 bundle")
        await trio.sleep(0.1)
        assert here.port.requests == [(("127.0.0.1", here.media.port), request)]
    assert may_ask == [False, True]
    assert here.player.heard == [b"\x41 bundle"]


@pytest.mark.trio
async def test_while_sound_comes_by_the_gateway_nothing_is_asked_for(
    mock_clock: MockClock,
) -> None:
    mock_clock.autojump_threshold = 0.01
    async with both_ends(blocked=True) as here:
        await trio.sleep(2)
        assert here.media.way == "gateway"
        assert not here.media.may_ask


@pytest.mark.trio
async def test_a_bundle_by_the_gateway_is_none(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0.01
    async with both_ends(blocked=True) as here:
        await trio.sleep(2)
        await here.gateway.here[SESSION].send(b"\0\x41 bundle")
        await trio.sleep(0.1)
    assert here.player.heard == []
    assert here.media.dropped == {"first_byte": 1}
