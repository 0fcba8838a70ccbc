"""What an operator may set, and what is refused."""

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from server.audit.places import AnchorError, check_file, check_webhook, syslog_address
from transport.control.address import DEFAULT_PORT

# Network control, never forwarded: all hosts, all routers, mDNS.
_RESERVED = ipaddress.IPv4Network("224.0.0.0/24")
# More processes than that share nothing any more but the machine.
MAX_SENDERS, MAX_HALLS = 32, 32
# A century.
MAX_DAYS = 36_500
# Instead of a value that may have a password in it.
HIDDEN = "..."


class SettingsError(Exception):
    """A setting that cannot be used; one line that names what to do."""


class WrongSettingError(SettingsError):
    """A value that its setting cannot have.

    `reason` is what to say after whatever names the setting and its value.
    """

    def __init__(self, setting: str, value: object, reason: str) -> None:
        self.setting = setting
        self.reason = reason
        super().__init__(f"--{setting.replace('_', '-')} {value}: {reason}")


@dataclass(frozen=True, slots=True)
class Settings:
    """The station's settings. Port 0 lets the system choose every port.

    `port` is HTTP and control (TCP) and time (UDP); `port` + 1 takes live audio (TCP), + 2 sends
    RTP (UDP), + 3 hears RTCP (UDP), + 4 is the gateway (TCP). All TCP is TLS, with the certificate
    and the key of these two PEM files, or without them with those in `data`, which is the
    station's folder; None is none, for tests of what needs none.

    `senders` processes share the loudspeakers that are sent sound by UDP; each has a spare one.
    `halls` are processes that hold loudspeakers' sessions for control, for more of them than one
    process may have descriptors. `bind` may be "::" for every address of IPv4 and IPv6.

    `database` is the URL of one on a PostgreSQL server, None for a file in `data`. There may be a
    password in it, which is never shown.

    The heads of the audit log are anchored in `audit_file` (a whole path), at `audit_syslog`
    (`host[:port]`, or the path of a socket) and at `audit_webhook` (a URL, which may be a secret);
    each None for not at all. Rows of that log are kept for `audit_days`, and what is known of past
    programmes for `programmes_days`; 0 is for ever.
    """

    bind: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    interface: str | None = None
    groups: str = "239.192.76.0/24"
    group_port: int = 5004
    ttl: int = 1
    announce: bool = True
    senders: int = 1
    halls: int = 0
    database: str | None = field(default=None, repr=False)
    tls_certificate: str | None = None
    tls_key: str | None = None
    audit_file: str | None = None
    audit_syslog: str | None = None
    audit_webhook: str | None = field(default=None, repr=False)
    audit_days: int = 3_650
    programmes_days: int = 365
    data: Path | None = None

    def __post_init__(self) -> None:
        _check_bind(self.bind)
        if self.interface is not None:
            _check_interface(self.interface)
        if not 0 <= self.port <= 65531:
            raise WrongSettingError("port", self.port, "use 1 to 65531, or 0 for any free ports")
        if not 0 <= self.ttl <= 255:
            raise WrongSettingError("ttl", self.ttl, "use 0 to 255")
        if not 0 < self.group_port < 65535 or self.group_port % 2:
            # RTP on the even port, RTCP on the next (RFC 3550 section 11).
            raise WrongSettingError("group_port", self.group_port, "use an even port")
        _check_counts(self.senders, self.halls)
        _check_groups(self.groups)
        _check_tls(self.tls_certificate, self.tls_key)
        if self.database is not None:
            _check_database(self.database)
        _check_anchors(self.audit_file, self.audit_syslog, self.audit_webhook)
        _check_days("audit_days", self.audit_days)
        _check_days("programmes_days", self.programmes_days)


def _check_bind(address: str) -> None:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        raise WrongSettingError("bind", address, "use an IP address of this machine") from None
    if ip.version == 6 and (ip.ipv4_mapped is not None or ip.scope_id is not None):
        raise WrongSettingError("bind", address, "use an IPv4 address, or a global IPv6 one")


def _check_interface(address: str) -> None:
    try:
        ip = ipaddress.IPv4Address(address)
    except ValueError:
        reason = "use an IPv4 address of this machine"
        raise WrongSettingError("interface", address, reason) from None
    if ip.is_unspecified:
        reason = "name the one address that multicast leaves by"
        raise WrongSettingError("interface", address, reason)


def _check_counts(senders: int, halls: int) -> None:
    if not 1 <= senders <= MAX_SENDERS:
        raise WrongSettingError("senders", senders, f"use 1 to {MAX_SENDERS}")
    if not 0 <= halls <= MAX_HALLS:
        raise WrongSettingError("halls", halls, f"use 0 to {MAX_HALLS}")


def _check_tls(certificate: str | None, key: str | None) -> None:
    given = {"tls_certificate": certificate, "tls_key": key}
    for setting, path in given.items():
        if path is None:
            continue
        if not Path(path).is_absolute():
            # A relative one in loa.toml would be of whatever folder `loa serve` is started in.
            raise WrongSettingError(setting, path, "use the whole path, from / on")
        if None in given.values():
            other = "tls_key" if setting == "tls_certificate" else "tls_certificate"
            raise WrongSettingError(setting, path, f"set {other} as well")


def _check_database(url: str) -> None:
    reason = "use postgresql://user:password@host/name"
    try:
        parts = urlsplit(url)
        whole = parts.scheme in {"postgresql", "postgres"} and len(parts.path) > 1
        parts.port  # noqa: B018 - ValueError if it is no number
    except ValueError:
        whole = False
    if not whole:
        raise WrongSettingError("database", HIDDEN, reason)


def _check_anchors(file: str | None, syslog: str | None, webhook: str | None) -> None:
    for setting, value, shown, check in (
        ("audit_file", file, file, check_file),
        ("audit_syslog", syslog, syslog, syslog_address),
        ("audit_webhook", webhook, HIDDEN, check_webhook),
    ):
        try:
            if value is not None:
                check(value)
        except AnchorError as error:
            raise WrongSettingError(setting, shown, str(error)) from None


def _check_days(setting: str, days: int) -> None:
    if not 0 <= days <= MAX_DAYS:
        raise WrongSettingError(setting, days, f"use 1 to {MAX_DAYS}, or 0 for ever")


def _check_groups(groups: str) -> None:
    try:
        network = ipaddress.IPv4Network(groups)
    except ValueError:
        raise WrongSettingError("groups", groups, "use a range such as 239.192.76.0/24") from None
    if not network.is_multicast:
        raise WrongSettingError("groups", groups, "that is no multicast range (224.0.0.0/4)")
    if network.overlaps(_RESERVED):
        raise WrongSettingError(
            "groups",
            groups,
            f"{_RESERVED} belongs to routers (RFC 5771); use a range such as 239.192.76.0/24",
        )
