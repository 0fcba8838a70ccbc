"""Where a station is."""

from dataclasses import dataclass

DEFAULT_PORT = 7460


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
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"{text!r} is no station's address: use host or host:port")
        return cls(host, int(port))

    @property
    def text(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"
