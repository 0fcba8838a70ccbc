"""Where a loudspeaker is, how it is, and what way sound has to it. Pure state."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple

from server.processes.routing import pack_destination
from transport.control.lateness import Lateness
from transport.control.messages import Telemetry

# Neighbours do not tell of a window at the same time: for some it is the last but one already.
_WINDOWS = 2


class Path(NamedTuple):
    """Where a loudspeaker's media port is seen to be; RTP and RTCP on one port (RFC 5761)."""

    address: str
    port: int

    @property
    def packed(self) -> bytes:
        """One row of `routing.DESTINATION`."""
        return pack_destination(self.address, self.port, self.port)


@dataclass(slots=True)
class Speaker:
    """Where a registered loudspeaker was last seen, how it is, and what way sound has to it.

    `key` is the public key that it has proved. `path` is where its media port is seen to be: to no
    other address is anything sent. The sessions that opened its ways have numbers: a new session
    may come before a new way, and until then the old one serves. `telemetry_s` is how often it was
    asked to say how it is. `lateness` is what it told of the newest windows, newest first.
    """

    name: str
    key: bytes
    address: str
    last_seen_ns: int
    session: object | None = None
    telemetry: Telemetry | None = None
    session_number: int = 0
    path: Path | None = None
    path_number: int = 0
    relay_number: int = 0
    telemetry_s: float = 0.5
    lateness: tuple[Lateness, ...] = ()

    def told(self, telemetry: Telemetry) -> None:
        """It says how it is."""
        self.telemetry = telemetry
        newest = telemetry.lateness
        if newest is not None and newest not in self.lateness:
            self.lateness = (newest, *self.lateness[: _WINDOWS - 1])

    @property
    def relayed(self) -> bool:
        """Whether it hears through the gateway, and then not by UDP."""
        return self.relay_number != 0

    @property
    def numbers(self) -> set[int]:
        """Of the sessions that it is known by."""
        return {self.session_number, self.path_number, self.relay_number} - {0}

    def come_after(self, known: "Speaker | None") -> "Speaker":
        """The same loudspeaker as `known`, whose ways are open until its own are."""
        if known is not None:
            self.path, self.path_number = known.path, known.path_number
            self.relay_number = known.relay_number
        return self

    def opened(self, session: int, address: str, port: int) -> bool:
        """Its path is open, or has moved; true if sound must take another way."""
        if session not in {self.session_number, self.path_number}:
            return False
        before, self.path_number = self.path, session
        self.path = Path(address, port)
        return self.path != before

    def closed(self, session: int) -> bool:
        """The path that this session opened is gone; true if sound went there."""
        if session != self.path_number:
            return False
        self.path, self.path_number = None, 0
        return True

    def at_gateway(self, sessions: AbstractSet[int]) -> bool:
        """Whether it is among these; true if sound must take another way."""
        before = self.relay_number
        mine = (number for number in (self.session_number, before) if number in sessions)
        self.relay_number = next(mine, 0)
        return self.relay_number != before

    def to_plain(self) -> list[Any]:
        """What outlives control, in text, numbers and lists; its session does not."""
        where = [self.name, self.key, self.address, self.last_seen_ns, self.session_number]
        return [*where, self.path, self.path_number, self.relay_number]

    @classmethod
    def of_plain(cls, plain: Any) -> "Speaker":
        """As `to_plain` said; TypeError or ValueError if that makes no sense."""
        name, key, address, last_seen_ns, session_number, path, path_number, relay_number = plain
        return cls(
            name,
            key,
            address,
            last_seen_ns,
            session_number=session_number,
            path=None if path is None else Path(*path),
            path_number=path_number,
            relay_number=relay_number,
        )
