"""Counts of several processes are one count."""

import math
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.fleet_figures import FleetFigures, Histogram, merged

EVENT = {
    "event": "figures",
    "endpoints": 10,
    "joined": 9,
    "received": 990,
    "expected": 1_000,
    "lost": 10,
    "duplicate": 1,
    "corrupt": 2,
    "too_late": 3,
    "simulator_dropped": 4,
    "rejoined": 5,
    "late_max_ms": 7.5,
    "longest_gap_ms": 80.0,
    "late_histogram": [[1.0, 980], [5.0, 9], [7.5, 1]],
    "transit_histogram": [[5.0, 900], [7.0, 90]],
}


def test_what_a_fleet_says_becomes_figures() -> None:
    figures = FleetFigures.from_event(EVENT)
    assert (figures.received_ratio, figures.longest_gap_ms) == (0.99, 80.0)
    assert figures.late == Histogram(((1.0, 980), (5.0, 9), (7.5, 1)))
    assert figures.transit.at_ms(0.5) == 5.0


def test_a_fleet_that_leaves_something_out_is_found_out() -> None:
    with pytest.raises(KeyError, match="lost"):
        FleetFigures.from_event({name: value for name, value in EVENT.items() if name != "lost"})


def test_counts_add_up_and_of_the_worst_the_worst_remains() -> None:
    one = FleetFigures.from_event(EVENT)
    two = replace(one, late_max_ms=2.0, longest_gap_ms=900.0, received=1_000, lost=0)
    both = merged([one, two])
    assert (both.endpoints, both.received, both.lost) == (20, 1_990, 10)
    assert (both.late_max_ms, both.longest_gap_ms) == (7.5, 900.0)
    assert both.late == Histogram(((1.0, 1_960), (5.0, 18), (7.5, 2)))


def test_a_bound_above_all_values_is_not_claimed_of_one() -> None:
    figures = replace(FleetFigures.from_event(EVENT), late_max_ms=4.2)
    assert (figures.late_at_ms(0.5), figures.late_at_ms(0.995)) == (1.0, 4.2)


def test_where_nothing_was_to_be_received_nothing_is_claimed() -> None:
    assert replace(FleetFigures.from_event(EVENT), expected=0).received_ratio == 0.0


def test_nobody_asked_is_no_figure() -> None:
    with pytest.raises(ValueError, match="no fleet"):
        merged([])


# ------------------------------------------------------------------ histograms
@given(st.lists(st.floats(0, 99), min_size=1), st.floats(0.01, 1))
def test_no_percentile_is_lower_than_the_value_it_stands_for(
    values: list[float], share: float
) -> None:
    exact = sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
    assert exact <= Histogram.of((int(value) + 1, 1) for value in values).at_ms(share)


@pytest.mark.parametrize(("share", "bound_ms"), [(0.5, 1.0), (0.98, 1.0), (0.99, 5.0), (1, inf)])
def test_a_percentile_is_the_bound_that_its_rank_lies_below(share: float, bound_ms: float) -> None:
    assert Histogram(((1.0, 98), (5.0, 1), (inf, 1))).at_ms(share) == bound_ms


def test_without_values_nothing_was_late() -> None:
    assert Histogram(()).at_ms(0.99) == 0.0


def test_rows_of_one_bound_are_one_row_and_empty_ones_none() -> None:
    found = Histogram.of([(5.0, 1), (1.0, 3), (5.0, 2), (9.0, 0)])
    assert found == Histogram(((1.0, 3), (5.0, 3)))
    assert found.total == 6


def test_what_came_later_is_the_difference() -> None:
    before, after = Histogram(((1.0, 5), (5.0, 1))), Histogram(((1.0, 9), (5.0, 1), (inf, 2)))
    assert after.minus(before) == Histogram(((1.0, 4), (inf, 2)))
