"""Interfaces and sockets for multicast DNS (RFC 6762), one socket for each interface."""

import fcntl
import ipaddress
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from transport.discovery.records import MDNS_GROUP, MDNS_PORT

_TTL = 255  # section 11
_IP_MULTICAST_ALL = 49
# linux/sockios.h and linux/if.h: what Python's socket module does not name.
_SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFNETMASK = 0x8913, 0x8915, 0x891B
_UP, _LOOPBACK, _RUNNING, _MULTICAST = 0x1, 0x8, 0x40, 0x1000
_REQUEST = 40
_NAME_BYTES = 16


@dataclass(frozen=True, slots=True)
class Interface:
    """A local IPv4 address and the network it is of."""

    network: ipaddress.IPv4Interface

    @property
    def address(self) -> str:
        """Dotted."""
        return str(self.network.ip)

    def reaches(self, address: str) -> bool:
        """Whether `address` is of the same link (section 11)."""
        return ipaddress.ip_address(address) in self.network.network


def mdns_interfaces(address: str | None = None) -> tuple[Interface, ...]:
    """The interface with this address, or every one that is up; loopback if there is no other.

    An address that is not known here is believed: opening a socket for it says what is wrong.
    """
    present = _present()
    if address is not None:
        known = [i for i, _ in present if i.address == address]
        return tuple(known) or (Interface(ipaddress.IPv4Interface(address)),)
    outside = tuple(i for i, is_loopback in present if not is_loopback)
    return outside or tuple(i for i, _ in present)


def _present() -> list[tuple[Interface, bool]]:
    """Interfaces that are up and can multicast, and whether each is loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # it has no IPv4 address, or has just gone
                (flags,) = struct.unpack_from("=H", _ask(probe, _SIOCGIFFLAGS, name))
                usable = flags & (_MULTICAST | _LOOPBACK) and not ~flags & (_UP | _RUNNING)
                if usable:
                    address = socket.inet_ntoa(_ask(probe, _SIOCGIFADDR, name)[4:8])
                    mask = socket.inet_ntoa(_ask(probe, _SIOCGIFNETMASK, name)[4:8])
                    network = ipaddress.IPv4Interface(f"{address}/{mask}")
                    found.append((Interface(network), bool(flags & _LOOPBACK)))
    return found


def _ask(probe: socket.socket, what: int, name: str) -> bytes:
    request = struct.pack(f"{_NAME_BYTES}s", name.encode()).ljust(_REQUEST, b"\0")
    return fcntl.ioctl(probe.fileno(), what, request)[_NAME_BYTES:]


def machine_identity() -> str:
    """What tells this machine from others on its networks: a hardware address, or empty.

    Machines made from one disk image share everything else.
    """
    folders = [Path("/sys/class/net", name) for _, name in sorted(socket.if_nameindex())]
    # A bridge or a tunnel may have another one after each start.
    for folder in sorted(folders, key=lambda f: not (f / "device").exists()):
        with suppress(OSError):
            text = (folder / "address").read_text().strip()
            if text.strip("0:"):
                return text
    return ""


def mdns_socket(interface: Interface) -> socket.socket:
    """A non-blocking socket that hears and speaks multicast DNS on one interface; OSError.

    Bound to the group, so that answers to one program alone, which go to port 5353 of this
    machine's address, are left to the responders that others run here.
    """
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # section 15.1
        udp.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        udp.bind((MDNS_GROUP, MDNS_PORT))
        membership = socket.inet_aton(MDNS_GROUP) + socket.inet_aton(interface.address)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        _send_by(udp, interface)
    except OSError:
        udp.close()
        raise
    return udp


def one_shot_socket(interface: Interface) -> socket.socket:
    """The same where port 5353 cannot be had: it asks, and is answered by itself (section 5.1)."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.bind((interface.address, 0))
        _send_by(udp, interface)
    except OSError:
        udp.close()
        raise
    return udp


def _send_by(udp: socket.socket, interface: Interface) -> None:
    own = socket.inet_aton(interface.address)
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _TTL)
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _TTL)
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    udp.setblocking(False)
