"""One simulated loudspeaker: its session for real, and what that asks of it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import trio

from endpoints.fleet.timing import QuickestTrip, TimeLearner
from endpoints.station.tls import TlsPeer
from endpoints.way.groups import Groups
from endpoints.way.path import KeepAlive, Opened
from transport.clock.estimator import ClockEstimate, ClockEstimator
from transport.clock.timeline import NS_PER_SECOND
from transport.control.messages import (
    VERSION,
    Adjust,
    Command,
    Hello,
    Listen,
    StreamSpec,
    Telemetry,
    Welcome,
)
from transport.security.keys import VerifyKey

# A loudspeaker that nothing reaches is told so by silence (`endpoints.way.media`).
_PATIENCE_S = 2.0
# After the way is open control has to be told, and to tell the senders.
_ROUTED_NS = NS_PER_SECOND
# One of so many works out the time as a loudspeaker does; see `QuickestTrip` for the others.
_THOROUGH = 100
_PLAYING_NS = NS_PER_SECOND


class World(Protocol):
    """What a member needs of the fleet; `index` is its place in it."""

    def now_ns(self) -> int:
        """This machine's clock."""

    def trust(self, station: VerifyKey, generation: int) -> None:
        """Whose streams are believed."""

    def listens(
        self, index: int, specs: tuple[StreamSpec, ...], unicast_ns: int | None, group_ns: int
    ) -> None:
        """To exactly these from now on.

        What comes after these times should be heard; None as long as unicast need not come.
        """

    def ask_soon(self, index: int) -> None:
        """Its questions to the station, for the time and for its way, are due."""

    def learnt(self, index: int, estimate: ClockEstimate | None) -> None:
        """What it knows of the media clock."""

    def heard_at_ns(self, index: int) -> int:
        """When something last came; 0 for never."""

    def packets(self, index: int) -> int:
        """How many have come."""


@dataclass(slots=True)
class Ports:
    """Where the station is, by UDP."""

    address: str = ""
    time: int = 0
    media: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """What all members have in common."""

    delivery: str
    multicast: bool
    draw: Callable[[int], bytes] = field(repr=False)


class Member:
    """What a `ControlSession` needs of a loudspeaker, without any sound."""

    def __init__(
        self, index: int, address: str, kind: Kind, world: World, groups: Groups | None
    ) -> None:
        """`address` is its own; `groups` is given where it may join some."""
        self.index = index
        self.ports = Ports()
        self.path = KeepAlive(kind.draw)
        estimator = QuickestTrip() if index % _THOROUGH else ClockEstimator()
        self.time = TimeLearner(lambda: int.from_bytes(kind.draw(8)), estimator)
        self.welcomes = 0
        # What lets the next one in that waits to be let in, once we are.
        self.let_in: Callable[[], None] = _nothing
        self.address = address
        self._kind = kind
        self._world = world
        self._groups = groups
        self._told: tuple[StreamSpec, ...] = ()
        self._born_ns = world.now_ns()
        self._reachable = trio.Event()
        self._awake: trio.Event | None = None
        self._adjust = Adjust(100, muted=False)

    # ------------------------------------------------------------- what the session asks
    def hello(self, name: str, key: bytes, nonce: bytes) -> Hello:
        """Who we are."""
        return Hello(VERSION, name, self._kind.multicast, key, nonce, self._kind.delivery)

    def trust(self, station: VerifyKey, generation: int) -> None:
        """Only this station's streams are believed."""
        self._world.trust(station, generation)

    def welcomed(self, address: str, local_address: str, welcome: Welcome, tls: TlsPeer) -> None:  # noqa: ARG002 - see `Speaker`
        """The station is at `address`; the way and the time are asked for from now on."""
        self.ports = Ports(address, welcome.time_port, welcome.media_port)
        self.welcomes += 1
        self.path.begin(welcome.session, welcome.key, self._world.now_ns())
        self._reachable = trio.Event()
        self.time.begin(welcome.session, welcome.key, welcome.time_s)
        self._world.ask_soon(self.index)
        self.let_in()

    def declared(self, listen: Listen) -> None:
        """The station says what to listen to."""
        self._told = listen.streams
        if self._groups is not None:
            # A group that cannot be joined is one that is not heard, which figures show.
            with suppress(OSError):
                self._groups.join(listen, self.address, self.ports.address)
        self._listen()

    def _listen(self) -> None:
        since_ns = self._world.now_ns() + _ROUTED_NS
        unicast_ns = since_ns if self.path.open else None
        self._world.listens(self.index, self._told, unicast_ns, since_ns)

    async def reachable(self) -> None:
        """Until unicast would arrive; two seconds at most."""
        with trio.move_on_after(_PATIENCE_S):
            await self._reachable.wait()

    def adjusted(self, adjust: Adjust) -> None:
        """How loud we would be."""
        self._adjust = adjust

    def commanded(self, command: Command) -> str:  # noqa: ARG002 - see `Speaker`
        """Done, as far as anybody hears."""
        return ""

    def telemetry(self) -> Telemetry:
        """How we are."""
        now_ns, estimate = self._world.now_ns(), self.time.estimate
        playing = now_ns - self._world.heard_at_ns(self.index) < _PLAYING_NS
        state = "syncing" if estimate is None else "playing" if playing else "idle"
        return Telemetry(
            state=state,
            level_dbfs=-100.0,
            sync_error_us=0.0,
            clock_uncertainty_us=0.0 if estimate is None else estimate.uncertainty_ns / 1e3,
            packets_received=self._world.packets(self.index),
            packets_lost=0,
            packets_late=0,
            packets_dropped=0,
            uptime_s=round((now_ns - self._born_ns) / NS_PER_SECOND, 1),
            volume=self._adjust.volume,
            muted=self._adjust.muted,
            way="udp" if self.path.open else "none",
        )

    async def news(self, every_s: float) -> None:  # noqa: ARG002 - see `Speaker`
        """Nothing is ever worth a word before its time."""
        await trio.sleep_forever()

    # ------------------------------------------------------------- what comes by UDP
    def take_stun(self, data: bytes, now_ns: int) -> None:
        """An answer from the station's media port; MalformedPacket if it is none."""
        self.path.receive(data, now_ns)
        for event in self.path.events():
            if isinstance(event, Opened):
                self._reachable.set()
                self._listen()

    def take_time(self, data: bytes, arrival_ns: int) -> bool:
        """An answer from its time port: whether to ask again at once; MalformedPacket."""
        again = self.time.answer(data, arrival_ns)
        self._world.learnt(self.index, self.time.estimate)
        return again

    # ------------------------------------------------------------- what the fleet does to it
    def stall(self) -> None:
        """Read nothing more from the station, without a word."""
        self._awake = self._awake or trio.Event()

    def go_on(self) -> None:
        """Read on."""
        if self._awake is not None:
            self._awake.set()
            self._awake = None

    @property
    def stalled(self) -> bool:
        """Whether it reads nothing."""
        return self._awake is not None

    async def awake(self) -> None:
        """Until it is not stalled."""
        while self._awake is not None:
            await self._awake.wait()

    def leave(self) -> None:
        """The machine is off: it hears nothing, and nobody should expect it to."""
        self._told = ()
        self._world.listens(self.index, (), None, 0)
        self._world.learnt(self.index, None)


def _nothing() -> None:
    pass
