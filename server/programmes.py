"""A programme from its ticket to its end: what was asked for, and what follows for one listener."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from server.directory import Endpoint
from server.encoding import check_playout_delay, encoder_settings
from server.errors import StationError
from server.processes.bus import (
    EpochReport,
    ProgrammeOrder,
    ProgrammeReport,
    StreamOrder,
    StreamReport,
)
from transport.control.delivery import DELIVERIES
from transport.control.messages import EpochSpec, SealSpec, StreamSpec
from transport.control.priority import Priority
from transport.recovery.erasure import Code
from transport.session.sender import OPUS_PAYLOAD_TYPE

# Numbers for so many encodings of one programme are kept apart; the last is of the twin in clear.
_STREAMS_EACH = 8
_CLEAR = _STREAMS_EACH - 1
# So that a stream's number below and the station's start above make a serial number.
_STREAM_BITS = 32
# A ticket nobody speaks on is taken back.
_UNUSED_TICKET_NS = 15_000_000_000

Certify = Callable[[StreamOrder, StreamReport, int, bool], bytes]
"""A stream's certificate: of its order, its key, its highest priority, and whether it is a test."""


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A voice that wants to speak, to loudspeakers by name and to whole zones.

    Without `frame_ms` and `playout_delay_ms` the listeners' networks decide. `test` is said by its
    certificate, so that what is no real announcement can never pass for one. Raises ValueError, in
    one line for a person, rather than ask for what could never sound.
    """

    to: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    priority: int = Priority.LIVE
    bitrate: int = 24_000
    frame_ms: float | None = None
    complexity: int = 9
    dtx: bool = False
    inband_fec: bool = False
    expected_loss_percent: int = 0
    playout_delay_ms: float | None = None
    test: bool = False

    def __post_init__(self) -> None:
        Priority(self.priority)
        if self.frame_ms is not None:
            self.check(self.frame_ms, self.playout_delay_ms)

    def check(self, frame_ms: float, playout_delay_ms: float | None) -> None:
        """ValueError if no loudspeaker could be given this in time."""
        settings = encoder_settings(self, frame_ms)
        if playout_delay_ms is not None:
            check_playout_delay(playout_delay_ms, settings)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a programme's listeners make of it, fixed when it starts.

    One encoding for each length of frame that their networks ask for, the shortest first; D is the
    largest that any of them asks for, unless the request names another. Who is offline counts; who
    is not enrolled, or no more, does not.
    `slowest_ms` is what the slowest listener may ask for and still be in step.
    """

    frames_ms: tuple[float, ...]
    playout_delay_ms: float
    slowest_ms: float

    @classmethod
    def of(cls, request: LiveRequest, deliveries: set[str]) -> "Plan":
        """StationError if the request cannot be met for these listeners."""
        kinds = [DELIVERIES[name] for name in deliveries] or [DELIVERIES["lan"]]
        asked = max(kind.playout_delay_ms for kind in kinds)
        delay = asked if request.playout_delay_ms is None else request.playout_delay_ms
        fixed = request.frame_ms
        frames = {kind.frame_ms if fixed is None else fixed for kind in kinds}
        try:
            for frame_ms in frames:
                request.check(frame_ms, delay)
        except ValueError as error:
            raise StationError(str(error)) from None
        return cls(tuple(sorted(frames)), delay, max(asked, delay))


