"""The HTTP API: what everybody sees, and how somebody speaks."""

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import FastAPI, Path, Response

from server.api.answers import (
    EndedAnswer,
    FoundAnswer,
    KeyAnswer,
    PastAnswer,
    ProgrammeAnswer,
    StationAnswer,
    TicketAnswer,
)
from server.api.audit import Watch, add_audit
from server.api.bodies import LiveBody, Name, StopBody
from server.api.directory import add_directory
from server.api.docs import add_docs
from server.api.document import DocumentedAPI, said_in
from server.api.enrolment import add_enrolment
from server.api.errors import BodyLimit, add_errors
from server.api.events import add_events
from server.api.idempotency import Idempotency
from server.api.login import add_login
from server.api.loudspeakers import add_loudspeakers
from server.api.metrics import add_metrics
from server.api.pages import Paged, Within
from server.api.rights import OPEN, Speaker, Stopper, Viewer, check_stated, units_of
from server.api.seen import Seen
from server.api.users import add_users
from server.app import Control
from server.audit.row import instant
from server.keys.access import AccessCheck
from server.programmes import Programme
from server.rights.speaking import deed_of
from server.rights.table import Deed, may
from server.station import Station
from server.store.records import ProgrammeRecord
from server.views import key_row
from transport.clock.timeline import NS_PER_SECOND
from transport.control.messages import spelt_alike


def build_api(control: Control, handshakes: Callable[[], int] = lambda: 0) -> FastAPI:
    """The application, bound to one station.

    `handshakes` says how many connections are not through TLS, for whoever watches.
    """
    api = DocumentedAPI(
        title="Loa",
        version=version("loa"),
        docs_url=None,
        openapi_url="/api/v1/openapi.json",
        redoc_url=None,
        redirect_slashes=False,
    )
    api.add_middleware(Idempotency)
    api.add_middleware(BodyLimit)
    # The outer one: of a stranger's body not even the first byte is read.
    api.add_middleware(AccessCheck, access=control.access)
    # The outermost: what is refused is written down, also of whoever has no token.
    api.add_middleware(Watch, recorder=control.audit.recorder)
    add_errors(api)
    _add_station(api, control)
    _add_programmes(api, control)
    _add_past(api, control)
    _add_ends(api, control)
    add_loudspeakers(api, control)
    add_enrolment(api, control)
    add_directory(api, control)
    add_audit(api, control)
    add_metrics(api, control, handshakes)
    add_events(api, control)
    add_login(api, control)
    add_users(api, control)
    add_docs(api)
    check_stated(api)
    return api


def _sounding_at(station: Station, programme: Programme) -> set[str]:
    """The units in which a programme is heard; where nobody hears it, those where it might be."""
    return units_of(station, station.audience(programme)) or set(programme.reach)


def _add_station(api: FastAPI, control: Control) -> None:
    @api.get("/api/v1/station", response_model=StationAnswer)
    async def station(asker: Viewer) -> dict[str, Any]:
        """Where the station's other ports are, and how its processes do."""
        return control.queries.summary(Seen(asker, control.station))

    @api.get("/api/v1/found", response_model=list[FoundAnswer])
    async def found(asker: Viewer, page: Paged) -> list[dict[str, Any]]:
        """Loudspeakers that mDNS has found, joined or not.

        Those that are no unit's yet are for who may enrol.
        """
        seen = Seen(asker, control.station)
        strangers = seen.whole or bool(asker.reach(Deed.ENROL))
        rows = (
            row
            for row in control.queries.found()
            if (row["name"] in seen.names if row["registered"] else strangers)
        )
        return page.rows(rows, lambda row: str(row["name"]))


def _add_programmes(api: FastAPI, control: Control) -> None:
    @api.post("/api/v1/live", response_model=TicketAnswer, status_code=201)
    async def live(body: LiveBody, asker: Speaker) -> dict[str, Any]:
        """Grant a ticket to speak."""
        return await control.open_live(body.request(), asker)

    @api.get(
        "/api/v1/programmes",
        response_model=list[ProgrammeAnswer],
    )
    async def programmes(asker: Viewer, page: Paged) -> list[dict[str, Any]]:
        """What is on air."""
        on_air = control.station.programmes
        rows = Seen(asker, control.station).programmes(control.queries.programmes())
        return page.numbered(rows, lambda row: on_air[row["name"]].number)

    @api.get("/api/v1/programmes/{name}/key", response_model=KeyAnswer)
    async def key(name: Name, asker: Speaker) -> dict[str, Any]:
        """What opens a programme's sound now, for a stock player; it changes with the epoch.

        It is for who may speak to all of its loudspeakers: with it one could.
        """
        programme = control.station.programme(name)
        asker.check(deed_of(programme.priority), _sounding_at(control.station, programme))
        return key_row(control.station, programme)

    @api.get(
        "/programmes/{name}.sdp",
        dependencies=[OPEN],
        response_class=Response,
        responses=said_in("application/sdp"),
    )
    async def description(name: Annotated[str, Path(max_length=64)]) -> Response:
        """What of a programme goes out in clear, in SDP, for stock players."""
        return Response(control.queries.description(name), media_type="application/sdp")


def _add_past(api: FastAPI, control: Control) -> None:
    @api.get("/api/v1/programmes/past", response_model=list[PastAnswer])
    async def past(
        asker: Viewer, page: Paged, when: Within, zone: Name | None = None
    ) -> list[dict[str, Any]]:
        """What has been on air, newest first: all, or what began then, or was to this zone."""
        seen = Seen(asker, control.station)
        zone = None if zone is None else spelt_alike(zone)

        def wanted(record: ProgrammeRecord) -> ProgrammeRecord | None:
            if not when.holds(instant(record.began_at * NS_PER_SECOND)):
                return None
            found = seen.past(record)
            if found is None or zone is None or zone in found.request.get("zones", ()):
                return found
            return None

        naming = seen.named if zone is None else {zone}
        read = partial(control.queries.past_programmes, naming=naming)
        found = await page.sifted(read, lambda record: record.number, wanted)
        return list(map(asdict, found))


def _add_ends(api: FastAPI, control: Control) -> None:
    @api.delete("/api/v1/programmes/{name}", response_model=EndedAnswer)
    async def end(name: Name, asker: Stopper) -> dict[str, Any]:
        """End one programme, everywhere at the same moment."""
        programme = control.station.programme(name)
        asker.check(Deed.STOP, _sounding_at(control.station, programme))
        return {"ended": control.stop([name], "it was stopped")}

    @api.post("/api/v1/stop", response_model=EndedAnswer)
    async def stop(body: StopBody, asker: Stopper) -> dict[str, Any]:
        """End programmes; if none is named, all that you may end."""
        station = control.station
        chosen = [station.programme(name) for name in body.programmes]
        for programme in chosen:
            asker.check(Deed.STOP, _sounding_at(station, programme))
        mine = chosen or [
            programme
            for programme in station.programmes.values()
            if may(asker.grants, Deed.STOP, _sounding_at(station, programme))
        ]
        # Of none, `stop` would end them all.
        ended = control.stop([p.name for p in mine], "it was stopped") if mine else []
        return {"ended": ended}
