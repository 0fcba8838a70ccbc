"""Roles, deeds, and the one table of which role allows which deed. Pure.

A role is held at a unit, for that unit and everything below it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from server.directory import SEPARATOR, is_within
from server.errors import StationError


class Role(StrEnum):
    """What somebody is at a unit."""

    VIEWER = "viewer"
    EDITOR = "editor"
    APPROVER = "approver"
    OPERATOR = "operator"
    EMERGENCY = "emergency"
    ADMINISTRATOR = "administrator"

    @classmethod
    def parse(cls, text: str) -> "Role":
        """A role by its name; StationError, with the names there are, if it is none."""
        try:
            return cls(text)
        except ValueError:
            raise StationError(f"{text!r} is no role: use {', '.join(cls)}") from None


class Deed(StrEnum):
    """What is done; the value is how an error calls it."""

    SEE = "see"
    WRITE = "write"
    APPROVE = "approve"
    SPEAK = "speak"
    SPEAK_URGENTLY = "speak urgently"
    STOP = "stop programmes"
    EDIT_ZONES = "edit zones"
    MANAGE_SPEAKERS = "manage loudspeakers"
    ENROL = "enrol loudspeakers"
    EDIT_UNITS = "edit units"
    MANAGE_USERS = "manage users"
    READ_AUDIT = "read the audit log"
    KEEP = "keep the station"


_ROLES: dict[Deed, frozenset[Role]] = {
    Deed.SEE: frozenset(Role),
    Deed.WRITE: frozenset({Role.EDITOR}),
    Deed.APPROVE: frozenset({Role.APPROVER}),
    Deed.SPEAK: frozenset({Role.OPERATOR, Role.EMERGENCY}),
    Deed.SPEAK_URGENTLY: frozenset({Role.EMERGENCY}),
    Deed.STOP: frozenset({Role.OPERATOR, Role.EMERGENCY}),
    Deed.EDIT_ZONES: frozenset({Role.OPERATOR}),
    Deed.MANAGE_SPEAKERS: frozenset({Role.OPERATOR}),
    Deed.ENROL: frozenset({Role.ADMINISTRATOR}),
    Deed.EDIT_UNITS: frozenset({Role.ADMINISTRATOR}),
    Deed.MANAGE_USERS: frozenset({Role.ADMINISTRATOR}),
    Deed.READ_AUDIT: frozenset({Role.ADMINISTRATOR, Role.APPROVER}),
    Deed.KEEP: frozenset({Role.ADMINISTRATOR}),
}
# Wanted of people who have signed in a moment ago, for what a session left open must not do.
DANGEROUS = frozenset({Deed.SPEAK_URGENTLY, Deed.MANAGE_USERS, Deed.KEEP})


@dataclass(frozen=True, slots=True)
class Grant:
    """A role at a unit, by the unit's path."""

    role: Role
    unit: str

    def covers(self, unit: str) -> bool:
        """Whether it holds at this unit."""
        return is_within(unit, self.unit)

    @property
    def is_at_root(self) -> bool:
        """Whether it holds everywhere: only the station's own unit has a path of one part."""
        return SEPARATOR not in self.unit


def roles_for(deed: Deed) -> frozenset[Role]:
    """Whichever of these somebody is, the deed is allowed."""
    return _ROLES[deed]


def reach(grants: Iterable[Grant], deed: Deed) -> frozenset[str]:
    """The units at and below which these grants allow a deed; the outermost of them alone."""
    units = {grant.unit for grant in grants if grant.role in _ROLES[deed]}
    return frozenset(u for u in units if not any(u != o and is_within(u, o) for o in units))


def is_reached(unit: str, reached: Collection[str]) -> bool:
    """Whether a unit is one of these, or lies below one."""
    return any(is_within(unit, outer) for outer in reached)


def may(grants: Iterable[Grant], deed: Deed, units: Collection[str]) -> bool:
    """Whether these grants allow a deed at every one of these units.

    Where it concerns no unit it concerns the station: then it needs a grant at the root, or, to
    see, one anywhere.
    """
    held = [grant for grant in grants if grant.role in _ROLES[deed]]
    if not units:
        return any(deed is Deed.SEE or grant.is_at_root for grant in held)
    return all(any(grant.covers(unit) for grant in held) for unit in set(units))
