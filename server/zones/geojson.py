"""Areas as maps and people write them, as plain definitions for `parse` to judge."""

import json
import re
from typing import Any

from server.zones.errors import ZoneError

Plain = dict[str, object]

_AREAS = ("Polygon", "MultiPolygon")


def from_geojson(text: str) -> Plain:
    """The one area in a GeoJSON text (RFC 7946): Polygon, MultiPolygon, Feature or collection.

    A hole is taken away with its border. Points and lines beside the area bound nothing and are
    passed over.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ZoneError(f"this is no GeoJSON: {error}") from None
    areas = [geometry for geometry in _geometries(value) if geometry.get("type") in _AREAS]
    if len(areas) != 1:
        raise ZoneError(f"one Polygon or MultiPolygon is meant here, not {len(areas)}")
    coordinates = _several(areas[0].get("coordinates"), "coordinates")
    if areas[0]["type"] == "Polygon":
        return _polygon(coordinates)
    polygons = [_polygon(_several(polygon, "a polygon's rings")) for polygon in coordinates]
    return polygons[0] if len(polygons) == 1 else {"union": polygons}


def from_corners(text: str) -> Plain:
    """An area from `lat,lon lat,lon lat,lon`, latitude first, as people say it.

    A space after the comma, as online maps copy it, does no harm.
    """
    return {"polygon": [_corner(word) for word in re.sub(r",\s+", ",", text).split()]}


def _geometries(value: object) -> list[dict[str, Any]]:
    """The geometries of a GeoJSON object, whatever they are."""
    match value:
        case {"type": "FeatureCollection", "features": list(features)}:
            return [geometry for feature in features for geometry in _of_feature(feature)]
        case {"type": "Feature"}:
            return _of_feature(value)
        case dict(geometry) if isinstance(geometry.get("type"), str):
            return [geometry]
        case _:
            raise ZoneError("this is no GeoJSON: a geometry, Feature or FeatureCollection is meant")


def _of_feature(feature: object) -> list[dict[str, Any]]:
    match feature:
        case {"type": "Feature", "geometry": dict(geometry)}:
            return [geometry]
        case {"type": "Feature"}:
            return []  # RFC 7946 section 3.2: a feature without a place has null here
        case _:
            raise ZoneError("this is no GeoJSON: a feature is not of type Feature")


def _several(value: object, what: str) -> list[object]:
    if not isinstance(value, list) or not value:
        raise ZoneError(f"this is no GeoJSON: {what} are not a list, or an empty one")
    return value


def _polygon(rings: list[object]) -> Plain:
    """The first ring bounds the area, the others are holes in it (RFC 7946 section 3.1.6)."""
    polygons: list[Plain] = [{"polygon": ring} for ring in rings]
    return polygons[0] if len(polygons) == 1 else {"difference": polygons}


def _corner(word: str) -> list[float]:
    latitude, _, longitude = word.partition(",")
    try:
        corner = [float(longitude), float(latitude)]
    except ValueError:
        raise ZoneError(f"{word[:64]!r} is no corner: write latitude,longitude") from None
    if abs(corner[1]) > 90:
        raise ZoneError(f"{word[:64]!r} has a latitude beyond 90: write latitude,longitude")
    return corner
