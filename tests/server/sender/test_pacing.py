"""Shares of a frame's time."""

import pytest

from server.sender.pacing import LEAST_CHUNK, MOST_CHUNK, UNPACED, Pacing, chunk_of, gap_ns

FRAME_NS = 20e6


def test_few_packets_take_the_least_share() -> None:
    assert Pacing().share([(1_000, FRAME_NS)]) == 0.6
    assert Pacing().share([]) == 0.6


def test_many_take_what_they_need() -> None:
    assert Pacing().share([(3_000, FRAME_NS)]) == pytest.approx(0.75)
    assert gap_ns(0.75, 3_000, FRAME_NS) == pytest.approx(5_000)


def test_all_streams_together_count() -> None:
    assert Pacing().share([(2_000, FRAME_NS), (3_000, 3 * FRAME_NS)]) == pytest.approx(0.75)


def test_a_frame_has_left_before_the_next_one_comes() -> None:
    assert Pacing().share([(100_000, FRAME_NS)]) == 0.9


def test_nobody_waits_long_for_few() -> None:
    assert gap_ns(0.6, 10, FRAME_NS) == 10_000
    assert gap_ns(0.6, 0, FRAME_NS) == 10_000


def test_unpaced_is_at_once() -> None:
    assert gap_ns(UNPACED.share([(10_000, FRAME_NS)]), 10_000, FRAME_NS) == 0


def test_a_chunk_leaves_every_four_tenths_of_a_millisecond_within_bounds() -> None:
    assert chunk_of(4_000) == 100
    assert chunk_of(10_000) == LEAST_CHUNK
    assert chunk_of(1_000) == MOST_CHUNK
    assert chunk_of(0) == MOST_CHUNK
