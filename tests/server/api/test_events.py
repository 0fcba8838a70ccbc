"""Server-sent events over ASGI: what is told, from where on, and how many may read."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from server.api import events
from server.api.routes import build_api
from server.changes.log import Changes, Kind, What
from server.programmes import LiveRequest
from tests.support.asking import ask
from tests.support.events import (
    ROOT,
    A,
    only_figures,
    reading,
    tell_at_once,
    two_communes,
    volume,
    wake,
)
from tests.support.people import ask_as, cheap_passwords, person, signed_in, token_of
from transport.control.messages import Telemetry

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]


@pytest.fixture(autouse=True)
def _told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tell_at_once(monkeypatch)


# ------------------------------------------------------------------ what is told
def test_it_begins_with_a_reset_and_then_tells_what_changes_with_its_row(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        async with reading(room) as stream:
            assert stream.status == 200
            assert stream.headers[b"content-type"].split(b";")[0] == b"text/event-stream"
            assert stream.headers[b"cache-control"] == b"no-store"
            assert [event.kind for event in stream.events] == ["reset"]
            room.join("a")
            await room.settle()
            assert stream.told == [("speaker", "a", "added"), ("zone", "all", "changed")]
            await volume(room, "a", 7)
            assert stream.told[2:] == [("speaker", "a", "changed")]
            listed = (await ask(room, "GET", "/api/v1/speakers")).json()
            assert only_figures(stream.row("speaker", "a")) == only_figures(listed[0])
            (everybody,) = (await ask(room, "GET", "/api/v1/zones")).json()
            assert stream.row("zone", "all") == everybody
            marks = [event.id for event in stream.events]
            assert len(set(marks)) == len(marks)
            assert all(b"\n" not in event.data.encode() for event in stream.events)

    play_control(scenario)


def test_all_kinds_are_told_and_only_those_that_are_wanted(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await two_communes(room)
        async with reading(room) as stream, reading(room, query="kinds=unit,programme") as some:
            await room.control.open_live(LiveRequest(zones=("za",)))
            await room.settle()
            room.control.stop(["live-1"], "it was stopped")
            await room.settle()
            await room.control.editing.add_unit(f"{A}/x")
            await room.control.editing.remove_zone("zb")
            await room.control.enrolling.issue(["new"], None, 60)
            await room.settle(2)
            (code,) = (await ask(room, "GET", "/api/v1/enrolments")).json()
            await room.control.editing.remove_unit(f"{A}/x")
            await room.settle(2)
            assert stream.told == [
                ("programme", "live-1", "begun"),
                ("programme", "live-1", "ended"),
                ("unit", f"{A}/x", "added"),
                ("zone", "zb", "removed"),
                ("enrolment", code["number"], "added"),
                ("unit", f"{A}/x", "removed"),
            ]
            assert stream.row("enrolment", code["number"]).keys() == code.keys()
            assert stream.row("unit", f"{A}/x") is None
            assert some.told == [told for told in stream.told if told[0] in {"unit", "programme"}]
        for wrong in ("kinds=x", "kinds=unit,", "kinds=", "kinds=unit%20"):
            assert (await ask(room, "GET", f"/api/v1/events?{wrong}")).status == 422

    play_control(scenario)


def test_a_programme_has_the_row_of_the_list(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = await person(room, "viewer", ("viewer", A))
        async with reading(room, shown) as stream:
            await room.control.open_live(LiveRequest(to=("a1", "b1")))
            await room.settle()
            (listed,) = (await ask_as(room, shown, "GET", "/api/v1/programmes")).json()
            assert listed["to"] == ["a1"]
            assert stream.row("programme", "live-1") == listed
            room.control.stop(["live-1"], "it was stopped")
            await room.settle()
            assert stream.told[-1] == ("programme", "live-1", "ended")
            assert stream.row("programme", "live-1")["state"] == "ended"

    play_control(scenario)


def test_a_loudspeaker_that_comes_speaks_and_goes_is_told(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        well = Telemetry("playing", -20.0, 10.0, 5.0, 100, 0, 0, 0, 60.0, hearing="live-9")
        room.enrol("a")
        await room.settle()
        async with reading(room, query="kinds=speaker") as stream:
            peer = await room.connect("a")
            await room.settle()
            peer.say(well)
            await room.settle()
            assert stream.row("speaker", "a")["hearing"] == "live-9"
            peer.say(replace(well, packets_received=900))
            await room.settle()
            peer.say(replace(well, fault="no sound device"))
            await room.settle()
            peer.go()
            await room.settle()
            whats = [what for _, _, what in stream.told]
            assert whats == ["online", "changed", "fault", "offline"]

    play_control(scenario)


# ------------------------------------------------------------------ from where on
def test_who_comes_back_goes_on_where_he_was(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await two_communes(room)
        async with reading(room) as stream:
            await volume(room, "a1", 1)
            last = stream.events[-1].id
        await volume(room, "b1", 2)
        await volume(room, "a1", 3)
        async with reading(room, last=last) as again, reading(room, query=f"last={last}") as other:
            for stream in (again, other):
                assert stream.resets == 0
                assert stream.told == [("speaker", "b1", "changed"), ("speaker", "a1", "changed")]
                assert stream.row("speaker", "a1")["volume"] == 3
        # What a browser remembers counts more than what its address says.
        newest = again.events[-1].id
        async with reading(room, query=f"last={last}", last=newest) as stream:
            assert stream.events == []

    play_control(scenario)


@pytest.mark.parametrize("last", ["1-1", "999-1", "nonsense", "1-99999"])
def test_who_has_been_elsewhere_or_too_long_away_is_reset(play_control: Play, last: str) -> None:
    async def scenario(room: Room) -> None:
        boot = room.control.station.boot
        await room.settle()
        room.control.watching.changes.__init__(boot, 4)
        for number in range(9):
            room.control.watching.changes.add(0, Kind.UNIT, What.ADDED, f"x{number}", (ROOT,))
        async with reading(room) as stream:
            _, _, saw = stream.events[0].id.split("-")
        mark = last.replace("1-", f"{boot}-", 1) if last.startswith("1-") else last
        async with reading(room, last=f"{mark}-{saw}") as stream:
            assert [event.kind for event in stream.events] == ["reset"]
            assert stream.events[0].id == f"{boot}-9-{saw}"
        async with reading(room, last=f"{boot}-6-{saw}") as stream:
            # There are no such units.
            assert stream.told == [("unit", name, "removed") for name in ("x6", "x7", "x8")]
            assert stream.resets == 0

    play_control(scenario)


def test_marks_of_the_life_before_count_for_nothing(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        async with reading(room) as stream:
            room.join("a")
            await room.settle()
            last = stream.events[-1].id
        await room.restart_control()
        async with reading(room, last=last) as stream:
            assert [event.kind for event in stream.events] == ["reset"]

    play_control(scenario)


def test_who_reads_too_slowly_is_reset_and_nothing_is_kept_for_him(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.control.watching.changes = changes = Changes(room.control.station.boot, 16)
        async with reading(room) as stream, reading(room) as quick:
            stream.reads.clear()
            for number in range(40):
                changes.add(0, Kind.UNIT, What.ADDED, f"x{number}", (ROOT,))
                wake(room)
                await room.settle(0.1)
            stream.reads.set()
            await room.settle(4)
            assert [event.kind for event in stream.events] == ["reset", "reset"]
            assert stream.events[-1].id.startswith(f"{room.control.station.boot}-40-")
            assert (len(quick.told), quick.resets) == (40, 1)

    play_control(scenario)


def test_while_nothing_happens_a_comment_comes_with_the_place_to_go_on_at(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = await person(room, "viewer", ("viewer", A))
        async with reading(room, shown) as stream:
            before = stream.body
            await volume(room, "b1", 1)
            await room.settle(16)
            assert stream.body.removeprefix(before).startswith(b":\n\nid: ")
            assert len(stream.events) == 1
            head = room.control.watching.changes.head
            assert f"-{head}-".encode() in stream.body.splitlines()[-2]

    play_control(scenario)


def test_much_comes_in_parts_and_none_is_lost(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(room: Room) -> None:
        names = [f"s{number:03}" for number in range(500)]
        async with reading(room, query="kinds=speaker") as stream:
            room.enrol(*names)
            await room.settle(2)
        assert [name for _, name, _ in stream.told] == names
        assert max(stream.counts) == 200
        monkeypatch.setattr(events, "_LONG", 2_000)
        async with reading(room, query="kinds=speaker", last=stream.events[0].id) as again:
            await room.settle(2)
            assert [name for _, name, _ in again.told] == names
            assert max(again.counts) < 10
            assert again.resets == 0

    play_control(scenario)


# ------------------------------------------------------------------ how many may read
def test_one_more_of_the_same_persons_is_refused_and_another_person_is_not(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        cheap_passwords(room)
        readers = room.control.watching.readers
        readers._each, readers._most = 2, 4
        shown = await person(room, "v", ("viewer", ROOT))
        token = token_of(room.control, "v", ("viewer", ROOT))
        other = await person(room, "w", ("viewer", ROOT))
        async with reading(room, shown), reading(room, token):
            async with reading(room, signed_in(room.control, "v")) as third:
                assert third.status == 429
                assert len(third.body.decode().splitlines()) == 1
                assert "2 streams" in third.body.decode()
            async with reading(room, other) as of_other, reading(room, other):
                assert of_other.status == 200
                async with reading(room) as of_machine:
                    assert of_machine.status == 503
            assert len(readers) == 2
        assert len(readers) == 0
        assert not readers._by_name
        async with reading(room, shown) as again:
            assert again.status == 200

    play_control(scenario)


def test_a_row_is_made_once_for_all_who_see_it(play_control: Play) -> None:
    made: Counter[str] = Counter()

    async def scenario(room: Room) -> None:
        await two_communes(room)
        api = build_api(room.control)
        async with reading(room, api=api) as one, reading(room, api=api) as two:
            rows = room.control.queries.speakers

            def counted(names: Any) -> Any:
                made.update(names)
                return rows(names)

            room.control.queries.speakers = counted
            await volume(room, "a1", 1)
            assert one.told == two.told == [("speaker", "a1", "changed")]
            assert made == {"a1": 1}

    play_control(scenario)


def test_the_document_describes_it(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        operation = build_api(room.control).openapi()["paths"]["/api/v1/events"]["get"]
        content = operation["responses"]["200"]["content"]
        assert list(content) == ["text/event-stream"]
        json.dumps(content)
        assert {"200", "401", "403", "422", "429", "503"} <= operation["responses"].keys()
        names = {parameter["name"] for parameter in operation["parameters"]}
        assert names == {"kinds", "last", "last-event-id"}
        assert operation["security"] == [{"bearer": []}]

    play_control(scenario)
