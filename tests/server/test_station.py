"""The station's state. No sockets, no clocks; `now` is an argument."""

from dataclasses import replace
from typing import Any

import msgpack
import pytest

from server.errors import NoSuchError, StationError
from server.processes.bus import ProducerReport, ProgrammeReport, StreamOrder
from server.programmes import LiveRequest
from server.station import MAX_PROGRAMMES, NoGroupError, Station
from server.zones.definition import EVERYBODY
from tests.support.stations import (
    MS,
    ROOT,
    TO_ALL,
    S,
    a_station,
    join,
    key_of_name,
    names,
    on_air,
    put_zone,
    remembered,
    report_of,
    sent_to,
    spec_of,
    stream_report,
)
from transport.control.priority import Priority


@pytest.fixture
def station() -> Station:
    return a_station()


# ------------------------------------------------------------------ loudspeakers
def test_whoever_proves_its_key_takes_over_from_its_former_session_at_once(
    station: Station,
) -> None:
    join(station, "a", address="192.0.2.1")
    session = join(station, "a", address="192.0.2.2")
    assert station.speakers["a"].address == "192.0.2.2"
    assert station.speakers["a"].session is session


def test_whoever_has_left_may_come_back_at_once(station: Station) -> None:
    station.leave("a", join(station, "a"))
    join(station, "a", address="192.0.2.2")
    assert station.speakers["a"].address == "192.0.2.2"


def test_a_session_that_lost_its_name_cannot_send_the_new_one_away(station: Station) -> None:
    old = join(station, "a")
    new = join(station, "a", now_ns=10 * S)
    station.leave("a", old)
    assert station.speakers["a"].session is new


def test_to_leave_without_having_joined_is_nothing(station: Station) -> None:
    station.leave("a", object())
    assert station.speakers == {}


@pytest.mark.parametrize("address", ["", "localhost", "192.0.2.1.5", "::1::"])
def test_a_loudspeaker_that_cannot_be_sent_to_cannot_join(station: Station, address: str) -> None:
    with pytest.raises(StationError, match="no address"):
        join(station, "a", address=address)
    assert station.speakers == {}


def test_what_a_loudspeaker_says_of_its_network_is_kept(station: Station) -> None:
    join(station, "a", delivery="wifi", multicast=True)
    endpoint = station.directory.endpoint("a")
    assert (endpoint.unit, endpoint.delivery, endpoint.multicast) == (ROOT, "wifi", True)
    assert station.unsaved == {"a"}


def test_who_comes_back_as_it_was_is_no_news_for_the_store(station: Station) -> None:
    station.leave("a", join(station, "a"))
    station.unsaved.clear()
    version = station.directory.version
    join(station, "a", address="192.0.2.7")
    assert (station.unsaved, station.directory.version) == (set(), version)


def test_who_comes_back_by_another_network_keeps_its_place(station: Station) -> None:
    station.leave("a", join(station, "a"))
    station.directory.add_unit(f"{ROOT}/Thôn 3")
    placed = replace(station.directory.endpoint("a"), unit=f"{ROOT}/Thôn 3", volume=30)
    station.directory.put_endpoint(placed)
    station.unsaved.clear()
    join(station, "a", delivery="wan")
    assert station.directory.endpoint("a") == replace(placed, delivery="wan")
    assert station.unsaved == {"a"}


def test_who_is_connected_is_not_forgotten(station: Station) -> None:
    join(station, "a")
    with pytest.raises(StationError, match="revoke it first"):
        station.forget("a")
    assert "a" in station.speakers
    assert "a" in station.directory.endpoints


def test_who_is_forgotten_is_no_longer_sent_to(station: Station) -> None:
    programme = on_air(station, replace(TO_ALL, to=(EVERYBODY,)))
    station.leave("a", join(station, "a"))
    assert len(sent_to(station, programme)[10.0]) == 1
    station.forget("a")
    assert sent_to(station, programme) == {10.0: set()}
    assert (station.speakers, station.unsaved) == ({}, set())


def test_nobody_unknown_is_forgotten(station: Station) -> None:
    with pytest.raises(NoSuchError, match="'a'"):
        station.forget("a")


