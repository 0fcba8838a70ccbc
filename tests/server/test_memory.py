"""The record of what control must know again: what is packed is what is read."""

from dataclasses import asdict, replace

import pytest

from server.memory import Memory, numbers_on_air, read_record
from server.programmes import LiveRequest
from server.speakers import Path, Speaker
from server.station import Station
from tests.support.stations import TO_ALL, a_station, join, on_air


@pytest.fixture
def station() -> Station:
    made = a_station()
    join(made, "a", delivery="wifi", multicast=True)
    join(made, "b", port=None)
    return made


def test_what_is_recorded_is_read_again(station: Station) -> None:
    for request in (TO_ALL, LiveRequest(("a",), ("all",), test=True)):
        on_air(station, request)
    station.open(TO_ALL, 7)
    remembered = read_record(station.to_record())
    assert remembered.count == 3
    assert [asdict(p) for p in remembered.programmes] == [
        asdict(p) for p in station.programmes.values()
    ]
    assert [(s.name, delivery, multicast) for s, delivery, multicast in remembered.speakers] == [
        ("a", "wifi", True),
        ("b", "lan", False),
    ]


def test_of_a_loudspeaker_its_newest_way_is_recorded(station: Station) -> None:
    number = station.speakers["b"].session_number
    station.opened(number, "2001:db8::7", 40_000)
    (_, (b, *_)) = read_record(station.to_record()).speakers
    assert (b.path, b.path_number, b.session) == (Path("2001:db8::7", 40_000), number, None)
    station.closed(number)
    (_, (b, *_)) = read_record(station.to_record()).speakers
    assert b.path is None


def test_the_session_that_a_path_goes_on_by_is_recorded(station: Station) -> None:
    path = station.speakers["a"].path
    assert path is not None
    join(station, "a", port=None)
    assert not station.opened(station.speakers["a"].session_number, *path)  # it is where it was
    ((a, *_), _) = read_record(station.to_record()).speakers
    assert a.path_number == station.speakers["a"].session_number


def test_the_network_that_a_loudspeaker_is_enrolled_with_again_is_recorded(
    station: Station,
) -> None:
    station.enrol(replace(station.directory.endpoint("b"), delivery="wan"))
    assert [delivery for _, delivery, _ in read_record(station.to_record()).speakers] == [
        "wifi",
        "wan",
    ]


def test_who_is_dropped_is_not_recorded(station: Station) -> None:
    memory = Memory()
    for name in ("a", "b"):
        memory.put(station.speakers[name], station.directory.endpoints[name])
    memory.drop("a")
    memory.drop("nobody")
    assert [s.name for s, _, _ in read_record(memory.record(0, [])).speakers] == ["b"]


def test_what_is_over_is_not_recorded(station: Station) -> None:
    one, two = on_air(station), on_air(station)
    assert numbers_on_air(station.to_record()) == [one.number, two.number]
    station.withdraw(one.name)
    assert numbers_on_air(station.to_record()) == [two.number]
    assert list(station._memory._requests) == [two.name]


@pytest.mark.parametrize("cut", [1, 2, 10, 100])
def test_a_record_that_is_cut_off_or_goes_on_makes_no_sense(station: Station, cut: int) -> None:
    on_air(station)
    record = station.to_record()
    for wrong in (record[:-cut], record + bytes(cut)):
        assert numbers_on_air(wrong) == []
        with pytest.raises(ValueError, match="no station's memory"):
            read_record(wrong)


def test_a_record_of_nothing_makes_no_sense() -> None:
    assert numbers_on_air(b"") == []


def test_a_speaker_is_packed_when_it_changes_and_not_before() -> None:
    """Its figures change all the time, and nobody needs them again."""
    station = a_station()
    join(station, "a")
    before = station.to_record()
    speaker: Speaker = station.speakers["a"]
    speaker.last_seen_ns = 1 << 60
    assert station.to_record() == before
