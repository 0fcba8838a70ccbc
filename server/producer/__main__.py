"""The producer's process: composition, threads and the bus."""

import gc
import os
import random
import secrets
import select
import sys
import threading
from pathlib import Path

from server.keys.tls import server_context
from server.processes import priority
from server.processes.bus import (
    FROM_PRODUCER,
    TO_PRODUCER,
    Bus,
    DeclareProgrammes,
    ProducerReport,
    ProgrammeOrder,
    TicketRefusals,
    WhoIsThere,
)
from server.processes.child import Birth, adopt, ignore_interrupts
from server.processes.priority import go_before
from server.processes.ring import RingWriter
from server.producer.listener import Listener
from server.producer.programme import Programme
from server.producer.refusals import Refusals
from server.producer.registry import Registry
from transport.net.clocks import HostClock, MediaClock

_Control = Bus[ProducerReport | TicketRefusals, DeclareProgrammes | WhoIsThere]
_REPORT_S = 0.25
# How long a thread may keep the interpreter from another one that wants to send a frame.
_SWITCH_S = 0.0005


def main() -> None:
    """Run until the supervisor is gone."""
    ignore_interrupts()
    go_before(priority.PRODUCER)
    sys.setswitchinterval(_SWITCH_S)
    birth = Birth.from_arguments()
    clock = MediaClock(birth.media_epoch_ns)
    wakes = (*birth.wakes[: birth.shards], birth.gateway_wake)
    ring = RingWriter(birth.ring, *wakes, now_ns=HostClock().now_ns)
    uniform = random.SystemRandom().random
    changed = os.eventfd(0, os.EFD_NONBLOCK)

    def tell() -> None:
        os.eventfd_write(changed, 1)

    def build(order: ProgrammeOrder) -> Programme:
        return Programme(order, secrets.token_bytes, uniform, ring.write, tell)

    registry = Registry(secrets.token_hex(8), build)
    context = server_context(Path(birth.tls_certificate), Path(birth.tls_key))
    refusals = Refusals()
    listener = Listener(
        adopt(birth.ingest), context, registry, clock, tell, refused=refusals.refuse
    )
    threading.Thread(target=listener.run, daemon=True).start()
    gc.collect()
    gc.freeze()
    _talk(birth, registry, refusals, clock, changed)


def _talk(
    birth: Birth, registry: Registry, refusals: Refusals, clock: MediaClock, changed: int
) -> None:
    """Take orders from control and report to it, until the lifeline is cut."""
    bus: _Control = Bus(adopt(birth.producer_bus), FROM_PRODUCER, TO_PRODUCER)
    waiting = select.poll()
    for descriptor in (bus.fileno(), birth.lifeline, changed):
        waiting.register(descriptor, select.POLLIN)
    while True:
        bus.send(registry.report(clock.now_ns()))
        _tell(bus, refusals)
        ready = {descriptor for descriptor, _ in waiting.poll(_REPORT_S * 1000)}
        if birth.lifeline in ready:
            return
        if changed in ready:
            os.eventfd_read(changed)
        for message in bus.receive():
            match message:
                case DeclareProgrammes():
                    registry.declare(message, clock.now_ns())
                case WhoIsThere():
                    pass  # the loop reports in any case


def _tell(bus: _Control, refusals: Refusals) -> None:
    """Of whom was refused; again, if control does not hear it now."""
    refused = refusals.take()
    if refused and not bus.send(TicketRefusals(refused)):
        refusals.put_back(refused)


if __name__ == "__main__":
    main()