# ------------------------------------------------------------------ tickets
def test_each_programme_has_its_own_name_number_ticket_and_group(station: Station) -> None:
    programmes = [station.open(TO_ALL, 0) for _ in range(20)]
    for field in ("name", "number", "ticket", "group"):
        assert len({getattr(p, field) for p in programmes}) == 20


def test_an_unknown_name_is_answered_with_the_nearest(station: Station) -> None:
    for name in ("market", "school", "hamlet-1", "hamlet-2"):
        join(station, name)
    with pytest.raises(NoSuchError, match="'hamlet-3'; nearest: hamlet-") as caught:
        station.open(LiveRequest(("market", "hamlet-3")), 0)
    assert "market" not in str(caught.value).partition("nearest")[2]


def test_a_name_like_no_other_is_answered_with_a_few_of_those_there_are(station: Station) -> None:
    for number in range(9):
        join(station, f"speaker-{number}")
    with pytest.raises(NoSuchError, match=r"nearest: speaker-0.*speaker-4$"):
        station.open(LiveRequest(("xyz",)), 0)


def test_where_nobody_has_joined_an_unknown_name_is_answered_so(station: Station) -> None:
    with pytest.raises(NoSuchError, match="there is none yet"):
        station.open(LiveRequest(("a",)), 0)


def test_a_line_break_in_a_name_stays_out_of_the_one_line(station: Station) -> None:
    with pytest.raises(NoSuchError) as caught:
        station.open(LiveRequest(("a\nb",)), 0)
    assert "\n" not in str(caught.value)


def test_a_voice_for_nobody_is_refused(station: Station) -> None:
    with pytest.raises(StationError, match="to whom"):
        station.open(LiveRequest(()), 0)


def test_all_may_be_addressed_before_anybody_has_joined(station: Station) -> None:
    programme = on_air(station)
    join(station, "late")
    assert names(station, "late") == [programme.name]


def test_when_every_group_is_in_use_a_voice_is_refused_and_told_of_which_range() -> None:
    station = a_station("239.192.76.8/30")
    groups = {station.open(TO_ALL, 0).group for _ in range(4)}
    assert groups == {f"239.192.76.{n}" for n in range(8, 12)}
    with pytest.raises(NoGroupError, match=r"every multicast group of 239\.192\.76\.8/30"):
        station.open(TO_ALL, 0)


def test_a_group_is_free_again_when_its_programme_has_gone() -> None:
    station = a_station("239.192.76.8/32")
    station.open(TO_ALL, 0)
    station.expire(16 * S)
    assert station.open(TO_ALL, 16 * S).group == "239.192.76.8"


def test_there_are_no_more_programmes_than_a_declaration_carries(station: Station) -> None:
    for _ in range(MAX_PROGRAMMES):
        station.open(TO_ALL, 0)
    with pytest.raises(StationError, match="wait for an end"):
        station.open(TO_ALL, 0)


@pytest.mark.parametrize("wrong", [LiveRequest(("nobody",)), LiveRequest(())])
def test_a_refused_request_changes_nothing(station: Station, wrong: LiveRequest) -> None:
    join(station, "a")
    before = station.to_record()
    with pytest.raises(StationError):
        station.open(wrong, 0)
    assert station.to_record() == before


def test_a_request_refused_for_want_of_a_group_changes_nothing() -> None:
    station = a_station("239.192.76.8/32")
    station.open(TO_ALL, 0)
    before = station.to_record()
    with pytest.raises(NoGroupError):
        station.open(TO_ALL, 0)
    assert station.to_record() == before


@pytest.mark.parametrize("wrong", [{"complexity": 11}, {"frame_ms": 60.0}])
def test_a_request_that_these_listeners_could_not_hear_changes_nothing(
    station: Station, wrong: dict[str, Any]
) -> None:
    join(station, "a")
    before = station.to_record()
    with pytest.raises(StationError):
        station.open(LiveRequest(("a",), **wrong), 0)
    assert station.to_record() == before


def test_an_unknown_zone_is_answered_with_the_nearest(station: Station) -> None:
    put_zone(station, "chợ", {"tag": "market"})
    with pytest.raises(NoSuchError, match="no zone 'chơ'; nearest: chợ"):
        station.open(LiveRequest(zones=("chơ",)), 0)


