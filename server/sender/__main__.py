"""The sender's process: one plain loop over ring, time, RTCP and the bus."""

import gc
import os
import random
import secrets
import select
import socket
from contextlib import suppress

from server.bus import FROM_SENDER, TO_SENDER, Bus, DeclareRoutes, SenderReport, WhoIsThere
from server.child import Birth, adopt, ignore_interrupts
from server.ring import RingReader
from server.sender.announcer import Announcer
from server.sender.fanout import FanOut
from server.sender.reports import ReceptionLog
from server.sender.timekeeper import TimeKeeper
from transport.clock.timeline import NS_PER_SECOND
from transport.net.clocks import MediaClock
from transport.net.stamped import MAX_DATAGRAM, send_options

_REPORT_NS = NS_PER_SECOND // 2
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
        self._time = TimeKeeper(adopt(birth.time), self._clock)
        self._rtcp = adopt(birth.rtcp)
        self._reports = ReceptionLog()
        self._announcer = Announcer(birth.interface, random.SystemRandom().random)
        self._bus: Bus[SenderReport, DeclareRoutes | WhoIsThere] = Bus(
            adopt(birth.sender_bus), FROM_SENDER, TO_SENDER
        )
        self._instance = secrets.token_hex(8)
        self._report_due_ns = 0

    def run(self) -> None:
        """Until the lifeline is cut."""
        sources = {
            self._birth.wake: self._forward,
            self._birth.time: self._time.serve,
            self._birth.rtcp: self._take_reports,
            self._bus.fileno(): self._take_orders,
        }
        waiting = select.epoll()
        for descriptor in (*sources, self._birth.lifeline):
            waiting.register(descriptor, select.EPOLLIN)
        while True:
            # First, so that control learns at once that there is a sender to be told everything.
            self._housekeeping(self._clock.now_ns())
            ready = {descriptor for descriptor, _ in waiting.poll(0.1)}
            if self._birth.lifeline in ready:
                return
            # Sound first, then whatever else waits.
            for descriptor, act in sources.items():
                if descriptor in ready:
                    act()

    def _forward(self) -> None:
        try:
            os.eventfd_read(self._birth.wake)
        except BlockingIOError:
            return
        for entry in self._ring.read():
            self._fanout.forward(entry)

    def _take_reports(self) -> None:
        for _ in range(_BATCH):
            try:
                data, _ = self._rtcp.recvfrom(MAX_DATAGRAM)
            except OSError:
                return
            self._reports.receive(data, self._clock.now_ns())

    def _take_orders(self) -> None:
        for message in self._bus.receive():
            match message:
                case DeclareRoutes():
                    self._fanout.declare(message)
                    if self._birth.announce:
                        self._announcer.declare(message)
                case WhoIsThere():
                    self._report_due_ns = 0

    def _housekeeping(self, now_ns: int) -> None:
        for datagram, address in self._announcer.due(now_ns):
            _send_quietly(self._rtp, datagram, address)
        if now_ns >= self._report_due_ns:
            self._report_due_ns = now_ns + _REPORT_NS
            receivers, worst = self._reports.summary(now_ns)
            self._bus.send(
                SenderReport(
                    instance=self._instance,
                    datagrams=self._fanout.counters.datagrams,
                    overruns=self._ring.overruns,
                    errors=self._fanout.counters.errors,
                    time_answers=self._time.answers,
                    malformed=self._time.malformed + self._reports.malformed,
                    receivers=receivers,
                    worst_fraction_lost=worst,
                )
            )


def _send_quietly(udp: socket.socket, datagram: bytes, address: tuple[str, int]) -> None:
    with suppress(OSError):  # an announcement that cannot leave now is repeated anyway
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
