"""Which copies go along: for each delivery before any report, and by what is reported."""

import random
from dataclasses import replace
from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.format import FRAME_MS, SAMPLE_RATE, samples_of_ms
from transport.clock.timeline import NS_PER_SECOND
from transport.control.delivery import DELIVERIES
from transport.recovery.copies import KEPT_SAMPLES, MAX_COPIES
from transport.recovery.erasure import MOST_FRAMES, Code
from transport.recovery.policy import (
    BETTER_AFTER_NS,
    LossWatch,
    code_for,
    copies_for,
    is_bursty,
    residual_loss,
)
from transport.recovery.report import LossSummary

CLEAN = LossSummary(0.0, 0.0, 2.0)
FIGURES = st.builds(
    LossSummary,
    st.floats(0, 1),
    st.floats(0, 30_000),
    st.floats(0, 10_000),
    st.none() | st.floats(-1_000, 20_000),
)


def copies_ms(
    delivery: str,
    summary: LossSummary | None = None,
    *,
    multicast: bool = False,
    delay_ms: float | None = None,
    settled: bool = True,
) -> list[float]:
    kind = DELIVERIES[delivery]
    offsets = copies_for(
        delivery,
        kind.frame_ms,
        kind.playout_delay_ms if delay_ms is None else delay_ms,
        summary,
        multicast=multicast,
        settled=settled,
    )
    return [offset * 1000 / SAMPLE_RATE for offset in offsets]


# ------------------------------------------------------------------ before any report
def test_over_the_internet_one_copy_outlives_an_outage_of_400_ms() -> None:
    assert copies_ms("wan") == [420.0]
    assert copies_ms("wan", delay_ms=700.0) == [620.0]


def test_a_group_on_a_lan_has_two_copies_and_a_slower_one_three_far_apart() -> None:
    assert copies_ms("lan", multicast=True) == [10.0, 20.0]
    # And one that is there where jitter makes the last come too late.
    assert copies_ms("wifi", multicast=True) == [20.0, 50.0, 70.0, 80.0]


def test_one_loudspeaker_on_a_lan_has_one_copy_as_far_as_it_can_be_of_use() -> None:
    assert copies_ms("lan") == [20.0]
    assert copies_ms("wifi") == [30.0]


@pytest.mark.parametrize("summary", [None, CLEAN, LossSummary(0.3, 200.0, 5.0)])
def test_to_who_pays_by_the_byte_nothing_is_sent_that_was_not_asked_for(
    summary: LossSummary | None,
) -> None:
    assert copies_ms("saver", summary) == []


@given(
    st.sampled_from(sorted(DELIVERIES)),
    st.sampled_from(FRAME_MS),
    st.floats(1, 10_000),
    st.none() | FIGURES,
    st.booleans(),
    st.booleans(),
)
def test_whatever_is_asked_all_copies_come_in_time_and_can_be_sent(
    delivery: str,
    frame_ms: float,
    delay_ms: float,
    summary: LossSummary | None,
    multicast: bool,
    settled: bool,
) -> None:
    offsets = copies_for(
        delivery, frame_ms, delay_ms, summary, multicast=multicast, settled=settled
    )
    assert len(offsets) <= MAX_COPIES
    assert all(before < after for before, after in pairwise(offsets))
    for offset in offsets:
        assert offset % samples_of_ms(frame_ms) == 0
        # The packet it goes with has been captured, and encoded, and has some time to arrive.
        assert 0 < offset * 1000 / SAMPLE_RATE + frame_ms + 10 <= delay_ms
        assert offset <= KEPT_SAMPLES


# ------------------------------------------------------------------ by what is reported
def lost_by_chance(share: float, seed: int = 1) -> LossSummary:
    """Half a minute of 20 ms frames, each lost for itself."""
    draws = random.Random(seed)
    return summary_of([draws.random() < share for _ in range(1500)])


