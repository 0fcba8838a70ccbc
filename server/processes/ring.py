"""A ring of datagrams in shared memory: one producer writes, senders read, nobody waits.

The producer never blocks: a sender that falls a whole ring behind loses the oldest datagrams and
counts them. Each slot carries its own serial number, written last, so that a reader can tell a
finished slot from an older or a half-written one. Wake-ups travel on eventfds beside it, one for
each reader: who reads an eventfd takes its count from everybody else. How far a sender is stands
in the memory too, so that whoever takes its place goes on there.
"""

import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# 50 programmes of two encodings, their repairs and their clear twins fill it in 0.4 s.
SLOTS = 8192
_SLOT_BYTES = 1536
# serial, when it was written, stream number, kind, length
_SLOT = struct.Struct("=QqIHH")
_SERIAL = struct.Struct("=Q")
MAX_DATAGRAM = _SLOT_BYTES - _SLOT.size
MAX_CURSORS = 64
_HEAD_AT = SLOTS * _SLOT_BYTES
_CURSORS_AT = _HEAD_AT + _SERIAL.size
RING_BYTES = _CURSORS_AT + MAX_CURSORS * _SERIAL.size

RTP, RTCP, REPAIR = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One datagram, the stream it is of, and whether it is RTP, RTCP or a REPAIR.

    A repair is for who asks for it: senders and gateway pass over it. `written_ns` is when it was
    written, CLOCK_BOOTTIME: the ring says it.
    """

    stream: int
    kind: int
    datagram: bytes
    written_ns: int = 0


def create_ring(readers: int) -> tuple[int, tuple[int, ...]]:
    """A fresh ring's memory and a wake-up for each reader, as descriptors for children."""
    memory = os.memfd_create("loa-ring")
    os.ftruncate(memory, RING_BYTES)
    return memory, tuple(os.eventfd(0, os.EFD_NONBLOCK) for _ in range(readers))


class RingWriter:
    """The producer's end; its threads share it. A restarted producer goes on where it was.

    `wakes` are those of all readers. A reader that is dead or asleep costs nothing: its wake-up
    only counts. `now_ns` reads CLOCK_BOOTTIME.
    """

    def __init__(self, memory: int, *wakes: int, now_ns: Callable[[], int]) -> None:
        self._map = mmap.mmap(memory, RING_BYTES)
        self._wakes = wakes
        self._now_ns = now_ns
        self._lock = threading.Lock()
        (self._serial,) = _SERIAL.unpack_from(self._map, _HEAD_AT)

    def write(self, entry: Entry) -> None:
        """Append one datagram, and wake readers unless it is a repair, for which nobody waits.

        ValueError if it does not fit a slot.
        """
        datagram = entry.datagram
        if len(datagram) > MAX_DATAGRAM:
            raise ValueError(f"a datagram of {len(datagram)} bytes does not fit the ring")
        with self._lock:
            at = (self._serial % SLOTS) * _SLOT_BYTES
            self._serial += 1
            # Serial 0 marks the slot as unfinished while its bytes change.
            now_ns = self._now_ns()
            _SLOT.pack_into(self._map, at, 0, now_ns, entry.stream, entry.kind, len(datagram))
            start = at + _SLOT.size
            self._map[start : start + len(datagram)] = datagram
            _SERIAL.pack_into(self._map, at, self._serial)
            _SERIAL.pack_into(self._map, _HEAD_AT, self._serial)
        if entry.kind != REPAIR:
            for wake in self._wakes:
                os.eventfd_write(wake, 1)


class RingReader:
    """A reader's end. It starts at what is written next, or where its `cursor` was left.

    Who has a cursor, 0 to `MAX_CURSORS` - 1, is the only one that reads by it. What an earlier one
    has not done is given out again, if it is still there.
    """

    def __init__(self, memory: int, cursor: int | None = None) -> None:
        if cursor is not None and not 0 <= cursor < MAX_CURSORS:
            raise ValueError(f"cursor {cursor}: a ring has {MAX_CURSORS}")
        self._map = mmap.mmap(memory, RING_BYTES)
        self._cursor_at = None if cursor is None else _CURSORS_AT + cursor * _SERIAL.size
        self._next = self._left_off() or self._serial_at(_HEAD_AT) + 1
        self.overruns = 0
        self.done()

    def _serial_at(self, at: int) -> int:
        (serial,) = _SERIAL.unpack_from(self._map, at)
        return int(serial)

    def _left_off(self) -> int | None:
        """The first entry that is not done; None if nobody knows or it has been overwritten."""
        if self._cursor_at is None:
            return None
        kept, head = self._serial_at(self._cursor_at), self._serial_at(_HEAD_AT)
        return kept if head - SLOTS < kept <= head + 1 and kept else None

    @property
    def is_behind(self) -> bool:
        """Whether there is anything to read; costs no system call."""
        return self._next <= self._serial_at(_HEAD_AT)

    def skip(self) -> None:
        """Pass over all that was written until now; it does not count as lost."""
        self._next = self._serial_at(_HEAD_AT) + 1

    def done(self) -> None:
        """All that was given out has been dealt with: nobody needs it again."""
        if self._cursor_at is not None:
            _SERIAL.pack_into(self._map, self._cursor_at, self._next)

    def read(self) -> Iterator[Entry]:
        """Every entry written since the last call; what was overwritten is counted."""
        while self._next <= (head := self._serial_at(_HEAD_AT)):
            if head - self._next >= SLOTS:
                self.overruns += head - SLOTS + 1 - self._next
                self._next = head - SLOTS + 1
            at = ((self._next - 1) % SLOTS) * _SLOT_BYTES
            serial, written_ns, stream, kind, length = _SLOT.unpack_from(self._map, at)
            start = at + _SLOT.size
            datagram = bytes(self._map[start : start + min(length, MAX_DATAGRAM)])
            still = self._serial_at(at)
            # Before the entry is given out, for its reader need not come back for another.
            wanted, self._next = self._next, self._next + 1
            if serial == still == wanted:
                yield Entry(stream, kind, datagram, written_ns)
            else:
                self.overruns += 1