@dataclass(slots=True)
class Programme:
    """A programme from its ticket to its end. It waits for its voice from `since_ns` on.

    `boot` is the start of the station at which it began, and `clear` whether it goes to a zone in
    clear as well; both stay as they were then. Whenever `rekey` rises its keys are changed.
    `copies` says for each encoding what its packets carry beside their own frame, and `codes` what
    instead; none before anybody has thought about it. `reach` is where whoever opened it may speak,
    by units: nobody outside ever hears it, whatever becomes of zones and loudspeakers. `opener` is
    the user who did, empty where it was the station's own machine, and `token` the number of his
    token, if he showed one.
    """

    name: str
    number: int
    ticket: str
    request: LiveRequest
    plan: Plan
    group: str
    since_ns: int
    boot: int = 0
    clear: bool = False
    rekey: int = 0
    copies: tuple[tuple[int, ...], ...] = ()
    codes: tuple[Code | None, ...] = ()
    report: ProgrammeReport | None = None
    ended_at_ns: int | None = None
    why_ended: str = "it was finished"
    reach: tuple[str, ...] = ()
    opener: str = ""
    token: str | None = None

    @property
    def priority(self) -> int:
        """As `priority.heard` wants it."""
        return self.request.priority

    @property
    def is_stations_own(self) -> bool:
        """Whether no user has opened it, whose rights could be withdrawn."""
        return not self.opener

    @property
    def order(self) -> int:
        """As `priority.heard` wants it: of equals the later is heard."""
        return self.number

    @property
    def is_live(self) -> bool:
        """Whether a voice is being heard on it, as far as the producer knows."""
        return self.report is not None and self.report.state == "live" and self.ended_at_ns is None

    @property
    def streams(self) -> tuple[StreamOrder, ...]:
        """Its encodings, by number; the first may have a twin in clear."""
        first = self.number * _STREAMS_EACH
        frames_ms = self.plan.frames_ms
        copies = self.copies or ((),) * len(frames_ms)
        codes = self.codes or (None,) * len(frames_ms)
        encodings = zip(frames_ms, copies, codes, strict=True)
        return tuple(
            StreamOrder(
                first + n,
                ms,
                serial=(self.boot << _STREAM_BITS) + first + n,
                clear=first + _CLEAR if self.clear and n == 0 else None,
                copies=offsets,
                code=code,
            )
            for n, (ms, offsets, code) in enumerate(encodings)
        )

    def numbers(self, stream: int) -> StreamReport | None:
        """What the producer drew for a stream; None before it has begun."""
        known = self.report.streams if self.report is not None else ()
        return next((numbers for numbers in known if numbers.stream == stream), None)

    def hear(self, report: ProgrammeReport, now_ns: int) -> bool:
        """The producer's word on it; true if anybody must be told."""
        before, self.report = self.report, report
        if before is None or _keys_of(before) != _keys_of(report):
            # Begun, or begun again by another producer: its voice has yet to come (back).
            self.since_ns = now_ns
        if report.state == "ended":
            self.ended_at_ns = now_ns
        return before is None or before.streams != report.streams or report.state == "ended"

    def is_over(self, now_ns: int) -> bool:
        """Whether it has been heard out, or nobody has spoken on its ticket for 15 s."""
        if self.ended_at_ns is not None:
            # A slower newcomer hears it later than the others.
            tail_ns = round((max(self.plan.slowest_ms, 1000.0) + 300) * 1e6)
            return now_ns - self.ended_at_ns > tail_ns
        waiting = self.report is None or self.report.state == "waiting"
        return waiting and now_ns - self.since_ns > _UNUSED_TICKET_NS

    def is_in_step(self, endpoint: Endpoint) -> bool:
        """Whether this loudspeaker's network is quick enough for D; if not it sounds later."""
        return endpoint.delivery not in self.too_slow

    @property
    def too_slow(self) -> set[str]:
        """The kinds of networks that ask for more than D."""
        slowest_ms = self.plan.slowest_ms
        return {name for name, d in DELIVERIES.items() if d.playout_delay_ms > slowest_ms}

    def stream_for(self, endpoint: Endpoint) -> StreamOrder:
        """The encoding for a loudspeaker: with the frames its network wants, or the nearest."""
        wanted = DELIVERIES[endpoint.delivery].frame_ms
        return min(self.streams, key=lambda stream: abs(stream.frame_ms - wanted))

    def by_group(self, endpoint: Endpoint) -> bool:
        """Whether a loudspeaker hears it from the group, which carries the shortest frames."""
        return endpoint.multicast and self.stream_for(endpoint) == self.streams[0]

    def in_clear(self, endpoint: Endpoint) -> bool:
        """Whether a loudspeaker hears the twin that nobody can authenticate."""
        return self.clear and endpoint.clear and self.by_group(endpoint)

    def spec(self, endpoint: Endpoint, group_port: int, certify: Certify) -> StreamSpec | None:
        """What a loudspeaker must know to play it; None before it has begun."""
        stream = self.stream_for(endpoint)
        numbers = self.numbers(stream.stream)
        if numbers is None:
            return None
        delay_ms = self.plan.playout_delay_ms
        if not self.is_in_step(endpoint):
            delay_ms = DELIVERIES[endpoint.delivery].playout_delay_ms
        by_group, clear_ssrc = self.by_group(endpoint), numbers.clear_ssrc
        ssrc, port, seal = numbers.ssrc, group_port, None
        if clear_ssrc is not None and self.in_clear(endpoint):
            ssrc, port = clear_ssrc, clear_port(group_port)
        else:
            certificate = certify(stream, numbers, self.priority, self.request.test)
            seal = SealSpec(certificate, tuple(map(_epoch_spec, numbers.epochs)))
        return StreamSpec(
            programme=self.name,
            order=self.order,
            ssrc=ssrc,
            payload_type=OPUS_PAYLOAD_TYPE,
            timestamp_offset=numbers.timestamp_offset,
            frame_ms=stream.frame_ms,
            inband_fec=self.request.inband_fec,
            playout_delay_ms=delay_ms,
            group=self.group if by_group else None,
            port=port if by_group else None,
            priority=self.priority,
            test=self.request.test,
            seal=seal,
        )

    def ordered(self) -> ProgrammeOrder:
        """What the producer shall encode."""
        request = self.request
        return ProgrammeOrder(
            programme=self.name,
            streams=self.streams,
            ticket=self.ticket,
            bitrate=request.bitrate,
            complexity=request.complexity,
            dtx=request.dtx,
            inband_fec=request.inband_fec,
            expected_loss_percent=request.expected_loss_percent,
            rekey=self.rekey,
        )


