"""The sender's process: waits for its turn, then a plain loop over the ring.

Two processes are started for each shard. Whoever locks the byte of its shard sends; the other one
has everything ready and waits for the lock, which the kernel gives it when the first one dies.
"""

import fcntl
import gc
import os
import secrets
import select
from contextlib import suppress

from server.processes.bus import FROM_SENDERS, TO_SENDERS, Bus, SenderReport, WhoIsThere
from server.processes.child import Birth, adopt, ignore_interrupts, name_process, wake_punctually
from server.processes.priority import keep_the_beat
from server.processes.ring import RingReader
from server.processes.routing import RouteBook
from server.sender.fanout import FanOut
from transport.clock.timeline import NS_PER_SECOND
from transport.net.batch import Transmitter
from transport.net.clocks import HostClock
from transport.net.stamped import send_options

_REPORT_NS = NS_PER_SECOND // 2
# While there is something to send at once, others are looked after so often.
_LOOK_NS = 1_000_000


class Sender:
    """Everything one sender holds, from its birth on; `run` begins when it is its turn."""

    def __init__(self, birth: Birth) -> None:
        self._birth = birth
        self._clock = HostClock()
        udp = adopt(birth.rtp)
        send_options(udp, birth.interface, birth.ttl)
        self._fanout = FanOut(Transmitter(udp), birth.shard, birth.shards)
        self._routes = RouteBook(birth.routes)
        self._bus: Bus[SenderReport, WhoIsThere] = Bus(
            adopt(birth.senders_bus), FROM_SENDERS, TO_SENDERS
        )
        self._instance = secrets.token_hex(8)

    def wait_for_turn(self) -> None:
        """Until no other process sends for this shard; the kernel notices a death at once."""
        fcntl.lockf(self._birth.turns, fcntl.LOCK_EX, 1, self._birth.shard)

    def run(self) -> None:
        """Send until the lifeline is cut."""
        # Not before its turn: where to go on is known when the last one is dead.
        ring = RingReader(self._birth.ring, self._birth.shard)
        self._learn_routes()
        due_ns: int | None = None
        report_due_ns = look_due_ns = 0
        while True:
            now_ns = self._clock.now_ns()
            if now_ns >= report_due_ns:
                report_due_ns = now_ns + _REPORT_NS
                self._bus.send(self._report(ring.overruns))
            if due_ns is None or due_ns > now_ns or now_ns >= look_due_ns:
                until_ns = report_due_ns if due_ns is None else min(due_ns, report_due_ns)
                if not self._look(max(0, until_ns - now_ns)):
                    return
                look_due_ns = self._clock.now_ns() + _LOOK_NS
            if ring.is_behind:
                now_ns = self._clock.now_ns()
                for entry in ring.read():
                    self._fanout.take(entry, now_ns)
            due_ns = self._fanout.work(self._clock.now_ns())
            if due_ns is None:
                ring.done()

    def _look(self, patience_ns: int) -> bool:
        """Wait for something to happen, no longer than so; false if the parent is gone."""
        wake, lifeline = self._birth.wakes[self._birth.shard], self._birth.lifeline
        ready, _, _ = select.select([wake, lifeline], [], [], patience_ns / NS_PER_SECOND)
        if wake in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(wake)
            # Before the ring: what is written there was routed first.
            self._learn_routes()
        return lifeline not in ready

    def _learn_routes(self) -> None:
        routes = self._routes.news()
        if routes is not None:
            self._fanout.declare(routes)

    def _report(self, overruns: int) -> SenderReport:
        counters = self._fanout.counters
        return SenderReport(
            instance=self._instance,
            shard=self._birth.shard,
            datagrams=counters.datagrams,
            overruns=overruns,
            errors=counters.errors,
            stale=counters.stale,
            lateness=tuple(int(count) for count in counters.lateness),
            late_max_us=int(counters.late_max_us),
            queue=counters.queue,
            deepest=counters.deepest,
            destinations=counters.destinations,
        )


def main() -> None:
    """Run until the supervisor is gone."""
    ignore_interrupts()
    birth = Birth.from_arguments()
    name_process(f"loa-spare-{birth.shard}")
    sender = Sender(birth)
    wake_punctually()
    keep_the_beat(birth.shards)
    # Nothing built so far will ever be garbage, and a collection costs milliseconds.
    gc.collect()
    gc.freeze()
    gc.disable()
    sender.wait_for_turn()
    name_process(f"loa-sender-{birth.shard}")
    sender.run()


if __name__ == "__main__":
    main()
