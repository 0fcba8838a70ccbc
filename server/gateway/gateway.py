"""From the ring to the peers that control has declared, and the time to whoever asks."""

import asyncio
import os
import secrets
import socket
import ssl
from contextlib import suppress
from functools import partial
from itertools import islice

from typing_extensions import override
from websockets.frames import CloseCode

from server.door import Door
from server.entrance import Entrance, Manners
from server.gateway.peer import Hall, Peer, frame_of
from server.processes.bus import (
    FROM_GATEWAY,
    TO_GATEWAY,
    Bus,
    GatewayReport,
    WhoIsThere,
    pack_sessions,
    unpack_sessions,
)
from server.processes.child import Birth, adopt, read_secret
from server.processes.ring import REPAIR, RingReader
from server.processes.routing import RouteBook, Routes
from transport.clock.exchange import answer
from transport.errors import MalformedPacket
from transport.net.clocks import MediaClock
from transport.security.session_keys import (
    TIME_BYTES,
    check_gateway_token,
    holder_of,
    is_newer,
    open_time,
    seal_time,
    session_key,
)

MEDIA, TIME, LEAVING = b"\0", b"\1", b"\2"
# Until then its sound comes both ways, so that none is lost when it goes back to UDP.
_LEAVING_S = 3.0
_TICK_S = 0.5
# Thousands may come at once; control is told of them together.
_CHANGE_S = 0.02
_MANNERS = Manners(handshake_s=5.0, goodbye_s=1.0)
MAX_PEERS = 4_000
# Ring entries of one turn of the loop.
_ENTRIES = 16
# What the kernel keeps for a peer that does not read would be as late as it is long.
_SEND_BUFFER = 32 << 10


