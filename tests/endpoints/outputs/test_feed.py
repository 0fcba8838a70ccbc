"""The queue between the loudspeaker's thread and the sound card's."""

import numpy as np

from endpoints.outputs.feed import CAPACITY, Feed


def take(feed: Feed, count: int) -> tuple[int, list[float]]:
    out = np.full(count, np.nan, np.float32)
    return feed.take(out), out.tolist()


def test_samples_are_taken_in_order_and_silence_after_them() -> None:
    feed = Feed()
    assert feed.bring(0, np.array([1, 2, 3], np.float32))
    assert take(feed, 2) == (0, [1, 2])
    assert take(feed, 2) == (2, [3, 0])
    assert (feed.end, feed.ready, feed.holes, feed.largest_take) == (4, 0, 1, 2)


def test_what_comes_after_its_turn_is_dropped() -> None:
    feed = Feed()
    take(feed, 4)
    assert not feed.bring(0, np.ones(4, np.float32))
    assert feed.bring(4, np.ones(1, np.float32))
    assert take(feed, 2) == (4, [1, 0])


def test_silence_before_the_first_sample_is_no_hole_and_a_long_one_is_one() -> None:
    feed = Feed()
    take(feed, 4)
    assert feed.holes == 0
    feed.bring(4, np.ones(2, np.float32))
    take(feed, 4)
    take(feed, 4)
    assert feed.holes == 1


def test_it_is_bounded() -> None:
    feed = Feed()
    assert feed.bring(0, np.zeros(CAPACITY, np.float32))
    assert not feed.bring(CAPACITY, np.zeros(1, np.float32))


def test_samples_survive_the_end_of_the_ring() -> None:
    feed, index = Feed(), 0
    for _ in range(3 * CAPACITY // 1_000):
        block = np.arange(index, index + 1_000).astype(np.float32)
        assert feed.bring(index, block)
        assert take(feed, 1_000) == (index, block.tolist())
        index += 1_000
