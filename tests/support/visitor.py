"""A control session by itself: the loudspeaker that it serves only remembers what it is told."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from endpoints.session import ControlSession
from tests.support.station import Station, Talk, running_station
from transport.control.address import StationAddress
from transport.control.messages import (
    VERSION,
    Adjust,
    Command,
    Hello,
    Listen,
    Telemetry,
    Welcome,
)

HELLO = Hello(VERSION, "a", multicast=False, media_port=5004)
TELEMETRY = Telemetry("idle", -96.0, 0.0, 1.0, 0, 0, 0, 0, 1.0)
BELOW_ONE = 1 - 2**-53


@dataclass
class FakeSpeaker:
    """Remembers what the session tells it."""

    welcomes: list[tuple[str, str, Welcome]] = field(default_factory=list)
    listens: list[Listen] = field(default_factory=list)
    adjusts: list[Adjust] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    objection: str = ""

    def hello(self) -> Hello:
        return HELLO

    def welcomed(self, address: str, local_address: str, welcome: Welcome) -> None:
        self.welcomes.append((address, local_address, welcome))

    def declared(self, listen: Listen) -> None:
        self.listens.append(listen)

    def adjusted(self, adjust: Adjust) -> None:
        self.adjusts.append(adjust)

    def commanded(self, command: Command) -> str:
        self.commands.append(command)
        return self.objection

    def telemetry(self) -> Telemetry:
        return TELEMETRY


class Visitor:
    """A session, what it said, and when it drew how long to wait."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.speaker = FakeSpeaker()
        self.said: list[str] = []
        self.waits_s: list[float] = []
        address = StationAddress(host, port)
        self.session = ControlSession(address, self.speaker, self._uniform, self.said.append)

    def _uniform(self) -> float:
        self.waits_s.append(trio.current_time())
        return BELOW_ONE

    async def run_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.session.run()


async def visit(
    talk: Talk, seconds: float, meanwhile: Callable[[Station], Awaitable[None]] | None = None
) -> tuple[Visitor, Station]:
    """A loudspeaker's life with a station that talks so."""
    async with running_station(talk) as station, trio.open_nursery() as nursery:
        visitor = Visitor(station.port)
        if meanwhile is not None:
            nursery.start_soon(meanwhile, station)
        await visitor.run_for(seconds)
        nursery.cancel_scope.cancel()
    return visitor, station
