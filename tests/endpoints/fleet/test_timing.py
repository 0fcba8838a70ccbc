"""A loudspeaker without sound learns the time as one with sound does."""

from collections.abc import Callable

import pytest

from endpoints.fleet.timing import Estimator, QuickestTrip, TimeLearner
from transport.clock.estimator import ClockEstimator
from transport.clock.exchange import Exchange, answer
from transport.errors import MalformedPacket
from transport.security.session_keys import open_time, seal_time

SESSION, KEY = 77, bytes(range(32))
MS, S = 1_000_000, 1_000_000_000
AHEAD_NS = 1_790_000_000 * S


def a_learner(estimator: Callable[[], Estimator] = QuickestTrip) -> TimeLearner:
    nonces = iter(range(1, 10_000))
    learner = TimeLearner(lambda: next(nonces), estimator())
    learner.begin(SESSION, KEY, every_s=1.0)
    return learner


def answered(question: bytes, now_ns: int, there_ns: int, set_ns: int = 1) -> bytes:
    """What the station says to it, which is `there_ns` away."""
    arrived_ns = now_ns + there_ns + AHEAD_NS
    said = answer(open_time(question, SESSION, KEY), arrived_ns, arrived_ns + 10_000, set_ns)
    return seal_time(said, SESSION, KEY)


def exchange(
    learner: TimeLearner, now_ns: int, there_ns: int, back_ns: int, set_ns: int = 1
) -> bool:
    data = answered(learner.question(now_ns), now_ns, there_ns, set_ns)
    return learner.answer(data, now_ns + there_ns + 10_000 + back_ns)


def error_ns(learner: TimeLearner, now_ns: int) -> int:
    assert learner.estimate is not None
    return abs(learner.estimate.theirs(now_ns) - now_ns - AHEAD_NS)


@pytest.mark.parametrize("estimator", [QuickestTrip, ClockEstimator])
def test_after_a_burst_it_knows_the_time(estimator: Callable[[], Estimator]) -> None:
    learner = a_learner(estimator)
    for number in range(8):
        exchange(learner, number * 30 * MS, 50_000 + 1_000 * number, 50_000)
    assert error_ns(learner, S) < 20_000


def test_it_believes_the_quickest_of_the_newest() -> None:
    learner = a_learner()
    for number, there_ns in enumerate((5 * MS, 3 * MS, 50_000, 9 * MS, 7 * MS)):
        exchange(learner, number * S, there_ns, 50_000)
    assert error_ns(learner, 5 * S) < 100


def test_it_knows_nothing_before_the_fourth_answer() -> None:
    learner = a_learner()
    for number in range(3):
        exchange(learner, number * S, 50_000, 50_000)
    assert learner.estimate is None


def test_another_clock_makes_it_forget_and_ask_again_at_once() -> None:
    learner = a_learner()
    for number in range(8):
        assert not exchange(learner, number * S, 50_000, 50_000)
    assert exchange(learner, 9 * S, 50_000, 50_000, set_ns=2)
    assert learner.estimate is None


def pauses_ns(learner: TimeLearner, count: int, *, answers: bool = True) -> list[int]:
    now_ns, pauses = 0, []
    for _ in range(count):
        question = learner.question(now_ns)
        if answers:
            learner.answer(answered(question, now_ns, 50_000), now_ns + 110_000)
        pauses.append(learner.pause_ns())
        now_ns += pauses[-1]
    return pauses


def test_of_a_station_of_few_it_asks_twice_a_second_until_it_knows_well() -> None:
    pauses = pauses_ns(a_learner(), 120)
    assert pauses[:8] == [30 * MS] * 8
    assert pauses[8:99] == [S // 2] * 91
    assert pauses[101:] == [S] * 19


def test_of_a_station_of_many_it_asks_four_times_and_then_seldom() -> None:
    learner = a_learner()
    learner.begin(SESSION, KEY, every_s=10.0)
    assert pauses_ns(learner, 15) == [30 * MS] * 8 + [2 * S] * 4 + [10 * S] * 3


def test_a_question_without_an_answer_is_asked_again_soon() -> None:
    learner = a_learner()
    learner.begin(SESSION, KEY, every_s=10.0)
    pauses_ns(learner, 12)
    assert pauses_ns(learner, 3, answers=False) == [10 * S, 2 * S, 2 * S]


def test_what_another_session_was_told_is_no_answer() -> None:
    learner = a_learner()
    question = learner.question(0)
    learner.begin(SESSION + 1, KEY, 1.0)
    with pytest.raises(MalformedPacket, match="time_mac"):
        learner.answer(answered(question, 0, 50_000), 110_000)


def test_what_was_not_asked_is_no_answer() -> None:
    learner = a_learner()
    data = answered(learner.question(0), 0, 50_000)
    learner.answer(data, 110_000)
    with pytest.raises(MalformedPacket, match="time_unasked"):
        learner.answer(data, 120_000)


def test_the_quickest_trip_counts_exchanges_of_one_clock_only() -> None:
    trip = QuickestTrip()
    for number in range(20):
        trip.add(Exchange(number * S, number * S + 1, number * S + 2, number * S + 3, 1))
    assert trip.exchanges == 20
    assert trip.add(Exchange(0, 1, 2, 3, 2))
    assert trip.exchanges == 1
