"""Connections over real loopback sockets, before they are through TLS."""

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

import uvloop
from typing_extensions import override

from server.door import Door
from server.entrance import Entrance, Manners
from tests.support.tls import station_tls

# Never waited for unless something is broken.
PATIENCE_S = 5.0


class Exhausted(socket.socket):
    """Has no descriptor for the first that comes."""

    asked = 0

    @override
    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        self.asked += 1
        if self.asked == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


class House:
    def __init__(self, listening: socket.socket, manners: Manners) -> None:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        self.port: int = listening.getsockname()[1]
        self.writers: list[asyncio.StreamWriter] = []
        self.refused = asyncio.Semaphore(0)
        self.entrance = Entrance(
            listening,
            station_tls().accepting(),
            lambda _: asyncio.Protocol(),
            self.refused.release,
            manners=manners,
            door=Door(each=2),
        )
        self.entrance.open()

    async def knock(self) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        writer.write(b"\x16")
        return reader

    async def call(self) -> None:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=station_tls().calling()
        )
        self.writers.append(writer)


def play(
    scenario: Callable[[House], Awaitable[None]],
    listening: type[socket.socket] = socket.socket,
    handshake_s: float = 60.0,
) -> None:
    async def main() -> None:
        with listening() as tcp:
            house = House(tcp, Manners(handshake_s, 1.0))
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await scenario(house)
            finally:
                house.entrance.close()
                for writer in house.writers:
                    writer.transport.abort()

    uvloop.run(main())


def test_whoever_does_not_get_on_makes_room_and_is_counted_once() -> None:
    async def scenario(house: House) -> None:
        held = [await house.knock() for _ in range(2)]
        await house.call()
        assert await held[0].read() == b""
        await house.refused.acquire()
        assert house.refused.locked()

    play(scenario)


def test_whoever_is_too_slow_is_ended_and_counted() -> None:
    async def scenario(house: House) -> None:
        reader = await house.knock()
        assert await reader.read() == b""
        await house.refused.acquire()
        assert len(house.entrance) == 0

    play(scenario, handshake_s=0.1)


def test_a_closed_entrance_has_ended_whoever_was_in_it() -> None:
    async def scenario(house: House) -> None:
        held = [await house.knock() for _ in range(2)]
        while len(house.entrance) < 2:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0)
        house.entrance.close()
        for reader in held:
            assert await reader.read() == b""

    play(scenario)


def test_without_descriptors_it_accepts_again_a_little_later() -> None:
    async def scenario(house: House) -> None:
        await house.call()

    play(scenario, Exhausted)
