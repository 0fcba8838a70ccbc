"""A control session by itself: the loudspeaker that it serves only remembers what it is told."""

import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from endpoints.station.session import ControlSession, Look
from endpoints.station.store import KnownStation, SpeakerState, SpeakerStore
from endpoints.station.tls import TlsPeer
from tests.support.chain import GENERATION, Drawn
from tests.support.station import ROOT, Station, Talk, running_station
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
from transport.security.keys import VerifyKey

SEED = b"speaker" + bytes(25)
TELEMETRY = Telemetry("idle", -96.0, 0.0, 1.0, 0, 0, 0, 0, 1.0)
BELOW_ONE = 1 - 2**-53


async def at_once(write: Callable[[], None]) -> None:
    """Virtual time would pass while a thread writes."""
    write()
    await trio.lowlevel.checkpoint()


def store_of(
    folder: Path,
    port: int = 1,
    *,
    host: str = "127.0.0.1",
    name: str = "a",
    seed: bytes = SEED,
    generation: int = GENERATION,
    session_number: int = 0,
) -> SpeakerStore:
    """The state file of a loudspeaker that is enrolled at the station of the tests."""
    store = SpeakerStore.open(folder / "state.json", lambda _: seed, at_once)
    known = KnownStation(
        StationAddress(host, port), ROOT.public, generation, session_number=session_number
    )
    store.write(SpeakerState(seed, name, known))
    return store


@dataclass
class FakeSpeaker:
    """Remembers what the session tells it."""

    trusted: list[tuple[bytes, int]] = field(default_factory=list)
    welcomes: list[tuple[str, str, Welcome]] = field(default_factory=list)
    peers: list[TlsPeer] = field(default_factory=list)
    listens: list[Listen] = field(default_factory=list)
    adjusts: list[Adjust] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    objection: str = ""
    unreachable_s: float = 0.0
    paces_s: list[float] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)

    def hello(self, name: str, key: bytes, nonce: bytes) -> Hello:
        return Hello(VERSION, name, multicast=False, key=key, nonce=nonce)

    def trust(self, station: VerifyKey, generation: int) -> None:
        self.trusted.append((station.public, generation))

    def welcomed(self, address: str, local_address: str, welcome: Welcome, tls: TlsPeer) -> None:
        self.welcomes.append((address, local_address, welcome))
        self.peers.append(tls)

    def declared(self, listen: Listen) -> None:
        self.listens.append(listen)

    async def reachable(self) -> None:
        await trio.sleep(self.unreachable_s)

    def adjusted(self, adjust: Adjust) -> None:
        self.adjusts.append(adjust)

    def commanded(self, command: Command) -> str:
        self.commands.append(command)
        return self.objection

    def telemetry(self) -> Telemetry:
        return TELEMETRY

    async def news(self, every_s: float) -> None:
        self.paces_s.append(every_s)
        await self.changed.wait()
        self.changed = trio.Event()


class Visitor:
    """A session, what it said, and when it drew how long to wait."""

    def __init__(
        self,
        store: SpeakerStore,
        *,
        server: StationAddress | None = None,
        look: Look | None = None,
        draw: Callable[[int], bytes] | None = None,
        uniform: Callable[[], float] = lambda: BELOW_ONE,
        local_address: str | None = None,
    ) -> None:
        self.store = store
        self._draw_uniform = uniform
        self.speaker = FakeSpeaker()
        self.said: list[str] = []
        self.waits_s: list[float] = []
        self.session = ControlSession(
            store,
            self.speaker,
            self._uniform,
            draw or Drawn("speaker"),
            self.said.append,
            server=server,
            look=look,
            local_address=local_address,
        )

    def _uniform(self) -> float:
        self.waits_s.append(trio.current_time())
        return self._draw_uniform()

    async def run_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.session.run()


async def visit(
    talk: Talk, seconds: float, meanwhile: Callable[[Station], Awaitable[None]] | None = None
) -> tuple[Visitor, Station]:
    """A loudspeaker's life with a station that talks so."""
    with tempfile.TemporaryDirectory() as folder:
        async with running_station(talk) as station, trio.open_nursery() as nursery:
            visitor = Visitor(store_of(Path(folder), station.port))
            if meanwhile is not None:
                nursery.start_soon(meanwhile, station)
            await visitor.run_for(seconds)
            nursery.cancel_scope.cancel()
        visitor.store.close()
    return visitor, station
