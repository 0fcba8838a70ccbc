"""`loa zones`."""

import json
import unicodedata
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from server.cli.zones import in_words

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]

SQUARE = "20,105 20,106 22,106 22,105"
GEOJSON = {
    "type": "Polygon",
    "coordinates": [[[105, 20], [106, 20], [106, 22], [105, 22], [105, 20]]],
}


def test_a_zone_that_was_added_is_in_the_table(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        desk.room.join("chợ")
        said = await desk.says("zones", "add", "Bắc", "--speaker", "chợ")
        assert said.out == "zone Bắc defined: 1 loudspeaker (chợ)\n"
        table = await desk.says("zones")
        assert table.cells(0) == ["zone", "speakers", "note", "who"]
        assert table.cells(1) == ["Bắc", "1", "-", "chợ"]
        assert table.cells(2) == ["all", "1", "-", "everybody"]

    at_desk(scenario)


def test_a_zone_is_all_that_is_given_without_what_is_excepted(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        for name in ("a", "b", "c", "d"):
            desk.room.join(name)
        await desk.says("speakers", "set", "a", "--tag", "school")
        await desk.says("speakers", "set", "b", "--position", "21,105.5")
        await desk.says("zones", "add", "x", "--speaker", "d")
        words = ["--tag", "school", "--polygon", SQUARE, "--speaker", "c", "d", "--zone", "x"]
        said = await desk.says("zones", "add", "y", *words)
        assert "4 loudspeakers" in said.out
        without = ["--except-zone", "x", "--except-speaker", "a"]
        said = await desk.says("zones", "add", "y", *words, *without)
        assert said.out.startswith("zone y defined anew: 2 loudspeakers ")
        assert (await desk.says("zones", "show", "y")).lines[1:] == ["  b", "  c"]

    at_desk(scenario)


def test_a_unit_holds_what_is_below_it(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        root = desk.room.control.name
        desk.room.join("a")
        await desk.says("units", "add", f"{root}/Thôn 3")
        await desk.says("speakers", "set", "a", "--unit", f"{root}/Thôn 3")
        said = await desk.says("zones", "add", "x", "--unit", root)
        assert said.out == f"zone x defined: 1 loudspeaker (unit {root})\n"

    at_desk(scenario)


def test_a_zone_in_clear_is_said_to_be_unauthenticated(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        said = await desk.says("zones", "add", "x", "--zone", "all", "--clear")
        assert said.out == "zone x defined: 0 loudspeakers (everybody), unauthenticated\n"
        assert (await desk.says("zones")).cells(2) == ["x", "0", "unauthenticated", "everybody"]
        assert "unauthenticated" in (await desk.says("zones", "show", "x")).out

    at_desk(scenario)


def test_a_zone_is_in_clear_or_sealed_from_the_next_programme_on(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.says("zones", "add", "x", "--zone", "all")
        said = await desk.says("zones", "clear", "x", "on")
        assert said.out == (
            "zone x is heard in clear too, unauthenticated, from the next programme on\n"
        )
        await desk.says(
            "zones", "add", "x", "--zone", "all"
        )  # defined anew, and as clear as it was
        assert desk.room.control.station.zones.is_clear("x")
        said = await desk.says("zones", "clear", "x", "off")
        assert said.out == "zone x is sealed from the next programme on\n"
        row = json.loads((await desk.says("zones", "clear", "x", "on", "--json")).out)
        assert (row["name"], row["authenticated"]) == ("x", False)

    at_desk(scenario)


def test_an_area_is_read_from_geojson(at_desk: AtDesk, tmp_path: Path) -> None:
    (tmp_path / "area").write_text(json.dumps(GEOJSON))

    async def scenario(desk: Desk) -> None:
        desk.room.join("a")
        await desk.says("speakers", "set", "a", "--position", "21,105.5")
        said = await desk.says("zones", "add", "x", "--polygon", str(tmp_path / "area"))
        assert said.out == "zone x defined: 1 loudspeaker (an area of 4 corners)\n"

    at_desk(scenario)


def test_a_preview_changes_nothing(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        desk.room.join("a")
        said = await desk.says("zones", "add", "x", "--zone", "all", "--preview")
        assert said.lines == ["1 loudspeaker would be in x; nothing was changed", "  a"]
        assert len((await desk.says("zones")).lines) == 2

    at_desk(scenario)


def test_a_zone_is_removed_however_its_name_was_typed(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.says("zones", "add", "Bắc", "--zone", "all")
        await desk.says("zones", "remove", unicodedata.normalize("NFD", "Bắc"))
        assert len((await desk.says("zones")).lines) == 2

    at_desk(scenario)


def test_json_is_what_the_api_answered(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        added = await desk.says("zones", "add", "x", "--zone", "all", "--json")
        row = {"name": "x", "definition": {"zone": "all"}, "speakers": [], "authenticated": True}
        assert json.loads(added.out) == row
        assert json.loads((await desk.says("zones", "--json", "show", "x")).out) == row
        assert json.loads((await desk.says("zones", "--json")).out)[1] == row | {"speakers": 0}
        assert (await desk.says("zones", "remove", "x", "--json")).out == ""

    at_desk(scenario)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["add", "x"], 2, "loa zones: of whom? "),
        (["add", "x", "--polygon", "/nowhere.geojson"], 2, "/nowhere.geojson: No such file"),
        (["add", "x", "--polygon", "1,2 3"], 2, "'3' is no corner"),
        (["add", "x", "--polygon", __file__], 2, "this is no GeoJSON"),
        (["add", "x", "--speaker", "nobody"], 1, "no loudspeaker 'nobody'"),
        (["add", "a/b", "--zone", "all"], 1, "'a/b' is no name"),
        (["show", "x"], 1, "no zone 'x'"),
        (["clear", "x", "on"], 1, "no zone 'x'"),
        (["clear", "all", "on"], 1, "'all' is built in"),
        (["clear", "x"], 2, "on|off"),
        (["clear", "x", "perhaps"], 2, "invalid choice: 'perhaps'"),
        (["remove", ""], 1, "'' is no name"),
        (["remove", "all"], 1, "all"),
        (["forget", "x"], 2, "invalid choice: 'forget'"),
    ],
)
def test_what_cannot_be_is_one_line(
    at_desk: AtDesk, words: list[str], status: int, said: str
) -> None:
    async def scenario(desk: Desk) -> None:
        done = await desk.loa("zones", *words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1

    at_desk(scenario)


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        ({"unit": "Tân Phú/Thôn 3"}, "unit Tân Phú/Thôn 3"),
        ({"speakers": ["a", "b", "c", "d"]}, "a, b, c and 1 more"),
        ({"zone": "all"}, "everybody"),
        ({"union": [{"tag": "school"}, {"zone": "x"}]}, "tag school or zone x"),
        (
            {"difference": [{"union": [{"tag": "s"}, {"zone": "x"}]}, {"zone": "y"}]},
            "(tag s or zone x) except zone y",
        ),
        (
            {"difference": [{"zone": "x"}, {"zone": "y"}, {"speakers": ["a"]}]},
            "zone x except zone y, a",
        ),
    ],
)
def test_a_definition_in_words(definition: dict[str, object], words: str) -> None:
    assert in_words(definition) == words
