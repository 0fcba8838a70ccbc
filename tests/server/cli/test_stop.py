"""`loa stop` and `loa programmes`."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from server.programmes import LiveRequest
from transport.control.priority import Priority

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]


async def _speak(desk: Desk, number: int = 1, **request: Any) -> None:
    desk.room.state = "live"
    if not desk.room.control.station.directory.endpoints:
        desk.room.join("a")
    for _ in range(number):
        await desk.room.control.open_live(LiveRequest(**({"to": ("a",)} | request)))


async def _on_air(desk: Desk) -> list[str]:
    rows = json.loads((await desk.says("programmes", "--json")).out)
    return [row["name"] for row in rows if row["state"] != "ended"]


def test_what_is_alone_on_air_needs_no_name(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await _speak(desk)
        assert (await desk.says("stop")).out == "live-1 ended\n"
        assert await _on_air(desk) == []
        assert (await desk.says("stop")).out == "nothing is on air\n"

    at_desk(scenario)


def test_of_several_none_is_chosen_for_you(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await _speak(desk, 2)
        said = await desk.loa("stop")
        assert (said.status, said.err) == (2, "loa stop: which? name programmes, or --all\n")
        assert [said.cells(line)[0] for line in (1, 2)] == ["live-1", "live-2"]
        assert await _on_air(desk) == ["live-1", "live-2"]

    at_desk(scenario)


def test_those_that_are_named_end(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await _speak(desk, 3)
        assert (await desk.says("stop", "live-1", "live-3")).lines == [
            "live-1 ended",
            "live-3 ended",
        ]
        assert await _on_air(desk) == ["live-2"]
        assert (await desk.says("stop", "live-1")).out == "it had ended already\n"

    at_desk(scenario)


def test_all_end(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await _speak(desk, 2)
        said = await desk.says("stop", "--all", "--json")
        assert json.loads(said.out) == {"ended": ["live-1", "live-2"]}
        assert await _on_air(desk) == []

    at_desk(scenario)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["stop", "live-1", "live-9"], 1, "no programme 'live-9' is on air"),
        (["stop", "live-1", "--all"], 2, "not both"),
        (["programmes", "--limit", "3"], 2, "--limit goes with --past"),
        (["programmes", "--past", "--limit", "0"], 2, "--limit"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_ends(
    at_desk: AtDesk, words: list[str], status: int, said: str
) -> None:
    async def scenario(desk: Desk) -> None:
        await _speak(desk)
        done = await desk.loa(*words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1
        assert await _on_air(desk) == ["live-1"]

    at_desk(scenario)


def test_what_is_on_air_is_in_the_table(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        assert (await desk.says("programmes")).out == "nothing is on air\n"
        desk.room.join("a")
        desk.room.join("far", delivery="wan")
        await desk.says("zones", "add", "x", "--speaker", "far")
        await _speak(desk, zones=("x",), playout_delay_ms=40.0)
        await _speak(desk, priority=Priority.EMERGENCY)
        table = await desk.says("programmes")
        first = dict(zip(table.cells(0), table.cells(1), strict=True))
        assert first == {
            "name": "live-1",
            "priority": "live",
            "to": "a, zone x",
            "state": "live",
            "note": "-",
            "for": "2 s",
            "level": "-20.0 dBFS",
            "D": "40 ms",
            "copies ms": "20, -",
            "speakers": "2",
            "interrupted at": "1",
            "not in step": "-",
        }
        assert table.cells(2)[1] == "emergency"

    at_desk(scenario)


def test_what_was_on_air_is_listed_newest_first(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        assert (await desk.says("programmes", "--past")).out == "nothing was on air yet\n"
        await _speak(desk, 2)
        table = await desk.says("programmes", "--past")
        assert table.cells(0) == [
            "name",
            "priority",
            "to",
            "note",
            "began",
            "lasted",
            "why it ended",
        ]
        assert table.cells(1)[:3] == ["live-2", "live", "a"]
        assert table.cells(1)[5:] == ["-", "it is on air"]
        assert len((await desk.says("programmes", "--past", "--limit", "1")).lines) == 2

    at_desk(scenario)
