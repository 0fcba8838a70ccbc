"""What it takes to speak, and where that may be heard. Pure."""

from collections.abc import Collection

from server.rights.identity import Identity
from server.rights.table import Deed
from transport.control.priority import Priority


def deed_of(priority: int) -> Deed:
    """What it is to speak at a priority."""
    return Deed.SPEAK_URGENTLY if priority >= Priority.PRIORITY else Deed.SPEAK


def reach_of(opener: Identity, priority: int, units: Collection[str]) -> frozenset[str]:
    """Where a programme may be heard at all that is for loudspeakers in these units now.

    ForbiddenError if they are not all within. It may be for nobody yet: whoever is added
    later hears it within the reach alone.
    """
    deed = deed_of(priority)
    opener.check_somewhere(deed)
    opener.check_fresh(deed)
    if units:
        opener.check(deed, units)
    return opener.reach(deed)
