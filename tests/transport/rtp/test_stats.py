from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.rtp.stats import MAX_DROPOUT, MAX_MISORDER, WINDOW, ReceptionStats, Verdict

FIRSTS = pytest.mark.parametrize("first", [0, 1, 65533, 65535])
IN_ORDER, REORDERED, DUPLICATE = Verdict.IN_ORDER, Verdict.REORDERED, Verdict.DUPLICATE
RESTARTED, DROPPED = Verdict.RESTARTED, Verdict.DROPPED
FRAME = 480


def feed(stats: ReceptionStats, first: int, steps: Sequence[int]) -> list[Verdict]:
    """Packets numbered from `first`, each on time."""
    return [
        stats.update((first + step) % 65536, step * FRAME % 2**32, step * FRAME) for step in steps
    ]


def after(first: int, steps: Sequence[int]) -> ReceptionStats:
    stats = ReceptionStats(48_000)
    feed(stats, first, steps)
    return stats


# ------------------------------------------------------------------ verdicts
@FIRSTS
def test_consecutive_packets_are_in_order(first: int) -> None:
    assert feed(ReceptionStats(48_000), first, range(6)) == [IN_ORDER] * 6


@FIRSTS
def test_a_packet_after_a_gap_is_in_order(first: int) -> None:
    assert feed(ReceptionStats(48_000), first, [0, MAX_DROPOUT - 1]) == [IN_ORDER] * 2


@FIRSTS
def test_a_late_packet_is_reordered(first: int) -> None:
    assert feed(ReceptionStats(48_000), first, [0, 2, 1, 3])[2] is REORDERED


@FIRSTS
def test_a_packet_from_before_the_first_is_reordered(first: int) -> None:
    assert feed(ReceptionStats(48_000), first, [0, -1]) == [IN_ORDER, REORDERED]


@FIRSTS
def test_the_newest_packet_again_is_a_duplicate(first: int) -> None:
    assert feed(ReceptionStats(48_000), first, [0, 1, 1])[2] is DUPLICATE


@FIRSTS
def test_a_late_packet_again_is_a_duplicate(first: int) -> None:
    assert feed(ReceptionStats(48_000), first, [0, 2, 1, 1])[3] is DUPLICATE


@FIRSTS
def test_a_duplicate_is_known_to_the_end_of_the_window(first: int) -> None:
    steps = [*range(WINDOW), 0]
    assert feed(ReceptionStats(48_000), first, steps)[-1] is DUPLICATE


@FIRSTS
def test_a_packet_beyond_the_window_is_dropped(first: int) -> None:
    steps = [0, *range(2, WINDOW + 2), 1]
    assert feed(ReceptionStats(48_000), first, steps)[-1] is DROPPED


@FIRSTS
def test_a_packet_at_the_end_of_the_window_is_reordered(first: int) -> None:
    steps = [0, *range(2, WINDOW + 1), 1]
    assert feed(ReceptionStats(48_000), first, steps)[-1] is REORDERED


@FIRSTS
@pytest.mark.parametrize("jump", [MAX_DROPOUT, 30_000, -30_000, -MAX_MISORDER])
def test_one_unbelievable_jump_is_dropped(first: int, jump: int) -> None:
    assert feed(ReceptionStats(48_000), first, [0, jump, 1]) == [IN_ORDER, DROPPED, IN_ORDER]


@FIRSTS
@pytest.mark.parametrize("jump", [MAX_DROPOUT, 30_000, -30_000, -2 * MAX_MISORDER])
def test_two_in_a_row_after_a_jump_are_a_restart(first: int, jump: int) -> None:
    verdicts = feed(ReceptionStats(48_000), first, [0, jump, jump + 1, jump + 2])
    assert verdicts == [IN_ORDER, DROPPED, RESTARTED, IN_ORDER]


def test_two_jumps_to_unrelated_places_are_no_restart() -> None:
    assert feed(ReceptionStats(48_000), 0, [0, 20_000, 25_000])[1:] == [DROPPED, DROPPED]


def test_stragglers_with_good_packets_between_them_are_no_restart() -> None:
    verdicts = feed(ReceptionStats(48_000), 0, [0, 20_000, 1, 20_001, 2])
    assert verdicts == [IN_ORDER, DROPPED, IN_ORDER, DROPPED, IN_ORDER]


# ------------------------------------------------------------------ counters
@FIRSTS
def test_a_gap_is_lost(first: int) -> None:
    stats = after(first, [0, 1, 4])
    assert (stats.received, stats.lost) == (3, 2)


@FIRSTS
def test_a_late_arrival_is_lost_no_more(first: int) -> None:
    stats = after(first, [0, 2, 1])
    assert (stats.received, stats.reordered, stats.lost) == (3, 1, 0)


@FIRSTS
def test_duplicates_do_not_make_up_for_losses(first: int) -> None:
    stats = after(first, [0, 2, 2, 2])
    assert (stats.received, stats.duplicates, stats.lost) == (2, 2, 1)


