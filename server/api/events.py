"""The HTTP API: what changes, told as it does, by server-sent events (WHATWG HTML, section 9.2).

A reader has no queue of its own: it has a place in the log of changes, and whoever reads too
slowly finds that his place is forgotten, and reads the lists anew.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import lru_cache
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from server.api.directory import zone_row
from server.api.rights import Viewer
from server.api.seen import Seen
from server.app import Control
from server.audit.row import instant
from server.changes.log import Change, Changes, Kind, What
from server.changes.watching import Readers, TooManyReadersError
from server.changes.wire import (
    KEEP_ALIVE,
    MEDIA_TYPE,
    RESET,
    Event,
    written,
    written_mark,
    written_pause,
)
from server.rights.identity import ForbiddenError, Identity
from server.rights.table import Deed, is_reached, may
from server.views import code_rows, waiting_rows

# Of one text: 200 rows of loudspeakers are 150 KB, and are made in 5 ms. One of a zone may be long.
_AT_ONCE, _LONG = 200, 256 << 10
_LOOKED_AT = 4_096
# Rights are looked up before every text; while nothing happens, so often.
_RIGHTS_S = 3.0
_QUIET_S = 15.0
_COME_BACK_MS = 2_000
# In characters; a row has 700.
_KEPT_ROWS = 8 << 20
_KEPT_READERS, _KEPT_UNITS = 256, 2_000
_KINDS = "|".join(Kind)
_GONE = "null"
_in_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_instant = lru_cache(instant)  # what is found at one look is of one instant
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# Until OpenAPI 3.2 the schema of such a stream is that of each event.
_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "For `Last-Event-ID`."},
        "event": {"type": "string", "enum": [*Kind, RESET]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {
                "type": "object",
                "properties": {
                    "what": {"type": "string", "enum": [*What]},
                    "name": {"type": "string"},
                    "at": {"type": "string", "format": "date-time"},
                    "row": {"type": ["object", "string", "null"]},
                },
            },
        },
    },
    "required": ["data"],
}


def add_events(api: FastAPI, control: Control) -> None:
    """One route, that has no end."""
    watching, rows = control.watching, Rows(control)

    @api.get(
        "/api/v1/events",
        response_class=StreamingResponse,
        responses={
            200: {"content": {MEDIA_TYPE: {"schema": _EVENT}}},
            429: {"description": "You read too many streams of events already."},
            503: {"description": "Too many streams of events are read."},
        },
    )
    async def events(
        asker: Viewer,
        request: Request,
        kinds: Annotated[
            str | None,
            Query(pattern=f"^({_KINDS})(,({_KINDS}))*$", description="Only these, with commas."),
        ] = None,
        last: Annotated[
            str | None, Query(max_length=64, description="As `Last-Event-ID`, in its place.")
        ] = None,
        last_event_id: Annotated[str | None, Header(description="Go on behind it.")] = None,
    ) -> StreamingResponse:
        """What changes of what you see, as server-sent events, for as long as you read.

        An event's name is the kind of thing, and its data JSON: `what` has become of it, its
        `name`, `at` which instant, and its `row` as the list of such things has it, null where it
        is gone or no more yours to see. Upon `reset` read the lists anew: it comes first, unless
        you go on where you have been, and whenever you have missed something.
        """
        wanted = frozenset(Kind(kind) for kind in kinds.split(",")) if kinds else frozenset(Kind)
        reader = Reader(rows, watching.changes, wanted, last_event_id or last or "")
        texts = _texts(control, reader, request.state.shown)
        return _Events(texts, watching.readers, _name(asker))


def _name(asker: Identity) -> str:
    """Whose streams are counted together: a person's with those of his tokens."""
    return "" if asker.kind == "machine" else asker.name


class _Events(StreamingResponse):
    """A reader's place is taken for as long as this is answered, however that ends."""

    def __init__(self, texts: AsyncIterator[str], readers: Readers, name: str) -> None:
        super().__init__(texts, media_type=MEDIA_TYPE, headers=_HEADERS)
        self._readers = readers
        self._name = name

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._readers.one_more(self._name):
                await super().__call__(scope, receive, send)
        except TooManyReadersError as error:
            raise HTTPException(429 if error.own else 503, str(error)) from None


async def _texts(control: Control, reader: "Reader", shown: str) -> AsyncIterator[str]:
    """All that is sent, until whoever reads may not any more."""
    yield written_pause(_COME_BACK_MS)
    quiet_s = 0.0
    while True:
        # Goes through when there is room: nothing is looked at until it can be sent.
        yield ""
        async with control.watching.turn:
            await asyncio.sleep(0)  # all are woken at once: one reads, then others than they
            identity = _who(control, shown)
            if identity is None:
                return
            text = reader.read(identity)
        if text:
            quiet_s = 0.0
            yield text
        elif not await control.watching.news(reader.place, _RIGHTS_S):
            quiet_s += _RIGHTS_S
            if quiet_s >= _QUIET_S:
                quiet_s = 0.0
                # So that one who has seen nothing for long need not begin anew.
                yield KEEP_ALIVE + reader.mark


