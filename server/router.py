"""Where each programme's streams go: the one declaration that all read who forward them. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from server.directory import Directory, Endpoint
from server.processes.routing import Route, Routes, pack_destination
from server.programmes import Programme, clear_port
from server.speakers import Speaker
from server.ways import Order, Places, Ways

Audience = frozenset[str]
Describe = Callable[[Programme], str | None]
"""The SDP of a programme's twin in clear; None if it has none."""
# Instead of the number of a stream: who hears the group, sealed or in clear.
_BY_GROUP, _IN_CLEAR = -1, -2


class Router:
    """Routes of all that is on air. What has not changed is not found out again."""

    def __init__(self, directory: Directory, group_port: int) -> None:
        self._directory = directory
        self._group_port = group_port
        self._ways = Ways()
        self._paths: dict[str, _Paths] = {}
        self._former: dict[int, list[int]] = {}

    def put(self, speaker: Speaker) -> None:
        """A registered loudspeaker's way is so now."""
        self._ways.put(speaker, self._directory.endpoints[speaker.name])

    def close(self, name: str) -> None:
        """A loudspeaker has no way any more."""
        self._ways.close(name)

    def resume(self, former: Routes) -> None:
        """Keep to the order of these, which another control declared before it died."""
        places = self._ways.places_of_rows()
        self._former = {
            route.stream: [places[row] for row in route.split() if row in places]
            for route in former.routes
        }

    def routes(
        self, programmes: Iterable[tuple[Programme, Audience]], describe: Describe
    ) -> Iterator[Route]:
        """Every stream of these, which have begun; nobody's else is remembered."""
        self._ways.follow(self._directory.take_changed(), self._directory.endpoints)
        paths = {p.name: (self._paths_of(p), audience) for p, audience in programmes}
        self._paths = {name: path for name, (path, _) in paths.items()}
        self._former = {}
        for path, audience in paths.values():
            yield from path.routes(audience, describe)

    def uses_group(self, programme: Programme, audience: Audience) -> bool:
        """Whether a programme, sealed, goes to its group."""
        self._ways.follow(self._directory.take_changed(), self._directory.endpoints)
        return self._paths_of(programme).uses_group(audience)

    def _paths_of(self, programme: Programme) -> "_Paths":
        known = self._paths.get(programme.name)
        if known is not None:
            return known
        return _Paths(programme, self._directory, self._ways, self._group_port, self._former)


class _Paths:
    """Where one programme's streams go."""

    def __init__(
        self,
        programme: Programme,
        directory: Directory,
        ways: Ways,
        group_port: int,
        former: Mapping[int, list[int]],
    ) -> None:
        self._programme = programme
        self._streams = programme.streams
        self._directory = directory
        self._ways = ways
        self._port = group_port
        self._orders = [Order(former.get(s.stream, ())) for s in self._streams]
        self._audience: Audience = frozenset()
        self._places: Places = np.empty(0, np.intp)
        # By kind.
        self._hears = np.empty(0, np.int8)

    def routes(self, audience: Audience, describe: Describe) -> Iterator[Route]:
        """Of its streams, and of its twin in clear."""
        hears, ways = self._look(audience), self._ways
        for n, stream in enumerate(self._streams):
            apart = self._places[hears == n]
            direct = self._orders[n].follow(apart[ways.direct[apart]], len(ways))
            destinations = ways.rows[direct].tobytes()
            if n == 0 and _BY_GROUP in hears:
                destinations = self._group_row(self._port) + destinations
            relays = ways.relays[apart]
            sessions = np.sort(relays[relays != 0]).astype(">u8").tobytes()
            yield Route(stream.stream, stream.frame_ms, destinations, sessions)
        first, group = self._streams[0], self._programme.group
        if first.clear is not None:
            to = self._group_row(clear_port(self._port))
            sdp = describe(self._programme)
            yield Route(first.clear, first.frame_ms, to, announce=sdp, group=group)

    def uses_group(self, audience: Audience) -> bool:
        """Whether anybody hears it there who does not hear it in clear."""
        return _BY_GROUP in self._look(audience)

    def _group_row(self, port: int) -> bytes:
        # Unicast carries RTP and RTCP on one port (RFC 5761); a stock player of a group does not.
        return pack_destination(self._programme.group, port, port + 1)

    def _look(self, audience: Audience) -> NDArray[np.int8]:
        """Which stream each of the audience hears, in the order of `_places`."""
        if audience is not self._audience:
            self._audience = audience
            self._places = self._ways.places(audience, self._directory.endpoints)
        kinds = self._ways.kinds
        if len(self._hears) < len(kinds):
            self._hears = np.array([self._hearing(kind) for kind in kinds], np.int8)
        hears: NDArray[np.int8] = self._hears[self._ways.kind_at[self._places]]
        return hears

    def _hearing(self, kind: Endpoint) -> int:
        programme = self._programme
        if programme.by_group(kind):
            return _IN_CLEAR if programme.in_clear(kind) else _BY_GROUP
        # By number: what else is said of a stream may change.
        hears = programme.stream_for(kind).stream
        return next(n for n, stream in enumerate(self._streams) if stream.stream == hears)
