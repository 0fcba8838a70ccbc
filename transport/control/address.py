"""Where a station is."""

import re
from dataclasses import dataclass

DEFAULT_PORT = 7460
# A name or an IPv4 address. What else a URL may hold would be tried for ever, in vain.
_HOST = re.compile(r"[\w.-]+")


@dataclass(frozen=True, slots=True)
class StationAddress:
    """The host and control port of a station."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> "StationAddress":
        """From `host` or `host:port`; ValueError for anything else."""
        host, colon, port = text.rpartition(":")
        if not colon:
            host, port = text, str(DEFAULT_PORT)
        fits = port.isascii() and port.isdigit() and len(port) < 6 and 0 < int(port) < 65536
        if not fits or not _is_host(host):
            raise ValueError(f"{text!r} is no station's address: use host or host:port")
        return cls(host, int(port))

    @property
    def is_here(self) -> bool:
        """Whether it is what a machine calls itself, so that no other finds it there."""
        return self.host == "localhost" or self.host.startswith("127.")

    @property
    def text(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


def _is_host(text: str) -> bool:
    try:
        text.encode("idna")  # as whoever looks the name up will: RFC 1035 section 2.3.4
    except UnicodeError:
        return False
    return bool(_HOST.fullmatch(text))
