"""One datagram to many addresses by few system calls (sendmmsg(2)), laid out once in numpy.

Nothing here happens in Python for each destination. Where the system's library has no sendmmsg,
the same is done by sendto(2), one after another.
"""

import ctypes
import errno
import socket
import sys
from collections.abc import Callable
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

# linux/in.h; the socket module of Python 3.11 does not name them.
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_WANT, _IP_PMTUDISC_PROBE = 1, 3
# 576 bytes, which every IPv4 host takes whole (RFC 791 section 3.1), less both headers.
_NEVER_FRAGMENTED_BYTES: Final = 548
_MAX_DATAGRAM: Final = 65_535
# An IPv4 address mapped into IPv6 (RFC 4291 section 2.5.5.2).
_MAPPED_PREFIX = np.array([*bytes(10), 0xFF, 0xFF], np.uint8)
_IPV4 = np.dtype([("family", "=u2"), ("port", ">u2"), ("address", "u1", 4), ("zero", "u1", 8)])
_IPV6 = np.dtype(
    [
        *[("family", "=u2"), ("port", ">u2"), ("flow", ">u4")],
        *[("address", "u1", 16), ("scope", "=u4")],
    ]
)
IOVEC = np.dtype([("base", "u8"), ("length", "u8")])
# struct mmsghdr where pointers have 64 bits, as glibc and musl have it.
MESSAGE = np.dtype(
    {
        "names": [
            *["name", "name_length", "iovec", "iovecs"],
            *["control", "control_length", "flags", "length"],
        ],
        "formats": ["u8", "u4", "u8", "u8", "u8", "u8", "i4", "u4"],
        "offsets": [0, 8, 16, 24, 32, 40, 48, 56],
        "itemsize": 64,
    }
)


def library_function(name: str, arguments: list[type]) -> Callable[..., int] | None:
    """A function of the system's library that gives an int and sets errno; None if it has none.

    None as well where a pointer has not 64 bits, for `MESSAGE` is laid out for those.
    """
    if sys.maxsize < 1 << 32:
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is not None:
        function.argtypes, function.restype = arguments, ctypes.c_int
    found: Callable[..., int] | None = function
    return found


_sendmmsg = library_function(
    "sendmmsg", [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
)
# What the kernel has no room for now and may have soon; anything else is about one address.
_LATER = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM})


class Sent(NamedTuple):
    """What became of a datagram: addresses that it left for, that were refused, and not tried."""

    sent: int
    failed: int
    left: int


