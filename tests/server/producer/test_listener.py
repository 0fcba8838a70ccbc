"""Sources at the door of the producer: real loopback sockets, real threads, a clock we turn."""

import errno
import queue
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, Self

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.ingest import MAX_BLOCK_SAMPLES, VERSION, ObjectStream
from server.processes.bus import DeclareProgrammes, ProgrammeOrder, ProgrammeReport, StreamOrder
from server.processes.ring import RTCP, RTP, Entry
from server.producer.listener import Listener
from server.producer.programme import ENDED, LIVE, WAITING, Programme
from server.producer.registry import Registry
from tests.support.tls import station_tls
from transport.clock.timeline import NS_PER_SECOND, samples_of_ns
from transport.rtp.rtcp import Bye, parse_compound

NOW_NS = 1_800_000_000 * NS_PER_SECOND
NOW = samples_of_ns(NOW_NS)
# What is sealed tells nothing here, so each stream has a twin in clear, of so much higher a number.
CLEAR = 1000


def stream(number: int) -> StreamOrder:
    return StreamOrder(number, 10.0, number, CLEAR + number)


ORDER = ProgrammeOrder("live-1", (stream(1),), "ticket-1", 24_000, 5, False, False, 0)
BLOCK = np.full(480, 1000, "<i2").tobytes()
# Never waited for unless something is broken.
PATIENCE_S = 20.0


class TurnedClock:
    """Stands still unless somebody sleeps by it."""

    def __init__(self) -> None:
        self.reading_ns = NOW_NS
        self.slept_s: list[float] = []
        self.looks: queue.SimpleQueue[None] = queue.SimpleQueue()

    def now_ns(self) -> int:
        reading_ns = self.reading_ns
        self.looks.put(None)
        return reading_ns

    def of_kernel_stamp(self, realtime_ns: int) -> int | None:  # noqa: ARG002
        return None

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.reading_ns += round(seconds * NS_PER_SECOND)


class Door:
    """A listener at work, and everything its programmes wrote."""

    def __init__(self, handshake_s: float = PATIENCE_S, silence_s: float = PATIENCE_S) -> None:
        self.clock = TurnedClock()
        self.written: list[Entry] = []
        self.refused: list[tuple[str, str]] = []
        self.registry = Registry("life", self._build)
        self.changes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._calls = ExitStack()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.listener = Listener(
            self._listening,
            station_tls().accepting(),
            self.registry,
            self.clock,
            lambda: self.changes.put(None),
            refused=lambda address, why: self.refused.append((address, why)),
            sleep=self.clock.sleep,
            handshake_s=handshake_s,
            silence_s=silence_s,
        )
        self._thread = threading.Thread(target=self.listener.run)

    def _build(self, order: ProgrammeOrder) -> Programme:
        draw = random.Random(order.ticket).randbytes
        return Programme(order, draw, lambda: 0.5, self._write)

    def _write(self, entry: Entry) -> None:
        if entry.stream > CLEAR:
            self.written.append(entry)

    def __enter__(self) -> Self:
        self.declare(ORDER)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.close()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_S)
        self._listening.close()
        assert not self._thread.is_alive()

    def declare(self, *orders: ProgrammeOrder) -> None:
        self.registry.declare(DeclareProgrammes(orders), NOW_NS)

    def knock(self, address: str = "127.0.0.1") -> socket.socket:
        """A connection from there that has not said a word of TLS."""
        connection = socket.create_connection(
            self._listening.getsockname(), PATIENCE_S, source_address=(address, 0)
        )
        return self._calls.enter_context(connection)

    def call(self, address: str = "127.0.0.1") -> ssl.SSLSocket:
        return self.secure(self.knock(address))

    def secure(self, connection: socket.socket) -> ssl.SSLSocket:
        """TLS for a connection that has not said a word of it."""
        secured = station_tls().trust.secure(connection, "127.0.0.1")
        return self._calls.enter_context(secured)

    def crowd(self, connect: Callable[[], socket.socket], looks: int) -> "list[Source]":
        """More callers than there are places, each at its own: it looks so often at the clock."""
        crowd = []
        for _ in range(65):
            crowd.append(Source(connect()))
            for _ in range(looks):
                self.clock.looks.get(timeout=PATIENCE_S)
        return crowd

    def source(self, ticket: str = ORDER.ticket) -> "Source":
        source = Source(self.call())
        assert source.show(ticket) == {"accepted": True, "reason": ""}
        return source

    def wait_for_change(self) -> None:
        self.changes.get(timeout=PATIENCE_S)

    def report(self, name: str = "live-1", *, later_ns: int = 0) -> ProgrammeReport:
        reports = self.registry.report(self.clock.now_ns() + later_ns).programmes
        return next(item for item in reports if item.programme == name)

    def wait_until(self, state: str, *, later_ns: int = 0) -> None:
        while self.report(later_ns=later_ns).state != state:
            self.wait_for_change()

    def goodbyes(self) -> int:
        packets = [p for e in self.written if e.kind == RTCP for p in parse_compound(e.datagram)]
        return sum(isinstance(packet, Bye) for packet in packets)


