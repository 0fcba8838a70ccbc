"""Who is sent what: one declaration for all who read the ring, in memory that the supervisor keeps.

Control writes it whole whenever it changes; senders, usher and gateway read it when they are woken,
and when they are born. It is there though control be dead, and it has room for every loudspeaker,
which no datagram of a bus has.
"""

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.processes.notebook import PAGE_BYTES, Notebook
from transport.control.wire import vocabulary
from transport.errors import MalformedPacket

# An IPv6 address, or an IPv4 one mapped into it (RFC 4291 section 2.5.5.2); ports of RTP and RTCP.
DESTINATION = np.dtype([("address", "u1", 16), ("port", "<u2"), ("rtcp_port", "<u2")])
_DESTINATION = struct.Struct("<16sHH")
_MAPPED = bytes(10) + b"\xff\xff"
# 50 programmes to 20,000 loudspeakers each take 20 MB.
MAX_ROUTES_BYTES = PAGE_BYTES - 64


@dataclass(frozen=True, slots=True)
class Route:
    """One stream: who is sent it by UDP, who through the gateway, and its SDP if SAP shall tell it.

    `destinations` are packed rows of `DESTINATION`, in an order that newcomers do not change;
    `sessions` eight bytes each, as `bus.pack_sessions` makes them. `frame_ms` is how often a
    packet of it comes.
    """

    stream: int
    frame_ms: float
    destinations: bytes = b""
    sessions: bytes = b""
    announce: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        if len(self.destinations) % DESTINATION.itemsize:
            raise ValueError("the last destination is cut off")
        if self.frame_ms <= 0:
            raise ValueError("a frame lasts longer than nothing")

    @property
    def rows(self) -> NDArray[np.void]:
        """Its destinations, shape (N,), of dtype `DESTINATION`; they cannot be written to."""
        return np.frombuffer(self.destinations, DESTINATION)

    def split(self) -> list[bytes]:
        """Its destinations, one by one, packed."""
        size, packed = DESTINATION.itemsize, self.destinations
        return [packed[at : at + size] for at in range(0, len(packed), size)]


@dataclass(frozen=True, slots=True)
class Routes:
    """Every stream that is forwarded."""

    routes: tuple[Route, ...] = ()


_ROUTES = vocabulary(Routes, max_bytes=MAX_ROUTES_BYTES)


def pack_destination(address: str, port: int, rtcp_port: int) -> bytes:
    """One row of `DESTINATION`; ValueError if `address` is none."""
    ip = ipaddress.ip_address(address)
    packed = ip.packed if ip.version == 6 else _MAPPED + ip.packed
    return _DESTINATION.pack(packed, port, rtcp_port)


def unpack_destinations(packed: bytes) -> list[tuple[str, int, int]]:
    """(address, RTP port, RTCP port) of each row, IPv4 addresses in their own spelling."""
    rows = []
    for raw, port, rtcp_port in _DESTINATION.iter_unpack(packed):
        ip = ipaddress.IPv6Address(raw)
        rows.append((str(ip.ipv4_mapped or ip), port, rtcp_port))
    return rows


class RouteBook:
    """The declaration in shared memory; one process writes, and all others read."""

    def __init__(self, memory: int) -> None:
        self._notebook = Notebook(memory)
        self._read_serial = 0

    def write(self, routes: Iterable[Route]) -> None:
        """Declare; ValueError, and what was before holds, if it is too much."""
        record = _ROUTES.encode(Routes(tuple(routes)))
        if len(record) > MAX_ROUTES_BYTES:
            raise ValueError(f"routes of {len(record)} bytes do not fit {MAX_ROUTES_BYTES}")
        self._notebook.write(record)

    def news(self) -> Routes | None:
        """What is declared, if it has changed since this was last asked."""
        if self._notebook.serial() == self._read_serial:
            return None
        serial, record = self._notebook.read()
        if serial == self._read_serial:  # the newer one is being written
            return None
        self._read_serial = serial
        try:
            routes: Routes = _ROUTES.decode(record)
        except MalformedPacket:  # of another version of ours, across an upgrade
            return None
        return routes
