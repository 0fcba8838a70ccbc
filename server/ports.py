"""The station's ports, and the address that multicast leaves by."""

import errno
import ipaddress
import socket
from collections.abc import Callable, Iterator

from server.settings import Settings, SettingsError
from transport.net.mdns import mdns_interfaces
from transport.net.stamped import family_of, route_interface, send_options, udp_socket

# Whoever calls speaks first, so until then the kernel alone knows of it.
_SPEECHLESS_S = 5
# Any address outside decides which interface the default route takes; nothing is sent to it.
_ANYWHERE = "192.0.2.1"
_ADVICE = {
    errno.EADDRINUSE: "is another station running? choose another --port",
    errno.EADDRNOTAVAIL: "use an IP address of this machine with --bind",
    errno.EACCES: "ports below 1024 need a privilege: choose another --port",
}


def _listen(address: str, port: int) -> socket.socket:
    family = family_of(address)
    tcp = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:  # IPv4 comes here too, whatever the system's bindv6only says
            tcp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _SPEECHLESS_S)
        tcp.bind((address, port))
        tcp.listen(1024)
    except OSError:
        tcp.close()
        raise
    return tcp


def _bind(make: Callable[[str, int], socket.socket], address: str, port: int) -> socket.socket:
    try:
        return make(address, port)
    except OSError as error:
        kind = "TCP" if make is _listen else "UDP"
        why = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "choose another --bind or --port")
        raise SettingsError(
            f"cannot use {kind} port {port} on {address}: {why} ({advice})"
        ) from None


def bound_ports(settings: Settings) -> Iterator[tuple[str, socket.socket]]:
    """Every port of the station, bound one by one, so that each is owned before the next.

    By the names of `Birth`; SettingsError for one that cannot be had.
    """

    def bound(make: Callable[[str, int], socket.socket], step: int) -> socket.socket:
        return _bind(make, settings.bind, settings.port + step if settings.port else 0)

    yield "http", bound(_listen, 0)
    yield "ingest", bound(_listen, 1)
    yield "time", bound(udp_socket, 0)
    yield "rtp", bound(udp_socket, 2)
    yield "rtcp", bound(udp_socket, 3)
    yield "gateway", bound(_listen, 4)


def multicast_interface(settings: Settings) -> str:
    """The IPv4 address that multicast leaves by; SettingsError if it cannot."""
    interface = settings.interface or _own_address(settings.bind)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            send_options(probe, interface, settings.ttl)
        except OSError as error:
            raise SettingsError(
                f"multicast cannot leave by {interface}: {error.strerror} "
                "(use an IPv4 address of this machine with --interface)"
            ) from None
    return interface


def _own_address(bind: str) -> str:
    ip = ipaddress.ip_address(bind)
    if ip.version == 4 and not ip.is_unspecified:
        return bind
    if ip.is_loopback:
        return "127.0.0.1"
    try:
        return route_interface(_ANYWHERE)
    except OSError:  # no default route: a network of its own, as many announcement systems have
        addresses = [interface.address for interface in mdns_interfaces()]
        if len(addresses) > 1:
            raise SettingsError(
                f"multicast could leave by {', '.join(addresses)}: choose one with --interface"
            ) from None
        return addresses[0] if addresses else "127.0.0.1"
