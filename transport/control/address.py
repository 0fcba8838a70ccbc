"""Where a station is, and how an address is spelt."""

import ipaddress
import re
from dataclasses import dataclass

DEFAULT_PORT = 7460
# A name or an IPv4 address. What else a URL may hold would be tried for ever, in vain.
_HOST = re.compile(r"[\w.-]+")
# An IPv6 address with brackets around it, as in a URL (RFC 3986 section 3.2.2), and maybe a port.
_BRACKETED = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::(.*))?", re.DOTALL)

_PREFIX_BITS = 64


def plain_address(text: str) -> str:
    """An IP address in its one spelling, IPv4 within IPv6 as IPv4; ValueError if `text` is none.

    A socket of both families names IPv4 peers "::ffff:192.0.2.1" (RFC 4291 section 2.5.5.2).
    """
    ip = ipaddress.ip_address(text)
    return str(ip if ip.version == 4 else ip.ipv4_mapped or ip)


def neighbourhood(address: str) -> str:
    """Whose doing something from an IP address is: that address, or for IPv6 its /64.

    Any host may call itself by any address of its /64 (RFC 4291 section 2.5.1), so limits that hold
    for an address would hold for nobody there. What is no address is its own neighbourhood.
    """
    if ":" not in address:
        return address
    try:
        plain = plain_address(address)
    except ValueError:
        return address
    if ":" not in plain:
        return plain
    return str(ipaddress.IPv6Network((plain.partition("%")[0], _PREFIX_BITS), strict=False))


@dataclass(frozen=True, slots=True)
class StationAddress:
    """The host and control port of a station; `host` is a name, an IPv4 or an IPv6 address."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "StationAddress":
        """From `host`, `host:port`, `[IPv6]` or `[IPv6]:port`; ValueError for anything else."""
        host, port = _split(text)
        fits = port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536
        if not fits or not host:
            raise ValueError(f"{text!r} is no station's address: use host, host:port or [IPv6]")
        return cls(host, int(port))

    @property
    def is_here(self) -> bool:
        """Whether it is what a machine calls itself, so that no other finds it there."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    @property
    def text(self) -> str:
        """`host:port`, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _split(text: str) -> tuple[str, str]:
    """Host and port; the host is empty where it is none."""
    bracketed = _BRACKETED.fullmatch(text)
    if bracketed is not None:
        port = bracketed[2]
        return _ipv6(bracketed[1]), str(DEFAULT_PORT) if port is None else port
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(DEFAULT_PORT)
    return host if _is_host(host) else "", port


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        return ""


def _is_host(text: str) -> bool:
    try:
        text.encode("idna")  # as whoever looks the name up will: RFC 1035 section 2.3.4
    except UnicodeError:
        return False
    return bool(_HOST.fullmatch(text))
