"""Which copies the packets of each stream carry: by who hears it, and by how they fare. Pure.

`transport.recovery.policy` chooses; here is found out for whom. Nine in ten of those who hear a
stream shall be served by its copies. To whom more is lost, repairs are sent alone.
"""

import math
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from server.directory import Endpoint
from server.processes.bus import StreamOrder
from server.programmes import Programme
from server.speakers import Speaker
from transport.control.messages import Telemetry
from transport.recovery.erasure import Code
from transport.recovery.policy import LossWatch, code_for, copies_for
from transport.recovery.report import LossSummary

Copies = tuple[tuple[int, ...], ...]
"""Of each encoding of a programme; see `StreamOrder.copies`."""
Audience = frozenset[str]
_Along = tuple[tuple[int, ...], Code | None]

# So often is enough where loudspeakers tell how they fare twice a second at most.
ADAPT_S = 2.0
_SERVED = 0.9
_SAVER = "saver"


@dataclass(slots=True)
class _Hearers:
    """Who hears a stream, as far as its copies depend on them: some by their group, and how."""

    multicast: bool = False
    delivery: str = _SAVER

    def add(self, endpoint: Endpoint, *, by_group: bool) -> None:
        """One more, or one more like it. Whoever is not metered decides for those who are."""
        self.multicast |= by_group
        if endpoint.delivery != _SAVER:
            self.delivery = endpoint.delivery

    def needs(self, programme: Programme, stream: StreamOrder, watch: LossWatch) -> _Along:
        """What such hearers need, who have told this: copies, and what is better if there is."""
        way = self.delivery, stream.frame_ms, programme.plan.playout_delay_ms, watch.worst
        copies = copies_for(*way, multicast=self.multicast, settled=watch.settled)
        return copies, code_for(*way, multicast=self.multicast)


def first_copies(programme: Programme, endpoints: Iterable[Endpoint]) -> Copies:
    """Before anybody has told how it fares; `endpoints` are those whom it is meant for."""
    on_air = _OnAir(programme)
    on_air.meet(endpoints)
    return tuple(copies for copies, _ in on_air.along({s.stream for s in programme.streams}))


class Recovery:
    """Adapts what is on air to what loudspeakers tell; one object for a life of control."""

    def __init__(self) -> None:
        self._on_air: dict[str, _OnAir] = {}
        self._looked_ns = 0

    def adapt(
        self,
        programmes: Iterable[tuple[Programme, Audience]],
        speakers: Iterable[Speaker],
        endpoints: Mapping[str, Endpoint],
        now_ns: int,
    ) -> bool:
        """Have these carry what their loudspeakers need; true if the producer must be told.

        Called every `ADAPT_S`. What counts is what was told since the last call: of thousands,
        who tell seldom, those are some hundreds. Nothing is changed where nobody tells anything.
        """
        former, self._on_air = self._on_air, {}
        for programme, audience in programmes:
            if programme.ended_at_ns is None:
                on_air = former.get(programme.name) or _OnAir(programme)
                on_air.follow(audience, endpoints)
                self._on_air[programme.name] = on_air
        since_ns, self._looked_ns = self._looked_ns, now_ns
        for speaker in speakers:
            if speaker.last_seen_ns >= since_ns:
                self._hear(speaker, endpoints)
        changed = [on_air.adapt(now_ns) for on_air in self._on_air.values()]
        return any(changed)

    def _hear(self, speaker: Speaker, endpoints: Mapping[str, Endpoint]) -> None:
        telemetry = speaker.telemetry
        if telemetry is None or not telemetry.hearing or speaker.session is None:
            return
        on_air, endpoint = self._on_air.get(telemetry.hearing), endpoints.get(speaker.name)
        if on_air is not None and endpoint is not None:
            on_air.hear(endpoint, telemetry)


class _OnAir:
    """One programme: who hears each of its streams, and what they have told."""

    def __init__(self, programme: Programme) -> None:
        self._programme = programme
        self._audience: Audience | None = None
        self._watches = {stream.stream: LossWatch() for stream in programme.streams}
        self._hearers = {stream.stream: _Hearers() for stream in programme.streams}
        # Which stream is heard, by kind of loudspeaker; of the twin in clear, which has no copies,
        # none.
        self._heard: dict[object, int | None] = {}
        self._told: defaultdict[int, list[tuple[float, ...]]] = defaultdict(list)

    def follow(self, audience: Audience, endpoints: Mapping[str, Endpoint]) -> None:
        """It is meant for these now."""
        if audience is not self._audience:
            self._audience = audience
            self._heard.clear()
            self._hearers = {stream: _Hearers() for stream in self._hearers}
            self.meet(endpoints[name] for name in audience)

    def meet(self, endpoints: Iterable[Endpoint]) -> None:
        """It is meant for these too; whoever is not enrolled hears nothing."""
        kinds = {endpoint.kind: endpoint for endpoint in endpoints if endpoint.key is not None}
        for endpoint in kinds.values():
            self._stream_of(endpoint)

    def hear(self, endpoint: Endpoint, telemetry: Telemetry) -> None:
        """A loudspeaker that hears it says how it fares."""
        stream = self._stream_of(endpoint)
        if stream is not None:
            way = telemetry.loss, telemetry.longest_burst_ms, telemetry.jitter_ms
            margin_ms = math.inf if telemetry.margin_ms is None else telemetry.margin_ms
            self._told[stream].append((*way, -margin_ms))

    def _stream_of(self, endpoint: Endpoint) -> int | None:
        kind = endpoint.kind
        if kind not in self._heard:
            self._heard[kind] = self._find_stream(endpoint)
        return self._heard[kind]

    def _find_stream(self, endpoint: Endpoint) -> int | None:
        programme = self._programme
        if programme.in_clear(endpoint):
            return None
        stream = programme.stream_for(endpoint).stream
        self._hearers[stream].add(endpoint, by_group=programme.by_group(endpoint))
        return stream

    def adapt(self, now_ns: int) -> bool:
        """Use what was told since the last call; true if it carries other copies now."""
        for stream, told in self._told.items():
            self._watches[stream].hear(_summary(told), now_ns)
        programme = self._programme
        before = programme.streams
        along = self.along(self._told)
        programme.copies = tuple(copies for copies, _ in along)
        programme.codes = tuple(code for _, code in along)
        self._told.clear()
        return programme.streams != before

    def along(self, streams: Container[int]) -> list[_Along]:
        """What these need, as far as anybody knows, and of the others what they carry now."""
        return [
            self._hearers[stream.stream].needs(
                self._programme, stream, self._watches[stream.stream]
            )
            if stream.stream in streams
            else (stream.copies, stream.code)
            for stream in self._programme.streams
        ]


def _summary(told: list[tuple[float, ...]]) -> LossSummary:
    """What nine in ten of these fare no worse than, in each respect."""
    figures = np.array(told)
    rank = math.ceil(_SERVED * len(told)) - 1
    loss, burst_ms, jitter_ms, late_ms = np.partition(figures, rank, axis=0)[rank].tolist()
    margin_ms = None if math.isinf(late_ms) else -late_ms
    return LossSummary(loss, burst_ms, jitter_ms, margin_ms)
