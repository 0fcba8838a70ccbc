"""The link over a real socket pair: nothing is lost, whatever waits."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from server.hall.link import Link
from server.hall.words import MAX_PACKET_BYTES, Say, Sent, Take, Word
from server.processes.child import hall_pair

# Never waited for unless something is broken.
PATIENCE_S = 10.0


class Ends:
    def __init__(self) -> None:
        here, self.there = hall_pair()
        self.sender = Link(here, lambda *_: None)
        self.heard: list[Word] = []
        self.connections: list[socket.socket | None] = []
        self._news = asyncio.Event()
        self._hearing: Link | None = None

    def hear(self) -> None:
        """Only now does the other end read."""
        self._hearing = Link(self.there, self._hear)

    @property
    def malformed(self) -> int:
        assert self._hearing is not None
        return self._hearing.malformed

    def _hear(self, word: Word, connection: socket.socket | None) -> None:
        self.heard.append(word)
        if isinstance(word, Take):
            self.connections.append(connection)
        self._news.set()

    async def until(self, count: int) -> None:
        while len(self.heard) < count:
            self._news.clear()
            await self._news.wait()

    def close(self) -> None:
        self.sender.close()
        if self._hearing is None:
            self.there.close()
        else:
            self._hearing.close()
        for connection in self.connections:
            if connection is not None:
                connection.close()


def play(scenario: Callable[[Ends], Awaitable[None]]) -> None:
    async def main() -> None:
        ends = Ends()
        try:
            async with asyncio.timeout(PATIENCE_S):
                await scenario(ends)
        finally:
            ends.close()

    uvloop.run(main())


def test_what_the_kernel_has_no_room_for_waits_in_order() -> None:
    # Some packets, and 2 MB at most, is all that the kernel keeps; these are 8 MB.
    words = [Say(number, bytes(8_000)) for number in range(1_000)]

    async def scenario(ends: Ends) -> None:
        for word in words:
            ends.sender.put(word)
        for _ in range(3):  # turns of the loop
            await asyncio.sleep(0)
        assert len(ends.sender) > 500
        ends.hear()
        await ends.until(len(words))
        assert ends.heard == words
        assert len(ends.sender) == 0

    play(scenario)


def test_connections_keep_their_places_among_the_words() -> None:
    async def scenario(ends: Ends) -> None:
        pairs = [socket.socketpair() for _ in range(150)]  # more than a packet carries
        for number, (given, _) in enumerate(pairs):
            ends.sender.put(Sent(number))
            ends.sender.put(Take(), given)
        ends.hear()
        await ends.until(2 * len(pairs))
        # Whoever gives one has it no longer.
        assert all(given.fileno() < 0 for given, _ in pairs)
        for number, (connection, (_, kept)) in enumerate(zip(ends.connections, pairs, strict=True)):
            assert connection is not None
            connection.send(bytes([number]))
            assert kept.recv(1) == bytes([number])
            kept.close()

    play(scenario)


def test_a_packet_that_makes_no_sense_is_counted_and_its_connections_closed() -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with socket.socket(fileno=os.dup(ends.sender._end.fileno())) as same_end:
                socket.send_fds(same_end, [b"\xc1"], [ours.fileno()])
            ours.close()
            ends.hear()
            ends.sender.put(Sent(1))
            await ends.until(1)
            assert ends.heard == [Sent(1)]
            assert ends.malformed == 1
            assert theirs.recv(1) == b""

    play(scenario)


def test_a_word_longer_than_a_packet_is_refused_at_once() -> None:
    async def scenario(ends: Ends) -> None:
        with pytest.raises(ValueError, match="Say takes"):
            ends.sender.put(Say(1, bytes(MAX_PACKET_BYTES)))

    play(scenario)


def test_what_waits_in_a_closed_link_is_closed() -> None:
    async def scenario(ends: Ends) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            ends.sender.put(Take(), ours)
            ends.sender.close()
            assert theirs.recv(1) == b""

    play(scenario)
