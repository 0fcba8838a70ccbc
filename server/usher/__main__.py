"""The usher's process: one plain loop over time, keep-alives, repairs, reports, announcements."""

import gc
import os
import random
import secrets
import select
import socket
from contextlib import suppress

from server.processes import priority
from server.processes.bus import FROM_USHER, TO_USHER, Bus, DeclarePaths, UsherReport, WhoIsThere
from server.processes.child import Birth, adopt, ignore_interrupts, read_secret
from server.processes.priority import go_before
from server.processes.ring import RingReader
from server.processes.routing import RouteBook
from server.usher.announcer import Announcer
from server.usher.paths import MAX_REQUEST, NONCE_SECRET_BYTES, Address, Paths
from server.usher.repairs import Repairs
from server.usher.reports import MAX_REPORT, ReceptionLog
from server.usher.timekeeper import TimeKeeper
from transport.clock.timeline import NS_PER_SECOND
from transport.net.clocks import MediaClock
from transport.net.received import ReceivedBatch
from transport.net.stamped import send_options, spelt_for
from transport.recovery.request import MAX_REQUEST_BYTES, REQUEST

_REPORT_NS = NS_PER_SECOND // 2
# Control is told of those that have opened or moved meanwhile together.
_PATHS_NS = NS_PER_SECOND // 50
# Within this time the ring is read as well, which the busiest station fills in 0.4 s.
_PATIENCE_NS = NS_PER_SECOND // 10
_BATCH = 64
_REQUEST = bytes((REQUEST,))


