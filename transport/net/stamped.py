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


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET6 for an IPv6 address, AF_INET for anything else."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def spelt_for(udp: socket.socket, address: str) -> str:
    """How to call an address when sending by `udp`: IPv4 within IPv6 if it is of both families."""
    if udp.family == socket.AF_INET6 and family_of(address) == socket.AF_INET:
        return f"::ffff:{address}"
    return address


def udp_socket(address: str, port: int) -> socket.socket:
    """A bound, non-blocking UDP socket with a buffer that survives a busy moment.

    "::" takes IPv4 as well, whose peers are named "::ffff:192.0.2.1" then (RFC 3493 section 3.7).
    OSError if it cannot be bound, or if this machine has no IPv6.
    """
    family = family_of(address)
    udp = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:  # whatever the system's bindv6only says
            udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        _widen(udp)
        udp.bind((address, port))
    except OSError:
        udp.close()
        raise
    udp.setblocking(False)
    return udp


def connected_socket(address: str, port: int) -> socket.socket:
    """A non-blocking UDP socket that sends to one peer, and hears no other: the kernel sees to it.

    It has no port of its own before it has a peer, so there is no moment for a stranger. `address`
    is of IPv4 or of IPv6.
    """
    udp = socket.socket(family_of(address), socket.SOCK_DGRAM)
    try:
        _widen(udp)
        udp.connect((address, port))
    except OSError:
        udp.close()
        raise
    udp.setblocking(False)
    return udp


def send_options(udp: socket.socket, interface: str, ttl: int) -> None:
    """Multicast goes out of `interface` (its IPv4 address), `ttl` hops far; all of it as EF.

    Groups are of IPv4; a socket of both families sends to them as one of IPv4 does.
    """
    if udp.family == socket.AF_INET6:  # unicast of IPv6 (RFC 3542 section 6.5)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _EXPEDITED_FORWARDING)
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
