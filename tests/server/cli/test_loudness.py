"""`loa volume` and `loa mute`."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]


async def _loudness(desk: Desk) -> dict[str, tuple[int, bool]]:
    rows = json.loads((await desk.says("speakers", "--json")).out)
    return {row["name"]: (row["volume"], row["muted"]) for row in rows}


def test_loudspeakers_and_zones_are_as_loud_as_was_said(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        for name in ("a", "b", "c"):
            desk.room.join(name)
        await desk.says("zones", "add", "x", "--speaker", "b")
        said = await desk.says("volume", "40", "--to", "a", "--zone", "x")
        assert said.out == "volume 40: a, b\n"
        assert await _loudness(desk) == {"a": (40, False), "b": (40, False), "c": (100, False)}

    at_desk(scenario)


def test_who_was_muted_is_heard_again(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        desk.room.join("a")
        assert (await desk.says("mute", "--to", "all")).out == "muted: a\n"
        assert await _loudness(desk) == {"a": (100, True)}
        assert "100 muted" in (await desk.says("speakers")).cells()
        assert (await desk.says("mute", "--to", "all", "--off")).out == "to be heard: a\n"
        assert await _loudness(desk) == {"a": (100, False)}

    at_desk(scenario)


def test_one_that_is_offline_is_said_to_follow_later(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        desk.room.join("a")
        desk.room.control.station.speakers["a"].session = None
        said = await desk.says("volume", "0", "--to", "a")
        assert said.out == "volume 0 when they return, for they are offline: a\n"
        assert await _loudness(desk) == {"a": (0, False)}

    at_desk(scenario)


def test_an_empty_zone_is_nobody(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        assert (await desk.says("mute", "--zone", "all")).out == "nobody is in there\n"
        answer = json.loads((await desk.says("mute", "--zone", "all", "--json")).out)
        assert answer == {"changed": []}

    at_desk(scenario)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["volume", "101", "--to", "all"], 2, "'101' is no volume: use 0 to 100"),
        (["volume", "-1", "--to", "all"], 2, "'-1' is no volume"),
        (["volume", "--to", "all"], 2, "required: 0-100"),
        (["volume", "50"], 2, "to whom?"),
        (["mute"], 2, "to whom?"),
        (["mute", "--to", "b"], 1, "no loudspeaker 'b'; nearest: a"),
        (["mute", "--zone", "x"], 1, "no zone 'x'"),
    ],
)
def test_what_cannot_be_is_one_line(
    at_desk: AtDesk, words: list[str], status: int, said: str
) -> None:
    async def scenario(desk: Desk) -> None:
        desk.room.join("a")
        done = await desk.loa(*words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err
        assert len(done.err.splitlines()) == 1
        assert await _loudness(desk) == {"a": (100, False)}

    at_desk(scenario)