class Gateway(Hall):
    """All peers of this process. Nothing here waits for any of them."""

    def __init__(self, birth: Birth, context: ssl.SSLContext) -> None:
        self._birth = birth
        self._loop = asyncio.get_running_loop()
        self._clock = MediaClock(birth.media_epoch_ns)
        self._secret = read_secret(birth.secret)
        self._ring = RingReader(birth.ring)
        self._routes = RouteBook(birth.routes)
        self._awake = False
        self._listening = adopt(birth.gateway)
        # What is accepted from it inherits this.
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._bus: Bus[GatewayReport, WhoIsThere] = Bus(
            adopt(birth.gateway_bus), FROM_GATEWAY, TO_GATEWAY
        )
        self._instance = secrets.token_hex(8)
        self._entrance = Entrance(
            self._listening, context, partial(Peer, self), self._refuse, manners=_MANNERS
        )
        # Those after TLS that have not shown a token yet, and how many have.
        self._strangers = Door()
        self._known = 0
        # Both by the holders of sessions: each loudspeaker has one place, and what control has yet
        # to send to its newest session comes there too.
        self._peers: dict[int, Peer] = {}
        self._relays: dict[int, tuple[int, ...]] = {}
        self._reporting: asyncio.TimerHandle | None = None
        self._datagrams = 0
        self._dropped = 0
        self._malformed = 0
        self._refused = 0

    async def run(self) -> None:
        """Until the lifeline is cut."""
        ended = asyncio.Event()
        self._loop.add_reader(self._birth.lifeline, ended.set)
        self._entrance.open()
        self._loop.add_reader(self._bus.fileno(), self._take_orders)
        try:
            while not ended.is_set():
                self._report()
                self.tick(self._loop.time())
                with suppress(TimeoutError):
                    async with asyncio.timeout(_TICK_S):
                        await ended.wait()
        finally:
            self._end()

    def tick(self, now_s: float) -> None:
        """Cut off whoever has not read for long; `now_s` is the loop's time."""
        for peer in list(self._peers.values()):
            peer.tick(now_s)

    def _end(self) -> None:
        for descriptor in (self._birth.lifeline, self._bus.fileno()):
            self._loop.remove_reader(descriptor)
        self._fall_asleep()
        if self._reporting is not None:
            self._reporting.cancel()
        self._entrance.close()
        for peer in list(self._peers.values()):
            peer.drop()

    # ------------------------------------------------------------- the ring
    def _wake_up(self) -> None:
        """Somebody is here who may be sent something.

        Most stations need no gateway, and while nobody is here it shall not wake up for each of
        their packets.
        """
        if not self._awake:
            self._awake = True
            self._ring.skip()
            self._learn_routes()
            self._loop.add_reader(self._birth.gateway_wake, self._forward)

    def _fall_asleep(self) -> None:
        self._awake = False
        self._loop.remove_reader(self._birth.gateway_wake)

    def _forward(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._birth.gateway_wake)
        # Before the ring: what is written there was routed first.
        self._learn_routes()
        if not self._relays:
            self._ring.skip()
            return
        for entry in islice(self._ring.read(), _ENTRIES):
            if entry.kind == REPAIR:
                continue  # nothing is lost on TCP
            frame = frame_of(MEDIA + entry.datagram)
            for holder in self._relays.get(entry.stream, ()):
                peer = self._peers.get(holder)
                if peer is None:
                    continue
                if peer.relay(frame):
                    self._datagrams += 1
                else:
                    self._dropped += 1
        if self._ring.is_behind and self._awake:
            # Of these no other wake-up tells; the peers' own words come between.
            self._loop.call_soon(self._forward)

    def _learn_routes(self) -> None:
        declared = self._routes.news()
        if declared is not None:
            self._declare(declared)

    def _declare(self, declared: Routes) -> None:
        wanted = {
            route.stream: tuple(map(holder_of, unpack_sessions(route.sessions)))
            for route in declared.routes
            if route.sessions
        }
        for stream, holders in self._relays.items():
            leaving = tuple(holder for holder in holders if self._is_leaving(holder))
            wanted[stream] = tuple(dict.fromkeys((*wanted.get(stream, ()), *leaving)))
        self._relays = {stream: holders for stream, holders in wanted.items() if holders}

    # ------------------------------------------------------------- control
    def _take_orders(self) -> None:
        for message in self._bus.receive():
            match message:
                case WhoIsThere():
                    self._report()

    def _is_leaving(self, holder: int) -> bool:
        peer = self._peers.get(holder)
        return peer is not None and peer.leaving

    def _report(self) -> None:
        """Whole each time: what control did not take now, it takes with the next."""
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        self._bus.send(
            GatewayReport(
                instance=self._instance,
                sessions=pack_sessions(
                    peer.session
                    for peer in self._peers.values()
                    if peer.session is not None and not peer.leaving
                ),
                datagrams=self._datagrams,
                dropped=self._dropped,
                overruns=self._ring.overruns,
                malformed=self._malformed,
                refused=self._refused,
            )
        )

    def _changed(self) -> None:
        if self._reporting is None:
            self._reporting = self._loop.call_later(_CHANGE_S, self._report)

    def _refuse(self) -> None:
        self._refused += 1

    # ------------------------------------------------------------- what peers ask
    @override
    def met(self, peer: Peer) -> None:
        if self._known >= MAX_PEERS:
            self._refused += 1
            peer.drop()
        elif self._strangers.arrive(peer, peer.address):
            self._refused += 1

    @override
    def admit(self, peer: Peer, token: str) -> bool:
        try:
            session = check_gateway_token(token, self._secret)
        except MalformedPacket:
            self._refused += 1
            return False
        former = self._peers.get(holder_of(session))
        # The key of a session that is over is still good: it shall not send the newest one away.
        if former is not None and _is_over(session, former.session):
            self._refused += 1
            return False
        self._strangers.leave(peer)
        self._known += 1
        peer.session = session
        if former is not None:
            former.go_away(CloseCode.POLICY_VIOLATION, "this session has called again")
        self._peers[holder_of(session)] = peer
        self._wake_up()
        self._changed()
        return True

    @override
    def hear(self, peer: Peer, message: bytes) -> bytes | None:
        received_ns = self._clock.now_ns()
        if message == LEAVING and not peer.leaving:
            # UDP works again: control is told at once to send that way.
            peer.leaving = True
            self._loop.call_later(_LEAVING_S, peer.drop)
            self._report()
            return None
        if message[:1] != TIME or len(message) != len(TIME) + TIME_BYTES or peer.session is None:
            self._malformed += 1
            return None
        key = session_key(self._secret, peer.session)
        try:
            request = open_time(message[len(TIME) :], peer.session, key)
            now_ns = self._clock.now_ns()
            reply = answer(request, min(received_ns, now_ns), now_ns, self._clock.set_ns)
        except MalformedPacket:
            self._malformed += 1
            return None
        return TIME + seal_time(reply, peer.session, key)

    @override
    def malformed(self) -> None:
        self._malformed += 1

    @override
    def lost(self, peer: Peer) -> None:
        if peer.session is None:
            self._strangers.leave(peer)
            return
        self._known -= 1
        holder = holder_of(peer.session)
        if self._peers.get(holder) is peer:
            del self._peers[holder]
            if not self._peers:
                self._fall_asleep()
            self._changed()


def _is_over(session: int, newest: int | None) -> bool:
    return newest is not None and session != newest and not is_newer(session, newest)
