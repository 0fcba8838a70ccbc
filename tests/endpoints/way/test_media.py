"""Unicast by UDP: real sockets on loopback, on trio's virtual clock."""

import socket
from contextlib import closing
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from endpoints.way.path import KEEP_ALIVE_NS
from tests.support.station import SECOND, true_ns
from tests.support.ways import MediaPort, media_port, station_peer, welcome_to
from tests.support.ways_of_media import (
    AHEAD_NS,
    RTCP,
    RTP,
    SESSION,
    both_ends,
    running_media,
    send,
)

GIVEN_UP_S = 1.5
UDP = (socket.AF_INET, socket.SOCK_DGRAM)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.01
    return mock_clock


# ------------------------------------------------------------------ IPv6
@pytest.mark.trio
async def test_a_station_that_is_called_by_ipv6_sends_by_ipv6(world: MockClock) -> None:
    async with media_port("::1") as port, running_media() as (media, player):
        told = welcome_to(SESSION, media_port=port.port)
        media.welcomed("::1", "::1", told, station_peer())
        await trio.sleep(0.1)
        assert media.way == "udp"
        assert port.where == {SESSION: ("::1", media.port)}
        await port.send(SESSION, RTP)
        await trio.sleep(0.1)
    assert player.heard == [RTP]


# ------------------------------------------------------------------ unicast by UDP
@pytest.mark.trio
async def test_before_it_is_welcomed_it_has_no_port_at_all(world: MockClock) -> None:
    async with running_media() as (media, _):
        await trio.sleep(60)
        assert media.port == 0
        assert media.way == "none"


@pytest.mark.trio
async def test_it_opens_its_way_in_the_moment_it_is_welcomed(world: MockClock) -> None:
    async with both_ends() as here:
        await trio.sleep(0.05)
        assert here.media.way == "udp"
        assert here.port.where == {SESSION: ("127.0.0.1", here.media.port)}
        # A question, its challenge's answer, and no more for 15 s.
        assert [request.nonce is None for _, request in here.port.asked] == [True, False]
    assert here.said == []
    assert here.gateway.came == []


@pytest.mark.trio
async def test_what_the_station_sends_reaches_the_player_with_our_own_time(
    world: MockClock,
) -> None:
    async with both_ends() as here:
        await trio.sleep(3)
        sent_ns = true_ns()
        await here.port.send(SESSION, RTP)
        await trio.sleep(0.1)
        await here.port.send(SESSION, RTCP)
        await trio.sleep(0.1)
    assert here.player.received[0] == (RTP, sent_ns + AHEAD_NS)
    assert set(here.player.came_ns) == {None}
    assert here.player.heard == [RTP, RTCP]


@pytest.mark.trio
async def test_what_a_stranger_sends_does_not_even_reach_us(world: MockClock) -> None:
    async with both_ends() as here:
        await trio.sleep(1)
        await send(RTP, ("127.0.0.1", here.media.port))
        await send(RTP, ("127.0.0.1", here.media.port), source="127.0.0.2")
        await here.port.send(SESSION, RTP)
        await trio.sleep(0.1)
    assert here.player.heard == [RTP]
    assert not here.media.dropped


@pytest.mark.trio
@pytest.mark.parametrize("first", [4, 20, 63, 64, 127, 192, 255])
async def test_what_begins_as_neither_stun_nor_rtp_is_dropped_and_counted(
    world: MockClock, first: int
) -> None:
    async with both_ends() as here:
        await trio.sleep(1)
        await here.port.send(SESSION, bytes([first]) + RTP)
        await trio.sleep(0.1)
    assert here.player.heard == []
    assert here.media.dropped == {"first_byte": 1}


@pytest.mark.trio
async def test_empty_and_false_stun_is_dropped_and_counted(world: MockClock) -> None:
    async with both_ends() as here:
        await trio.sleep(1)
        for data in (b"", b"\0", b"\1\1\0\0\x21\x12\xa4\x42" + bytes(12)):
            await here.port.send(SESSION, data)
        await trio.sleep(0.1)
    assert here.player.heard == []
    assert here.media.dropped == {"stun_head": 2, "stun_unasked": 1}


@pytest.mark.trio
async def test_a_flood_is_read_in_batches_and_lets_others_have_their_turn(
    world: MockClock,
) -> None:
    turns: list[int] = []
    async with both_ends() as here:
        await trio.sleep(1)

        async def somebody_else() -> None:
            while True:
                turns.append(len(here.player.received))
                await trio.lowlevel.checkpoint()

        with closing(socket.fromfd(here.port.udp.fileno(), *UDP)) as station:
            for _ in range(500):
                station.sendto(RTP, here.port.where[SESSION])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(somebody_else)
            while len(here.player.received) < 500:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    # Two batches of 64 at most: trio draws who comes first in each turn.
    assert max(after - before for before, after in pairwise(turns)) <= 128