@FIRSTS
def test_packets_from_before_the_first_do_not_make_up_for_losses(first: int) -> None:
    stats = after(first, [0, -1, -2, 2])
    assert (stats.received, stats.reordered, stats.lost) == (4, 2, 1)


def test_dropped_packets_are_counted_apart() -> None:
    stats = after(0, [0, 20_000, 1])
    assert (stats.received, stats.dropped, stats.lost) == (2, 1, 0)


def test_losses_from_before_a_restart_are_still_lost() -> None:
    stats = after(0, [0, 3, 20_000, 20_001, 20_003])
    assert (stats.received, stats.restarts, stats.lost) == (4, 1, 3)


def test_nothing_is_lost_before_the_first_packet() -> None:
    stats = ReceptionStats(48_000)
    assert (stats.received, stats.lost) == (0, 0)


@given(first=st.integers(0, 65535), steps=st.lists(st.integers(-40, 40), min_size=1, max_size=80))
def test_each_packet_is_accepted_once_within_the_window(first: int, steps: list[int]) -> None:
    stats = ReceptionStats(48_000)
    verdicts = feed(stats, first, steps)
    newest, seen = steps[0], set[int]()
    for step, verdict in zip(steps, verdicts, strict=True):
        newest = max(newest, step)
        in_window = newest - step < WINDOW
        assert (verdict in {IN_ORDER, REORDERED}) == (in_window and step not in seen)
        assert (verdict is DUPLICATE) == (in_window and step in seen)
        if in_window:
            seen.add(step)
    assert stats.received == len(seen)
    expected = set(range(steps[0], newest + 1))
    assert stats.lost == len(expected - seen)


@given(
    packets=st.lists(
        st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1), st.integers(0, 2**50)),
        min_size=1,
        max_size=60,
    )
)
def test_no_stream_of_packets_unbalances_the_counts(packets: list[tuple[int, int, int]]) -> None:
    stats = ReceptionStats(48_000)
    for sequence, timestamp, arrival in packets:
        stats.update(sequence, timestamp, arrival)
    assert stats.lost >= 0
    assert stats.received + stats.duplicates + stats.dropped == len(packets)


# ------------------------------------------------------------------ extended sequence
@FIRSTS
def test_sequence_numbers_are_extended_over_the_wrap(first: int) -> None:
    stats = after(first, range(6))
    extended = [stats.extended_sequence((first + step) % 65536) for step in range(-2, 9)]
    assert extended == list(range(first - 2, first + 9))


def test_the_wrap_is_counted_every_time() -> None:
    stats = after(0, range(0, 3 * 65536, 2048))
    assert stats.extended_sequence(5) == 3 * 65536 + 5


def test_a_sequence_number_stands_for_itself_before_the_first_packet() -> None:
    assert ReceptionStats(48_000).extended_sequence(65535) == 65535


def test_extended_numbers_start_again_on_a_restart() -> None:
    stats = after(65535, [0, 1, 20_000, 20_001])
    assert stats.extended_sequence(20_000) == 20_000


# ------------------------------------------------------------------ jitter (A.8)
def test_an_even_stream_has_no_jitter() -> None:
    assert after(0, range(50)).jitter_samples == 0


@pytest.mark.parametrize("start", [0, 1, 2**31 - FRAME, 2**32 - FRAME, 2**32 - 1])
def test_jitter_is_not_disturbed_by_the_wrap_of_timestamps(start: int) -> None:
    stats = ReceptionStats(48_000)
    for step in range(4):
        stats.update(step, (start + step * FRAME) % 2**32, 5_000_000.25 + step * FRAME)
    assert stats.jitter_samples == 0


def test_jitter_takes_a_sixteenth_of_each_difference() -> None:
    stats = ReceptionStats(48_000)
    for step, late in enumerate((0, 160, 160, 0)):
        stats.update(step, step * FRAME, step * FRAME + late)
    expected = 10.0  # 160/16
    expected += (0 - expected) / 16
    expected += (160 - expected) / 16
    assert stats.jitter_samples == pytest.approx(expected)


def test_jitter_is_also_told_as_time() -> None:
    stats = ReceptionStats(48_000)
    stats.update(0, 0, 0)
    stats.update(1, FRAME, FRAME + 16 * 48)
    assert stats.jitter_ns == 1_000_000


def test_a_pause_is_no_jitter() -> None:
    stats = ReceptionStats(48_000)
    stats.update(0, 0, 0)
    stats.update(1, 480_000, 480_000)
    assert stats.jitter_samples == 0


def test_late_copies_are_no_jitter() -> None:
    stats = after(0, [0, 1])
    stats.update(0, 0, 9999)
    assert stats.jitter_samples == 0


def test_jitter_starts_again_on_a_restart() -> None:
    stats = ReceptionStats(48_000)
    for sequence, timestamp in ((0, 0), (20_000, 2**31), (20_001, 2**31 + FRAME)):
        stats.update(sequence, timestamp, 0)
    assert stats.jitter_samples == 0


@pytest.mark.parametrize("rate", [0, -1])
def test_a_clock_without_rate_is_our_mistake(rate: int) -> None:
    with pytest.raises(ValueError, match="clock rate"):
        ReceptionStats(rate)
