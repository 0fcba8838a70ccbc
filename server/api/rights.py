"""What each route needs: it is stated where the route is, and nothing is served without.

A route names a deed and what that concerns. Where that is the station, or oneself, it is checked
before the route runs; where it depends on what is named, the route checks every unit of it, under
the same lock as the change; and where it is seen, the answer is cut to what may be seen.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.routing import APIRoute

from server.rights.identity import Identity
from server.rights.table import Deed
from server.station import Station
from server.zones.definition import Definition, units_named

# The one route that FastAPI makes by itself; it describes the others.
_DESCRIPTION = "/api/v1/openapi.json"


class Of(StrEnum):
    """What a deed concerns."""

    STATION = "the station"
    NAMED = "the units of what is named"
    SEEN = "the units that are seen"
    ONESELF = "oneself"
    NOBODY = "what is open to everybody"


@dataclass(frozen=True, slots=True)
class Right:
    """What a route needs; the identity of whoever asks comes of it."""

    of: Of
    deed: Deed | None = None

    async def __call__(self, request: Request) -> Identity | None:
        """Before the route runs; ForbiddenError if it need not."""
        identity: Identity | None = getattr(request.state, "identity", None)
        if self.of is Of.NOBODY:
            return identity
        if identity is None:
            raise RuntimeError("a route that needs a right is open: see server.keys.access")
        if self.deed is not None:
            if self.of is Of.STATION:
                identity.check_everywhere(self.deed)
            else:
                identity.check_somewhere(self.deed)
        return identity


def _needs(of: Of, deed: Deed | None = None) -> Any:
    return Depends(Right(of, deed))


OPEN = _needs(Of.NOBODY)
Anybody = Annotated[Identity, _needs(Of.ONESELF)]
Viewer = Annotated[Identity, _needs(Of.SEEN, Deed.SEE)]
# Which right it needs depends on what is to be different.
Changer = Annotated[Identity, _needs(Of.NAMED, Deed.SEE)]
RootViewer = Annotated[Identity, _needs(Of.STATION, Deed.SEE)]
Speaker = Annotated[Identity, _needs(Of.NAMED, Deed.SPEAK)]
Stopper = Annotated[Identity, _needs(Of.NAMED, Deed.STOP)]
ZoneEditor = Annotated[Identity, _needs(Of.NAMED, Deed.EDIT_ZONES)]
Manager = Annotated[Identity, _needs(Of.NAMED, Deed.MANAGE_SPEAKERS)]
Enroller = Annotated[Identity, _needs(Of.NAMED, Deed.ENROL)]
UnitEditor = Annotated[Identity, _needs(Of.NAMED, Deed.EDIT_UNITS)]
UserManager = Annotated[Identity, _needs(Of.NAMED, Deed.MANAGE_USERS)]
Auditor = Annotated[Identity, _needs(Of.STATION, Deed.READ_AUDIT)]
Keeper = Annotated[Identity, _needs(Of.STATION, Deed.KEEP)]


def right_of(route: APIRoute) -> Right | None:
    """What a route states; None if it states nothing."""
    stated = [d.call for d in route.dependant.dependencies if isinstance(d.call, Right)]
    return stated[0] if len(stated) == 1 else None


def check_stated(api: FastAPI) -> None:
    """RuntimeError if there is a route that does not say, once, what it needs."""
    for route in api.routes:
        path = getattr(route, "path", str(route))
        if isinstance(route, APIRoute):
            if right_of(route) is None:
                raise RuntimeError(f"{path} does not state one right: see server.api.rights")
        elif path != _DESCRIPTION:
            raise RuntimeError(f"{path} is no route that can state a right")


# ------------------------------------------------------------------ which units it concerns
def units_of(station: Station, names: Iterable[str]) -> set[str]:
    """Where these loudspeakers are; NoSuchError for one that is not registered."""
    return {station.directory.endpoint(name).unit for name in names}


def check_named(
    identity: Identity, deed: Deed, station: Station, names: Collection[str]
) -> Callable[[], None]:
    """A check that this may be done to these loudspeakers, wherever they are when it is called."""
    return lambda: identity.check(deed, units_of(station, names)) if names else None


def units_of_zone(station: Station, definition: Definition, members: Iterable[str]) -> set[str]:
    """What a zone concerns: where its members are, and the units that it names."""
    return units_of(station, members) | set(units_named(definition))
