"""Plain rows of the state, as the API shows them."""

from dataclasses import replace
from typing import Any

import pytest

from server.directory import Position
from server.enrolment import Code, Enrolment, Waiting
from server.processes.bus import LATENESS_BOUNDS_US, SenderReport
from server.programmes import LiveRequest
from server.station import Station
from server.stepping import Step, Steps
from server.views import (
    code_rows,
    is_online,
    programme_rows,
    sdp_path,
    sender_row,
    speaker_rows,
    usher_row,
    waiting_rows,
)
from tests.support.stations import (
    ROOT,
    TO_ALL,
    S,
    a_station,
    join,
    key_of_name,
    on_air,
    put_zone,
    report_of,
)
from transport.control.messages import Telemetry
from transport.control.priority import Priority
from transport.recovery import erasure
from transport.security.keys import shown_fingerprint

NOW = 1_000 * S
PLAYING = Telemetry("playing", -20.0, 5.0, 6.0, 75, 25, 9, 10, 12.0, 11, hearing="live-1")


@pytest.fixture
def station() -> Station:
    """With a loudspeaker `a` that has just joined."""
    made = a_station()
    join(made, "a", now_ns=NOW)
    return made


def speaker_row(
    station: Station, telemetry: Telemetry | None = None, now_ns: int = NOW
) -> dict[str, Any]:
    """The row of the loudspeaker `a`, which says it is so."""
    station.speakers["a"].telemetry = telemetry
    return speaker_rows(station, ["a"], {}, now_ns)[0]


def programme_row(station: Station, name: str = "live-1") -> dict[str, Any]:
    return next(row for row in programme_rows(station) if row["name"] == name)


# ------------------------------------------------------------------ loudspeakers
def test_those_asked_for_are_shown_if_they_are_registered(station: Station) -> None:
    for name in ("c", "b"):
        station.leave(name, join(station, name))
    assert [row["name"] for row in speaker_rows(station, "cxab", {}, NOW)] == ["c", "a", "b"]


def test_what_is_known_of_a_loudspeaker_is_shown(station: Station) -> None:
    endpoint = replace(
        station.directory.endpoint("a"),
        tags=frozenset({"b", "a"}),
        position=Position(10.5, 106.25),
        volume=30,
        muted=True,
        trim_us=-1200,
    )
    station.directory.put_endpoint(endpoint)
    row = speaker_row(station)
    assert row["trim_us"] == -1200
    assert (row["unit"], row["tags"], row["volume"], row["muted"]) == (ROOT, ["a", "b"], 30, True)
    assert row["position"] == {"latitude": 10.5, "longitude": 106.25}
    assert (row["delivery"], row["multicast"], row["address"]) == ("lan", False, "192.0.2.1")


def test_the_figures_it_tells_are_shown(station: Station) -> None:
    row = speaker_row(station, PLAYING)
    assert (row["state"], row["hearing"], row["level_dbfs"]) == ("playing", "live-1", -20.0)
    assert (row["loss"], row["packets_lost"], row["underruns"]) == (0.25, 25, 11)


def test_before_anything_has_come_nothing_is_lost(station: Station) -> None:
    idle = replace(PLAYING, packets_received=0, packets_lost=0)
    assert speaker_row(station, idle)["loss"] == 0.0


def test_who_has_said_nothing_yet_is_finding_its_place(station: Station) -> None:
    row = speaker_row(station)
    assert (row["state"], row["in_step"], row["fault"]) == ("syncing", False, "")
    assert "level_dbfs" not in row


@pytest.mark.parametrize(("after_s", "online"), [(4.9, True), (5.0, False)])
def test_who_has_not_been_heard_of_for_five_seconds_is_offline(
    station: Station, after_s: float, online: bool
) -> None:
    now_ns = NOW + round(after_s * S)
    row = speaker_row(station, PLAYING, now_ns)
    assert is_online(station.speakers["a"], now_ns) is online
    assert (row["state"] != "offline") is online
    assert row["fault"] == ("" if online else "it cannot be reached")
    assert (row["in_step"] is None) is not online
    assert row["last_seen_s"] == after_s


