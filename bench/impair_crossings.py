"""Both directions of every client's path through `loa impair`: pure, on the caller's time."""

import heapq
import math
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bench.impair_record import Parcel, Recorder, Recording
from bench.network import MS, Link, Profile

MAX_CLIENTS = 256
_MOST_IN_FLIGHT = 10_000  # of each direction: what 200 kB/s keep in flight for a minute
_COUNTS = ("sent", "duplicated", "delivered", "lost", "dropped", "in_flight")
_BINS_A_MS = 50


class Client(NamedTuple):
    """Who speaks to which of the proxy's ports."""

    port: int
    address: str
    source: int


class Due(NamedTuple):
    """A datagram that has come through: to the station if `up`, else to the client."""

    due_ns: int
    client: Client
    up: bool
    data: bytes


@dataclass(slots=True)
class _Way:
    """One direction, and for when its next datagram is on the agenda."""

    link: Link
    recording: Recording | None = None
    sent_ns: int = 0
    agreed_ns: int | None = None


class _Crossing(NamedTuple):
    down: _Way
    up: _Way


class Crossings:
    """Each client's pair of links, made when it is first heard of, and what is due on them.

    There are at most `most`; of whoever has been silent for longest, `make_room` says that it has
    to go. The n-th client of a port has the same weather whenever the seed is the same; ports are
    told from each other by how far above `first_port` they are. A `recorder` is told what became
    of every datagram.
    """

    def __init__(
        self,
        profile: Profile,
        seed: int,
        first_port: int = 0,
        most: int = MAX_CLIENTS,
        recorder: Recorder | None = None,
    ) -> None:
        self._profile, self._most, self._recorder = profile, most, recorder
        self._seed, self._first_port = seed, first_port
        self._crossings: OrderedDict[Client, _Crossing] = OrderedDict()
        self._seen: Counter[int] = Counter()
        # (when, a serial, whose, which way); what belongs to nobody any more is passed over.
        self._agenda: list[tuple[int, int, Client, bool]] = []
        self._serial = 0
        self._gone: dict[tuple[int, str], Counter[str]] = {}
        self.late = Lateness()

    def __contains__(self, client: Client) -> bool:
        return client in self._crossings

    def __len__(self) -> int:
        return len(self._crossings)

    def send(self, client: Client, data: bytes, now_ns: int, *, up: bool) -> None:
        """Put a datagram on its way that came at `now_ns`, or with the one before if that is later.

        Stamps and clocks that disagree by a little may seem to go back.
        """
        crossing = self._crossings.get(client) or self._open(client)
        if up:
            self._crossings.move_to_end(client)
        way = crossing.up if up else crossing.down
        way.sent_ns = max(way.sent_ns, now_ns)
        self._put(way, data)
        self._agree(client, way, up=up)

    def _put(self, way: _Way, data: bytes) -> None:
        if self._recorder is None or way.recording is None or not self._recorder.has_room():
            way.link.send(data, way.sent_ns)
            return
        parcel, before = way.recording.parcel(data, way.sent_ns), way.link.in_flight
        way.link.send(parcel, way.sent_ns)
        if way.link.in_flight > before:
            way.recording.sent(parcel)

    def _agree(self, client: Client, way: _Way, *, up: bool) -> None:
        """See to it that the agenda has what comes next."""
        due_ns = way.link.next_due_ns()
        if due_ns is not None and (way.agreed_ns is None or due_ns < way.agreed_ns):
            way.agreed_ns = due_ns
            self._serial += 1
            heapq.heappush(self._agenda, (due_ns, self._serial, client, up))

    def due(self, now_ns: int) -> list[Due]:
        """Take what has come through by now, in the order in which it did."""
        arrived: list[Due] = []
        while self._agenda and self._agenda[0][0] <= now_ns:
            agreed_ns, _, client, up = heapq.heappop(self._agenda)
            crossing = self._crossings.get(client)
            if crossing is None:
                continue
            way = crossing.up if up else crossing.down
            if way.agreed_ns != agreed_ns:
                continue  # something overtook it, and took it along
            arrived += [Due(at_ns, client, up, data) for at_ns, data in way.link.due(now_ns)]
            way.agreed_ns = None
            self._agree(client, way, up=up)
        arrived.sort(key=lambda due: due.due_ns)
        for due in arrived:
            self.late.add(now_ns - due.due_ns)
        return arrived

    def handed_on(self, due: Due, now_ns: int) -> None:
        """It has left: to be called of each while its client is here, if that is recorded."""
        crossing = self._crossings.get(due.client)
        if crossing is not None and isinstance(due.data, Parcel):
            recording = crossing.up.recording if due.up else crossing.down.recording
            if recording is not None:
                recording.handed_on(due.data, now_ns)

    def next_due_ns(self) -> int | None:
        """When to call `due` next; None while nothing is on its way."""
        return self._agenda[0][0] if self._agenda else None

    def make_room(self) -> list[Client]:
        """Forget whoever was silent for longest, so that one more can come; who has to go."""
        gone = []
        while len(self._crossings) >= self._most:
            client, crossing = self._crossings.popitem(last=False)
            for name, way in crossing._asdict().items():
                counts = Counter(_counts(way.link))
                counts["dropped"] += counts.pop("in_flight")  # there is nobody to hand it to
                self._gone.setdefault((client.port, name), Counter()).update(counts)
            gone.append(client)
        return gone

    def figures(self) -> dict[str, Any]:
        """By port: how many clients there have been, and each direction's counts."""
        counts = {key: Counter(counter) for key, counter in self._gone.items()}
        for client, crossing in self._crossings.items():
            for name, way in crossing._asdict().items():
                counts.setdefault((client.port, name), Counter()).update(_counts(way.link))
        return {
            str(port): {"clients": seen}
            | {way: {n: counts[port, way][n] for n in _COUNTS} for way in _Crossing._fields}
            for port, seen in sorted(self._seen.items())
        }

    def _open(self, client: Client) -> _Crossing:
        step = client.port - self._first_port
        rng = np.random.default_rng((self._seed, step, self._seen[client.port]))
        self._seen[client.port] += 1
        down, up = self._profile.links(rng, _MOST_IN_FLIGHT)
        crossing = _Crossing(_Way(down), _Way(up))
        if self._recorder is not None:
            for name, way in crossing._asdict().items():
                way.recording = self._recorder.open(client.port, self._seen[client.port], name)
        self._crossings[client] = crossing
        return crossing


def _counts(link: Link) -> dict[str, int]:
    return {name: getattr(link, name) for name in _COUNTS}


class Lateness:
    """How much later than due packets have left: what the proxy adds, which is not the model's."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.max_ns = 0

    def add(self, late_ns: int) -> None:
        """One packet."""
        self._counts[late_ns * _BINS_A_MS // MS] += 1
        self.max_ns = max(self.max_ns, late_ns)

    def percentile_ms(self, percent: float) -> float:
        """To 0.02 ms, upwards; 0 while there was none."""
        left = math.ceil(self._counts.total() * percent / 100)
        for number in sorted(self._counts):
            left -= self._counts[number]
            if left <= 0:
                return (number + 1) / _BINS_A_MS
        return 0.0
