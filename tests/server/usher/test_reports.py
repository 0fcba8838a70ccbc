"""What receivers say of themselves, from anybody who cares to send it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.usher.reports import CAPACITY, MOST_READ, READ_WITHIN_NS, ReceptionLog
from transport.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    RtcpPacket,
    SourceDescription,
    serialise_compound,
)

S = 1_000_000_000
# Between two reports, so that all are read.
UNHURRIED = READ_WITHIN_NS // MOST_READ


def report(ssrc: int, *fractions: int) -> bytes:
    blocks = tuple(ReportBlock(77, fraction, 0, 0, 0) for fraction in fractions)
    return serialise_compound((ReceiverReport(ssrc, blocks), SourceDescription(ssrc, "x")))


def report_on(ssrc: int, stream: int, *, fraction: int) -> bytes:
    block = ReportBlock(stream, fraction, 0, 0, 0)
    return serialise_compound((ReceiverReport(ssrc, (block,)), SourceDescription(ssrc, "x")))


def test_nobody_has_reported_at_first() -> None:
    assert ReceptionLog().summary(0) == (0, 0.0)


def test_receivers_are_counted_and_the_worst_is_named() -> None:
    log = ReceptionLog()
    log.receive(report(1, 0), 0)
    log.receive(report(2, 64), 0)
    log.receive(report(3, 32), 0)
    assert log.summary(0) == (3, 0.25)


def test_of_one_receiver_the_newest_report_counts() -> None:
    log = ReceptionLog()
    log.receive(report(1, 255), 0)
    log.receive(report(1, 128), 1)
    assert log.summary(1) == (1, 0.5)


def test_of_several_streams_in_a_report_the_worst_counts() -> None:
    log = ReceptionLog()
    log.receive(report(1, 0, 128, 64), 0)
    assert log.summary(0) == (1, 0.5)


def test_a_receiver_that_hears_nothing_yet_is_there_all_the_same() -> None:
    log = ReceptionLog()
    log.receive(report(1), 0)
    assert log.summary(0) == (1, 0.0)


def test_a_receiver_that_says_goodbye_is_forgotten() -> None:
    log = ReceptionLog()
    log.receive(report(1, 255), 0)
    log.receive(report(2, 0), 0)
    goodbye: tuple[RtcpPacket, ...] = (ReceiverReport(1), Bye((1,)))
    log.receive(serialise_compound(goodbye), 1)
    assert log.summary(1) == (1, 0.0)


def test_a_receiver_not_heard_of_for_half_a_minute_is_forgotten() -> None:
    log = ReceptionLog()
    log.receive(report(1, 255), 0)
    log.receive(report(2, 0), 10 * S)
    assert log.summary(30 * S) == (2, 255 / 256)
    assert log.summary(30 * S + 1) == (1, 0.0)


def test_a_receiver_that_goes_on_reporting_is_not_forgotten() -> None:
    log = ReceptionLog()
    for second in range(0, 100, 10):
        log.receive(report(1, 0), second * S)
    assert log.summary(100 * S) == (1, 0.0)


def test_one_that_goes_on_reporting_does_not_keep_another_that_fell_silent() -> None:
    log = ReceptionLog()
    log.receive(report(1, 0), 0)
    log.receive(report(2, 255), 0)
    log.receive(report(1, 0), 20 * S)
    assert log.summary(31 * S) == (1, 0.0)


def test_whoever_makes_up_receivers_pushes_out_the_oldest_and_no_more() -> None:
    log = ReceptionLog()
    log.receive(report(0, 255), 0)
    for ssrc in range(1, CAPACITY):
        log.receive(report(ssrc, 0), ssrc * UNHURRIED)
    now_ns = CAPACITY * UNHURRIED
    assert log.summary(now_ns) == (CAPACITY, 255 / 256)
    log.receive(report(CAPACITY, 0), now_ns)
    assert log.summary(now_ns) == (CAPACITY, 0.0)


def test_reports_that_come_faster_than_they_are_read_are_counted_and_dropped() -> None:
    log = ReceptionLog()
    for ssrc in range(MOST_READ + 5):
        log.receive(report(ssrc, 0), 0)
    assert log.refused == 5
    assert log.summary(0) == (MOST_READ, 0.0)


def test_after_a_flood_reports_are_read_again() -> None:
    log = ReceptionLog()
    for ssrc in range(2 * MOST_READ):
        log.receive(report(ssrc, 0), 0)
    log.receive(report(7_000, 255), READ_WITHIN_NS)
    assert log.summary(READ_WITHIN_NS) == (MOST_READ + 1, 255 / 256)


def test_rubbish_takes_nothing_from_what_may_be_read() -> None:
    log = ReceptionLog()
    for _ in range(2 * MOST_READ):
        log.receive(b"rubbish", 0)
    log.receive(report(1, 0), 0)
    assert log.summary(0) == (1, 0.0)


def test_a_report_too_long_to_be_one_is_not_read() -> None:
    log = ReceptionLog()
    log.receive(report(1, 0) + serialise_compound((ReceiverReport(1),)) * 64, 0)
    assert (log.malformed, log.summary(0)) == (1, (0, 0.0))


def test_whoever_makes_up_streams_pushes_out_the_oldest_of_its_own_and_no_more() -> None:
    log = ReceptionLog()
    log.receive(report_on(5, 1, fraction=255), 0)
    log.receive(report_on(6, 1, fraction=128), 0)
    for stream in range(2, 40):
        log.receive(report_on(5, stream, fraction=0), 0)
    assert log.summary(0) == (2, 0.5)


def test_old_news_of_a_stream_is_forgotten_though_its_receiver_goes_on_about_another() -> None:
    log = ReceptionLog()
    log.receive(report_on(5, 1, fraction=255), 0)
    log.receive(report_on(5, 2, fraction=0), 20 * S)
    assert log.summary(31 * S) == (1, 0.0)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\xc9\x00\xff", b"\x00" * 40, report(1)[:-1]])
def test_what_is_no_report_is_counted_and_dropped(data: bytes) -> None:
    log = ReceptionLog()
    log.receive(data, 0)
    assert log.malformed == 1
    assert log.summary(0) == (0, 0.0)


@given(st.binary(max_size=200))
def test_whatever_comes_the_next_report_counts(data: bytes) -> None:
    log = ReceptionLog()
    log.receive(data, 0)
    log.receive(report(1, 0), 0)
    assert log.summary(0)[0] >= 1


def test_one_receiver_of_two_streams_is_one_and_its_worse_stream_counts() -> None:
    log = ReceptionLog()
    log.receive(report_on(1, 7, fraction=128), 0)
    log.receive(report_on(1, 8, fraction=0), 0)
    assert log.summary(0) == (1, 0.5)
    log.receive(serialise_compound((ReceiverReport(1), SourceDescription(1, "x"), Bye((1,)))), 0)
    assert log.summary(0) == (0, 0.0)
