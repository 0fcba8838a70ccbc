"""Where heads are kept out of the station's reach: a file, a log host, a web hook.

A call blocks, and raises OSError where it fails; whoever calls has patience, and a thread for it.
"""

import http.client
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

from server.audit.head import Head
from server.audit.lines import head_line
from server.audit.places import check_file, check_webhook, syslog_address

TIMEOUT_S: Final = 10.0
# RFC 5424 section 6.2.1: facility 13 (log audit), severity 5 (notice).
_PRIORITY = 13 * 8 + 5


class Anchor(Protocol):
    """One place outside; `shown` names it to people, without secrets."""

    @property
    def shown(self) -> str:
        """By what people know it."""

    def put(self, head: Head) -> None:
        """Keep a head there; OSError if that fails."""


@dataclass(frozen=True, slots=True)
class FileAnchor:
    """A file that each head is appended to, as on a disk of another machine."""

    path: Path

    @property
    def shown(self) -> str:
        """The path."""
        return f"file {self.path}"

    def put(self, head: Head) -> None:
        """On the disk when this returns."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        # A pipe that nobody reads would hold this for ever.
        descriptor = os.open(self.path, flags | os.O_NONBLOCK, 0o640)
        try:
            line = f"{head_line(head)}\n".encode()
            if os.write(descriptor, line) != len(line):
                raise OSError(0, "the disk is full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class SyslogAnchor:
    """A log host by UDP (RFC 5426), or this machine's own, by the path of its socket."""

    address: tuple[str, int] | str

    @property
    def shown(self) -> str:
        """Its address."""
        where = self.address
        return f"syslog {where if isinstance(where, str) else ':'.join(map(str, where))}"

    def put(self, head: Head) -> None:
        """It is sent; nobody says whether it came, so have the log host keep what it hears."""
        message = f"<{_PRIORITY}>1 - - loa - audit-head - {head_line(head)}".encode()
        if isinstance(self.address, str):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
                end.settimeout(TIMEOUT_S)
                end.connect(self.address)
                end.send(message)
            return
        family, *_, address = socket.getaddrinfo(*self.address, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as end:
            end.connect(address)
            end.send(message)


@dataclass(frozen=True, slots=True)
class WebhookAnchor:
    """A URL that each head is posted to, as JSON; any answer from 200 to 299 means it was kept."""

    url: str

    @property
    def shown(self) -> str:
        """Its host: the rest may be a secret."""
        return f"webhook {urlsplit(self.url).hostname}"

    def put(self, head: Head) -> None:
        """It was taken."""
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port
        connection = (
            http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT_S, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        )
        path = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        try:
            body = f"{head_line(head)}\n".encode()
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            status = connection.getresponse().status
        except http.client.HTTPException as error:
            raise OSError(0, f"what answers is no web server ({type(error).__name__})") from None
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise OSError(0, f"it answered {status}")


def anchors_of(file: str | None, syslog: str | None, webhook: str | None) -> tuple[Anchor, ...]:
    """The anchors of these settings; AnchorError if one of them cannot be."""
    made: list[Anchor] = []
    if file is not None:
        made.append(FileAnchor(Path(check_file(file))))
    if syslog is not None:
        made.append(SyslogAnchor(syslog_address(syslog)))
    if webhook is not None:
        made.append(WebhookAnchor(check_webhook(webhook)))
    return tuple(made)
