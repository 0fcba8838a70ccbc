"""How our clock runs, from packets that come one way; and what an estimator makes of it."""

from collections.abc import Iterable

import numpy as np
import pytest

from bench.network import MS, PROFILES, SECOND, Impairments, Jitter, Link
from tests.support.clock import MEDIA_EPOCH_NS, OwnClock, exchanges, media_ns
from transport.clock.arrivals import Arrivals, Course
from transport.clock.estimator import ClockEstimator

US = 1_000
FRAME_NS = 20 * MS
WANDERING = OwnClock(-7.0, 30, wander_ppm=1, wander_period_s=200)
WIFI = Impairments(loss=0.05, jitter=Jitter("exponential", 2 * MS))
Packets = list[tuple[int, int]]


def packets(path: Impairments, seconds: int, begin_s: int = 0, seed: int = 1) -> Packets:
    """(true time of arrival, media time) of 50 a second, all sent 1 ms after their media time."""
    link = Link(path, np.random.default_rng(seed))
    for number in range(begin_s * 50, (begin_s + seconds) * 50):
        link.send(number.to_bytes(4), number * FRAME_NS + MS)
    return [
        (at_ns, MEDIA_EPOCH_NS + int.from_bytes(data) * FRAME_NS) for at_ns, data in link.due(2**62)
    ]


def told(
    arrived: Iterable[tuple[int, int]], own: OwnClock = WANDERING, stream: int = 1
) -> Arrivals:
    arrivals = Arrivals()
    for at_ns, said_ns in arrived:
        arrivals.add(stream, said_ns, own.of_true(at_ns))
    return arrivals


def errors_us(course: Course, own: OwnClock, begin_s: int, end_s: int) -> np.ndarray:
    """How far the course is from the truth, but for the constant nobody knows."""
    true_ns = np.arange(begin_s, end_s) * SECOND
    own_ns = np.array([own.of_true(int(at_ns)) for at_ns in true_ns])
    truth_ns = np.array([media_ns(int(at)) - own.of_true(int(at)) for at in true_ns])
    found_ns = course.at((own_ns - course.begin_ns).astype(np.float64))
    difference_us = (found_ns - (truth_ns - truth_ns[0])) / US
    return np.asarray(np.abs(difference_us - np.median(difference_us)))


def course_of(arrivals: Arrivals, true_s: float, own: OwnClock = WANDERING) -> Course:
    course = arrivals.course(own.of_true(round(true_s * SECOND)))
    assert course is not None
    return course


# ------------------------------------------------------------------ the course
@pytest.mark.parametrize(("path", "limit_us"), [(Impairments(delay_ns=MS), 1), (WIFI, 40)])
def test_a_crystal_that_wanders_is_followed(path: Impairments, limit_us: float) -> None:
    course = course_of(told(packets(path, 119)), 119)
    assert errors_us(course, WANDERING, 1, 118).max() < limit_us
    assert course.end_ns - course.begin_ns == pytest.approx(118 * SECOND, abs=1.1 * SECOND)


def test_its_slope_is_how_fast_their_clock_gains_on_ours() -> None:
    own = OwnClock(skew_ppm=-40)
    course = course_of(told(packets(Impairments(), 60), own), 60, own)
    assert course.slope == pytest.approx(40e-6, abs=0.1e-6)
    assert course.slope_noise < 1e-8


def test_outside_of_what_it_knows_it_goes_straight_on() -> None:
    own = OwnClock(skew_ppm=20)
    course = course_of(told(packets(Impairments(), 30, begin_s=60), own), 90, own)
    assert errors_us(course, own, 0, 120).max() < 2


def test_queues_of_ten_seconds_and_holes_do_not_bend_it_far() -> None:
    late = [
        (at + 30 * MS if 50 * SECOND < at < 60 * SECOND else at, m) for at, m in packets(WIFI, 119)
    ]
    holes = [(at, m) for at, m in late if not 80 * SECOND < at < 90 * SECOND]
    course = course_of(told(holes), 119)
    errors = errors_us(course, WANDERING, 1, 118)
    assert np.median(errors) < 40
    assert errors.max() < 400


@pytest.mark.parametrize("seconds", [0, 1, 5])
def test_of_too_little_it_says_nothing(seconds: int) -> None:
    assert told(packets(WIFI, seconds)).course(WANDERING.of_true(seconds * SECOND)) is None


def test_a_stream_that_is_over_says_nothing_soon_after() -> None:
    arrivals = told(packets(WIFI, 60))
    assert arrivals.course(WANDERING.of_true(63 * SECOND)) is not None
    assert arrivals.course(WANDERING.of_true(67 * SECOND)) is None


def test_another_stream_has_another_constant_and_begins_anew() -> None:
    arrivals = told(packets(WIFI, 60))
    arrivals.add(2, MEDIA_EPOCH_NS, WANDERING.of_true(60 * SECOND))
    assert arrivals.course(WANDERING.of_true(60 * SECOND)) is None


