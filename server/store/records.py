"""What comes out of the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from server.directory import Endpoint
from server.enrolment import Code


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a station begins with.

    `station_name` is also the path of the root unit; `units` has every path, a parent before its
    children. `last_seen`: UTC seconds by loudspeaker, of those that were ever seen. Zones are
    (name, definition as plain JSON), and `clear_zones` those of them that may sound in clear.
    `last_programme_number` is 0 before the first; `codes` are those that nobody has used.
    """

    station_name: str
    units: tuple[str, ...]
    endpoints: tuple[Endpoint, ...]
    last_seen: Mapping[str, int]
    zones: tuple[tuple[str, Any], ...]
    last_programme_number: int
    clear_zones: frozenset[str] = frozenset()
    codes: tuple[Code, ...] = ()

    @property
    def root(self) -> str:
        """The root unit's path."""
        return self.station_name


@dataclass(frozen=True, slots=True)
class ProgrammeRecord:
    """A programme that was, or is. Instants are UTC seconds; `request` is plain JSON.

    `why_ended` is None while it is on air. `ended_at` is None then, and also where nobody was
    there to see the end: the station was killed.
    """

    number: int
    name: str
    priority: int
    request: Any
    playout_delay_ms: float
    began_at: int
    ended_at: int | None = None
    why_ended: str | None = None
