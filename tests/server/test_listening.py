"""What loudspeakers are told is found out once for all that are alike, and anew when it changes."""

from dataclasses import replace

import pytest

from server.keys.certifier import Certifier
from server.listening import Listening
from server.processes.bus import StreamOrder, StreamReport
from server.programmes import LiveRequest
from server.station import Station
from tests.support.stations import (
    CERTIFIER,
    GENERATION,
    a_station,
    join,
    listen,
    names,
    on_air,
    report_of,
    spec_of,
)
from transport.security.keys import SigningKey


@pytest.fixture
def station() -> Station:
    made = a_station()
    for name in ("a", "b"):
        join(made, name)
    join(made, "far", delivery="wan")
    return made


def test_all_that_are_alike_are_told_the_same_objects(station: Station) -> None:
    on_air(station)
    assert spec_of(station, "a") is spec_of(station, "b")
    assert spec_of(station, "a") is not spec_of(station, "far")
    assert listen(station, "a").streams is listen(station, "b").streams


def test_a_producer_s_other_keys_are_told(station: Station) -> None:
    programme = on_air(station, ssrc=100)
    assert spec_of(station, "a").ssrc == 100
    station.update(report_of(programme, ssrc=200), 0)
    assert spec_of(station, "a").ssrc == 200


def test_a_station_s_other_key_vouches_for_what_is_on_air(station: Station) -> None:
    on_air(station)
    before = spec_of(station, "a")
    other = Certifier(SigningKey(bytes(32)), GENERATION + 1)
    (spec,) = station.listen("a", 1, other.certificate).streams
    assert spec.seal != before.seal
    assert spec_of(station, "a") == before


def test_a_key_taken_up_behind_the_same_call_is_told_when_that_is_said(station: Station) -> None:
    certifiers = [CERTIFIER]
    on_air(station)

    def certify(order: StreamOrder, report: StreamReport, priority: int, test: bool) -> bytes:
        return certifiers[-1].certificate(order, report, priority, test)

    before = station.listen("a", 1, certify).streams
    certifiers.append(Certifier(SigningKey(bytes(32)), GENERATION + 1))
    assert station.listen("a", 1, certify).streams is before
    station.recertify()
    assert station.listen("a", 1, certify).streams != before


def test_what_begins_and_ends_is_told(station: Station) -> None:
    one = on_air(station)
    assert names(station, "a") == ["live-1"]
    two = on_air(station, LiveRequest(("a",)))
    assert (names(station, "a"), names(station, "b")) == (["live-2", "live-1"], ["live-1"])
    station.withdraw(two.name)
    assert names(station, "a") == ["live-1"]
    station.withdraw(one.name)
    assert names(station, "a") == []


def test_who_is_of_another_kind_now_is_told_otherwise(station: Station) -> None:
    on_air(station)
    before = spec_of(station, "a")
    endpoint = station.directory.endpoints["a"]
    station.directory.put_endpoint(replace(endpoint, multicast=True))
    assert (before.group, spec_of(station, "a").group) == (None, "239.192.76.3")


def test_it_does_not_grow_for_ever(station: Station) -> None:
    listening = Listening(5004)
    programmes = [on_air(station) for _ in range(3)]
    endpoint = station.directory.endpoints["a"]
    for n in range(3_000):
        listening.specs(endpoint, (replace(programmes[0], number=n),), CERTIFIER.certificate)
    assert len(listening._made) <= 2_000
