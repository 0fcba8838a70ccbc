"""F7: whatever is asked by the OpenAPI document or against it, the station does not break.

Schemathesis makes requests of the document, good and bad ones, and another set in which names are
of what there is. Each is asked by a stranger, by a commune's viewer and operator, and with the
machine's own token; what is refused has changed nothing, in the database and in memory.
"""

import asyncio
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from server.api.routes import build_api
from server.data import DataFolder
from server.editing import EndpointChange
from server.programmes import LiveRequest
from tests.support.asking import Reply
from tests.support.people import PASSWORD, cheap_passwords, grants, person

schemathesis: Any = pytest.importorskip("schemathesis", reason="requirements/f7.lock is not there")
requests: Any = pytest.importorskip("requests", reason="requirements/f7.lock is not there")

Room = Any  # the fixture's; see conftest
ROOT = "Tân Phú"
A, B = f"{ROOT}/A", f"{ROOT}/B"
BASE = "https://station.example"
# What is written down of a refusal itself, and when a session was last used.
_OF_REFUSALS = {"audit", "audit_heads"}
_WHEN_USED = {"login_sessions": {"used_at"}}
EXAMPLES = 4
"""Requests of an operation, of each kind, for each who asks."""
SEED = 7
SHOWN = 20
ENDLESS = {"/api/v1/events"}
"""Whoever asks for these goes away as soon as he is answered: they have no end."""
KNOWN: dict[str, list[Any]] = {
    "name": ["a1", "a2", "b1", "za", "zb", "live-1", "viewer", "operator", "all"],
    "path": [A, B, f"{A}/empty", ROOT],
    "unit": [A, B, ROOT, f"{A}/empty"],
    "role": ["viewer", "operator", "administrator", "emergency"],
    "priority": ["live", "background", "emergency"],
    "to": [["a1"], ["b1"], ["a1", "b1"], ["all"], []],
    "zones": [["za"], ["zb"], [], ["all"]],
    "names": [["a1"], ["new"], [""], ["b1"]],
    "programmes": [["live-1"], ["live-2"], []],
    "definition": [{"unit": A}, {"unit": B}, {"zone": "za"}, {"speakers": ["a1", "b1"]}],
    "grants": [[{"role": "operator", "unit": A}], [{"role": "viewer", "unit": B}]],
    "password": [PASSWORD, "another one that is long"],
}


schemathesis.checks.load_all_checks()
CHECKS = schemathesis.checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
        "response_headers_conformance",
    ]
)


# ------------------------------------------------------------------ what is asked
def good_and_bad(operation: Any) -> list[Any]:
    """Requests that fit the document, and some that do not."""
    return [*_drawn(operation, "positive"), *_drawn(operation, "negative")]


def _drawn(operation: Any, mode: str) -> list[Any]:
    wanted, found = operation.as_strategy(schemathesis.GenerationMode(mode)), []

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        found.append(data.draw(wanted))

    try:
        draw()
    except Unsatisfiable:
        # No request is bad where nothing can be said.
        assert mode == "negative"
        assert not operation.body
        assert not operation.path_parameters
        assert not operation.query
    return found


def name_what_is(case: Any, room: Room, choice: random.Random) -> None:
    """Have a request be of what there is, wherever it names something."""
    on_air = [p.name for p in room.control.station.programmes.values() if p.ended_at_ns is None]
    on_air = on_air or ["live-1"]
    known: dict[str, list[Any]] = KNOWN | {"programmes": [on_air[:1], on_air[-1:]]}
    if "programmes" in case.path:
        known["name"] = on_air
    for place in (case.path_parameters, case.body):
        if isinstance(place, dict):
            for key in sorted(place.keys() & known.keys()):
                place[key] = choice.choice(known[key])


