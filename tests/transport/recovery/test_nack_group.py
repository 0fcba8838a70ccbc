"""When one of a group asks for what is missing: in its turn, so that hardly anybody need."""

import random

import pytest

from tests.support.ear import Ear
from transport.recovery.nack import turn_in_group


def first_asked_ms(drawn: float, delay_ms: int = 500) -> float:
    """When one of a group asks for frame 5, which would have come at 170 ms."""
    ear = Ear(delay_ms=delay_ms, uniform=lambda: drawn)
    ear.hear(*range(5), *range(6, 12))
    return ear.times_of(5)[0]


def test_of_a_group_each_asks_in_its_turn() -> None:
    assert first_asked_ms(0.0) == 190  # when the next has come, as anybody who is alone
    assert 205 < first_asked_ms(0.01) < 225
    assert first_asked_ms(0.999) == pytest.approx(230, abs=0.1)


def test_the_turn_takes_half_of_the_time_there_is_at_most() -> None:
    # Of 140 ms until a frame before its playout 50 are left when the next has come.
    assert first_asked_ms(0.999, delay_ms=160) == pytest.approx(215, abs=0.1)


def test_a_turn_is_kept_as_long_as_anything_is_missing_and_then_drawn_anew() -> None:
    drawn = iter([0.0, 0.999])
    ear = Ear(uniform=lambda: next(drawn))
    ear.hear(*range(5), 6, 8)
    ear.until(280)
    ear.repair(5, 281)
    ear.repair(7, 282)
    ear.hear(*range(12, 15), 16)
    assert ear.times_of(7)[0] == 230
    assert not ear.times_of(15)
    ear.until(600)
    assert ear.times_of(15)


def test_of_a_group_nobody_asks_for_what_came_to_all_meanwhile() -> None:
    ear = Ear(uniform=lambda: 0.5)
    ear.hear(*range(5), 6)
    ear.repair(5, 200)
    ear.hear(*range(7, 30))
    assert ear.asked == []


def test_of_a_group_each_asks_once_and_then_waits_for_the_answer() -> None:
    ear = Ear(uniform=lambda: 0.0)
    ear.hear(*range(5), *range(6, 30))
    assert ear.times_of(5) == [190, 330, 470]  # the round trip is taken for 100 ms


def test_a_pause_costs_a_group_nothing() -> None:
    ear = Ear(uniform=lambda: 0.0)
    ear.hear(*range(5))
    ear.until(1_000)
    assert ear.asked == []
    assert ear.schedule.next_due() is None


def test_a_pause_between_two_epochs_costs_a_group_nothing() -> None:
    ear = Ear(uniform=lambda: 0.0)
    ear.hear(*range(5))
    ear.epoch, ear.first = 1, -10
    ear.hear(*range(10, 20))
    ear.until(1_000)
    assert ear.asked == []


def test_of_ten_thousand_few_ask_before_the_answer_to_the_first_has_come() -> None:
    """By the law of RFC 5401 section 3.2.2, whose longest wait here is four times that way."""
    for members in (10, 100, 1_000, 10_000):
        rng = random.Random(members)
        turns = sorted(turn_in_group(rng.random()) for _ in range(members))
        assert 0 <= turns[0] < turns[-1] <= 1
        assert sum(turn < turns[0] + 0.25 for turn in turns) < 60
