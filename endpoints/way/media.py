"""How media reach a loudspeaker: by UDP from its station, by multicast, through the gateway."""

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import trio

from endpoints.station.tls import TlsPeer
from endpoints.way import relay
from endpoints.way.datagrams import Reader
from endpoints.way.groups import Groups
from endpoints.way.path import Challenged, KeepAlive, Lost, Opened
from endpoints.way.relay import Gate, Relay
from endpoints.way.tasks import Tasks
from transport.clock.timeline import NS_PER_SECOND
from transport.control.messages import Listen, Welcome
from transport.errors import MalformedPacket
from transport.net.clocks import Clock
from transport.net.stamped import (
    ANCILLARY_BYTES,
    MAX_DATAGRAM,
    connected_socket,
    enable_stamps,
    realtime_stamp_ns,
)
from transport.recovery.bundle import BUNDLE

_BUNDLE = bytes((BUNDLE,))
# A loudspeaker that nothing reaches is told so by silence, not by a station that waits for it.
_PATIENCE_S = 2.0


class Hearer(Protocol):
    """Who the media are for."""

    def receive(self, data: bytes, now_ns: int, came_ns: int | None = None) -> None:
        """An RTP or RTCP datagram, or a bundle, read at `now_ns` of this machine's clock.

        `came_ns` is when the kernel had it, if it came to a group and that is known.
        """


