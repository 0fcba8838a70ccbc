"""A record in memory that the supervisor keeps: it is there though whoever wrote it be dead.

Two pages are written in turn, and each carries its own length and checksum: a control killed in
the middle of writing leaves a page that is not believed, and the page before it.
"""

import os
import struct
import zlib

PAGE_BYTES = 1 << 25
# serial, length of the record; then the checksum of both and the record
_HEAD = struct.Struct("=QI")
_CHECKSUM = struct.Struct("=I")
_RECORD_AT = _HEAD.size + _CHECKSUM.size


def create_notebook() -> int:
    """Fresh memory, as a file descriptor to hand to a child; what is not written takes no room."""
    return os.memfd_create("loa-notebook")


class Notebook:
    """The newest whole record, and the next. One process at a time writes."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._serial = max((serial for serial, _ in self._pages()), default=0)

    def write(self, record: bytes) -> None:
        """Replace the record; ValueError, and the old one stays, if it is too long."""
        if len(record) > PAGE_BYTES - _RECORD_AT:
            raise ValueError(f"a record of {len(record)} bytes does not fit the notebook")
        serial = self._serial + 1
        head = _HEAD.pack(serial, len(record))
        checksum = _CHECKSUM.pack(zlib.crc32(record, zlib.crc32(head)))
        self._put(serial, head + checksum + record)
        self._serial = serial

    def read(self) -> tuple[int, bytes]:
        """The newest record that was written whole, and its serial; 0 and nothing if none was."""
        return max(self._pages(), default=(0, b""))

    def serial(self) -> int:
        """That of the newest record, whole or not yet; cheap to ask."""
        heads = (os.pread(self._memory, _HEAD.size, n * PAGE_BYTES) for n in range(2))
        return max((_HEAD.unpack(head)[0] for head in heads if len(head) == _HEAD.size), default=0)

    def _put(self, serial: int, page: bytes) -> None:
        at, left = serial % 2 * PAGE_BYTES, memoryview(page)
        while left:
            written = os.pwrite(self._memory, left, at)
            at, left = at + written, left[written:]

    def _pages(self) -> list[tuple[int, bytes]]:
        pages = (self._page(number * PAGE_BYTES) for number in range(2))
        return [page for page in pages if page is not None]

    def _page(self, at: int) -> tuple[int, bytes] | None:
        head = os.pread(self._memory, _RECORD_AT, at)
        if len(head) < _RECORD_AT:
            return None
        serial, length = _HEAD.unpack_from(head)
        (checksum,) = _CHECKSUM.unpack_from(head, _HEAD.size)
        record = os.pread(self._memory, min(length, PAGE_BYTES), at + _RECORD_AT)
        expected = zlib.crc32(record, zlib.crc32(head[: _HEAD.size]))
        return (serial, record) if len(record) == length and checksum == expected else None
