"""A station without sockets or clocks, and what is asked of it."""

import hashlib
import itertools
from dataclasses import replace
from typing import Any

from server.directory import Directory, Endpoint
from server.keys.certifier import Certifier
from server.processes.bus import (
    EpochReport,
    ProducerReport,
    ProgrammeReport,
    StreamOrder,
    StreamReport,
)
from server.processes.routing import Route, unpack_destinations
from server.programmes import LiveRequest, Programme
from server.station import Station
from server.zones.definition import EVERYBODY, parse
from transport.control.messages import VERSION, Hello, Listen, StreamSpec
from transport.security.keys import SigningKey

S = 1_000_000_000
MS = 1_000_000
ROOT = "Tân Phú"
TO_ALL = LiveRequest((EVERYBODY,))
KEY = SigningKey(bytes(range(32)))
GENERATION = 5
CERTIFIER = Certifier(KEY, GENERATION)
# What the fake producer's SSRCs and keys are told apart by.
_EPOCH_SSRCS = 1 << 20
_sessions = itertools.count(1)


def a_station(groups: str = "239.192.76.0/24", boot: int = 1) -> Station:
    tickets = (f"ticket-{n}" for n in itertools.count(1))
    return Station(groups, 5004, lambda: next(tickets), 3, Directory(ROOT), boot=boot)


def remembered(station: Station, boot: int = 2) -> Station:
    """The station born again: with what the store has, and the memory that the notebook keeps."""
    other = a_station(boot=boot)
    other.directory.units |= station.directory.units
    for endpoint in station.directory.endpoints.values():
        other.directory.put_endpoint(endpoint)
    other.zones.restore(station.zones.definitions, station.zones.clear)
    other.restore(station.to_record())
    return other


def join(
    station: Station,
    name: str,
    *,
    multicast: bool = False,
    address: str = "192.0.2.1",
    port: int | None = 50_000,
    delivery: str = "lan",
    now_ns: int = 0,
) -> object:
    """A loudspeaker joins, and opens a path from `port`; the session it holds its name with.

    It is enrolled before, if it is not yet.
    """
    session, number = object(), next(_sessions)
    key = key_of_name(name)
    known = station.directory.endpoints.get(name) or Endpoint(name, station.directory.root)
    station.enrol(replace(known, key=key))
    hello = Hello(VERSION, name, multicast, key, bytes(32), delivery)
    station.join(hello, address, session, now_ns, number)
    if port is not None:
        station.opened(number, address, port)
    return session


def seed_of_name(name: str) -> bytes:
    """What a loudspeaker of that name has drawn."""
    return hashlib.sha256(name.encode()).digest()


def signer_of_name(name: str) -> SigningKey:
    """Its key."""
    return SigningKey(seed_of_name(name))


def key_of_name(name: str) -> bytes:
    """Its public key."""
    return signer_of_name(name).public


def put_zone(station: Station, name: str, definition: dict[str, Any]) -> None:
    station.zones.put(name, parse(definition), station.directory)


def epochs_of(ssrc: int, *numbers: int) -> tuple[EpochReport, ...]:
    """Epochs of the stream that is known by this SSRC, which is that of its epoch 0."""
    return tuple(
        EpochReport(n, (ssrc + n * _EPOCH_SSRCS) % (1 << 32), b"%020d%08d" % (ssrc, n))
        for n in numbers
    )


def stream_report(order: StreamOrder, ssrc: int, offset: int = 9) -> StreamReport:
    """What a producer draws for a stream: all different where the SSRC is."""
    public = SigningKey(b"%032d" % ssrc).public
    clear = None if order.clear is None else ssrc ^ 1 << 31
    return StreamReport(order.stream, ssrc, offset, public, epochs_of(ssrc, 0, 1), clear)


def report_of(
    programme: Programme, state: str = "live", ssrc: int | None = None, offset: int = 9
) -> ProducerReport:
    """The producer's word; the first stream has this SSRC or one of its own, the next two more."""
    if ssrc is None:
        ssrc = 100 * programme.number
    streams = tuple(
        stream_report(order, ssrc + 2 * n, offset) for n, order in enumerate(programme.streams)
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


def listen(station: Station, speaker: str) -> Listen:
    """All that a loudspeaker listens to."""
    return station.listen(speaker, 1, CERTIFIER.certificate)


def names(station: Station, speaker: str) -> list[str]:
    """The programmes that a loudspeaker listens to."""
    return [spec.programme for spec in listen(station, speaker).streams]


def spec_of(station: Station, speaker: str) -> StreamSpec:
    """The one stream that a loudspeaker listens to."""
    (spec,) = listen(station, speaker).streams
    return spec


def routes(station: Station) -> dict[int, Route]:
    """What the sender shall forward, by stream."""
    declared = station.routes(lambda programme: f"SDP of {programme.name}")
    return {route.stream: route for route in declared}


def sent_to(station: Station, programme: Programme) -> dict[float, set[tuple[str, int, int]]]:
    """Where each encoding of a programme goes, by the length of its frames.

    Each is an address, the port of RTP and that of RTCP.
    """
    declared = routes(station)
    return {
        order.frame_ms: set(unpack_destinations(declared[order.stream].destinations))
        for order in programme.streams
    }
