"""Asks the station for the packets that did not come."""

from typing import Protocol

import trio

from endpoints.way.metering import Meter
from transport.clock.timeline import NS_PER_SECOND
from transport.net.clocks import Clock
from transport.recovery.request import Wanted, seal_request

# The schedule's own times are far longer; this is so that no mistake of its could spin.
_LEAST_PAUSE_S = 0.001


class Wanting(Protocol):
    """Who plays, and knows what is missing; times are of this machine's clock."""

    def receive(self, data: bytes, now_ns: int, came_ns: int | None = None) -> None:
        """A datagram read at `now_ns`, which the kernel had at `came_ns` if that is known."""

    def requests(self, now_ns: int) -> list[Wanted]:
        """What to ask for now; it counts as asked for."""

    def next_request_ns(self) -> int | None:
        """When there will be something to ask for, if nothing comes until then."""

    def packets_a_second(self, now_ns: int) -> float:
        """Of sound, if none were lost."""

    @property
    def round_trip_ns(self) -> int:
        """From a request to its answer."""


class RequestWay(Protocol):
    """How a request reaches the station."""

    @property
    def may_ask(self) -> bool:
        """Whether the station would know where the answer has to go."""

    def ask(self, request: bytes) -> None:
        """Send it, out of the socket to which the answer will come."""


class Repair:
    """Stands between the way and the player: sees what comes, and asks for what does not.

    Only where unicast by UDP is open: the gateway's TCP loses nothing, and groups have no way back.
    """

    def __init__(self, player: Wanting, clock: Clock, meter: Meter | None = None) -> None:
        """`meter` limits what is asked for, where each byte is paid for."""
        self._player = player
        self._clock = clock
        self._meter = meter
        self._way: RequestWay | None = None
        self._session: tuple[int, bytes] | None = None
        self._armed_ns: int | None = None
        self._hurry = trio.Event()

    def send_through(self, way: RequestWay) -> None:
        """Ask by this way."""
        self._way = way

    def begin(self, address: str, session: int, key: bytes) -> None:
        """The station at `address` knows us as this session."""
        self._session = session, key
        if self._meter is not None:
            self._meter.begin(ipv6=":" in address)

    def receive(self, data: bytes, now_ns: int, came_ns: int | None = None) -> None:
        """A datagram for the player; it may show that others are missing."""
        if self._meter is not None:
            self._meter.came(data, now_ns)
        self._player.receive(data, now_ns, came_ns)
        due_ns = self._next_ns()
        if due_ns is not None and (self._armed_ns is None or due_ns < self._armed_ns):
            self._armed_ns = due_ns
            self._hurry.set()

    def _next_ns(self) -> int | None:
        if self._way is None or self._session is None or not self._way.may_ask:
            return None
        return self._player.next_request_ns()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._hurry = trio.Event()
            now_ns = self._clock.now_ns()
            if self._armed_ns is not None and self._armed_ns <= now_ns:
                self._ask(now_ns)
            self._armed_ns = self._next_ns()
            with trio.move_on_after(self._pause_s(now_ns)):
                await self._hurry.wait()

    def _pause_s(self, now_ns: int) -> float:
        if self._armed_ns is None:
            return float("inf")
        return max((self._armed_ns - now_ns) / NS_PER_SECOND, _LEAST_PAUSE_S)

    def _ask(self, now_ns: int) -> None:
        if self._way is None or self._session is None or not self._way.may_ask:
            return
        wanted = self._player.requests(now_ns)
        if self._meter is not None:
            wanted = self._meter.allowed(
                wanted,
                now_ns,
                packets_a_second=self._player.packets_a_second(now_ns),
                round_trip_ns=self._player.round_trip_ns,
            )
        if wanted:
            self._way.ask(seal_request(wanted, *self._session))
