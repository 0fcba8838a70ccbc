"""A write that is asked for twice is done once."""

import asyncio
import json
from collections.abc import Callable, MutableMapping
from typing import Any

from server.api.idempotency import KEPT_S, Answers
from server.api.routes import build_api
from tests.support.asking import Reply, ask
from tests.support.people import done, person

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
ROOT = "Tân Phú"
UNITS = "/api/v1/units"
LIVE = "/api/v1/live"
WHO = "user", "ana"
PARTS: list[MutableMapping[str, Any]] = [
    {"type": "http.response.start", "status": 201},
    {"body": b"x" * 10},
]


class Desk:
    """One application, asked again and again: what was answered is its own."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.api = build_api(room.control)

    async def ask(
        self, path: str, body: object, key: str, shown: str = "", method: str = "POST"
    ) -> Reply:
        data = json.dumps(body).encode()
        more = [(b"idempotency-key", key.encode())]
        token = f"Bearer {shown}".encode() if shown else None
        return await ask(self.room, method, path, data, shown=token, api=self.api, more=more)


def replayed(reply: Reply) -> bool:
    return reply.headers.get(b"idempotency-replayed") == b"true"


def test_asked_again_with_the_same_key_it_answers_the_same_and_does_nothing(
    play_control: Play,
) -> None:
    # Without the middleware the second is a conflict, and there are two programmes.
    async def scenario(room: Room) -> None:
        desk = Desk(room)
        first = await desk.ask(UNITS, {"path": f"{ROOT}/a"}, "k-1")
        second = await desk.ask(UNITS, {"path": f"{ROOT}/a"}, '"k-1"')
        assert (first.status, second.status) == (201, 201)
        assert first.body == second.body
        assert (replayed(first), replayed(second)) == (False, True)
        tickets = {(await desk.ask(LIVE, {"to": ["all"]}, "k-2")).body for _ in range(3)}
        assert len(tickets) == len(room.control.station.programmes) == 1
        assert (await desk.ask(LIVE, {"to": ["all"]}, "k-3")).body not in tickets

    play_control(scenario)


def test_a_key_is_for_one_request(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        desk = Desk(room)
        assert (await desk.ask(UNITS, {"path": f"{ROOT}/a"}, "k")).status == 201
        for path, body, method in (
            (UNITS, {"path": f"{ROOT}/b"}, "POST"),
            (LIVE, {"path": f"{ROOT}/a"}, "POST"),
            (f"{UNITS}?x=1", {"path": f"{ROOT}/a"}, "POST"),
        ):
            reply = await desk.ask(path, body, "k", method=method)
            assert (reply.status, "choose a new one" in reply.error()) == (422, True)
        assert f"{ROOT}/b" not in room.control.station.directory.units

    play_control(scenario)


def test_what_was_refused_may_be_asked_again(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        desk = Desk(room)
        assert (await desk.ask(UNITS, {"path": f"{ROOT}/a/b"}, "k")).status == 404
        assert (await desk.ask(UNITS, {"path": f"{ROOT}/a"}, "k2")).status == 201
        assert (await desk.ask(UNITS, {"path": f"{ROOT}/a/b"}, "k")).status == 201

    play_control(scenario)


def test_S4_nobody_is_answered_what_another_was(play_control: Play) -> None:  # noqa: N802
    # Without the identity in what a key is kept by, the second is given the first one's token.
    async def scenario(room: Room) -> None:
        desk, body = Desk(room), {"label": "l", "grants": [{"role": "viewer", "unit": ROOT}]}
        one, two = [await person(room, name, ("viewer", ROOT)) for name in ("ana", "bob")]
        first = await desk.ask("/api/v1/tokens", body, "k", one)
        second = await desk.ask("/api/v1/tokens", body, "k", two)
        assert (first.status, second.status) == (201, 201)
        assert first.json()["owner"] == "ana"
        assert second.json()["owner"] == "bob"
        stranger = await desk.ask("/api/v1/tokens", body, "k", "nobody")
        assert stranger.status == 401
        await done(room, one, "DELETE", "/api/v1/login")
        assert (await desk.ask("/api/v1/tokens", body, "k", one)).status == 401

    play_control(scenario)


def test_what_is_not_done_yet_is_not_done_a_second_time(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        desk = Desk(room)
        async with room.control.editing.lock:
            first = asyncio.create_task(desk.ask(UNITS, {"path": f"{ROOT}/a"}, "k"))
            for _ in range(20):
                await asyncio.sleep(0)
            second = await desk.ask(UNITS, {"path": f"{ROOT}/a"}, "k")
            assert (second.status, second.headers[b"retry-after"]) == (409, b"1")
        assert (await first).status == 201

    play_control(scenario)


def test_a_key_that_is_none_and_a_body_that_is_too_long_are_one_line(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        desk = Desk(room)
        for key in ("", "a b", "x" * 129, "é"):
            reply = await desk.ask(UNITS, {"path": f"{ROOT}/a"}, key)
            assert (reply.status, "Idempotency-Key" in reply.error()) == (400, True)
        reply = await desk.ask(UNITS, {"path": "x" * (65 << 10)}, "k")
        assert (reply.status, "at most" in reply.error()) == (413, True)

    play_control(scenario)


# ------------------------------------------------------------------ what is kept, and how much
def test_an_answer_is_forgotten_after_an_hour_and_when_there_are_too_many() -> None:
    answers = Answers(most_each=2, most_bytes=25)
    for number, key in enumerate("abc"):
        answers.begin(WHO, key, b"asked", now_s=number)
    assert answers.find(WHO, "a", 3) is None
    assert answers.find(WHO, "b", 1 + KEPT_S - 0.1) is not None
    assert answers.find(WHO, "b", 1 + KEPT_S) is None
    other = "user", "bob"
    for key in "xy":
        answers.begin(other, key, b"asked", now_s=5)
    assert answers.find(WHO, "c", 6) is not None, "another's do not push out mine"


def test_answers_together_have_a_bound_in_bytes() -> None:
    answers = Answers(most_each=9, most_bytes=25)
    for number, key in enumerate("abc"):
        answers.begin(WHO, key, b"asked", now_s=number)
        answers.keep(WHO, key, list(PARTS))
    assert [answers.find(WHO, key, 3) is not None for key in "abc"] == [False, True, True]
    answers.undo(WHO, "b")
    answers.begin(WHO, "d", b"asked", now_s=4)
    answers.keep(WHO, "d", list(PARTS))
    assert [answers.find(WHO, key, 4) is not None for key in "cd"] == [True, True]