class Usher:
    """Everything the usher holds."""

    def __init__(self, birth: Birth) -> None:
        self._birth = birth
        self._clock = MediaClock(birth.media_epoch_ns)
        secret = read_secret(birth.secret)
        self._rtp = adopt(birth.rtp)
        send_options(self._rtp, birth.interface, birth.ttl)
        # Keep-alives and requests for repairs.
        self._asking = ReceivedBatch(
            self._rtp,
            _BATCH,
            max(MAX_REQUEST, MAX_REQUEST_BYTES) + 1,
            stamps=False,
            overflow=True,
        )
        self._paths = Paths(secret, secrets.token_bytes(NONCE_SECRET_BYTES))
        self._ring = RingReader(birth.ring)
        self._repairs = Repairs(self._ring.read, secret)
        self._time = TimeKeeper(adopt(birth.time), self._clock, secret)
        self._rtcp = ReceivedBatch(
            adopt(birth.rtcp), _BATCH, MAX_REPORT + 1, stamps=False, overflow=True
        )
        self._reports = ReceptionLog()
        self._routes = RouteBook(birth.routes)
        self._announcer = Announcer(birth.interface, random.SystemRandom().random)
        self._bus: Bus[UsherReport | DeclarePaths, WhoIsThere] = Bus(
            adopt(birth.usher_bus), FROM_USHER, TO_USHER
        )
        self._instance = secrets.token_hex(8)
        self._report_due_ns = 0
        self._paths_due_ns = 0

    def run(self) -> None:
        """Until the lifeline is cut."""
        # In this order: what comes all at once must not keep the time waiting.
        acts = {
            self._birth.usher_wake: self._learn_routes,
            self._birth.time: self._time.serve,
            self._birth.rtp: self._answer_loudspeakers,
            self._birth.rtcp: self._take_reports,
            self._bus.fileno(): self._take_orders,
        }
        waiting = select.epoll()
        for descriptor in (*acts, self._birth.lifeline):
            waiting.register(descriptor, select.EPOLLIN)
        self._learn_routes()
        while True:
            # First, so that control learns at once that there is an usher.
            self._housekeeping(self._clock.now_ns())
            ready = {descriptor for descriptor, _ in waiting.poll(self._patience_s())}
            if self._birth.lifeline in ready:
                return
            for descriptor, act in acts.items():
                if descriptor in ready:
                    act()

    def _patience_s(self) -> float:
        """How long there is nothing to do of our own accord."""
        patience_ns = _PATHS_NS if self._paths.is_pending else _PATIENCE_NS
        due_ns = self._repairs.next_due_ns
        if due_ns is not None:
            patience_ns = min(patience_ns, max(due_ns - self._clock.now_ns(), 0))
        return patience_ns / NS_PER_SECOND

    def _learn_routes(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._birth.usher_wake)
        routes = self._routes.news()
        if routes is None:
            return
        self._repairs.declare(routes)
        if self._birth.announce:
            self._announcer.declare(routes)

    def _answer_loudspeakers(self) -> None:
        now_ns = self._clock.now_ns()
        for data, source in _received(self._asking):
            if data[:1] == _REQUEST:
                self._repairs.receive(data, source, now_ns, self._paths.path_of)
                continue
            answer = self._paths.receive(data, source, now_ns)
            if answer is not None:
                _send_quietly(self._rtp, answer, source)

    def _take_reports(self) -> None:
        now_ns = self._clock.now_ns()
        for data, _ in _received(self._rtcp):
            self._reports.receive(data, now_ns)

    def _take_orders(self) -> None:
        for message in self._bus.receive():
            match message:
                case WhoIsThere():
                    self._report_due_ns = 0
                    self._paths.tell_all()

    def _housekeeping(self, now_ns: int) -> None:
        for datagram, address in self._announcer.due(now_ns):
            _send_quietly(self._rtp, datagram, address)
        self._repairs.keep_up()
        for bundle, home in self._repairs.due(now_ns):
            _send_quietly(self._rtp, bundle, home)
        if now_ns >= self._report_due_ns:
            self._report_due_ns = now_ns + _REPORT_NS
            self._paths.expire(now_ns)
            self._bus.send(self._report(now_ns))
        if now_ns >= self._paths_due_ns and self._paths.is_pending:
            self._paths_due_ns = now_ns + _PATHS_NS
            self._declare_paths()

    def _declare_paths(self) -> None:
        declaration = self._paths.declaration()
        if self._bus.send(declaration):  # else again, until the bus has taken it
            self._paths.taken(declaration)

    def _report(self, now_ns: int) -> UsherReport:
        receivers, worst = self._reports.summary(now_ns)
        answering = (self._time, self._reports, self._paths, self._repairs)
        return UsherReport(
            instance=self._instance,
            time_answers=self._time.answers,
            malformed=sum(one.malformed for one in answering),
            refused=sum(one.refused for one in answering),
            receivers=receivers,
            worst_fraction_lost=worst,
            paths=len(self._paths),
            dropped=self._time.dropped + self._asking.dropped + self._rtcp.dropped,
            repair_requests=self._repairs.requests,
            repair_bundles=self._repairs.bundles,
            repairs=self._repairs.packets,
            repairs_unknown=self._repairs.unknown,
            repairs_limited=self._repairs.limited,
            repairs_to_groups=self._repairs.to_groups,
            repairs_covered=self._repairs.covered,
            overruns=self._ring.overruns,
        )


def _received(batch: ReceivedBatch) -> list[tuple[bytes, Address]]:
    """What waits, up to a batch; whoever selects calls again for the rest."""
    count = batch.receive()
    sources = batch.sources
    return [(batch.data[i, : batch.lengths[i]].tobytes(), sources[i]) for i in range(count)]


def _send_quietly(udp: socket.socket, datagram: bytes, address: tuple[str, int]) -> None:
    with suppress(OSError):  # what cannot leave now is said, or asked for, again anyway
        udp.sendto(datagram, (spelt_for(udp, address[0]), address[1]))


def main() -> None:
    """Run until the supervisor is gone."""
    ignore_interrupts()
    go_before(priority.USHER)
    usher = Usher(Birth.from_arguments())
    # Nothing built so far will ever be garbage, and a collection costs milliseconds.
    gc.collect()
    gc.freeze()
    gc.disable()
    usher.run()


if __name__ == "__main__":
    main()
