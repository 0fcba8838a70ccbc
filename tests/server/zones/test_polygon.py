import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.zones.errors import ZoneError
from server.zones.polygon import Area, Ring, closed

# A square of 0.02 degrees, about 2 km, such as a commune.
COMMUNE: Ring = ((105.80, 21.00), (105.82, 21.00), (105.82, 21.02), (105.80, 21.02))
BOW_TIE: Ring = ((0, 0), (10, 10), (10, 0), (0, 10))
FIJI: Ring = ((177, -20), (-178, -20), (-178, -15), (177, -15))


def covers(ring: Ring, *places: tuple[float, float]) -> list[bool]:
    """Which of these places, longitude first, lie in the ring."""
    longitudes, latitudes = np.array(places, dtype=np.float64).reshape(-1, 2).T
    found: list[bool] = Area.of(ring).covers(longitudes, latitudes).tolist()
    return found


# ------------------------------------------------------------------ inside and outside
def test_a_commune_holds_what_stands_in_it() -> None:
    places = [(105.81, 21.01), (105.83, 21.01), (105.81, 21.03), (21.01, 105.81), (-105.81, 21.01)]
    assert covers(COMMUNE, *places) == [True, False, False, False, False]


def test_a_point_on_the_border_or_a_corner_is_inside() -> None:
    assert covers(COMMUNE, (105.80, 21.01), (105.81, 21.02), (105.82, 21.0)) == [True] * 3
    assert covers(((0, 0), (4, 0), (0, 4)), (2, 2), (2.001, 2)) == [True, False]


def test_a_ring_may_be_closed_or_not_and_go_either_way_round() -> None:
    place = (105.81, 21.01)
    for ring in (COMMUNE, closed(COMMUNE), COMMUNE[::-1], closed(COMMUNE[::-1])):
        assert covers(ring, place, (0, 0)) == [True, False]


def test_a_bay_is_not_inside() -> None:
    horseshoe: Ring = ((0, 0), (6, 0), (6, 6), (4, 6), (4, 2), (2, 2), (2, 6), (0, 6))
    assert covers(horseshoe, (1, 5), (3, 5), (5, 5), (3, 1)) == [True, False, True, True]


def test_nobody_is_asked_about() -> None:
    assert covers(COMMUNE) == []


@given(st.integers(3, 60), st.floats(-170, 170), st.floats(-80, 80), st.floats(0, 2 * math.pi))
def test_of_a_regular_polygon_the_middle_is_inside_and_the_surroundings_are_not(
    corners: int, longitude: float, latitude: float, turn: float
) -> None:
    def place(angle: float, radius: float) -> tuple[float, float]:
        return longitude + radius * math.cos(angle), latitude + radius * math.sin(angle)

    angles = [turn + 2 * math.pi * n / corners for n in range(corners)]
    ring = tuple(place(angle, 8) for angle in angles)
    within = [place(angle, 8 * math.cos(math.pi / corners) * 0.99) for angle in angles]
    without = [place(angle, 8.01) for angle in angles]
    assert covers(ring, (longitude, latitude), *within) == [True] * (corners + 1)
    assert covers(ring, *without) == [False] * corners


# ------------------------------------------------------------------ antimeridian
def test_a_ring_across_the_antimeridian_is_as_narrow_as_it_looks() -> None:
    suva, lau, tonga, greenwich = (178.44, -18.14), (-178.8, -18.2), (-175.2, -18.1), (0.0, -18.0)
    assert covers(FIJI, suva, lau, tonga, greenwich) == [True, True, False, False]


def test_either_spelling_of_the_antimeridian_is_inside() -> None:
    assert covers(FIJI, (180, -18), (-180, -18), (180, -21)) == [True, True, False]
    eastern: Ring = ((170, 0), (180, 0), (180, 10), (170, 10))
    assert covers(eastern, (180, 5), (-180, 5), (-179.9, 5)) == [True, True, False]


@pytest.mark.parametrize("first", range(4))
def test_it_does_not_matter_on_which_side_the_ring_begins(first: int) -> None:
    ring = FIJI[first:] + FIJI[:first]
    for way in (ring, ring[::-1]):
        assert covers(way, (178, -18), (-179, -18), (-177, -18)) == [True, True, False]


