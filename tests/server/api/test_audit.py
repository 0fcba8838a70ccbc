"""What was done over HTTP stands in the log, with who and where; what was refused as well."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from server.audit.verification import Flaw, Verifier
from server.errors import StationError
from server.programmes import LiveRequest
from server.store import Store, StoreError
from tests.support.asking import Reply, ask, next_page, patch, post, put
from transport.security.keys import fingerprint

Room = Any  # the fixture's; see conftest
Play = Callable[..., None]
ROOT = "Tân Phú"


async def log(room: Room) -> list[dict[str, Any]]:
    """All rows, oldest first."""
    reply = await ask(room, "GET", "/api/v1/audit?limit=1000")
    assert reply.status == 200
    return list(reversed(reply.json()))


async def told(room: Room, what: str) -> dict[str, Any]:
    """The one row of this kind."""
    (row,) = [row for row in await log(room) if row["what"] == what]
    return row


async def export(room: Room) -> list[bytes]:
    return [line.encode() async for line in room.control.audit.vouching.export()]


def verified(room: Room, lines: list[bytes]) -> int:
    verifier = Verifier(fingerprint(room.control._own.keys.certificate.root))
    for line in lines:
        verifier.feed(line)
    return verifier.finish().rows


async def pass_time(room: Room, seconds: float) -> None:
    """On the station's own clock; then a tick comes."""
    audit, now_ns = room.control.audit, room.control._clock.now_ns
    later = audit.recorder._now_ns() - now_ns() + round(seconds * 1e9)
    audit.recorder._now_ns = audit.vouching._now_ns = lambda: now_ns() + later
    await room.settle(2.5)


# ------------------------------------------------------------------ what is done
CHANGES: list[tuple[str, str, dict[str, Any], str, dict[str, Any]]] = [
    ("POST", "/api/v1/units", {"path": f"{ROOT}/Thôn 3"}, "unit.add", {"unit": f"{ROOT}/Thôn 3"}),
    (
        "PUT",
        "/api/v1/zones/chợ",
        {"definition": {"tag": "chợ"}},
        "zone.put",
        {"zone": "chợ", "definition": {"tag": "chợ"}, "clear": False},
    ),
    (
        "PATCH",
        "/api/v1/speakers/a",
        {"tags": ["chợ"], "trim_us": 5},
        "speaker.change",
        {"count": 1, "changes": [{"speakers": ["a"], "tags": ["chợ"], "trim_us": 5}]},
    ),
    (
        "POST",
        "/api/v1/volume",
        {"to": ["a"], "volume": 7},
        "speaker.change",
        {"count": 1, "changes": [{"speakers": ["a"], "volume": 7}]},
    ),
    (
        "POST",
        "/api/v1/identify",
        {"to": ["all"]},
        "speaker.identify",
        {"to": ["all"], "zones": [], "loudspeakers": 1, "seconds": 0.0},
    ),
    (
        "POST",
        "/api/v1/enrolments",
        {"names": ["market"]},
        "code.issue",
        {"names": ["market"], "unit": None, "minutes": 60},
    ),
    ("POST", "/api/v1/speakers/a/revoke", {}, "speaker.revoke", {"speaker": "a"}),
]


@pytest.mark.parametrize(("method", "path", "body", "what", "on"), CHANGES)
def test_a_change_has_one_row_with_who_where_and_on_what(
    play_control: Play, method: str, path: str, body: dict[str, Any], what: str, on: dict[str, Any]
) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        reply = await ask(room, method, path, json.dumps(body).encode())
        assert 200 <= reply.status < 300, reply.body
        row = await told(room, what)
        assert (row["who"], row["where"], row["on"]) == ("token", "127.0.0.1", on)
        assert row["outcome"] in {"done", "ordered"}

    play_control(scenario)


