import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.zones.definition import Polygon, parse
from server.zones.errors import ZoneError
from server.zones.geojson import from_corners, from_geojson

OUTER = [[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]
HOLE = [[1, 1], [2, 1], [2, 2], [1, 1]]
FAR = [[20, 20], [21, 20], [21, 21], [20, 20]]


def polygon(*rings: object) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def feature(geometry: object) -> dict[str, Any]:
    return {"type": "Feature", "properties": {"name": "Tân Phú"}, "geometry": geometry}


def collection(*features: object) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": list(features)}


POINT = feature({"type": "Point", "coordinates": [1, 2]})
PLAIN = {"polygon": OUTER}
WITH_HOLE = {"difference": [{"polygon": OUTER}, {"polygon": HOLE}]}


# ------------------------------------------------------------------ GeoJSON
@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (polygon(OUTER), PLAIN),
        (feature(polygon(OUTER)), PLAIN),
        (collection(feature(polygon(OUTER))), PLAIN),
        (collection(POINT, feature(None), feature(polygon(OUTER))), PLAIN),
        (polygon(OUTER, HOLE), WITH_HOLE),
        ({"type": "MultiPolygon", "coordinates": [[OUTER]]}, PLAIN),
        (
            feature({"type": "MultiPolygon", "coordinates": [[OUTER, HOLE], [FAR]]}),
            {"union": [WITH_HOLE, {"polygon": FAR}]},
        ),
    ],
)
def test_an_area_becomes_a_plain_definition(value: object, plain: dict[str, Any]) -> None:
    assert from_geojson(json.dumps(value)) == plain
    parse(plain)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("", "this is no GeoJSON: Expecting value"),
        ("[" * 100_000, "this is no GeoJSON"),
        ("[]", "a geometry, Feature or FeatureCollection is meant"),
        ("{}", "a geometry, Feature or FeatureCollection is meant"),
        (collection(5), "a feature is not of type Feature"),
        (POINT, "one Polygon or MultiPolygon is meant here, not 0"),
        (feature(None), "not 0"),
        ({"type": "GeometryCollection", "geometries": [polygon(OUTER)]}, "not 0"),
        (collection(feature(polygon(OUTER)), feature(polygon(FAR))), "not 2"),
        ({"type": "Polygon"}, "coordinates are not a list"),
        (polygon(), "coordinates are not a list, or an empty one"),
        ({"type": "MultiPolygon", "coordinates": [5]}, "a polygon's rings are not a list"),
        ({"type": "MultiPolygon", "coordinates": [[]]}, "a polygon's rings are not a list"),
    ],
)
def test_what_is_no_area_is_refused_in_one_line(value: object, why: str) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(ZoneError) as caught:
        from_geojson(text)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


TYPES = ("Polygon", "MultiPolygon", "Feature", "FeatureCollection", "Point")
FIELDS = st.sampled_from(["type", "geometry", "features", "coordinates"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from(TYPES) | st.just(OUTER),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=15,
)


@given(st.text(max_size=50) | VALUES.map(json.dumps))
def test_any_text_is_an_area_or_a_zone_error(text: str) -> None:
    try:
        parse(from_geojson(text))
    except ZoneError:
        return


# ------------------------------------------------------------------ the command line
@pytest.mark.parametrize(
    "text",
    ["21,105 21,106 22.5,106", " 21,105   21,106\n22.5,106 ", "21, 105 21,\t106 22.5, 106"],
)
def test_corners_are_written_latitude_first(text: str) -> None:
    plain = from_corners(text)
    assert plain == {"polygon": [[105.0, 21.0], [106.0, 21.0], [106.0, 22.5]]}
    assert isinstance(parse(plain), Polygon)


@pytest.mark.parametrize("word", ["21", ",21", "21,x", "21,105,7", "21;105"])
def test_a_word_that_is_no_corner_is_shown(word: str) -> None:
    with pytest.raises(ZoneError, match=f"'{word}' is no corner: write latitude,longitude"):
        from_corners(f"21,105 {word} 22,106")


def test_corners_with_longitude_first_are_told_the_order() -> None:
    with pytest.raises(ZoneError, match=r"'105\.8,21' has a latitude beyond 90: write latitude"):
        from_corners("105.8,21 105.9,21 105.9,22")


@given(st.text("0123456789.,- ne\u0661", max_size=60) | st.text(max_size=30))
def test_any_corners_are_an_area_or_a_zone_error(text: str) -> None:
    try:
        parse(from_corners(text))
    except ZoneError:
        return
