"""The station's state and its consequences: who shall hear what. Pure; `now` is an argument.

Everything that others must do follows from the state as one declaration each: what the producer
encodes (`orders`), where the sender forwards (`routes`), what a loudspeaker plays (`listen`).
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from server.bus import (
    DeclareProgrammes,
    DeclareRoutes,
    Destination,
    ProducerReport,
    Route,
    pack_destinations,
)
from server.directory import Directory, Endpoint
from server.errors import NoSuchError, StationError
from server.programmes import LiveRequest, Plan, Programme, programme_of
from server.zones.definition import EVERYBODY
from server.zones.membership import ZoneBook
from transport.control.messages import Hello, Listen, Telemetry
from transport.control.priority import heard

# What a loudspeaker is told, and what the bus carries, must stay of a size.
MAX_PROGRAMMES = 50
# What is on air is written down whenever it changes; zones name any number at no cost.
MAX_NAMES = 20_000
# A ticket nobody speaks on is taken back.
_UNUSED_TICKET_NS = 15_000_000_000
# A session silent for less than this still holds its name.
_HOLDS_NAME_NS = 3_000_000_000


class NoGroupError(StationError):
    """Every multicast group of the range is in use."""


@dataclass(slots=True)
class Speaker:
    """Where a registered loudspeaker was last seen, and how it is."""

    name: str
    address: str
    media_port: int
    last_seen_ns: int
    session: object | None = None
    telemetry: Telemetry | None = None


@dataclass(slots=True)
class Station:
    """All loudspeakers seen and all programmes there are."""

    groups: str
    group_port: int
    new_ticket: Callable[[], str]
    first_group: int
    directory: Directory
    zones: ZoneBook = field(default_factory=ZoneBook)
    speakers: dict[str, Speaker] = field(default_factory=dict)
    programmes: dict[str, Programme] = field(default_factory=dict)
    count: int = 0
    # Loudspeakers that registered or changed by themselves and are not in the store yet.
    unsaved: set[str] = field(default_factory=set)
    _audiences: dict[str, tuple[tuple[int, int], frozenset[str]]] = field(default_factory=dict)

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
        self._register(hello.name, hello.delivery, multicast=hello.multicast)
        speaker = Speaker(hello.name, address, hello.media_port, now_ns, session)
        self.speakers[hello.name] = speaker
        return speaker

    def _register(self, name: str, delivery: str, *, multicast: bool) -> None:
        """Whoever joins is registered, in the station's own unit until somebody moves it."""
        endpoint = self.directory.endpoints.get(name) or Endpoint(name, self.directory.root)
        changed = replace(endpoint, delivery=delivery, multicast=multicast)
        if self.directory.endpoints.get(name) != changed:
            self.directory.put_endpoint(changed)
            self.unsaved.add(name)

    def leave(self, name: str, session: object) -> None:
        """A session is over; the loudspeaker may well be playing on."""
        speaker = self.speakers.get(name)
        if speaker is not None and speaker.session is session:
            speaker.session = None

    def forget(self, name: str) -> Callable[[], None]:
        """A loudspeaker that is gone for good; StationError while it is here. Returns the undo."""
        endpoint, was_unsaved = self.directory.endpoint(name), name in self.unsaved
        speaker = self.speakers.get(name)
        if speaker is not None and speaker.session is not None:
            raise StationError(f"{name!r} is connected: switch it off before it is removed")
        self.directory.remove_endpoint(name)
        self.speakers.pop(name, None)
        self.unsaved.discard(name)

        def remember() -> None:
            # It may have come back by itself meanwhile, and by another network.
            now = self.directory.endpoints.get(name, endpoint)
            there = replace(endpoint, delivery=now.delivery, multicast=now.multicast)
            self.directory.put_endpoint(there)
            if speaker is not None:
                self.speakers.setdefault(name, speaker)
            if was_unsaved:
                self.unsaved.add(name)

        return remember

    def named(self, to: Iterable[str], zones: Iterable[str]) -> frozenset[str]:
        """The loudspeakers that are named or in these zones; NoSuchError for an unknown name."""
        names: set[str] = set()
        for name in to:
            names |= self.zones.members(EVERYBODY, self.directory) if name == EVERYBODY else {name}
            if name != EVERYBODY:
                self.directory.endpoint(name)
        for zone in zones:
            names |= self.zones.members(zone, self.directory)
        return frozenset(names)

    # ------------------------------------------------------------- who hears what
    def audience(self, programme: Programme) -> frozenset[str]:
        """Whom a programme is meant for now; it follows the zones."""
        version = (self.directory.version, self.zones.version)
        kept = self._audiences.get(programme.name)
        if kept is None or kept[0] != version:
            kept = self._audiences[programme.name] = version, self._find_audience(programme)
        return kept[1]

    def _find_audience(self, programme: Programme) -> frozenset[str]:
        request = programme.request
        known = [
            name for name in request.to if name == EVERYBODY or name in self.directory.endpoints
        ]
        there = [
            zone for zone in request.zones if zone == EVERYBODY or zone in self.zones.definitions
        ]
        return self.named(known, there)

    def meant_for(self, name: str) -> Iterator[Programme]:
        """The programmes that address a loudspeaker."""
        return (p for p in self.programmes.values() if name in self.audience(p))

    def heard_by(self, name: str) -> Programme | None:
        """What a loudspeaker hears now, by the rule it follows itself."""
        return heard(programme for programme in self.meant_for(name) if programme.is_live)

    def listen(self, name: str, revision: int) -> Listen:
        """All that this loudspeaker shall listen to."""
        endpoint = self.directory.endpoints[name]
        specs = (programme.spec(endpoint, self.group_port) for programme in self.meant_for(name))
        # The producer draws its SSRCs at random: should two be alike, one is heard.
        by_ssrc = {spec.ssrc: spec for spec in specs if spec is not None}
        return Listen(revision, tuple(by_ssrc.values()))

    # ------------------------------------------------------------- programmes
    def open(self, request: LiveRequest, now_ns: int) -> Programme:
        """Grant a ticket; nothing changes if the request cannot be met."""
        if not request.to and not request.zones:
            raise StationError("to whom? name at least one zone or loudspeaker, or all")
        members = self.named(request.to, request.zones)
        if len(self.programmes) >= MAX_PROGRAMMES:
            raise StationError(
                f"{MAX_PROGRAMMES} programmes are on air, and there cannot be more: wait for an end"
            )
        named = sum(len(p.request.to) for p in self.programmes.values()) + len(request.to)
        if request.to and named > MAX_NAMES:
            raise StationError(
                f"programmes on air name {MAX_NAMES} loudspeakers in all, and cannot name more: "
                "use a zone"
            )
        number = self.count + 1
        programme = Programme(
            name=f"live-{number}",
            number=number,
            ticket=self.new_ticket(),
            request=request,
            plan=Plan.of(request, {self.directory.endpoints[name].delivery for name in members}),
            group=self._free_group(),
            since_ns=now_ns,
        )
        self.count = number
        self.programmes[programme.name] = programme
        return programme

    def _free_group(self) -> str:
        network = ipaddress.IPv4Network(self.groups)
        used = {programme.group for programme in self.programmes.values()}
        for step in range(network.num_addresses):
            group = str(network[(self.first_group + step) % network.num_addresses])
            if group not in used:
                return group
        raise NoGroupError(f"every multicast group of {self.groups} is in use")

    def programme(self, name: str) -> Programme:
        """A programme by name; NoSuchError if it is not on air."""
        programme = self.programmes.get(name)
        if programme is None:
            raise NoSuchError(f"no programme {name!r} is on air: `loa programmes` lists what is")
        return programme

    def withdraw(self, name: str) -> None:
        """A programme that could not begin."""
        self.programmes.pop(name, None)
        self._audiences.pop(name, None)

    def stop(self, name: str, why: str, now_ns: int) -> None:
        """End a programme; its last words are heard to their end, everywhere alike."""
        programme = self.programme(name)
        if programme.ended_at_ns is None:
            programme.ended_at_ns, programme.why_ended = now_ns, why

    def update(self, report: ProducerReport, now_ns: int) -> bool:
        """The producer's word on its programmes; true if anybody must be told."""
        changed = False
        for item in report.programmes:
            programme = self.programmes.get(item.programme)
            if programme is None or programme.ended_at_ns is not None:
                continue
            before = programme.report
            if before is None or before.streams != item.streams:
                # Begun, or begun again by another producer: its voice has yet to come (back).
                programme.since_ns = now_ns
                changed = True
            programme.report = item
            if item.state == "ended":
                programme.ended_at_ns = now_ns
                changed = True
        return changed

    def expire(self, now_ns: int) -> list[Programme]:
        """Forget programmes that have been heard out or never began; those that were."""
        gone = [p for p in self.programmes.values() if self._is_over(p, now_ns)]
        for programme in gone:
            self.withdraw(programme.name)
        return gone

    @staticmethod
    def _is_over(programme: Programme, now_ns: int) -> bool:
        if programme.ended_at_ns is not None:
            # A slower newcomer hears it later than the others.
            tail_ns = round((max(programme.plan.slowest_ms, 1000.0) + 300) * 1e6)
            return now_ns - programme.ended_at_ns > tail_ns
        waiting = programme.report is None or programme.report.state == "waiting"
        return waiting and now_ns - programme.since_ns > _UNUSED_TICKET_NS

    # ------------------------------------------------------------- declarations
    def orders(self) -> DeclareProgrammes:
        """What the producer shall encode."""
        # What has ended must not begin again in a producer that has been restarted.
        wanted = (p for p in self.programmes.values() if p.ended_at_ns is None)
        return DeclareProgrammes(tuple(programme.ordered() for programme in wanted))

    def routes(self, describe: Callable[[Programme], str | None]) -> DeclareRoutes:
        """Where the sender shall forward; `describe` gives a multicast programme's SDP."""
        begun = (p for p in self.programmes.values() if p.report)
        return DeclareRoutes(tuple(route for p in begun for route in self._routes(p, describe)))

    def _routes(
        self, programme: Programme, describe: Callable[[Programme], str | None]
    ) -> Iterator[Route]:
        # Unicast carries RTP and RTCP on one port (RFC 5761); a stock player of a group does not.
        hearing: dict[int, list[Destination]] = {s.stream: [] for s in programme.streams}
        for name in self.audience(programme):
            endpoint, speaker = self.directory.endpoints[name], self.speakers.get(name)
            if speaker is not None and not programme.by_group(endpoint):
                to = Destination(speaker.address, speaker.media_port, speaker.media_port)
                hearing[programme.stream_for(endpoint).stream].append(to)
        group = programme.group if self.uses_group(programme) else None
        for number, destinations in hearing.items():
            first = number == programme.streams[0].stream
            if group is None or not first:
                yield Route(number, pack_destinations(destinations))
                continue
            destinations.insert(0, Destination(group, self.group_port, self.group_port + 1))
            yield Route(number, pack_destinations(destinations), describe(programme), group)

    def uses_group(self, programme: Programme) -> bool:
        """Whether the programme goes out by multicast as well."""
        return programme.request.multicast or any(
            programme.by_group(self.directory.endpoints[name]) for name in self.audience(programme)
        )

    # ------------------------------------------------------------- memory
    def to_plain(self) -> dict[str, Any]:
        """What the store does not hold, in maps, lists, text and numbers; sessions are not."""
        rows = []
        for s in self.speakers.values():
            mine = self.directory.endpoints[s.name]
            where = [s.name, s.address, s.media_port, s.last_seen_ns]
            rows.append([*where, mine.delivery, mine.multicast])
        programmes = [asdict(p) for p in self.programmes.values()]
        return {"count": self.count, "speakers": rows, "programmes": programmes}

    def restore(self, plain: Any) -> None:
        """Be as `to_plain` said; ValueError, and nothing changes, if that makes no sense."""
        try:
            speakers = [(Speaker(*row[:4]), str(row[4]), bool(row[5])) for row in plain["speakers"]]
            programmes = [programme_of(row) for row in plain["programmes"]]
            count = int(plain["count"])
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise ValueError(f"no station's memory: {error!r}") from error
        for speaker, delivery, multicast in speakers:
            # It may have registered a moment before the store could hear of it.
            self._register(speaker.name, delivery, multicast=multicast)
        self.speakers = {speaker.name: speaker for speaker, *_ in speakers}
        self.programmes = {programme.name: programme for programme in programmes}
        self.count = max(self.count, count)


def _check_address(address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise StationError(f"{address!r} is no IPv4 address to send sound to") from None
