"""Control's composition root: the station's state, and everyone who must be told of it."""

import asyncio
import logging
import secrets
from typing import Any

from server.bus import (
    FROM_PRODUCER,
    FROM_SENDER,
    TO_PRODUCER,
    TO_SENDER,
    Bus,
    DeclareProgrammes,
    DeclareRoutes,
    ProducerReport,
    SenderReport,
    TooLongError,
    WhoIsThere,
)
from server.child import Birth, adopt, socket_port
from server.describe import describe
from server.notebook import Notebook
from server.sessions import Sessions
from server.station import (
    ALL,
    LiveRequest,
    Programme,
    Station,
    StationError,
    UnknownProgrammeError,
)
from transport.clock.timeline import NS_PER_SECOND
from transport.control.messages import VERSION, Welcome
from transport.net.clocks import MediaClock

_TICK_S = 0.1
# How long a voice waits for loudspeakers to say that they listen; no slow one may gate the rest.
_CONFIRM_S = 0.3
_PRODUCER_S = 2.0
_OFFLINE_NS = 5 * NS_PER_SECOND
_log = logging.getLogger(__name__)


class Control:
    """Turns events into declarations. Runs on one event loop; nothing here blocks."""

    def __init__(self, birth: Birth) -> None:
        self._birth = birth
        self._ports = {
            "control": socket_port(birth.http),
            "ingest": socket_port(birth.ingest),
            "time": socket_port(birth.time),
            "rtcp": socket_port(birth.rtcp),
        }
        self._clock = MediaClock(birth.media_epoch_ns)
        self.station = Station(
            birth.groups,
            birth.group_port,
            lambda: secrets.token_hex(16),
            secrets.randbelow(1 << 16),
        )
        self._notebook = Notebook(birth.notebook)
        self._remember()
        welcome = Welcome(VERSION, self._ports["time"], self._ports["rtcp"])
        self.sessions = Sessions(self.station, welcome, self._clock.now_ns, self._joined)
        self._producer: Bus[DeclareProgrammes | WhoIsThere, ProducerReport] = Bus(
            adopt(birth.producer_bus), TO_PRODUCER, FROM_PRODUCER
        )
        self._sender: Bus[DeclareRoutes | WhoIsThere, SenderReport] = Bus(
            adopt(birth.sender_bus), TO_SENDER, FROM_SENDER
        )
        self._instances: dict[str, str] = {}
        self.sender_report: SenderReport | None = None
        self._overdue = False
        self._too_long: str | None = None
        self._changed = asyncio.Event()
        self.ready = asyncio.Event()

    def _remember(self) -> None:
        """Be the control that was before this one, if there was one."""
        try:
            plain = self._notebook.read()
            if plain is not None:
                self.station.restore(plain)
        except ValueError as error:
            _log.warning("loa: control begins with nothing: %s", error)

    # ------------------------------------------------------------- life
    async def run(self) -> None:
        """Listen to producer and sender, and let time pass."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._producer.fileno(), self._hear_producer)
        loop.add_reader(self._sender.fileno(), self._hear_sender)
        self._producer.send(WhoIsThere())
        self._sender.send(WhoIsThere())
        while True:
            await asyncio.sleep(_TICK_S)
            if self.station.expire(self._clock.now_ns()) or self._overdue:
                self.publish()

    def _joined(self) -> None:
        """A loudspeaker has come; its sound's way is declared at the next tick.

        Thousands may come back at once, and to declare everything for each of them would keep
        control from hearing the others.
        """
        self._overdue = True

    def publish(self) -> None:
        """Declare everything to everybody: it is the state that counts, not the event.

        What could not be delivered now is declared again at the next tick.
        """
        # First, so that a control killed here and born again does not take anything back.
        self._notebook.write(self.station.to_plain())
        before, self._too_long = self._too_long, None
        try:
            ordered = self._producer.send(self.station.orders())
            routed = self._sender.send(self.station.routes(self._describe))
            self._overdue = not (ordered and routed)
        except TooLongError as error:
            self._too_long = str(error)
            if before is None:
                _log.error("loa: the sender keeps its former routes: %s", error)
        self.sessions.declare()

    def _describe(self, programme: Programme) -> str | None:
        birth = self._birth
        return describe(
            programme, birth.interface, birth.group_port, birth.ttl, self._ports["time"]
        )

    def _hear_producer(self) -> None:
        for report in self._producer.receive():
            reborn = self._is_reborn("producer", report.instance)
            if self.station.update(report, self._clock.now_ns()) or reborn:
                self.publish()
            self._changed.set()

    def _hear_sender(self) -> None:
        for report in self._sender.receive():
            self.sender_report = report
            if self._is_reborn("sender", report.instance):
                self.publish()

    def _is_reborn(self, process: str, instance: str) -> bool:
        before = self._instances.get(process)
        self._instances[process] = instance
        if len(self._instances) == 2:
            self.ready.set()
        return before != instance

    # ------------------------------------------------------------- requests
    async def open_live(self, request: LiveRequest) -> dict[str, Any]:
        """Grant a ticket; answers when the loudspeakers that can be are listening."""
        programme = self.station.open(request, self._clock.now_ns())
        self.publish()
        try:
            await self._until_begun(programme)
        except StationError:
            self.station.programmes.pop(programme.name, None)
            self.publish()
            raise
        names = {name for name in self.station.speakers if programme.addresses(name)}
        silent = await self.sessions.confirm(names, _CONFIRM_S)
        offline = {name for name in names if self.station.speakers[name].session is None}
        return {
            "programme": programme.name,
            "ticket": programme.ticket,
            "ingest_port": self._ports["ingest"],
            "time_port": self._ports["time"],
            "playout_delay_ms": request.playout_delay_ms,
            "listening": sorted(names - silent - offline),
            "not_listening": sorted(silent | offline),
            "sdp": self._sdp_path(programme),
        }

    async def _until_begun(self, programme: Programme) -> None:
        """Until the producer has numbered the stream; StationError if it cannot be."""
        try:
            async with asyncio.timeout(_PRODUCER_S):
                while programme.report is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise StationError("the producer does not answer: try again in a moment") from None
        if programme.ended_at_ns is not None:
            raise StationError("the producer could not begin; what it said is in its log")
        if self._too_long is not None:
            raise StationError(
                "the station cannot send so many programmes to so many loudspeakers: "
                "wait for an end, or address fewer"
            )

    def _sdp_path(self, programme: Programme) -> str | None:
        return f"/programmes/{programme.name}.sdp" if self.station.uses_group(programme) else None

    # ------------------------------------------------------------- queries
    def summary(self) -> dict[str, Any]:
        """The station at a glance."""
        report = self.sender_report
        return {
            "ports": self._ports,
            "speakers": len(self.station.speakers),
            "programmes": len(self.station.programmes),
            "sender": {}
            if report is None
            else {
                "datagrams": report.datagrams,
                "overruns": report.overruns,
                "errors": report.errors,
                "time_answers": report.time_answers,
                "malformed": report.malformed,
                "receivers_reporting": report.receivers,
                "worst_fraction_lost": report.worst_fraction_lost,
            },
        }

    def speakers(self) -> list[dict[str, Any]]:
        """Each loudspeaker's state and figures."""
        now_ns = self._clock.now_ns()
        rows = []
        for speaker in self.station.speakers.values():
            unseen_ns = now_ns - speaker.last_seen_ns
            online = speaker.session is not None and unseen_ns < _OFFLINE_NS
            telemetry = speaker.telemetry
            state = telemetry.state if telemetry is not None and online else "syncing"
            row: dict[str, Any] = {
                "name": speaker.name,
                "state": state if online else "offline",
                "address": speaker.address,
                "multicast": speaker.multicast,
                "last_seen_s": round(unseen_ns / NS_PER_SECOND, 1),
            }
            if telemetry is not None:
                row |= {
                    "level_dbfs": telemetry.level_dbfs,
                    "sync_error_us": telemetry.sync_error_us,
                    "clock_uncertainty_us": telemetry.clock_uncertainty_us,
                    "packets_received": telemetry.packets_received,
                    "packets_lost": telemetry.packets_lost,
                    "packets_late": telemetry.packets_late,
                    "packets_dropped": telemetry.packets_dropped,
                    "underruns": telemetry.underruns,
                    "uptime_s": telemetry.uptime_s,
                }
            rows.append(row)
        return rows

    def programmes(self) -> list[dict[str, Any]]:
        """Each programme's state; tickets stay secret."""
        return [
            {
                "name": p.name,
                "to": [ALL] if ALL in p.request.to else list(p.request.to),
                "state": "waiting" if p.report is None else p.report.state,
                "seconds": 0.0 if p.report is None else p.report.seconds,
                "level_dbfs": None if p.report is None else p.report.level_dbfs,
                "playout_delay_ms": p.request.playout_delay_ms,
                "sdp": self._sdp_path(p),
            }
            for p in self.station.programmes.values()
        ]

    def description(self, name: str) -> str:
        """A programme's SDP; StationError where there is none."""
        programme = self.station.programmes.get(name)
        if programme is None:
            raise UnknownProgrammeError(f"no programme {name!r} is on air; see /api/programmes")
        if not self.station.uses_group(programme):
            raise StationError(
                f"{name} goes out by unicast alone: start it with --multicast for stock players"
            )
        text = self._describe(programme)
        if text is None:
            raise StationError(f"{name} has not started yet: try again in a moment")
        return text