def lost_in_bursts(share: float, mean: float, seed: int = 1) -> LossSummary:
    """By a Gilbert model: bursts of `mean` frames."""
    draws, lost, frames = random.Random(seed), False, []
    for _ in range(1500):
        leaves = 1 / mean if lost else share / (1 - share) / mean
        lost ^= draws.random() < leaves
        frames.append(lost)
    return summary_of(frames)


def summary_of(lost: list[bool]) -> LossSummary:
    longest = max((sum(1 for _ in run) for is_lost, run in groupby(lost) if is_lost), default=0)
    return LossSummary(sum(lost) / len(lost), longest * 20.0, 5.0)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_what_is_lost_by_chance_is_known_from_bursts(share: float, seed: int) -> None:
    assert not is_bursty(lost_by_chance(share, seed), 20.0)
    if share >= 0.1:  # of less there may be no burst in half a minute
        assert is_bursty(lost_in_bursts(share, 12.0, seed), 20.0)


def test_much_loss_by_chance_brings_the_copy_near_and_bursts_put_it_far_away() -> None:
    assert copies_ms("wan", lost_by_chance(0.2)) == [60.0]
    assert copies_ms("wan", lost_in_bursts(0.2, 10.0)) == [420.0]
    # It is bursts that count, and not how much is lost.
    assert copies_ms("wan", LossSummary(0.02, 400.0, 5.0)) == [420.0]
    assert copies_ms("wan", LossSummary(0.02, 20.0, 5.0)) == [420.0]


def test_jitter_brings_the_copy_as_much_nearer_as_it_would_come_too_late() -> None:
    assert copies_ms("wan", LossSummary(0.01, 100.0, 20.0)) == [420.0]
    assert copies_ms("wan", LossSummary(0.01, 100.0, 60.0)) == [380.0]
    assert copies_ms("wan", LossSummary(0.01, 100.0, 5_000.0)) == [60.0]


@pytest.mark.parametrize(("margin_ms", "back_ms"), [(430.0, 420.0), (475.0, 460.0), (10.0, 60.0)])
def test_who_tells_how_early_packets_come_gets_the_copy_as_far_back_as_it_is_in_time(
    margin_ms: float, back_ms: float
) -> None:
    # Whatever the way takes, and the output keeps ready for its device; jitter is in it too.
    assert copies_ms("wan", LossSummary(0.02, 400.0, 90.0, margin_ms)) == [back_ms]


def test_a_group_whose_outputs_take_long_has_its_copies_nearer() -> None:
    # Three in four come 55 ms early: the one 60 ms back is late now and then, that before it not.
    assert copies_ms("wifi", LossSummary(0.02, 10.0, 2.0, 55.0), multicast=True) == [
        20.0,
        40.0,
        50.0,
        60.0,
    ]
    assert copies_ms("wifi", LossSummary(0.02, 10.0, 2.0, 0.0), multicast=True) == [10.0]


def test_a_network_that_loses_nothing_for_long_needs_no_copy_or_of_a_group_one() -> None:
    assert copies_ms("wan", CLEAN) == []
    assert copies_ms("lan", CLEAN, multicast=True) == [20.0]
    assert copies_ms("wifi", CLEAN, multicast=True) == [80.0]


def test_before_it_has_lasted_nobody_believes_that_nothing_is_lost() -> None:
    assert copies_ms("wan", CLEAN, settled=False) == copies_ms("wan")
    assert copies_ms("wifi", CLEAN, multicast=True, settled=False) == [20.0, 50.0, 70.0, 80.0]


def test_one_burst_of_two_frames_is_enough_for_a_copy() -> None:
    assert copies_ms("wan", LossSummary(0.0005, 20.0, 2.0)) == []
    assert copies_ms("wan", LossSummary(0.0005, 40.0, 2.0)) == [420.0]


