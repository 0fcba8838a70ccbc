"""Announces multicast streams by SAP (RFC 2974). Pure: says what to send and when."""

import zlib
from collections.abc import Callable, Iterator

from server.processes.routing import Routes
from transport.clock.timeline import NS_PER_SECOND
from transport.rtp.sap import SAP_PORT, SapPacket, announcement_interval_s, sap_group


class Announcer:
    """Announces each stream at once, then at RFC 2974's interval; deletes it at its end."""

    def __init__(self, origin: str, uniform: Callable[[], float]) -> None:
        self._origin = origin
        self._uniform = uniform
        self._announced: dict[int, tuple[str, str]] = {}
        self._due_ns: dict[int, int] = {}
        self._deletions: list[tuple[bytes, tuple[str, int]]] = []

    def declare(self, routes: Routes) -> None:
        """What shall be announced from now on."""
        wanted = {
            route.stream: (route.group, route.announce)
            for route in routes.routes
            if route.announce is not None and route.group is not None
        }
        for stream in list(self._announced):
            if wanted.get(stream) != self._announced[stream]:
                self._deletions.append(self._packet(stream, deletion=True))
                del self._announced[stream], self._due_ns[stream]
        for stream, pair in wanted.items():
            if stream not in self._announced:
                self._announced[stream] = pair
                self._due_ns[stream] = 0

    def due(self, now_ns: int) -> Iterator[tuple[bytes, tuple[str, int]]]:
        """Datagrams to send now, with their addresses."""
        yield from self._deletions
        self._deletions.clear()
        for stream, due_ns in self._due_ns.items():
            if now_ns >= due_ns:
                datagram, address = self._packet(stream, deletion=False)
                interval_s = announcement_interval_s(
                    len(self._announced), len(datagram), self._uniform()
                )
                self._due_ns[stream] = now_ns + round(interval_s * NS_PER_SECOND)
                yield datagram, address

    def _packet(self, stream: int, *, deletion: bool) -> tuple[bytes, tuple[str, int]]:
        group, description = self._announced[stream]
        # A non-zero hash of the contents identifies this version (RFC 2974 section 5).
        identity = zlib.crc32(description.encode()) & 0xFFFF or 1
        packet = SapPacket(self._origin, identity, deletion, "application/sdp", description)
        return packet.serialise(), (sap_group(group), SAP_PORT)
