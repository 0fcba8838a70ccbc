"""How an operator writes where heads of the log shall be anchored. Pure, and quick to load."""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

SYSLOG_PORT: Final = 514


class AnchorError(ValueError):
    """An anchor's address that is none; says in a few words what to write."""


def check_file(text: str) -> str:
    """The path of a file, whole."""
    if not Path(text).is_absolute() or not text.isprintable():
        raise AnchorError("use the whole path, from / on")
    return text


def syslog_address(text: str) -> tuple[str, int] | str:
    """Of `host`, `host:port` or `[address]:port`, or the path of a socket."""
    if text.startswith("/") and text.isprintable():
        return text
    parts = _split(f"udp://{text}")
    if parts is None or parts[2]:
        raise AnchorError("use HOST, HOST:PORT, or the path of a socket such as /dev/log")
    host, port, _ = parts
    return host, port or SYSLOG_PORT


def check_webhook(text: str) -> str:
    """A URL, with a path and a query as they shall be asked for."""
    scheme = text.partition("://")[0]
    strange = "@" in text or "#" in text or not text.isascii()
    if scheme not in {"http", "https"} or strange or _split(text) is None:
        raise AnchorError("use a URL such as https://log.example.org/loa")
    return text


def _split(url: str) -> tuple[str, int | None, str] | None:
    """Host, port and what follows; None if that is no URL."""
    if not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        if not parts.hostname:
            return None
        return parts.hostname, parts.port, parts.path + parts.query
    except ValueError:
        return None
