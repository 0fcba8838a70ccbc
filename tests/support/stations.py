"""A station without sockets or clocks, and what is asked of it."""

import itertools
from typing import Any

from server.bus import (
    Destination,
    ProducerReport,
    ProgrammeReport,
    Route,
    StreamReport,
    unpack_destinations,
)
from server.directory import Directory
from server.programmes import LiveRequest, Programme
from server.station import Station
from server.zones.definition import EVERYBODY, parse
from transport.control.messages import Hello, StreamSpec

S = 1_000_000_000
MS = 1_000_000
ROOT = "Tân Phú"
TO_ALL = LiveRequest((EVERYBODY,))


def a_station(groups: str = "239.192.76.0/24") -> Station:
    tickets = (f"ticket-{n}" for n in itertools.count(1))
    return Station(groups, 5004, lambda: next(tickets), 3, Directory(ROOT))


def join(
    station: Station,
    name: str,
    *,
    multicast: bool = False,
    address: str = "192.0.2.1",
    port: int = 50_000,
    delivery: str = "lan",
    now_ns: int = 0,
) -> object:
    """A loudspeaker joins; the session it holds its name with."""
    session = object()
    hello = Hello(1, name, multicast, port, delivery)
    station.join(hello, address, session, now_ns)
    return session


def put_zone(station: Station, name: str, definition: dict[str, Any]) -> None:
    station.zones.put(name, parse(definition), station.directory)


def report_of(
    programme: Programme, state: str = "live", ssrc: int | None = None, offset: int = 9
) -> ProducerReport:
    """The producer's word; the first stream has this SSRC, or one of its own, the next the next."""
    if ssrc is None:
        ssrc = 100 * programme.number
    streams = tuple(
        StreamReport(order.stream, ssrc + n, offset) for n, order in enumerate(programme.streams)
    )
    item = ProgrammeReport(programme.name, state, -20.0, 1.0, streams)
    return ProducerReport("life", (item,))


def on_air(
    station: Station, request: LiveRequest = TO_ALL, *, ssrc: int | None = None, now_ns: int = 0
) -> Programme:
    """A programme that the producer has begun."""
    programme = station.open(request, now_ns)
    station.update(report_of(programme, ssrc=ssrc), now_ns)
    return programme


def names(station: Station, speaker: str) -> list[str]:
    """The programmes that a loudspeaker listens to."""
    return [spec.programme for spec in station.listen(speaker, 1).streams]


def spec_of(station: Station, speaker: str) -> StreamSpec:
    """The one stream that a loudspeaker listens to."""
    (spec,) = station.listen(speaker, 1).streams
    return spec


def routes(station: Station) -> dict[int, Route]:
    """What the sender shall forward, by stream."""
    declared = station.routes(lambda programme: f"SDP of {programme.name}")
    return {route.stream: route for route in declared.routes}


def sent_to(station: Station, programme: Programme) -> dict[float, set[Destination]]:
    """Where each encoding of a programme goes, by the length of its frames."""
    declared = routes(station)
    return {
        order.frame_ms: set(unpack_destinations(declared[order.stream].destinations))
        for order in programme.streams
    }
