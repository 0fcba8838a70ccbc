"""Loudspeakers over HTTP: what is said of them, and what they are asked to do."""

import asyncio
import unicodedata
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from server.directory import Endpoint
from tests.support.asking import ask, next_page, patch, post, put
from tests.support.sessions import Peer
from tests.support.stations import key_of_name
from transport.control.messages import Adjust, Command, Done, Refused

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
ROOT = "Tân Phú"
VILLAGE = f"{ROOT}/Thôn 3"


async def connect(room: Room, name: str) -> Peer:
    """A loudspeaker with a session, which does as it is told; it is enrolled."""
    control = room.control
    if name not in control.station.directory.endpoints:
        control.station.enrol(Endpoint(name, ROOT, key=key_of_name(name)))
    peer = Peer(name=name, tls_hash=control.sessions.credentials.tls_hash)
    room.serving.append(asyncio.create_task(control.sessions.serve(peer)))
    await peer.prove(peer.hello())
    await peer.hears()
    await peer.hears()
    return peer


async def answer(peer: Peer, error: str = "") -> Command:
    """The next thing that it is asked to do, which it then says it has done, or why not."""
    command = await peer.is_commanded()
    peer.say(Done(command.id, error))
    return command


@pytest.fixture
def play(play_control: Play) -> Play:
    """Play a scenario in a control room that loudspeakers may `connect` to."""

    def play(scenario: Callable[[Room], Any]) -> None:
        async def with_sessions(room: Room) -> None:
            room.serving = []
            await scenario(room)
            for task in room.serving:
                task.cancel()
            await asyncio.gather(*room.serving, return_exceptions=True)

        play_control(with_sessions)

    return play


def quoted(query: str) -> str:
    """As it stands in a request's head."""
    return quote(query, safe="=&+")


async def speakers(room: Room, query: str = "") -> dict[str, dict[str, Any]]:
    """All pages of them."""
    found: dict[str, dict[str, Any]] = {}
    path = f"/api/v1/speakers{query}"
    while path:
        reply = await ask(room, "GET", path)
        assert reply.status == 200, reply.body
        found |= {row["name"]: row for row in reply.json()}
        path = next_page(reply) or ""
    return found


def test_of_many_loudspeakers_all_are_shown_by_name_and_others_have_their_turn(
    play: Play,
) -> None:
    async def scenario(room: Room) -> None:
        names = [f"s{n:03}" for n in range(500)]
        for name in reversed(names):
            room.control.station.enrol(Endpoint(name, ROOT, key=key_of_name(name)))
        assert list(await speakers(room)) == names
        # None is faulty but these, which a look at 500 finds; it is forgotten after the first 200.
        asking = asyncio.create_task(ask(room, "GET", "/api/v1/speakers?state=offline&limit=1000"))
        while not asking.done() and "s499" in room.control.station.directory.endpoints:
            await asyncio.sleep(0)
            room.control.station.forget("s499")
        assert [row["name"] for row in (await asking).json()] == names[:-1]

    play(scenario)


def test_a_list_comes_in_pages_of_which_each_says_where_the_next_is(play: Play) -> None:
    async def scenario(room: Room) -> None:
        for name in ("chợ", "trường", "a&b=c", "loa 7", "đình"):
            room.control.station.enrol(Endpoint(name, ROOT, key=key_of_name(name)))
        seen: list[list[str]] = []
        path: str | None = "/api/v1/speakers?limit=2&state=offline"
        while path is not None:
            reply = await ask(room, "GET", path)
            seen.append([row["name"] for row in reply.json()])
            path = next_page(reply)
        assert seen == [["a&b=c", "chợ"], ["loa 7", "trường"], ["đình"]]

    play(scenario)


