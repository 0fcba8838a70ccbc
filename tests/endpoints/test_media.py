"""The media sockets on loopback, on trio's virtual clock."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from endpoints.media import Media
from tests.support.station import TrioClock, true_ns
from transport.control.messages import Listen, StreamSpec
from transport.net.stamped import send_options, udp_socket

SPEC = StreamSpec("p", 1, 2, 96, 3, 20.0, inband_fec=False, playout_delay_ms=100.0)
GROUP = "239.255.78.1"
AHEAD_NS = 5_000_000_000


@pytest.fixture
def world(mock_clock: MockClock) -> MockClock:
    """Time that passes when nothing else happens, and leaves loopback a moment to deliver."""
    mock_clock.autojump_threshold = 0.01
    return mock_clock


class FakePlayer:
    """Keeps what arrives; has something to report."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, int]] = []

    def receive(self, data: bytes, now_ns: int) -> None:
        self.received.append((data, now_ns))

    def reports(self, now_ns: int) -> list[bytes]:  # noqa: ARG002
        return [b"report one", b"report two"]


@asynccontextmanager
async def running_media() -> AsyncIterator[tuple[Media, FakePlayer]]:
    player = FakePlayer()
    media = Media(player, TrioClock(AHEAD_NS), lambda: 0.5)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(media.run)
        await wait_all_tasks_blocked()
        yield media, player
        nursery.cancel_scope.cancel()


def free_port() -> int:
    """An even port such that nobody is on it or the next."""
    with closing(udp_socket("127.0.0.1", 0)) as udp:
        return int(udp.getsockname()[1]) & ~1


async def send(data: bytes, address: tuple[str, int]) -> None:
    with closing(udp_socket("127.0.0.1", 0)) as udp:
        send_options(udp, "127.0.0.1", 1)
        udp.sendto(data, address)
    await trio.sleep(0.1)


@pytest.mark.trio
async def test_what_comes_by_unicast_reaches_the_player_with_our_own_time(
    world: MockClock,
) -> None:
    async with running_media() as (media, player):
        await trio.sleep(3)
        sent_ns = true_ns()
        await send(b"sound", ("127.0.0.1", media.port))
    assert player.received == [(b"sound", sent_ns + AHEAD_NS)]


@pytest.mark.trio
async def test_a_group_is_joined_and_so_is_its_rtcp(world: MockClock) -> None:
    spec = replace(SPEC, ssrc=9, group=GROUP, port=free_port())
    assert spec.port is not None
    async with running_media() as (media, player):
        media.join(Listen(1, (spec, SPEC)), "127.0.0.1")
        await send(b"sound", (GROUP, spec.port))
        await send(b"goodbye", (GROUP, spec.port + 1))
    assert [data for data, _ in player.received] == [b"sound", b"goodbye"]


@pytest.mark.trio
async def test_a_group_that_is_no_longer_declared_is_left(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    other = replace(spec, ssrc=9, group="239.255.78.2")
    assert spec.port is not None
    async with running_media() as (media, player):
        media.join(Listen(1, (spec, other)), "127.0.0.1")
        media.join(Listen(2, (other,)), "127.0.0.1")
        await trio.sleep(0.1)
        await send(b"too late", (GROUP, spec.port))
        await send(b"sound", ("239.255.78.2", spec.port))
    assert [data for data, _ in player.received] == [b"sound"]


@pytest.mark.trio
async def test_a_group_may_be_left_and_joined_again(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    assert spec.port is not None
    async with running_media() as (media, player):
        for revision, streams in enumerate([(spec,), (), (spec,), (spec,)]):
            media.join(Listen(revision, streams), "127.0.0.1")
        await send(b"sound", (GROUP, spec.port))
    assert [data for data, _ in player.received] == [b"sound"]


@pytest.mark.trio
async def test_an_interface_that_is_not_there_is_an_oserror_and_unicast_goes_on(
    world: MockClock,
) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    async with running_media() as (media, player):
        with pytest.raises(OSError, match=r".+"):
            media.join(Listen(1, (spec,)), "192.0.2.1")
        await send(b"sound", ("127.0.0.1", media.port))
        # The next declaration tries again.
        media.join(Listen(2, (spec,)), "127.0.0.1")
        await send(b"more", (GROUP, spec.port or 0))
    assert [data for data, _ in player.received] == [b"sound", b"more"]


@pytest.mark.trio
async def test_reports_go_to_the_station_every_few_seconds(world: MockClock) -> None:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as station:
        await station.bind(("127.0.0.1", 0))
        heard: list[tuple[float, bytes]] = []
        async with running_media() as (media, _):
            await trio.sleep(10)  # nobody is known yet
            media.report_to("127.0.0.1", station.getsockname()[1])
            with trio.move_on_after(20):
                while True:
                    data = await station.recv(100)
                    heard.append((trio.current_time(), data))
    assert [data for _, data in heard[:2]] == [b"report one", b"report two"]
    # RFC 3550's five seconds divided by e - 3/2; the draw is always the middle.
    assert heard[2][0] - heard[0][0] == pytest.approx(5 / 1.21828, abs=0.1)
    assert heard[0][0] > 10


@pytest.mark.trio
async def test_a_station_that_cannot_be_reached_does_no_harm(world: MockClock) -> None:
    async with running_media() as (media, player):
        media.report_to("255.255.255.255", 9)  # a broadcast is refused
        await trio.sleep(20)
        await send(b"sound", ("127.0.0.1", media.port))
    assert [data for data, _ in player.received] == [b"sound"]


@pytest.mark.trio
async def test_its_sockets_are_closed_when_it_ends(world: MockClock) -> None:
    spec = replace(SPEC, group=GROUP, port=free_port())
    async with running_media() as (media, player):
        media.join(Listen(1, (spec,)), "127.0.0.1")
        await trio.sleep(0.1)
    assert media._unicast.fileno() == -1
    await send(b"too late", (GROUP, spec.port or 0))
    assert not player.received
