"""Units and zones over HTTP."""

import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from server.programmes import LiveRequest
from tests.support.asking import ask, post, put

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
ROOT = "Tân Phú"
VILLAGE = f"{ROOT}/Thôn 3"
SCHOOLS = {"definition": {"tag": "school"}}


def nfd(text: str) -> str:
    """As some keyboards type it: a letter, then its accents."""
    return unicodedata.normalize("NFD", text)


async def all_zones(room: Room) -> dict[str, int]:
    """How many loudspeakers are in each zone, as it is listed."""
    listed = (await ask(room, "GET", "/api/v1/zones")).json()
    return {row["name"]: row["speakers"] for row in listed}


# ------------------------------------------------------------------ units
def test_a_station_begins_with_its_own_unit(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, "GET", "/api/v1/units")
        assert (reply.status, reply.json()) == (200, [ROOT])

    play_control(scenario)


def test_a_unit_is_added_listed_and_removed(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await post(room, "/api/v1/units", {"path": nfd(VILLAGE)})
        assert (reply.status, reply.json()) == (201, {"path": VILLAGE})
        assert (await ask(room, "GET", "/api/v1/units")).json() == [ROOT, VILLAGE]
        reply = await ask(room, "DELETE", f"/api/v1/units/{nfd(VILLAGE)}")
        assert (reply.status, reply.body) == (204, b"")
        assert (await ask(room, "GET", "/api/v1/units")).json() == [ROOT]

    play_control(scenario)


def test_units_are_there_after_a_restart(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await post(room, "/api/v1/units", {"path": VILLAGE})
        await room.restart_control()
        assert (await ask(room, "GET", "/api/v1/units")).json() == [ROOT, VILLAGE]

    play_control(scenario)


WRONG_UNITS: dict[str, tuple[object, int, str]] = {
    "below none": ({"path": f"{VILLAGE}/Xóm 1"}, 404, "no unit"),
    "outside": ({"path": "Elsewhere"}, 404, "is not below"),
    "twice": ({"path": ROOT}, 409, "already"),
    "no name": ({"path": f"{ROOT}/?"}, 409, "is no name for a unit"),
    "nothing": ({"path": ""}, 422, "path: "),
    "no path": ({}, 422, "path: "),
    "endless": ({"path": "a" * 2049}, 422, "path: "),
    "more than a path": ({"path": VILLAGE, "tags": []}, 422, "tags: "),
}


@pytest.mark.parametrize(("body", "status", "why"), WRONG_UNITS.values(), ids=WRONG_UNITS)
def test_a_unit_that_cannot_be_added_is_one_line(
    play_control: Play, body: object, status: int, why: str
) -> None:
    async def scenario(room: Room) -> None:
        reply = await post(room, "/api/v1/units", body)
        assert reply.status == status
        assert why in reply.error()
        assert room.control.station.directory.units == {ROOT}

    play_control(scenario)


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        (f"{ROOT}/nowhere", 404, "no unit"),
        (ROOT, 409, "the station itself"),
        (VILLAGE, 409, "not empty"),
    ],
)
def test_a_unit_that_cannot_be_removed_is_one_line(
    play_control: Play, path: str, status: int, why: str
) -> None:
    async def scenario(room: Room) -> None:
        await post(room, "/api/v1/units", {"path": VILLAGE})
        await post(room, "/api/v1/units", {"path": f"{VILLAGE}/Xóm 1"})
        reply = await ask(room, "DELETE", f"/api/v1/units/{path}")
        assert reply.status == status
        assert why in reply.error()

    play_control(scenario)


