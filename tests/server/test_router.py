"""The routes of what is on air, and that they move nobody who need not."""

import pytest

from server.processes.routing import Route, Routes, unpack_destinations
from server.programmes import Programme
from server.station import Station
from tests.support.stations import TO_ALL, a_station, join, on_air, remembered, routes

NAMES = tuple(f"s{n}" for n in range(8))


@pytest.fixture
def station() -> Station:
    """With eight loudspeakers, each at its own port."""
    made = a_station()
    for n, name in enumerate(NAMES):
        join(made, name, port=40_000 + n)
    return made


def ports(station: Station, programme: Programme) -> list[int]:
    """The ports that a programme is sent to, in the order of its route."""
    route = routes(station)[programme.streams[0].stream]
    return [port - 40_000 for _, port, _ in unpack_destinations(route.destinations)]


def test_who_leaves_makes_one_move_and_who_comes_none(station: Station) -> None:
    programme = on_air(station)
    before = ports(station, programme)
    station.closed(station.speakers["s2"].path_number)
    assert ports(station, programme) == [*before[:2], before[7], *before[3:7]]
    join(station, "s2", port=40_002)
    assert ports(station, programme) == [*before[:2], before[7], *before[3:7], 2]


def test_who_moves_keeps_its_place(station: Station) -> None:
    programme = on_air(station)
    before = ports(station, programme)
    speaker = station.speakers["s3"]
    station.opened(speaker.session_number, "192.0.2.1", 40_099)
    assert ports(station, programme) == [99 if port == 3 else port for port in before]


def test_a_stream_that_carries_other_copies_goes_where_it_went(station: Station) -> None:
    programme = on_air(station)
    before = ports(station, programme)
    programme.copies = ((480, 960),)
    assert ports(station, programme) == before
    join(station, "late", delivery="wifi", port=40_008)  # of a kind that was not there before
    assert ports(station, programme) == [*before, 8]


def test_a_control_born_again_keeps_to_the_order_of_the_one_before(station: Station) -> None:
    programme = on_air(station)
    routes(station)
    station.closed(station.speakers["s2"].path_number)
    former = station.routes(lambda _: None)
    other = remembered(station)
    other.resume(Routes(former))
    assert other.routes(lambda _: None) == former
    assert ports(other, programme) == ports(station, programme) != sorted(ports(station, programme))


def test_routes_of_a_station_that_is_no_more_are_not_kept_to(station: Station) -> None:
    programme = on_air(station)
    strange = Route(programme.streams[0].stream, 10.0, b"x" * 40)
    other = remembered(station)
    other.resume(Routes((strange, Route(99, 10.0))))
    assert sorted(ports(other, programme)) == list(range(8))
    assert set(routes(other)) == {programme.streams[0].stream}


def test_the_frames_of_each_stream_are_told(station: Station) -> None:
    join(station, "slow", delivery="saver", port=40_010)
    programme = on_air(station, TO_ALL)
    declared = routes(station)
    told = [(s.frame_ms, declared[s.stream].frame_ms) for s in programme.streams]
    assert told == [(10.0, 10.0), (60.0, 60.0)]


def test_what_has_not_begun_is_routed_nowhere(station: Station) -> None:
    station.open(TO_ALL, 0)
    assert routes(station) == {}
