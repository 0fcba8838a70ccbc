"""Connections over real loopback sockets, before they are through TLS."""

import asyncio
import errno
import gc
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import uvloop
from typing_extensions import override

from server.door import Door
from server.entrance import Entrance, Manners
from server.limits import wait_for_words
from tests.support.tls import station_tls
from transport.control.messages import SUBPROTOCOL

# Never waited for unless something is broken.
PATIENCE_S = 20.0


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
    def __init__(self, listening: socket.socket, manners: Manners, **more: Any) -> None:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        wait_for_words(listening)
        self.port: int = listening.getsockname()[1]
        self.writers: list[asyncio.StreamWriter] = []
        self.refused = asyncio.Semaphore(0)
        self.begun: list[str] = []
        self.entrance = Entrance(
            listening,
            station_tls().accepting(),
            self._begin,
            self.refused.release,
            manners=manners,
            door=Door(each=2),
            is_urgent=lambda hello: SUBPROTOCOL.encode() not in hello,
            **more,
        )
        self.entrance.open()

    def _begin(self, address: str) -> asyncio.Protocol:
        self.begun.append(address)
        return asyncio.Protocol()

    async def hello(
        self, address: str = "127.0.0.1", *, speaks: str = SUBPROTOCOL
    ) -> asyncio.StreamReader:
        """Begin TLS, and then do nothing more."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, local_addr=(address, 0)
        )
        self.writers.append(writer)
        context = station_tls().calling()
        context.set_alpn_protocols([speaks])
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with suppress(ssl.SSLWantReadError):
            context.wrap_bio(incoming, outgoing).do_handshake()
        writer.write(outgoing.read())
        return reader

    async def holds(self, count: int) -> None:
        """Until so many are not through TLS."""
        while len(self.entrance) != count:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.001)

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
    slow_s: float = 60.0,
    **more: Any,
) -> None:
    async def main() -> None:
        with listening() as tcp:
            house = House(tcp, Manners(handshake_s, 1.0, slow_s), **more)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await scenario(house)
            finally:
                house.entrance.close()
                for writer in house.writers:
                    writer.transport.abort()

    uvloop.run(main())


async def is_ended(reader: asyncio.StreamReader) -> None:
    """Also by a reset, which is what TCP says where something was not read."""
    with suppress(ConnectionResetError):
        assert await reader.read() == b""


def test_whoever_does_not_get_on_makes_room_and_is_counted_once() -> None:
    async def scenario(house: House) -> None:
        held = [await house.knock() for _ in range(2)]
        await house.call()
        assert await held[0].read() == b""
        await house.refused.acquire()
        assert house.refused.locked()

    play(scenario)


def test_of_who_speaks_no_tls_nothing_is_kept() -> None:
    """A tenth of a megabyte a second would be kept else, under a flood: 14 KB of each until garbage
    is collected, which is seldom where there are thousands of sessions."""

    async def scenario(house: House) -> None:
        before = alive()
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", house.port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await house.refused.acquire()
            writer.close()
            await asyncio.sleep(0)
        assert alive() == before

    def alive() -> int:
        return sum(isinstance(thing, asyncio.Task | ssl.SSLError) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        play(scenario)
    finally:
        gc.enable()


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
            await is_ended(reader)

    play(scenario)


def test_without_descriptors_it_accepts_again_a_little_later() -> None:
    async def scenario(house: House) -> None:
        await house.call()

    play(scenario, Exhausted)


# ------------------------------------------------------------------ a fleet comes at once
def test_a_few_shake_hands_and_the_others_wait_for_them() -> None:
    async def scenario(house: House) -> None:
        first = [await house.hello() for _ in range(2)]
        for reader in first:
            assert await reader.read(1)
        waiting = await house.hello()
        await house.holds(3)
        assert len(house.begun) == 2
        house.writers[0].transport.abort()
        assert await waiting.read(1)

    play(scenario, at_once=2)


def test_who_waits_for_its_peer_keeps_nobody_waiting_for_long() -> None:
    async def scenario(house: House) -> None:
        stalled = await house.hello()
        assert await stalled.read(1)
        assert await (await house.hello()).read(1)

    play(scenario, at_once=1, slow_s=0.05)


def test_who_says_nothing_of_tls_takes_nobodys_place() -> None:
    async def scenario(house: House) -> None:
        for _ in range(2):
            await house.knock()
        await house.holds(2)
        await house.call()

    play(scenario, at_once=1)


def test_whoever_has_hung_up_meanwhile_is_not_greeted() -> None:
    async def scenario(house: House) -> None:
        assert await (await house.hello("127.0.0.2")).read(1)
        await house.hello("127.0.0.3")
        await house.holds(2)
        house.writers[1].close()
        await house.writers[1].wait_closed()
        last = await house.hello("127.0.0.4")
        await house.holds(3)
        house.writers[0].transport.abort()
        assert await last.read(1)
        assert house.begun == ["127.0.0.2", "127.0.0.4"]
        for _ in range(2):  # that one, and the first, which broke off
            await house.refused.acquire()

    play(scenario, at_once=1)


def test_a_person_does_not_wait_for_the_fleet() -> None:
    async def scenario(house: House) -> None:
        assert await (await house.hello("127.0.0.2")).read(1)
        for number in range(3, 7):
            await house.hello(f"127.0.0.{number}")
        await house.holds(5)
        person = await house.hello("127.0.0.9", speaks="http/1.1")
        await house.holds(6)
        house.writers[0].transport.abort()
        assert await person.read(1)
        assert house.begun == ["127.0.0.2", "127.0.0.9"]

    play(scenario, at_once=1)


def test_when_enough_wait_the_kernel_keeps_the_rest() -> None:
    async def scenario(house: House) -> None:
        readers = [await house.hello(f"127.0.0.{number}") for number in range(2, 9)]
        await house.holds(1 + 2)
        await asyncio.sleep(0.05)
        assert len(house.entrance) == 1 + 2
        for reader, writer in zip(readers, list(house.writers), strict=True):
            assert await reader.read(1)
            writer.transport.abort()
        assert house.begun == [f"127.0.0.{number}" for number in range(2, 9)]

    play(scenario, at_once=1, most_waiting=2)


def test_who_is_handed_on_is_no_more_of_this_house() -> None:
    taken: list[socket.socket] = []

    def hand_on(connection: socket.socket, _: bytes) -> bool:
        taken.append(connection)
        return len(taken) == 1

    async def scenario(house: House) -> None:
        await house.hello("127.0.0.2")
        await house.call()
        assert taken[0].getpeername()[0] == "127.0.0.2"
        assert house.begun == ["127.0.0.1"]

    play(scenario, hand_on=hand_on)
    taken[0].close()


def test_a_closed_entrance_has_ended_whoever_waited() -> None:
    async def scenario(house: House) -> None:
        readers = [await house.hello() for _ in range(2)]
        await house.holds(2)
        house.entrance.close()
        assert len(house.entrance._waiting) == 0
        await is_ended(readers[1])

    play(scenario, at_once=1)
