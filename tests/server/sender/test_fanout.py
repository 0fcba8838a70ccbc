"""Datagrams to destinations, over real loopback sockets, and their times with played ones."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import pytest
from typing_extensions import override

from server.processes.bus import LATENESS_BOUNDS_US
from server.processes.ring import REPAIR, RTCP, RTP, Entry
from server.processes.routing import Route, Routes, pack_destination
from server.sender.fanout import MAX_QUEUE, FanOut
from server.sender.pacing import LEAST_CHUNK as CHUNK
from server.sender.pacing import UNPACED, Pacing
from transport.net.batch import Addresses, PlainTransmitter, Sent, Transmitter
from transport.net.stamped import udp_socket

MS = 1_000_000
NOBODY = pack_destination("255.255.255.255", 9, 9)  # refused without SO_BROADCAST: EACCES


class Ear:
    """A socket that hears; what was sent on loopback is there at once."""

    def __init__(self) -> None:
        self.udp = udp_socket("127.0.0.1", 0)
        self.port = int(self.udp.getsockname()[1])

    def heard(self) -> list[bytes]:
        datagrams = []
        while True:
            try:
                datagrams.append(self.udp.recv(2048))
            except BlockingIOError:
                return datagrams


@pytest.fixture
def ears() -> Iterator[list[Ear]]:
    with ExitStack() as held:
        ears = [Ear() for _ in range(4)]
        for ear in ears:
            held.enter_context(ear.udp)
        yield ears


@pytest.fixture
def fanout() -> Iterator[FanOut]:
    with udp_socket("127.0.0.1", 0) as udp:
        yield FanOut(Transmitter(udp), pacing=UNPACED, now_ns=lambda: 0)


def to(rtp: Ear, rtcp: Ear | None = None) -> bytes:
    return pack_destination("127.0.0.1", rtp.port, (rtcp or rtp).port)


def route(stream: int, *destinations: bytes, frame_ms: float = 20) -> Route:
    return Route(stream, frame_ms, b"".join(destinations))


def forward(fanout: FanOut, *entries: Entry) -> None:
    for entry in entries:
        fanout.take(entry, 1)
        while fanout.work(1) is not None:
            pass


def test_everyone_who_shall_hear_a_stream_does_and_nobody_else(
    fanout: FanOut, ears: list[Ear]
) -> None:
    fanout.declare(Routes((route(1, to(ears[0]), to(ears[1])), route(2, to(ears[2])))))
    forward(fanout, Entry(1, RTP, b"one"), Entry(2, RTP, b"two"))
    assert [ear.heard() for ear in ears] == [[b"one"], [b"one"], [b"two"], []]
    assert (fanout.counters.datagrams, fanout.counters.errors) == (3, 0)
    assert fanout.counters.destinations == 3


def test_rtcp_goes_to_its_own_port(fanout: FanOut, ears: list[Ear]) -> None:
    fanout.declare(Routes((route(1, to(ears[0], ears[1])),)))
    forward(fanout, Entry(1, RTP, b"sound"), Entry(1, RTCP, b"report"))
    assert [ear.heard() for ear in ears[:2]] == [[b"sound"], [b"report"]]


def test_repairs_go_to_nobody_who_has_not_asked(fanout: FanOut, ears: list[Ear]) -> None:
    fanout.declare(Routes((route(1, to(ears[0])),)))
    forward(fanout, Entry(1, RTP, b"sound"), Entry(1, REPAIR, b"again"), Entry(1, RTP, b"more"))
    assert ears[0].heard() == [b"sound", b"more"]
    assert (fanout.counters.datagrams, fanout.counters.errors, fanout.counters.queue) == (2, 0, 0)


def test_a_destination_that_fails_stops_no_other(fanout: FanOut, ears: list[Ear]) -> None:
    fanout.declare(Routes((route(1, to(ears[0]), NOBODY, to(ears[1])),)))
    forward(fanout, Entry(1, RTP, b"sound"))
    assert [ear.heard() for ear in ears[:2]] == [[b"sound"], [b"sound"]]
    assert (fanout.counters.datagrams, fanout.counters.errors) == (2, 1)


def test_an_ipv6_destination_of_an_ipv4_sender_counts_as_an_error(
    fanout: FanOut, ears: list[Ear]
) -> None:
    fanout.declare(Routes((route(1, pack_destination("2001:db8::1", 9, 9), to(ears[0])),)))
    forward(fanout, Entry(1, RTP, b"sound"), Entry(1, RTP, b"sound"))
    assert ears[0].heard() == [b"sound"] * 2
    assert (fanout.counters.datagrams, fanout.counters.errors) == (2, 2)


def test_a_destination_where_nobody_listens_stops_no_other(fanout: FanOut, ears: list[Ear]) -> None:
    ears[0].udp.close()
    fanout.declare(Routes((route(1, to(ears[0]), to(ears[1])),)))
    for _ in range(3):  # the refusal comes back by ICMP, after the first
        forward(fanout, Entry(1, RTP, b"sound"))
    assert ears[1].heard() == [b"sound"] * 3


def test_an_undeclared_stream_goes_nowhere(fanout: FanOut, ears: list[Ear]) -> None:
    fanout.declare(Routes((route(1, to(ears[0])), route(2))))
    forward(fanout, Entry(9, RTP, b"stray"), Entry(2, RTP, b"nobody hears it"))
    assert ears[0].heard() == []
    assert (fanout.counters.errors, fanout.counters.queue) == (0, 0)


def test_a_new_declaration_replaces_the_old_one_whole(fanout: FanOut, ears: list[Ear]) -> None:
    fanout.declare(Routes((route(1, to(ears[0])), route(2, to(ears[1])))))
    fanout.declare(Routes((route(1, to(ears[2])),)))
    forward(fanout, Entry(1, RTP, b"one"), Entry(2, RTP, b"two"))
    assert [ear.heard() for ear in ears] == [[], [], [b"one"], []]
    assert fanout.counters.destinations == 1


class Played(PlainTransmitter):
    """Notes who is sent what and when; each datagram takes `each_ns`."""

    def __init__(self, each_ns: int = 0) -> None:
        self.family = socket.AF_INET
        self.each_ns = each_ns
        self.now_ns = 0
        self.room = 1 << 30
        self.sent: list[tuple[int, bytes, int]] = []
        self.laid_out: list[Addresses] = []

    @override
    def send(self, datagram: bytes, to: Addresses, start: int, stop: int) -> Sent:
        self.laid_out.append(to)
        taken = min(stop - start, self.room)
        for _, port in to.spelled[start : start + taken]:
            self.now_ns += self.each_ns
            self.sent.append((self.now_ns, datagram, port))
        self.room -= taken
        return Sent(taken, 0, stop - start - taken)

    def ports(self, datagram: bytes) -> list[int]:
        return [port for _, of, port in self.sent if of == datagram]

    def first_ns(self, datagram: bytes) -> int:
        return next(at_ns for at_ns, of, _ in self.sent if of == datagram)


class Scene:
    """A fan-out with a clock of its own that goes where the next slot is."""

    def __init__(
        self, each_ns: int = 0, pacing: Pacing | None = None, shard: int = 0, shards: int = 1
    ) -> None:
        self.wire = Played(each_ns)
        self.fanout = FanOut(
            self.wire, shard, shards, pacing=pacing, now_ns=lambda: self.wire.now_ns
        )
        self.counters = self.fanout.counters

    def take(self, entry: Entry) -> None:
        self.fanout.take(entry, self.wire.now_ns)

    def run(self, until_ns: int = 1 << 62) -> None:
        """Until all is sent, or that moment."""
        while (due_ns := self.fanout.work(self.wire.now_ns)) is not None and due_ns < until_ns:
            self.wire.now_ns = max(self.wire.now_ns, due_ns)


def many(count: int, first_port: int = 1) -> list[bytes]:
    ports = range(first_port, first_port + count)
    return [pack_destination("127.0.0.1", port, port) for port in ports]


def entry(stream: int, word: bytes, written_ns: int, kind: int = RTP) -> Entry:
    return Entry(stream, kind, word, written_ns)


def late_of(counts: Sequence[int]) -> dict[int, int]:
    """Counts by their bound, us; 0 for those beyond."""
    bounds = (*LATENESS_BOUNDS_US, 0)
    return {bound: count for bound, count in zip(bounds, counts, strict=True) if count}


def test_a_frame_is_spread_over_three_fifths_of_its_time() -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(2_000)),)))
    scene.take(entry(1, b"x", 1))
    scene.run()
    assert scene.wire.ports(b"x") == list(range(1, 2_001))
    times_ns = [at_ns for at_ns, _, _ in scene.wire.sent]
    chunk = 66  # in 0.4 ms, of 6 us each
    assert times_ns[chunk - 1] <= 1
    assert times_ns[chunk] == pytest.approx(chunk * 6_000, abs=2)
    assert times_ns[-1] == pytest.approx(2_000 // chunk * chunk * 6_000, abs=2)


def test_a_few_destinations_wait_for_nothing_longer_than_they_must() -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(2 * CHUNK)),)))
    scene.take(entry(1, b"x", 1))
    scene.run()
    assert scene.wire.sent[-1][0] == pytest.approx(CHUNK * 10_000, abs=2)


def test_two_streams_take_turns() -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(1_000)), route(2, *many(1_000, 5_000)))))
    scene.take(entry(1, b"a", 1))
    scene.take(entry(2, b"b", 1))
    scene.run()
    words = [word for _, word, _ in scene.wire.sent[::CHUNK]]
    assert words[:8] == [b"a", b"b"] * 4


def test_frames_of_one_stream_reach_each_destination_in_order() -> None:
    """After a pause of the sender's several are due at once."""
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(300)),)))
    scene.take(entry(1, b"1", 1))
    scene.take(entry(1, b"2", 2))
    scene.fanout.declare(Routes((route(1, *reversed(many(300))),)))
    scene.take(entry(1, b"3", 3))
    scene.run()
    for port in range(1, 301):
        words = [word for _, word, of in scene.wire.sent if of == port]
        assert words == [b"1", b"2", b"3"]


