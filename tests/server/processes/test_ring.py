"""The ring between producer and sender: real shared memory, real threads, a real second process."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.processes.ring import (
    MAX_CURSORS,
    MAX_DATAGRAM,
    REPAIR,
    RTCP,
    RTP,
    SLOTS,
    Entry,
    RingReader,
    RingWriter,
    create_ring,
)


class Ring:
    """A ring's memory and the wake-ups of two readers; it is always 7 ns past the hour."""

    def __init__(self) -> None:
        self.memory, self.wakes = create_ring(2)

    def writer(self) -> RingWriter:
        return RingWriter(self.memory, *self.wakes, now_ns=lambda: 7)

    def reader(self, cursor: int | None = None) -> RingReader:
        return RingReader(self.memory, cursor)

    def close(self) -> None:
        for descriptor in (self.memory, *self.wakes):
            os.close(descriptor)


@pytest.fixture
def ring() -> Iterator[Ring]:
    ring = Ring()
    yield ring
    ring.close()


def numbered(number: int, stream: int = 1) -> Entry:
    return Entry(stream, RTP, number.to_bytes(4, "big"))


def numbers(reader: RingReader) -> list[int]:
    return [int.from_bytes(entry.datagram, "big") for entry in reader.read()]


def test_entries_come_out_whole_and_in_order(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    written = [
        Entry(7, RTP, b"sound", 7),
        Entry(8, RTCP, b"", 7),
        Entry(7, RTP, bytes(MAX_DATAGRAM), 7),
    ]
    for entry in written:
        writer.write(entry)
    assert list(reader.read()) == written


def test_repairs_are_there_to_be_read_and_wake_nobody(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    writer.write(Entry(7, REPAIR, b"again"))
    for wake in ring.wakes:
        with pytest.raises(BlockingIOError):
            os.eventfd_read(wake)
    writer.write(Entry(7, RTP, b"sound"))
    assert [os.eventfd_read(wake) for wake in ring.wakes] == [1, 1]
    assert [(entry.kind, entry.datagram) for entry in reader.read()] == [
        (REPAIR, b"again"),
        (RTP, b"sound"),
    ]


def test_what_was_read_is_not_read_again(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    writer.write(numbered(1))
    assert numbers(reader) == [1]
    assert numbers(reader) == []


def test_a_reader_that_stops_halfway_goes_on_there(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    for number in range(5):
        writer.write(numbered(number))
    assert [entry.datagram for entry in islice(reader.read(), 2)] == [bytes(4), b"\0\0\0\1"]
    assert numbers(reader) == [2, 3, 4]


def test_every_write_wakes_each_reader(ring: Ring) -> None:
    writer = ring.writer()
    writer.write(numbered(1))
    writer.write(numbered(2))
    assert [os.eventfd_read(wake) for wake in ring.wakes] == [2, 2]


def test_a_reader_that_takes_its_wake_up_leaves_the_other_s(ring: Ring) -> None:
    ring.writer().write(numbered(1))
    os.eventfd_read(ring.wakes[0])
    assert os.eventfd_read(ring.wakes[1]) == 1


def test_two_readers_each_read_everything(ring: Ring) -> None:
    writer, one, other = ring.writer(), ring.reader(), ring.reader()
    for number in range(10):
        writer.write(numbered(number))
        assert numbers(one) == [number]
    assert numbers(other) == list(range(10))


def test_a_reader_that_falls_behind_costs_the_other_nothing(ring: Ring) -> None:
    writer, quick, slow = ring.writer(), ring.reader(), ring.reader()
    read = []
    for number in range(SLOTS + 5):
        writer.write(numbered(number))
        read += numbers(quick)
    assert read == list(range(SLOTS + 5))
    assert numbers(slow) == read[5:]
    assert (quick.overruns, slow.overruns) == (0, 5)


def test_what_a_reader_skips_is_neither_read_nor_lost(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    for number in range(2 * SLOTS):
        writer.write(numbered(number))
    reader.skip()
    writer.write(numbered(7))
    assert numbers(reader) == [7]
    assert reader.overruns == 0


def test_a_reader_started_later_sees_only_what_is_new(ring: Ring) -> None:
    writer = ring.writer()
    writer.write(numbered(1))
    reader = ring.reader()
    writer.write(numbered(2))
    assert numbers(reader) == [2]
    assert reader.overruns == 0


def test_a_full_ring_loses_nothing(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    for number in range(SLOTS):
        writer.write(numbered(number))
    assert numbers(reader) == list(range(SLOTS))
    assert reader.overruns == 0


def test_a_reader_that_falls_behind_loses_the_oldest_and_counts_them(
    ring: Ring,
) -> None:
    writer, reader = ring.writer(), ring.reader()
    for number in range(SLOTS + 5):
        writer.write(numbered(number))
    assert numbers(reader) == list(range(5, SLOTS + 5))
    assert reader.overruns == 5


# ------------------------------------------------------------------ a reader with a cursor
def test_whoever_comes_after_goes_on_behind_what_was_done(ring: Ring) -> None:
    writer, dead = ring.writer(), ring.reader(0)
    for number in range(3):
        writer.write(numbered(number))
    assert numbers(dead) == [0, 1, 2]
    dead.done()
    writer.write(numbered(3))
    writer.write(numbered(4))
    assert numbers(dead) == [3, 4]  # and it dies before they are sent
    writer.write(numbered(5))
    spare = ring.reader(0)
    assert numbers(spare) == [3, 4, 5]
    assert spare.overruns == 0


def test_the_first_with_a_cursor_begins_with_what_is_written_next(ring: Ring) -> None:
    writer = ring.writer()
    writer.write(numbered(1))
    reader = ring.reader(0)
    writer.write(numbered(2))
    assert numbers(reader) == [2]


def test_one_that_dies_before_it_has_read_anything_loses_nothing(ring: Ring) -> None:
    ring.reader(0)
    ring.writer().write(numbered(1))
    assert numbers(ring.reader(0)) == [1]


def test_each_cursor_is_its_own(ring: Ring) -> None:
    one, other = ring.reader(0), ring.reader(1)
    ring.writer().write(numbered(1))
    assert numbers(one) == [1]
    one.done()
    assert numbers(ring.reader(0)) == []
    assert numbers(ring.reader(1)) == numbers(other) == [1]


def test_who_comes_after_the_ring_has_gone_round_begins_anew(ring: Ring) -> None:
    writer = ring.writer()
    ring.reader(0)
    for number in range(SLOTS):
        writer.write(numbered(number))
    assert len(numbers(ring.reader(0))) == SLOTS  # just in time
    writer.write(numbered(1))
    late = ring.reader(0)
    writer.write(numbered(2))
    assert numbers(late) == [2]
    assert late.overruns == 0


@pytest.mark.parametrize("cursor", [-1, MAX_CURSORS])
def test_a_cursor_that_there_is_not_is_refused(ring: Ring, cursor: int) -> None:
    with pytest.raises(ValueError, match=f"a ring has {MAX_CURSORS}"):
        ring.reader(cursor)


def test_a_reader_knows_without_reading_whether_it_is_behind(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    behind = [reader.is_behind]
    writer.write(numbered(1))
    behind.append(reader.is_behind)
    assert numbers(reader) == [1]
    assert [*behind, reader.is_behind] == [False, True, False]


BURSTS = st.integers(0, 9) | st.sampled_from([SLOTS - 1, SLOTS, SLOTS + 1, 2 * SLOTS + 3])


@settings(max_examples=25, deadline=None)
@given(bursts=st.lists(BURSTS, max_size=4))
def test_whatever_the_bursts_each_entry_is_read_once_or_counted_lost(bursts: list[int]) -> None:
    ring = Ring()
    try:
        writer, reader = ring.writer(), ring.reader()
        total = 0
        for burst in bursts:
            lost_before = reader.overruns
            for number in range(total, total + burst):
                writer.write(numbered(number))
            total += burst
            kept = min(burst, SLOTS)
            assert numbers(reader) == list(range(total - kept, total))
            assert reader.overruns - lost_before == burst - kept
    finally:
        ring.close()


def test_a_writer_opened_again_goes_on_where_the_last_one_was(ring: Ring) -> None:
    reader = ring.reader()
    ring.writer().write(numbered(1))
    ring.writer().write(numbered(2))
    assert numbers(reader) == [1, 2]
    assert reader.overruns == 0


def test_a_datagram_larger_than_a_slot_is_refused_and_disturbs_nothing(
    ring: Ring,
) -> None:
    writer, reader = ring.writer(), ring.reader()
    writer.write(numbered(1))
    with pytest.raises(ValueError, match="does not fit"):
        writer.write(Entry(1, RTP, bytes(MAX_DATAGRAM + 1)))
    writer.write(numbered(2))
    assert numbers(reader) == [1, 2]


class Breaks:
    """A datagram that has a length and no contents: its writer stops halfway through the slot."""

    def __len__(self) -> int:
        return 4


def write_half(writer: RingWriter) -> None:
    with suppress(TypeError):
        writer.write(Entry(1, RTP, cast("bytes", Breaks())))


def test_a_half_written_slot_is_not_delivered(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    writer.write(numbered(1))
    write_half(writer)
    assert numbers(reader) == [1]


def test_a_writer_that_replaces_one_killed_halfway_writes_the_slot_anew(
    ring: Ring,
) -> None:
    reader = ring.reader()
    write_half(ring.writer())
    ring.writer().write(numbered(2))
    assert numbers(reader) == [2]
    assert reader.overruns == 0


def test_a_slot_that_is_being_overwritten_is_counted_lost_and_not_delivered(
    ring: Ring,
) -> None:
    writer, reader = ring.writer(), ring.reader()
    for number in range(SLOTS):
        writer.write(numbered(number))
    write_half(writer)  # over the oldest, which nobody has read
    assert numbers(reader) == list(range(1, SLOTS))
    assert reader.overruns == 1


@pytest.fixture
def impatient() -> Iterator[None]:
    """Threads take the interpreter from each other as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("impatient")
def test_many_threads_write_and_nothing_is_lost(ring: Ring) -> None:
    writer, reader = ring.writer(), ring.reader()
    threads, each = 8, SLOTS // 8

    def write(stream: int) -> None:
        for number in range(each):
            writer.write(numbered(number, stream))

    writing = [threading.Thread(target=write, args=(stream,)) for stream in range(threads)]
    for thread in writing:
        thread.start()
    read: list[Entry] = []
    while any(thread.is_alive() for thread in writing):
        read += reader.read()  # while they write
    read += reader.read()
    for stream in range(threads):
        assert [e.datagram for e in read if e.stream == stream] == [
            numbered(number).datagram for number in range(each)
        ]
    assert reader.overruns == 0


_OTHER_PROCESS = """
import sys
from server.processes.ring import RTP, Entry, RingWriter
writer = RingWriter(*map(int, sys.argv[1:]), now_ns=lambda: 7)
for number in range(300):
    writer.write(Entry(1, RTP, number.to_bytes(4, "big")))
"""


def test_another_process_writes_into_the_same_memory(ring: Ring) -> None:
    reader = ring.reader()
    descriptors = (ring.memory, *ring.wakes)
    command = [sys.executable, "-P", "-c", _OTHER_PROCESS, *map(str, descriptors)]
    subprocess.run(command, pass_fds=descriptors, check=True)
    assert numbers(reader) == list(range(300))
    assert os.eventfd_read(ring.wakes[0]) == 300
