"""The line through what was measured."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fleet_line import CostLine, fit, sizes

SIZES = (100, 300, 1_000, 3_000, 10_000, 20_000)


@given(st.floats(1e3, 1e5), st.floats(10, 500))
def test_points_on_a_line_give_that_line(fixed_us: float, slope_us: float) -> None:
    line = CostLine(fixed_us, slope_us)
    found = fit([(n, line.cost_us(n)) for n in SIZES])
    assert found.fixed_us == pytest.approx(fixed_us, rel=1e-6)
    assert found.slope_us == pytest.approx(slope_us, rel=1e-6)


def test_how_far_a_point_is_off_is_a_share_of_the_line() -> None:
    line = CostLine(1_000.0, 10.0)
    assert line.off(100, 2_200.0) == pytest.approx(0.1)
    assert line.off(900, 5_000.0) == pytest.approx(-0.5)


def test_the_smallest_point_weighs_as_much_as_the_largest() -> None:
    line = CostLine(10_000.0, 100.0)
    points = [(n, line.cost_us(n)) for n in SIZES]
    # By microseconds this one, 200 times as large, would draw the line to itself.
    points[-1] = (points[-1][0], points[-1][1] * 1.2)
    found = fit(points)
    endpoints, cost_us = np.array(points).T
    slope_us, fixed_us = np.polyfit(endpoints, cost_us, 1)
    plain = CostLine(fixed_us, slope_us)
    assert abs(found.off(*points[0])) < 0.05 < abs(plain.off(*points[0]))


def test_a_line_needs_two_sizes() -> None:
    with pytest.raises(ValueError, match="two different"):
        fit([(100, 1.0), (100, 2.0)])


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (20_000, [100, 300, 1_000, 3_000, 10_000, 20_000]),
        (3_000, [100, 300, 1_000, 3_000]),
        (250, [100, 250]),
    ],
)
def test_sizes_go_up_to_the_largest_by_threes(most: int, expected: list[int]) -> None:
    assert sizes(most) == expected


def test_fewer_than_a_hundred_make_no_line() -> None:
    with pytest.raises(ValueError, match="100"):
        sizes(99)