def test_who_was_never_there_under_this_station_was_last_seen_as_the_store_says(
    station: Station,
) -> None:
    station.leave("a", station.speakers["a"].session or "")
    del station.speakers["a"]
    (row,) = speaker_rows(station, ["a"], {"a": 400}, NOW)
    assert (row["state"], row["address"], row["last_seen_s"]) == ("offline", None, 600.0)
    (row,) = speaker_rows(station, ["a"], {}, NOW)
    assert row["last_seen_s"] is None


def test_what_it_says_is_wrong_is_shown(station: Station) -> None:
    row = speaker_row(station, replace(PLAYING, fault="the sound card is gone"))
    assert (row["fault"], row["in_step"]) == ("the sound card is gone", False)


@pytest.mark.parametrize(("error_us", "in_step"), [(999.0, True), (1000.0, False)])
def test_who_is_a_millisecond_from_its_place_is_out_of_step(
    station: Station, error_us: float, in_step: bool
) -> None:
    assert speaker_row(station, replace(PLAYING, sync_error_us=error_us))["in_step"] is in_step


def test_who_hears_it_later_by_its_network_is_out_of_step(station: Station) -> None:
    on_air(station, now_ns=NOW)
    station.leave("a", station.speakers["a"].session or "")
    join(station, "a", delivery="saver", now_ns=NOW)
    assert speaker_row(station, PLAYING)["in_step"] is False
    station.stop("live-1", "it was stopped", NOW)
    assert speaker_row(station, PLAYING)["in_step"] is True


def test_who_has_no_key_is_not_enrolled_whatever_it_was_before(station: Station) -> None:
    station.revoke("a")
    (row,) = speaker_rows(station, ["a"], {"a": 400}, NOW)
    assert (row["state"], row["enrolled"], row["last_seen_s"]) == ("not enrolled", False, 600.0)
    assert row["fault"] == "it has no key here: get a code with `loa enrol`"
    assert row["in_step"] is None


@pytest.mark.parametrize("clear", [True, False])
def test_who_plays_what_is_in_clear_is_not_authenticated(station: Station, clear: bool) -> None:
    station.directory.put_endpoint(replace(station.directory.endpoint("a"), clear=clear))
    row = speaker_row(station)
    assert (row["clear"], row["authenticated"]) == (clear, not clear)


def test_who_says_that_it_hears_something_in_clear_is_not_authenticated(station: Station) -> None:
    row = speaker_row(station, replace(PLAYING, authenticated=False, way="multicast"))
    assert (row["clear"], row["authenticated"], row["way"]) == (False, False, "multicast")
    later = speaker_row(station, replace(PLAYING, authenticated=False), NOW + 5 * S)
    assert later["authenticated"]


# ------------------------------------------------------------------ codes
def test_codes_are_shown_without_what_checks_them_and_who_waits_by_its_key() -> None:
    named = Code(b"\x00\x01\x02\x03", b"\x01" * 32, "b", ROOT, 1060)
    unnamed = Code(b"\xff\xfe\xfd\xfc", b"\x01" * 32, "", None, 1001)
    old = Code(b"1234", b"\x01" * 32, "a", None, 1000)
    enrolment = Enrolment([named, old, unnamed])
    key = key_of_name("x")
    enrolment.wait(Waiting(key, unnamed, "x", "192.0.2.1", "lan", multicast=False, since_ns=NOW))
    now_ns = NOW + 1_500_000_000
    assert sorted(code_rows(enrolment, now_ns), key=lambda row: str(row["name"])) == [
        {"number": "fffefdfc", "name": "", "unit": None, "expires_in_s": 0, "in_use": True},
        {"number": "00010203", "name": "b", "unit": ROOT, "expires_in_s": 59, "in_use": False},
    ]
    assert waiting_rows(enrolment, now_ns) == [
        {
            "key": shown_fingerprint(key),
            "name": "x",
            "unit": None,
            "address": "192.0.2.1",
            "waits_s": 1.5,
        }
    ]


