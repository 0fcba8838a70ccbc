"""Many datagrams by one system call (recvmmsg(2)), as numpy arrays.

Where the system's library has no recvmmsg, they are read by recvmsg(2), one after another.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transport.net.batch import IOVEC, MESSAGE, library_function
from transport.net.stamped import SO_TIMESTAMPNS, enable_stamps

# asm-generic/socket.h and linux/in.h; the socket module of Python 3.11 does not name them.
_SO_RXQ_OVFL: Final = 40
_IP_PKTINFO: Final = 8
_NAME_BYTES = 28  # struct sockaddr_in6, the longer one
_STAMP = (socket.SOL_SOCKET, SO_TIMESTAMPNS)
_OVERFLOW = (socket.SOL_SOCKET, _SO_RXQ_OVFL)
_DESTINATION = (socket.IPPROTO_IP, _IP_PKTINFO)
# struct cmsghdr where pointers have 64 bits; the next one begins at a multiple of 8.
_HEADER = struct.Struct("=Qii")
_TIMESPEC = struct.Struct("=qq")
_COUNT = struct.Struct("=I")
_NS = 1_000_000_000
# struct in_pktinfo: index, local address, and the destination in the header.
_PKTINFO_ADDRESS = slice(8, 12)
_ANCILLARY_BYTES = sum(socket.CMSG_SPACE(size) for size in (_TIMESPEC.size, _COUNT.size, 12))
_NOTHING = frozenset({errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED})

type_layout = dict[tuple[int, int], int]

_recvmmsg = library_function(
    "recvmmsg",
    [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p],
)


class ReceivedBatch:
    """Room for `count` datagrams of `size` bytes from `udp`, and what the last call brought.

    With `stamps` the kernel says when each came, with `destinations` (of an IPv4 socket alone) to
    which address, with `overflow` how many it has dropped. What is longer than `size` is cut off.
    The arrays are read anew by each `receive`: take out of them what shall last. ValueError for
    `destinations` of a socket that is not of IPv4.
    """

    def __init__(
        self,
        udp: socket.socket,
        count: int,
        size: int,
        *,
        stamps: bool = True,
        destinations: bool = False,
        overflow: bool = False,
    ) -> None:
        if destinations and udp.family != socket.AF_INET:
            raise ValueError("destinations are told by IPv4 sockets only")
        if stamps:
            enable_stamps(udp)
        if destinations:
            udp.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        if overflow:
            udp.setsockopt(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
        self._udp = udp
        self._count = count
        self._size = size
        self._data = np.zeros((count, size), np.uint8)
        self._names = np.zeros((count, _NAME_BYTES), np.uint8)
        self._ancillary = np.zeros((count, _ANCILLARY_BYTES), np.uint8)
        self._messages, self._iovecs = self._laid_out()
        self._sources: list[tuple[str, int]] | None = []
        self._received = 0
        self._stamps_ns = np.zeros(count, np.int64)
        self._destinations = np.zeros((count, 4), np.uint8)
        self.dropped = 0

    def _laid_out(self) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """The messages that recvmmsg fills, and where their data go; both must live as long."""
        iovecs, messages = np.zeros(self._count, IOVEC), np.zeros(self._count, MESSAGE)
        iovecs["base"], iovecs["length"] = _rows_at(self._data), self._size
        messages["name"] = _rows_at(self._names)
        messages["iovec"], messages["iovecs"] = _rows_at(iovecs), 1
        messages["control"] = _rows_at(self._ancillary)
        return messages, iovecs

    def receive(self) -> int:
        """Read what waits, `count` datagrams at most, without waiting; how many there were.

        OSError for what is wrong with the socket itself.
        """
        self._stamps_ns[: self._received] = 0
        self._destinations[: self._received] = 0
        if _recvmmsg is None:
            self._received = self._receive_plainly()
            return self._received
        messages = self._messages
        messages["name_length"] = _NAME_BYTES
        messages["control_length"] = _ANCILLARY_BYTES
        self._sources = None
        done = _recvmmsg(
            self._udp.fileno(), messages.ctypes.data, self._count, socket.MSG_DONTWAIT, None
        )
        if done < 0:
            code = ctypes.get_errno()
            if code not in _NOTHING:
                raise OSError(code, os.strerror(code))
        self._received = max(0, done)
        if self._received:
            self._read_ancillary()
        return self._received

    @property
    def data(self) -> NDArray[np.uint8]:
        """Each datagram, shape (n, size); what is after its length is of earlier ones."""
        return self._data[: self._received]

    @property
    def lengths(self) -> NDArray[np.integer]:
        """How many bytes each has, shape (n,)."""
        lengths: NDArray[np.integer] = self._messages["length"][: self._received]
        return lengths

    @property
    def stamps_ns(self) -> NDArray[np.int64]:
        """When the kernel had each, CLOCK_REALTIME, shape (n,); 0 where it did not say."""
        return self._stamps_ns[: self._received]

    @property
    def destinations(self) -> NDArray[np.uint8]:
        """The IPv4 address that each was sent to, shape (n, 4); zeros where nobody said."""
        return self._destinations[: self._received]

    @property
    def sources(self) -> list[tuple[str, int]]:
        """(host, port) of each one's sender."""
        if self._sources is None:
            names = self._names[: self._received].tobytes()
            self._sources = [
                _address_in(names[at : at + _NAME_BYTES])
                for at in range(0, len(names), _NAME_BYTES)
            ]
        return self._sources

    def _read_ancillary(self) -> None:
        """All at once where all are laid out as the first is, which is nearly always."""
        count = self._received
        used = self._messages["control_length"][:count]
        ancillary = self._ancillary[:count]
        layout = dict(_layout(ancillary[0].tobytes(), int(used[0])))
        if (used == used[0]).all() and self._are_alike(layout):
            self._note(slice(0, count), layout)
            return
        for index in range(count):
            found = dict(_layout(ancillary[index].tobytes(), int(used[index])))
            self._note(slice(index, index + 1), found)

    def _are_alike(self, layout: type_layout) -> bool:
        ancillary = self._ancillary[: self._received]
        return all(
            bool(
                (ancillary[:, at - _HEADER.size : at] == ancillary[0, at - _HEADER.size : at]).all()
            )
            for at in layout.values()
        )

    def _note(self, rows: slice, layout: type_layout) -> None:
        """Take over what these rows' messages say; `layout` has where each kind of data begins."""
        ancillary = self._ancillary[rows]
        if (at := layout.get(_STAMP)) is not None:
            times = np.ascontiguousarray(ancillary[:, at : at + _TIMESPEC.size]).view(np.int64)
            self._stamps_ns[rows] = times[:, 0] * _NS + times[:, 1]
        if (at := layout.get(_DESTINATION)) is not None:
            self._destinations[rows] = ancillary[:, at : at + 12][:, _PKTINFO_ADDRESS]
        if (at := layout.get(_OVERFLOW)) is not None:
            (self.dropped,) = _COUNT.unpack_from(ancillary[-1].tobytes(), at)

    def _receive_plainly(self) -> int:
        self._sources = []
        for index in range(self._count):
            try:
                length, ancillary, _, source = self._udp.recvmsg_into(
                    [self._data[index]], _ANCILLARY_BYTES, socket.MSG_DONTWAIT
                )
            except OSError as error:
                if error.errno not in _NOTHING:
                    raise
                break
            self._messages["length"][index] = length
            self._sources.append(source[:2])
            for level, kind, said in ancillary:
                self._note_one(index, (level, kind), said)
        return len(self._sources)

    def _note_one(self, index: int, kind: tuple[int, int], said: bytes) -> None:
        with suppress(struct.error):
            if kind == _STAMP:
                seconds, nanoseconds = _TIMESPEC.unpack(said)
                self._stamps_ns[index] = seconds * _NS + nanoseconds
            elif kind == _OVERFLOW:
                (self.dropped,) = _COUNT.unpack(said)
            elif kind == _DESTINATION:
                self._destinations[index] = np.frombuffer(said, np.uint8)[_PKTINFO_ADDRESS]


def _rows_at(array: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Where each row of an array is in memory."""
    rows = np.arange(len(array), dtype=np.uint64) * np.uint64(array.strides[0])
    return rows + np.uint64(array.ctypes.data)


def _layout(ancillary: bytes, used: int) -> Iterator[tuple[tuple[int, int], int]]:
    """(level, kind) of each control message, and where its data begin (cmsg(3))."""
    at = 0
    while at + _HEADER.size <= used:
        length, level, kind = _HEADER.unpack_from(ancillary, at)
        if not _HEADER.size <= length <= used - at:
            return
        yield (level, kind), at + _HEADER.size
        at += length + -length % 8


def _address_in(name: bytes) -> tuple[str, int]:
    """(host, port) in a struct sockaddr_in or sockaddr_in6."""
    (family,) = struct.unpack_from("=H", name)
    (port,) = struct.unpack_from("!H", name, 2)
    raw = name[8:24] if family == socket.AF_INET6 else name[4:8]
    return socket.inet_ntop(family, raw), port