@pytest.mark.trio
async def test_the_way_is_kept_open_every_fifteen_seconds(world: MockClock) -> None:
    async with both_ends() as here:
        await trio.sleep(100)
    pauses = [after - before for before, after in pairwise(here.asked_s()[1:])]
    assert pauses == pytest.approx([KEEP_ALIVE_NS / SECOND] * 6, abs=0.02)


@pytest.mark.trio
async def test_a_session_that_follows_keeps_the_port_so_that_no_frame_is_lost(
    world: MockClock,
) -> None:
    async with both_ends() as here:
        await trio.sleep(1)
        port = here.media.port
        here.welcome(SESSION + 1)
        assert here.media.way == "none"  # nobody has seen the new session here yet
        await here.port.send(SESSION, RTP)
        await trio.sleep(0.05)
        assert here.media.way == "udp"
        await here.port.send(SESSION + 1, RTP)
        await trio.sleep(0.05)
    assert here.port.where[SESSION + 1] == ("127.0.0.1", port)
    assert here.player.heard == [RTP, RTP]


@pytest.mark.trio
async def test_a_station_that_has_moved_is_heard_from_its_new_address_alone(
    world: MockClock,
) -> None:
    async with both_ends() as here, media_port("127.0.0.2") as there:
        await trio.sleep(1)
        told = welcome_to(SESSION + 1, media_port=there.port, gateway_port=here.gateway.port)
        here.media.welcomed("127.0.0.2", "127.0.0.1", told, station_peer())
        await trio.sleep(0.1)
        assert here.media.way == "udp"
        await here.port.send(SESSION, b"\x80 from the old one")
        await there.send(SESSION + 1, RTP)
        await trio.sleep(0.1)
    assert here.player.heard == [RTP]


@pytest.mark.trio
async def test_where_we_have_moved_there_is_a_new_port(world: MockClock) -> None:
    async with both_ends() as here:
        await trio.sleep(1)
        port = here.media.port
        told = welcome_to(SESSION + 1, media_port=here.port.port, gateway_port=9)
        here.media.welcomed("127.0.0.1", "192.0.2.1", told, station_peer())
        await trio.sleep(0.1)
        assert here.media.port not in {0, port}
        assert here.media.way == "udp"


@pytest.mark.trio
async def test_a_station_without_a_route_does_no_harm(world: MockClock) -> None:
    async with running_media() as (media, _):
        told = welcome_to(SESSION)
        media.welcomed("255.255.255.255", "127.0.0.1", told, station_peer())
        await trio.sleep(20)
        assert media.way == "none"
        assert media.port == 0


@pytest.mark.trio
async def test_a_closed_media_port_does_no_harm_and_is_found_when_it_opens(
    world: MockClock,
) -> None:
    async with media_port() as station:
        port = station.port
    async with running_media() as (media, player):
        media.welcomed(
            "127.0.0.1", "127.0.0.1", welcome_to(SESSION, media_port=port), station_peer()
        )
        await trio.sleep(20)
        assert media.way == "none"
        with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as udp:
            await udp.bind(("127.0.0.1", port))
            async with trio.open_nursery() as nursery:
                again = MediaPort(udp)
                nursery.start_soon(again.run)
                await trio.sleep(7)
                assert media.way == "udp"
                await again.send(SESSION, RTP)
                await trio.sleep(0.1)
                nursery.cancel_scope.cancel()
    assert player.heard == [RTP]


# ------------------------------------------------------------------ reachable
@pytest.mark.trio
async def test_it_is_reachable_once_the_way_is_open(world: MockClock) -> None:
    async with both_ends() as here:
        began = trio.current_time()
        await here.media.reachable()
        assert here.media.way == "udp"
        assert trio.current_time() - began < 0.2
        began = trio.current_time()
        await here.media.reachable()
        assert trio.current_time() == began


@pytest.mark.trio
async def test_it_is_reachable_once_the_gateway_is_open(world: MockClock) -> None:
    async with both_ends(blocked=True) as here:
        began = trio.current_time()
        await here.media.reachable()
        assert here.media.way == "gateway"
        assert GIVEN_UP_S <= trio.current_time() - began < 2


@pytest.mark.trio
async def test_where_there_is_no_way_at_all_nobody_waits_longer_than_two_seconds(
    world: MockClock,
) -> None:
    async with both_ends(blocked=True) as here:
        here.gateway.open = False
        for _ in range(2):
            began = trio.current_time()
            await here.media.reachable()
            assert trio.current_time() - began == pytest.approx(2, abs=0.02)
        assert here.media.way == "none"


@pytest.mark.trio
async def test_whoever_waits_for_the_next_session_waits_for_its_own_way(world: MockClock) -> None:
    async with both_ends() as here:
        await here.media.reachable()
        here.port.blocked, here.gateway.open = True, False
        here.welcome(SESSION + 1)
        began = trio.current_time()
        await here.media.reachable()
        assert trio.current_time() - began == pytest.approx(2, abs=0.02)