class Source:
    """The other end of a connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.stream = ObjectStream(connection)
        self._answers = self.stream.receive()

    def send(self, item: Any) -> None:
        self.stream.send(item)

    def show(self, ticket: str) -> Any:
        """The answer to a ticket."""
        self.send({"version": VERSION, "ticket": ticket})
        return self.answer()

    def answer(self) -> Any:
        return next(self._answers, None)

    def is_cut_off(self) -> bool:
        """Blocks until the connection has ended; what was said before is no matter."""
        with suppress(ConnectionError, ssl.SSLError):
            while self.connection.recv(1 << 16):
                pass
        return True


@pytest.fixture
def door() -> Iterator[Door]:
    with Door() as door:
        yield door


def test_a_whole_talk_is_sent_and_ends_in_good_order(door: Door) -> None:
    source = door.source()
    for number in range(10):
        source.send([NOW - 4800 + 480 * number, BLOCK])
    source.send(None)
    assert source.answer() == {"ended": True}
    assert sum(entry.kind == RTP for entry in door.written) == 11  # the tail is one more
    assert door.goodbyes() == 1
    assert door.report().state == ENDED


def test_control_is_told_of_the_first_sound_and_of_the_end(door: Door) -> None:
    source = door.source()
    source.send([NOW - 480, BLOCK])
    door.wait_for_change()
    assert door.report().state == LIVE
    source.send(None)
    door.wait_for_change()
    assert door.report().state == ENDED


@pytest.mark.parametrize(
    "first",
    [
        {"version": VERSION, "ticket": "another"},
        {"version": VERSION, "ticket": ""},
        {"version": VERSION + 1, "ticket": ORDER.ticket},
    ],
)
def test_without_the_right_ticket_and_version_nobody_speaks(
    door: Door, first: dict[str, object]
) -> None:
    source = Source(door.call())
    source.send(first)
    answer = source.answer()
    assert answer["accepted"] is False
    assert "unknown ticket" in answer["reason"]
    assert source.answer() is None
    assert door.refused == [("127.0.0.1", answer["reason"])]


@pytest.mark.parametrize("first", [None, 7, "ticket-1", {}, {"ticket": ORDER.ticket}, [NOW, BLOCK]])
def test_who_does_not_show_a_ticket_first_is_cut_off(door: Door, first: object) -> None:
    source = Source(door.call())
    source.send(first)
    assert source.is_cut_off()
    assert door.report().state == WAITING


MISTAKES = {
    "an odd number of bytes": msgpack.packb([NOW, b"\0\0\0"]),
    "more than a second": msgpack.packb([NOW, bytes(2 * MAX_BLOCK_SAMPLES + 2)]),
    "no block": msgpack.packb({"version": 1}),
    "no msgpack": b"\xc1",
    "a time before time": msgpack.packb([-1, BLOCK]),
    "a time after time": msgpack.packb([(1 << 64) - 1, BLOCK]),
    "six seconds too early": msgpack.packb([NOW + 6 * 48_000, BLOCK]),
    "eleven seconds too late": msgpack.packb([NOW - 11 * 48_000, BLOCK]),
    "the beginning of time": msgpack.packb([0, BLOCK]),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_source_that_talks_rubbish_is_cut_off_and_the_others_speak_on(
    door: Door, mistake: bytes
) -> None:
    other = replace(ORDER, programme="live-2", streams=(stream(2),), ticket="ticket-2")
    door.declare(ORDER, other)
    bad, good = door.source(), door.source("ticket-2")
    bad.connection.sendall(mistake)
    assert bad.is_cut_off()
    good.send([NOW - 480, BLOCK])
    good.send(None)
    assert good.answer() == {"ended": True}
    assert {entry.stream for entry in door.written} == {CLEAR + 2}


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=200), secured=st.booleans())
def test_whatever_a_stranger_says_the_next_is_heard(door: Door, data: bytes, secured: bool) -> None:
    stranger = Source(door.call() if secured else door.knock())
    stranger.connection.sendall(data)
    with suppress(OSError):
        socket.socket.shutdown(stranger.connection, socket.SHUT_WR)
    assert stranger.is_cut_off()
    stranger.connection.close()
    door.source().connection.close()


def test_sound_of_the_future_waits_until_its_time_but_for_a_little(door: Door) -> None:
    source = door.source()
    source.send([NOW + 4320, BLOCK])  # ends 100 ms from now
    source.send(None)
    assert source.answer() == {"ended": True}
    assert door.clock.slept_s == [pytest.approx(0.08)]


def test_sound_as_late_as_the_longest_playout_delay_is_taken(door: Door) -> None:
    source = door.source()
    source.send([NOW - 10 * 48_000, BLOCK])
    source.send(None)
    assert source.answer() == {"ended": True}


def test_a_programme_goes_on_when_its_source_comes_back(door: Door) -> None:
    first = door.source()
    first.send([NOW - 960, BLOCK])
    door.wait_until(LIVE)
    first.connection.close()
    second = door.source()
    second.send([NOW - 480, BLOCK])
    second.send(None)
    assert second.answer() == {"ended": True}
    assert door.goodbyes() == 1


def test_a_programme_whose_source_broke_off_for_good_ends_by_itself(door: Door) -> None:
    source = door.source()
    source.send([NOW - 480, BLOCK])
    door.wait_until(LIVE)
    assert door.report(later_ns=6 * NS_PER_SECOND).state == LIVE
    source.connection.close()
    door.wait_until(ENDED, later_ns=6 * NS_PER_SECOND)
    assert door.goodbyes() == 1


def test_a_newer_source_with_the_same_ticket_has_the_word(door: Door) -> None:
    older, newer = door.source(), door.source()
    older.send([NOW - 480, BLOCK])
    assert older.is_cut_off()
    newer.send([NOW - 480, BLOCK])
    newer.send(None)
    assert newer.answer() == {"ended": True}


def test_the_farewell_of_a_source_that_was_replaced_does_not_end_the_programme(door: Door) -> None:
    older, newer = door.source(), door.source()
    newer.send([NOW - 480, BLOCK])
    door.wait_until(LIVE)
    older.send(None)
    assert older.is_cut_off()
    assert door.report().state == LIVE
    assert door.goodbyes() == 0


def test_a_source_whose_programme_was_ended_by_the_station_is_cut_off(door: Door) -> None:
    source = door.source()
    source.send([NOW - 960, BLOCK])
    door.wait_until(LIVE)
    door.declare()
    source.send([NOW - 480, BLOCK])
    assert source.is_cut_off()


def test_a_source_that_vanished_without_a_farewell_is_noticed_by_its_silence() -> None:
    # In which a busy machine, too, must have said something.
    with Door(silence_s=1.0) as door:
        source = door.source()
        source.send([NOW - 480, BLOCK])
        assert source.is_cut_off()
        door.wait_until(ENDED, later_ns=6 * NS_PER_SECOND)


def test_who_connects_and_says_nothing_is_cut_off() -> None:
    # In which a busy machine, too, must have shaken hands.
    with Door(handshake_s=1.0) as door:
        assert Source(door.knock()).is_cut_off()
        assert Source(door.call()).is_cut_off()


def test_who_does_not_finish_the_handshake_is_cut_off_however_it_drips() -> None:
    with Door(handshake_s=0.2) as door:
        caller = door.knock()
        with suppress(ConnectionError):
            for byte in b"\x16\x03\x01\x02\x00" + bytes(512):
                caller.sendall(bytes([byte]))
                threading.Event().wait(0.01)  # a drip a moment, for five seconds if it may
            pytest.fail("it was waited for")


def test_who_speaks_without_tls_is_not_heard(door: Door) -> None:
    source = Source(door.knock())
    source.send({"version": VERSION, "ticket": ORDER.ticket})
    assert source.is_cut_off()
    assert door.report().state == WAITING


# How often the clock is looked at until a caller has a place without, and with TLS.
KNOCKED, CALLED = 2, 3
ELSEWHERE = "127.0.0.2"


def test_who_waits_longest_with_his_handshake_makes_room_for_the_next() -> None:
    with Door(handshake_s=60.0) as door:
        waiting = door.crowd(door.knock, KNOCKED)
        assert waiting[0].is_cut_off()
        door.secure(waiting[1].connection)


def test_who_has_finished_the_handshake_makes_no_room_for_who_has_not() -> None:
    with Door(handshake_s=60.0) as door:
        source = Source(door.call())
        door.crowd(door.knock, KNOCKED)
        assert source.show(ORDER.ticket)["accepted"] is True


def test_a_crowd_at_one_address_makes_room_for_itself_and_for_who_comes_from_another() -> None:
    with Door(handshake_s=60.0) as door:
        without = door.knock(ELSEWHERE)
        door.crowd(door.knock, KNOCKED)
        secured = Source(door.secure(without))
        door.crowd(door.call, CALLED)
        assert secured.show(ORDER.ticket)["accepted"] is True


def test_who_drips_his_first_object_is_cut_off_when_its_time_is_over() -> None:
    with Door(handshake_s=60.0) as door:
        slow = Source(door.call())
        for byte in b"\x82\xa7versi":
            try:
                door.clock.looks.get(timeout=PATIENCE_S)
            except queue.Empty:
                pytest.fail("nobody looks how long it takes")
            door.clock.reading_ns += 9 * NS_PER_SECOND
            slow.connection.sendall(bytes([byte]))
        assert slow.is_cut_off()


def test_who_has_spoken_his_first_object_may_take_his_time(door: Door) -> None:
    source = door.source()
    door.clock.reading_ns += 60 * NS_PER_SECOND
    source.send([NOW + 60 * 48_000 - 480, BLOCK])
    source.send(None)
    assert source.answer() == {"ended": True}


def test_who_waits_longest_without_a_ticket_makes_room_for_the_next() -> None:
    with Door(handshake_s=60.0) as door:
        waiting = door.crowd(door.call, CALLED)
        assert waiting[0].is_cut_off()
        assert waiting[1].show("another")["accepted"] is False


def many(count: int) -> tuple[ProgrammeOrder, ...]:
    return tuple(
        replace(ORDER, programme=f"live-{n}", streams=(stream(n),), ticket=f"ticket-{n}")
        for n in range(count)
    )


def asked(door: Door, ticket: str) -> Any:
    return Source(door.call()).show(ticket)


def test_sources_have_places_of_their_own_whoever_waits_at_the_door() -> None:
    with Door(handshake_s=60.0) as door:
        door.declare(*many(64))
        sources = [door.source(f"ticket-{n}") for n in range(64)]
        for _ in range(65):
            door.call()
        for source in sources:
            source.send([NOW - 480, BLOCK])
            source.send(None)
        assert [source.answer() for source in sources] == [{"ended": True}] * 64


def test_the_sixty_fifth_source_is_told_to_try_again(door: Door) -> None:
    door.declare(*many(65))
    sources = [door.source(f"ticket-{n}") for n in range(64)]
    refused = asked(door, "ticket-64")
    assert (refused["accepted"], refused["final"]) == (False, False)
    assert "64" in refused["reason"]
    door.source("ticket-7")  # who comes back has a place already
    sources[0].send(None)
    assert sources[0].answer() == {"ended": True}
    assert sources[0].is_cut_off()
    door.source("ticket-64")


def test_a_place_is_not_held_by_who_has_lost_the_word() -> None:
    orders = many(65)
    with Door(silence_s=60.0) as door:
        door.declare(*orders)
        sources = [door.source(f"ticket-{n}") for n in range(64)]
        door.declare(*orders[1:])
        door.source("ticket-64")
        assert sources[0].is_cut_off()


def test_a_source_that_was_replaced_is_cut_off_without_being_asked() -> None:
    with Door(silence_s=60.0) as door:
        older = door.source()
        door.source()
        assert older.is_cut_off()


def test_one_who_speaks_of_the_future_and_is_replaced_does_not_wait_for_it(door: Door) -> None:
    older = door.source()
    replaced = threading.Event()

    def sleep(seconds: float) -> None:
        door.clock.slept_s.append(seconds)
        if not replaced.is_set():
            replaced.set()
            door.source()

    door.listener._sleep = sleep
    older.send([NOW + 4 * 48_000, BLOCK])
    assert older.is_cut_off()
    assert sum(door.clock.slept_s) < 0.5


def speak_all(source: Source, blocks: Iterator[tuple[int, bytes]]) -> None:
    with suppress(ConnectionError):
        for start, pcm in blocks:
            source.send([start, pcm])


def test_endless_blocks_of_no_new_sound_end_their_source(door: Door) -> None:
    source = door.source()
    speak_all(source, ((NOW, b"\0\0") for _ in range(2_100)))
    assert source.is_cut_off()
    assert door.report().state == ENDED
    # Coming back would be the same again.
    assert asked(door, ORDER.ticket)["final"] is True


def test_ten_seconds_in_the_smallest_frames_may_come_at_once(door: Door) -> None:
    source = door.source()
    for number in range(4_000):
        source.send([NOW - 10 * 48_000 + 120 * number, BLOCK[:240]])
    source.send(None)
    assert source.answer() == {"ended": True}


def test_a_mistake_of_ours_costs_one_connection_and_no_place(
    door: Door, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("our mistake")

    with monkeypatch.context() as patch:
        patch.setattr(Programme, "feed", fail)
        source = door.source()
        source.send([NOW - 480, BLOCK])
        door.wait_for_change()
    assert "our mistake" in caplog.text
    door.source().send([NOW - 480, BLOCK])
    door.wait_until(LIVE)


class Short:
    """A listening socket when descriptors have run out."""

    def __init__(self, errors: list[OSError]) -> None:
        self._errors = errors

    def setblocking(self, _: bool) -> None:
        pass

    def accept(self) -> Any:
        raise self._errors.pop(0)


def test_a_shortage_of_descriptors_does_not_end_the_listening() -> None:
    clock = TurnedClock()
    short = [OSError(errno.EMFILE, "none left"), ConnectionAbortedError()] * 40
    listening: Any = Short([*(short * 3), OSError(errno.EINVAL, "shut down")])
    registry: Any = None  # nobody ever comes in
    context = station_tls().accepting()
    Listener(listening, context, registry, clock, lambda: None, sleep=clock.sleep).run()
    assert len(clock.slept_s) == 240  # more than there are places