@pytest.mark.parametrize("much", [LossSummary(0.1, 10.0, 2.0), LossSummary(0.02, 90.0, 2.0)])
def test_a_group_that_loses_much_or_in_bursts_has_more_if_it_has_the_time(
    much: LossSummary,
) -> None:
    assert copies_ms("wifi", much, multicast=True) == [10.0, 30.0, 40.0, 60.0, 70.0, 80.0]
    assert copies_ms("lan", much, multicast=True) == [10.0, 20.0]


# ------------------------------------------------------------------ worse at once, better later
S = NS_PER_SECOND
WORSE = LossSummary(0.1, 200.0, 30.0)


def heard(*told: tuple[float, LossSummary]) -> LossWatch:
    watch = LossWatch()
    for at_s, summary in told:
        watch.hear(summary, round(at_s * S))
    return watch


def test_nothing_is_known_before_anything_was_told() -> None:
    watch = LossWatch()
    assert watch.worst is None
    assert not watch.settled


def test_worse_counts_at_once_and_better_a_minute_later() -> None:
    watch = heard((0, CLEAN), (2, WORSE))
    assert watch.worst == WORSE
    for at_s in range(4, 62, 2):
        watch.hear(CLEAN, at_s * S)
        assert watch.worst == WORSE
    watch.hear(CLEAN, 62 * S)
    assert watch.worst == CLEAN


def test_the_worst_is_that_of_each_figure() -> None:
    watch = heard((0, LossSummary(0.3, 20.0, 1.0)), (1, LossSummary(0.01, 400.0, 2.0)))
    assert watch.worst == LossSummary(0.3, 400.0, 2.0)


@given(st.lists(st.tuples(st.integers(1, 40), FIGURES), min_size=1, max_size=40))
def test_the_worst_is_that_of_the_last_minute(told: list[tuple[int, LossSummary]]) -> None:
    watch, at_s, all_told = LossWatch(), 0, []
    for pause_s, summary in told:
        at_s += pause_s
        all_told.append((at_s, summary))
        watch.hear(summary, at_s * S)
    late = [summary for when_s, summary in all_told if (at_s - when_s) * S < BETTER_AFTER_NS]
    assert watch.worst == LossSummary(
        max(s.loss for s in late),
        max(s.longest_burst_ms for s in late),
        max(s.jitter_ms for s in late),
        min((s.margin_ms for s in late if s.margin_ms is not None), default=None),
    )


def test_the_least_time_to_spare_counts_and_unknown_is_none() -> None:
    told = [(0, replace(WORSE, margin_ms=90.0)), (1, replace(WORSE, margin_ms=40.0)), (2, WORSE)]
    watch = heard(*told)
    assert watch.worst == replace(WORSE, margin_ms=40.0)
    watch.hear(WORSE, 70 * S)
    assert watch.worst == WORSE


def test_it_is_settled_after_a_minute_without_a_pause() -> None:
    told = [(at_s, CLEAN) for at_s in range(0, 60, 2)]
    assert not heard(*told).settled
    assert heard(*told, (60, CLEAN)).settled
    assert not heard((0, CLEAN), (60, CLEAN)).settled
    assert not heard(*told, (100, CLEAN)).settled


def test_what_is_told_for_hours_takes_no_room() -> None:
    watch = heard(*((at_s, CLEAN) for at_s in range(0, 10_000, 2)))
    assert len(watch._told) == 1
    draws = random.Random(1)
    for at_s in range(10_000, 20_000, 2):
        watch.hear(LossSummary(draws.random(), 0.0, draws.random()), at_s * S)
    assert len(watch._told) <= 30


# ------------------------------------------------------------------ a code instead
def code(loss: float, *, frame_ms: float = 10.0, delay_ms: float = 500.0) -> Code | None:
    summary = LossSummary(loss, 4 * frame_ms, 5.0)
    return code_for("lan", frame_ms, delay_ms, summary, multicast=True)