def test_reports_are_spread_wider_and_delay_no_sound() -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(2_000)),)))
    scene.take(entry(1, b"report", 1, RTCP))
    scene.take(entry(1, b"x", 1))
    scene.run()
    assert [at_ns for at_ns, word, _ in scene.wire.sent if word == b"x"][-1] < 13 * MS
    assert [at_ns for at_ns, word, _ in scene.wire.sent if word == b"report"][-1] > 40 * MS


def test_who_left_is_still_sent_what_is_on_its_way_and_no_more() -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(2 * CHUNK)),)))
    scene.take(entry(1, b"1", 1))
    scene.run(until_ns=2)
    scene.fanout.declare(Routes((route(1, *many(CHUNK)),)))
    scene.take(entry(1, b"2", 20 * MS))
    scene.run()
    assert scene.wire.ports(b"1") == list(range(1, 2 * CHUNK + 1))
    assert scene.wire.ports(b"2") == list(range(1, CHUNK + 1))


def test_what_did_not_change_is_not_laid_out_again() -> None:
    scene = Scene(pacing=UNPACED)
    same = many(10)
    scene.fanout.declare(Routes((route(1, *same), route(2, *same))))
    for stream in (1, 2):
        scene.take(entry(stream, b"x", 1))
    scene.run()
    scene.fanout.declare(Routes((route(2, *same), route(3, *many(3)))))
    scene.take(entry(2, b"x", 1))
    scene.take(entry(2, b"report", 1, RTCP))
    scene.run()
    assert len({id(to) for to in scene.wire.laid_out}) == 1


