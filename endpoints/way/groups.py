"""The multicast groups a loudspeaker hears."""

import ipaddress
import socket
from collections.abc import Callable
from typing import NamedTuple

from transport.control.messages import Listen
from transport.net.stamped import family_of, multicast_socket

# INADDR_ANY: by its routes (ip(7)).
_CHOSEN = ipaddress.IPv4Address(0)


class Membership(NamedTuple):
    """One port of a group on an interface, and the only `source` that counts if it is known."""

    group: str
    port: int
    interface: str
    source: str | None


class Groups:
    """Holds what is joined against what is wanted."""

    def __init__(self, listen: Callable[[socket.socket], Callable[[], None]]) -> None:
        """`listen` takes over a socket, and returns what closes it."""
        self._listen = listen
        self._joined: dict[Membership, Callable[[], None]] = {}

    def join(self, listen: Listen, interface: str, source: str | None) -> None:
        """Join the groups of these streams and leave all others; OSError if one cannot be.

        `interface` is an address of this machine, and `source` the station's, if it is known.
        Groups are of IPv4: for whoever comes by IPv6 the system chooses an interface, and from
        where the station sends is not known.
        """
        interface = _ipv4_interface(interface)
        if source is not None and family_of(source) != socket.AF_INET:
            source = None
        wanted = {
            # RTCP is on the next port.
            Membership(spec.group, spec.port + step, interface, source)
            for spec in listen.streams
            if spec.group is not None and spec.port is not None
            for step in (0, 1)
        }
        for membership in [joined for joined in self._joined if joined not in wanted]:
            self._joined.pop(membership)()
        for membership in wanted - set(self._joined):
            self._joined[membership] = self._listen(multicast_socket(*membership))


def _ipv4_interface(interface: str) -> str:
    if family_of(interface) == socket.AF_INET:
        return interface
    return "127.0.0.1" if ipaddress.ip_address(interface).is_loopback else str(_CHOSEN)
