"""What an operator may set, and what is refused."""

import ipaddress
from dataclasses import dataclass

from transport.control.address import DEFAULT_PORT
from transport.net.stamped import is_loopback

# Network control, never forwarded: all hosts, all routers, mDNS.
_RESERVED = ipaddress.IPv4Network("224.0.0.0/24")


class SettingsError(Exception):
    """A setting that cannot be used; one line that names what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The station's settings. Port 0 lets the system choose every port.

    `port` is HTTP and control (TCP) and time (UDP); `port` + 1 takes live audio (TCP), + 2 sends
    RTP (UDP), + 3 hears RTCP (UDP).
    """

    bind: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    interface: str | None = None
    groups: str = "239.192.76.0/24"
    group_port: int = 5004
    ttl: int = 1
    announce: bool = True
    insecure: bool = False

    def __post_init__(self) -> None:
        _check_address("--bind", self.bind)
        if self.interface is not None:
            _check_address("--interface", self.interface)
            if ipaddress.IPv4Address(self.interface).is_unspecified:
                raise SettingsError(
                    f"--interface {self.interface}: name the one address that multicast leaves by"
                )
        if not is_loopback(self.bind) and not self.insecure:
            raise SettingsError(
                f"--bind {self.bind} would let anybody on the network speak, for there are no "
                "users yet: add --insecure if that is what you want"
            )
        if not 0 <= self.port <= 65532:
            raise SettingsError(f"--port {self.port}: use 1 to 65532, or 0 for any free ports")
        if not 0 <= self.ttl <= 255:
            raise SettingsError(f"--ttl {self.ttl}: use 0 to 255")
        if not 0 < self.group_port < 65535 or self.group_port % 2:
            # RTP on the even port, RTCP on the next (RFC 3550 section 11).
            raise SettingsError(f"--group-port {self.group_port}: use an even port")
        _check_groups(self.groups)


def _check_address(option: str, address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise SettingsError(f"{option} {address}: use an IPv4 address of this machine") from None


def _check_groups(groups: str) -> None:
    try:
        network = ipaddress.IPv4Network(groups)
    except ValueError:
        raise SettingsError(f"--groups {groups}: use a range such as 239.192.76.0/24") from None
    if not network.is_multicast:
        raise SettingsError(f"--groups {groups}: that is no multicast range (224.0.0.0/4)")
    if network.overlaps(_RESERVED):
        raise SettingsError(
            f"--groups {groups}: {_RESERVED} belongs to routers (RFC 5771); "
            "use a range such as 239.192.76.0/24"
        )