# ------------------------------------------------------------------ zones
def test_everybody_is_a_zone_from_the_beginning(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        (row,) = (await ask(room, "GET", "/api/v1/zones")).json()
        assert row == {
            "name": "all",
            "speakers": 1,
            "definition": {"zone": "all"},
            "authenticated": True,
        }
        reply = await ask(room, "GET", "/api/v1/zones/all")
        assert (reply.status, reply.json()["speakers"]) == (200, ["a"])

    play_control(scenario)


def test_a_zone_is_defined_shown_and_removed(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        definition = {"union": [{"tag": "school"}, {"speakers": ["a"]}]}
        shown = {"name": "chợ", "definition": definition, "speakers": ["a"], "authenticated": True}
        reply = await put(room, f"/api/v1/zones/{nfd('chợ')}", {"definition": definition})
        assert (reply.status, reply.json()) == (200, shown)
        reply = await ask(room, "GET", f"/api/v1/zones/{nfd('chợ')}")
        assert (reply.status, reply.json()) == (200, shown)
        assert await all_zones(room) == {"all": 1, "chợ": 1}
        reply = await ask(room, "DELETE", f"/api/v1/zones/{nfd('chợ')}")
        assert (reply.status, reply.body) == (204, b"")
        assert await all_zones(room) == {"all": 1}

    play_control(scenario)


def test_a_zone_may_be_defined_anew(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await put(room, "/api/v1/zones/z", SCHOOLS)
        await put(room, "/api/v1/zones/z", {"definition": {"speakers": ["a"]}})
        assert await all_zones(room) == {"all": 1, "z": 1}

    play_control(scenario)


def test_zones_are_there_after_a_restart(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await room.settle()
        await put(room, "/api/v1/zones/z", {"definition": {"speakers": ["a"]}})
        await room.restart_control()
        assert await all_zones(room) == {"all": 1, "z": 1}

    play_control(scenario)


def test_who_would_be_in_a_zone_is_shown_without_defining_it(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        room.join("b")
        definition = {"difference": [{"zone": "all"}, {"speakers": ["a"]}]}
        reply = await post(room, "/api/v1/zones/preview", {"definition": definition})
        assert (reply.status, reply.json()) == (200, {"speakers": ["b"]})
        assert await all_zones(room) == {"all": 2}

    play_control(scenario)


WRONG_DEFINITIONS: dict[str, tuple[object, int, str]] = {
    "an unknown unit": ({"unit": f"{ROOT}/x"}, 404, "no unit"),
    "an unknown loudspeaker": ({"speakers": ["b"]}, 404, "no loudspeaker 'b'"),
    "an unknown zone": ({"zone": "b"}, 404, "no zone 'b'"),
    "no kind": ({"planet": "earth"}, 409, "'planet' is no kind of definition"),
    "two kinds": ({"tag": "a", "unit": "b"}, 409, "a definition is an object with one of"),
    "nothing": ({}, 409, "a definition is an object with one of"),
    "no polygon": ({"polygon": [[0, 0], [1, 1]]}, 409, "polygon: "),
    "a polygon in a bow": ({"polygon": [[0, 0], [1, 1], [1, 0], [0, 1]]}, 409, "polygon: "),
    "a corner off the earth": ({"polygon": [[0, 0], [0, 91], [1, 0]]}, 409, "polygon: "),
    "a corner that is no number": ({"polygon": [[0, 0], [0, float("nan")], [1, 0]]}, 409, ""),
    "a list": (["a"], 422, "definition: "),
    "null": (None, 422, "definition: "),
}


@pytest.mark.parametrize(
    ("definition", "status", "why"), WRONG_DEFINITIONS.values(), ids=WRONG_DEFINITIONS
)
def test_a_definition_that_is_none_is_one_line_and_defines_nothing(
    play_control: Play, definition: object, status: int, why: str
) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        for reply in (
            await put(room, "/api/v1/zones/z", {"definition": definition}),
            await post(room, "/api/v1/zones/preview", {"definition": definition}),
        ):
            assert reply.status == status
            assert why in reply.error()
        assert await all_zones(room) == {"all": 1}

    play_control(scenario)


@pytest.mark.parametrize(
    ("name", "status", "why"),
    [("all", 409, "built in"), ("!", 409, "no name for a zone"), ("z" * 65, 422, "name: ")],
)
def test_a_zone_cannot_have_every_name(
    play_control: Play, name: str, status: int, why: str
) -> None:
    async def scenario(room: Room) -> None:
        reply = await put(room, f"/api/v1/zones/{name}", SCHOOLS)
        assert reply.status == status
        assert why in reply.error()

    play_control(scenario)


def test_a_zone_cannot_contain_itself(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await put(room, "/api/v1/zones/y", SCHOOLS)
        await put(room, "/api/v1/zones/z", {"definition": {"zone": "y"}})
        reply = await put(room, "/api/v1/zones/y", {"definition": {"zone": "z"}})
        assert reply.status == 409
        assert "contain itself" in reply.error()

    play_control(scenario)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_unknown_zone_is_answered_with_the_nearest(play_control: Play, method: str) -> None:
    async def scenario(room: Room) -> None:
        await put(room, "/api/v1/zones/schools", SCHOOLS)
        reply = await ask(room, method, "/api/v1/zones/school")
        assert reply.status == 404
        assert reply.error() == "no zone 'school'; nearest: schools"

    play_control(scenario)


def test_a_zone_that_another_uses_is_not_removed(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await put(room, "/api/v1/zones/y", SCHOOLS)
        await put(room, "/api/v1/zones/z", {"definition": {"zone": "y"}})
        reply = await ask(room, "DELETE", "/api/v1/zones/y")
        assert (reply.status, reply.error()) == (409, "zone 'y' is used by z")

    play_control(scenario)


def test_a_zone_that_is_spoken_to_is_not_removed(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await put(room, "/api/v1/zones/z", SCHOOLS)
        await room.control.open_live(LiveRequest(zones=("z",)))
        reply = await ask(room, "DELETE", "/api/v1/zones/z")
        assert reply.status == 409
        assert "live-1 is on air to zone 'z'" in reply.error()

    play_control(scenario)


def test_what_cannot_be_written_is_a_conflict_in_one_line(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        with room.store._transaction() as connection:
            connection.exec_driver_sql("PRAGMA query_only = ON")
        reply = await put(room, "/api/v1/zones/z", SCHOOLS)
        assert reply.status == 409
        assert reply.error().startswith("nothing was changed: ")
        assert await all_zones(room) == {"all": 0}

    play_control(scenario)