class Addresses:
    """Socket addresses laid out as the kernel reads them, in the order given.

    `addresses` has shape (N, 16): IPv6, or IPv4 mapped into it; `ports` shape (N,). `family` is
    that of the socket they are for. An IPv4 socket reaches no IPv6 address: such are left out, and
    `unreachable` says how many.
    """

    def __init__(
        self,
        addresses: NDArray[np.uint8],
        ports: NDArray[np.integer],
        family: int = socket.AF_INET,
    ) -> None:
        self.family = family
        if family == socket.AF_INET:
            reachable = (addresses[:, :12] == _MAPPED_PREFIX).all(axis=1)
            self._names = np.zeros(np.count_nonzero(reachable), _IPV4)
            self._names["address"] = addresses[reachable, 12:]
            self._names["port"] = ports[reachable]
        else:
            self._names = np.zeros(len(addresses), _IPV6)
            self._names["address"] = addresses
            self._names["port"] = ports
        self._names["family"] = family
        self.unreachable = len(addresses) - len(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def messages(self) -> NDArray[np.void]:
        """A `MESSAGE` for each; all of them send what `iovec` points to."""
        names = self._names
        messages = np.zeros(len(names), MESSAGE)
        starts = np.arange(len(names), dtype=np.uint64) * np.uint64(names.itemsize)
        messages["name"] = np.uint64(names.ctypes.data) + starts
        messages["name_length"] = names.itemsize
        messages["iovec"] = self.iovec.ctypes.data
        messages["iovecs"] = 1
        return messages

    @cached_property
    def messages_at(self) -> int:
        """Where the first of `messages` is in memory."""
        return int(self.messages.ctypes.data)

    @cached_property
    def iovec(self) -> NDArray[np.void]:
        """The one `IOVEC` of all messages."""
        return np.zeros(1, IOVEC)

    @cached_property
    def spelled(self) -> list[tuple[str, int]]:
        """Each as (host, port), for who calls sendto."""
        hosts, ports = self._names["address"], self._names["port"]
        return [
            (socket.inet_ntop(self.family, host.tobytes()), int(port))
            for host, port in zip(hosts, ports, strict=True)
        ]


class PlainTransmitter:
    """Sends one datagram to many addresses by sendto(2). `udp` stays its owner's."""

    def __init__(self, udp: socket.socket) -> None:
        self._udp = udp
        self.family = int(udp.family)

    def send(self, datagram: bytes, to: Addresses, start: int, stop: int) -> Sent:
        """Send to the addresses from `start` until before `stop`, without waiting.

        One that the kernel refuses is passed over. When it has no room the rest is left, in order:
        try again later from `stop` - `left`. ValueError for a datagram that UDP cannot carry, and
        for addresses of another family than the socket's.
        """
        self._prepare(datagram, to)
        stop = min(stop, len(to))
        sent = failed = 0
        for address in to.spelled[start:stop]:
            try:
                self._udp.sendto(datagram, socket.MSG_DONTWAIT, address)
                sent += 1
            except OSError as error:
                if error.errno in _LATER:
                    break
                failed += 1
        return Sent(sent, failed, max(0, stop - start) - sent - failed)

    def _prepare(self, datagram: bytes, to: Addresses) -> None:
        if len(datagram) > _MAX_DATAGRAM:
            raise ValueError(f"a datagram of {len(datagram)} bytes: UDP carries {_MAX_DATAGRAM}")
        if to.family != self.family:
            raise ValueError("addresses of another family than the socket's")
        # What is never fragmented needs no number to be put together by (RFC 6864), which the
        # kernel else draws for each destination: 4 to 8 % of what a packet costs. For each datagram
        # anew, for other processes send by this socket too.
        whole = len(datagram) <= _NEVER_FRAGMENTED_BYTES
        mode = _IP_PMTUDISC_PROBE if whole else _IP_PMTUDISC_WANT
        self._udp.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, mode)


class Transmitter(PlainTransmitter):
    """Likewise by sendmmsg(2), wherever the system has it."""

    def __init__(self, udp: socket.socket) -> None:
        super().__init__(udp)
        self._descriptor = udp.fileno()
        buffer = (ctypes.c_char * _MAX_DATAGRAM)()
        self._outgoing = memoryview(buffer).cast("B")
        self._outgoing_at = ctypes.addressof(buffer)
        self._prepared: bytes | None = None

    @override
    def send(self, datagram: bytes, to: Addresses, start: int, stop: int) -> Sent:
        """As `PlainTransmitter.send`; by one system call, and one more after each refusal."""
        if _sendmmsg is None:
            return super().send(datagram, to, start, stop)
        if datagram is not self._prepared or to.family != self.family:
            self._prepare(datagram, to)
            # The kernel reads it here, where its address is known.
            self._outgoing[: len(datagram)] = datagram
            self._prepared = datagram
        to.iovec[0] = (self._outgoing_at, len(datagram))
        stop = min(stop, len(to))
        at, failed, first = start, 0, to.messages_at
        while at < stop:
            done = _sendmmsg(
                self._descriptor, first + at * MESSAGE.itemsize, stop - at, socket.MSG_DONTWAIT
            )
            if done > 0:
                at += done
                continue
            code = ctypes.get_errno()
            if code in _LATER:
                break
            if code != errno.EINTR:
                at += 1
                failed += 1
        return Sent(at - start - failed, failed, max(0, stop - at))
