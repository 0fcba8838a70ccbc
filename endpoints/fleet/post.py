"""One UDP socket for thousands of loudspeakers, each with an address of its own."""

import errno
import socket
import struct

import numpy as np
from numpy.typing import NDArray

from endpoints.fleet.roster import Addresses, FleetError
from transport.net.clocks import wall_offset_ns
from transport.net.received import ReceivedBatch

# linux/in.h and asm-generic/socket.h; the socket module of Python 3.11 does not name them.
_IP_PKTINFO = 8
_SO_RCVBUFFORCE = 33
# struct in_pktinfo (ip(7)): interface, the address to send from, the header's destination.
_PKTINFO = struct.Struct("@i4s4s")
_ANY = bytes(4)
_STEP_NS = 1_000_000


class Post:
    """Sends from any of the addresses, and says to which of them what comes was sent."""

    def __init__(
        self, addresses: Addresses, port: int, *, buffer_bytes: int, batch: int, size: int
    ) -> None:
        """Bound to every address at `port` (0: any); `batch` datagrams of `size` at once.

        FleetError if the port is taken.
        """
        self.batch = batch
        self._addresses = addresses
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._udp.bind(("0.0.0.0", port))  # noqa: S104 - many addresses, all of loopback
            _widen(self._udp, buffer_bytes)
        except OSError as error:
            self._udp.close()
            why = error.strerror or error
            raise FleetError(f"cannot listen at UDP port {port}: {why}") from None
        self._udp.setblocking(False)
        self._received = ReceivedBatch(self._udp, batch, size, destinations=True, overflow=True)
        self._offset_ns = wall_offset_ns()

    @property
    def socket(self) -> socket.socket:
        """To wait for."""
        return self._udp

    @property
    def dropped(self) -> int:
        """What came since the beginning and had no room."""
        return int(self._received.dropped)

    def send(self, index: int, data: bytes, to: tuple[str, int]) -> None:
        """From the address of `index`; what cannot go now is lost, as on any network."""
        info = _PKTINFO.pack(0, self._addresses.packed(index), _ANY)
        try:
            self._udp.sendmsg([data], [(socket.IPPROTO_IP, _IP_PKTINFO, info)], 0, to)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno not in {errno.ECONNREFUSED, errno.ENETUNREACH, errno.ENOBUFS}:
                raise

    def receive(
        self, now_ns: int
    ) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """What waits: for whom (n,), bytes (n, size), how many of them (n,), when (n,).

        The bytes are overwritten by the next call. Times are of CLOCK_BOOTTIME, by the kernel's
        stamps; across a step of the wall clock they mean nothing, and `now_ns` takes their place.
        """
        count = self._received.receive()
        before, self._offset_ns = self._offset_ns, wall_offset_ns()
        stamps = self._received.stamps_ns[:count]
        arrivals = stamps - self._offset_ns
        if abs(self._offset_ns - before) > _STEP_NS:
            arrivals = np.full(count, now_ns, np.int64)
        elif count and not stamps.all():
            arrivals = np.where(stamps > 0, arrivals, now_ns)
        indices = self._addresses.indices(self._received.destinations[:count])
        lengths = self._received.lengths[:count].astype(np.int64)
        return indices, self._received.data[:count], lengths, arrivals

    def close(self) -> None:
        """Hear no more."""
        self._udp.close()


def _widen(udp: socket.socket, size: int) -> None:
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
