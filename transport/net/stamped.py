"""UDP sockets as Loa needs them: kernel receive stamps and multicast.

asyncio and uvloop hide ancillary data, so whoever needs the stamps calls recvmsg.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterable

# asm-generic/socket.h; the socket module of Python 3.11 does not name it.
SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
MAX_DATAGRAM = 2048
_IP_MULTICAST_ALL = 49
_EXPEDITED_FORWARDING = 46 << 2  # DSCP EF (RFC 3246)

type_ancillary = Iterable[tuple[int, int, bytes]]


def enable_stamps(udp: socket.socket) -> None:
    """Ask the kernel to stamp what this socket receives (Linux)."""
    udp.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)


def realtime_stamp_ns(ancillary: type_ancillary) -> int | None:
    """The kernel's receive stamp, CLOCK_REALTIME, if there is one."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack_from(data)
            return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return None


def udp_socket(address: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket with a buffer that survives a busy moment."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        udp.bind((address, port))
    except OSError:
        udp.close()
        raise
    udp.setblocking(False)
    return udp


def send_options(udp: socket.socket, interface: str, ttl: int) -> None:
    """Multicast goes out of `interface` (its IPv4 address), `ttl` hops far; all of it as EF."""
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _EXPEDITED_FORWARDING)


def multicast_socket(group: str, port: int, interface: str) -> socket.socket:
    """A non-blocking socket that hears `group` on `interface`, and no other group.

    Bound to the group itself and with IP_MULTICAST_ALL off, for by default Linux delivers every
    group that anybody on the machine has joined.
    """
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        udp.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        udp.bind((group, port))
        membership = socket.inet_aton(group) + socket.inet_aton(interface)
        udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    except OSError:
        udp.close()
        raise
    udp.setblocking(False)
    return udp


def route_interface(address: str) -> str:
    """The local IPv4 address from which the kernel would reach `address`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def is_loopback(address: str) -> bool:
    """Whether `address` is of this machine alone."""
    return ipaddress.ip_address(address).is_loopback