@given(st.floats(-180, 180), st.floats(-25, -10), st.sampled_from([-1, 1]))
def test_fiji_turned_by_half_the_earth_holds_the_same_places(
    longitude: float, latitude: float, way: int
) -> None:
    turned = tuple((lon - math.copysign(180, lon), lat) for lon, lat in FIJI)
    there = longitude - math.copysign(180, longitude)
    # Whole thousandths, so that turning does not round.
    longitude, there = round(longitude * 1024) / 1024, round(there * 1024) / 1024
    ring = turned[::way]
    assert covers(FIJI[::way], (longitude, latitude)) == covers(ring, (there, latitude))


# ------------------------------------------------------------------ what is no area
def why(ring: Ring) -> str:
    with pytest.raises(ZoneError) as caught:
        Area.of(ring)
    return str(caught.value)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_corners_are_refused_however_often_they_are_given(count: int) -> None:
    corners = COMMUNE[:count]
    for ring in (corners, corners * 3):
        assert why(ring) == f"an area has 3 different corners or more, not {count}"


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_corner_that_is_nowhere_is_refused(wrong: float) -> None:
    assert why((*COMMUNE, (wrong, 21.0))) == "corner 5 is not finite"
    assert why(((105.8, wrong), *COMMUNE)) == "corner 1 is not finite"


def test_swapped_coordinates_are_told_geojson_s_order() -> None:
    swapped = tuple((lat, lon) for lon, lat in COMMUNE)
    assert why(swapped) == (
        "corner 1 has latitude 105.8, beyond 90: GeoJSON order is longitude, latitude"
    )


def test_a_longitude_beyond_180_is_refused() -> None:
    assert why(((177, -20), (182, -20), (182, -15))) == (
        "corner 2 has longitude 182: use -180 to 180"
    )


def test_a_ring_that_crosses_itself_is_told_where() -> None:
    assert why(BOW_TIE) == (
        "the ring crosses or touches itself at longitude 5.000000, latitude 5.000000"
    )


def test_where_a_ring_beyond_the_antimeridian_crosses_itself_is_told_in_usual_longitudes() -> None:
    bow_tie: Ring = ((176, 0), (-174, 10), (-174, 0), (176, 10))
    assert "longitude -179.000000, latitude 5.000000" in why(bow_tie)


@pytest.mark.parametrize("ring", [((0, 0), (1, 1), (2, 2)), ((0, 0), (5, 0), (2, 0), (9, 0))])
def test_corners_on_one_line_are_refused(ring: Ring) -> None:
    assert "enclose nothing" in why(ring)


def test_the_whole_map_as_four_corners_is_told_of_the_short_way() -> None:
    assert "short way round" in why(((-180, -90), (180, -90), (180, 90), (-180, 90)))


@pytest.mark.parametrize("latitude", [80.0, -80.0])
def test_a_ring_round_a_pole_is_refused(latitude: float) -> None:
    ring = tuple((float(lon), latitude) for lon in range(-180, 180, 60))
    assert "round a pole" in why(ring)
    assert "round a pole" in why(ring[::-1])


def test_a_ring_that_winds_round_the_earth_and_back_is_refused() -> None:
    there = [((-170 + 40 * n + 180) % 360 - 180, 4.0 * n) for n in range(11)]
    back = [(lon, lat + 1) for lon, lat in reversed(there)]
    assert "more than once" in why(tuple(map(tuple, (*there, *back))))  # type: ignore[arg-type]


DEGREES = st.floats() | st.floats(-180, 180) | st.integers(-180, 180).map(float)


@given(st.lists(st.tuples(DEGREES, DEGREES), max_size=8).map(tuple))
def test_a_ring_holds_its_corners_or_is_refused_in_one_line(ring: Ring) -> None:
    said = ""
    try:
        area = Area.of(ring)
    except ZoneError as error:
        said = str(error)
    else:
        corners = np.array(ring)
        assert area.covers(corners[:, 0], corners[:, 1]).all()
    assert len(said.splitlines()) <= 1
