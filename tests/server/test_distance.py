"""Trims by the way of the sound."""

import math

import pytest

from server.directory import DirectoryError, Endpoint, Position
from server.distance import delays, distance_m, speed_of_sound

HERE = Position(10.5, 106.0)
DEGREE_M = 2 * math.pi * 6_371_008.8 / 360


def at(name: str, metres: float, trim_us: int = 0) -> Endpoint:
    """A loudspeaker so far to the north."""
    place = Position(10.5 + metres / DEGREE_M, 106.0)
    return Endpoint(name, "Tân Phú", position=place, trim_us=trim_us)


@pytest.mark.parametrize(("temperature_c", "speed"), [(0, 331.3), (20, 343.2), (35, 351.9)])
def test_sound_is_quicker_when_it_is_warm(temperature_c: float, speed: float) -> None:
    assert speed_of_sound(temperature_c) == pytest.approx(speed, abs=0.05)


def test_distances_are_over_the_ground() -> None:
    assert distance_m(HERE, HERE) == 0
    assert distance_m(HERE, at("a", 100).position or HERE) == pytest.approx(100, abs=1e-3)
    # Hà Nội to Thành phố Hồ Chí Minh, 1,138 km by any atlas.
    hanoi, saigon = Position(21.0285, 105.8542), Position(10.7769, 106.7009)
    assert distance_m(hanoi, saigon) == pytest.approx(1_143_600, rel=0.005)


def test_each_waits_for_the_sound_of_the_nearest() -> None:
    street = [at("third", 22, 9), at("first", 5), at("second", 8.432)]
    found = delays(street, HERE, 20.0)
    assert [delay.name for delay in found] == ["first", "second", "third"]
    assert found[0].trim_us == 0
    assert found[1].trim_us == pytest.approx(10_000, abs=10)
    assert found[2].trim_us == pytest.approx(17 / 343.2 * 1e6, abs=10)


def test_whoever_is_too_far_for_a_trim_is_named() -> None:
    with pytest.raises(DirectoryError, match=r"b stands 30.0 m further than a: .* 17.2 m at most"):
        delays([at("a", 1), at("b", 31)], HERE, 20.0)


def test_who_stands_nobody_knows_where_is_named() -> None:
    lost = [Endpoint(f"s{n}", "Tân Phú") for n in range(7)]
    with pytest.raises(DirectoryError, match="where to find s0, s1, s2, s3, s4 and 2 more: "):
        delays([*lost, at("a", 1)], HERE, 20.0)


def test_of_nobody_there_are_no_delays() -> None:
    assert delays([], HERE, 20.0) == []
