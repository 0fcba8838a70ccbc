"""The newest changes there were, numbered, in a ring. Pure; `now` is an argument."""

import re
from enum import StrEnum
from typing import NamedTuple

# Every one of 20,000 loudspeakers may change at once, and who reads four times a second misses
# none. A change is 150 bytes.
_SIZE = 1 << 15
_ALIKE = 1_000
_MARK = re.compile(r"([0-9]{1,10})-([0-9]{1,18})")


class Kind(StrEnum):
    """Of what something is told."""

    PROGRAMME = "programme"
    SPEAKER = "speaker"
    ZONE = "zone"
    UNIT = "unit"
    ENROLMENT = "enrolment"
    PENDING = "pending"

    @property
    def is_of_enrolment(self) -> bool:
        """Whether it is for who may enrol alone."""
        return self in {Kind.ENROLMENT, Kind.PENDING}


class What(StrEnum):
    """What has become of it."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    BEGUN = "begun"
    ENDED = "ended"
    ONLINE = "online"
    OFFLINE = "offline"
    FAULT = "fault"


class Change(NamedTuple):
    """One change, of the thing of a name.

    `at_ns` is nanoseconds since 1970 (UTC). `units` are those that it concerns, before and after:
    so who has seen the thing hears that it is gone, or gone elsewhere. `enrols` if it is for who
    may enrol there alone.
    """

    seq: int
    at_ns: int
    kind: Kind
    what: What
    name: str
    units: tuple[str, ...]
    enrols: bool


class Changes:
    """As many as fit; what is older is forgotten."""

    def __init__(self, boot: int, size: int = _SIZE) -> None:
        """`boot` is how often the station has begun: numbers of another life say nothing here."""
        self._boot = boot
        self._size = size
        self._ring: list[Change] = []
        # What is heard everywhere concerns thousands of units, again and again.
        self._alike: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.head = 0
        """The number of the newest; 0 before the first."""

    def add(self, at_ns: int, kind: Kind, what: What, name: str, units: tuple[str, ...]) -> None:
        """One more."""
        if len(self._alike) >= _ALIKE:
            self._alike.clear()
        units = self._alike.setdefault(units, units)
        self.head += 1
        change = Change(self.head, at_ns, kind, what, name, units, kind.is_of_enrolment)
        if len(self._ring) < self._size:
            self._ring.append(change)
        else:
            self._ring[(self.head - 1) % self._size] = change

    def after(self, seq: int, most: int) -> list[Change] | None:
        """Up to so many that follow a number, in order; None if one of them is forgotten."""
        if not self.head - len(self._ring) <= seq <= self.head:
            return None
        begin, count = seq % self._size, min(most, self.head - seq)
        found = self._ring[begin : begin + count]
        return found + self._ring[: count - len(found)]

    # ------------------------------------------------------------- for who comes back
    def mark(self, seq: int) -> str:
        """A number as it is told, with the life that it is of."""
        return f"{self._boot}-{seq}"

    def place(self, mark: str) -> int | None:
        """The number that was told so; None if it says nothing here."""
        found = _MARK.fullmatch(mark)
        if found is None or int(found[1]) != self._boot:
            return None
        return int(found[2])
