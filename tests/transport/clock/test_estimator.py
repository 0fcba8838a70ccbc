"""The estimator against seeded networks on virtual time; figures are errors at 'now'."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.network import MS, PROFILES, SECOND, Impairments, Jitter, Link, Straggle
from tests.support.clock import OwnClock, exchange_at, exchanges, media_ns
from transport.clock.estimator import ClockEstimate, ClockEstimator
from transport.clock.exchange import Exchange

US = 1_000
TEN_MINUTES_S = 600
SEEDS = (1, 2, 3)
STEP_NS = 100 * MS
# A path of 100 us each way: what a wired building has.
PATH = {"there_ns": 100 * US, "back_ns": 100 * US}


def links(path: str, rng: np.random.Generator) -> tuple[Link, Link]:
    """(station to speaker, speaker to station) of a profile, or of a LAN that queues upwards."""
    if path in PROFILES:
        return PROFILES[path].links(rng)
    jitter = Jitter("exponential", int(path.removeprefix("jitter-")) * US)
    down = Impairments(delay_ns=100 * US, jitter=jitter)
    return Link(down, rng), Link(replace(down, tail=Straggle(0.5, 300 * US)), rng)


def hidden_clock(rng: np.random.Generator) -> OwnClock:
    """Off by up to 10 s, fast or slow by up to 50 ppm, and wandering by 1 ppm over 200 s."""
    offset_s, skew_ppm, phase = rng.uniform(-1, 1, 3) * (10, 50, np.pi)
    return OwnClock(float(offset_s), float(skew_ppm), wander_ppm=1, phase=float(phase))


def errors_us(
    path: str, seed: int, length_s: float = TEN_MINUTES_S, clock: OwnClock | None = None
) -> np.ndarray:
    """(true seconds, error) every 100 ms from the first estimate on."""
    rng = np.random.default_rng(seed)
    own = clock or hidden_clock(rng)
    estimator = ClockEstimator()
    rows = []
    now_ns = 0
    for until_ns, exchange in exchanges(own, links(path, rng), rng, length_s):
        while estimator.estimate is not None and now_ns < until_ns:
            error_ns = estimator.estimate.theirs(own.of_true(now_ns)) - media_ns(now_ns)
            rows.append((now_ns / SECOND, abs(error_ns) / US))
            now_ns += STEP_NS
        assert not estimator.add(exchange)
        now_ns = max(now_ns, until_ns)
    return np.array(rows)


def p95(errors: np.ndarray) -> float:
    return float(np.percentile(errors[:, 1], 95))


# ------------------------------------------------------------------ how good it is
# Measured with these seeds: wired 0.5 us; jitter of 20 us 4.7, 4.2, 4.6; of 50 us 8.1, 7.7, 8.0;
# Wi-Fi (2 ms of jitter) 93, 142, 165 over all, and from the second minute on 93, 56, 56.
@pytest.mark.parametrize(
    ("path", "limit_us", "settled_us", "seed"),
    [
        ("L0", 1, 1, 1),  # nothing there is random but the loss of one packet in 10,000
        ("jitter-20", 8, 8, 1),
        *(("jitter-50", 12, 12, seed) for seed in SEEDS),
        *(("L1", 170, 100, seed) for seed in SEEDS),
    ],
)
def test_the_error_over_ten_minutes_is_small(
    path: str, limit_us: float, settled_us: float, seed: int
) -> None:
    errors = errors_us(path, seed)
    assert len(errors) > 5_900
    assert p95(errors) <= limit_us
    assert p95(errors[errors[:, 0] > 60]) <= settled_us


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("path", "limit_us"),
    # On Wi-Fi the fastest of eight packets still waited 250 us: no filter can do much better.
    [("L0", 1), ("jitter-20", 200), ("jitter-50", 250), ("L1", 1_000)],
)
def test_the_error_is_small_from_the_first_burst_on(path: str, limit_us: float, seed: int) -> None:
    errors = errors_us(path, seed, length_s=20)
    assert errors[0, 0] < 0.5
    assert errors[:, 1].max() <= limit_us


@pytest.mark.parametrize("offset_s", [-10.0, 0.0, 10.0, 1e6])
@pytest.mark.parametrize("skew_ppm", [-50, 0, 50, 150])
def test_neither_offset_nor_skew_costs_accuracy(offset_s: float, skew_ppm: float) -> None:
    errors = errors_us("jitter-20", 4, 120, OwnClock(offset_s, skew_ppm))
    assert p95(errors[errors[:, 0] > 10]) <= 12


@pytest.mark.parametrize("path", ["L0", "L1"])
def test_the_skew_of_a_broken_crystal_is_found(path: str) -> None:
    errors = errors_us(path, 5, 300, OwnClock(skew_ppm=350))
    assert errors[errors[:, 0] > 90, 1].max() <= 200


@dataclass(frozen=True)
class SlewedClock(OwnClock):
    """One that a time daemon of its own begins to slew after a minute."""

    slew_ppm: float = 0.0

    def of_true(self, true_ns: int) -> int:  # type: ignore[explicit-override]
        return true_ns + round(max(true_ns - 60 * SECOND, 0) * self.slew_ppm * 1e-6)


# Measured: on a wired network at most 17 and 50 us off; with 20 us of jitter under 50 us again
# after 14 and 5 s.
@pytest.mark.parametrize(("slew_ppm", "settled_s"), [(20, 30), (-20, 30), (100, 15), (-100, 15)])
@pytest.mark.parametrize("path", ["L0", "jitter-20"])
def test_a_clock_that_changes_its_rate_is_followed(
    path: str, slew_ppm: float, settled_s: float
) -> None:
    errors = errors_us(path, 1, 120, SlewedClock(slew_ppm=slew_ppm))
    assert errors[errors[:, 0] > 60 + settled_s, 1].max() < 50


def test_between_exchanges_the_estimate_runs_at_the_learnt_skew() -> None:
    own = OwnClock(3.0, 40)
    estimator = settled(own, until_s=60)
    assert estimator.estimate is not None
    minute_later_ns = 120 * SECOND
    error_ns = estimator.estimate.theirs(own.of_true(minute_later_ns)) - media_ns(minute_later_ns)
    assert abs(error_ns) < 100


def test_half_of_a_constant_asymmetry_cannot_be_seen_but_is_in_the_uncertainty() -> None:
    estimator = ClockEstimator()
    for index in range(20):
        estimator.add(exchange_at(OwnClock(), index * SECOND, there_ns=30 * MS, back_ns=10 * MS))
    assert estimator.estimate is not None
    error_ns = estimator.estimate.theirs(20 * SECOND) - media_ns(20 * SECOND)
    assert error_ns == pytest.approx(10 * MS, abs=US)
    assert estimator.estimate.uncertainty_ns == pytest.approx(20 * MS, abs=US)


# ------------------------------------------------------------------ what must not move it
def settled(own: OwnClock, until_s: int = 30) -> ClockEstimator:
    """An estimator that has asked twice a second for so long."""
    estimator = ClockEstimator()
    for half in range(2 * until_s):
        estimator.add(exchange_at(own, half * SECOND // 2, **PATH))
    return estimator


def error_us(estimator: ClockEstimator, own: OwnClock, true_ns: int) -> float:
    assert estimator.estimate is not None
    return abs(estimator.estimate.theirs(own.of_true(true_ns)) - media_ns(true_ns)) / US


OWN = OwnClock(-4.0, 30)


def test_there_is_no_estimate_before_the_fourth_exchange() -> None:
    estimator = ClockEstimator()
    known = []
    for index in range(5):
        estimator.add(exchange_at(OWN, index * MS, **PATH))
        known.append(estimator.estimate is not None)
    assert known == [False, False, False, True, True]


@pytest.mark.parametrize("wrong_ns", [-3600 * SECOND, -SECOND, -MS, MS, SECOND, 3600 * SECOND])
def test_one_wild_outlier_does_not_move_it(wrong_ns: int) -> None:
    estimator = settled(OWN)
    before = estimator.estimate
    good = exchange_at(OWN, 31 * SECOND, **PATH)
    wild = replace(good, t2_ns=good.t2_ns + wrong_ns, t3_ns=good.t3_ns + wrong_ns)
    doubts = []
    for exchange in (wild, exchange_at(OWN, 32 * SECOND, **PATH)):
        assert not estimator.add(exchange)
        doubts.append((estimator.in_doubt, estimator.estimate == before))
    assert doubts == [(True, True), (False, False)]
    assert error_us(estimator, OWN, 33 * SECOND) < 1


def test_outliers_that_do_not_follow_each_other_are_no_step() -> None:
    estimator = settled(OWN)
    for second in range(31, 61):
        good = exchange_at(OWN, second * SECOND, **PATH)
        wild = replace(good, t2_ns=good.t2_ns + SECOND, t3_ns=good.t3_ns + SECOND)
        assert not estimator.add(wild if second % 3 else good)
    assert error_us(estimator, OWN, 61 * SECOND) < 1


@pytest.mark.parametrize(("there_s", "back_s"), [(8, 0.0001), (0.0001, 8), (8, 8)])
def test_an_answer_that_took_eight_seconds_does_not_move_it(there_s: float, back_s: float) -> None:
    estimator = settled(OWN)
    slow = exchange_at(
        OWN,
        30 * SECOND,
        there_ns=round(there_s * SECOND),
        back_ns=round(back_s * SECOND),
    )
    assert not estimator.add(slow)
    assert not estimator.in_doubt
    assert error_us(estimator, OWN, 46 * SECOND) < 5


def test_an_answer_older_than_the_whole_window_is_taken_for_what_it_is() -> None:
    estimator = settled(OWN)
    assert not estimator.add(exchange_at(OWN, 30 * SECOND, there_ns=100 * US, back_ns=200 * SECOND))
    assert error_us(estimator, OWN, 230 * SECOND) < 100


def test_a_congested_minute_moves_it_little() -> None:
    rng = np.random.default_rng(6)
    estimator = settled(OWN, until_s=60)
    for half in range(120, 240):
        queue_ns = int(rng.exponential(20 * MS))  # one way only: the worst case for a median
        busy = exchange_at(OWN, half * SECOND // 2, there_ns=100 * US, back_ns=100 * US + queue_ns)
        assert not estimator.add(busy)
        assert error_us(estimator, OWN, half * SECOND // 2) < 100


def test_a_wrong_beginning_is_mended_within_a_burst() -> None:
    estimator = ClockEstimator()
    good = exchange_at(OWN, 0, **PATH)
    estimator.add(replace(good, t2_ns=good.t2_ns + SECOND, t3_ns=good.t3_ns + SECOND))
    for index in range(1, 8):
        estimator.add(exchange_at(OWN, index * 30 * MS, **PATH))
    assert error_us(estimator, OWN, 240 * MS) < 10


# ------------------------------------------------------------------ what must
@pytest.mark.parametrize("step_ns", [-3600 * SECOND, -5 * MS, -MS, MS, 5 * MS, 3600 * SECOND])
def test_a_step_of_either_clock_is_followed_after_three_exchanges(step_ns: int) -> None:
    estimator = settled(OWN)
    after = replace(OWN, offset_s=OWN.offset_s + step_ns / SECOND)
    forgot = []
    for half in range(60, 66):
        forgot.append(estimator.add(exchange_at(after, half * SECOND // 2, **PATH)))
        assert estimator.estimate is not None  # a wrong place is better than none
    assert forgot == [False, False, True, False, False, False]
    assert error_us(estimator, after, 33 * SECOND) < 1


@pytest.mark.parametrize("step_us", [-300, -250, 250, 300])
def test_a_step_too_small_to_be_sure_of_is_followed_all_the_same(step_us: int) -> None:
    estimator = settled(OWN, until_s=100)
    after = replace(OWN, offset_s=OWN.offset_s + step_us / 1e6)
    for half in range(200, 220):
        estimator.add(exchange_at(after, half * SECOND // 2, **PATH))
    assert error_us(estimator, after, 110 * SECOND) < 20


def test_another_clock_at_the_station_voids_everything() -> None:
    estimator = settled(OWN)
    other = replace(OWN, offset_s=20.0)
    assert estimator.add(exchange_at(other, 31 * SECOND, clock_set_ns=2, **PATH))
    assert estimator.estimate is None
    assert estimator.exchanges == 1
    for second in range(32, 35):
        assert not estimator.add(exchange_at(other, second * SECOND, clock_set_ns=2, **PATH))
    assert error_us(estimator, other, 35 * SECOND) < 10


def test_the_first_exchange_voids_nothing() -> None:
    assert not ClockEstimator().add(exchange_at(OWN, 0, **PATH))


def test_doubts_of_the_old_clock_are_not_held_against_the_new() -> None:
    estimator = settled(OWN)
    stepped = replace(OWN, offset_s=0.0)
    for second in (31, 32):
        estimator.add(exchange_at(stepped, second * SECOND, **PATH))
    estimator.add(exchange_at(OWN, 33 * SECOND, clock_set_ns=2, **PATH))
    assert not estimator.in_doubt


@pytest.mark.parametrize("skew_ppm", [-20, 20])
def test_the_drift_of_an_hours_silence_after_a_burst_is_no_step(skew_ppm: float) -> None:
    own = OwnClock(1.0, skew_ppm)
    estimator = ClockEstimator()
    for index in range(8):
        estimator.add(exchange_at(own, index * 30 * MS, **PATH))
    assert not estimator.add(exchange_at(own, 3_600 * SECOND, **PATH))
    assert not estimator.in_doubt
    assert estimator.estimate is not None


# ------------------------------------------------------------------ bounds
def test_exchanges_older_than_two_minutes_are_forgotten() -> None:
    assert settled(OWN, until_s=300).exchanges == 240


@pytest.mark.parametrize("seed", SEEDS)
def test_where_the_fastest_round_trips_wait_for_nothing_it_is_as_good(seed: int) -> None:
    """Bounds that touch: a crystal that wanders then denies itself by a little, all the time."""
    errors = errors_us("M1", seed, 300)
    assert errors[errors[:, 0] > 60, 1].max() < 50


def test_its_memory_is_bounded_however_fast_it_asks() -> None:
    estimator = ClockEstimator()
    for index in range(800):
        estimator.add(exchange_at(OWN, index * MS, **PATH))
    assert estimator.exchanges == 600


@given(
    st.integers(-(2**62), 2**62),
    st.floats(-1e6, 1e6),
    st.integers(-(2**62), 2**62),
    st.floats(-500e-6, 500e-6),
    st.integers(-86_400 * SECOND, 86_400 * SECOND),
)
def test_ours_is_the_inverse_of_theirs(
    at_ns: int, offset_ns: float, base_ns: int, skew: float, later_ns: int
) -> None:
    estimate = ClockEstimate(at_ns, offset_ns, base_ns, skew, 0.0)
    ours_ns = at_ns + later_ns
    assert abs(estimate.ours(estimate.theirs(ours_ns)) - ours_ns) <= 2


def test_today_is_converted_to_the_nanosecond() -> None:
    own = OwnClock(12_345.0)
    estimator = settled(own, until_s=5)
    assert estimator.estimate is not None
    assert estimator.estimate.theirs(own.of_true(5 * SECOND)) == media_ns(5 * SECOND)


@given(
    st.lists(
        st.tuples(*[st.integers(-(2**63), 2**63)] * 4, st.integers(0, 1)).map(
            lambda t: Exchange(*t)
        ),
        max_size=12,
    )
)
def test_no_exchange_whatever_its_times_makes_it_raise(wild: list[Exchange]) -> None:
    estimator = ClockEstimator()
    for exchange in wild:
        estimator.add(exchange)
        if estimator.estimate is not None:
            assert np.isfinite(estimator.estimate.offset_ns)
            assert np.isfinite(estimator.estimate.skew)
