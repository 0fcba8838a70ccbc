"""`loa units`."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]


def test_units_are_a_tree_in_its_own_order(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        root = desk.room.control.name
        desk.room.join("a")
        for path in ("Thôn", "Thôn 1", "Thôn/Chợ"):  # by its characters, the last is between
            await desk.says("units", "add", f"{root}/{path}")
        await desk.says("speakers", "set", "a", "--unit", f"{root}/Thôn/Chợ")
        assert (await desk.says("units")).lines == [
            f"{root}  (1 loudspeaker)",
            "  Thôn  (1 loudspeaker)",
            "    Chợ  (1 loudspeaker)",
            "  Thôn 1  (0 loudspeakers)",
        ]
        paths = [root, f"{root}/Thôn", f"{root}/Thôn 1", f"{root}/Thôn/Chợ"]
        assert json.loads((await desk.says("units", "--json")).out) == paths

    at_desk(scenario)


def test_a_unit_is_removed_by_its_path(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        path = f"{desk.room.control.name}/Thôn 3"
        assert (await desk.says("units", "add", path)).out == f"unit {path} added\n"
        assert (await desk.says("units", "remove", path)).out == f"unit {path} removed\n"
        assert len((await desk.says("units")).lines) == 1

    at_desk(scenario)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "Nowhere"], "is not below"),
        (["add", "a?/b"], "is no name for a unit"),
        (["remove", "Nowhere/x"], "no unit 'Nowhere/x'"),
        (["remove", "/"], "'/' is no name"),
    ],
)
def test_what_cannot_be_is_one_line(at_desk: AtDesk, words: list[str], said: str) -> None:
    async def scenario(desk: Desk) -> None:
        done = await desk.loa("units", *words)
        assert (done.status, done.out) == (1, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1

    at_desk(scenario)