def test_of_loudspeakers_those_are_listed_that_are_asked_for(play: Play) -> None:
    async def scenario(room: Room) -> None:
        await post(room, "/api/v1/units", {"path": VILLAGE})
        for name, unit, tags in (
            ("here", ROOT, set()),
            ("far", VILLAGE, {"school"}),
            ("near", ROOT, {"school", "loud"}),
            ("none", ROOT, set()),
        ):
            key = None if name == "none" else key_of_name(name)
            endpoint = Endpoint(name, unit, tags=frozenset(tags), key=key)
            room.control.station.directory.put_endpoint(endpoint)
        definition = {"definition": {"speakers": ["near", "here"]}}
        assert (await put(room, "/api/v1/zones/z", definition)).status == 200
        room.join("here")
        for query, names in (
            (f"unit={VILLAGE}", ["far"]),
            (f"unit={ROOT}", ["far", "here", "near", "none"]),
            ("zone=z", ["here", "near"]),
            ("tag=school", ["far", "near"]),
            ("tag=school&zone=z", ["near"]),
            ("state=offline", ["far", "near"]),
            ("state=not+enrolled", ["none"]),
            ("state=syncing", ["here"]),
            ("faulty=true&zone=z", ["near"]),
            ("faulty=false", ["here"]),
        ):
            assert list(await speakers(room, f"?{quoted(query)}")) == names, query
        for query, status in (("unit=Elsewhere", 404), ("zone=y", 404), ("state=asleep", 422)):
            assert (await ask(room, "GET", f"/api/v1/speakers?{quoted(query)}")).status == status, (
                query
            )

    play(scenario)


