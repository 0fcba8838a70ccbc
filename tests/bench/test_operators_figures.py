"""What is said of many calls."""

import pytest

from bench import operators_figures as told
from bench.operators_figures import Call

CALLS = [
    Call(10.0, "zone", 200, 5.0, 100),
    Call(20.0, "zone", 200, 7.0, 300),
    Call(75.0, "volume", 500, 90.0, 20),
    Call(75.5, "identify", "timed out", 30_000.0, 0),
    Call(76.0, "stop", 404, 3.0, 20),
    Call(76.0, "sign in", 201, 400.0, 80),
    Call(76.0, "connect", 0, 2.0, 0),
]


def test_signing_in_and_connecting_do_not_count_among_all() -> None:
    assert [c.kind for c in filter(told.is_counted, CALLS)] == [
        *("zone", "zone", "volume", "identify", "stop")
    ]


def test_a_call_is_in_vain_if_it_fails_and_not_if_somebody_was_quicker() -> None:
    assert told.in_vain(CALLS) == {"volume: 500": 1, "identify: timed out": 1}
    assert told.statuses(CALLS) == {"200": 2, "201": 1, "404": 1, "500": 1, "timed out": 1}


def test_each_kind_and_each_group_has_its_row() -> None:
    assert next(iter(told.by_kind(CALLS))) == "zone"
    row = told.row(told.by_kind(CALLS)["zone"])
    assert row == {
        "calls": 2,
        "in_vain": 0,
        "min_ms": 5.0,
        "bytes_mean": 200,
        "p50_ms": 7.0,
        "p95_ms": 7.0,
        "p99_ms": 7.0,
        "max_ms": 7.0,
    }
    groups = told.by_group(CALLS)
    assert {name: len(some) for name, some in groups.items()} == {
        "read": 2,
        "change": 2,
        "wait for loudspeakers": 1,
        "sign in and out": 1,
        "connect": 1,
    }


def test_minutes_are_counted_from_the_beginning() -> None:
    found = told.by_minute(CALLS, began_s=5.0)
    assert [(row["minute"], row["calls"]) for row in found] == [(0, 2), (1, 3)]
    assert found[0]["max_ms"] == pytest.approx(7.0)
