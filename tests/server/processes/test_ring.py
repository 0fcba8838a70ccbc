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
    MAX_DATAGRAM,
    RTCP,
    RTP,
    SLOTS,
    Entry,
    RingReader,
    RingWriter,
    create_ring,
)


@pytest.fixture
def ring() -> Iterator[tuple[int, int, int]]:
    descriptors = create_ring()
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def numbered(number: int, stream: int = 1) -> Entry:
    return Entry(stream, RTP, number.to_bytes(4, "big"))


def numbers(reader: RingReader) -> list[int]:
    return [int.from_bytes(entry.datagram, "big") for entry in reader.read()]


def test_entries_come_out_whole_and_in_order(ring: tuple[int, int, int]) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
    written = [Entry(7, RTP, b"sound"), Entry(8, RTCP, b""), Entry(7, RTP, bytes(MAX_DATAGRAM))]
    for entry in written:
        writer.write(entry)
    assert list(reader.read()) == written


def test_what_was_read_is_not_read_again(ring: tuple[int, int, int]) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
    writer.write(numbered(1))
    assert numbers(reader) == [1]
    assert numbers(reader) == []


def test_a_reader_that_stops_halfway_goes_on_there(ring: tuple[int, int, int]) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
    for number in range(5):
        writer.write(numbered(number))
    assert [entry.datagram for entry in islice(reader.read(), 2)] == [bytes(4), b"\0\0\0\1"]
    assert numbers(reader) == [2, 3, 4]


def test_every_write_wakes_each_reader(ring: tuple[int, int, int]) -> None:
    writer = RingWriter(*ring)
    writer.write(numbered(1))
    writer.write(numbered(2))
    assert [os.eventfd_read(wake) for wake in ring[1:]] == [2, 2]


def test_a_reader_that_takes_its_wake_up_leaves_the_other_s(ring: tuple[int, int, int]) -> None:
    RingWriter(*ring).write(numbered(1))
    os.eventfd_read(ring[1])
    assert os.eventfd_read(ring[2]) == 1


def test_two_readers_each_read_everything(ring: tuple[int, int, int]) -> None:
    writer, one, other = RingWriter(*ring), RingReader(ring[0]), RingReader(ring[0])
    for number in range(10):
        writer.write(numbered(number))
        assert numbers(one) == [number]
    assert numbers(other) == list(range(10))


def test_a_reader_that_falls_behind_costs_the_other_nothing(ring: tuple[int, int, int]) -> None:
    writer, quick, slow = RingWriter(*ring), RingReader(ring[0]), RingReader(ring[0])
    read = []
    for number in range(SLOTS + 5):
        writer.write(numbered(number))
        read += numbers(quick)
    assert read == list(range(SLOTS + 5))
    assert numbers(slow) == read[5:]
    assert (quick.overruns, slow.overruns) == (0, 5)


def test_what_a_reader_skips_is_neither_read_nor_lost(ring: tuple[int, int, int]) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
    for number in range(2 * SLOTS):
        writer.write(numbered(number))
    reader.skip()
    writer.write(numbered(7))
    assert numbers(reader) == [7]
    assert reader.overruns == 0


def test_a_reader_started_later_sees_only_what_is_new(ring: tuple[int, int, int]) -> None:
    writer = RingWriter(*ring)
    writer.write(numbered(1))
    reader = RingReader(ring[0])
    writer.write(numbered(2))
    assert numbers(reader) == [2]
    assert reader.overruns == 0


def test_a_full_ring_loses_nothing(ring: tuple[int, int, int]) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
    for number in range(SLOTS):
        writer.write(numbered(number))
    assert numbers(reader) == list(range(SLOTS))
    assert reader.overruns == 0


def test_a_reader_that_falls_behind_loses_the_oldest_and_counts_them(
    ring: tuple[int, int, int],
) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
    for number in range(SLOTS + 5):
        writer.write(numbered(number))
    assert numbers(reader) == list(range(5, SLOTS + 5))
    assert reader.overruns == 5


@settings(max_examples=25, deadline=None)
@given(bursts=st.lists(st.integers(0, 2 * SLOTS + 3), max_size=4))
def test_whatever_the_bursts_each_entry_is_read_once_or_counted_lost(bursts: list[int]) -> None:
    ring = create_ring()
    try:
        writer, reader = RingWriter(*ring), RingReader(ring[0])
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
        for descriptor in ring:
            os.close(descriptor)


def test_a_writer_opened_again_goes_on_where_the_last_one_was(ring: tuple[int, int, int]) -> None:
    reader = RingReader(ring[0])
    RingWriter(*ring).write(numbered(1))
    RingWriter(*ring).write(numbered(2))
    assert numbers(reader) == [1, 2]
    assert reader.overruns == 0


def test_a_datagram_larger_than_a_slot_is_refused_and_disturbs_nothing(
    ring: tuple[int, int, int],
) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
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


def test_a_half_written_slot_is_not_delivered(ring: tuple[int, int, int]) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
    writer.write(numbered(1))
    write_half(writer)
    assert numbers(reader) == [1]


def test_a_writer_that_replaces_one_killed_halfway_writes_the_slot_anew(
    ring: tuple[int, int, int],
) -> None:
    reader = RingReader(ring[0])
    write_half(RingWriter(*ring))
    RingWriter(*ring).write(numbered(2))
    assert numbers(reader) == [2]
    assert reader.overruns == 0


def test_a_slot_that_is_being_overwritten_is_counted_lost_and_not_delivered(
    ring: tuple[int, int, int],
) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
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
def test_many_threads_write_and_nothing_is_lost(ring: tuple[int, int, int]) -> None:
    writer, reader = RingWriter(*ring), RingReader(ring[0])
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
writer = RingWriter(*map(int, sys.argv[1:]))
for number in range(300):
    writer.write(Entry(1, RTP, number.to_bytes(4, "big")))
"""


def test_another_process_writes_into_the_same_memory(ring: tuple[int, int, int]) -> None:
    reader = RingReader(ring[0])
    command = [sys.executable, "-P", "-c", _OTHER_PROCESS, *map(str, ring)]
    subprocess.run(command, pass_fds=ring, check=True)
    assert numbers(reader) == list(range(300))
    assert os.eventfd_read(ring[1]) == 300