def test_how_the_way_to_a_loudspeaker_is_now_is_shown_beside_what_it_lost_in_all(
    station: Station,
) -> None:
    told = replace(PLAYING, loss=0.02, longest_burst_ms=60.0, jitter_ms=7.5, packets_missed=1)
    station.speakers["a"].telemetry = told
    (row,) = speaker_rows(station, ["a"], {}, 0)
    assert row["loss"] == 0.25
    assert row["missed"] == round(1 / (told.packets_received + told.packets_lost), 6)
    assert (row["recent_loss"], row["longest_burst_ms"], row["jitter_ms"]) == (0.02, 60.0, 7.5)


# ------------------------------------------------------------------ programmes
def test_a_programme_is_shown_without_its_ticket(station: Station) -> None:
    put_zone(station, "z", {"tag": "school"})
    request = LiveRequest(("a",), ("z",), priority=Priority.EMERGENCY)
    programme = on_air(station, request)
    row = programme_row(station)
    assert (row["to"], row["zones"], row["priority"]) == (["a"], ["z"], "emergency")
    assert (row["state"], row["seconds"], row["level_dbfs"]) == ("live", 1.0, -20.0)
    assert (row["playout_delay_ms"], row["frames_ms"], row["speakers"]) == (40.0, [10.0], 1)
    assert (row["copies_ms"], row["codes"]) == ([[20.0]], [None])
    programme.codes = (erasure.Code(11, 21),)
    assert programme_row(station)["codes"] == [[11, 21]]
    assert programme.ticket not in str(row)


def test_before_the_producer_knows_it_a_programme_waits(station: Station) -> None:
    station.open(TO_ALL, 0)
    row = programme_row(station)
    assert (row["state"], row["seconds"], row["level_dbfs"]) == ("waiting", 0.0, None)


def test_what_was_stopped_has_ended_whatever_the_producer_said_before(station: Station) -> None:
    on_air(station)
    station.stop("live-1", "it was stopped", 0)
    assert programme_row(station)["state"] == "ended"


def test_at_how_many_loudspeakers_it_is_interrupted_is_shown(station: Station) -> None:
    join(station, "b")
    on_air(station)
    on_air(station, LiveRequest(("b",), priority=Priority.EMERGENCY))
    assert programme_row(station, "live-1")["interrupted_at"] == 1
    assert programme_row(station, "live-2")["interrupted_at"] == 0


def test_what_waits_for_its_voice_is_not_interrupted(station: Station) -> None:
    on_air(station)
    later = station.open(TO_ALL, 0)
    station.update(report_of(later, "waiting"), 0)
    assert programme_row(station, later.name)["interrupted_at"] == 0


def test_who_hears_a_programme_later_is_named(station: Station) -> None:
    on_air(station)
    for name in ("d", "c"):
        join(station, name, delivery="wan")
    row = programme_row(station)
    assert (row["speakers"], row["not_in_step"]) == (3, ["c", "d"])


def test_a_description_is_there_for_what_goes_out_in_clear(station: Station) -> None:
    sealed = on_air(station)
    assert sdp_path(sealed) is None
    put_zone(station, "z", {"zone": "all"})
    station.zones.set_clear("z", clear=True)
    clear = on_air(station, LiveRequest(zones=("z",)))
    assert sdp_path(clear) == programme_row(station, "live-2")["sdp"]
    assert sdp_path(clear) == "/programmes/live-2.sdp"


# ------------------------------------------------------------------ the sender
def test_before_the_sender_s_first_report_there_is_nothing_to_show() -> None:
    assert (sender_row({}), usher_row(None)) == ({}, {})


def sender_report(lateness: dict[int, int], late_max_us: int = 0, shard: int = 0) -> SenderReport:
    """Of a sender that sent so many datagrams late within each bound, by the bound's place."""
    counts = tuple(lateness.get(n, 0) for n in range(len(LATENESS_BOUNDS_US) + 1))
    return SenderReport("life", shard, 1, 2, 3, 4, counts, late_max_us, 5, 6, 7)


