"""What a loudspeaker tells of when a group's packets came."""

import random

import pytest

from endpoints.lateness import LatenessWatch

MS, S = 1_000_000, 1_000_000_000
BEGIN_S = 1_790_000_000
FRAME_NS = 20 * MS


def hear(
    watch: LatenessWatch,
    seconds: float,
    late_ns: int = 300_000,
    *,
    from_s: float = 0,
    stream: int = 7,
    every_ns: int = FRAME_NS,
) -> None:
    """Packets that wait up to 2 ms more than the fastest."""
    draw = random.Random(1)
    for number in range(round(seconds * S / every_ns)):
        media_ns = round((BEGIN_S + from_s) * S) + number * every_ns
        wait_ns = 0 if number % 10 == 3 else draw.randrange(MS, 2 * MS)
        watch.add(stream, media_ns, late_ns + wait_ns)


def told_us(watch: LatenessWatch, at_s: int) -> float | None:
    told = watch.told((BEGIN_S + at_s) * S)
    return None if told is None else told.late_us[0]


def test_it_tells_of_the_fastest_packets_of_the_last_whole_window() -> None:
    watch = LatenessWatch()
    hear(watch, 3.9)
    assert watch.told((BEGIN_S + 4) * S) is None
    hear(watch, 1, from_s=4)
    told = watch.told((BEGIN_S + 5) * S)
    assert told is not None
    assert (told.stream, told.begin_s, told.length_s) == (7, BEGIN_S, 4)
    assert told.late_us == (300.0,) * 8
    assert set(told.places) <= {960 * number for number in range(3, 195, 10)}


def test_the_fastest_come_first_and_packets_that_waited_do_not_count() -> None:
    watch = LatenessWatch()
    for number in range(20):
        watch.add(7, BEGIN_S * S + number * FRAME_NS, (20 - number) * MS)
    hear(watch, 0.1, 50 * MS, from_s=0.4)
    hear(watch, 0.1, from_s=4)
    told = watch.told((BEGIN_S + 5) * S)
    assert told is not None
    assert told.late_us == tuple(1_000.0 * n for n in range(1, 9))
    assert told.places == tuple(960 * n for n in range(19, 11, -1))


def test_of_hardly_any_packets_it_tells_nothing() -> None:
    watch = LatenessWatch()
    hear(watch, 0.14, from_s=3)
    hear(watch, 1, from_s=4)
    assert watch.told((BEGIN_S + 5) * S) is None


def test_another_stream_is_another_window() -> None:
    watch = LatenessWatch()
    hear(watch, 3)
    hear(watch, 1, 900_000, from_s=3, stream=8)
    told = watch.told((BEGIN_S + 4) * S)
    assert told is not None
    assert (told.stream, told.late_us[0]) == (7, 300)
    hear(watch, 0.1, from_s=4, stream=8)
    told = watch.told((BEGIN_S + 4) * S)
    assert told is not None
    assert (told.stream, told.late_us[0]) == (8, 900)


def test_what_is_over_for_long_is_not_told() -> None:
    watch = LatenessWatch()
    hear(watch, 4.1)
    assert watch.told((BEGIN_S + 12) * S) is not None
    assert watch.told((BEGIN_S + 13) * S) is None
    assert watch.told((BEGIN_S - 1) * S) is None


def test_a_packet_that_was_overtaken_opens_no_window_of_the_past() -> None:
    watch = LatenessWatch()
    hear(watch, 4.1)
    watch.add(7, (BEGIN_S + 3) * S, 0)
    hear(watch, 3.9, from_s=4.1)
    hear(watch, 0.1, from_s=8)
    told = watch.told((BEGIN_S + 9) * S)
    assert told is not None
    assert (told.begin_s, told.late_us[0]) == (BEGIN_S + 4, 300)


@pytest.mark.parametrize("back_s", [8, 300, 10**6])
def test_a_media_clock_that_went_back_is_followed(back_s: int) -> None:
    watch = LatenessWatch()
    hear(watch, 4.1)
    hear(watch, 4.1, 700_000, from_s=-back_s)
    assert told_us(watch, 5 - back_s) == 700


@pytest.mark.parametrize(("every_s", "length_s"), [(0.5, 4), (4.0, 4), (5.0, 8), (20.0, 32)])
def test_windows_are_as_long_as_it_is_asked_seldom(every_s: float, length_s: int) -> None:
    watch = LatenessWatch()
    watch.begin(every_s)
    hear(watch, 70)
    told = watch.told((BEGIN_S + 70) * S)
    assert told is not None
    assert (told.length_s, told.begin_s % length_s) == (length_s, 0)


def test_what_was_heard_by_another_clock_is_forgotten() -> None:
    watch = LatenessWatch()
    hear(watch, 4.1)
    watch.forget()
    assert watch.told((BEGIN_S + 5) * S) is None


def test_no_lateness_is_beyond_what_may_be_said() -> None:
    watch = LatenessWatch()
    hear(watch, 4, 10**15)
    hear(watch, 0.1, from_s=4)
    assert told_us(watch, 5) == 12e6
