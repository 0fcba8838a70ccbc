"""What one who asks, or one group, may be sent."""

from server.usher.share import BYTES_A_SECOND, BYTES_AT_ONCE, Share

MS, S = 1_000_000, 1_000_000_000
HOLD_NS = 40 * MS


def test_what_was_taken_is_held_for_a_while() -> None:
    share = Share(0)
    assert share.take((1, 5), 100)
    share.refill(HOLD_NS - 1, HOLD_NS)
    assert share.holds((1, 5))
    assert not share.holds((1, 6))
    share.refill(HOLD_NS, HOLD_NS)
    assert not share.holds((1, 5))


def test_what_is_too_much_is_refused_and_neither_held_nor_paid_for() -> None:
    share = Share(0)
    assert not share.take((1, 5), BYTES_AT_ONCE + 1)
    assert not share.holds((1, 5))
    assert share.take((1, 5), BYTES_AT_ONCE)


def test_it_fills_at_its_rate_and_never_above_its_measure() -> None:
    share = Share(0)
    share.take((1, 5), BYTES_AT_ONCE)
    share.refill(S, HOLD_NS)
    assert not share.take((1, 6), BYTES_A_SECOND + 1)
    assert share.take((1, 6), BYTES_A_SECOND)
    share.refill(60 * S, HOLD_NS)
    assert not share.take((1, 7), BYTES_AT_ONCE + 1)


def test_a_clock_that_stands_still_or_goes_back_fills_nothing() -> None:
    share = Share(S)
    share.take((1, 5), BYTES_AT_ONCE)
    share.refill(0, HOLD_NS)
    assert not share.take((1, 6), 1)
