"""Control's composition root: the station's state, and everyone who must be told of it."""

import asyncio
import ipaddress
import itertools
import logging
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from server import pace
from server.accounts import Accounts
from server.audit.caller import caller
from server.auditing import AuditLog, anchors_set
from server.books import Books
from server.changes.watching import Watching
from server.data import DataFolder
from server.describe import describe
from server.directory import Directory
from server.discovery import Discovery
from server.editing import Editing
from server.enrolling import Enrolling
from server.enrolment import Enrolment
from server.errors import StationError
from server.keeper import Keeper
from server.keys.access import Access
from server.keys.own import OwnSecrets
from server.neighbours import Neighbours
from server.processes.bus import StreamOrder, StreamReport
from server.processes.child import Birth, read_secret, socket_address
from server.processes.notebook import Notebook
from server.programmes import LiveRequest, Programme
from server.queries import Queries
from server.recovery import ADAPT_S, Recovery
from server.retention import Retention
from server.rights.identity import Identity
from server.sessions import Sessions
from server.station import Station
from server.store.records import Contents
from server.store.store import Store
from server.users.book import UserBook
from server.users.passwords import Passwords
from server.views import is_online, sdp_path
from server.zones.definition import parse
from server.zones.membership import ZoneBook
from transport.clock.timeline import NS_PER_SECOND
from transport.control.address import StationAddress
from transport.control.messages import VERSION, Welcome
from transport.net.clocks import MediaClock
from transport.security.keys import fingerprint, shown_fingerprint
from transport.security.session_keys import session_key

_TICK_S = 0.1
# How long a voice waits for loudspeakers to say that they listen; no slow one may gate the rest.
_CONFIRM_S = 0.3
# Each is told by a signature of its own, and answers.
_CONFIRM_EACH_S = 0.000_15
_PRODUCER_S = 2.0
# How often the store is told who has been seen.
_SEEN_S = 60.0
# How often it looks whether the station's key or its token have been made anew.
_SECRETS_S = 1.0
_NS_PER_MINUTE = 60 * NS_PER_SECOND
# Of a session's number: how often the station has begun stands above.
_COUNT_BITS = 32
_log = logging.getLogger(__name__)