def test_a_group_that_loses_very_much_by_chance_has_a_code() -> None:
    assert code(0.15) is None
    assert code(0.16) == Code(16, 16)
    assert code(0.2) == Code(15, 17)
    assert code(0.3) == Code(11, 21)
    assert code(0.3, frame_ms=20.0) == Code(11, 21)
    assert code(0.33) == Code(8, 24)


def test_where_copies_bring_back_more_they_go_along() -> None:
    assert code(0.4) is None
    assert code(1.0) is None


def test_only_a_group_whose_losses_are_of_chance_has_a_code() -> None:
    lossy = LossSummary(0.2, 40.0, 5.0)
    assert code_for("wifi", 10.0, 500.0, lossy, multicast=True)
    assert code_for("wifi", 10.0, 500.0, lossy) is None
    assert code_for("saver", 60.0, 5_000.0, lossy, multicast=True) is None
    assert code_for("lan", 10.0, 500.0, None, multicast=True) is None
    bursts = replace(lossy, longest_burst_ms=200.0)
    assert is_bursty(bursts, 10.0)
    assert code_for("lan", 10.0, 500.0, bursts, multicast=True) is None


@pytest.mark.parametrize("delay_ms", [40.0, 100.0, 130.0])
def test_without_room_for_two_blocks_there_is_none(delay_ms: float) -> None:
    assert code(0.2, delay_ms=delay_ms) is None


def test_what_comes_too_late_is_not_counted_on() -> None:
    late = LossSummary(0.2, 40.0, 5.0, margin_ms=180.0)
    narrow = code_for("lan", 10.0, 500.0, late, multicast=True)
    assert narrow == code(0.2, delay_ms=200.0)
    none = replace(late, margin_ms=-20.0)
    assert code_for("lan", 10.0, 500.0, none, multicast=True) is None


@given(st.sampled_from(FRAME_MS), st.floats(1, 10_000), FIGURES)
def test_whatever_is_told_the_last_symbol_is_in_time_and_no_more_is_lost_than_with_copies(
    frame_ms: float, delay_ms: float, summary: LossSummary
) -> None:
    found = code_for("wifi", frame_ms, delay_ms, summary, multicast=True)
    if found is None:
        return
    assert (2 * found.frames - 1) * frame_ms <= delay_ms - frame_ms - 10.0
    copies = copies_for("wifi", frame_ms, delay_ms, summary, multicast=True)
    loss = min(summary.loss + 0.01, 1.0)
    assert residual_loss(found, summary.loss) <= max(loss ** (1 + len(copies)), 1e-5)
    assert found.symbols / found.frames < max(len(copies), 1)


@pytest.mark.parametrize(
    ("one", "loss"), [(Code(6, 6), 0.25), (Code(8, 24), 0.35), (Code(12, 20), 0.35)]
)
def test_what_is_reckoned_is_what_is_lost(one: Code, loss: float) -> None:
    rng, blocks, unheard = random.Random(1), 30_000, 0
    for _ in range(blocks):
        own = sum(rng.random() < loss for _ in range(one.frames))
        came = sum(
            (place + 1) * one.symbols // one.frames - place * one.symbols // one.frames
            for place in range(one.frames)
            if rng.random() >= loss
        )
        unheard += own if own > came else 0
    expected = residual_loss(one, loss)
    assert unheard / blocks / one.frames == pytest.approx(expected, rel=0.25)
    assert one.frames <= MOST_FRAMES


def test_the_code_is_not_taken_away_as_soon_as_less_is_lost() -> None:
    watch = LossWatch()
    watch.hear(LossSummary(0.2, 40.0, 5.0), 0)
    watch.hear(LossSummary(0.1, 40.0, 5.0), 30 * NS_PER_SECOND)
    assert code_for("lan", 10.0, 500.0, watch.worst, multicast=True)
    watch.hear(LossSummary(0.1, 40.0, 5.0), 61 * NS_PER_SECOND)
    assert code_for("lan", 10.0, 500.0, watch.worst, multicast=True) is None