def test_it_is_no_longer_than_two_minutes() -> None:
    course = course_of(told(packets(WIFI, 400)), 400)
    assert len(course.values_ns) <= 121


def test_what_came_before_our_clock_was_set_is_not_of_the_course() -> None:
    """Neither minutes ago nor minutes ahead: nothing as long as that is laid out in memory."""
    arrivals = told(packets(WIFI, 60))
    for at_ns, said_ns in packets(WIFI, 30, begin_s=60):
        arrivals.add(1, said_ns, WANDERING.of_true(at_ns) - 10**6 * SECOND)
    course = arrivals.course(WANDERING.of_true(90 * SECOND) - 10**6 * SECOND)
    assert course is not None
    assert len(course.values_ns) <= 31


# ------------------------------------------------------------------ with exchanges
def offset_errors_us(
    own: OwnClock, arrived: Packets, profile: str = "L1", seed: int = 1, length_s: int = 240
) -> np.ndarray:
    """(true second, error just before the next exchange), of an estimator that is told of both."""
    rng = np.random.default_rng(seed)
    estimator, rows, place = ClockEstimator(), [], 0
    for true_ns, exchange in exchanges(own, PROFILES[profile].links(rng), rng, length_s):
        while place < len(arrived) and arrived[place][0] <= true_ns:
            at_ns, said_ns = arrived[place]
            estimator.arrived(1, said_ns, own.of_true(at_ns))
            place += 1
        if estimator.estimate is not None:
            error_ns = estimator.estimate.theirs(own.of_true(true_ns)) - media_ns(true_ns)
            rows.append((true_ns / SECOND, abs(error_ns) / US))
        estimator.add(exchange)
    return np.array(rows)


@pytest.mark.parametrize("seed", [1, 2])
def test_on_wifi_the_time_is_known_better_with_them(seed: int) -> None:
    alone = offset_errors_us(WANDERING, [], seed=seed)
    both = offset_errors_us(WANDERING, packets(PROFILES["L1"].path, 240, seed=seed), seed=seed)
    settled = alone[:, 0] > 90
    assert np.percentile(both[settled, 1], 95) < 0.7 * np.percentile(alone[settled, 1], 95)
    assert np.percentile(both[settled, 1], 95) < 50


@pytest.mark.parametrize("jump_ms", [-20, -2, 2, 20])
def test_a_way_of_the_programme_that_changes_is_not_taken_for_the_clock(jump_ms: int) -> None:
    path = Impairments(delay_ns=30 * MS, jitter=Jitter("exponential", MS // 10))
    arrived = [(at + jump_ms * MS if at > 120 * SECOND else at, m) for at, m in packets(path, 240)]
    errors = offset_errors_us(OwnClock(5.0, 20), sorted(arrived), "L0")
    after = errors[errors[:, 0] > 120]
    assert after[:, 1].max() < 50


@pytest.mark.parametrize("profile", ["L0", "L1"])
@pytest.mark.parametrize("ppm", [-20, 20, 100, 400, 2000])
def test_a_programme_whose_times_creep_cannot_pull_further_than_exchanges_allow(
    ppm: int, profile: str
) -> None:
    """As of a sender that stamps by a crystal of its own, or a relay that falls behind."""
    arrived = [
        (at + max(at - 120 * SECOND, 0) * ppm // 1_000_000, m)
        for at, m in packets(PROFILES[profile].path, 240)
    ]
    errors = offset_errors_us(OwnClock(5.0, 20), sorted(arrived), profile)
    after = errors[errors[:, 0] > 120, 1]
    assert after.max() < (10 if profile == "L0" else 200)


def test_a_clock_that_is_set_is_found_as_without_them() -> None:
    arrived = packets(WIFI, 120)
    estimator = ClockEstimator()
    rng = np.random.default_rng(1)
    place, forgot = 0, 0
    for true_ns, exchange in exchanges(WANDERING, PROFILES["L1"].links(rng), rng, 119):
        own = OwnClock(300.0) if true_ns > 60 * SECOND else WANDERING
        while place < len(arrived) and arrived[place][0] <= true_ns:
            estimator.arrived(1, arrived[place][1], own.of_true(arrived[place][0]))
            place += 1
        later_ns = own.of_true(true_ns) - WANDERING.of_true(true_ns)
        moved = exchange.t1_ns + later_ns, exchange.t4_ns + later_ns
        forgot += estimator.add(
            type(exchange)(moved[0], exchange.t2_ns, exchange.t3_ns, moved[1], 1)
        )
    assert forgot == 1
    assert estimator.estimate is not None
    error_ns = estimator.estimate.theirs(OwnClock(300.0).of_true(119 * SECOND)) - media_ns(
        119 * SECOND
    )
    assert abs(error_ns) < 300 * US