class Control:
    """Turns events into declarations. Runs on one event loop; nothing here blocks."""

    def __init__(self, birth: Birth, store: Store) -> None:
        """KeysError, AccessError or TlsError if what only this station has cannot be read."""
        self._birth = birth
        self._store = store
        self._keeper = Keeper()
        self._ports = birth.ports()
        self._clock = MediaClock(birth.media_epoch_ns)
        folder = DataFolder(Path(birth.data))
        self._own = OwnSecrets(folder.keys, folder.token, Path(birth.tls_certificate))
        contents = store.load()
        self.name = contents.station_name
        # Minutes fit 31 bits until the year 6000, and nothing begins more often for long.
        boot = store.next_boot(self._clock.now_ns() // _NS_PER_MINUTE)
        self.station = _station(birth, contents, boot)
        now_ns, keeper = self._clock.now_ns, self._keeper
        anchors = anchors_set(birth.data)
        self.audit = AuditLog(store, keeper, now_ns, self._own.keys, boot, anchors)
        recorder = self.audit.recorder
        self._retention = Retention(
            store,
            keeper,
            recorder,
            self.audit.vouching,
            now_ns,
            audit_days=birth.audit_days,
            programmes_days=birth.programmes_days,
        )
        self.books = Books(self.station, store, keeper, now_ns, contents.last_seen, recorder)
        self.editing = Editing(
            self.station, store, keeper, self.publish, recorder, loudness=self._adjust
        )
        self.accounts = self._new_accounts()
        self.access = Access(self._own.token, self.station.directory.root, self.accounts.identify)
        root = self._own.keys.certificate.root
        self.enrolling = Enrolling(
            self.editing,
            Enrolment(contents.codes),
            fingerprint(root),
            self._clock.now_ns,
            secrets.token_bytes,
        )
        bind = socket_address(birth.http)
        self.discovery = Discovery(
            self.name, self._ports["control"], bind, root=shown_fingerprint(root)
        )
        self._notebook = Notebook(birth.notebook)
        self._remember()
        self.sessions = self._new_sessions(boot)
        self.neighbours = Neighbours(
            birth,
            self.station,
            self._clock.now_ns,
            self._describe,
            self.publish,
            self._joined,
            recorder.ticket_refused,
        )
        self._recovery = Recovery()
        self.queries = Queries(
            self.name,
            self._ports,
            self.station,
            self.books,
            self.neighbours,
            self.discovery,
            store,
            keeper,
            self._describe,
            now_ns,
        )
        self.watching = Watching(self.station, self.enrolling, now_ns, self.queries.steps)
        # What is to be declared at the next tick: everything, or who is sent what.
        self._overdue = False
        self._moved = False
        self._unwritten = False

    def _new_accounts(self) -> Accounts:
        kept = self._store.users.load()
        return Accounts(
            UserBook(kept.users, kept.tokens, kept.sessions),
            self._store.users,
            self._keeper,
            self.audit.recorder,
            self.station.directory,
            passwords=Passwords(),
            now_ns=self._clock.now_ns,
            random_bytes=secrets.token_bytes,
            changed=self._end_what_may_not_be,
        )

    def _end_what_may_not_be(self) -> None:
        """Somebody's rights are others: a voice that may not speak there any more is ended."""
        over = self.station.unfounded(self.accounts.book.standing)
        if over:
            self.stop(over, "the rights to speak were withdrawn")

    def _new_sessions(self, boot: int) -> Sessions:
        secret = read_secret(self._birth.secret)
        ports = self._ports
        count = itertools.count((boot << _COUNT_BITS) + 1)

        def welcome(number: int, session: int) -> Welcome:
            return Welcome(
                VERSION,
                number,
                session,
                session_key(secret, session),
                time_port=ports["time"],
                media_port=ports["media"],
                gateway_port=ports["gateway"],
                telemetry_s=pace.telemetry_s(self.station.directory.enrolled),
                time_s=pace.time_s(self.station.directory.enrolled),
            )

        return Sessions(
            self.station,
            self._own.credentials(),
            self.enrolling,
            welcome,
            certify=self._certify,
            next_number=lambda: next(count),
            random_bytes=secrets.token_bytes,
            now_ns=self._clock.now_ns,
            joined=self._joined,
            refused=self.audit.recorder.refused,
        )

    def _remember(self) -> None:
        """Be the control that was before this one, if there was one."""
        try:
            serial, record = self._notebook.read()
            if serial:
                self.station.restore(record)
        except ValueError as error:
            _log.warning("loa: control begins with nothing: %s", error)

    def _certify(
        self, order: StreamOrder, report: StreamReport, priority: int, test: bool
    ) -> bytes:
        """By the key that the station has now."""
        return self._own.certifier.certificate(order, report, priority, test)

    # ------------------------------------------------------------- life
    @property
    def ready(self) -> asyncio.Event:
        """Set once all its neighbours have been heard."""
        return self.neighbours.ready

    async def run(self) -> None:
        """Listen to the neighbours, and let time pass."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watching.run())
            await self._pass_time()

    async def _pass_time(self) -> None:
        loop = asyncio.get_running_loop()
        self.neighbours.begin(loop)
        seen_due_s = loop.time() + _SEEN_S
        secrets_due_s = loop.time() + _SECRETS_S
        adapt_due_s = loop.time() + ADAPT_S
        while True:
            await asyncio.sleep(_TICK_S)
            if self._expire() or self._overdue:
                self.publish()
            elif self._moved:
                self._redirect()
            self.books.save_newcomers()
            if loop.time() >= adapt_due_s:
                adapt_due_s = loop.time() + ADAPT_S
                self._adapt()
            if loop.time() >= seen_due_s:
                seen_due_s = loop.time() + _SEEN_S
                self.books.save_seen()
                self.accounts.save_uses()
            if loop.time() >= secrets_due_s:
                secrets_due_s = loop.time() + _SECRETS_S
                self._look_at_secrets()
                self.audit.tick()
                self._retention.tick()

    def _adapt(self) -> None:
        """Have what is on air carry the copies that its loudspeakers need; they need not know."""
        station, now_ns = self.station, self._clock.now_ns()
        speakers, endpoints = station.speakers.values(), station.directory.endpoints
        if self._recovery.adapt(station.ranked(), speakers, endpoints, now_ns):
            self._write_down()
            self._overdue |= not self.neighbours.declare()

    def _look_at_secrets(self) -> None:
        """Take up a key or a token that `loa keys` has made meanwhile."""
        if self._own.token_changed():
            self.access.token = self._own.token
            self.audit.token_renewed()
        if self._own.keys_changed():
            _log.warning("loa: the station's key is of generation %d now", self._own.generation)
            self.audit.key_rotated(self._own.keys)
            self.station.recertify()
            self.sessions.rotate(self._own.credentials())
            self.publish()

    def _expire(self) -> bool:
        self.books.note_ends()
        over = self.station.expire(self._clock.now_ns())
        self.books.forget(over)
        return bool(over)

    def _joined(self) -> None:
        """A loudspeaker has come, or its way has changed; it is declared at the next tick.

        Thousands may come back at once, and to declare it for each of them would keep control from
        hearing the others.
        """
        self._moved = True

    def _redirect(self) -> None:
        """Declare who is sent what; nobody else need hear of it."""
        self._moved = False
        self._write_down()
        self.neighbours.declare_routes()

    def publish(self) -> None:
        """Declare everything to everybody: it is the state that counts, not the event.

        What could not be delivered now is declared again at the next tick.
        """
        # First, so that a control killed here and born again does not take anything back.
        self._moved = False
        self._write_down()
        self._overdue = not self.neighbours.declare()
        self.sessions.declare()

    def _adjust(self, names: Iterable[str]) -> None:
        """These are to be louder, or later; of what is on air nothing is different."""
        self.sessions.declare_to(names)

    def _write_down(self) -> None:
        try:
            self._notebook.write(self.station.to_record())
            self._unwritten = False
        except ValueError as error:
            # Who is on air matters more than that it survives control's death.
            if not self._unwritten:
                _log.error("loa: control would not remember this after its death: %s", error)
            self._unwritten = True

    def _describe(self, programme: Programme) -> str | None:
        birth = self._birth
        return describe(
            programme, birth.interface, birth.group_port, birth.ttl, self._ports["time"]
        )

    # ------------------------------------------------------------- requests
    async def open_live(
        self, request: LiveRequest, opener: Identity | None = None
    ) -> dict[str, Any]:
        """Grant a ticket; answers when the loudspeakers that can be are listening.

        ForbiddenError if the opener, if it is not the station itself, may not speak to all of them.
        """
        programme = self.station.open(request, self._clock.now_ns(), opener)
        try:
            self.publish()
            await self._until_begun(programme)
            await self.books.begin(programme)
        except Exception:
            self.station.withdraw(programme.name)
            self.publish()
            raise
        names = set(self.station.audience(programme))
        silent = await self.sessions.confirm(names, _CONFIRM_S + len(names) * _CONFIRM_EACH_S)
        now_ns = self._clock.now_ns()
        offline = {n for n in names if not is_online(self.station.speakers.get(n), now_ns)}
        return {
            "programme": programme.name,
            "ticket": programme.ticket,
            "ingest_port": self._ports["ingest"],
            "time_port": self._ports["time"],
            "playout_delay_ms": programme.plan.playout_delay_ms,
            "listening": sorted(names - silent - offline),
            "not_listening": sorted(silent | offline),
            "sdp": sdp_path(programme),
        }

    async def _until_begun(self, programme: Programme) -> None:
        """Until the producer has numbered the stream; StationError if it cannot be."""
        try:
            async with asyncio.timeout(_PRODUCER_S):
                while programme.report is None:
                    self.neighbours.heard_producer.clear()
                    await self.neighbours.heard_producer.wait()
        except TimeoutError:
            raise StationError("the producer does not answer: try again in a moment") from None
        if programme.ended_at_ns is not None:
            raise StationError("the producer could not begin; what it said is in its log")
        if self.neighbours.too_long is not None:
            raise StationError(
                "the station cannot send so many programmes to so many loudspeakers: "
                "wait for an end, or address fewer"
            )

    def stop(self, names: list[str], why: str) -> list[str]:
        """End these programmes; all that there are if none is named. Those that ended now."""
        now_ns = self._clock.now_ns()
        on_air = [p for p in self.station.programmes.values() if p.ended_at_ns is None]
        chosen = [self.station.programme(name) for name in names] or on_air
        ending = [programme.name for programme in chosen if programme.ended_at_ns is None]
        self.books.note_ends()
        for name in ending:
            self.station.stop(name, why, now_ns)
        self.books.note_ends(caller())
        self.publish()
        return ending

    async def command(
        self, to: list[str], zones: list[str], action: str, seconds: float
    ) -> dict[str, str]:
        """Have loudspeakers do something; what each says against it, or nothing, by its name."""
        names = sorted(self.station.named(to, zones))
        told = {"to": to, "zones": zones, "loudspeakers": len(names), "seconds": seconds}
        recorder = self.audit.recorder
        await recorder.note(recorder.entry(f"speaker.{action}", told, outcome="ordered"))
        return await self.sessions.command(names, action, seconds)

    # ------------------------------------------------------------- queries
    @property
    def reachable(self) -> StationAddress:
        """Where others find the station, as far as it knows itself."""
        bind = socket_address(self._birth.http)
        everywhere = ipaddress.ip_address(bind).is_unspecified
        return StationAddress(self._birth.interface if everywhere else bind, self._ports["control"])

    def keeper_queue(self) -> int:
        """How many changes the disk has yet to take."""
        return self._keeper.queue


def _station(birth: Birth, contents: Contents, boot: int) -> Station:
    directory = Directory(contents.root, set(contents.units))
    for endpoint in contents.endpoints:
        directory.put_endpoint(endpoint)
    zones = ZoneBook()
    definitions = {name: parse(definition) for name, definition in contents.zones}
    zones.restore(definitions, contents.clear_zones)
    return Station(
        birth.groups,
        birth.group_port,
        lambda: secrets.token_hex(16),
        secrets.randbelow(1 << 16),
        directory,
        zones,
        count=contents.last_programme_number,
        boot=boot,
    )
