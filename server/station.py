"""The station's state and its consequences: who shall hear what. Pure; `now` is an argument.

Everything that others must do follows from the state as one declaration each: what the producer
encodes (`orders`), where streams are forwarded (`routes`), what a loudspeaker plays (`listen`).
"""

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from server import pace
from server.directory import Directory, Endpoint
from server.errors import NoSuchError, StationError
from server.listening import Listening
from server.memory import Memory, read_record
from server.processes.bus import DeclareProgrammes, ProducerReport, unpack_sessions
from server.processes.routing import Route, Routes
from server.programmes import Certify, LiveRequest, Plan, Programme
from server.recovery import first_copies
from server.rights.identity import Identity
from server.rights.speaking import deed_of, reach_of
from server.rights.table import Grant, is_reached, may
from server.router import Describe, Router
from server.speakers import Speaker
from server.zones.definition import EVERYBODY
from server.zones.membership import ZoneBook
from transport.control.address import plain_address
from transport.control.messages import Hello, Listen
from transport.control.priority import heard

# What a loudspeaker is told, and what the bus carries, must stay of a size.
MAX_PROGRAMMES = 50
# What is on air is written down whenever it changes; zones name any number at no cost.
MAX_NAMES = 20_000
# Numbers of sessions that are over may be kept so many beyond two a loudspeaker.
_NUMBERS = 1_000


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
    # Loudspeakers by the numbers of their sessions.
    _numbered: dict[int, str] = field(default_factory=dict)
    # The sessions at the gateway; None before it has said so.
    _at_gateway: frozenset[int] | None = None
    _audiences: dict[str, tuple[tuple[int, int], frozenset[str]]] = field(default_factory=dict)
    # Programmes with whom they are meant for, the loudest first, and what that depends on.
    _ranking: list[tuple[Programme, frozenset[str]]] = field(default_factory=list)
    _ranked_for: tuple[int, int] | None = None
    _memory: Memory = field(default_factory=Memory)
    _listening: Listening = field(init=False)
    _router: Router = field(init=False)

    def __post_init__(self) -> None:
        self._listening = Listening(self.group_port)
        self._router = Router(self.directory, self.group_port)

    # ------------------------------------------------------------- loudspeakers
    def join(
        self, hello: Hello, address: str, session: object, now_ns: int, number: int = 0
    ) -> Speaker:
        """A loudspeaker has said hello, and has proved its key: it is here from now on.

        If it had another session, this one takes over at once. NoSuchError if it is not
        registered, StationError if nothing can be sent to it.
        """
        address = _checked_address(address)
        self._register(hello.name, hello.delivery, multicast=hello.multicast)
        speaker = Speaker(hello.name, hello.key, address, now_ns, session, session_number=number)
        speaker.telemetry_s = pace.telemetry_s(self.directory.enrolled)
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
        elif endpoint.name in self.speakers:
            self._note(self.speakers[endpoint.name])
        return replaced

    def revoke(self, name: str) -> None:
        """A loudspeaker's key is not known any more; it stays registered."""
        self.directory.put_endpoint(replace(self.directory.endpoint(name), key=None))
        self._cut_off(name)

    def _cut_off(self, name: str) -> None:
        # Its session is ended by whoever holds it; nothing is sent to where it was.
        self.speakers.pop(name, None)
        self._memory.drop(name)
        self._router.close(name)
        self.rekey_all()

    def leave(self, name: str, session: object) -> None:
        """A session is over; the loudspeaker may well be playing on."""
        speaker = self.speakers.get(name)
        if speaker is not None and speaker.session is session:
            speaker.session = None
            self.directory.touched.add(name)

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
        if self._at_gateway is not None:
            speaker.at_gateway(self._at_gateway)
        self._note(speaker)

    def _note(self, speaker: Speaker) -> None:
        """Where it is has changed, or its network."""
        self.directory.touched.add(speaker.name)
        self._router.put(speaker)
        self._memory.put(speaker, self.directory.endpoints[speaker.name])

    def _of_session(self, number: int) -> Speaker | None:
        speaker = self.speakers.get(self._numbered.get(number, ""))
        return speaker if speaker is not None and number in speaker.numbers else None

    def opened(self, session: int, address: str, port: int) -> bool:
        """A session's path is open, or has moved; true if sound must take another way."""
        speaker = self._of_session(session)
        if speaker is None:
            return False
        before = speaker.path_number
        moved = speaker.opened(session, address, port)
        if moved or speaker.path_number != before:
            self._note(speaker)
        return moved

    def closed(self, session: int) -> bool:
        """A session's path is gone; true if sound went there."""
        speaker = self._of_session(session)
        if speaker is None or not speaker.closed(session):
            return False
        self._note(speaker)
        return True

    def relayed(self, packed: bytes) -> bool:
        """These sessions are at the gateway, and no others; true if sound must take another way.

        ValueError if they are not packed as `bus.pack_sessions` does.
        """
        there = frozenset(unpack_sessions(packed))
        before, self._at_gateway = self._at_gateway, there
        # At first nobody knows who has come or left meanwhile.
        changed = there | self._numbered.keys() if before is None else there ^ before
        moved = False
        for number in changed:
            speaker = self._of_session(number)
            if speaker is not None and speaker.at_gateway(there):
                self._note(speaker)
                moved = True
        return moved

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
        version = self.directory.version, self.zones.version
        kept = self._audiences.get(programme.name)
        if kept is None or kept[0] != version:
            kept = self._audiences[programme.name] = version, self._find_audience(programme)
        return kept[1]

    def ranked(self) -> list[tuple[Programme, frozenset[str]]]:
        """All programmes, the loudest first, and whom each is meant for."""
        wanted = self.directory.version, self.zones.version
        if self._ranked_for != wanted:
            loudest = sorted(
                self.programmes.values(), key=lambda p: (p.priority, p.order), reverse=True
            )
            self._ranking = [(p, self.audience(p)) for p in loudest]
            self._ranked_for = wanted
        return self._ranking

    def _anew(self) -> None:
        """There are other programmes, or there is something new about one."""
        self._ranked_for = None
        self._listening.forget()

    def recertify(self) -> None:
        """The key that vouches for programmes is another."""
        self._listening.forget()

    def _find_audience(self, programme: Programme) -> frozenset[str]:
        request = programme.request
        endpoints = self.directory.endpoints
        if EVERYBODY in (*request.to, *request.zones):
            meant = frozenset(endpoints)  # whatever else it names
        else:
            known = [name for name in request.to if name in endpoints]
            there = [zone for zone in request.zones if zone in self.zones.definitions]
            meant = self.named(known, there)
        reach = programme.reach
        if self.directory.root in reach:
            return meant
        return frozenset(name for name in meant if is_reached(endpoints[name].unit, reach))

    def heard_by(self, name: str) -> Programme | None:
        """What a loudspeaker hears now, by the rule it follows itself."""
        return heard(p for p, audience in self.ranked() if p.is_live and name in audience)

    def listen(self, name: str, revision: int, certify: Certify) -> Listen:
        """All that this loudspeaker shall listen to; `certify` as `Certifier.certificate` does."""
        meant = tuple([p for p, audience in self.ranked() if name in audience])
        specs = self._listening.specs(self.directory.endpoints[name], meant, certify)
        return Listen(revision, specs)

    # ------------------------------------------------------------- programmes
    def open(self, request: LiveRequest, now_ns: int, opener: Identity | None = None) -> Programme:
        """Grant a ticket; nothing changes if the request cannot be met.

        Without an opener it is the station's own. ForbiddenError if he may not speak to all whom
        it is meant for.
        """
        if not request.to and not request.zones:
            raise StationError("to whom? name at least one zone or loudspeaker, or all")
        opener = opener or Identity.machine(self.directory.root)
        members = [self.directory.endpoints[n] for n in self.named(request.to, request.zones)]
        reach = reach_of(opener, request.priority, {member.unit for member in members})
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
            reach=tuple(sorted(reach)),
            opener="" if opener.kind == "machine" else opener.name,
            token=opener.session if opener.kind == "token" else None,
        )
        programme.copies = first_copies(programme, members)
        self.count = number
        self.programmes[programme.name] = programme
        self._anew()
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

    def unfounded(self, standing: Callable[[str, str | None], frozenset[Grant]]) -> list[str]:
        """Programmes on air whose openers may not speak any more to all whom they might reach.

        `standing` says what a user may do now, or by the token of a number.
        """
        over = []
        for programme in self.programmes.values():
            if programme.ended_at_ns is None and not programme.is_stations_own:
                grants = standing(programme.opener, programme.token)
                if not may(grants, deed_of(programme.priority), programme.reach):
                    over.append(programme.name)
        return over

    def withdraw(self, name: str) -> None:
        """A programme that could not begin."""
        self.programmes.pop(name, None)
        self._audiences.pop(name, None)
        self._anew()

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
        if changed:
            self._listening.forget()
        return changed

    def rekey_all(self) -> None:
        """Somebody may know keys who shall not: everything on air goes on with others."""
        for programme in self.programmes.values():
            programme.rekey += 1

    def expire(self, now_ns: int) -> list[Programme]:
        """Forget programmes that have been heard out or never began; those that were."""
        gone = [p for p in self.programmes.values() if p.is_over(now_ns)]
        for programme in gone:
            self.withdraw(programme.name)
        return gone

    # ------------------------------------------------------------- declarations
    def orders(self) -> DeclareProgrammes:
        """What the producer shall encode."""
        # What has ended must not begin again in a producer that has been restarted.
        wanted = (p for p in self.programmes.values() if p.ended_at_ns is None)
        return DeclareProgrammes(tuple(programme.ordered() for programme in wanted))

    def routes(self, describe: Describe) -> tuple[Route, ...]:
        """Where streams are forwarded."""
        begun = ((p, self.audience(p)) for p in self.programmes.values() if p.report)
        return tuple(self._router.routes(begun, describe))

    def resume(self, former: Routes) -> None:
        """Keep to these routes as far as they are right still; `restore` first."""
        self._router.resume(former)

    def uses_group(self, programme: Programme) -> bool:
        """Whether the programme, sealed, goes to its group."""
        return self._router.uses_group(programme, self.audience(programme))

    # ------------------------------------------------------------- memory
    def to_record(self) -> bytes:
        """What the store does not hold; sessions are not."""
        return self._memory.record(self.count, self.programmes.values())

    def restore(self, record: bytes) -> None:
        """Be as `to_record` said; ValueError, and nothing changes, if that makes no sense."""
        remembered = read_record(record)
        for name in list(self.speakers):
            self._cut_off(name)
        for speaker, delivery, multicast in remembered.speakers:
            endpoint = self.directory.endpoints.get(speaker.name)
            if endpoint is not None and endpoint.key == speaker.key:
                self._register(speaker.name, delivery, multicast=multicast)
                self._enter(speaker)
        self.programmes = {programme.name: programme for programme in remembered.programmes}
        self._anew()
        self.count = max(self.count, remembered.count)
        if len(self.speakers) < len(remembered.speakers):
            self.rekey_all()  # a key was revoked or replaced just before control's death


def _checked_address(address: str) -> str:
    try:
        return plain_address(address)
    except ValueError:
        raise StationError(f"{address!r} is no address to send sound to") from None
