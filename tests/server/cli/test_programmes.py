"""`loa programmes`."""

import json
import shlex
from collections.abc import Awaitable, Callable
from typing import Any

from server.programmes import LiveRequest

Desk = Any  # the fixture's; see conftest
AtDesk = Callable[[Callable[[Desk], Awaitable[None]]], None]
TO_ALL = LiveRequest(("all",))


def test_where_nothing_is_or_was_on_air_that_is_said(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        assert (await desk.says("programmes")).out == "nothing is on air\n"
        assert (await desk.says("programmes", "--past")).out == "nothing was on air yet\n"

    at_desk(scenario)


def test_what_nobody_can_authenticate_and_what_is_a_test_is_said_to_be_so(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.says("zones", "add", "z", "--zone", "all", "--clear")
        control = desk.room.control
        for request in (TO_ALL, LiveRequest(zones=("z",)), LiveRequest(("all",), test=True)):
            await control.open_live(request)
        table = await desk.says("programmes")
        at = table.lines[0].index("note")
        notes = [line[at:].split("  ")[0] for line in table.lines[1:]]
        assert notes == ["-", "unauthenticated", "test"]
        past = await desk.says("programmes", "--past")
        assert [" test " in line for line in past.lines[1:]] == [True, False, False]

    at_desk(scenario)


def test_a_key_is_shown_with_what_a_stock_player_needs_to_hear_it(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        desk.room.join("a", multicast=True)
        desk.room.join("far", delivery="saver")
        await desk.room.control.open_live(TO_ALL)
        programme = desk.room.control.station.programmes["live-1"]
        sounding = [stream.sounding for stream in programme.report.streams]
        said = await desk.says("programmes", "key", "live-1")
        assert said.cells(0) == ["frames", "group", "epoch", "SSRC", "key"]
        short, long = ([epoch.number, epoch.ssrc, epoch.key.hex()] for epoch in sounding)
        where = f"{programme.group}:5004"
        assert said.cells(1) == ["10 ms", where, f"{short[0]}", f"{short[1]:08x}", short[2]]
        assert said.cells(2)[1:] == ["unicast alone", f"{long[0]}", f"{long[1]:08x}", long[2]]
        words = shlex.split(said.lines[-1])
        assert words[:2] == ["gst-launch-1.0", "udpsrc"]
        assert f"address={programme.group}" in words
        (caps,) = (word for word in words if word.startswith("caps="))
        assert f"srtp-key=(buffer){short[2]}" in caps
        assert f"ssrc=(uint){short[1]}" in caps
        assert long[2] not in caps

    at_desk(scenario)


def test_where_the_group_carries_nothing_no_player_is_named(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        desk.room.join("a")
        await desk.room.control.open_live(TO_ALL)
        said = await desk.says("programmes", "key", "live-1")
        assert "gst-launch" not in said.out
        assert "a stock player can hear nothing of it" in said.lines[-1]

    at_desk(scenario)


def test_a_key_as_json_is_what_the_api_answered(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        await desk.room.control.open_live(TO_ALL)
        answer = json.loads((await desk.says("programmes", "key", "live-1", "--json")).out)
        assert answer["programme"] == "live-1"
        assert len(answer["streams"][0]["key"]) == 56

    at_desk(scenario)


def test_what_is_not_on_air_has_no_key(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        said = await desk.loa("programmes", "key", "live-9")
        assert (said.status, said.out) == (1, "")
        assert "no programme 'live-9' is on air" in said.err

    at_desk(scenario)


def test_how_many_of_the_past_is_no_question_of_what_is_on_air(at_desk: AtDesk) -> None:
    async def scenario(desk: Desk) -> None:
        said = await desk.loa("programmes", "--limit", "5")
        assert (said.status, said.err) == (2, "loa programmes: --limit goes with --past\n")

    at_desk(scenario)