def test_shards_have_each_destination_once() -> None:
    found: list[int] = []
    for shard in range(3):
        scene = Scene(shard=shard, shards=3)
        scene.fanout.declare(Routes((route(1, *many(200)),)))
        scene.take(entry(1, b"x", 1))
        scene.run()
        assert scene.counters.destinations in {66, 67}
        found += scene.wire.ports(b"x")
    assert sorted(found) == list(range(1, 201))


def test_lateness_is_from_the_slot_to_when_the_chunk_has_left() -> None:
    scene = Scene(each_ns=1_000)
    scene.fanout.declare(Routes((route(1, *many(2 * CHUNK)),)))
    scene.take(entry(1, b"x", 1))
    scene.run()
    assert late_of(scene.counters.lateness) == {100: 2 * CHUNK}  # 64 us each
    assert scene.counters.late_max_us == CHUNK
    scene.wire.now_ns = 30 * MS
    scene.take(entry(1, b"y", 20 * MS))
    scene.run()
    assert late_of(scene.counters.lateness) == {100: 2 * CHUNK, 10_000: CHUNK, 15_000: CHUNK}
    assert scene.counters.late_max_us == 10_000 + CHUNK


def test_what_is_beyond_all_bounds_is_counted_last() -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(1)),)))
    scene.wire.now_ns = 150 * MS
    scene.take(entry(1, b"x", 1))
    scene.run()
    assert late_of(scene.counters.lateness) == {0: 1}


