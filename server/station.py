"""The station's state and its consequences: who shall hear what. Pure; `now` is an argument.

Everything that others must do follows from the state as one declaration each: what the producer
encodes (`orders`), where the sender forwards (`routes`), what a loudspeaker plays (`listen`).
"""

import difflib
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from server.bus import (
    DeclareProgrammes,
    DeclareRoutes,
    Destination,
    ProducerReport,
    ProgrammeOrder,
    ProgrammeReport,
    Route,
    pack_destinations,
)
from server.encoding import check_playout_delay, encoder_settings
from transport.control.messages import Hello, Listen, StreamSpec, Telemetry
from transport.session.sender import OPUS_PAYLOAD_TYPE

ALL = "all"
# What a loudspeaker is told, and what the bus carries, must stay of a size.
MAX_PROGRAMMES = 50
# A ticket nobody speaks on is taken back.
_UNUSED_TICKET_NS = 15_000_000_000
# A session silent for less than this still holds its name.
_HOLDS_NAME_NS = 3_000_000_000


class StationError(Exception):
    """A request that cannot be met; one line for the person who made it."""


class UnknownSpeakerError(StationError):
    """No such loudspeaker has been seen."""


class UnknownProgrammeError(StationError):
    """No such programme is on air."""


class NoGroupError(StationError):
    """Every multicast group of the range is in use."""


@dataclass(slots=True)
class Speaker:
    """A loudspeaker the station has seen."""

    name: str
    address: str
    media_port: int
    multicast: bool
    last_seen_ns: int
    session: object | None = None
    telemetry: Telemetry | None = None


@dataclass(frozen=True, slots=True)
class LiveRequest:
    """A voice that wants to speak. `to` are names, or "all".

    Raises ValueError, in one line for a person, rather than ask for what could never sound.
    """

    to: tuple[str, ...]
    bitrate: int = 24_000
    frame_ms: float = 10.0
    complexity: int = 9
    dtx: bool = False
    inband_fec: bool = False
    expected_loss_percent: int = 0
    playout_delay_ms: float = 40.0
    multicast: bool = False

    def __post_init__(self) -> None:
        check_playout_delay(self.playout_delay_ms, encoder_settings(self))


@dataclass(slots=True)
class Programme:
    """A programme from its ticket to its end. It waits for its voice from `since_ns` on."""

    name: str
    number: int
    ticket: str
    request: LiveRequest
    group: str
    since_ns: int
    report: ProgrammeReport | None = None
    ended_at_ns: int | None = None

    def addresses(self, speaker: str) -> bool:
        """Whether the programme is meant for this loudspeaker."""
        return speaker in self.request.to or ALL in self.request.to


