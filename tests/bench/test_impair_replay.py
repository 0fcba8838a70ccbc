"""Intervals of simulated figures, and neighbours who meet recorded delays."""

import numpy as np
import pytest

from bench.impair_replay import Interval, Met, Watch, losses, rms_us, steps
from bench.network import MS
from bench.trace import Trace

WATCH = Watch(settle_s=12, seconds=4, every_s=0.5)


def drawn(seed: int, mean_ms: float) -> Trace:
    rng = np.random.default_rng(seed)
    return Trace(tuple((rng.exponential(mean_ms * MS, 300) + MS).astype(int).tolist()))


def met(mean_ms: float) -> list[Met]:
    return [Met(drawn(2 * n, mean_ms), drawn(2 * n + 1, mean_ms)) for n in range(3)]


def test_an_interval_leaves_out_a_fortieth_at_either_end() -> None:
    interval = Interval.of([float(figure) for figure in range(401)])
    assert interval == (10.0, 200.0, 390.0, 0.0, 400.0)
    assert [interval.holds(figure) for figure in (9, 10, 390, 391)] == [False, True, True, False]


def test_losses_are_about_the_profiles_and_repeat_with_their_runs() -> None:
    shares = losses("R20", 500, 40)
    assert np.mean(shares) == pytest.approx(0.2, abs=0.01)
    assert len(set(shares)) > 10
    assert losses("R20", 500, 3) == shares[:3]


def test_neighbours_are_the_further_apart_the_more_their_delays_vary() -> None:
    steady, wild = (steps(met(mean_ms), WATCH, 2) for mean_ms in (0.01, 4.0))
    assert max(steady) < 20
    assert min(wild) > 3 * max(steady)


def test_the_same_delays_in_the_same_order_say_more_than_their_like_in_any() -> None:
    in_order, in_any = (steps(met(2.0), WATCH, 8, in_order=order) for order in (True, False))
    assert np.std(in_order) < 0.6 * np.std(in_any)


def test_who_began_earlier_knows_more() -> None:
    early, late = ([Met(one.down, one.up, began_s) for one in met(2.0)] for began_s in (-60.0, 5.0))
    assert np.mean(steps(early, WATCH, 3)) < 0.7 * np.mean(steps(late, WATCH, 3))


def test_progress_ends_at_one() -> None:
    shares: list[float] = []
    steps(met(0.01)[:2], WATCH, 2, passed=shares.append)
    assert shares == [0.5, 1.0]


def test_the_root_mean_square_is_over_pairs_and_windows() -> None:
    assert rms_us(np.array([[3.0, -4.0], [0.0, 5.0]])) == pytest.approx(np.sqrt(12.5))
