"""A loudspeaker's media and both ends of their ways, on trio's virtual clock."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from itertools import count

import trio
from trio.testing import wait_all_tasks_blocked

from endpoints.way.media import Media
from tests.support.station import TrioClock
from tests.support.ways import Gateway, MediaPort, gateway, media_port, station_peer, welcome_to
from transport.net.stamped import send_options, udp_socket

AHEAD_NS = 5_000_000_000
SESSION = 7
RTP = b"\x80 an RTP packet"
RTCP = b"\x81\xc8 a report"


class FakePlayer:
    """Keeps what arrives."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, int]] = []
        self.came_ns: list[int | None] = []

    @property
    def heard(self) -> list[bytes]:
        return [data for data, _ in self.received]

    def receive(self, data: bytes, now_ns: int, came_ns: int | None = None) -> None:
        self.received.append((data, now_ns))
        self.came_ns.append(came_ns)


def media_for(player: FakePlayer, said: list[str], clock: TrioClock | None = None) -> Media:
    numbers = count(1)
    return Media(
        player,
        clock or TrioClock(AHEAD_NS),
        lambda: 1.0,
        lambda length: next(numbers).to_bytes(length),
        said.append,
    )


@asynccontextmanager
async def running_media() -> AsyncIterator[tuple[Media, FakePlayer]]:
    player = FakePlayer()
    media = media_for(player, [])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(media.run)
        await wait_all_tasks_blocked()
        yield media, player
        nursery.cancel_scope.cancel()


@dataclass
class World:
    """A loudspeaker and its station's two ends."""

    media: Media
    player: FakePlayer
    said: list[str]
    port: MediaPort
    gateway: Gateway

    def welcome(self, session: int = SESSION) -> None:
        told = welcome_to(session, media_port=self.port.port, gateway_port=self.gateway.port)
        self.media.welcomed("127.0.0.1", "127.0.0.1", told, station_peer())

    def asked_s(self, session: int = SESSION) -> list[float]:
        return [at for at, request in self.port.asked if request.session == session]


@asynccontextmanager
async def both_ends(*, blocked: bool = False, welcome: bool = True) -> AsyncIterator[World]:
    player, said = FakePlayer(), list[str]()
    media = media_for(player, said)
    async with AsyncExitStack() as stack:
        here = World(
            media,
            player,
            said,
            await stack.enter_async_context(media_port()),
            await stack.enter_async_context(gateway()),
        )
        here.port.blocked = blocked
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(media.run)
        await wait_all_tasks_blocked()
        if welcome:
            here.welcome()
        yield here
        nursery.cancel_scope.cancel()


def free_port() -> int:
    """An even port such that nobody is on it or the next."""
    with closing(udp_socket("127.0.0.1", 0)) as udp:
        return int(udp.getsockname()[1]) & ~1


async def send(data: bytes, address: tuple[str, int], source: str = "127.0.0.1") -> None:
    with closing(udp_socket(source, 0)) as udp:
        send_options(udp, "127.0.0.1", 1)
        udp.sendto(data, address)
    await trio.sleep(0.1)
