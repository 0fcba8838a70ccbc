"""A ring of datagrams in shared memory: one producer writes, senders read, nobody waits.

The producer never blocks: a sender that falls a whole ring behind loses the oldest datagrams and
counts them. Each slot carries its own serial number, written last, so that a reader can tell a
finished slot from an older or a half-written one. Wake-ups travel on eventfds beside it, one for
each reader: who reads an eventfd takes its count from everybody else.
"""

import mmap
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

SLOTS = 1024
_SLOT_BYTES = 1536
# serial, stream number, kind, length
_SLOT = struct.Struct("=QIHH")
_SERIAL = struct.Struct("=Q")
MAX_DATAGRAM = _SLOT_BYTES - _SLOT.size
RING_BYTES = SLOTS * _SLOT_BYTES + _SERIAL.size
_HEAD_AT = SLOTS * _SLOT_BYTES

RTP, RTCP = 0, 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One datagram, the stream it is of, and whether it is RTP or RTCP."""

    stream: int
    kind: int
    datagram: bytes


def create_ring() -> tuple[int, int, int]:
    """A fresh ring's memory and the wake-ups of sender and gateway, as descriptors for children."""
    memory = os.memfd_create("loa-ring")
    os.ftruncate(memory, RING_BYTES)
    return memory, os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)


class RingWriter:
    """The producer's end; its threads share it. A restarted producer goes on where it was.

    `wakes` are those of all readers. A reader that is dead or asleep costs nothing: its wake-up
    only counts.
    """

    def __init__(self, memory: int, *wakes: int) -> None:
        self._map = mmap.mmap(memory, RING_BYTES)
        self._wakes = wakes
        self._lock = threading.Lock()
        (self._serial,) = _SERIAL.unpack_from(self._map, _HEAD_AT)

    def write(self, entry: Entry) -> None:
        """Append one datagram; ValueError if it does not fit a slot."""
        if len(entry.datagram) > MAX_DATAGRAM:
            raise ValueError(f"a datagram of {len(entry.datagram)} bytes does not fit the ring")
        with self._lock:
            at = (self._serial % SLOTS) * _SLOT_BYTES
            self._serial += 1
            # Serial 0 marks the slot as unfinished while its bytes change.
            _SLOT.pack_into(self._map, at, 0, entry.stream, entry.kind, len(entry.datagram))
            start = at + _SLOT.size
            self._map[start : start + len(entry.datagram)] = entry.datagram
            _SERIAL.pack_into(self._map, at, self._serial)
            _SERIAL.pack_into(self._map, _HEAD_AT, self._serial)
        for wake in self._wakes:
            os.eventfd_write(wake, 1)


class RingReader:
    """A sender's end; starts at what is written next."""

    def __init__(self, memory: int) -> None:
        self._map = mmap.mmap(memory, RING_BYTES)
        self._next = self._head() + 1
        self.overruns = 0

    def _head(self) -> int:
        (serial,) = _SERIAL.unpack_from(self._map, _HEAD_AT)
        return int(serial)

    def skip(self) -> None:
        """Pass over all that was written until now; it does not count as lost."""
        self._next = self._head() + 1

    def read(self) -> Iterator[Entry]:
        """Every entry written since the last call; what was overwritten is counted."""
        while self._next <= (head := self._head()):
            if head - self._next >= SLOTS:
                self.overruns += head - SLOTS + 1 - self._next
                self._next = head - SLOTS + 1
            at = ((self._next - 1) % SLOTS) * _SLOT_BYTES
            serial, stream, kind, length = _SLOT.unpack_from(self._map, at)
            start = at + _SLOT.size
            datagram = bytes(self._map[start : start + min(length, MAX_DATAGRAM)])
            (still,) = _SERIAL.unpack_from(self._map, at)
            # Before the entry is given out, for its reader need not come back for another.
            wanted, self._next = self._next, self._next + 1
            if serial == still == wanted:
                yield Entry(stream, kind, datagram)
            else:
                self.overruns += 1
