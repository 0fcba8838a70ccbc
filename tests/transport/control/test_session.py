import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.control.session import Backoff

BELOW_ONE = 1 - 2**-53


def waits(uniform: float, count: int = 8) -> list[float]:
    backoff = Backoff(lambda: uniform)
    return [backoff.next_s() for _ in range(count)]


def test_the_longest_waits_double_up_to_a_cap() -> None:
    assert waits(BELOW_ONE) == pytest.approx([0.25, 0.5, 1, 2, 4, 4, 4, 4])


def test_the_shortest_waits_are_half_of_the_longest() -> None:
    assert waits(0.0) == [0.125, 0.25, 0.5, 1, 2, 2, 2, 2]


@given(st.lists(st.floats(0, BELOW_ONE), min_size=1, max_size=30))
def test_every_wait_lies_within_its_bounds(draws: list[float]) -> None:
    backoff = Backoff(iter(draws).__next__)
    for index in range(len(draws)):
        longest = min(0.25 * 2**index, 4.0)
        assert longest / 2 <= backoff.next_s() <= longest


def test_two_loudspeakers_that_draw_unlike_numbers_do_not_come_back_together() -> None:
    assert all(a != b for a, b in zip(waits(0.2), waits(0.7), strict=True))


def test_after_a_success_it_begins_again() -> None:
    backoff = Backoff(lambda: BELOW_ONE)
    for _ in range(6):
        backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == pytest.approx(0.25)
