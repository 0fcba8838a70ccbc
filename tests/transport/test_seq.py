from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.seq import diff, require_unsigned, unwrap, wrap

BITS = st.sampled_from([8, 16, 32])
INTEGERS = st.integers(-(2**40), 2**40)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        (0, 0, 0),
        (1, 0, 1),
        (0, 1, -1),
        (0, 65535, 1),
        (65535, 0, -1),
        (2, 65533, 5),
        (65533, 2, -5),
        (32767, 0, 32767),
        (32769, 0, -32767),
    ],
)
def test_diff_takes_the_shorter_way_round(a: int, b: int, distance: int) -> None:
    assert diff(a, b, 16) == distance


def test_diff_of_exactly_half_way_round_is_behind() -> None:
    assert diff(32768, 0, 16) == diff(0, 32768, 16) == -32768


@given(a=INTEGERS, b=INTEGERS, bits=BITS)
def test_diff_leads_from_b_to_a_within_half_a_turn(a: int, b: int, bits: int) -> None:
    distance = diff(a, b, bits)
    assert (b + distance - a) % 2**bits == 0
    assert -(2 ** (bits - 1)) <= distance < 2 ** (bits - 1)


@pytest.mark.parametrize(
    ("value", "reference", "extended"),
    [
        (0, 65535, 65536),
        (65535, 65536, 65535),
        (65535, 0, -1),
        (1, 10 * 65536 + 65533, 11 * 65536 + 1),
        (65533, 10 * 65536 + 1, 10 * 65536 - 3),
    ],
)
def test_unwrap_crosses_the_wrap_both_ways(value: int, reference: int, extended: int) -> None:
    assert unwrap(value, reference, 16) == extended


def test_unwrap_follows_a_timestamp_over_its_wrap() -> None:
    assert unwrap(0, 2**32 - 480, 32) == 2**32


@given(extended=INTEGERS, error=st.integers(-32767, 32767))
def test_unwrap_recovers_any_integer_from_a_reference_near_it(extended: int, error: int) -> None:
    assert unwrap(wrap(extended, 16), extended + error, 16) == extended


@pytest.mark.parametrize(("value", "wrapped"), [(0, 0), (65535, 65535), (65536, 0), (-1, 65535)])
def test_wrap_keeps_the_low_bits(value: int, wrapped: int) -> None:
    assert wrap(value, 16) == wrapped


@pytest.mark.parametrize("value", [0, 255])
def test_require_unsigned_accepts_what_fits(value: int) -> None:
    require_unsigned("field", value, 8)


@pytest.mark.parametrize("value", [-1, 256])
def test_require_unsigned_names_the_field_that_does_not_fit(value: int) -> None:
    with pytest.raises(ValueError, match="field"):
        require_unsigned("field", value, 8)