def test_senders_are_shown_as_one() -> None:
    one, two = sender_report({0: 1}, 40), sender_report({0: 1}, 30, shard=1)
    assert sender_row({0: one, 1: two}) == {
        "datagrams": 2,
        "overruns": 4,
        "errors": 6,
        "stale": 8,
        "queue": 10,
        "late_p99_ms": 0.04,
        "late_max_ms": 0.04,
    }


@pytest.mark.parametrize(
    ("lateness", "late_max_us", "late_p99_ms"),
    [
        ({}, 0, None),
        ({0: 99, 5: 1}, 700, 0.05),
        ({0: 98, 5: 2}, 800, 0.75),
        ({0: 98, 5: 2}, 600, 0.6),
        ({0: 98, len(LATENESS_BOUNDS_US): 2}, 250_000, 250.0),
    ],
)
def test_how_late_a_hundredth_of_all_datagrams_is_at_least(
    lateness: dict[int, int], late_max_us: int, late_p99_ms: float | None
) -> None:
    shown = sender_row({0: sender_report(lateness, late_max_us)})
    assert (shown["late_p99_ms"], shown["late_max_ms"]) == (late_p99_ms, late_max_us / 1000)


def test_a_thousand_loudspeakers_are_offline_later_than_a_few(station: Station) -> None:
    for online, telemetry_s, silent_s in ((True, 0.5, 4.9), (False, 0.5, 5.0), (True, 20.0, 49.0)):
        station.speakers["a"].telemetry_s = telemetry_s
        assert is_online(station.speakers["a"], NOW + round(silent_s * S)) is online


def test_a_loudspeaker_that_hears_nothing_of_what_is_on_air_to_it_has_a_fault(
    station: Station,
) -> None:
    programme = on_air(station, TO_ALL)
    assert programme.report is not None
    deaf = replace(PLAYING, state="idle", hearing="", uptime_s=60.0)
    for seconds, fault in ((1.0, False), (30.0, True)):
        programme.report = replace(programme.report, state="live", seconds=seconds)
        said = speaker_row(station, deaf)["fault"]
        assert said.startswith("it hears nothing of live-1") is fault
        assert speaker_row(station, PLAYING)["fault"] == ""
    assert speaker_row(station, replace(deaf, uptime_s=1.0))["fault"] == ""


# ------------------------------------------------------------------ neighbours
def stepping_row(station: Station, step: Step | None, telemetry: Telemetry) -> dict[str, Any]:
    station.speakers["a"].telemetry = telemetry
    steps = Steps({} if step is None else {"a": step})
    return speaker_rows(station, ["a"], {}, NOW, steps)[0]


def test_how_far_it_is_from_its_neighbours_is_shown_or_unknown(station: Station) -> None:
    row = stepping_row(station, Step(-120.5, 4), PLAYING)
    assert (row["step_error_us"], row["step_neighbours"]) == (-120.5, 4)
    assert (row["in_step"], row["fault"]) == (True, "")
    row = stepping_row(station, None, PLAYING)
    assert (row["step_error_us"], row["step_neighbours"]) == (None, 0)


def test_one_that_is_out_of_step_with_its_neighbours_has_a_fault(station: Station) -> None:
    row = stepping_row(station, Step(2_500.0, 3), PLAYING)
    assert row["in_step"] is False
    assert "2.5 ms before its neighbours" in row["fault"]
    worse = replace(PLAYING, fault="the amplifier hums")
    assert stepping_row(station, Step(2_500.0, 3), worse)["fault"] == "the amplifier hums"


def test_of_one_that_is_offline_no_step_is_known(station: Station) -> None:
    station.speakers["a"].session = None
    row = stepping_row(station, Step(2_500.0, 3), PLAYING)
    assert (row["step_error_us"], row["fault"]) == (None, "it cannot be reached")