def _who(control: Control, shown: str) -> Identity | None:
    """Whom this stands for now; None if that sees nothing. To be told is not to be at work."""
    if control.access.allows(shown):
        return Identity.machine(control.station.directory.root)
    identity = control.accounts.identify(shown, used=False)
    try:
        if identity is not None:
            identity.check_somewhere(Deed.SEE)
    except ForbiddenError:
        return None
    return identity


# ------------------------------------------------------------------ what is to be seen
def _reach(identity: Identity) -> tuple[frozenset[str], frozenset[str]]:
    return identity.reach(Deed.SEE), identity.reach(Deed.ENROL)


class _Judged(dict[tuple[str, ...], bool]):
    """Whether it is to be told, by the units that it concerns; found out once for each."""

    def __init__(self, judge: Callable[[tuple[str, ...]], bool]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, units: tuple[str, ...]) -> bool:
        if len(self) >= _KEPT_UNITS:
            self.clear()
        judged = self[units] = self._judge(units)
        return judged


class _Sight:
    """What somebody who reaches so far may see, of changes by the units that they concern."""

    def __init__(self, identity: Identity, root: str) -> None:
        self.reach = _reach(identity)
        sees, enrols = self.reach
        told = _in_json([sorted(sees), sorted(enrols)])
        self.name = hashlib.sha256(told.encode()).hexdigest()[:8]
        whole = root in sees
        self._sees = _Judged(lambda units: whole or any(is_reached(u, sees) for u in units))
        self._enrols = _Judged(lambda units: all(is_reached(u, enrols) for u in units))

    def among(self, changes: list[Change]) -> list[Change]:
        """Those of these that are to be told at all."""
        # A hundred readers look at ten thousand changes each: a tenth of a microsecond is much.
        sees, enrols = self._sees, self._enrols
        return [c for c in changes if (enrols if c.enrols else sees)[c.units]]


Row = dict[str, Any]


class Rows:
    """Things as they are now, in JSON, as somebody sees them: each is made once for all alike.

    What was made when the log was as long as it is told of, or longer, is not too old for it.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._made: dict[tuple[object, ...], tuple[int, str]] = {}
        self._size = 0
        self._lists: dict[Kind, tuple[int, dict[str, Row]]] = {}
        self._seen: dict[frozenset[str], tuple[tuple[int, int], Seen]] = {}

    @property
    def root(self) -> str:
        """The station's own unit."""
        return self._control.station.directory.root

    def of(self, change: Change, identity: Identity) -> str:
        """The row of what has changed; `null` where there is nothing for this identity."""
        wanted: tuple[object, ...] = change.kind, change.name
        if change.kind is Kind.SPEAKER:  # which is the same for all who see it
            endpoint = self._control.station.directory.endpoints.get(change.name)
            if endpoint is None or not identity.reaches(Deed.SEE, endpoint.unit):
                return _GONE
        else:
            wanted += (identity.reach(Deed.ENROL if change.enrols else Deed.SEE),)
        made = self._made.get(wanted)
        if made is None or made[0] < change.seq:
            text = _in_json(self._find[change.kind](self, change, identity))
            self._size += len(text)
            if self._size > _KEPT_ROWS:
                self._made.clear()
                self._size = len(text)
            made = self._made[wanted] = self._control.watching.changes.head, text
        return made[1]

    def _speaker(self, change: Change, _: Identity) -> Row:
        return self._control.queries.speakers([change.name])[0]

    def _unit(self, change: Change, identity: Identity) -> str | None:
        there = change.name in self._control.station.directory.units
        return change.name if there and identity.reaches(Deed.SEE, change.name) else None

    def _zone(self, change: Change, identity: Identity) -> Row | None:
        seen = self._seen_by(identity)
        its = seen.zones().get(change.name)
        if its is None:
            return None
        return zone_row(seen, self._control.station, change.name, len(its))

    def _programme(self, change: Change, identity: Identity) -> Row | None:
        row = self._listed(change, self._control.queries.programmes, "name")
        if row is None or change.name not in self._control.station.programmes:
            return None
        return next(iter(self._seen_by(identity).programmes([row])), None)

    def _code(self, change: Change, identity: Identity) -> Row | None:
        enrolling = self._control.enrolling
        row = self._listed(
            change, lambda: code_rows(enrolling.enrolment, enrolling.now_ns()), "number"
        )
        return row if self._may_enrol(row, identity, named=True) else None

    def _pending(self, change: Change, identity: Identity) -> Row | None:
        enrolling = self._control.enrolling
        row = self._listed(
            change, lambda: waiting_rows(enrolling.enrolment, enrolling.now_ns()), "key"
        )
        return row if self._may_enrol(row, identity, named=False) else None

    def _may_enrol(self, row: Row | None, identity: Identity, *, named: bool) -> bool:
        if row is None:
            return False
        units = self._control.enrolling.concerned(row["name"] if named else "", row["unit"])
        return may(identity.grants, Deed.ENROL, units)

    _find: Mapping[Kind, Callable[["Rows", Change, Identity], Row | str | None]] = {
        Kind.SPEAKER: _speaker,
        Kind.UNIT: _unit,
        Kind.ZONE: _zone,
        Kind.PROGRAMME: _programme,
        Kind.ENROLMENT: _code,
        Kind.PENDING: _pending,
    }

    def _listed(self, change: Change, rows: Callable[[], Iterable[Row]], key: str) -> Row | None:
        """One row of a list that costs as much as a whole."""
        made = self._lists.get(change.kind)
        if made is None or made[0] < change.seq:
            by_key = {str(row[key]): row for row in rows()}
            made = self._lists[change.kind] = self._control.watching.changes.head, by_key
        return made[1].get(change.name)

    def _seen_by(self, identity: Identity) -> Seen:
        station, reach = self._control.station, identity.reach(Deed.SEE)
        versions = station.directory.version, station.zones.version
        made = self._seen.get(reach)
        if made is None or made[0] != versions:
            if len(self._seen) >= _KEPT_READERS:
                self._seen.clear()
            made = self._seen[reach] = versions, Seen(identity, station)
        return made[1]


