"""Who hears what, and where it is sent."""

from dataclasses import replace

import pytest

from server.directory import Endpoint
from server.processes.routing import unpack_destinations
from server.programmes import LiveRequest
from server.station import Station
from server.zones.definition import EVERYBODY
from tests.support.stations import (
    ROOT,
    TO_ALL,
    S,
    a_station,
    join,
    listen,
    names,
    on_air,
    put_zone,
    report_of,
    routes,
    sent_to,
    spec_of,
)
from transport.control.delivery import DELIVERIES
from transport.control.priority import Priority


@pytest.fixture
def station() -> Station:
    return a_station()


def test_nobody_listens_before_the_producer_has_numbered_the_stream(station: Station) -> None:
    join(station, "a")
    station.open(TO_ALL, 0)
    assert names(station, "a") == []
    assert routes(station) == {}


def test_a_unicast_loudspeaker_is_told_neither_group_nor_port(station: Station) -> None:
    join(station, "a", multicast=False)
    request = LiveRequest(("a",), frame_ms=20.0, inband_fec=True, playout_delay_ms=100.0)
    programme = on_air(station, request)
    (spec,) = listen(station, "a").streams
    assert (spec.group, spec.port) == (None, None)
    assert (spec.programme, spec.order) == (programme.name, programme.number)
    assert (spec.ssrc, spec.timestamp_offset) == (100, 9)
    assert (spec.frame_ms, spec.inband_fec, spec.playout_delay_ms) == (20.0, True, 100.0)


def test_a_multicast_loudspeaker_is_told_the_group(station: Station) -> None:
    join(station, "a", multicast=True)
    programme = on_air(station)
    (spec,) = listen(station, "a").streams
    assert (spec.group, spec.port) == (programme.group, 5004)


def test_unicast_rtp_and_rtcp_go_to_the_loudspeaker_s_one_port(station: Station) -> None:
    join(station, "a", address="192.0.2.1", port=50_001)
    join(station, "b", address="192.0.2.2", port=50_002)
    programme = on_air(station, LiveRequest(("b",)))
    route = routes(station)[programme.streams[0].stream]
    assert unpack_destinations(route.destinations) == [("192.0.2.2", 50_002, 50_002)]
    assert (route.group, route.announce) == (None, None)


def test_a_group_is_sent_to_once_with_rtcp_beside_it(station: Station) -> None:
    join(station, "a", multicast=True)
    join(station, "b", multicast=True)
    join(station, "c", multicast=False, address="192.0.2.3", port=50_003)
    programme = on_air(station)
    route = routes(station)[programme.streams[0].stream]
    assert unpack_destinations(route.destinations) == [
        (programme.group, 5004, 5005),
        ("192.0.2.3", 50_003, 50_003),
    ]


def test_who_is_offline_is_sent_to_all_the_same(station: Station) -> None:
    # Its session may have broken while its sound arrives.
    station.leave("a", join(station, "a"))
    programme = on_air(station)
    assert len(unpack_destinations(routes(station)[programme.streams[0].stream].destinations)) == 1


def test_the_producer_is_given_the_order_as_it_was_asked_for(station: Station) -> None:
    request = LiveRequest(
        (EVERYBODY,),
        bitrate=32_000,
        frame_ms=20.0,
        complexity=5,
        dtx=True,
        inband_fec=True,
        expected_loss_percent=10,
    )
    programme = station.open(request, 0)
    (order,) = station.orders().programmes
    assert (order.programme, order.ticket) == (programme.name, programme.ticket)
    assert [stream.frame_ms for stream in order.streams] == [20.0]
    for field in ("bitrate", "complexity", "dtx", "inband_fec", "expected_loss_percent"):
        assert getattr(order, field) == getattr(request, field)


# ------------------------------------------------------------------ priorities
def test_of_what_is_live_the_highest_priority_is_heard(station: Station) -> None:
    join(station, "a")
    alarm = on_air(station, replace(TO_ALL, priority=Priority.EMERGENCY))
    on_air(station)
    assert station.heard_by("a") is alarm


def test_of_equals_the_later_is_heard(station: Station) -> None:
    join(station, "a")
    on_air(station)
    later = on_air(station)
    assert station.heard_by("a") is later


