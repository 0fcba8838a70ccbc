"""The station's state and its consequences: who shall hear what. Pure; `now` is an argument.

Everything that others must do follows from the state as one declaration each: what the producer
encodes (`orders`), where the sender forwards (`routes`), whom the gateway passes it on to
(`relays`), what a loudspeaker plays (`listen`).
"""

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from server.directory import Directory, Endpoint
from server.errors import NoSuchError, StationError
from server.processes.bus import (
    DeclareProgrammes,
    DeclareRelays,
    DeclareRoutes,
    Destination,
    ProducerReport,
    Relay,
    Route,
    pack_destinations,
    pack_sessions,
)
from server.programmes import Certify, LiveRequest, Plan, Programme, clear_port, programme_of
from server.speakers import Speaker
from server.zones.definition import EVERYBODY
from server.zones.membership import ZoneBook
from transport.control.messages import Hello, Listen
from transport.control.priority import heard

# What a loudspeaker is told, and what the bus carries, must stay of a size.
MAX_PROGRAMMES = 50
# What is on air is written down whenever it changes; zones name any number at no cost.
MAX_NAMES = 20_000
# Numbers of sessions that are over may be kept so many beyond two a loudspeaker.
_NUMBERS = 1_000
# A ticket nobody speaks on is taken back.
_UNUSED_TICKET_NS = 15_000_000_000