class Reader:
    """One who reads, and how far he has got. Pure: what it says next follows from its arguments."""

    def __init__(
        self, rows: Rows, changes: Changes, kinds: frozenset[Kind], last: str = ""
    ) -> None:
        """`last` is the mark of the last event he has had; none, or one of no meaning: a reset.

        A mark ends with what he could see then: if that is not what he sees now, he is reset.
        """
        self._rows = rows
        self._changes = changes
        self._kinds = kinds
        mark, _, self._saw = last.rpartition("-")
        self._place = changes.place(mark)
        self._sight: _Sight | None = None

    @property
    def place(self) -> int:
        """The number of the last change that was told, or was none of his."""
        return 0 if self._place is None else self._place

    @property
    def mark(self) -> str:
        """The same, as text that makes no event."""
        return written_mark(self._marked(self.place))

    def _marked(self, seq: int) -> str:
        return f"{self._changes.mark(seq)}-{self._saw}"

    def read(self, identity: Identity) -> str:
        """The next few events; empty if there is nothing."""
        if self._sees_otherwise(identity):
            self._place = None
        found = None if self._place is None else self._next(identity)
        if found is None:
            self._place = self._changes.head
            return written(Event(self._marked(self._place), RESET, "{}"))
        return "".join(found)

    def _sees_otherwise(self, identity: Identity) -> bool:
        """Whether rights have changed since: what he has is too much, or too little."""
        if self._sight is not None and self._sight.reach == _reach(identity):
            return False
        self._sight = _Sight(identity, self._rows.root)
        saw, self._saw = self._saw, self._sight.name
        return saw != self._saw

    def _next(self, identity: Identity) -> list[str] | None:
        """None if some of it is forgotten."""
        while (some := self._changes.after(self.place, _LOOKED_AT)) is not None:
            mine, texts, size = self._mine(some), list[str](), 0
            for change in mine:
                texts.append(self._text(change, identity))
                self._place, size = change.seq, size + len(texts[-1])
                if len(texts) == _AT_ONCE or size >= _LONG:
                    return texts
            self._place = some[-1].seq if some else self._place
            if texts or not some:
                return texts
        return None

    def _mine(self, changes: list[Change]) -> list[Change]:
        assert self._sight is not None  # noqa: S101 - `read` sees to it
        mine, kinds = self._sight.among(changes), self._kinds
        return [change for change in mine if change.kind in kinds]

    def _text(self, change: Change, identity: Identity) -> str:
        row = self._rows.of(change, identity)
        what = What.REMOVED if row == _GONE else change.what
        name, at = _in_json(change.name), _instant(change.at_ns)
        data = f'{{"what": "{what}", "name": {name}, "at": "{at}", "row": {row}}}'
        return written(Event(self._marked(change.seq), change.kind, data))
