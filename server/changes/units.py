"""How many of a set of loudspeakers are in which unit, and where that differs. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping

from server.directory import Endpoint

Counts = Mapping[str, int]


def count_units(names: Iterable[str], endpoints: Mapping[str, Endpoint]) -> Counts:
    """Of those that are registered."""
    return Counter(endpoints[name].unit for name in names if name in endpoints)


def differing(before: Counts, now: Counts) -> set[str]:
    """The units of which there are more or fewer."""
    both = before.keys() | now.keys()
    return {unit for unit in both if before.get(unit, 0) != now.get(unit, 0)}
