"""S8: whoever has a commune's credentials sounds, sees and changes no other commune.

Each test names the defence without which it fails; each was removed once to see that.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from server.api.rights import Of, Right, check_stated, right_of
from server.api.routes import build_api
from server.directory import Endpoint
from server.editing import EndpointChange
from server.keys.access import _OPEN, AccessCheck
from server.programmes import LiveRequest
from tests.support.people import ask_as, done, person, signed_in, token_of
from tests.support.sessions import Peer
from transport.control.address import StationAddress
from transport.control.messages import Enrolled, Hello, Listen, Refused
from transport.discovery.records import FoundSpeaker

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
ROOT = "Tân Phú"
A, B = f"{ROOT}/A", f"{ROOT}/B"
EVERY_ROLE = ["viewer", "editor", "approver", "operator", "emergency", "administrator"]


async def two_communes(room: Room) -> str:
    """Loudspeakers a1 and a2 in one, b1 in another; a stolen token that may all in the first."""
    for unit in (A, B):
        await room.control.editing.add_unit(unit)
    for name, unit in (("a1", A), ("a2", A), ("b1", B)):
        room.join(name)
        await room.control.editing.change_endpoints([name], EndpointChange(unit=unit))
    all_in_a = [(role, A) for role in EVERY_ROLE]
    await person(room, "thief", *all_in_a)
    return token_of(room.control, "thief", *all_in_a, urgent=True)


def sounds_at(room: Room) -> set[str]:
    """Who is meant to hear anything, by what each loudspeaker itself would be told."""
    station = room.control.station
    heard: set[str] = set()
    for name in station.directory.endpoints:
        listen = station.listen(name, 1, lambda *_: b"certificate")
        heard |= {name} if listen.streams else set()
    for programme in station.programmes.values():
        heard |= station.audience(programme)
    return heard


# ------------------------------------------------------------------ every route
def test_every_route_states_what_it_needs_and_no_other_is_served(play_control: Play) -> None:
    # Without `check_stated` the last lines would pass.
    async def scenario(room: Room) -> None:
        api = build_api(room.control)
        stated: dict[tuple[str, str], Right] = {}
        for route in api.routes:
            if isinstance(route, APIRoute):
                right = right_of(route)
                assert right is not None, route.path
                stated |= {(method, route.path): right for method in route.methods or ()}
        is_open = {key for key, right in stated.items() if right.of is Of.NOBODY}
        assert is_open | {("GET", "/api/v1/openapi.json")} == _OPEN | {
            ("GET", "/programmes/{name}.sdp")
        }
        for right in stated.values():
            assert (right.deed is None) == (right.of in {Of.NOBODY, Of.ONESELF})

        bare = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

        @bare.get("/api/v1/forgotten")
        async def forgotten() -> None: ...

        with pytest.raises(RuntimeError, match="/api/v1/forgotten does not state"):
            check_stated(bare)

    play_control(scenario)


BODIES: dict[str, object] = {
    "/api/v1/live": {"to": ["b1"]},
    "/api/v1/stop": {"programmes": ["live-1"]},
    "/api/v1/volume": {"to": ["b1"], "volume": 1},
    "/api/v1/mute": {"to": ["b1"], "muted": True},
    "/api/v1/tone": {"to": ["b1"]},
    "/api/v1/identify": {"to": ["b1"]},
    "/api/v1/restart": {"to": ["b1"]},
    "/api/v1/trim/distance": {
        "to": ["b1"],
        "origin": {"latitude": 1, "longitude": 1},
        "store": True,
    },
    "/api/v1/enrolments": {"names": ["b1"]},
    "/api/v1/enrolments/pending/{key}/approve": {"name": "b9", "unit": B},
    "/api/v1/speakers/{name}": {"trim_us": 5},
    "/api/v1/units": {"path": f"{B}/new"},
    "PUT /api/v1/zones/{name}": {"definition": {"unit": B}},
    "PATCH /api/v1/zones/{name}": {"clear": True},
    "/api/v1/zones/preview": {"definition": {"unit": B}},
    "/api/v1/users": {"name": "mole", "password": "x" * 5 + "yzab" * 5, "grants": []},
    "/api/v1/users/{name}": {"disabled": True},
    "/api/v1/users/{name}/grants": {"role": "operator", "unit": B},
    "/api/v1/users/{name}/grants/withdraw": {"role": "operator", "unit": B},
    "/api/v1/users/{name}/password": {"password": "another one that is long"},
    "/api/v1/users/{name}/codes": {},
    "/api/v1/tokens": {"label": "x", "grants": [{"role": "operator", "unit": B}]},
}
NAMES = {
    "/api/v1/speakers/{name}": "b1",
    "/api/v1/speakers/{name}/revoke": "b1",
    "/api/v1/zones/{name}": "zb",
    "/api/v1/programmes/{name}": "live-1",
    "/api/v1/programmes/{name}/key": "live-1",
}
# What may be asked, and is cut or harmless; what each says is looked at below.
CUT = {
    "/api/v1/station", "/api/v1/found", "/api/v1/programmes", "/api/v1/programmes/past",
    "/api/v1/speakers", "/api/v1/units", "/api/v1/zones", "/api/v1/enrolments",
    "/api/v1/enrolments/pending", "/api/v1/users", "/api/v1/tokens", "/api/v1/login",
    "/api/v1/zones/preview", "/api/v1/events",
}  # fmt: skip


def asked(room: Room) -> Iterator[tuple[str, str]]:
    """Every method and path that needs a right, but to sign out."""
    for route in build_api(room.control).routes:
        if isinstance(route, APIRoute):
            right = right_of(route)
            assert right is not None
            for method in (route.methods or set()) - {"HEAD"}:
                if right.of is not Of.NOBODY and (method, route.path) != (
                    "DELETE",
                    "/api/v1/login",
                ):
                    yield method, route.path


def everything(room: Room) -> object:
    """All that a refused request must leave as it is."""
    station, book = room.control.station, room.control.accounts.book
    return (
        dict(station.directory.endpoints),
        set(station.directory.units),
        dict(station.zones.definitions),
        station.zones.clear,
        [(p.name, p.ended_at_ns) for p in station.programmes.values()],
        room.control.enrolling.enrolment.codes,
        book.users,
        book.tokens,
    )


@pytest.mark.parametrize("kind", ["token", "session", "no rights", "stale"])
def test_S8_no_route_lets_a_commune_do_anything_in_another(play_control: Play, kind: str) -> None:  # noqa: N802
    # Without `Right.__call__`, without any one route's own check, or with the machine's identity
    # in the place of the asker's, this fails.
    async def scenario(room: Room) -> None:
        shown = await two_communes(room)
        await person(room, "victim", ("administrator", B))
        match kind:
            case "session":
                shown = signed_in(room.control, "thief")
            case "stale":
                shown = signed_in(room.control, "thief", fresh=False)
            case "no rights":
                shown = await person(room, "nobody")
            case _:
                pass
        await room.control.editing.put_zone("zb", {"unit": B})
        await room.control.open_live(_to_b())
        before, refused = everything(room), 0
        for method, route in asked(room):
            path = route.replace("{name}", NAMES.get(route, "victim")).replace("{path:path}", B)
            path = path.replace("{number}", "0" * 8).replace("{key}", "AAAA")
            body = BODIES.get(f"{method} {route}", BODIES.get(route))
            body = None if method in {"GET", "DELETE"} else body
            reply = await ask_as(room, shown, method, path, body)
            if (method == "GET" and route in CUT) or route == "/api/v1/zones/preview":
                assert b'"b1"' not in reply.body, (path, reply.body)
                continue
            # 404: of a code, a token and who waits there is none; who may it is asked then.
            assert reply.status in {403, 404}, (method, path, reply.status, reply.body)
            refused += reply.status == 403
        assert refused > 20
        assert everything(room) == before

    play_control(scenario)


def _to_b() -> LiveRequest:
    return LiveRequest(to=("b1",))


# ------------------------------------------------------------------ sounding
@pytest.mark.parametrize("priority", ["live", "background", "emergency"])
@pytest.mark.parametrize(
    "target",
    [{"to": ["b1"]}, {"to": ["a1", "b1"]}, {"to": ["all"]}, {"zones": ["zb"]}, {"zones": ["ab"]}],
)
def test_S8_a_stolen_token_cannot_address_another_commune(  # noqa: N802
    play_control: Play, target: dict[str, Any], priority: str
) -> None:
    # Without `opener.check` in `reach_of` this fails.
    async def scenario(room: Room) -> None:
        shown = await two_communes(room)
        await room.control.editing.put_zone("zb", {"unit": B})
        inner = {"union": [{"zone": "zb"}, {"unit": A}]}
        await room.control.editing.put_zone("inner", inner)
        await room.control.editing.put_zone("ab", {"union": [{"zone": "inner"}]})
        reply = await ask_as(room, shown, "POST", "/api/v1/live", {**target, "priority": priority})
        assert reply.status == 403
        assert B in reply.error()
        assert sounds_at(room) == set()
        own = await ask_as(
            room, shown, "POST", "/api/v1/live", {"to": ["a1"], "priority": priority}
        )
        assert own.status == 201
        assert sounds_at(room) == {"a1"}

    play_control(scenario)


@pytest.mark.parametrize("nested", [False, True])
def test_S8_a_zone_edited_after_the_start_carries_nobody_further(  # noqa: N802
    play_control: Play, nested: bool
) -> None:
    # Without the cut in `_find_audience` this fails.
    async def scenario(room: Room) -> None:
        shown = await two_communes(room)
        editing = room.control.editing
        await editing.put_zone("za", {"unit": A})
        if nested:
            await editing.put_zone("outer", {"union": [{"zone": "za"}]})
        zone = "outer" if nested else "za"
        granted = await done(room, shown, "POST", "/api/v1/live", {"zones": [zone]})
        room.state = "live"
        assert sounds_at(room) == {"a1", "a2"}
        # By somebody who may, and with the ticket in the thief's hands.
        await editing.put_zone("za", {"union": [{"unit": A}, {"unit": B}]})
        assert sounds_at(room) == {"a1", "a2"}
        await editing.put_zone("za", {"zone": "all"})
        await room.settle()
        assert sounds_at(room) == {"a1", "a2"}
        # The producer is asked for nothing else on that ticket, and nobody else is sent it.
        (order,) = room.ordered[-1].programmes
        assert order.ticket == granted["ticket"]
        # Nor does control's death change it.
        await room.restart_control()
        assert sounds_at(room) == {"a1", "a2"}
        # And the thief cannot edit it himself.
        reply = await ask_as(room, shown, "PUT", "/api/v1/zones/za", {"definition": {"unit": A}})
        assert reply.status == 403
        reply = await ask_as(
            room, shown, "PUT", "/api/v1/zones/mine", {"definition": {"zone": "all"}}
        )
        assert reply.status == 403

    play_control(scenario)


def test_S8_a_loudspeaker_that_is_moved_away_hears_no_more_of_it(play_control: Play) -> None:  # noqa: N802
    # Without the cut in `_find_audience`, or with an audience kept over a move, this fails.
    async def scenario(room: Room) -> None:
        shown = await two_communes(room)
        await done(room, shown, "POST", "/api/v1/live", {"to": ["a1", "a2"]})
        await room.control.editing.change_endpoints(["a2"], EndpointChange(unit=B))
        assert sounds_at(room) == {"a1"}
        # The thief can neither fetch it back nor send his own over the border.
        for name, unit in (("a2", A), ("b1", A), ("a1", B)):
            reply = await ask_as(room, shown, "PATCH", f"/api/v1/speakers/{name}", {"unit": unit})
            assert reply.status == 403
        await room.control.editing.change_endpoints(["a2"], EndpointChange(unit=f"{A}"))
        assert sounds_at(room) == {"a1", "a2"}

    play_control(scenario)


def test_S8_what_was_opened_ends_when_the_right_is_withdrawn(play_control: Play) -> None:  # noqa: N802
    # Without `Control._end_what_may_not_be` a stolen token's voice would go on after its end.
    async def scenario(room: Room) -> None:
        shown = await two_communes(room)
        await done(room, shown, "POST", "/api/v1/live", {"to": ["a1"]})
        mine = signed_in(room.control, "thief")
        await done(room, mine, "POST", "/api/v1/live", {"to": ["a2"]})
        (token,) = await done(room, mine, "GET", "/api/v1/tokens")
        await done(room, mine, "DELETE", f"/api/v1/tokens/{token['number']}")
        ended = {
            p.name: p.ended_at_ns is not None for p in room.control.station.programmes.values()
        }
        assert ended == {"live-1": True, "live-2": False}
        assert (await ask_as(room, shown, "GET", "/api/v1/units")).status == 401
        operator = room.control.access.token
        await done(room, operator, "PATCH", "/api/v1/users/thief", {"disabled": True})
        assert all(p.ended_at_ns for p in room.control.station.programmes.values())
        assert (await ask_as(room, mine, "GET", "/api/v1/units")).status == 401

    play_control(scenario)


def test_S8_neither_the_websocket_nor_a_loudspeakers_key_widens_anything(  # noqa: N802
    play_control: Play,
) -> None:
    # Without the key's own name in `Sessions._answer` a1 could say that it is b1.
    async def scenario(room: Room) -> None:
        shown = await two_communes(room)
        await room.control.open_live(_to_b())
        peer = Peer(name="a1", tls_hash=room.control._own.credentials().tls_hash)
        serving: Any = peer
        task = asyncio.create_task(room.control.sessions.serve(serving))
        hello = peer.hello()
        await peer.prove(Hello(**{**_fields(hello), "name": "b1"}))
        said = await peer.hears()
        assert said == Enrolled("a1") or isinstance(said, Refused)
        task.cancel()
        await asyncio.wait([task])
        listening = room.control.station.listen("a1", 1, lambda *_: b"")
        assert isinstance(listening, Listen)
        assert listening.streams == ()
        # A bearer's text is nothing there, and no other WebSocket is opened by it.
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def never(*_: Any) -> Any:
            raise AssertionError("somebody came in")

        check = AccessCheck(never, room.control.access)
        head = [(b"authorization", b"Bearer " + shown.encode())]
        for path in ("/api/v1/live", "/api/v1/zones", "/", "/control/"):
            await check({"type": "websocket", "path": path, "headers": head}, never, send)
        assert [m["type"] for m in sent] == ["websocket.close"] * 4

    play_control(scenario)


def _fields(hello: Any) -> dict[str, Any]:
    return {name: getattr(hello, name) for name in hello.__dataclass_fields__}


def test_S8_enrolment_takes_no_loudspeaker_of_another_commune(play_control: Play) -> None:  # noqa: N802
    # Without `Enrolling._check` the first block fails; without a code's reach the second.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = signed_in(room.control, "thief")
        for body in (
            {"names": ["b1"], "unit": A},
            {"names": ["b1"]},
            {"names": ["x"], "unit": B},
            {"names": ["x"]},
            {"names": [""]},
            {"names": ["a1"], "unit": ROOT},
        ):
            reply = await ask_as(room, shown, "POST", "/api/v1/enrolments", body)
            assert reply.status == 403, body
        for path in ("/api/v1/speakers/b1/revoke",):
            assert (await ask_as(room, shown, "POST", path)).status == 403
        # A code for his own a1 and for a new name: both are another commune's when it is used.
        for body in ({"names": ["a1"]}, {"names": ["new"], "unit": A}):
            await done(room, shown, "POST", "/api/v1/enrolments", body)
        await room.control.editing.change_endpoints(["a1"], EndpointChange(unit=B))
        room.control.station.enrol(Endpoint("new", B, key=b"n" * 32))
        enrolling = room.control.enrolling
        for code in enrolling.enrolment.codes:
            wanted = Endpoint(code.name, code.unit or "", key=b"k" * 32)
            with pytest.raises(Exception, match="for loudspeakers of other units"):
                enrolling._wanted(code, wanted, 0, code.reach)
        # They survive a restart with their reach, and another commune's code is not superseded.
        await room.restart_control()
        assert {c.reach for c in room.control.enrolling.enrolment.codes} == {(A,)}
        operator = room.control.access.token
        await done(room, operator, "POST", "/api/v1/enrolments", {"names": ["later"], "unit": B})
        body = {"names": ["later"], "unit": A}
        assert (await ask_as(room, shown, "POST", "/api/v1/enrolments", body)).status == 403

    play_control(scenario)


# ------------------------------------------------------------------ rights themselves
def test_S8_nobody_gives_himself_or_another_more_than_he_has(play_control: Play) -> None:  # noqa: N802
    # Without `check_grants_within`, or with the new right alone looked at, this fails.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        await person(room, "boss", ("administrator", ROOT))
        await person(room, "other", ("operator", B))
        shown = signed_in(room.control, "thief")
        grant_b, grant_a = {"role": "viewer", "unit": B}, {"role": "viewer", "unit": A}
        for method, path, body in (
            ("POST", "/api/v1/users/thief/grants", grant_b),
            ("POST", "/api/v1/users/boss/grants", grant_a),
            ("POST", "/api/v1/users/other/grants", grant_a),
            ("PATCH", "/api/v1/users/boss", {"disabled": True}),
            ("PUT", "/api/v1/users/boss/password", {"password": "mine now, and long"}),
            ("DELETE", "/api/v1/users/boss/codes", None),
            ("DELETE", "/api/v1/users/other", None),
            ("POST", "/api/v1/users", {"name": "n", "password": "long enough here", "grants": []}),
            ("POST", "/api/v1/tokens", {"label": "l", "grants": [{"role": "operator", "unit": B}]}),
            (
                "POST",
                "/api/v1/tokens",
                {"label": "l", "grants": [{"role": "operator", "unit": ROOT}]},
            ),
        ):
            assert (await ask_as(room, shown, method, path, body)).status == 403, path
        helper = {"name": "helper", "password": "long enough here", "grants": [grant_a]}
        await done(room, shown, "POST", "/api/v1/users", helper)
        # A right that goes with its unit does not come back with one of the same path.
        operator = room.control.access.token
        await done(room, operator, "POST", "/api/v1/units", {"path": f"{A}/x"})
        below = {"role": "operator", "unit": f"{A}/x"}
        await done(room, shown, "POST", "/api/v1/users/helper/grants", below)
        await done(room, operator, "DELETE", f"/api/v1/units/{A}/x")
        await done(room, operator, "POST", "/api/v1/units", {"path": f"{A}/x"})
        for restarted in (False, True):
            if restarted:
                await room.restart_control()
            held = room.control.accounts.book.user("helper").grants
            assert {(g.role, g.unit) for g in held} == {("viewer", A)}

    play_control(scenario)


def test_reading_is_cut_to_what_may_be_seen(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = await person(room, "viewer", ("viewer", A))
        editing = room.control.editing
        await editing.put_zone("zb", {"unit": B})
        await editing.put_zone("ab", {"union": [{"unit": A}, {"speakers": ["b1"]}]})
        await editing.put_zone("za", {"unit": A})
        operator = room.control.access.token
        await done(room, operator, "POST", "/api/v1/live", {"to": ["b1"]})
        await done(
            room, operator, "POST", "/api/v1/live", {"to": ["a1", "b1"], "zones": ["ab", "zb"]}
        )
        assert [r["name"] for r in await done(room, shown, "GET", "/api/v1/speakers")] == [
            "a1",
            "a2",
        ]
        assert await done(room, shown, "GET", "/api/v1/units") == [A]
        zones = {r["name"]: r for r in await done(room, shown, "GET", "/api/v1/zones")}
        assert {name: row["speakers"] for name, row in zones.items()} == {
            "ab": 2,
            "all": 2,
            "za": 2,
        }
        assert zones["ab"]["definition"] == {"speakers": ["a1", "a2"]}
        assert zones["za"]["definition"] == {"unit": A}
        assert (await ask_as(room, shown, "GET", "/api/v1/zones/zb")).status == 403
        assert (await done(room, shown, "GET", "/api/v1/zones/ab"))["speakers"] == ["a1", "a2"]
        (row,) = await done(room, shown, "GET", "/api/v1/programmes")
        assert (row["to"], row["zones"], row["speakers"]) == (["a1"], ["ab"], 2)
        (row,) = await done(room, shown, "GET", "/api/v1/programmes/past")
        assert (row["request"]["to"], row["request"]["zones"]) == (["a1"], ["ab"])
        summary = await done(room, shown, "GET", "/api/v1/station")
        assert (summary["speakers"], summary["zones"], summary["programmes"]) == (2, 2, 1)
        assert (summary["sender"], summary["usher"]) == ({}, {})
        for path in ("/metrics", "/api/v1/audit", "/api/v1/users", "/api/v1/enrolments"):
            assert (await ask_as(room, shown, "GET", path)).status == 403
        whole = await done(room, operator, "GET", "/api/v1/station")
        assert (whole["speakers"], whole["zones"], whole["programmes"]) == (3, 3, 2)

    play_control(scenario)


def test_a_typo_tells_nobody_what_is_elsewhere(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        shown = await two_communes(room)
        await room.control.editing.put_zone("zb", {"unit": B})
        for method, path, body in (
            ("GET", "/api/v1/zones/zbb", None),
            ("POST", "/api/v1/volume", {"to": ["b11"], "volume": 1}),
            ("POST", "/api/v1/live", {"to": ["b11"]}),
            ("PATCH", "/api/v1/speakers/a1", {"unit": f"{B}B"}),
        ):
            reply = await ask_as(room, shown, method, path, body)
            assert reply.status == 404
            assert "nearest" not in reply.error()
            whole = await ask_as(room, room.control.access.token, method, path, body)
            assert "nearest: " in whole.error()

    play_control(scenario)


def test_stop_without_a_name_ends_ones_own_and_no_others(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        shown = await two_communes(room)
        operator = room.control.access.token
        await done(room, operator, "POST", "/api/v1/live", {"to": ["b1"]})
        assert await done(room, shown, "POST", "/api/v1/stop", {}) == {"ended": []}
        await done(room, shown, "POST", "/api/v1/live", {"to": ["a1"]})
        both = {"programmes": ["live-1", "live-2"]}
        assert (await ask_as(room, shown, "POST", "/api/v1/stop", both)).status == 403
        assert await done(room, shown, "POST", "/api/v1/stop", {}) == {"ended": ["live-2"]}
        assert await done(room, operator, "POST", "/api/v1/stop", {}) == {"ended": ["live-1"]}

    play_control(scenario)


def test_S8_what_mdns_finds_is_for_who_may_enrol_and_admits_nobody(  # noqa: N802
    play_control: Play,
) -> None:
    # Without the cut in `found` a viewer would see who is near; no name that is announced is a key.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        viewer = await person(room, "viewer", ("viewer", A))
        enroller = await person(room, "enroller", ("administrator", A))
        for name in ("b1", "a1", "stranger"):
            there = StationAddress("loa.local", 7460)
            found = FoundSpeaker(name, "192.0.2.1", there)
            room.control.discovery._speakers[name] = found
        before = everything(room)
        for shown, names in ((viewer, ["a1"]), (enroller, ["a1", "stranger"])):
            rows = await done(room, shown, "GET", "/api/v1/found")
            assert [row["name"] for row in rows] == names
        assert everything(room) == before
        assert sounds_at(room) == set()

    play_control(scenario)
