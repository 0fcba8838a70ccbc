"""Server-sent events over ASGI: S8, nobody is told what he may not see, nor longer than he may.

Each test of S8 names the defence without which it fails; each was removed once to see that.
"""

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from server.editing import EndpointChange
from server.programmes import LiveRequest
from server.users.book import IDLE_S
from tests.support.asking import ask
from tests.support.events import (
    A,
    B,
    reading,
    tell_at_once,
    two_communes,
    volume,
)
from tests.support.people import ask_as, person, token_of

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]


@pytest.fixture(autouse=True)
def _told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tell_at_once(monkeypatch)


# ------------------------------------------------------------------ S8: who is told what
async def much_happens_in_b(room: Room) -> None:
    """Of every kind something."""
    editing, control = room.control.editing, room.control
    await editing.change_endpoints(["b1"], EndpointChange(volume=3))
    await editing.add_unit(f"{B}/secret-unit")
    await editing.put_zone("secret-zone", {"unit": B})
    await control.enrolling.issue(["secret-code"], B, 60)
    await control.open_live(LiveRequest(to=("b1",)))
    room.join("secret-speaker")
    await editing.change_endpoints(["secret-speaker"], EndpointChange(unit=B))
    await room.settle(2)
    control.stop(["live-1"], "it was stopped")
    await editing.put_zone("secret-zone", {"speakers": ["b1"]})
    await room.settle(2)
    await editing.remove_zone("secret-zone")
    await editing.remove_unit(f"{B}/secret-unit")
    await room.settle(4)


@pytest.mark.parametrize("role", ["viewer", "administrator"])
def test_S8_nothing_of_another_commune_is_told(play_control: Play, role: str) -> None:  # noqa: N802
    # Without `_Sight.of` all of it would be told as removed; without `Rows` cut, with its rows.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        # What is new is at the station's own unit for a moment.
        room.join("secret-speaker")
        await room.control.editing.change_endpoints(["secret-speaker"], EndpointChange(unit=B))
        await room.settle(2)
        shown = await person(room, "thief", (role, A))
        token = token_of(room.control, "thief", (role, A))
        async with (
            reading(room, shown) as stream,
            reading(room, token) as by_token,
            reading(room) as whole,
        ):
            await much_happens_in_b(room)
            assert stream.told == by_token.told == []
            assert Counter(kind for kind, *_ in whole.told).keys() >= {
                *("speaker", "unit", "zone", "enrolment", "programme")
            }
            await volume(room, "a1", 4)
            assert stream.told == by_token.told == [("speaker", "a1", "changed")]
            assert b"secret" not in stream.body + by_token.body
            assert b"b1" not in stream.body + by_token.body

    play_control(scenario)


def test_S8_what_is_told_of_ones_own_is_cut(play_control: Play) -> None:  # noqa: N802
    # Without the `Seen` of whoever asks.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = await person(room, "thief", ("operator", A))
        async with reading(room, shown) as stream:
            await room.control.editing.put_zone("across", {"speakers": ["a1", "b1"]})
            await room.control.open_live(LiveRequest(to=("b1",), zones=("across", "zb")))
            await room.settle(2)
            assert {name for _, name, _ in stream.told} == {"across", "live-1"}
            assert stream.row("zone", "across")["definition"] == {"speakers": ["a1"]}
            programme = stream.row("programme", "live-1")
            assert (programme["to"], programme["zones"]) == ([], ["across"])
            assert b'"b1"' not in stream.body
            assert b'"zb"' not in stream.body

    play_control(scenario)


def test_S8_what_is_moved_away_is_gone_for_the_one_and_new_for_the_other(  # noqa: N802
    play_control: Play,
) -> None:
    # Without the look at where it is when it is told, its new row would be.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        a = await person(room, "a", ("viewer", A))
        b = await person(room, "b", ("viewer", B))
        async with reading(room, a, "kinds=speaker") as of_a, reading(room, b) as of_b:
            await room.control.editing.change_endpoints(["a1"], EndpointChange(unit=B))
            await room.settle(2)
            assert of_a.told == [("speaker", "a1", "removed")]
            assert of_a.row("speaker", "a1") is None
            assert ("speaker", "a1", "changed") in of_b.told
            assert of_b.row("speaker", "a1")["unit"] == B
            await volume(room, "a1", 9)
            assert len(of_a.told) == 1

    play_control(scenario)


