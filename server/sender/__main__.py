"""The sender's process: one plain loop over ring, time, RTCP and the bus."""

import gc
import os
import random
import secrets
import select
import socket
from contextlib import suppress

from server.processes.bus import (
    FROM_SENDER,
    TO_SENDER,
    Bus,
    DeclarePaths,
    DeclareRoutes,
    SenderReport,
    WhoIsThere,
)
from server.processes.child import Birth, adopt, ignore_interrupts, read_secret
from server.processes.ring import RingReader
from server.sender.fanout import FanOut
from server.usher.announcer import Announcer
from server.usher.paths import MAX_REQUEST, NONCE_SECRET_BYTES, Paths
from server.usher.reports import MAX_REPORT, ReceptionLog
from server.usher.timekeeper import TimeKeeper
from transport.clock.timeline import NS_PER_SECOND
from transport.net.clocks import MediaClock
from transport.net.stamped import send_options

_REPORT_NS = NS_PER_SECOND // 2
# Control works out everybody's way anew for each declaration: one loudspeaker that wanders between
# two ports shall not keep it busy.
_PATHS_NS = NS_PER_SECOND // 50
_BATCH = 64


class Sender:
    """Everything one sender holds."""

    def __init__(self, birth: Birth) -> None:
        self._birth = birth
        self._clock = MediaClock(birth.media_epoch_ns)
        self._ring = RingReader(birth.ring)
        self._rtp = adopt(birth.rtp)
        send_options(self._rtp, birth.interface, birth.ttl)
        self._fanout = FanOut(self._rtp)
        secret = read_secret(birth.secret)
        self._paths = Paths(secret, secrets.token_bytes(NONCE_SECRET_BYTES))
        self._time = TimeKeeper(adopt(birth.time), self._clock, secret)
        self._rtcp = adopt(birth.rtcp)
        self._reports = ReceptionLog()
        self._announcer = Announcer(birth.interface, random.SystemRandom().random)
        self._bus: Bus[SenderReport | DeclarePaths, DeclareRoutes | WhoIsThere] = Bus(
            adopt(birth.sender_bus), FROM_SENDER, TO_SENDER
        )
        self._instance = secrets.token_hex(8)
        self._report_due_ns = 0
        self._paths_due_ns = 0

    def run(self) -> None:
        """Until the lifeline is cut."""
        others = {
            self._birth.rtp: self._answer_keepalives,
            self._birth.time: self._time.serve,
            self._birth.rtcp: self._take_reports,
            self._bus.fileno(): self._take_orders,
        }
        waiting = select.epoll()
        for descriptor in (self._birth.wake, *others, self._birth.lifeline):
            waiting.register(descriptor, select.EPOLLIN)
        while True:
            # First, so that control learns at once that there is a sender to be told everything.
            self._housekeeping(self._clock.now_ns())
            patience_s = 0.02 if self._paths.is_pending else 0.1
            ready = {descriptor for descriptor, _ in waiting.poll(patience_s)}
            if self._birth.lifeline in ready:
                return
            self._forward()
            for descriptor, act in others.items():
                if descriptor in ready:
                    act()
                    # Sound first: under a flood each of the others takes a while.
                    self._forward()

    def _forward(self) -> None:
        try:
            os.eventfd_read(self._birth.wake)
        except BlockingIOError:
            return
        for entry in self._ring.read():
            self._fanout.forward(entry)

    def _answer_keepalives(self) -> None:
        now_ns = self._clock.now_ns()
        for _ in range(_BATCH):
            try:
                data, source = self._rtp.recvfrom(MAX_REQUEST + 1)
            except OSError:
                return
            answer = self._paths.receive(data, source, now_ns)
            if answer is not None:
                _send_quietly(self._rtp, answer, source)

    def _take_reports(self) -> None:
        now_ns = self._clock.now_ns()
        for _ in range(_BATCH):
            try:
                data, _ = self._rtcp.recvfrom(MAX_REPORT + 1)
            except OSError:
                return
            self._reports.receive(data, now_ns)

    def _take_orders(self) -> None:
        for message in self._bus.receive():
            match message:
                case DeclareRoutes():
                    self._fanout.declare(message)
                    if self._birth.announce:
                        self._announcer.declare(message)
                case WhoIsThere():
                    self._report_due_ns = 0
                    self._paths.tell_all()

    def _housekeeping(self, now_ns: int) -> None:
        for datagram, address in self._announcer.due(now_ns):
            _send_quietly(self._rtp, datagram, address)
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

    def _report(self, now_ns: int) -> SenderReport:
        receivers, worst = self._reports.summary(now_ns)
        return SenderReport(
            instance=self._instance,
            datagrams=self._fanout.counters.datagrams,
            overruns=self._ring.overruns,
            errors=self._fanout.counters.errors,
            time_answers=self._time.answers,
            malformed=self._time.malformed + self._reports.malformed + self._paths.malformed,
            receivers=receivers,
            worst_fraction_lost=worst,
            refused=self._time.refused + self._reports.refused + self._paths.refused,
            paths=len(self._paths),
        )


def _send_quietly(udp: socket.socket, datagram: bytes, address: tuple[str, int]) -> None:
    with suppress(OSError):  # what cannot leave now is said, or asked for, again anyway
        udp.sendto(datagram, address)


def main() -> None:
    """Run until the supervisor is gone."""
    ignore_interrupts()
    sender = Sender(Birth.from_arguments())
    # Nothing built so far will ever be garbage, and a collection costs milliseconds.
    gc.collect()
    gc.freeze()
    gc.disable()
    sender.run()


if __name__ == "__main__":
    main()