def test_what_was_interrupted_is_heard_again_at_the_end_of_what_interrupted_it(
    station: Station,
) -> None:
    join(station, "a")
    music = on_air(station, replace(TO_ALL, priority=Priority.BACKGROUND))
    voice = on_air(station)
    assert station.heard_by("a") is voice
    station.stop(voice.name, "it was stopped", S)
    assert station.heard_by("a") is music


def test_what_waits_for_its_voice_interrupts_nothing(station: Station) -> None:
    join(station, "a")
    music = on_air(station, replace(TO_ALL, priority=Priority.BACKGROUND))
    alarm = station.open(replace(TO_ALL, priority=Priority.EMERGENCY), 0)
    station.update(report_of(alarm, "waiting"), 0)
    assert station.heard_by("a") is music


def test_an_interruption_concerns_only_those_whom_it_addresses(station: Station) -> None:
    join(station, "a")
    join(station, "b")
    everybody = on_air(station)
    alarm = on_air(station, LiveRequest(("b",), priority=Priority.EMERGENCY))
    assert (station.heard_by("a"), station.heard_by("b")) == (everybody, alarm)


def test_where_nothing_is_live_nothing_is_heard(station: Station) -> None:
    join(station, "a")
    assert station.heard_by("a") is None


def test_a_loudspeaker_is_told_every_programme_s_priority(station: Station) -> None:
    # It follows the rule by itself, at one media sample with all the others.
    join(station, "a")
    on_air(station, replace(TO_ALL, priority=Priority.EMERGENCY))
    on_air(station, replace(TO_ALL, priority=Priority.BACKGROUND))
    told = {spec.order: spec.priority for spec in listen(station, "a").streams}
    assert told == {1: Priority.EMERGENCY, 2: Priority.BACKGROUND}


# ------------------------------------------------------------------ zones
def test_a_zone_is_heard_by_its_members_alone(station: Station) -> None:
    for name in ("a", "b"):
        join(station, name)
    put_zone(station, "z", {"speakers": ["a"]})
    programme = on_air(station, LiveRequest(zones=("z",)))
    assert (names(station, "a"), names(station, "b")) == ([programme.name], [])


def test_the_zone_all_is_everybody(station: Station) -> None:
    join(station, "a")
    programme = on_air(station, LiveRequest(zones=(EVERYBODY,)))
    join(station, "b")
    assert station.audience(programme) == {"a", "b"}


def test_a_loudspeaker_named_twice_hears_it_once(station: Station) -> None:
    join(station, "a")
    put_zone(station, "z", {"speakers": ["a"]})
    programme = on_air(station, LiveRequest(("a", EVERYBODY), ("z", EVERYBODY)))
    assert names(station, "a") == [programme.name]
    assert len(sent_to(station, programme)[10.0]) == 1


def test_who_comes_into_a_zone_hears_what_is_on_air_to_it(station: Station) -> None:
    join(station, "a")
    put_zone(station, "schools", {"tag": "school"})
    programme = on_air(station, LiveRequest(zones=("schools",)))
    assert names(station, "a") == []
    tagged = replace(station.directory.endpoint("a"), tags=frozenset({"school"}))
    station.directory.put_endpoint(tagged)
    assert names(station, "a") == [programme.name]
    assert len(sent_to(station, programme)[10.0]) == 1


def test_who_leaves_a_zone_hears_it_no_longer(station: Station) -> None:
    join(station, "a")
    village = station.directory.add_unit(f"{ROOT}/Thôn 3")
    station.directory.put_endpoint(replace(station.directory.endpoint("a"), unit=village))
    put_zone(station, "z", {"unit": village})
    programme = on_air(station, LiveRequest(zones=("z",)))
    assert names(station, "a") == [programme.name]
    station.directory.put_endpoint(replace(station.directory.endpoint("a"), unit=ROOT))
    assert names(station, "a") == []
    assert sent_to(station, programme) == {10.0: set()}


def test_a_zone_defined_anew_is_followed(station: Station) -> None:
    for name in ("a", "b"):
        join(station, name)
    put_zone(station, "z", {"speakers": ["a"]})
    programme = on_air(station, LiveRequest(zones=("z",)))
    put_zone(station, "z", {"speakers": ["b"]})
    assert station.audience(programme) == {"b"}