@dataclass(slots=True)
class Station:
    """All loudspeakers seen and all programmes there are."""

    groups: str
    group_port: int
    new_ticket: Callable[[], str]
    first_group: int
    speakers: dict[str, Speaker] = field(default_factory=dict)
    programmes: dict[str, Programme] = field(default_factory=dict)
    _count: int = 0

    # ------------------------------------------------------------- loudspeakers
    def join(self, hello: Hello, address: str, session: object, now_ns: int) -> Speaker:
        """A loudspeaker has said hello; StationError if its name is in use by another."""
        _check_address(address)
        known = self.speakers.get(hello.name)
        if (
            known is not None
            and known.session is not None
            and now_ns - known.last_seen_ns < _HOLDS_NAME_NS
        ):
            raise StationError(
                f"the name {hello.name!r} is in use by a loudspeaker at {known.address}: "
                "choose another with --name"
            )
        speaker = Speaker(hello.name, address, hello.media_port, hello.multicast, now_ns, session)
        self.speakers[hello.name] = speaker
        return speaker

    def leave(self, name: str, session: object) -> None:
        """A session is over; the loudspeaker may well be playing on."""
        speaker = self.speakers.get(name)
        if speaker is not None and speaker.session is session:
            speaker.session = None

    def listen(self, name: str, revision: int) -> Listen:
        """All that this loudspeaker shall listen to."""
        speaker = self.speakers[name]
        specs = (
            self._spec(programme, speaker)
            for programme in self.programmes.values()
            if programme.addresses(name)
        )
        return Listen(revision, tuple(spec for spec in specs if spec is not None))

    def _spec(self, programme: Programme, speaker: Speaker) -> StreamSpec | None:
        report = programme.report
        if report is None:
            return None
        return StreamSpec(
            programme=programme.name,
            order=programme.number,
            ssrc=report.ssrc,
            payload_type=OPUS_PAYLOAD_TYPE,
            timestamp_offset=report.timestamp_offset,
            frame_ms=programme.request.frame_ms,
            inband_fec=programme.request.inband_fec,
            playout_delay_ms=programme.request.playout_delay_ms,
            group=programme.group if speaker.multicast else None,
            port=self.group_port if speaker.multicast else None,
        )

    # ------------------------------------------------------------- programmes
    def open(self, request: LiveRequest, now_ns: int) -> Programme:
        """Grant a ticket; nothing changes if the request cannot be met."""
        self._check_known(request.to)
        if len(self.programmes) >= MAX_PROGRAMMES:
            raise StationError(
                f"{MAX_PROGRAMMES} programmes are on air, and there cannot be more: wait for an end"
            )
        number = self._count + 1
        programme = Programme(
            name=f"live-{number}",
            number=number,
            ticket=self.new_ticket(),
            request=request,
            group=self._free_group(),
            since_ns=now_ns,
        )
        self._count = number
        self.programmes[programme.name] = programme
        return programme

    def _check_known(self, names: Iterable[str]) -> None:
        if not names:
            raise StationError("to whom? name at least one loudspeaker, or all")
        for name in names:
            if name != ALL and name not in self.speakers:
                near = difflib.get_close_matches(name, self.speakers, n=3, cutoff=0.5)
                known = near or sorted(self.speakers)[:5]
                hint = f"; nearest: {', '.join(known)}" if known else "; none has joined yet"
                raise UnknownSpeakerError(f"no loudspeaker {name!r}{hint}")

    def _free_group(self) -> str:
        network = ipaddress.IPv4Network(self.groups)
        used = {programme.group for programme in self.programmes.values()}
        for step in range(network.num_addresses):
            group = str(network[(self.first_group + step) % network.num_addresses])
            if group not in used:
                return group
        raise NoGroupError(f"every multicast group of {self.groups} is in use")

    def update(self, report: ProducerReport, now_ns: int) -> bool:
        """The producer's word on its programmes; true if anybody must be told."""
        changed = False
        for item in report.programmes:
            programme = self.programmes.get(item.programme)
            if programme is None or programme.ended_at_ns is not None:
                continue
            before = programme.report
            if before is None or before.ssrc != item.ssrc:
                # Begun, or begun again by another producer: its voice has yet to come (back).
                programme.since_ns = now_ns
                changed = True
            programme.report = item
            if item.state == "ended":
                programme.ended_at_ns = now_ns
                changed = True
        return changed

    def expire(self, now_ns: int) -> bool:
        """Forget programmes that have been heard out or never began; true if any."""
        gone = [p.name for p in self.programmes.values() if self._is_over(p, now_ns)]
        for name in gone:
            del self.programmes[name]
        return bool(gone)

    @staticmethod
    def _is_over(programme: Programme, now_ns: int) -> bool:
        if programme.ended_at_ns is not None:
            tail_ns = round((programme.request.playout_delay_ms + 300) * 1e6)
            return now_ns - programme.ended_at_ns > tail_ns
        waiting = programme.report is None or programme.report.state == "waiting"
        return waiting and now_ns - programme.since_ns > _UNUSED_TICKET_NS

    # ------------------------------------------------------------- declarations
    def orders(self) -> DeclareProgrammes:
        """What the producer shall encode."""
        return DeclareProgrammes(
            tuple(
                ProgrammeOrder(
                    programme=p.name,
                    stream=p.number,
                    ticket=p.ticket,
                    bitrate=p.request.bitrate,
                    frame_ms=p.request.frame_ms,
                    complexity=p.request.complexity,
                    dtx=p.request.dtx,
                    inband_fec=p.request.inband_fec,
                    expected_loss_percent=p.request.expected_loss_percent,
                )
                for p in self.programmes.values()
                # What has ended must not begin again in a producer that has been restarted.
                if p.ended_at_ns is None
            )
        )

    def routes(self, describe: Callable[[Programme], str | None]) -> DeclareRoutes:
        """Where the sender shall forward; `describe` gives a multicast programme's SDP."""
        return DeclareRoutes(
            tuple(self._route(p, describe) for p in self.programmes.values() if p.report)
        )

    def _route(self, programme: Programme, describe: Callable[[Programme], str | None]) -> Route:
        hearing = [s for s in self.speakers.values() if programme.addresses(s.name)]
        # Unicast carries RTP and RTCP on one port (RFC 5761); a stock player of a group does not.
        destinations = [
            Destination(s.address, s.media_port, s.media_port) for s in hearing if not s.multicast
        ]
        group = programme.group if self.uses_group(programme) else None
        if group is not None:
            destinations.insert(0, Destination(group, self.group_port, self.group_port + 1))
        announce = describe(programme) if group is not None else None
        return Route(programme.number, pack_destinations(destinations), announce, group)

    def uses_group(self, programme: Programme) -> bool:
        """Whether the programme goes out by multicast as well."""
        return programme.request.multicast or any(
            s.multicast for s in self.speakers.values() if programme.addresses(s.name)
        )

    # ------------------------------------------------------------- memory
    def to_plain(self) -> dict[str, Any]:
        """All that is declared, in maps, lists, text and numbers; sessions are not."""
        return {
            "count": self._count,
            "speakers": [
                [s.name, s.address, s.media_port, s.multicast, s.last_seen_ns]
                for s in self.speakers.values()
            ],
            "programmes": [asdict(p) for p in self.programmes.values()],
        }

    def restore(self, plain: Any) -> None:
        """Be as `to_plain` said; ValueError, and nothing changes, if that makes no sense."""
        try:
            speakers = [Speaker(*row) for row in plain["speakers"]]
            programmes = [_programme_of(row) for row in plain["programmes"]]
            count = int(plain["count"])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"no station's memory: {error!r}") from error
        self.speakers = {speaker.name: speaker for speaker in speakers}
        self.programmes = {programme.name: programme for programme in programmes}
        self._count = count


def _check_address(address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise StationError(f"{address!r} is no IPv4 address to send sound to") from None


def _programme_of(row: dict[str, Any]) -> Programme:
    request = LiveRequest(**{**row["request"], "to": tuple(row["request"]["to"])})
    report = None if row["report"] is None else ProgrammeReport(**row["report"])
    return Programme(**{**row, "request": request, "report": report})