# ------------------------------------------------------------------ the end
def test_what_is_stopped_has_ended_and_says_why(station: Station) -> None:
    programme = on_air(station)
    station.stop(programme.name, "it was stopped", 5 * S)
    assert (programme.ended_at_ns, programme.why_ended) == (5 * S, "it was stopped")
    assert station.orders().programmes == ()
    assert not programme.is_live


def test_what_is_stopped_is_heard_out(station: Station) -> None:
    join(station, "a")
    programme = on_air(station)
    station.stop(programme.name, "it was stopped", 5 * S)
    assert names(station, "a") == [programme.name]
    assert station.expire(5 * S + 1_300 * MS + 1) == [programme]


def test_what_has_ended_by_itself_cannot_be_stopped_any_more(station: Station) -> None:
    programme = on_air(station)
    station.update(report_of(programme, "ended"), S)
    station.stop(programme.name, "it was stopped", 2 * S)
    assert (programme.ended_at_ns, programme.why_ended) == (S, "it was finished")


def test_what_is_not_on_air_cannot_be_stopped(station: Station) -> None:
    with pytest.raises(NoSuchError, match="'live-9'"):
        station.stop("live-9", "it was stopped", 0)


# ------------------------------------------------------------------ reports and time
def test_only_news_need_be_told(station: Station) -> None:
    programme = station.open(TO_ALL, 0)
    assert station.update(report_of(programme, "waiting"), 0)
    assert not station.update(report_of(programme, "waiting"), 0)
    assert not station.update(report_of(programme, "live"), 0)
    assert station.update(report_of(programme, "ended"), 0)
    assert not station.update(report_of(programme, "ended"), 0)


def test_a_report_of_what_nobody_ordered_is_nothing(station: Station) -> None:
    stray = ProgrammeReport(
        "live-9", "live", 0.0, 0.0, (stream_report(StreamOrder(72, 10.0, 72), 1),)
    )
    assert not station.update(ProducerReport("life", (stray,)), 0)
    assert station.programmes == {}


def test_a_producer_born_again_gives_every_listener_the_new_numbers(station: Station) -> None:
    join(station, "a")
    programme = on_air(station, ssrc=1)
    assert station.update(report_of(programme, "waiting", ssrc=2, offset=3), 60 * S)
    spec = spec_of(station, "a")
    assert (spec.ssrc, spec.timestamp_offset) == (2, 3)


def test_a_ticket_nobody_speaks_on_is_taken_back(station: Station) -> None:
    programme = station.open(TO_ALL, 0)
    station.update(report_of(programme, "waiting"), 0)
    assert not station.expire(15 * S)
    assert station.expire(15 * S + 1)
    assert station.programmes == {}


def test_a_ticket_the_producer_never_heard_of_is_taken_back_too(station: Station) -> None:
    station.open(TO_ALL, 0)
    assert station.expire(15 * S + 1)


def test_who_speaks_may_speak_for_ever(station: Station) -> None:
    on_air(station)
    assert not station.expire(1_000_000 * S)


def test_a_long_talk_outlives_its_producer(station: Station) -> None:
    # Its source comes back with the ticket within seconds; until then the new producer waits.
    programme = on_air(station, ssrc=1, now_ns=0)
    station.update(report_of(programme, "waiting", ssrc=2), 60 * S)
    assert not station.expire(75 * S)
    assert station.expire(75 * S + 1)


@pytest.mark.parametrize(
    ("playout_delay_ms", "tail_ms"),
    # Somebody slower than all who were there may have come: it hears the end a second later.
    [(40.0, 1_300), (500.0, 1_300), (2_000.0, 2_300)],
)
def test_an_ended_programme_is_heard_out(
    station: Station, playout_delay_ms: float, tail_ms: int
) -> None:
    join(station, "a")
    programme = on_air(station, replace(TO_ALL, playout_delay_ms=playout_delay_ms))
    station.update(report_of(programme, "ended"), 10 * S)
    assert not station.expire(10 * S + tail_ms * MS)
    assert names(station, "a") == [programme.name]
    assert station.expire(10 * S + tail_ms * MS + 1) == [programme]
    assert names(station, "a") == []


