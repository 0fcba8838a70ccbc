"""A control session that waits its turn, and that can stop listening."""

import random
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio
from typing_extensions import override

from endpoints.fleet.member import Member
from endpoints.station.meeting import Meeting, Said
from endpoints.station.session import ControlSession, Store
from transport.control.address import StationAddress


class Turns:
    """How many may be on their way in at once.

    Each real loudspeaker has a processor of its own for its handshake, and these share one: were
    all to begin at once, it would be this machine that keeps them waiting, and not the station.
    """

    def __init__(self, abreast: int) -> None:
        """0 for as many as like to."""
        self._free = trio.Semaphore(abreast) if abreast else None

    @asynccontextmanager
    async def mine(self) -> AsyncIterator[Callable[[], None]]:
        """It is over with the block, or when what is yielded is called."""
        if self._free is None:
            yield _nothing
            return
        await self._free.acquire()
        held = [self._free]

        def over() -> None:
            if held:
                held.pop().release()

        try:
            yield over
        finally:
            over()


def _nothing() -> None:
    pass


class FleetSession(ControlSession):
    """As any loudspeaker's, but for that."""

    def __init__(
        self,
        member: Member,
        turns: Turns,
        store: Store,
        say: Callable[[str], None],
        server: StationAddress,
        local_address: str,
    ) -> None:
        """`member` is the loudspeaker; the rest as of `ControlSession`."""
        super().__init__(
            store,
            member,
            random.SystemRandom().random,
            secrets.token_bytes,
            say,
            server=server,
            local_address=local_address,
        )
        self._member = member
        self._turns = turns

    @override
    async def _once(self, address: StationAddress) -> str:
        await self._member.awake()
        async with self._turns.mine() as let_in:
            self._member.let_in = let_in
            return await super()._once(address)

    @override
    async def _obey(self, meeting: Meeting, word: Said, nursery: trio.Nursery) -> None:
        # Nobody reads what is behind this word, so TCP fills up as far as the station.
        await self._member.awake()
        await super()._obey(meeting, word, nursery)