class Media:
    """Opens the way to the station, keeps it open, and hands on what comes.

    Unicast comes to a socket that is connected to the station, so the kernel drops what anybody
    else sends. Where UDP does not go through, it comes by the gateway; nobody configures that.
    Rubbish is counted in `dropped`, by its reason.
    """

    def __init__(
        self,
        player: Hearer,
        clock: Clock,
        uniform: Callable[[], float],
        draw: Callable[[int], bytes],
        say: Callable[[str], None],
    ) -> None:
        """`uniform` draws from [0, 1), `draw` random bytes; `say` is given a line for people."""
        self.dropped: Counter[str] = Counter()
        self._player = player
        self._clock = clock
        self._uniform = uniform
        self._say = say
        self._path = KeepAlive(draw)
        self._tasks = Tasks()
        self._groups = Groups(self._read_group)
        self._station: tuple[str, int, str] | None = None
        self._unicast: Reader | None = None
        self._gate: Gate | None = None
        self._relay: Relay | None = None
        # That of the session before, until the new one's way is open.
        self._former: Relay | None = None
        self._take_time: Callable[[bytes, int], None] | None = None
        self._hurry = trio.Event()
        self._reachable = trio.Event()

    # ------------------------------------------------------------- what the session says
    @property
    def way(self) -> str:
        """How unicast comes now: "udp", "gateway" or "none"."""
        if self._path.open:
            return "udp"
        return "gateway" if self._relay is not None and self._relay.open else "none"

    @property
    def port(self) -> int:
        """Where unicast by UDP comes in; 0 while it cannot."""
        return 0 if self._unicast is None else self._unicast.port

    def welcomed(self, address: str, local_address: str, welcome: Welcome, tls: TlsPeer) -> None:
        """The station is at `address`, and we are at `local_address`; `tls` is who it is."""
        station = (address, welcome.media_port, local_address)
        if station != self._station:
            self._station = station
            if self._unicast is not None:
                self._unicast.close()
                self._unicast = None
        self._gate = Gate(tls, welcome.gateway_port, welcome.session, welcome.key)
        self._path.begin(welcome.session, welcome.key, self._clock.now_ns())
        if self._relay is not None:
            # UDP was blocked a moment ago: the new session need not find that out in silence.
            self._leave_former()
            self._former, self._relay = self._relay, None
            self._former.come_no_more()
            self._come_to_gateway()
        self._settle()
        self._hurry.set()

    def join(self, listen: Listen, interface: str) -> None:
        """Join the groups of these streams and leave all others; OSError if one cannot be.

        `interface` is an address of this machine.
        """
        self._groups.join(listen, interface, None if self._station is None else self._station[0])

    async def reachable(self) -> None:
        """Until unicast would arrive; for 2 s at most."""
        with trio.move_on_after(_PATIENCE_S):
            await self._reachable.wait()

    # ------------------------------------------------------------- requests for what is missing
    @property
    def may_ask(self) -> bool:
        """Whether the station would answer a request by UDP: it knows our place then."""
        return self._path.open and self._unicast is not None

    def ask(self, request: bytes) -> None:
        """Send a request to where sound comes from."""
        if self._unicast is not None:
            with suppress(OSError):  # no route just now: it is asked again, or too late
                self._unicast.send(request)

    # ------------------------------------------------------------- time, through the gateway
    def send_time(self, packet: bytes) -> bool:
        """Send a time packet through the gateway: false where that is not the way."""
        return self._relay is not None and self._relay.send_time(packet)

    def hear_time(self, take: Callable[[bytes, int], None]) -> None:
        """Whom to give the answers, with the time when they came."""
        self._take_time = take

    # ------------------------------------------------------------- work
    async def run(self) -> None:
        """Until cancelled; all sockets are closed then."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tasks.run)
            await self._keep_open()

    async def _keep_open(self) -> None:
        while True:
            self._hurry = trio.Event()
            request = self._path.request(self._clock.now_ns())
            if request is not None:
                self._send(request)
            self._heed()
            with trio.move_on_after(self._pause_s()):
                await self._hurry.wait()

    def _pause_s(self) -> float:
        deadline_ns = self._path.deadline_ns
        if deadline_ns is None:
            return float("inf")
        return max(0, deadline_ns - self._clock.now_ns()) / NS_PER_SECOND

    def _send(self, request: bytes) -> None:
        with suppress(OSError):  # no route just now: it is said again
            if self._unicast is None and self._station is not None:
                udp = connected_socket(*self._station[:2])
                self._unicast = self._read(udp, self._take_unicast)
            if self._unicast is not None:
                self._unicast.send(request)

    def _heed(self) -> None:
        for event in self._path.events():
            match event:
                case Opened():
                    self._leave_gateway()
                case Lost():
                    self._come_to_gateway()
                case Challenged():
                    pass  # the next request is due
        self._settle()

    # ------------------------------------------------------------- the gateway
    def _come_to_gateway(self) -> None:
        if self._gate is None or self._relay is not None:
            return
        self._relay = Relay(
            self._gate, self._take_frame, self._settle, self.dropped, self._uniform, self._say
        )
        self._tasks.start(self._relay.run)

    def _leave_gateway(self) -> None:
        self._leave_former()
        if self._relay is not None:
            if self._relay.open:
                self._say("UDP from the station goes through again")
            self._relay.leave()
            self._relay = None

    def _leave_former(self) -> None:
        if self._former is not None:
            self._former.leave()
            self._former = None

    def _settle(self) -> None:
        """Some way may have opened or shut."""
        self._path.relayed = self._relay is not None and self._relay.open
        if self._path.relayed:
            self._leave_former()
        if self.way != "none":
            self._reachable.set()
        elif self._reachable.is_set():
            self._reachable = trio.Event()

    # ------------------------------------------------------------- what comes
    def _read(self, udp: socket.socket, take: Callable[[bytes], None]) -> Reader:
        reader = Reader(udp, lambda: take(udp.recv(MAX_DATAGRAM)))
        self._tasks.start(reader.run)
        return reader

    def _take_unicast(self, data: bytes) -> None:
        now_ns = self._clock.now_ns()
        if data[:1] > b"\x03":
            if self._path.heard(now_ns):
                self._hurry.set()
            self._take_sound(data, now_ns)
            return
        try:
            self._path.receive(data, now_ns)
        except MalformedPacket as error:
            self.dropped[error.reason] += 1
        else:
            self._hurry.set()

    def _read_group(self, udp: socket.socket) -> Callable[[], None]:
        """Returns what closes it."""
        enable_stamps(udp)
        reader = Reader(udp, lambda: self._take_group(udp))
        self._tasks.start(reader.run)
        return reader.close

    def _take_group(self, udp: socket.socket) -> None:
        data, ancillary, _, _ = udp.recvmsg(MAX_DATAGRAM, ANCILLARY_BYTES)
        stamp_ns = realtime_stamp_ns(ancillary)
        came_ns = None if stamp_ns is None else self._clock.of_kernel_stamp(stamp_ns)
        self._take_sound(data, self._clock.now_ns(), came_ns)

    def _take_sound(self, data: bytes, now_ns: int, came_ns: int | None = None) -> None:
        """What is for the player, or repairs for it."""
        if data[:1] == _BUNDLE:
            self._player.receive(data, now_ns)
        else:
            self._take_media(data, now_ns, came_ns)

    def _take_media(self, data: bytes, now_ns: int, came_ns: int | None = None) -> None:
        # RFC 7983 section 7: what shares a socket with RTP is told by its first byte.
        if b"\x80" <= data[:1] <= b"\xbf":
            self._player.receive(data, now_ns, came_ns)
        else:
            self.dropped["first_byte"] += 1

    def _take_frame(self, kind: bytes, content: bytes) -> None:
        if kind == relay.MEDIA:
            self._take_media(content, self._clock.now_ns())
        elif self._take_time is not None:
            self._take_time(content, self._clock.now_ns())