def clear_port(group_port: int) -> int:
    """Where in the group the twin in clear is; its RTCP is on the next."""
    return group_port + 2


def _epoch_spec(epoch: EpochReport) -> EpochSpec:
    return EpochSpec(epoch.number, epoch.ssrc, epoch.key)


def _keys_of(report: ProgrammeReport) -> list[tuple[int, bytes]]:
    """What is drawn afresh whenever a stream begins, and at no other time."""
    return [(stream.stream, stream.public) for stream in report.streams]


def programme_of(row: Any) -> Programme:
    """A programme as `dataclasses.asdict` wrote it; TypeError, KeyError or ValueError otherwise."""
    request, plan, report = row["request"], row["plan"], row["report"]
    request |= {"to": tuple(request["to"]), "zones": tuple(request["zones"])}
    plan |= {"frames_ms": tuple(plan["frames_ms"])}
    if report is not None:
        report |= {"streams": tuple(map(_stream_report_of, report["streams"]))}
    parts = {
        "request": LiveRequest(**request),
        "plan": Plan(**plan),
        "copies": tuple(tuple(map(int, offsets)) for offsets in row["copies"]),
        "codes": tuple(code and Code(**code) for code in row.get("codes", ())),
        "reach": tuple(map(str, row["reach"])),
        "report": None if report is None else ProgrammeReport(**report),
    }
    return Programme(**{**row, **parts})


def _stream_report_of(row: Any) -> StreamReport:
    epochs = tuple(EpochReport(**epoch) for epoch in row["epochs"])
    return StreamReport(**{**row, "epochs": epochs})
