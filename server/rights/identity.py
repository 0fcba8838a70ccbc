"""Who asks, and what that may do. Pure."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Literal

from server.directory import SEPARATOR
from server.errors import StationError
from server.rights.table import DANGEROUS, Deed, Grant, Role, is_reached, may, reach, roles_for

Kind = Literal["user", "token", "machine"]
_SHOWN = 5


class ForbiddenError(StationError):
    """Whoever asks may not; one line that says what it would need."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: a person who signed in, a token of one, or the machine's own token.

    `session` is the number of the session or the token, for logs; None of the machine's. `fresh`
    if that signed in a moment ago. `urgent` if a token may speak urgently. Of whoever has yet to
    choose a password of his own `held_up` says so, and he may do nothing else.
    """

    name: str
    kind: Kind
    grants: frozenset[Grant]
    session: str | None = None
    fresh: bool = False
    urgent: bool = False
    held_up: bool = False
    _reached: dict[Deed, frozenset[str]] = field(
        default_factory=dict, repr=False, compare=False, init=False
    )

    @classmethod
    def machine(cls, root: str) -> "Identity":
        """Whoever has the operator's token, which only the station's user can read."""
        grants = frozenset(Grant(role, root) for role in Role)
        return cls("token", "machine", grants, fresh=True, urgent=True)

    @property
    def who(self) -> str:
        """For logs: a user's name, and which of his tokens."""
        return f"{self.name} (token {self.session})" if self.kind == "token" else self.name

    def reach(self, deed: Deed) -> frozenset[str]:
        """The units at and below which this may be done."""
        if deed not in self._reached:
            self._reached[deed] = reach(self.grants, deed)
        return self._reached[deed]

    def reaches(self, deed: Deed, unit: str) -> bool:
        """Whether this may be done at a unit, as far as grants go."""
        return is_reached(unit, self.reach(deed))

    def check_somewhere(self, deed: Deed) -> None:
        """ForbiddenError unless there is a unit where this may be done."""
        self._check_held_up()
        if not self.reach(deed):
            raise ForbiddenError(f"{_needs(deed)}: {self.name} has none of these rights")

    def check_everywhere(self, deed: Deed) -> None:
        """ForbiddenError unless this may be done at the station's own unit, and so everywhere."""
        if not any(SEPARATOR not in unit for unit in self.reach(deed)):
            self._check_held_up()
            raise ForbiddenError(f"{_needs(deed)} at the station's own unit")
        self.check(deed, ())

    def check(self, deed: Deed, units: Collection[str]) -> None:
        """ForbiddenError unless this may be done at every one of these units; see `may`."""
        self._check_held_up()
        if not may(self.grants, deed, units):
            raise ForbiddenError(f"{_needs(deed)} {self._where(deed, units)}")
        self.check_fresh(deed)

    def check_fresh(self, deed: Deed) -> None:
        """ForbiddenError if this is dangerous, and whoever asks has not just signed in."""
        if deed not in DANGEROUS or self.fresh:
            return
        if self.kind != "token":
            raise ForbiddenError(f"to {deed} sign in again: `loa login`; it is good for 5 minutes")
        if not (deed is Deed.SPEAK_URGENTLY and self.urgent):
            raise ForbiddenError(f"this token may not {deed}: that is for people who sign in")

    def _check_held_up(self) -> None:
        if self.held_up:
            raise ForbiddenError(
                f"{self.name} has yet to choose a password: `loa users password {self.name}`"
            )

    def _where(self, deed: Deed, units: Collection[str]) -> str:
        missing = sorted({unit for unit in units if not self.reaches(deed, unit)})
        if not missing:
            return "at the station's own unit"
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        return f"at {', '.join(missing[:_SHOWN])}{more}"


def _needs(deed: Deed) -> str:
    return f"to {deed} needs the right of {' or '.join(sorted(roles_for(deed)))}"


def check_grants_within(asker: Identity, grants: Iterable[Grant]) -> None:
    """ForbiddenError unless the asker administers every unit of these grants; none is the root's.

    So nobody can give, take or use rights beyond his own by way of another user.
    """
    asker.check(Deed.MANAGE_USERS, {grant.unit for grant in grants})
