"""An area on the map and who stands in it.

Edges are straight in longitude and latitude, and the short way round (RFC 7946 section 3.1.1): one
that spans more than 180 degrees of longitude crosses the antimeridian.
"""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from server.zones.errors import ZoneError

Ring = tuple[tuple[float, float], ...]
"""Corners as longitude and latitude in WGS-84 degrees."""

_PLACE = re.compile(r"\[(\S+) (\S+)\]")


def closed(ring: Ring) -> Ring:
    """The ring with its first corner again at the end, as GeoJSON wants it."""
    return ring if ring[:1] == ring[-1:] else (*ring, ring[0])


@dataclass(frozen=True, slots=True)
class Area:
    """A ring that encloses something, ready to be asked about many places at once."""

    shape: Any
    bounds: tuple[float, float, float, float]

    @classmethod
    def of(cls, ring: Ring) -> "Area":
        """The area within a ring, closed or not; ZoneError with the reason if there is none."""
        for number, (longitude, latitude) in enumerate(ring, 1):
            _check_corner(number, longitude, latitude)
        if len(set(ring)) < 3:
            raise ZoneError(f"an area has 3 different corners or more, not {len(set(ring))}")
        corners = _unwrapped(closed(ring))
        shape = shapely.Polygon(corners)
        if shapely.area(shapely.convex_hull(shape)) == 0:
            raise ZoneError(
                "the corners enclose nothing: they lie on one line"
                " (edges go the short way round the earth)"
            )
        if not shapely.is_valid(shape):
            raise ZoneError(_why_invalid(str(shapely.is_valid_reason(shape))))
        shapely.prepare(shape)
        west, south, east, north = (float(bound) for bound in shapely.bounds(shape))
        if east - west > 360:
            raise ZoneError("the ring goes round the earth more than once")
        return cls(shape, (west, south, east, north))

    def covers(
        self, longitudes: NDArray[np.float64], latitudes: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Which of these places lie in the area. Its border belongs to it."""
        west, south, east, north = self.bounds
        inside = np.zeros(len(longitudes), dtype=np.bool_)
        level = (latitudes >= south) & (latitudes <= north)
        # The ring may reach past 180 degrees on either side; a place is at all its longitudes.
        for turn in (-360.0, 0.0, 360.0):
            if east < turn - 180 or west > turn + 180:
                continue
            turned = longitudes + turn
            (near,) = np.nonzero(level & (turned >= west) & (turned <= east))
            # Of a point, "intersects" is "covered by": unlike "contains" it holds on the border.
            inside[near] |= shapely.intersects_xy(self.shape, turned[near], latitudes[near])
        return inside


def _check_corner(number: int, longitude: float, latitude: float) -> None:
    if not (math.isfinite(longitude) and math.isfinite(latitude)):
        raise ZoneError(f"corner {number} is not finite")
    if abs(latitude) > 90:
        raise ZoneError(
            f"corner {number} has latitude {latitude:g}, beyond 90:"
            " GeoJSON order is longitude, latitude"
        )
    if abs(longitude) > 180:
        raise ZoneError(f"corner {number} has longitude {longitude:g}: use -180 to 180")


def _unwrapped(ring: Ring) -> list[tuple[float, float]]:
    """A closed ring with longitudes that go on past 180 instead of jumping to -180."""
    corners, turn = [ring[0]], 0.0
    for (before, _), (longitude, latitude) in pairwise(ring):
        if abs(longitude - before) > 180:
            turn += math.copysign(360.0, before - longitude)
        corners.append((longitude + turn, latitude))
    if turn:
        raise ZoneError("the ring goes round a pole: stay on one side of it")
    return corners


def _why_invalid(reason: str) -> str:
    """GEOS's reason, such as `Self-intersection[0.5 0.5]`, as one line of ours."""
    place = _PLACE.search(reason)
    if place is None:
        return f"the ring is no area: {reason}"
    longitude = math.remainder(float(place[1]), 360)
    return (
        "the ring crosses or touches itself"
        f" at longitude {longitude:.6f}, latitude {float(place[2]):.6f}"
    )