async def asked(api: Any, case: Any, shown: str | None) -> tuple[Any, Reply]:
    """A request over ASGI, as a client's library would have written it; that, and the reply."""
    plain = case.as_transport_kwargs(base_url=BASE)
    keys = ("method", "url", "headers", "params", "cookies", "json", "data", "files")
    request = requests.Request(**{k: plain[k] for k in keys if k in plain}).prepare()
    if shown is not None:
        request.headers["Authorization"] = f"Bearer {shown}"
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    raw_path, _, query = request.path_url.partition("?")
    incoming = [{"type": "http.request", "body": body}]
    sent: list[Any] = []

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        if raw_path in ENDLESS:
            await asyncio.sleep(0.01)  # of virtual time: it has been answered by then
            return {"type": "http.disconnect"}
        return await asyncio.get_running_loop().create_future()  # it stays to hear the answer

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https",
        "path": unquote(raw_path),
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [_raw(name, value) for name, value in request.headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    try:
        await api(scope, receive, send)
    except Exception as error:
        raise AssertionError(f"{case.as_curl_command()}: {error!r}") from error
    data = b"".join(m.get("body", b"") for m in sent[1:])
    return request, Reply(sent[0]["status"], dict(sent[0]["headers"]), data)


def _raw(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    name = name.encode("latin-1") if isinstance(name, str) else name
    return name.lower(), value.encode("utf-8") if isinstance(value, str) else value


# ------------------------------------------------------------------ what there is
async def furnish(room: Room) -> None:
    """Have two communes with what belongs to them, whatever has been removed since."""
    control = room.control
    editing, station = control.editing, control.station
    for unit in (A, B, f"{A}/empty"):
        if unit not in station.directory.units:
            await editing.add_unit(unit)
    for name, unit in (("a1", A), ("a2", A), ("b1", B)):
        if name not in station.directory.endpoints:
            room.join(name)
        # What a2 hears goes out in clear, so that there is something for stock players.
        await editing.change_endpoints([name], EndpointChange(unit=unit, clear=name == "a2"))
    for name, unit in (("za", A), ("zb", B)):
        await editing.put_zone(name, {"unit": unit}, clear=name == "za")
    for programme in list(station.programmes.values()):
        if programme.ended_at_ns is None:
            control.stop([programme.name], "another follows")
    await control.open_live(LiveRequest(to=("b1",)))
    await control.open_live(LiveRequest(zones=("za",)))
    await room.settle()


async def shown_by(room: Room, who: str, sessions: dict[str, str]) -> str | None:
    """What this one shows now: a session that has ended is begun again."""
    match who:
        case "stranger":
            return None
        case "machine":
            return str(room.control.access.token)
        case _:
            session = sessions.get(who)
            known = None if session is None else room.control.access.identify(session)
            if known is None or known.held_up or known.grants != grants((who, A)):
                sessions[who] = session = await person(room, who, (who, A))
            return session


def everything(room: Room) -> dict[str, object]:
    """All that a refused call must leave as it is, in memory and in the database."""
    control = room.control
    station, book = control.station, control.accounts.book
    state: dict[str, object] = {
        "record": station.to_record(),
        "endpoints": dict(station.directory.endpoints),
        "units": set(station.directory.units),
        "zones": dict(station.zones.definitions),
        "clear": set(station.zones.clear),
        "programmes": [(p.name, p.ended_at_ns) for p in station.programmes.values()],
        "codes": control.enrolling.enrolment.codes,
        "waiting": control.enrolling.enrolment.waiting,
        "users": book.users,
        "tokens": book.tokens,
        "sessions": dict(book._sessions),
    }
    database = DataFolder(Path(room.births["server"].data)).database
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            if table not in _OF_REFUSALS:
                state[f"table {table}"] = sorted(map(repr, _rows(connection, table)))
    return state


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    rows = connection.execute(f"SELECT * FROM {table}")
    names = [column[0] for column in rows.description]
    kept = [at for at, name in enumerate(names) if name not in _WHEN_USED.get(table, ())]
    return (tuple(row[at] for at in kept) for row in rows)


def differing(before: dict[str, object], after: dict[str, object]) -> list[str]:
    return [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]


# ------------------------------------------------------------------ the walk
async def walk(room: Room) -> tuple[Counter[tuple[str, int]], list[str]]:
    """Every operation by everybody; how often who was answered what, and what was wrong."""
    cheap_passwords(room)
    api = build_api(room.control)
    document = schemathesis.openapi.from_dict(api.openapi())
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) == sum(map(len, api.openapi()["paths"].values()))
    sessions: dict[str, str] = {}
    choice, seen, wrong = random.Random(SEED), Counter[tuple[str, int]](), list[str]()
    for operation in operations:
        cases = good_and_bad(operation)
        for who in ("stranger", "viewer", "operator", "machine"):
            await furnish(room)
            for at, case in enumerate([*cases, *cases[:EXAMPLES]]):
                if at >= len(cases):
                    name_what_is(case, room, choice)
                shown = await shown_by(room, who, sessions)
                status, told = await _one(room, api, case, who, shown)
                seen[who, status] += 1
                wrong += [told] if told else []
    return seen, wrong


async def _one(room: Room, api: Any, case: Any, who: str, shown: str | None) -> tuple[int, str]:
    """One request: its status, and what is wrong about it; nothing, as a rule."""
    before = everything(room)
    request, reply = await asked(api, case, shown)
    wrong = list(_faults(case, request, reply, who))
    if reply.status >= 400:
        changed = differing(before, everything(room))
        wrong += [f"{changed} changed by what was refused"] if changed else []
    elif request.method != "GET":
        await room.settle()  # what is written behind it
    told = f"{who}: {case.as_curl_command()}\n -> {reply.status} {reply.body[:300]!r}: {wrong}"
    return reply.status, told if wrong else ""


def _faults(case: Any, request: Any, reply: Reply, who: str) -> Iterator[str]:
    is_open = case.operation.definition.raw["security"] == []
    if who == "stranger" and not is_open and reply.status not in {401, 405}:
        yield "a stranger came in"
    if reply.status >= 500:
        yield "the station broke"
    if reply.status >= 400:
        try:
            reply.error()
        except (AssertionError, ValueError):
            yield "that is no error in one line"
    # A name may be such that it makes another path, of which the document says no such method.
    if reply.status in {404, 405}:
        return
    response = schemathesis.Response(
        reply.status,
        {name.decode(): [value.decode("latin-1")] for name, value in reply.headers.items()},
        reply.body,
        request,
        0.0,
        verify=True,
    )
    try:
        case.validate_response(response, checks=CHECKS)
    except schemathesis.checks.FailureGroup as group:
        yield from map(str, group.exceptions)


def test_F7_nothing_breaks_and_a_refused_call_writes_nothing(play_control: Any) -> None:  # noqa: N802
    async def scenario(room: Room) -> None:
        seen, wrong = await walk(room)
        assert not wrong, f"{len(wrong)} of {seen.total()}\n" + "\n".join(wrong[:SHOWN])
        # It is no walk before closed doors, nor is everything let through.
        assert seen["machine", 200] > 150, seen
        assert seen["machine", 201] > 10, seen
        assert seen["operator", 403] > 50, seen
        assert seen["operator", 201] > 3, seen
        assert seen["viewer", 403] > 100, seen
        assert seen["machine", 422] > 100, seen
        assert seen["stranger", 401] > 300, seen
        assert seen["stranger", 200] > 0, seen

    play_control(scenario)
