"""The loudspeakers of a directory as arrays, so that a definition is answered for all at once."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from server.directory import SEPARATOR, Endpoint
from server.zones.definition import (
    Definition,
    Difference,
    Polygon,
    Speakers,
    Tag,
    Union,
    Unit,
    Zone,
)
from server.zones.polygon import Area

Mask = NDArray[np.bool_]
"""For each loudspeaker of a roll whether it is meant. Shared: never written to once returned."""


class Roll:
    """Loudspeakers as they were when the roll was made."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        # In the order of their units' labels, so that a unit with all below it is one stretch.
        # Paths as written would not do: "A/1 b" comes between "A/1" and "A/1/a".
        of_unit = defaultdict(list)
        for endpoint in endpoints:
            of_unit[endpoint.unit].append(endpoint)
        units = sorted((tuple(path.split(SEPARATOR)), path) for path in of_unit)
        self._labels = [labels for labels, _ in units]
        # Where each unit begins, and the end of the last.
        self._starts = [0, *accumulate(len(of_unit[path]) for _, path in units)]
        in_order = [endpoint for _, path in units for endpoint in of_unit[path]]
        self._names = np.array([endpoint.name for endpoint in in_order], dtype=object)
        self._places = {endpoint.name: place for place, endpoint in enumerate(in_order)}
        tagged = defaultdict(list)
        for place, endpoint in enumerate(in_order):
            for tag in endpoint.tags:
                tagged[tag].append(place)
        self._tagged = dict(tagged)
        placed = [(n, e.position) for n, e in enumerate(in_order) if e.position is not None]
        self._placed = np.array([place for place, _ in placed], dtype=np.intp)
        self._longitudes = np.array([p.longitude for _, p in placed], dtype=np.float64)
        self._latitudes = np.array([p.latitude for _, p in placed], dtype=np.float64)

    def everybody(self) -> Mask:
        """All loudspeakers."""
        return np.ones(len(self._names), dtype=np.bool_)

    def meant(self, definition: Definition, zones: Mapping[str, Mask]) -> Mask:
        """Whom a definition means, given whom the zones that it names mean.

        A unit or a loudspeaker that is gone means nobody.
        """
        match definition:
            case Unit() | Tag() | Speakers():
                return self._listed(definition)
            case Polygon(area=area):
                return self._inside(area)
            case Zone(name):
                return zones[name]
            case Union(members):
                return self._any(members, zones)
            case Difference(first, others):
                return self.meant(first, zones) & ~self._any(others, zones)

    def names(self, mask: Mask) -> frozenset[str]:
        """The names of those meant."""
        return frozenset(self._names[mask].tolist())

    def place(self, name: str) -> int:
        """Where in a mask a loudspeaker is."""
        return self._places[name]

    def _any(self, definitions: tuple[Definition, ...], zones: Mapping[str, Mask]) -> Mask:
        mask = np.zeros(len(self._names), dtype=np.bool_)
        for definition in definitions:
            mask |= self.meant(definition, zones)
        return mask

    def _listed(self, definition: Unit | Tag | Speakers) -> Mask:
        """Those whose places are known beforehand."""
        mask = np.zeros(len(self._names), dtype=np.bool_)
        match definition:
            case Unit(path):
                mask[self._stretch(path)] = True
            case Tag(name):
                mask[self._tagged.get(name, [])] = True
            case Speakers(names):
                mask[[self._places[name] for name in names if name in self._places]] = True
        return mask

    def _stretch(self, path: str) -> slice:
        """Where a unit and all below it are."""
        first = tuple(path.split(SEPARATOR))
        # The least text after a label is the label and a zero, which no label holds.
        after = (*first[:-1], first[-1] + "\0")
        begin, end = bisect_left(self._labels, first), bisect_left(self._labels, after)
        return slice(self._starts[begin], self._starts[end])

    def _inside(self, area: Area) -> Mask:
        mask = np.zeros(len(self._names), dtype=np.bool_)
        mask[self._placed] = area.covers(self._longitudes, self._latitudes)
        return mask