@pytest.mark.parametrize(
    ("frame_ms", "late_ms", "sent"), [(20, 200, 1), (20, 201, 0), (60, 239, 1), (60, 241, 0)]
)
def test_what_is_too_old_is_not_sent(frame_ms: float, late_ms: int, sent: int) -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(100), frame_ms=frame_ms),)))
    scene.take(entry(1, b"x", 1))
    scene.wire.now_ns = late_ms * MS + 1
    scene.run()
    assert (len(scene.wire.sent), scene.counters.stale) == (100 * sent, 100 * (1 - sent))
    assert scene.counters.queue == 0


def test_a_full_kernel_is_tried_again_where_it_was_left() -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(2 * CHUNK)),)))
    scene.take(entry(1, b"x", 1))
    scene.wire.room = 40
    due_ns = scene.fanout.work(2)
    assert due_ns is not None
    assert due_ns > 2
    assert scene.fanout.work(due_ns - 1) == due_ns  # nobody is asked before
    assert len(scene.wire.sent) == 40
    scene.wire.room = 1_000
    scene.wire.now_ns = due_ns
    scene.run()
    assert scene.wire.ports(b"x") == list(range(1, 2 * CHUNK + 1))


def test_a_kernel_that_stays_full_loses_what_is_too_late() -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(100)),)))
    scene.wire.room = 0
    scene.take(entry(1, b"x", 1))
    scene.run()
    assert (scene.counters.stale, scene.counters.datagrams) == (100, 0)
    assert 200 * MS < scene.wire.now_ns < 202 * MS


def test_the_queue_is_bounded_and_the_oldest_gives_way() -> None:
    scene = Scene()
    scene.fanout.declare(Routes((route(1, *many(3)), route(2, *many(2)))))
    scene.take(entry(1, b"oldest", 1))
    for number in range(MAX_QUEUE):
        scene.take(entry(2, b"later", 2 + number))
    assert (scene.counters.queue, scene.counters.deepest) == (MAX_QUEUE, MAX_QUEUE)
    assert scene.counters.stale == 3
    scene.run()
    assert scene.wire.ports(b"oldest") == []
    assert len(scene.wire.ports(b"later")) == 2 * MAX_QUEUE
    assert (scene.counters.queue, scene.counters.deepest) == (0, MAX_QUEUE)


def test_who_has_nothing_to_do_says_so() -> None:
    scene = Scene()
    assert scene.fanout.work(0) is None
    scene.fanout.declare(Routes((route(1, *many(2)),)))
    scene.take(entry(1, b"x", 5))
    assert scene.fanout.work(1) == 5
    assert scene.wire.sent == []
    assert scene.fanout.work(5) is None