def test_S8_what_was_in_another_commune_is_not_told_to_who_comes_back(  # noqa: N802
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        await two_communes(room)
        a = await person(room, "a", ("viewer", A))
        async with reading(room, a) as stream:
            last = stream.events[-1].id
        await much_happens_in_b(room)
        async with reading(room, a, last=last) as stream:
            assert stream.events == []

    play_control(scenario)


def test_codes_are_for_who_may_enrol(play_control: Play) -> None:
    # Without the second reach of `_Sight`.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        viewer = await person(room, "v", ("viewer", A))
        administrator = await person(room, "a", ("administrator", A))
        async with reading(room, viewer) as seeing, reading(room, administrator) as enrolling:
            await room.control.enrolling.issue(["new"], A, 60)
            await room.settle(2)
            assert seeing.told == []
            ((kind, _, what),) = enrolling.told
            assert (kind, what) == ("enrolment", "added")

    play_control(scenario)


# ------------------------------------------------------------------ S8: rights that end
async def sign_out(room: Room, shown: str) -> None:
    assert (await ask_as(room, shown, "DELETE", "/api/v1/login")).status == 204


async def disable(room: Room, _: str) -> None:
    reply = await ask(room, "PATCH", "/api/v1/users/v", b'{"disabled": true}')
    assert reply.status == 200, reply.body


async def withdraw(room: Room, _: str) -> None:
    body = json.dumps({"role": "viewer", "unit": A}).encode()
    reply = await ask(room, "POST", "/api/v1/users/v/grants/withdraw", body)
    assert reply.status < 300, reply.body


async def grow_old(room: Room, _: str) -> None:
    now_ns = room.control.accounts._now_ns
    room.control.accounts._now_ns = lambda: now_ns() + (IDLE_S + 1) * 1_000_000_000


@pytest.mark.parametrize("end", [sign_out, disable, withdraw, grow_old])
def test_S8_who_may_not_any_more_is_told_no_more_within_seconds(  # noqa: N802
    play_control: Play, end: Callable[[Room, str], Any]
) -> None:
    # Without `_who` before every text.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = await person(room, "v", ("viewer", A))
        async with reading(room, shown) as stream:
            await volume(room, "a1", 1)
            assert len(stream.told) == 1
            await end(room, shown)
            await room.settle(3.5)
            assert stream.ended
            assert len(room.control.watching.readers) == 0
            await volume(room, "a1", 2)
            assert len(stream.told) == 1

    play_control(scenario)


def test_S8_between_two_looks_at_rights_nothing_slips_through(play_control: Play) -> None:  # noqa: N802
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = await person(room, "v", ("viewer", A))
        async with reading(room, shown) as stream:
            stream.reads.clear()  # something is under way to him
            await volume(room, "a1", 1)
            await sign_out(room, shown)
            await volume(room, "a1", 2)
            stream.reads.set()
            await room.settle()
            assert stream.told == []
            assert stream.ended

    play_control(scenario)


def test_S8_who_may_see_elsewhere_begins_anew_there(play_control: Play) -> None:  # noqa: N802
    # Without `_sees_otherwise` he would be told of a commune of which he has no list.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = await person(room, "v", ("viewer", A))
        async with reading(room, shown) as stream:
            await volume(room, "b1", 1)
            body = json.dumps({"role": "viewer", "unit": B}).encode()
            await ask(room, "POST", "/api/v1/users/v/grants", body)
            await withdraw(room, shown)
            await room.settle(3.5)
            assert stream.resets == 2
            await volume(room, "a1", 1)
            await volume(room, "b1", 2)
            assert stream.told == [("speaker", "b1", "changed")]

    play_control(scenario)


def test_to_be_told_keeps_no_session_alive(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = await person(room, "v", ("viewer", A))
        book = room.control.accounts.book
        async with reading(room, shown):
            used = dict(book._used_s)
            now_ns = room.control.accounts._now_ns
            room.control.accounts._now_ns = lambda: now_ns() + 600_000_000_000
            await volume(room, "a1", 1)
            await room.settle(10)
            assert book._used_s == used

    play_control(scenario)


def test_S8_rights_that_changed_while_he_was_away_have_him_begin_anew(  # noqa: N802
    play_control: Play,
) -> None:
    # Without what he saw in the mark.
    async def scenario(room: Room) -> None:
        await two_communes(room)
        shown = await person(room, "v", ("viewer", A))
        async with reading(room, shown) as stream:
            last = stream.events[-1].id
        async with reading(room, shown, last=last) as stream:
            assert stream.resets == 0
        body = json.dumps({"role": "viewer", "unit": B}).encode()
        await ask(room, "POST", "/api/v1/users/v/grants", body)
        async with reading(room, shown, last=last) as stream:
            assert stream.resets == 1
            last = stream.events[-1].id
        async with reading(room, shown, last=last) as stream:
            assert stream.resets == 0

    play_control(scenario)