def test_what_is_no_longer_there_is_addressed_in_vain_and_the_rest_is_heard(
    station: Station,
) -> None:
    station.leave("a", join(station, "a"))
    join(station, "b")
    put_zone(station, "z", {"speakers": ["a"]})
    programme = on_air(station, LiveRequest(("a", "b"), ("z",)))
    station.forget("a")
    station.zones.remove("z")
    assert station.audience(programme) == {"b"}


# ------------------------------------------------------------------ several encodings
def test_each_encoding_goes_to_those_whose_network_asks_for_it(station: Station) -> None:
    for port, delivery in enumerate(("lan", "wifi", "wan", "saver"), 50_000):
        join(station, delivery, delivery=delivery, port=port)
    programme = on_air(station)
    assert sent_to(station, programme) == {
        10.0: {("192.0.2.1", port, port) for port in (50_000, 50_001)},
        20.0: {("192.0.2.1", 50_002, 50_002)},
        60.0: {("192.0.2.1", 50_003, 50_003)},
    }


def test_each_loudspeaker_is_told_the_numbers_of_its_own_encoding(station: Station) -> None:
    join(station, "near")
    join(station, "far", delivery="wan")
    on_air(station, ssrc=100)
    near, far = spec_of(station, "near"), spec_of(station, "far")
    assert (near.ssrc, near.frame_ms) == (100, 10.0)
    assert (far.ssrc, far.frame_ms) == (102, 20.0)
    assert near.playout_delay_ms == far.playout_delay_ms == 500.0


def test_a_group_carries_the_shortest_frames_alone(station: Station) -> None:
    join(station, "group", multicast=True)
    join(station, "saver", delivery="saver", port=50_003)
    programme = on_air(station)
    short, long = (routes(station)[stream.stream] for stream in programme.streams)
    assert (short.announce, long.announce) == (None, None)
    assert sent_to(station, programme) == {
        10.0: {(programme.group, 5004, 5005)},
        60.0: {("192.0.2.1", 50_003, 50_003)},
    }
    assert spec_of(station, "group").frame_ms == 10.0


def test_two_programmes_share_no_stream(station: Station) -> None:
    for delivery in ("lan", "wan", "saver"):
        join(station, delivery, delivery=delivery)
    one, other = on_air(station), on_air(station)
    assert not {s.stream for s in one.streams} & {s.stream for s in other.streams}


def test_a_slower_newcomer_is_heard_later_and_changes_nothing_for_the_others(
    station: Station,
) -> None:
    join(station, "lan")
    join(station, "wifi", delivery="wifi", multicast=True)
    programme = on_air(station)
    before = [spec_of(station, name) for name in ("lan", "wifi")]
    orders = station.orders()
    join(station, "saver", delivery="saver", port=50_001)
    assert [spec_of(station, name) for name in ("lan", "wifi")] == before
    assert station.orders() == orders
    assert {spec.playout_delay_ms for spec in before} == {100.0}
    assert spec_of(station, "saver").playout_delay_ms == 1000.0
    assert len(sent_to(station, programme)[10.0]) == 3


def test_who_was_offline_at_the_beginning_is_in_step_when_it_returns(station: Station) -> None:
    join(station, "lan")
    station.leave("saver", join(station, "saver", delivery="saver"))
    on_air(station)
    join(station, "saver", delivery="saver")
    assert {spec_of(station, name).playout_delay_ms for name in ("lan", "saver")} == {1000.0}


def test_who_has_no_key_has_no_say_in_how_late_everybody_hears(station: Station) -> None:
    join(station, "a")
    join(station, "b", delivery="saver")
    station.directory.put_endpoint(Endpoint("c", ROOT, delivery="saver"))  # never enrolled
    assert station.open(TO_ALL, 0).plan.playout_delay_ms == DELIVERIES["saver"].playout_delay_ms
    station.revoke("b")
    plan = station.open(TO_ALL, 0).plan
    assert plan.playout_delay_ms == DELIVERIES["lan"].playout_delay_ms
    assert plan.frames_ms == (DELIVERIES["lan"].frame_ms,)