def test_all_that_is_done_to_a_zone_or_a_unit_is_there(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await put(room, "/api/v1/zones/z", {"definition": {"tag": "t"}})
        await patch(room, "/api/v1/zones/z", {"clear": True})
        await ask(room, "DELETE", "/api/v1/zones/z")
        await post(room, "/api/v1/units", {"path": f"{ROOT}/x"})
        await ask(room, "DELETE", f"/api/v1/units/{ROOT}/x")
        room.control.station.leave("a", room.control.station.speakers["a"].session)
        await ask(room, "DELETE", "/api/v1/speakers/a")
        whats = [row["what"] for row in await log(room)]
        assert whats[-6:] == [
            *("zone.put", "zone.put", "zone.remove"),
            *("unit.add", "unit.remove", "speaker.remove"),
        ]
        assert (await log(room))[-5]["on"]["clear"] is True

    play_control(scenario)


def test_what_sounds_begins_and_ends_in_the_log(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        room.join("a")
        await post(room, "/api/v1/live", {"to": ["all"], "priority": "emergency", "test": True})
        await ask(room, "DELETE", "/api/v1/programmes/live-1")
        begun, ended = [row for row in await log(room) if row["what"].startswith("programme.")]
        assert (begun["what"], begun["who"]) == ("programme.begin", "token")
        assert begun["on"] == {
            "programme": "live-1",
            "priority": "emergency",
            "to": ["all"],
            "zones": [],
            "loudspeakers": 1,
            "test": True,
            "clear": False,
        }
        assert (ended["what"], ended["who"]) == ("programme.end", "token")
        assert (ended["why"], ended["on"]["programme"]) == ("it was stopped", "live-1")

    play_control(scenario)


def test_a_programme_that_ends_by_itself_is_ended_by_the_station(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await room.control.open_live(LiveRequest(("all",)))
        await room.settle()
        room.state = "ended"
        room.report()
        await room.settle()
        row = await told(room, "programme.end")
        assert (row["who"], row["where"], row["why"]) == ("station", "", "it was finished")

    play_control(scenario)


def test_nothing_is_done_that_cannot_be_written_down(
    play_control: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreError("/data: the disk is full")

    async def scenario(room: Room) -> None:
        room.join("a")
        with monkeypatch.context() as patched:
            patched.setattr(Store, "_append", fail)
            for path, body in (
                ("/api/v1/units", {"path": f"{ROOT}/x"}),
                ("/api/v1/live", {"to": ["all"]}),
                ("/api/v1/tone", {"to": ["all"]}),
            ):
                reply = await post(room, path, body)
                assert (reply.status, "disk is full" in reply.error()) == (409, True)
            await room.settle()
        assert room.control.queries.programmes() == []
        assert room.control.station.directory.units == {ROOT}
        assert room.store.load().units == (ROOT,)
        with pytest.raises(StationError):
            room.control.station.programme("live-1")

    play_control(scenario)


# ------------------------------------------------------------------ what is refused
async def stranger(room: Room, path: str = "/api/v1/stop", shown: bytes = b"") -> Reply:
    return await ask(room, "POST", path, shown=shown)


def test_a_stranger_is_written_down_once_and_then_counted(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        for number in range(30):
            assert (await stranger(room, f"/api/v1/{number}", b"Bearer x")).status == 401
        await room.settle()
        row = await told(room, "refused")
        assert (row["who"], row["where"], row["outcome"]) == ("", "127.0.0.1", "refused")
        assert row["on"] == {"method": "POST", "path": "/api/v1/0", "status": 401}
        assert "opens nothing here" in row["why"]
        await pass_time(room, 62)
        counted = (await log(room))[-1]["on"]
        assert (counted["times"], counted["path"]) == (29, "/api/v1/29")

    play_control(scenario)


def test_who_asks_for_what_cannot_be_is_written_down_with_why(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        reply = await post(room, "/api/v1/units", {"path": "Nowhere/x"})
        await room.settle()
        row = await told(room, "refused")
        assert (row["who"], row["why"]) == ("token", reply.error())
        assert row["on"] == {"method": "POST", "path": "/api/v1/units", "status": reply.status}

    play_control(scenario)


def test_who_looks_for_what_is_not_there_is_refused_nothing(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        assert (await ask(room, "GET", "/api/v1/zones/none")).status == 404
        await room.settle()
        assert "refused" not in {row["what"] for row in await log(room)}

    play_control(scenario)


# ------------------------------------------------------------------ how it is read
def test_the_log_is_read_in_pages_and_nobody_writes_it(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        for number in range(5):
            await post(room, "/api/v1/units", {"path": f"{ROOT}/{number}"})
        first = await ask(room, "GET", "/api/v1/audit?limit=3&what=unit")
        seqs = [row["seq"] for row in first.json()]
        assert seqs == sorted(seqs, reverse=True)
        rest = await ask(room, "GET", next_page(first) or "")
        assert [row["seq"] for row in rest.json()] == list(range(seqs[-1] - 1, seqs[0] - 5, -1))
        assert next_page(rest) is None
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert (await ask(room, method, "/api/v1/audit")).status == 405
        for query in ("limit=0", "limit=1001", "after=x", f"after={1 << 60}", "since=noon"):
            assert (await ask(room, "GET", f"/api/v1/audit?{query}")).status == 422

    play_control(scenario)


def test_an_export_is_whole_and_signed_also_while_the_log_grows(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        for number in range(7):
            await post(room, "/api/v1/units", {"path": f"{ROOT}/{number}"})
        exporting = asyncio.create_task(export(room))
        for number in range(7, 14):
            await post(room, "/api/v1/units", {"path": f"{ROOT}/{number}"})
        assert 8 <= verified(room, await exporting) <= 15
        assert verified(room, await export(room)) == 15
        state = await ask(room, "GET", "/api/v1/audit/state")
        assert state.json()["signed"]["seq"] == 15

    play_control(scenario)


def test_heads_are_signed_as_rows_come_and_the_chain_goes_on_over_restarts(
    play_control: Play,
) -> None:
    async def scenario(room: Room) -> None:
        await post(room, "/api/v1/units", {"path": f"{ROOT}/x"})
        assert room.store.audit_heads(0, 99) == ()
        await pass_time(room, 0)
        assert room.store.audit_heads(0, 99) == ()
        await pass_time(room, 63)
        assert [head.seq for head in room.store.audit_heads(0, 99)] == [2]
        await pass_time(room, 120)
        assert len(room.store.audit_heads(0, 99)) == 1
        await room.restart_control()
        await post(room, "/api/v1/units", {"path": f"{ROOT}/y"})
        assert [row["what"] for row in await log(room)] == [
            *("station.begin", "unit.add", "station.begin", "unit.add")
        ]
        assert verified(room, await export(room)) == 4

    play_control(scenario)


def test_rows_taken_out_of_the_database_behind_the_last_are_missed(play_control: Play) -> None:
    async def scenario(room: Room) -> None:
        await post(room, "/api/v1/units", {"path": f"{ROOT}/x"})
        await export(room)  # signs a head
        with room.store._transaction() as connection:
            connection.exec_driver_sql("DELETE FROM audit WHERE seq = 2")
        with pytest.raises(Flaw, match="row 2 is missing"):
            verified(room, await export(room))

    play_control(scenario)