class NoGroupError(StationError):
    """Every multicast group of the range is in use."""


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
    # How often the station has been started; no two programmes of all these lives share a serial.
    boot: int = 0
    # Loudspeakers that said something new of themselves that is not in the store yet.
    unsaved: set[str] = field(default_factory=set)
    _audiences: dict[str, tuple[tuple[int, int], frozenset[str]]] = field(default_factory=dict)
    # Loudspeakers by the numbers of their sessions.
    _numbered: dict[int, str] = field(default_factory=dict)

    # ------------------------------------------------------------- loudspeakers
    def join(
        self, hello: Hello, address: str, session: object, now_ns: int, number: int = 0
    ) -> Speaker:
        """A loudspeaker has said hello, and has proved its key: it is here from now on.

        If it had another session, this one takes over at once. NoSuchError if it is not
        registered, StationError if nothing can be sent to it.
        """
        _check_address(address)
        self._register(hello.name, hello.delivery, multicast=hello.multicast)
        speaker = Speaker(hello.name, hello.key, address, now_ns, session, session_number=number)
        self._enter(speaker.come_after(self.speakers.get(hello.name)))
        return speaker

    def _register(self, name: str, delivery: str, *, multicast: bool) -> None:
        """Its network is what it says itself; all else is what an operator says."""
        endpoint = self.directory.endpoint(name)
        changed = replace(endpoint, delivery=delivery, multicast=multicast)
        if endpoint != changed:
            self.directory.put_endpoint(changed)
            self.unsaved.add(name)

    def enrol(self, endpoint: Endpoint) -> bool:
        """A loudspeaker is registered with its key; true if that took another's place.

        Whoever had that key has a way no more, and what is on air goes on with other keys.
        """
        before = self.directory.endpoints.get(endpoint.name)
        self.directory.put_endpoint(endpoint)
        replaced = before is not None and before.key not in {None, endpoint.key}
        if replaced:
            self._cut_off(endpoint.name)
        return replaced

    def revoke(self, name: str) -> None:
        """A loudspeaker's key is not known any more; it stays registered."""
        self.directory.put_endpoint(replace(self.directory.endpoint(name), key=None))
        self._cut_off(name)

    def _cut_off(self, name: str) -> None:
        # Its session is ended by whoever holds it; nothing is sent to where it was.
        self.speakers.pop(name, None)
        self.rekey_all()

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
            raise StationError(
                f"{name!r} is connected: revoke it first, with `loa speakers revoke {name}`"
            )
        self.directory.remove_endpoint(name)
        self.unsaved.discard(name)
        if endpoint.key is not None:
            self._cut_off(name)

        def remember() -> None:
            self.directory.put_endpoint(endpoint)
            if speaker is not None:
                self._enter(speaker)
            if was_unsaved:
                self.unsaved.add(name)

        return remember

    # ------------------------------------------------------------- ways to loudspeakers
    def _enter(self, speaker: Speaker) -> None:
        self.speakers[speaker.name] = speaker
        if len(self._numbered) > 2 * len(self.speakers) + _NUMBERS:
            self._numbered = {n: s.name for s in self.speakers.values() for n in s.numbers}
        self._numbered |= dict.fromkeys(speaker.numbers, speaker.name)

    def _of_session(self, number: int) -> Speaker | None:
        speaker = self.speakers.get(self._numbered.get(number, ""))
        return speaker if speaker is not None and number in speaker.numbers else None

    def opened(self, session: int, address: str, port: int) -> bool:
        """A session's path is open, or has moved; true if sound must take another way."""
        speaker = self._of_session(session)
        return speaker is not None and speaker.opened(session, address, port)

    def closed(self, session: int) -> bool:
        """A session's path is gone; true if sound went there."""
        speaker = self._of_session(session)
        return speaker is not None and speaker.closed(session)

    def relayed(self, sessions: set[int]) -> bool:
        """These are at the gateway, and no others; true if sound must take another way."""
        changed = [speaker.at_gateway(sessions) for speaker in self.speakers.values()]
        return any(changed)

    # ------------------------------------------------------------- who hears what
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

    def listen(self, name: str, revision: int, certify: Certify) -> Listen:
        """All that this loudspeaker shall listen to; `certify` as `Certifier.certificate` does."""
        endpoint = self.directory.endpoints[name]
        heard_first = sorted(
            self.meant_for(name), key=lambda p: (p.priority, p.order), reverse=True
        )
        taken: set[int] = set()
        specs = []
        for programme in heard_first:
            spec = programme.spec(endpoint, self.group_port, certify)
            # The producer draws its SSRCs at random: should two be alike, one programme is heard.
            if spec is not None and taken.isdisjoint({spec.ssrc, *spec.ssrcs}):
                taken |= {spec.ssrc, *spec.ssrcs}
                specs.append(spec)
        return Listen(revision, tuple(specs))

    # ------------------------------------------------------------- programmes
    def open(self, request: LiveRequest, now_ns: int) -> Programme:
        """Grant a ticket; nothing changes if the request cannot be met."""
        if not request.to and not request.zones:
            raise StationError("to whom? name at least one zone or loudspeaker, or all")
        members = [self.directory.endpoints[n] for n in self.named(request.to, request.zones)]
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
            plan=Plan.of(request, {m.delivery for m in members if m.key is not None}),
            group=self._free_group(),
            since_ns=now_ns,
            boot=self.boot,
            clear=any(map(self.zones.is_clear, request.zones)),
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
            changed |= programme.hear(item, now_ns)
        return changed

    def rekey_all(self) -> None:
        """Somebody may know keys who shall not: everything on air goes on with others."""
        for programme in self.programmes.values():
            programme.rekey += 1

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
        """Where the sender shall forward; `describe` gives the SDP of a programme's clear twin."""
        begun = (p for p in self.programmes.values() if p.report)
        return DeclareRoutes(tuple(route for p in begun for route in self._routes(p, describe)))

    def _routes(
        self, programme: Programme, describe: Callable[[Programme], str | None]
    ) -> Iterator[Route]:
        group, port = programme.group, self.group_port
        hearing: dict[int, list[Destination]] = {s.stream: [] for s in programme.streams}
        if self.uses_group(programme):
            # Unicast carries RTP and RTCP on one port (RFC 5761); a stock player of a group does
            # not.
            hearing[programme.streams[0].stream].append(Destination(group, port, port + 1))
        for stream, speaker in self._apart(programme):
            if speaker.path is not None and not speaker.relayed:
                hearing[stream].append(speaker.path)
        for number, destinations in hearing.items():
            yield Route(number, pack_destinations(destinations))
        twin, port = programme.streams[0].clear, clear_port(port)
        if twin is not None:
            to = pack_destinations([Destination(group, port, port + 1)])
            yield Route(twin, to, describe(programme), group)

    def _apart(self, programme: Programme) -> Iterator[tuple[int, Speaker]]:
        """Who hears a programme by a way of its own, and which of its streams."""
        for name in self.audience(programme):
            endpoint, speaker = self.directory.endpoints[name], self.speakers.get(name)
            if speaker is not None and not programme.by_group(endpoint):
                yield programme.stream_for(endpoint).stream, speaker

    def uses_group(self, programme: Programme) -> bool:
        """Whether the programme, sealed, goes to its group."""
        members = (self.directory.endpoints[name] for name in self.audience(programme))
        return any(programme.by_group(m) and not programme.in_clear(m) for m in members)

    def relays(self) -> DeclareRelays:
        """Whom the gateway shall pass each stream on to."""
        sessions: dict[int, list[int]] = {}
        for programme in self.programmes.values():
            if programme.report is not None:
                for stream, speaker in self._apart(programme):
                    if speaker.relayed:
                        sessions.setdefault(stream, []).append(speaker.relay_number)
        return DeclareRelays(tuple(Relay(s, pack_sessions(n)) for s, n in sessions.items()))

    # ------------------------------------------------------------- memory
    def to_plain(self) -> dict[str, Any]:
        """What the store does not hold, in maps, lists, text and numbers; sessions are not."""
        mine = self.directory.endpoints
        rows = [
            [speaker.to_plain(), mine[name].delivery, mine[name].multicast]
            for name, speaker in self.speakers.items()
        ]
        programmes = [asdict(p) for p in self.programmes.values()]
        return {"count": self.count, "speakers": rows, "programmes": programmes}

    def restore(self, plain: Any) -> None:
        """Be as `to_plain` said; ValueError, and nothing changes, if that makes no sense."""
        try:
            rows = plain["speakers"]
            speakers = [(Speaker.of_plain(row[0]), str(row[1]), bool(row[2])) for row in rows]
            programmes = [programme_of(row) for row in plain["programmes"]]
            count = int(plain["count"])
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise ValueError(f"no station's memory: {error!r}") from error
        self.speakers = {}
        for speaker, delivery, multicast in speakers:
            endpoint = self.directory.endpoints.get(speaker.name)
            if endpoint is not None and endpoint.key == speaker.key:
                self._register(speaker.name, delivery, multicast=multicast)
                self._enter(speaker)
        self.programmes = {programme.name: programme for programme in programmes}
        self.count = max(self.count, count)
        if len(self.speakers) < len(speakers):
            self.rekey_all()  # a key was revoked or replaced just before control's death


def _check_address(address: str) -> None:
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise StationError(f"{address!r} is no IPv4 address to send sound to") from None
