"""The sender's whole loop, on the sockets and memory it is born with; in a thread."""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from server.processes.bus import FROM_SENDERS, TO_SENDERS, Bus, SenderReport, WhoIsThere
from server.processes.child import Birth, adopt
from server.processes.ring import RTP, Entry, RingReader, RingWriter
from server.processes.routing import Route, RouteBook, pack_destination
from server.sender import __main__ as module
from server.sender import fanout
from transport.net.clocks import HostClock
from transport.net.stamped import udp_socket

# Never waited for unless something is broken.
PATIENCE_S = 20.0
SECOND_NS = 1_000_000_000


class Running:
    """A sender at work, its control, its producer, and a loudspeaker's socket."""

    def __init__(self, births: dict[str, Birth], lifeline: int, held: ExitStack) -> None:
        self.birth = replace(births["server.sender"], lifeline=lifeline)
        self.bus: Bus[WhoIsThere, SenderReport] = Bus(
            held.enter_context(adopt(births["server"].senders_bus)), TO_SENDERS, FROM_SENDERS
        )
        self.routes = RouteBook(self.birth.routes)
        self.ear = held.enter_context(udp_socket("127.0.0.1", 0))
        self.ear.setblocking(True)
        self.ear.settimeout(PATIENCE_S)
        self.thread = threading.Thread(target=module.Sender(self.birth).run)

    def writer(self, now_ns: int | None = None) -> RingWriter:
        """A producer's end; its clock stands still at `now_ns` if that is given."""
        clock = HostClock().now_ns if now_ns is None else lambda: now_ns
        return RingWriter(self.birth.ring, self.birth.wakes[0], now_ns=clock)

    def report(self) -> SenderReport:
        """The newest of those that wait, or the next."""
        assert select.select([self.bus], [], [], PATIENCE_S)[0]
        return list(self.bus.receive())[-1]

    def report_when(self, holds: Callable[[SenderReport], bool]) -> SenderReport:
        """The first of which this holds; there are fifty a second."""
        for _ in range(1000):
            if holds(report := self.report()):
                return report
        raise AssertionError("gave up waiting for such a report")

    def declare(self, *streams: int) -> None:
        """These go to the ear."""
        host, port = self.ear.getsockname()
        packed = pack_destination(host, port, port)
        self.routes.write(Route(stream, 20.0, packed) for stream in streams)
        os.eventfd_write(self.birth.wakes[0], 1)

    def hear(self, count: int) -> list[bytes]:
        return [self.ear.recv(100) for _ in range(count)]


@pytest.fixture
def waiting(births: dict[str, Birth], monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A sender whose turn has not come."""
    lifeline, end = os.pipe()
    with ExitStack() as held:
        held.callback(os.close, lifeline)
        # A process keeps what it has adopted until its end; a test must not.
        monkeypatch.setattr(module, "adopt", lambda fd: held.enter_context(adopt(fd)))
        monkeypatch.setattr(module, "_REPORT_NS", 20_000_000)
        # A busy machine may keep this thread waiting for longer than sound may.
        monkeypatch.setattr(fanout, "_STALE_NS", 10 * SECOND_NS)
        running = Running(births, lifeline, held)
        try:
            yield running
        finally:
            os.close(end)
            running.thread.join(PATIENCE_S)
            assert not running.thread.is_alive(), "the cut lifeline did not end it"


@pytest.fixture
def running(waiting: Running) -> Running:
    waiting.thread.start()
    waiting.report()
    return waiting


def test_what_the_producer_writes_goes_where_control_declared(running: Running) -> None:
    running.declare(1)
    writer = running.writer()
    for number in range(100):
        writer.write(Entry(1, RTP, b"%d" % number))
    assert running.hear(100) == [b"%d" % n for n in range(100)]


def test_what_control_did_not_declare_goes_nowhere(running: Running) -> None:
    running.declare(1)
    writer = running.writer()
    writer.write(Entry(2, RTP, b"stray"))
    writer.write(Entry(1, RTP, b"declared"))
    assert running.hear(1) == [b"declared"]


def test_what_is_declared_in_the_midst_of_a_stream_holds_for_its_next_packet(
    running: Running,
) -> None:
    running.declare(1)
    writer = running.writer()
    writer.write(Entry(1, RTP, b"one"))
    assert running.hear(1) == [b"one"]
    running.declare(2)
    writer.write(Entry(1, RTP, b"two"))
    writer.write(Entry(2, RTP, b"three"))
    assert running.hear(1) == [b"three"]


def test_what_was_declared_before_its_birth_it_finds_in_memory(waiting: Running) -> None:
    waiting.declare(1)
    os.eventfd_read(waiting.birth.wakes[0])
    waiting.thread.start()
    waiting.report()
    waiting.writer().write(Entry(1, RTP, b"sound"))
    assert waiting.hear(1) == [b"sound"]


def test_what_the_one_before_it_left_undone_it_does(waiting: Running) -> None:
    waiting.declare(1)
    RingReader(waiting.birth.ring, waiting.birth.shard)  # which is killed
    waiting.writer().write(Entry(1, RTP, b"one"))
    waiting.writer().write(Entry(1, RTP, b"two"))
    waiting.thread.start()
    assert waiting.hear(2) == [b"one", b"two"]


def test_what_it_has_done_nobody_after_it_does_again(running: Running) -> None:
    running.declare(1)
    running.writer().write(Entry(1, RTP, b"one"))
    running.hear(1)
    running.report_when(lambda r: r.datagrams > 0)
    assert list(RingReader(running.birth.ring, running.birth.shard).read()) == []


def test_what_is_too_old_is_counted_and_not_sent(running: Running) -> None:
    running.declare(1)
    long_ago_ns = HostClock().now_ns() - 20 * SECOND_NS
    running.writer(long_ago_ns).write(Entry(1, RTP, b"old"))
    running.writer().write(Entry(1, RTP, b"new"))
    assert running.hear(1) == [b"new"]
    report = running.report_when(lambda r: r.datagrams > 0)
    assert report.stale == 1


def test_it_says_what_it_is_again_and_again(running: Running) -> None:
    first, second = running.report(), running.report()
    assert first.instance == second.instance
    assert (first.shard, first.datagrams, first.queue) == (0, 0, 0)


def test_it_counts_what_it_sent_and_how_late(running: Running) -> None:
    running.declare(1)
    running.writer().write(Entry(1, RTP, b"sound"))
    running.hear(1)
    report = running.report_when(lambda r: r.datagrams > 0)
    assert (report.datagrams, report.errors, report.destinations) == (1, 0, 1)
    assert sum(report.lateness) == 1
