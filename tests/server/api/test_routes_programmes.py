"""What is on air and what has been, over HTTP; whom a voice reaches, and how it is ended."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from server.programmes import LiveRequest
from tests.support.asking import ask, post, put
from transport.control.address import StationAddress
from transport.discovery.records import FoundSpeaker

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]


async def speak(room: Room, **request: object) -> str:
    """A voice is granted a ticket; the name of its programme."""
    reply = await post(room, "/api/v1/live", {"to": ["all"], **request})
    assert reply.status == 201
    name = reply.json()["programme"]
    assert isinstance(name, str)
    return name


async def states(room: Room) -> dict[str, str]:
    return {
        row["name"]: row["state"] for row in (await ask(room, "GET", "/api/v1/programmes")).json()
    }


async def past(room: Room, query: str = "") -> list[dict[str, Any]]:
    reply = await ask(room, "GET", f"/api/v1/programmes/past{query}")
    assert reply.status == 200
    rows: list[dict[str, Any]] = reply.json()
    return rows


# ------------------------------------------------------------------ whom it reaches
def test_a_voice_to_a_zone_is_heard_by_its_members(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        room.join("b")
        await put(room, "/api/v1/zones/z", {"definition": {"speakers": ["a"]}})
        reply = await post(room, "/api/v1/live", {"zones": ["z"]})
        assert (reply.status, reply.json()["listening"]) == (201, ["a"])

    play_control(scenario)


def test_a_zone_that_is_not_known_is_answered_with_the_nearest(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await put(room, "/api/v1/zones/schools", {"definition": {"tag": "school"}})
        reply = await post(room, "/api/v1/live", {"zones": ["school"]})
        assert (reply.status, reply.error()) == (404, "no zone 'school'; nearest: schools")

    play_control(scenario)


def test_the_networks_of_the_listeners_decide_frames_and_delay(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("near")
        room.join("far", delivery="saver")
        await speak(room)
        (row,) = (await ask(room, "GET", "/api/v1/programmes")).json()
        assert (row["frames_ms"], row["playout_delay_ms"]) == ([10.0, 60.0], 1000.0)
        assert (row["speakers"], row["not_in_step"]) == (2, [])

    play_control(scenario)


@pytest.mark.parametrize("priority", ["background", "scheduled", "live", "priority", "EMERGENCY"])
def test_a_voice_has_the_priority_it_asks_for(play_control: Play, priority: str) -> None:
    async def scenario(room: Room) -> None:
        await speak(room, priority=priority)
        (row,) = (await ask(room, "GET", "/api/v1/programmes")).json()
        assert row["priority"] == priority.lower()

    play_control(scenario)


def test_a_priority_there_is_not_is_answered_with_those_there_are(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await post(room, "/api/v1/live", {"to": ["all"], "priority": "urgent"})
        assert reply.status == 422
        assert reply.error() == (
            "'urgent' is no priority: use background, scheduled, live, priority, emergency"
        )

    play_control(scenario)


def test_what_these_listeners_could_not_hear_is_a_conflict(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("far", delivery="saver")
        reply = await post(room, "/api/v1/live", {"to": ["all"], "playout_delay_ms": 60})
        assert reply.status == 409
        assert "all sound would be late" in reply.error()
        assert await states(room) == {}

    play_control(scenario)


# ------------------------------------------------------------------ the end
def test_one_programme_is_ended_and_the_others_go_on(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.state = "live"
        first, second = await speak(room), await speak(room)
        reply = await ask(room, "DELETE", f"/api/v1/programmes/{first}")
        assert (reply.status, reply.json()) == (200, {"ended": [first]})
        await room.settle()
        assert await states(room) == {first: "ended", second: "live"}
        assert [order.programme for order in room.ordered[-1].programmes] == [second]

    play_control(scenario)


def test_what_has_ended_already_is_not_ended_again(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        name = await speak(room)
        await ask(room, "DELETE", f"/api/v1/programmes/{name}")
        reply = await ask(room, "DELETE", f"/api/v1/programmes/{name}")
        assert (reply.status, reply.json()) == (200, {"ended": []})

    play_control(scenario)


@pytest.mark.parametrize("named", [True, False])
def test_several_are_ended_by_name_or_all_if_none_is_named(play_control: Play, named: bool) -> None:
    async def scenario(room: Room) -> None:
        names = [await speak(room) for _ in range(3)]
        wanted = names[:2] if named else names
        reply = await post(room, "/api/v1/stop", {"programmes": wanted if named else []})
        assert (reply.status, reply.json()) == (200, {"ended": wanted})

    play_control(scenario)


def test_where_nothing_is_on_air_nothing_is_ended(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await post(room, "/api/v1/stop", {})
        assert (reply.status, reply.json()) == (200, {"ended": []})

    play_control(scenario)


def test_what_is_not_on_air_is_not_ended_nor_what_was_named_with_it(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        name = await speak(room)
        for reply in (
            await ask(room, "DELETE", "/api/v1/programmes/live-9"),
            await post(room, "/api/v1/stop", {"programmes": [name, "live-9"]}),
        ):
            assert reply.status == 404
            assert "no programme 'live-9' is on air" in reply.error()
        assert await states(room) == {name: "waiting"}

    play_control(scenario)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"programmes": "live-1"}, "programmes: "),
        ({"programmes": ["a"] * 101}, "programmes: "),
        ({"all": True}, "all: "),
    ],
)
def test_what_is_no_request_to_stop_is_one_line(play_control: Play, body: object, why: str) -> None:
    async def scenario(room: Room) -> None:
        reply = await post(room, "/api/v1/stop", body)
        assert reply.status == 422
        assert reply.error().startswith(why)

    play_control(scenario)


# ------------------------------------------------------------------ what has been
def test_what_was_on_air_is_listed_the_newest_first(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        assert await past(room) == []
        for _ in range(3):
            await speak(room, priority="emergency")
        rows = await past(room)
        assert [row["name"] for row in rows] == ["live-3", "live-2", "live-1"]
        assert (rows[0]["priority"], rows[0]["request"]["to"]) == (5, ["all"])
        assert (rows[0]["why_ended"], rows[0]["ended_at"]) == (None, None)
        assert [row["name"] for row in await past(room, "?limit=1")] == ["live-3"]

    play_control(scenario)


def test_when_and_why_it_ended_is_kept(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        name = await speak(room)
        await ask(room, "DELETE", f"/api/v1/programmes/{name}")
        ended_at_ns = room.control.station.programmes[name].ended_at_ns
        assert ended_at_ns is not None
        room.control.station.programmes[name].ended_at_ns = 5_000_000_000  # long over
        await room.settle()
        (row,) = await past(room)
        assert row["why_ended"] == "it was stopped"
        assert row["ended_at"] == ended_at_ns // 1_000_000_000
        assert await states(room) == {}

    play_control(scenario)


@pytest.mark.parametrize("limit", ["0", "1001", "many", "1.5"])
def test_no_more_is_listed_than_anybody_reads(play_control: Play, limit: str) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, "GET", f"/api/v1/programmes/past?limit={limit}")
        assert reply.status == 422
        assert reply.error().startswith("limit: ")

    play_control(scenario)


# ------------------------------------------------------------------ keys
async def on_air_in_clear(room: Room) -> str:
    """A programme to a zone in clear, with a loudspeaker that hears it sealed from the group."""
    room.join("a", multicast=True)
    await put(room, "/api/v1/zones/z", {"definition": {"zone": "all"}, "clear": True})
    room.state = "live"
    reply = await post(room, "/api/v1/live", {"zones": ["z"]})
    name = reply.json()["programme"]
    assert isinstance(name, str)
    return name


def test_no_answer_but_one_shows_a_key(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        name = await on_air_in_clear(room)
        station = room.control.station
        secret = [
            spelling
            for stream in station.programmes[name].report.streams
            for epoch in stream.epochs
            for spelling in spellings(epoch.key)
        ]
        described = (await ask(room, "GET", "/api/v1/openapi.json")).json()["paths"]
        paths = [path for path, methods in described.items() if "get" in methods]
        assert len(paths) > 8
        shown = []
        room.join("heard")
        for path in paths:
            kind = path.split("/")[-2]
            named = {"zones": "z", "speakers": "heard"}.get(kind, name)
            reply = await ask(room, "GET", path.replace("{name}", named))
            assert reply.status == 200, path
            if any(spelling in reply.body for spelling in secret):
                shown.append(path)
        assert shown == ["/api/v1/programmes/{name}/key"]

    play_control(scenario)


def spellings(key: bytes) -> list[bytes]:
    """How a key may look in an answer."""
    plain = json.dumps(key.decode("latin-1")).strip('"').encode()
    return [key, key.hex().encode(), base64.b64encode(key), base64.b85encode(key), plain]


def test_the_key_of_the_epoch_that_sounds_is_told_for_a_stock_player(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        name = await on_air_in_clear(room)
        room.join("far", delivery="saver")
        programme = room.control.station.programmes[name]
        reply = await ask(room, "GET", f"/api/v1/programmes/{name}/key")
        assert reply.status == 200
        sounding = programme.report.streams[0].sounding
        assert reply.json() == {
            "programme": name,
            "streams": [
                {
                    "frame_ms": 10.0,
                    "payload_type": 96,
                    "timestamp_offset": 9,
                    "group": programme.group,
                    "port": 5004,
                    "epoch": sounding.number,
                    "ssrc": f"{sounding.ssrc:08x}",
                    "key": sounding.key.hex(),
                }
            ],
        }

    play_control(scenario)


def test_what_goes_by_unicast_alone_is_said_to_go_to_no_group(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        room.join("far", delivery="saver")
        reply = await ask(room, "GET", f"/api/v1/programmes/{await speak(room)}/key")
        assert [row["group"] for row in reply.json()["streams"]] == [None, None]

    play_control(scenario)


def test_what_is_not_on_air_or_has_not_begun_has_no_key(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        assert (await ask(room, "GET", "/api/v1/programmes/live-9/key")).status == 404
        name = room.control.station.open(LiveRequest(("all",)), 0).name
        reply = await ask(room, "GET", f"/api/v1/programmes/{name}/key")
        assert (reply.status, "not started yet" in reply.error()) == (409, True)

    play_control(scenario)


def test_a_key_is_not_for_whoever_has_no_token(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        path = f"/api/v1/programmes/{await speak(room)}/key"
        reply = await ask(room, "GET", path, shown=b"")
        assert reply.status == 401
        assert reply.error()

    play_control(scenario)


# ------------------------------------------------------------------ in clear, and tests
def test_a_zone_in_clear_and_what_goes_to_it_are_said_to_be_unauthenticated(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        await on_air_in_clear(room)
        await speak(room)
        zones = (await ask(room, "GET", "/api/v1/zones")).json()
        assert {row["name"]: row["authenticated"] for row in zones} == {"all": True, "z": False}
        programmes = (await ask(room, "GET", "/api/v1/programmes")).json()
        assert [row["authenticated"] for row in programmes] == [False, True]

    play_control(scenario)


def test_a_zone_is_in_clear_from_the_next_programme_on_and_stays_so_when_defined_anew(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        definition = {"definition": {"zone": "all"}}
        assert (await put(room, "/api/v1/zones/z", definition)).json()["authenticated"]
        before = await post(room, "/api/v1/live", {"zones": ["z"]})
        reply = await ask(room, "PATCH", "/api/v1/zones/z", b'{"clear": true}')
        assert (reply.status, reply.json()["authenticated"]) == (200, False)
        after = await post(room, "/api/v1/live", {"zones": ["z"]})
        assert (before.json()["sdp"], after.json()["sdp"]) == (None, "/programmes/live-2.sdp")
        assert not (await put(room, "/api/v1/zones/z", definition)).json()["authenticated"]
        await room.restart_control()
        (_, row) = (await ask(room, "GET", "/api/v1/zones")).json()
        assert (row["name"], row["authenticated"]) == ("z", False)

    play_control(scenario)


@pytest.mark.parametrize(
    ("name", "status", "why"), [("all", 409, "built in"), ("nowhere", 404, "no zone 'nowhere'")]
)
def test_no_zone_that_is_not_defined_is_in_clear(
    play_control: Play, name: str, status: int, why: str
) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, "PATCH", f"/api/v1/zones/{name}", b'{"clear": true}')
        assert (reply.status, why in reply.error()) == (status, True)

    play_control(scenario)


def test_a_test_is_said_to_be_one(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await speak(room, test=True)
        await speak(room)
        rows = (await ask(room, "GET", "/api/v1/programmes")).json()
        assert [row["test"] for row in rows] == [True, False]
        assert [row["request"]["test"] for row in await past(room)] == [False, True]

    play_control(scenario)


# ------------------------------------------------------------------ who is near
def test_what_mdns_has_found_is_listed_and_whether_it_is_registered(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        assert (await ask(room, "GET", "/api/v1/found")).json() == []
        room.join("a")
        for name in ("b", "a"):
            speaker = FoundSpeaker(name, "192.0.2.1", StationAddress("loa.local", 7460))
            room.control.discovery._speakers[name] = speaker
        reply = await ask(room, "GET", "/api/v1/found")
        station = {"host": "loa.local", "port": 7460}
        found = {"address": "192.0.2.1", "station": station}
        assert reply.json() == [
            {"name": "a", "registered": True, **found},
            {"name": "b", "registered": False, **found},
        ]

    play_control(scenario)


def test_every_way_to_ask_is_described_on_the_station_itself(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, "GET", "/api/v1/openapi.json")
        assert set(reply.json()["paths"]) == {
            "/api/v1/station",
            "/api/v1/found",
            "/metrics",
            "/api/v1/live",
            "/api/v1/programmes",
            "/api/v1/programmes/past",
            "/api/v1/programmes/{name}",
            "/api/v1/programmes/{name}/key",
            "/api/v1/stop",
            "/programmes/{name}.sdp",
            "/api/v1/speakers",
            "/api/v1/speakers/{name}",
            "/api/v1/speakers/{name}/revoke",
            "/api/v1/enrolments",
            "/api/v1/enrolments/{number}",
            "/api/v1/enrolments/pending",
            "/api/v1/events",
            "/api/v1/audit/state",
            "/api/v1/enrolments/pending/{key}",
            "/api/v1/enrolments/pending/{key}/approve",
            "/api/v1/volume",
            "/api/v1/mute",
            "/api/v1/tone",
            "/api/v1/trim/distance",
            "/api/v1/identify",
            "/api/v1/restart",
            "/api/v1/units",
            "/api/v1/units/{path}",
            "/api/v1/zones",
            "/api/v1/zones/preview",
            "/api/v1/zones/{name}",
            "/api/v1/audit",
            "/api/v1/audit/export",
            "/api/v1/login",
            "/api/v1/users",
            "/api/v1/users/{name}",
            "/api/v1/users/{name}/grants",
            "/api/v1/users/{name}/grants/withdraw",
            "/api/v1/users/{name}/password",
            "/api/v1/users/{name}/codes",
            "/api/v1/tokens",
            "/api/v1/tokens/{number}",
        }

    play_control(scenario)
