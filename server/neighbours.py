"""What control says to producer, sender and gateway, and what it hears from them."""

import asyncio
import logging
from collections.abc import Callable

from server.processes.bus import (
    FROM_GATEWAY,
    FROM_PRODUCER,
    FROM_SENDER,
    TO_GATEWAY,
    TO_PRODUCER,
    TO_SENDER,
    Bus,
    DeclarePaths,
    DeclareProgrammes,
    DeclareRelays,
    DeclareRoutes,
    GatewayReport,
    ProducerReport,
    SenderReport,
    TooLongError,
    WhoIsThere,
    unpack_sessions,
)
from server.processes.child import Birth, adopt
from server.programmes import Programme
from server.station import Station

_ALL = 3
_log = logging.getLogger(__name__)


class Neighbours:
    """Three buses. State is declared whole; whoever is born anew is told everything again."""

    def __init__(
        self,
        birth: Birth,
        station: Station,
        now_ns: Callable[[], int],
        describe: Callable[[Programme], str | None],
        changed: Callable[[], None],
        moved: Callable[[], None],
    ) -> None:
        """`changed` is called when what was heard has to be declared to everybody.

        `moved` is called when a loudspeaker's way has opened, moved or closed; thousands may at
        once.
        """
        self._station = station
        self._now_ns = now_ns
        self._describe = describe
        self._changed = changed
        self._moved = moved
        self._producer: Bus[DeclareProgrammes | WhoIsThere, ProducerReport] = Bus(
            adopt(birth.producer_bus), TO_PRODUCER, FROM_PRODUCER
        )
        self._sender: Bus[DeclareRoutes | WhoIsThere, SenderReport | DeclarePaths] = Bus(
            adopt(birth.sender_bus), TO_SENDER, FROM_SENDER
        )
        self._gateway: Bus[DeclareRelays | WhoIsThere, GatewayReport] = Bus(
            adopt(birth.gateway_bus), TO_GATEWAY, FROM_GATEWAY
        )
        self._instances: dict[str, str] = {}
        self.sender_report: SenderReport | None = None
        self.gateway_report: GatewayReport | None = None
        # Why the sender keeps its former routes, if it does.
        self.too_long: str | None = None
        self.ready = asyncio.Event()
        self.heard_producer = asyncio.Event()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hear all three from now on, and ask what there is."""
        loop.add_reader(self._producer.fileno(), self._hear_producer)
        loop.add_reader(self._sender.fileno(), self._hear_sender)
        loop.add_reader(self._gateway.fileno(), self._hear_gateway)
        self._producer.send(WhoIsThere())
        self._sender.send(WhoIsThere())
        self._gateway.send(WhoIsThere())

    def declare(self) -> bool:
        """Tell all three what shall be; false if one did not hear it: declare it again."""
        before, self.too_long = self.too_long, None
        try:
            ordered = self._producer.send(self._station.orders())
            routed = self._sender.send(self._station.routes(self._describe))
            relayed = self._gateway.send(self._station.relays())
        except TooLongError as error:
            self.too_long = str(error)
            if before is None:
                _log.error("loa: the sender keeps its former routes: %s", error)
            return True  # to say it again would change nothing
        return ordered and routed and relayed

    def _hear_producer(self) -> None:
        for report in self._producer.receive():
            reborn = self._is_reborn("producer", report.instance)
            if self._station.update(report, self._now_ns()) or reborn:
                self._changed()
            self.heard_producer.set()

    def _hear_sender(self) -> None:
        for message in self._sender.receive():
            match message:
                case SenderReport():
                    self.sender_report = message
                    if self._is_reborn("sender", message.instance):
                        self._changed()
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
            if self._is_reborn("gateway", report.instance):
                self._changed()
            try:
                sessions = set(unpack_sessions(report.sessions))
            except ValueError:  # of another version of ours
                continue
            if self._station.relayed(sessions):
                self._moved()

    def _is_reborn(self, process: str, instance: str) -> bool:
        before = self._instances.get(process)
        self._instances[process] = instance
        if len(self._instances) == _ALL:
            self.ready.set()
        return before != instance
