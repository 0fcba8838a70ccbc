"""Codes and those who come with them, over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.asking import ask, post
from tests.support.sessions import Heard, Peer
from tests.support.stations import key_of_name
from transport.control.address import StationAddress
from transport.control.messages import Enrolled, Pending, Refused
from transport.security.certificates import StationCertificate
from transport.security.enrolment import EnrolmentCode
from transport.security.keys import fingerprint, shown_fingerprint

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
ROOT = "Tân Phú"
ENROLMENTS = "/api/v1/enrolments"


async def codes(room: Room, **body: object) -> list[dict[str, Any]]:
    """New codes."""
    reply = await post(room, ENROLMENTS, body)
    assert reply.status == 201
    made: list[dict[str, Any]] = reply.json()["codes"]
    return made


async def listed(room: Room) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Codes, and who waits."""
    codes = (await ask(room, "GET", ENROLMENTS)).json()
    return codes, (await ask(room, "GET", f"{ENROLMENTS}/pending")).json()


@asynccontextmanager
async def comes(room: Room, code: str, name: str = "x") -> AsyncIterator[tuple[Peer, Heard]]:
    """A loudspeaker comes with this code while the block runs; what it is told first."""
    sessions: Any = room.control.sessions
    peer = Peer(name=name, tls_hash=sessions.credentials.tls_hash)
    serving = asyncio.create_task(sessions.serve(peer))
    await peer.prove(await peer.enrol(EnrolmentCode.parse(code).secret))
    yield peer, await peer.hears()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


# ------------------------------------------------------------------ codes
def test_a_code_says_where_the_station_is_and_whose_it_is_and_is_shown_once(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        (row,) = await codes(room, names=["market"])
        assert (row["name"], row["unit"], row["expires_in_s"]) == ("market", None, 3600)
        code = EnrolmentCode.parse(row["code"])
        assert code.server == room.control.reachable  # not this machine's own name for itself
        certificate = StationCertificate.parse(room.control.sessions.credentials.certificate)
        assert code.root_fingerprint == fingerprint(certificate.root)
        (shown,), _ = await listed(room)
        assert shown == {
            "number": row["number"],
            "name": "market",
            "unit": None,
            "expires_in_s": pytest.approx(3600, abs=2),
            "in_use": False,
        }

    play_control(scenario)


def test_codes_are_for_an_address_a_unit_and_a_time_that_are_said(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await post(room, "/api/v1/units", {"path": f"{ROOT}/Thôn 3"})
        rows = await codes(
            room,
            names=["a", "b"],
            unit=f"{ROOT}/Thôn 3",
            minutes=5,
            address="loa.example:7000",
        )
        assert [row["name"] for row in rows] == ["a", "b"]
        for row in rows:
            assert (row["unit"], row["expires_in_s"]) == (f"{ROOT}/Thôn 3", 300)
            server = EnrolmentCode.parse(row["code"]).server
            assert server == StationAddress("loa.example", 7000)
        async with comes(room, rows[0]["code"]) as (_, word):
            assert word == Enrolled("a")
        (speaker,) = (await ask(room, "GET", "/api/v1/speakers")).json()
        assert (speaker["name"], speaker["unit"]) == ("a", f"{ROOT}/Thôn 3")
        assert (speaker["state"], speaker["enrolled"]) == ("offline", True)

    play_control(scenario)


def test_a_code_is_good_after_a_restart_and_no_more_when_it_is_cancelled(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        one, two = await codes(room, names=["a", "b"])
        await room.restart_control()
        async with comes(room, one["code"]) as (_, word):
            assert word == Enrolled("a")
        reply = await ask(room, "DELETE", f"{ENROLMENTS}/{two['number']}")
        assert (reply.status, reply.body) == (204, b"")
        await room.restart_control()
        assert await listed(room) == ([], [])
        async with comes(room, two["code"], "y") as (_, word):
            assert isinstance(word, Refused)
        reply = await ask(room, "DELETE", f"{ENROLMENTS}/{two['number']}")
        assert (reply.status, "loa enrol list" in reply.error()) == (404, True)

    play_control(scenario)


WRONG: dict[str, tuple[dict[str, object], int, str]] = {
    "nobody": ({"names": []}, 422, "names: "),
    "too many": ({"names": ["a"] * 1001}, 422, "names: "),
    "nothing": ({}, 422, "names: "),
    "no name": ({"names": ["all"]}, 409, "is no loudspeaker's name"),
    "one twice": ({"names": ["a", "a"]}, 409, "'a' is there twice"),
    "an unknown unit": ({"names": ["a"], "unit": f"{ROOT}/x"}, 404, "no unit"),
    "no time": ({"names": ["a"], "minutes": 0}, 422, "minutes: "),
    "too long a time": ({"names": ["a"], "minutes": 525_601}, 422, "minutes: "),
    "no address": ({"names": ["a"], "address": "http://x"}, 422, "is no station's address"),
    "more": ({"names": ["a"], "secret": "x"}, 422, "secret: "),
}


@pytest.mark.parametrize(("body", "status", "why"), WRONG.values(), ids=WRONG)
def test_a_code_that_cannot_be_is_one_line(
    play_control: Play, body: dict[str, object], status: int, why: str
) -> None:
    async def scenario(room: Room) -> None:
        reply = await post(room, ENROLMENTS, body)
        assert reply.status == status
        assert why in reply.error()
        assert await listed(room) == ([], [])

    play_control(scenario)


@pytest.mark.parametrize("number", ["0", "0123456z", "pending", "0123456789"])
def test_what_is_no_number_of_a_code_is_one_line(play_control: Play, number: str) -> None:
    async def scenario(room: Room) -> None:
        reply = await ask(room, "DELETE", f"{ENROLMENTS}/{number}")
        assert reply.status == 422
        assert "number: " in reply.error()

    play_control(scenario)


# ------------------------------------------------------------------ who waits
def test_who_waits_is_listed_and_approved_by_its_key(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        (row,) = await codes(room, names=[""])
        async with comes(room, row["code"]) as (peer, word):
            assert isinstance(word, Pending)
            (code,), (waiting,) = await listed(room)
            assert code["in_use"]
            key = shown_fingerprint(key_of_name("x"))
            assert waiting == {
                "key": key,
                "name": "x",
                "unit": None,
                "address": "192.0.2.1",
                "waits_s": pytest.approx(0, abs=2),
            }
            reply = await post(room, f"{ENROLMENTS}/pending/{key}/approve", {"name": "market"})
            assert (reply.status, reply.json()) == (200, {"name": "market"})
            assert await peer.hears() == Enrolled("market")
        assert await listed(room) == ([], [])
        await room.restart_control()
        endpoint = room.control.station.directory.endpoint("market")
        assert endpoint.key == key_of_name("x")

    play_control(scenario)


def test_who_waits_is_refused_by_its_key(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        (row,) = await codes(room, names=[""])
        async with comes(room, row["code"]) as (peer, _):
            key = shown_fingerprint(key_of_name("x"))
            reply = await ask(room, "DELETE", f"{ENROLMENTS}/pending/{key}")
            assert (reply.status, reply.body) == (204, b"")
            refusal = await peer.hears()
            assert isinstance(refusal, Refused)
            assert refusal.final
        assert await listed(room) == ([], [])

    play_control(scenario)


def test_who_does_not_wait_is_not_decided_on(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        path = f"{ENROLMENTS}/pending/AAAAA"
        for reply in (
            await post(room, f"{path}/approve", {"name": "a"}),
            await ask(room, "DELETE", path),
        ):
            assert reply.status == 404
            assert "loa enrol list" in reply.error()

    play_control(scenario)
