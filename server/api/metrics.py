"""The HTTP API: what Prometheus asks for."""

import asyncio
import os
from collections.abc import Callable

from fastapi import FastAPI, Response

from server.api.document import said_in
from server.api.rights import RootViewer
from server.app import Control
from server.lag import LoopLag
from server.metrics import CONTENT_TYPE, ControlFigures, Figures, exposition
from server.usage import station_use


def add_metrics(api: FastAPI, control: Control, handshakes: Callable[[], int]) -> None:
    """`handshakes` says how many connections are not through TLS."""
    # How late the loop is is counted from the first look on: nobody pays who does not look.
    lags: list[LoopLag] = []

    @api.get("/metrics", response_class=Response, responses=said_in("text/plain"))
    async def metrics(asker: RootViewer) -> Response:  # noqa: ARG001 - it states the right
        """Every queue, lateness, packets, drops and sessions, in Prometheus' text format."""
        if not lags:
            lags.append(LoopLag(asyncio.get_running_loop()))
        return Response(exposition(_figures(control, handshakes(), lags[0])), headers=_HEADERS)


_HEADERS = {"Content-Type": CONTENT_TYPE}


def _figures(control: Control, handshakes: int, lag: LoopLag) -> Figures:
    neighbours = control.neighbours
    return Figures(
        _control(control, handshakes, lag),
        neighbours.sender_reports,
        neighbours.usher_report,
        neighbours.gateway_report,
        neighbours.producer_report,
        station_use(os.getppid()),
    )


def _control(control: Control, handshakes: int, lag: LoopLag) -> ControlFigures:
    summary, station = control.queries.summary(), control.station
    here = [speaker for speaker in station.speakers.values() if speaker.session is not None]
    return ControlFigures(
        name=control.name,
        registered=summary["speakers"],
        enrolled=station.directory.enrolled,
        online=summary["online"],
        faulty=sum(s.telemetry is not None and s.telemetry.fault != "" for s in here),
        zones=summary["zones"],
        programmes=summary["programmes"],
        sessions=len(here),
        joins=control.sessions.joins,
        handshakes=handshakes,
        queue=control.keeper_queue(),
        lag=lag.counts,
        lag_s=lag.total_s,
        steps=control.queries.steps(),
    )
