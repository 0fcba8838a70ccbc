"""Datagrams to destinations."""

import socket
from dataclasses import dataclass

from server.processes.bus import DeclareRoutes, unpack_destinations
from server.processes.ring import RTCP, Entry


@dataclass(slots=True)
class FanOutCounters:
    """What became of datagrams."""

    datagrams: int = 0
    errors: int = 0


class FanOut:
    """Forwards each ring entry to its stream's destinations; a failing one slows no other."""

    def __init__(self, udp: socket.socket) -> None:
        self._udp = udp
        self._rtp: dict[int, tuple[tuple[str, int], ...]] = {}
        self._rtcp: dict[int, tuple[tuple[str, int], ...]] = {}
        self.counters = FanOutCounters()

    def declare(self, routes: DeclareRoutes) -> None:
        """The streams to forward from now on; entries of any other are dropped."""
        self._rtp, self._rtcp = {}, {}
        for route in routes.routes:
            hearing = unpack_destinations(route.destinations)
            self._rtp[route.stream] = tuple((to.address, to.port) for to in hearing)
            self._rtcp[route.stream] = tuple((to.address, to.rtcp_port) for to in hearing)

    def forward(self, entry: Entry) -> None:
        """One datagram to everyone who shall have it."""
        table = self._rtcp if entry.kind == RTCP else self._rtp
        for address in table.get(entry.stream, ()):
            try:
                self._udp.sendto(entry.datagram, address)
                self.counters.datagrams += 1
            except OSError:  # unreachable, or our buffer is full: late sound is no sound
                self.counters.errors += 1