def test_one_loudspeaker_is_asked_for_by_its_name(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("chợ")
        row = (await ask(room, "GET", "/api/v1/speakers/chợ")).json()
        assert row == (await speakers(room))["chợ"] | {"last_seen_s": row["last_seen_s"]}
        assert (await ask(room, "GET", "/api/v1/speakers/che")).status == 404

    play(scenario)


# ------------------------------------------------------------------ what is said of them
def test_a_loudspeaker_is_placed_and_listed_so(play: Play) -> None:
    async def scenario(room: Room) -> None:
        await post(room, "/api/v1/units", {"path": VILLAGE})
        room.join("chợ")
        where = {"latitude": 10.5, "longitude": 106.25}
        body = {"unit": VILLAGE, "tags": ["school", "loud"], "position": where}
        reply = await patch(room, f"/api/v1/speakers/{unicodedata.normalize('NFD', 'chợ')}", body)
        row = reply.json()
        assert (reply.status, row["name"], row["unit"]) == (200, "chợ", VILLAGE)
        assert (row["tags"], row["position"]) == (["loud", "school"], where)
        assert await speakers(room) == {"chợ": row | {"last_seen_s": pytest.approx(0, abs=9)}}

    play(scenario)


def test_what_is_left_out_stays_as_it_is(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await patch(room, "/api/v1/speakers/a", {"tags": ["school"]})
        row = (await patch(room, "/api/v1/speakers/a", {})).json()
        assert (row["unit"], row["tags"], row["position"]) == (ROOT, ["school"], None)

    play(scenario)


def test_what_was_said_of_a_loudspeaker_is_there_after_a_restart(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await patch(room, "/api/v1/speakers/a", {"tags": ["school"]})
        await post(room, "/api/v1/volume", {"to": ["a"], "volume": 30})
        await patch(room, "/api/v1/speakers/a", {"trim_us": -1200})
        await room.restart_control()
        row = (await speakers(room))["a"]
        assert (row["state"], row["tags"], row["volume"]) == ("offline", ["school"], 30)
        assert row["trim_us"] == -1200

    play(scenario)


WRONG_CHANGES: dict[str, tuple[object, int, str]] = {
    "an unknown unit": ({"unit": f"{ROOT}/x"}, 404, "no unit"),
    "no unit's name": ({"unit": "?"}, 409, "is no name for a unit"),
    "no tag": ({"tags": ["?"]}, 409, "is no name for a tag"),
    "too many tags": ({"tags": ["a"] * 33}, 422, "tags: "),
    "half a place": ({"position": {"latitude": 1}}, 422, "position.longitude: "),
    "no latitude": ({"position": {"latitude": 91, "longitude": 0}}, 422, "position.latitude: "),
    "no number": (
        {"position": {"latitude": float("nan"), "longitude": 0}},
        422,
        "position.latitude: ",
    ),
    "no trim": ({"trim_us": 50_001}, 422, "trim_us: "),
    "a trim of half a microsecond": ({"trim_us": 0.5}, 422, "trim_us: "),
    "what is not changed here": ({"volume": 3}, 422, "volume: "),
}


@pytest.mark.parametrize(("body", "status", "why"), WRONG_CHANGES.values(), ids=WRONG_CHANGES)
def test_what_cannot_be_said_of_a_loudspeaker_is_one_line_and_changes_nothing(
    play: Play, body: object, status: int, why: str
) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        before = room.control.station.directory.endpoint("a")
        reply = await patch(room, "/api/v1/speakers/a", body)
        assert reply.status == status
        assert why in reply.error()
        assert room.control.station.directory.endpoint("a") == before

    play(scenario)


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
def test_an_unknown_loudspeaker_is_answered_with_the_nearest(play: Play, method: str) -> None:
    async def scenario(room: Room) -> None:
        room.join("market")
        reply = await ask(room, method, "/api/v1/speakers/markt", b"{}")
        assert reply.status == 404
        assert reply.error() == "no loudspeaker 'markt'; nearest: market"

    play(scenario)


def test_who_is_switched_off_may_be_forgotten(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        room.control.station.speakers["a"].session = None
        await room.settle()
        reply = await ask(room, "DELETE", "/api/v1/speakers/a")
        assert (reply.status, reply.body) == (204, b"")
        assert await speakers(room) == {}
        await room.restart_control()
        assert await speakers(room) == {}

    play(scenario)


def test_what_goes_out_in_clear_is_for_those_of_whom_it_is_said(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        assert (await speakers(room))["a"]["authenticated"] is True
        for clear in (True, False):
            row = (await patch(room, "/api/v1/speakers/a", {"clear": clear})).json()
            assert (row["clear"], row["authenticated"]) == (clear, not clear)
            await room.restart_control()
            assert (await speakers(room))["a"]["clear"] is clear

    play(scenario)


def test_who_is_revoked_is_told_so_stays_registered_and_is_revoked_after_a_restart(
    play: Play,
) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        peer = await connect(room, "a")
        reply = await post(room, "/api/v1/speakers/a/revoke", {})
        assert (reply.status, reply.body) == (204, b"")
        refusal = await peer.hears()
        assert isinstance(refusal, Refused)
        assert refusal.final
        await peer.closed.wait()
        for _ in range(2):
            row = (await speakers(room))["a"]
            assert (row["state"], row["enrolled"]) == ("not enrolled", False)
            assert row["fault"] == "it has no key here: get a code with `loa enrol`"
            await room.restart_control()
        reply = await post(room, "/api/v1/speakers/a/revoke", {})
        assert (reply.status, "nothing to revoke" in reply.error()) == (409, True)
        assert (await ask(room, "DELETE", "/api/v1/speakers/a")).status == 204

    play(scenario)


def test_who_is_connected_is_not_forgotten(play: Play) -> None:
    async def scenario(room: Room) -> None:
        await connect(room, "a")
        reply = await ask(room, "DELETE", "/api/v1/speakers/a")
        assert reply.status == 409
        assert "revoke it first" in reply.error()

    play(scenario)


# ------------------------------------------------------------------ how loud they are
def test_a_volume_is_told_to_those_whom_it_concerns(play: Play) -> None:
    async def scenario(room: Room) -> None:
        one, two = await connect(room, "one"), await connect(room, "two")
        reply = await post(room, "/api/v1/volume", {"to": ["one"], "volume": 30})
        assert (reply.status, reply.json()) == (200, {"changed": ["one"]})
        await room.settle()
        assert one.adjusted == [Adjust(100, muted=False), Adjust(30, muted=False)]
        assert two.adjusted == [Adjust(100, muted=False)]
        assert (await speakers(room))["one"]["volume"] == 30

    play(scenario)


def test_a_zone_is_silenced_and_heard_again(play: Play) -> None:
    async def scenario(room: Room) -> None:
        one, two = await connect(room, "one"), await connect(room, "two")
        await put(room, "/api/v1/zones/z", {"definition": {"speakers": ["one", "two"]}})
        for muted in (True, False):
            reply = await post(room, "/api/v1/mute", {"zones": ["z"], "muted": muted})
            assert (reply.status, reply.json()) == (200, {"changed": ["one", "two"]})
            await room.settle()
        for peer in (one, two):
            assert [adjust.muted for adjust in peer.adjusted] == [False, True, False]

    play(scenario)


def test_who_is_offline_has_the_volume_when_it_comes_back(play: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        room.control.station.speakers["a"].session = None
        await post(room, "/api/v1/volume", {"to": ["all"], "volume": 7})
        peer = await connect(room, "a")
        assert peer.adjusted == [Adjust(7, muted=False)]

    play(scenario)


# ------------------------------------------------------------------ what they are asked to do
@pytest.mark.parametrize(
    ("path", "more", "action", "seconds"),
    [
        ("/api/v1/tone", {}, "tone", 2.0),
        ("/api/v1/tone", {"seconds": 0.5}, "tone", 0.5),
        ("/api/v1/identify", {}, "identify", 0.0),
        ("/api/v1/restart", {}, "restart", 0.0),
    ],
)
def test_loudspeakers_do_as_they_are_asked_and_it_is_said_who_did(
    play: Play, path: str, more: dict[str, float], action: str, seconds: float
) -> None:
    async def scenario(room: Room) -> None:
        good, bad = await connect(room, "good"), await connect(room, "bad")
        room.join("gone")
        asking = asyncio.create_task(post(room, path, {"to": ["all"], **more}))
        command = await answer(good)
        await answer(bad, "live-1 is being heard")
        reply = await asking
        assert (command.action, command.seconds) == (action, seconds)
        assert (reply.status, reply.json()) == (
            200,
            {
                "done": ["good"],
                "failed": {"bad": "live-1 is being heard", "gone": "it is offline"},
            },
        )

    play(scenario)


def test_who_does_not_answer_is_said_to_have_failed(play: Play) -> None:
    async def scenario(room: Room) -> None:
        await connect(room, "a")
        reply = await post(room, "/api/v1/identify", {"to": ["a"]})
        assert reply.json() == {"done": [], "failed": {"a": "no answer within 2 s"}}

    play(scenario)


# ------------------------------------------------------------------ whom it concerns
TARGETED: dict[str, dict[str, object]] = {
    "/api/v1/volume": {"volume": 50},
    "/api/v1/mute": {"muted": True},
    "/api/v1/tone": {},
    "/api/v1/identify": {},
    "/api/v1/restart": {},
}


@pytest.mark.parametrize(("path", "body"), TARGETED.items(), ids=TARGETED)
@pytest.mark.parametrize(
    ("whom", "status", "why"),
    [
        ({}, 422, "to whom?"),
        ({"to": [], "zones": []}, 422, "to whom?"),
        ({"to": ["a", "b"]}, 404, "no loudspeaker 'b'; nearest: a"),
        ({"to": ["a"], "zones": ["z"]}, 404, "no zone 'z'"),
        ({"to": "a"}, 422, "to: "),
        ({"whom": ["a"]}, 422, "whom: "),
    ],
)
def test_whom_nobody_knows_is_one_line_and_nothing_is_done(
    play: Play, path: str, body: dict[str, object], whom: dict[str, object], status: int, why: str
) -> None:
    async def scenario(room: Room) -> None:
        peer = await connect(room, "a")
        reply = await post(room, path, {**body, **whom})
        assert reply.status == status
        assert why in reply.error()
        await room.settle()
        assert peer.heard_nothing_more
        assert len(peer.adjusted) == 1

    play(scenario)


WRONG_BODIES: list[tuple[str, dict[str, object], str]] = [
    ("/api/v1/volume", {}, "volume: "),
    ("/api/v1/volume", {"volume": -1}, "volume: "),
    ("/api/v1/volume", {"volume": 101}, "volume: "),
    ("/api/v1/volume", {"volume": 0.5}, "volume: "),
    ("/api/v1/mute", {}, "muted: "),
    ("/api/v1/mute", {"muted": "perhaps"}, "muted: "),
    ("/api/v1/tone", {"seconds": 0}, "seconds: "),
    ("/api/v1/tone", {"seconds": 61}, "seconds: "),
    ("/api/v1/tone", {"seconds": float("nan")}, "seconds: "),
    ("/api/v1/identify", {"seconds": 1}, "seconds: "),
]


@pytest.mark.parametrize(("path", "body", "why"), WRONG_BODIES)
def test_a_wrong_field_is_named_in_one_line(
    play: Play, path: str, body: dict[str, object], why: str
) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        reply = await post(room, path, {"to": ["a"], **body})
        assert reply.status == 422
        assert reply.error().startswith(why)

    play(scenario)


# ------------------------------------------------------------------ the way of the sound
STREET = {"near": 106.0, "far": 106.0001}  # 10.93 m apart at this latitude


async def street(room: Room) -> None:
    for name, longitude in STREET.items():
        room.join(name)
        where = {"latitude": 10.5, "longitude": longitude}
        await patch(room, f"/api/v1/speakers/{name}", {"position": where})


def from_the_west(**more: object) -> dict[str, object]:
    return {"to": ["all"], "origin": {"latitude": 10.5, "longitude": 105.9995}, **more}


def test_trims_by_distance_are_shown_and_kept_only_when_that_is_said(play: Play) -> None:
    async def scenario(room: Room) -> None:
        await street(room)
        shown = (await post(room, "/api/v1/trim/distance", from_the_west())).json()
        assert shown["stored"] is False
        assert [(row["name"], row["before_us"]) for row in shown["trims"]] == [
            ("near", 0),
            ("far", 0),
        ]
        assert shown["trims"][0]["trim_us"] == 0
        # 10.934 m at 343.2 m/s.
        assert shown["trims"][1]["trim_us"] == pytest.approx(31_858, abs=30)
        assert {row["trim_us"] for row in (await speakers(room)).values()} == {0}
        kept = (await post(room, "/api/v1/trim/distance", from_the_west(store=True))).json()
        assert kept["stored"] is True
        rows = await speakers(room)
        assert rows["far"]["trim_us"] == shown["trims"][1]["trim_us"]

    play(scenario)


WRONG_STREETS: dict[str, tuple[dict[str, object], int, str]] = {
    "no place": (
        from_the_west(origin={"latitude": 10.5, "longitude": 200.0}),
        422,
        "origin.longitude: ",
    ),
    "colder than there is": (from_the_west(temperature_c=-300), 422, "temperature_c: "),
    "nobody": ({"origin": {"latitude": 1, "longitude": 1}}, 422, "to whom?"),
    "who stands nowhere": (
        from_the_west(to=["lost", "near"]),
        409,
        "nobody said where to find lost: ",
    ),
}


@pytest.mark.parametrize(("body", "status", "why"), WRONG_STREETS.values(), ids=WRONG_STREETS)
def test_what_gives_no_trims_is_one_line_and_changes_nothing(
    play: Play, body: dict[str, object], status: int, why: str
) -> None:
    async def scenario(room: Room) -> None:
        await street(room)
        room.join("lost")
        reply = await post(room, "/api/v1/trim/distance", {**body, "store": True})
        assert reply.status == status
        assert why in reply.error()
        assert {row["trim_us"] for row in (await speakers(room)).values()} == {0}

    play(scenario)
