"""What is said of a way, from packets of known fate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.recovery.report import DelaySpread, LossReport, LossSummary

FRAME, MS, SECOND = 960, 48, 48_000


def summary_of(
    came: list[int], *, first: int = 0, late: dict[int, int] | None = None
) -> LossSummary:
    """Packets by their place in the stream, `first` the number of place 0; 5 ms on their way."""
    report = LossReport(FRAME)
    for place in came:
        start = place * FRAME
        delay = 5 * MS + (late or {}).get(place, 0)
        report.arrived(start, start + delay, (first + place) & 0xFFFF, 0)
    return report.summary(max(came, default=0) * FRAME + 5 * MS)


def test_before_the_first_packet_nothing_is_wrong() -> None:
    assert summary_of([]) == LossSummary(0.0, 0.0, 0.0)


def test_loss_is_the_share_that_did_not_come_and_the_burst_its_longest_run() -> None:
    came = [place for place in range(100) if place not in {10, 20, 21, 22, 30}]
    assert summary_of(came) == LossSummary(0.05, 60.0, 0.0)


@pytest.mark.parametrize("first", [0, 65_500, 65_535])
def test_numbers_that_come_round_are_no_loss(first: int) -> None:
    assert summary_of([p for p in range(100) if p != 50], first=first).loss == 0.01


def test_packets_out_of_order_or_twice_are_not_lost() -> None:
    assert summary_of([0, 2, 1, 1, 3, 5, 4]) == LossSummary(0.0, 0.0, 0.0)


def test_jitter_is_what_nearly_all_need_above_the_quickest() -> None:
    late = {place: place % 20 * MS for place in range(200)}
    assert summary_of(list(range(200)), late=late).jitter_ms == pytest.approx(18.0)


def test_the_time_to_spare_is_what_three_in_four_packets_had() -> None:
    report = LossReport(FRAME)
    for place in range(49):
        report.arrived(place * FRAME, place * FRAME, place, 0, (100 + place) * MS)
    assert report.summary(49 * FRAME).margin_ms is None  # of so few nobody can tell
    for place in range(49, 101):
        report.arrived(place * FRAME, place * FRAME, place, 0, (100 + place) * MS)
    assert report.summary(101 * FRAME).margin_ms == 125.0


def test_what_was_half_a_minute_ago_is_forgotten() -> None:
    report = LossReport(FRAME)
    for place in [0, 10, *range(1_600, 3_200)]:
        report.arrived(place * FRAME, place * FRAME, place, 0)
    assert report.summary(3_200 * FRAME).loss == 0.0


def test_a_pause_of_the_speech_is_no_burst() -> None:
    report = LossReport(FRAME)
    for number, place in enumerate([0, 1, 2, 22, 42, 43]):
        report.arrived(place * FRAME, place * FRAME, number, 0)
    assert report.summary(44 * FRAME) == LossSummary(0.0, 0.0, 0.0)


def test_a_new_epoch_begins_at_0_and_what_it_lost_at_its_start_counts() -> None:
    report = LossReport(FRAME)
    places = [(1, 500), (1, 501), (2, 2), (2, 3), (2, 4), (2, 5)]
    for place, (epoch, number) in enumerate(places):
        report.arrived(place * FRAME, place * FRAME, number, epoch)
    assert report.summary(6 * FRAME) == LossSummary(0.25, 40.0, 0.0)


def test_a_numbering_begun_anew_is_no_loss_of_thousands() -> None:
    report = LossReport(FRAME)
    for place, number in enumerate([0, 1, 30_000, 30_001]):
        report.arrived(place * FRAME, place * FRAME, number, 0)
    assert report.summary(4 * FRAME).loss == 0.0


@given(st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 0xFFFF), st.integers(0, 9))))
def test_whatever_comes_the_summary_is_one(came: list[tuple[int, int, int]]) -> None:
    report = LossReport(FRAME)
    for start, sequence, epoch in came:
        report.arrived(start, start + 5, sequence, epoch)
    assert 0.0 <= report.summary(1 << 40).loss < 1.0


def test_it_remembers_no_more_than_4096_packets() -> None:
    report = LossReport(48)
    report.arrived(0, 0, 0, 0)
    for place in range(5, 5 + 4_096):
        report.arrived(place * 48, place * 48, place, 0)
    assert report.summary(SECOND).loss == 0.0


def test_a_summary_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="loss"):
        LossSummary(loss=1.1)
    with pytest.raises(ValueError, match="sample"):
        LossReport(0)


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=60))
def test_the_least_delay_is_never_above_any_of_its_window(delays: list[int]) -> None:
    spread = DelaySpread(100)
    for delay in delays:
        spread.add(delay)
    assert spread.least == min(delays)
    assert 0 <= spread.spread <= max(delays) - min(delays)


def test_a_way_that_has_become_longer_is_forgotten_after_its_window() -> None:
    spread = DelaySpread(32)
    for delay in [5] * 32 + [50] * 48:
        spread.add(delay)
    assert (spread.least, spread.spread) == (50, 0)


def test_a_number_before_an_epochs_first_is_no_loss() -> None:
    report = LossReport(FRAME)
    for start, sequence, epoch in ((0, 0, 1), (1_099_510_187_776, 32_768, 1), (0, 0, 0)):
        report.arrived(start, start + 5, sequence, epoch)
    assert report.summary(1 << 40).loss == 0.0
