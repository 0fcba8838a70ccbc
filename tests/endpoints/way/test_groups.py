"""Multicast: real sockets on loopback, on trio's virtual clock."""

import socket
from contextlib import closing
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from endpoints.way import groups
from tests.support.station import TrioClock
from tests.support.ways import station_peer, welcome_to
from tests.support.ways_of_media import (
    RTCP,
    RTP,
    SESSION,
    FakePlayer,
    both_ends,
    free_port,
    media_for,
    running_media,
    send,
)
from transport.control.messages import Listen, StreamSpec
from transport.recovery.bundle import bundle

SPEC = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=100.0)
GROUP = "239.255.78.1"
UDP = (socket.AF_INET, socket.SOCK_DGRAM)


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.01
    return mock_clock


@pytest.mark.trio
async def test_a_group_is_joined_and_so_is_its_rtcp(world: MockClock) -> None:
    spec = replace(SPEC, ssrc=9, group=GROUP, port=free_port())
    assert spec.port is not None
    async with running_media() as (media, player):
        media.join(Listen(1, (spec, SPEC)), "127.0.0.1")
        await send(RTP, (GROUP, spec.port))
        await send(RTCP, (GROUP, spec.port + 1))
    assert player.heard == [RTP, RTCP]
    assert player.came_ns == [now_ns for _, now_ns in player.received]


@pytest.mark.trio
async def test_a_stamp_that_is_not_trusted_is_no_reason_not_to_play(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    player = FakePlayer()
    media = media_for(player, [], TrioClock(stamps_trusted=False))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(media.run)
        media.join(Listen(1, (spec,)), "127.0.0.1")
        await send(RTP, (GROUP, spec.port or 0))
        nursery.cancel_scope.cancel()
    assert (player.heard, player.came_ns) == ([RTP], [None])


@pytest.mark.trio
async def test_what_is_no_rtp_in_a_group_is_dropped_and_counted(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    async with running_media() as (media, player):
        media.join(Listen(1, (spec,)), "127.0.0.1")
        await send(b"\0stun", (GROUP, spec.port or 0))
        await send(b"", (GROUP, spec.port or 0))
    assert player.heard == []
    assert media.dropped == {"first_byte": 2}


@pytest.mark.trio
async def test_repairs_for_all_come_by_the_group(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    repairs = bundle([RTP])[0]
    async with running_media() as (media, player):
        media.join(Listen(1, (spec,)), "127.0.0.1")
        await send(repairs, (GROUP, spec.port or 0))
    assert player.heard == [repairs]


@pytest.mark.trio
async def test_of_a_group_only_the_stations_own_packets_reach_us(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    async with both_ends() as here:
        here.media.join(Listen(1, (spec,)), "127.0.0.1")
        await send(b"\x80 false", (GROUP, spec.port or 0), source="127.0.0.2")
        await send(RTP, (GROUP, spec.port or 0), source="127.0.0.1")
    assert here.player.heard == [RTP]
    assert not here.media.dropped


@pytest.mark.trio
async def test_who_calls_its_station_by_ipv6_hears_groups_of_ipv4(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    async with running_media() as (media, player):
        media.welcomed("::1", "::1", welcome_to(SESSION), station_peer())
        media.join(Listen(1, (spec,)), "::1")
        await send(RTP, (GROUP, spec.port or 0))
    assert player.heard == [RTP]


def test_who_comes_by_ipv6_from_elsewhere_has_the_system_choose_where_to_join(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    joined: list[tuple[object, ...]] = []
    monkeypatch.setattr(groups, "multicast_socket", lambda *place: joined.append(place))
    spec = replace(SPEC, group=GROUP, port=5004)
    mine = groups.Groups(lambda _: lambda: None)
    mine.join(Listen(1, (spec,)), "2001:db8::7", "2001:db8::1")
    mine.join(Listen(2, (spec,)), "2001:db8::7", "2001:db8::2")
    assert sorted(joined, key=str) == [
        (GROUP, 5004, "0.0.0.0", None),
        (GROUP, 5005, "0.0.0.0", None),
    ]


@pytest.mark.trio
async def test_a_station_that_has_moved_is_the_new_source(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    async with both_ends() as here:
        here.media.join(Listen(1, (spec,)), "127.0.0.1")
        told = welcome_to(SESSION + 1, media_port=here.port.port, gateway_port=here.gateway.port)
        here.media.welcomed("127.0.0.2", "127.0.0.1", told, station_peer())
        here.media.join(Listen(2, (spec,)), "127.0.0.1")
        await trio.sleep(0.1)
        await send(b"\x80 from the old one", (GROUP, spec.port or 0), source="127.0.0.1")
        await send(RTP, (GROUP, spec.port or 0), source="127.0.0.2")
    assert here.player.heard == [RTP]


@pytest.mark.trio
async def test_a_group_that_is_no_longer_declared_is_left(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    other = replace(spec, ssrc=9, group="239.255.78.2")
    assert spec.port is not None
    async with running_media() as (media, player):
        media.join(Listen(1, (spec, other)), "127.0.0.1")
        media.join(Listen(2, (other,)), "127.0.0.1")
        await trio.sleep(0.1)
        await send(b"\x80 too late", (GROUP, spec.port))
        await send(RTP, ("239.255.78.2", spec.port))
    assert player.heard == [RTP]


@pytest.mark.trio
async def test_a_group_may_be_left_and_joined_again(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    assert spec.port is not None
    async with running_media() as (media, player):
        for revision, streams in enumerate([(spec,), (), (spec,), (spec,)]):
            media.join(Listen(revision, streams), "127.0.0.1")
        await send(RTP, (GROUP, spec.port))
    assert player.heard == [RTP]


@pytest.mark.trio
async def test_what_is_joined_before_it_runs_is_heard_when_it_does(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    player = FakePlayer()
    media = media_for(player, [])
    media.join(Listen(1, (spec,)), "127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(media.run)
        await send(RTP, (GROUP, spec.port or 0))
        nursery.cancel_scope.cancel()
    assert player.heard == [RTP]


@pytest.mark.trio
async def test_an_interface_that_is_not_there_is_an_oserror_and_unicast_goes_on(
    world: MockClock,
) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    async with both_ends() as here:
        await trio.sleep(0.1)
        with pytest.raises(OSError, match=r".+"):
            here.media.join(Listen(1, (spec,)), "192.0.2.1")
        await here.port.send(SESSION, RTP)
        await trio.sleep(0.1)
        # The next declaration tries again.
        here.media.join(Listen(2, (spec,)), "127.0.0.1")
        await send(RTCP, (GROUP, spec.port or 0))
    assert here.player.heard == [RTP, RTCP]


@pytest.mark.trio
async def test_its_sockets_are_closed_when_it_ends(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    async with both_ends() as here:
        here.media.join(Listen(1, (spec,)), "127.0.0.1")
        await trio.sleep(0.1)
        port = here.media.port
    with closing(socket.socket(*UDP)) as udp:
        udp.bind(("127.0.0.1", port))
    await send(RTP, (GROUP, spec.port or 0))
    assert not here.player.received
