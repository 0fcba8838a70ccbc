"""UDP sockets as Loa needs them: kernel receive stamps and multicast.

asyncio and uvloop hide ancillary data, so whoever needs the stamps calls recvmsg.
"""

import socket
import struct
from collections.abc import Iterable
from contextlib import suppress

# asm-generic/socket.h; the socket module of Python 3.11 does not name it.
SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
MAX_DATAGRAM = 2048
# linux/in.h; the socket module of Python 3.11 does not name them.
_IP_MULTICAST_ALL = 49
# asm-generic/socket.h, likewise: as SO_RCVBUF, for who has CAP_NET_ADMIN past the system's limit.
_SO_RCVBUFFORCE = 33
_RECEIVE_BUFFER = 1 << 20
_IP_ADD_SOURCE_MEMBERSHIP = 39
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


def _widen(udp: socket.socket) -> None:
    """Room for what comes in a busy moment, beyond the system's usual limit where we may."""
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except PermissionError:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)


def udp_socket(address: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket with a buffer that survives a busy moment."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        _widen(udp)
        udp.bind((address, port))
    except OSError:
        udp.close()
        raise
    udp.setblocking(False)
    return udp


def connected_socket(address: str, port: int) -> socket.socket:
    """A non-blocking UDP socket that sends to one peer, and hears no other: the kernel sees to it.

    It has no port of its own before it has a peer, so there is no moment for a stranger.
    """
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        _widen(udp)
        udp.connect((address, port))
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


def multicast_socket(
    group: str, port: int, interface: str, source: str | None = None
) -> socket.socket:
    """A non-blocking socket that hears `group` on `interface`, and no other group.

    Bound to the group itself and with IP_MULTICAST_ALL off, for by default Linux delivers every
    group that anybody on the machine has joined. With a `source`, it hears no other sender (RFC
    4607) wherever the system can filter.
    """
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _widen(udp)
        udp.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        udp.bind((group, port))
        _join(udp, group, interface, source)
    except OSError:
        udp.close()
        raise
    udp.setblocking(False)
    return udp


def _join(udp: socket.socket, group: str, interface: str, source: str | None) -> None:
    membership = socket.inet_aton(group) + socket.inet_aton(interface)
    if source is not None:
        # struct ip_mreq_source: Linux has the source last.
        filtered = membership + socket.inet_aton(source)
        # Refused by a kernel without source filters, and by whatever refuses the plain join too.
        with suppress(OSError):
            udp.setsockopt(socket.IPPROTO_IP, _IP_ADD_SOURCE_MEMBERSHIP, filtered)
            return
    udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)


def route_interface(address: str) -> str:
    """The local IPv4 address from which the kernel would reach `address`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])
