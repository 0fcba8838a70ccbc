"""Shares of a histogram, and how figures are told."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.fleet.figures import Figures, Heard, Histogram
from transport.clock.timeline import NS_PER_MS

TIMES = st.lists(st.integers(0, 60_000_000_000), min_size=1, max_size=50)


def histogram(times_ns: list[int]) -> Histogram:
    made = Histogram()
    made.add(np.array(times_ns, np.int64))
    return made


@given(TIMES, st.floats(0.01, 1.0))
def test_a_share_is_at_most_one_bound_above_what_it_is(times: list[int], share: float) -> None:
    true_ns = sorted(times)[max(int(np.ceil(share * len(times))), 1) - 1]
    told_ns = histogram(times).at_most_ms(share) * NS_PER_MS
    assert told_ns >= true_ns - 1
    if 10_000 < true_ns < 10_000_000_000:
        assert told_ns <= true_ns * 1.06 + 1


@given(TIMES)
def test_every_time_is_in_one_row_that_bounds_it(times: list[int]) -> None:
    made = histogram(times)
    assert sum(count for _, count in made.rows()) == len(times)
    assert made.rows()[-1][0] * NS_PER_MS >= max(times) - 1
    assert made.most_ms == max(times) / NS_PER_MS


def test_of_nothing_every_share_is_0() -> None:
    assert Histogram().at_most_ms(0.99) == 0.0
    assert Histogram().rows() == []


def test_figures_are_flat_rounded_and_json() -> None:
    figures = Figures(5, 4, 3, 2, 1, 0, 1.23456, Heard(expected=9, late_p99_ms=2.00049))
    told = json.loads(json.dumps(figures.as_dict()))
    assert told["endpoints"] == 5
    assert told["cpu_s"] == pytest.approx(1.235)
    assert told["expected"] == 9
    assert told["late_p99_ms"] == 2.0
    assert "heard" not in told
