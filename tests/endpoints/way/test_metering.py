"""What a limit lets be asked for; whole runs are in tests/endpoints/test_recovery.py."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.way.metering import Meter
from transport.clock.timeline import NS_PER_MS as MS
from transport.recovery.bundle import bundle
from transport.recovery.request import Wanted

SOUND = b"\x80" + bytes(171)  # and 28 of headers: 50 a second are 80 kb
REPAIR = bytes(148)


def play(meter: Meter, until_ms: int, from_ms: int = 0, data: bytes = SOUND) -> None:
    for at_ms in range(from_ms, until_ms, 20):
        meter.came(data, at_ms * MS)


def asked(meter: Meter, at_ms: int, sequences: Sequence[int], ssrc: int = 2) -> tuple[int, ...]:
    allowed = meter.allowed(
        [Wanted(ssrc, tuple(sequences))], at_ms * MS, packets_a_second=50, round_trip_ns=100 * MS
    )
    return tuple(n for one in allowed for n in one.sequences)


def settled(max_kbps: int) -> Meter:
    """It has played for two seconds, and asked once, so that the beginning is over."""
    meter = Meter(max_kbps)
    asked(meter, 0, [9_999])
    play(meter, 3_000)
    return meter


def test_with_room_for_all_all_is_asked_for() -> None:
    assert asked(settled(1_000), 3_000, range(40)) == tuple(range(40))


def test_what_is_left_of_the_limit_says_how_many() -> None:
    """85 kb of sound with its margin leave 115 of 200: 14,375 bytes, and each takes 2 x 174."""
    meter = settled(200)
    assert asked(meter, 3_000, range(100)) == tuple(range(41))
    assert meter.withheld == 59


def test_what_was_asked_for_leaves_less_until_it_cannot_come_any_more() -> None:
    meter = settled(200)
    asked(meter, 3_000, range(41))
    assert asked(meter, 3_020, [50]) == ()
    assert asked(meter, 3_150, [50]) == ()
    assert asked(meter, 3_300, [50]) == (50,)


def test_what_is_asked_for_twice_within_40_ms_is_answered_once() -> None:
    meter = settled(200)
    asked(meter, 3_000, range(41))
    assert asked(meter, 3_015, range(41)) == tuple(range(41))
    assert asked(meter, 3_060, range(41)) == ()


def test_what_came_is_no_longer_expected_but_counts_for_a_second() -> None:
    meter = settled(200)
    asked(meter, 3_000, range(20))
    for data in bundle([REPAIR] * 20):
        meter.came(data, 3_100 * MS)
    # 20 that came once, 20 that may come again; what comes is known to be shorter than sound.
    assert 20 <= len(asked(meter, 3_120, range(100, 200))) <= 30
    play(meter, 4_200, 3_000)
    assert len(asked(meter, 4_200, range(100, 200))) == 47


def test_an_outage_is_no_room() -> None:
    meter = settled(200)
    assert len(asked(meter, 3_900, range(100))) == 41


def test_a_stream_that_has_just_begun_counts_as_a_whole_second_of_it() -> None:
    meter = Meter(90)
    play(meter, 100)
    assert len(asked(meter, 100, range(100))) <= 3


def test_the_first_are_asked_for_first() -> None:
    meter = settled(100)
    wanted = [Wanted(2, (65_535, 0, 1)), Wanted(4, tuple(range(50)))]
    allowed = meter.allowed(wanted, 3_000 * MS, packets_a_second=50, round_trip_ns=100 * MS)
    assert allowed[0] == wanted[0]
    assert all(0 < len(one.sequences) < 10 for one in allowed)


def test_headers_of_ipv6_count_as_long_as_they_are() -> None:
    four, six = settled(200), Meter(200)
    six.begin(ipv6=True)
    asked(six, 0, [9_999])
    play(six, 3_000)
    assert len(asked(six, 3_000, range(100))) < len(asked(four, 3_000, range(100)))


def test_where_sound_alone_reaches_the_limit_nothing_is_asked_for() -> None:
    assert asked(settled(80), 3_000, range(3)) == ()


@given(st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 200)), max_size=60))
def test_whatever_comes_it_counts_and_forgets(datagrams: list[tuple[bytes, int]]) -> None:
    meter = Meter(100)
    now_ms = 0
    for data, pause_ms in datagrams:
        now_ms += pause_ms
        meter.came(data, now_ms * MS)
        meter.came(b"\x41" + data, now_ms * MS)
        asked(meter, now_ms, range(5))
    assert meter._repairs.total == sum(count for _, count in meter._repairs.slots)
    assert len(meter._sound.slots) <= 51
    assert len(meter._asked_ns) <= 5


@pytest.mark.parametrize("size", [0, 1, 1_500])
def test_an_empty_bundle_says_nothing_of_a_packets_length(size: int) -> None:
    meter = settled(1_000)
    meter.came(b"\x41" + bytes(size), 3_000 * MS)
    assert asked(meter, 3_000, [1]) == (1,)
