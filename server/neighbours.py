"""What control says to producer, senders, usher and gateway, and what it hears from them."""

import asyncio
import logging
import os
from collections.abc import Callable

from server.processes.bus import (
    FROM_GATEWAY,
    FROM_PRODUCER,
    FROM_SENDERS,
    FROM_USHER,
    TO_GATEWAY,
    TO_PRODUCER,
    TO_SENDERS,
    TO_USHER,
    Bus,
    DeclarePaths,
    DeclareProgrammes,
    GatewayReport,
    ProducerReport,
    SenderReport,
    TicketRefusals,
    UsherReport,
    WhoIsThere,
)
from server.processes.child import Birth, adopt
from server.processes.routing import Route, RouteBook
from server.programmes import Programme
from server.station import Station

# Producer, usher and gateway; senders beside them.
_ALWAYS = 3
_log = logging.getLogger(__name__)


class Neighbours:
    """Four buses, and the routes. State is declared whole; a producer born anew is told again.

    Who reads routes finds them in memory, whoever was born when.
    """

    def __init__(
        self,
        birth: Birth,
        station: Station,
        now_ns: Callable[[], int],
        describe: Callable[[Programme], str | None],
        changed: Callable[[], None],
        moved: Callable[[], None],
        refused: Callable[[str, str, int], None],
    ) -> None:
        """`changed` is called when what was heard has to be declared to everybody.

        `moved` is called when a loudspeaker's way has opened, moved or closed; thousands may at
        once. `refused` is called with the address of whom the producer did not let speak, why, and
        how often.
        """
        self._refused = refused
        self._station = station
        self._now_ns = now_ns
        self._describe = describe
        self._changed = changed
        self._moved = moved
        self._producer: Bus[DeclareProgrammes | WhoIsThere, ProducerReport | TicketRefusals] = Bus(
            adopt(birth.producer_bus), TO_PRODUCER, FROM_PRODUCER
        )
        self._senders: Bus[WhoIsThere, SenderReport] = Bus(
            adopt(birth.senders_bus), TO_SENDERS, FROM_SENDERS
        )
        self._usher: Bus[WhoIsThere, UsherReport | DeclarePaths] = Bus(
            adopt(birth.usher_bus), TO_USHER, FROM_USHER
        )
        self._gateway: Bus[WhoIsThere, GatewayReport] = Bus(
            adopt(birth.gateway_bus), TO_GATEWAY, FROM_GATEWAY
        )
        self._routes = RouteBook(birth.routes)
        former = self._routes.news()
        if former is not None:
            station.resume(former)
        self._routed: tuple[Route, ...] | None = None
        self._wakes = birth.wakes
        self._all = _ALWAYS + birth.shards
        self._instances: dict[str, str] = {}
        self.producer_report: ProducerReport | None = None
        # By shard.
        self.sender_reports: dict[int, SenderReport] = {}
        self.usher_report: UsherReport | None = None
        self.gateway_report: GatewayReport | None = None
        # Why the former routes still hold, if they do.
        self.too_long: str | None = None
        self.ready = asyncio.Event()
        self.heard_producer = asyncio.Event()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear all of them from now on, and ask what there is."""
        loop.add_reader(self._producer.fileno(), self._hear_producer)
        loop.add_reader(self._senders.fileno(), self._hear_senders)
        loop.add_reader(self._usher.fileno(), self._hear_usher)
        loop.add_reader(self._gateway.fileno(), self._hear_gateway)
        self._producer.send(WhoIsThere())
        self._usher.send(WhoIsThere())
        self._gateway.send(WhoIsThere())

    # ------------------------------------------------------------- what they are told
    def declare(self) -> bool:
        """Tell all what shall be; false if one did not hear it: declare it again."""
        ordered = self._producer.send(self._station.orders())
        self.declare_routes()
        return ordered

    def declare_routes(self) -> None:
        """Put down who is sent what, and wake whoever reads it, if it is news."""
        routes = self._station.routes(self._describe)
        if routes == self._routed:
            return
        before, self.too_long = self.too_long, None
        try:
            self._routes.write(routes)
        except ValueError as error:
            self.too_long = str(error)
            if before is None:
                _log.error("loa: the former routes still hold: %s", error)
            return
        self._routed = routes
        for wake in self._wakes:
            os.eventfd_write(wake, 1)

    # ------------------------------------------------------------- what they say
    def _hear_producer(self) -> None:
        for message in self._producer.receive():
            match message:
                case ProducerReport():
                    self._hear_report(message)
                case TicketRefusals():
                    for refusal in message.refusals:
                        self._refused(refusal.address, refusal.why, refusal.times)

    def _hear_report(self, report: ProducerReport) -> None:
        self.producer_report = report
        reborn = self._is_reborn("producer", report.instance)
        if self._station.update(report, self._now_ns()) or reborn:
            self._changed()
        self.heard_producer.set()

    def _hear_senders(self) -> None:
        for report in self._senders.receive():
            self.sender_reports[report.shard] = report
            self._is_reborn(f"sender {report.shard}", report.instance)

    def _hear_usher(self) -> None:
        for message in self._usher.receive():
            match message:
                case UsherReport():
                    self.usher_report = message
                    self._is_reborn("usher", message.instance)
                case DeclarePaths():
                    self._move(message)

    def _move(self, paths: DeclarePaths) -> None:
        station = self._station
        moved = [station.opened(path.session, path.address, path.port) for path in paths.opened]
        moved += [station.closed(session) for session in paths.closed]
        if any(moved):
            self._moved()

    def _hear_gateway(self) -> None:
        for report in self._gateway.receive():
            self.gateway_report = report
            self._is_reborn("gateway", report.instance)
            try:
                moved = self._station.relayed(report.sessions)
            except ValueError:  # of another version of ours
                continue
            if moved:
                self._moved()

    def _is_reborn(self, process: str, instance: str) -> bool:
        before = self._instances.get(process)
        self._instances[process] = instance
        if len(self._instances) == self._all:
            self.ready.set()
        return before != instance