def test_an_ended_programme_is_not_ordered_from_a_producer_born_again(station: Station) -> None:
    programme = on_air(station)
    station.update(report_of(programme, "ended"), 0)
    assert station.orders().programmes == ()


def test_an_ended_programme_stays_ended(station: Station) -> None:
    programme = on_air(station)
    station.update(report_of(programme, "ended"), 0)
    assert not station.update(report_of(programme, "live", ssrc=99), 0)
    assert station.expire(2 * S)


# ------------------------------------------------------------------ memory
def test_a_programme_is_restored_as_it_was(station: Station) -> None:
    join(station, "a", delivery="saver")
    join(station, "b", multicast=True)
    put_zone(station, "z", {"tag": "market"})
    request = LiveRequest(("a",), ("z",), priority=Priority.EMERGENCY, dtx=True, test=True)
    programme = on_air(station, request)
    station.stop(programme.name, "it was stopped", S)
    assert remembered(station).programmes == station.programmes


def test_what_a_loudspeaker_said_of_its_network_a_moment_ago_is_not_forgotten(
    station: Station,
) -> None:
    # The store may not have heard of it before control died.
    join(station, "a", delivery="wifi", multicast=True)
    other = a_station()
    other.enrol(replace(station.directory.endpoint("a"), delivery="lan", multicast=False))
    other.restore(station.to_record())
    assert other.directory.endpoint("a") == station.directory.endpoint("a")
    assert other.unsaved == {"a"}


def test_who_was_revoked_in_control_s_last_moment_has_no_way_and_knows_no_key(
    station: Station,
) -> None:
    join(station, "a")
    on_air(station)
    other = a_station()
    other.directory.put_endpoint(replace(station.directory.endpoint("a"), key=None))
    other.restore(station.to_record())
    assert other.speakers == {}
    assert [order.rekey for order in other.orders().programmes] == [1]


def test_whose_key_was_replaced_in_control_s_last_moment_has_no_way_and_knows_no_key(
    station: Station,
) -> None:
    for port, name in enumerate(("a", "b"), 40_000):
        join(station, name, port=port)
    programme = on_air(station)
    other = a_station()
    for endpoint in station.directory.endpoints.values():
        other.directory.put_endpoint(endpoint)
    # The disk has the new key, the notebook where the old one was.
    other.directory.put_endpoint(
        replace(station.directory.endpoint("a"), key=key_of_name("another"))
    )
    other.restore(station.to_record())
    assert list(other.speakers) == ["b"]
    assert len(sent_to(other, other.programmes[programme.name])[10.0]) == 1
    assert [order.rekey for order in other.orders().programmes] == [1]


def test_whoever_s_key_is_not_known_any_more_is_sent_nothing(station: Station) -> None:
    for port, name in enumerate(("a", "b"), 40_000):
        join(station, name, port=port)
    programme = on_air(station)
    station.revoke("a")
    assert len(sent_to(station, programme)[10.0]) == 1
    assert [order.rekey for order in station.orders().programmes] == [1]


def test_the_numbers_of_programmes_in_the_store_are_not_given_again(station: Station) -> None:
    station.open(TO_ALL, 0)
    other = a_station()
    other.count = 7
    other.restore(station.to_record())
    assert other.open(TO_ALL, 0).name == "live-8"


def test_a_station_that_was_restored_goes_on_counting(station: Station) -> None:
    station.open(TO_ALL, 0)
    station.expire(16 * S)
    assert remembered(station).open(TO_ALL, 0).name == "live-2"


def test_nobody_has_a_session_with_a_station_that_was_restored(station: Station) -> None:
    join(station, "a")
    other = remembered(station)
    assert other.speakers["a"].session is None


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [None, None],
        [7, 7],
        [[1, []]],
        [[1, []], [], []],
        [[1, [{}]], []],
        [[1, []], [["a"]]],
        [[None, []], []],
        [["many", []], []],
    ],
    ids=str,
)
def test_what_is_no_memory_is_refused_and_changes_nothing(
    station: Station, parts: list[Any]
) -> None:
    join(station, "a")
    station.open(TO_ALL, 0)
    before = station.to_record()
    with pytest.raises(ValueError, match="no station's memory"):
        station.restore(b"".join(map(msgpack.packb, parts)))
    assert station.to_record() == before
