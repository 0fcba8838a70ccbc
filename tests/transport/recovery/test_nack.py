"""When what is missing is asked for: frames of 20 ms, 50 ms on their way, sounded at 500 ms."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.network import MS as NS_PER_MS
from bench.network import SECOND as NS_PER_SECOND
from bench.network import Burst, Impairments, Jitter, Outages
from tests.support.ear import FRAME, MS, WAY, Ear
from tests.support.repairing import Scene, each_way
from transport.recovery.nack import MAX_MISSING, RepairSchedule


def ms(samples: int | None) -> float | None:
    return None if samples is None else samples / MS


def test_while_all_come_in_time_nothing_is_asked_for() -> None:
    ear = Ear()
    ear.hear(*range(100))
    assert not ear.asked
    assert len(ear.schedule) == 0


def test_a_gap_is_asked_for_when_the_next_packet_shows_it_and_thrice() -> None:
    ear = Ear()
    ear.hear(*range(10), 11, 12, 13)
    # Frame 10 was to come at 270 ms, and frame 11 came at 290.
    assert ear.times_of(10) == [290, 300, 310]
    assert {numbers for _, _, numbers in ear.asked} == {(10,)}


def test_it_is_asked_for_again_when_both_answers_should_have_come_and_at_last_more_often() -> None:
    ear = Ear()
    ear.hear(*range(10), *range(11, 40))
    ear.until(2_000)
    # Of an unknown round trip the first guess is 100 ms, and no time is too late to try.
    rounds = [290, 300, 310, 430, 440, 450, 570, 580, 590]
    assert ear.times_of(10)[:9] == rounds
    assert max(ear.times_of(10)) <= 10 * 20 + 500 - 20


def learnt(rtt_ms: int, *, delay_ms: int = 500) -> Ear:
    """An ear that knows the round trip from frame 10's repair."""
    ear = Ear(delay_ms=delay_ms)
    ear.hear(*range(10), *range(11, 11 + rtt_ms // 20))
    ear.repair(10, 290 + rtt_ms)
    assert ear.schedule.rtt_samples == rtt_ms * MS
    ear.asked.clear()
    return ear


def test_never_is_anything_asked_for_whose_answer_would_come_after_its_playout() -> None:
    ear = learnt(100)
    ear.hear(*range(20, 30), *range(31, 70))
    asked = ear.times_of(30)
    # It has to be there at 30 * 20 + 500 - 20 ms.
    assert max(asked) <= 980
    assert 980 - max(asked) <= 10
    assert asked[0] == 690


def test_a_playout_delay_shorter_than_the_round_trip_is_not_even_tried() -> None:
    ear = learnt(300, delay_ms=500)
    impatient = RepairSchedule(FRAME, 320 * MS)
    for frame in (*range(10), *range(11, 26)):
        impatient.arrived(0, frame, frame * FRAME, (frame + 1) * FRAME + WAY)
        impatient.due((frame + 1) * FRAME + WAY)
    # Too late to be heard, and yet it is of use.
    impatient.arrived(0, 10, 10 * FRAME, 590 * MS, repaired=True)
    assert impatient.rtt_samples == ear.schedule.rtt_samples
    # Of frame 30 is known at 690 ms; its answer would come at 990, and it sounds at 920.
    for frame in (*range(26, 30), 31):
        impatient.arrived(0, frame, frame * FRAME, (frame + 1) * FRAME + WAY)
        assert not impatient.due((frame + 1) * FRAME + WAY)


def test_a_round_trip_that_nobody_has_seen_for_half_a_minute_is_unknown() -> None:
    ear = learnt(460)
    ear.hear(*range(40, 1_600))
    ear.asked.clear()
    ear.hear(*range(1_601, 1_610))
    assert ear.times_of(1_600), "nothing would ever be asked for again"


def test_what_a_repair_or_a_copy_has_brought_is_asked_for_no_more() -> None:
    ear = learnt(100)
    ear.hear(*range(16, 30), 32, 33)
    assert ear.times_of(30)
    ear.repair(30, 750)
    ear.schedule.filled(31 * FRAME)
    ear.asked.clear()
    ear.hear(*range(34, 70))
    assert not ear.asked
    assert len(ear.schedule) == 0


def test_what_comes_out_of_order_within_10_ms_is_not_asked_for() -> None:
    schedule = RepairSchedule(FRAME // 8, 500 * MS)
    for frame in [*range(20), 21, 20, *range(22, 40)]:
        now = max(frame, 21 if frame == 20 else 0) * FRAME // 8 + WAY
        schedule.arrived(0, frame, frame * FRAME // 8, now)
        assert not schedule.due(now)
    assert len(schedule) == 0


def test_the_longer_packets_are_used_to_be_late_the_longer_they_are_waited_for() -> None:
    ear = Ear()
    for frame in range(100):
        ear.hear(frame, late_ms=frame % 2 * 45)
    ear.hear(*range(102, 106))
    # At 2,070 ms it was to come, and of the others half come 45 ms later.
    assert ear.times_of(100)[0] == 2_115


def test_when_nothing_comes_the_next_are_supposed_lost_eight_at_most() -> None:
    ear = learnt(100)
    ear.hear(*range(16, 30))
    ear.until(3_000)
    # Frame 30 was to come at 670 ms.
    assert ear.times_of(30)[0] == 690
    assert ear.times_of(31)[0] == 710
    assert {n for _, _, numbers in ear.asked for n in numbers} == set(range(30, 38))
    assert ear.schedule.next_due() is None
    assert max(at for at, _, _ in ear.asked) <= 37 * 20 + 500 - 20


def test_when_a_packet_shows_that_the_network_is_back_what_was_supposed_lost_is_asked_for() -> None:
    ear = learnt(100)
    ear.hear(*range(16, 30), 34)
    ear.until(800)
    # Supposed lost, and asked for once, when no way may have been open.
    assert ear.times_of(30) == [690, 750, 760, 770]


def test_after_an_outage_all_that_may_still_be_of_use_is_asked_for_at_once() -> None:
    ear = learnt(100)
    ear.hear(*range(16, 30))
    ear.until(1_000)
    ear.asked.clear()
    ear.hear(55)
    ear.until(1_175)
    at, _, numbers = ear.asked[-1]
    # Frame 55 came at 1,170 ms; frame 40 has to be there by 1,280.
    assert numbers[-1] == 54
    assert set(range(42, 55)) <= {n for _, _, numbers in ear.asked for n in numbers}
    assert at <= 1_175


def test_a_pause_of_the_speech_costs_few_requests_and_its_end_none() -> None:
    schedule = RepairSchedule(FRAME, 500 * MS)
    number, requests, now = 0, 0, 0
    for minute in range(10):
        for frame in (*range(50), *range(70, 170, 20)):
            start = minute * 200 * FRAME + frame * FRAME
            now = start + FRAME + WAY
            while (due := schedule.next_due()) is not None and due < now:
                requests += bool(schedule.due(due))
            schedule.arrived(0, number, start, now)
            number += 1
    # Three in each of 60 pauses, and a few more while it learns of them.
    assert requests <= 60 * 4 + 20
    assert len(schedule) <= 8


def test_the_loss_of_the_first_frame_after_a_pause_is_asked_for() -> None:
    schedule = RepairSchedule(FRAME, 500 * MS)
    for frame in range(10):
        schedule.arrived(0, frame, frame * FRAME, (frame + 1) * FRAME + WAY)
    # A minute later; number 10 was the frame before this.
    start = 3_000 * FRAME
    now = start + FRAME + WAY
    schedule.arrived(0, 11, start, now)
    assert schedule.due(now + 10 * MS) == {0: (10,)}


def test_numbers_that_come_round_are_told_as_they_travel() -> None:
    schedule = RepairSchedule(FRAME, 500 * MS)
    schedule.arrived(0, 65_533, 0, FRAME + WAY)
    schedule.arrived(0, 2, 5 * FRAME, 6 * FRAME + WAY)
    assert schedule.due(6 * FRAME + WAY) == {0: (65_534, 65_535, 0, 1)}


def test_what_both_ends_of_two_epochs_lost_is_asked_for_in_each() -> None:
    ear = Ear(epoch=3, first=5_000)
    ear.hear(*range(10))
    # Frames 10 and 11 end epoch 3; frames 12 and 13 begin epoch 4.
    schedule, now = ear.schedule, 15 * FRAME + WAY
    schedule.arrived(4, 2, 14 * FRAME, now)
    assert schedule.due(now + 20 * MS) == {3: (5_010, 5_011), 4: (0, 1)}


def test_who_comes_in_the_middle_of_an_epoch_misses_nothing_before() -> None:
    schedule = RepairSchedule(FRAME, 500 * MS)
    schedule.arrived(7, 40, 40 * FRAME, 41 * FRAME + WAY)
    assert len(schedule) == 0


def test_a_straggler_of_the_former_epoch_is_no_longer_missing() -> None:
    ear = Ear(epoch=3)
    ear.hear(*range(10))
    schedule, now = ear.schedule, 12 * FRAME + WAY
    schedule.arrived(4, 0, 11 * FRAME, now)
    schedule.arrived(3, 10, 10 * FRAME, now + MS)
    assert not schedule.due(now + 10 * MS)


def test_a_repair_of_what_was_only_supposed_lost_is_not_asked_for_again() -> None:
    ear = learnt(100)
    ear.hear(*range(16, 30))
    ear.until(760)
    assert ear.times_of(31)
    ear.repair(30, 790)
    ear.repair(31, 790)
    ear.asked.clear()
    ear.hear(*range(36, 40))
    assert not ear.times_of(30)
    assert not ear.times_of(31)
    assert ear.times_of(35)


def test_a_numbering_begun_anew_is_believed_and_nothing_before_it_is_missing() -> None:
    ear = Ear()
    ear.hear(*range(10))
    ear.schedule.arrived(0, 30_000, 10 * FRAME, 11 * FRAME + WAY)
    assert len(ear.schedule) == 0
    ear.schedule.arrived(0, 30_002, 12 * FRAME, 13 * FRAME + WAY)
    assert ear.schedule.due(13 * FRAME + WAY) == {0: (30_001,)}


def test_the_round_trip_is_what_the_quickest_of_late_have_taken() -> None:
    ear = Ear()
    frame = 0
    for took in [60, 200, 60, 200, 60, 200, 60, 200]:
        start = frame + 5
        ear.hear(*range(frame, start), *range(start + 1, start + 16))
        ear.repair(start, (start + 2) * 20 + 50 + took)
        frame = start + 16
    assert ms(ear.schedule.rtt_samples) == 60


def test_a_stream_of_impossible_frames_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="frame"):
        RepairSchedule(0, 100)


@given(st.integers(0, 1 << 32), st.sampled_from([120, 960, 2_880]))
def test_whatever_comes_it_stays_bounded_and_is_not_due_again_at_once(
    seed: int, frame: int
) -> None:
    rng = random.Random(seed)
    schedule = RepairSchedule(frame, 12 * 48_000)
    now, number, start = 0, 0, 0
    for _ in range(100):
        now += rng.choice([0, 48, 960, 48_000])
        number = rng.choice([number, number + 1, number + 2_900, rng.randrange(65_536)]) & 0xFFFF
        start = rng.choice([start + frame, now, now - 500_000, now + 500_000])
        schedule.arrived(rng.randrange(4), number, start, now, repaired=rng.random() < 0.3)
        assert len(schedule) <= MAX_MISSING
        due = schedule.next_due()
        if due is not None and due <= now:
            asked = schedule.due(now)
            assert all(numbers for numbers in asked.values())
            after = schedule.next_due()
            assert after is None or after > now


SEEDS = (11, 12, 13)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_packets_lost_at_random_30_percent_both_ways_hardly_one_is_missed(seed: int) -> None:
    outcome = Scene(*each_way(Impairments(loss=0.3)), seed).run(120)
    assert outcome.raw_lost > 0.25 * outcome.frames
    assert outcome.residual_loss <= 0.0005  # three frames; of ten minutes the goal is 0.02 %
    assert outcome.payload_ratio <= 2.8


@pytest.mark.parametrize("seed", SEEDS)
def test_of_bursts_of_100_ms_few_frames_stay_lost(seed: int) -> None:
    outcome = Scene(*each_way(Impairments(burst=Burst(0.1, 100 * NS_PER_MS))), seed).run(120)
    assert outcome.raw_lost > 0.05 * outcome.frames
    assert outcome.residual_loss <= 0.012  # half of what the copy alone leaves; ten minutes: 0.3 %
    assert outcome.payload_ratio <= 2.8


@pytest.mark.parametrize("seed", SEEDS)
def test_outages_of_half_a_second_are_survived_where_the_copy_is_far_enough(seed: int) -> None:
    gaps = Outages(5 * NS_PER_SECOND, 100 * NS_PER_MS, 500 * NS_PER_MS)
    way = each_way(Impairments(loss=0.01, outages=gaps))
    assert Scene(*way, seed).run(120).residual_loss <= 0.005
    assert Scene(*way, seed, delay_ms=700, far=31).run(120).residual_loss <= 0.001


def test_repairs_alone_leave_little_of_10_percent() -> None:
    outcome = Scene(*each_way(Impairments(loss=0.1)), 5, far=0).run(120)
    assert outcome.residual_loss <= 0.0005
    assert outcome.payload_ratio <= 1.25


def test_jitter_alone_is_seldom_taken_for_loss() -> None:
    way = each_way(Impairments(jitter=Jitter("gev", 15 * NS_PER_MS)))
    assert Scene(*way, 5, far=0).run(120).payload_ratio <= 1.2


def test_on_a_perfect_way_nothing_is_sent_again() -> None:
    outcome = Scene(*each_way(Impairments()), 5).run(60)
    assert (outcome.repairs, outcome.residual) == (0, 0)
    # The end of the stream is supposed lost: eight frames that never were.
    assert outcome.requests <= 150
