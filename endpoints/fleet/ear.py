"""The thread that hears for thousands: media to the judge, answers of STUN to the loop."""

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import numpy as np

from endpoints.fleet.judge import Judge, Rows, Times
from endpoints.fleet.post import Post
from transport.net.clocks import Clock
from transport.net.stamped import (
    ANCILLARY_BYTES,
    MAX_DATAGRAM,
    enable_stamps,
    realtime_stamp_ns,
)

# Linux has one for each thread. Real loudspeakers would each have a machine that listens.
_NICENESS = -11
# So few at once, and it is worth waiting for more: looking at a batch costs 0.2 ms whatever its
# size. When each came the kernel says.
_FEW = 2_048
_REST_S = 0.01
_SETTLE_NS = 100_000_000
_MOST_ANSWERS = 1 << 16
_GROUP_BATCH = 64


class Ear:
    """Reads the media socket, and the sockets of groups, as fast as they fill."""

    def __init__(self, post: Post, judge: Judge, clock: Clock) -> None:
        self.answers: deque[tuple[int, bytes, int]] = deque(maxlen=_MOST_ANSWERS)
        self._post = post
        self._judge = judge
        self._clock = clock
        self._lock = threading.Lock()
        self._closing = False
        self._settled_ns = 0
        self._poll = select.epoll()
        self._groups: dict[int, tuple[int, socket.socket]] = {}

    @contextmanager
    def judging(self) -> Iterator[Judge]:
        """The judge, while this thread leaves it alone."""
        with self._lock:
            yield self._judge

    def listen(self, index: int, udp: socket.socket) -> Callable[[], None]:
        """Hear a group for this one; the socket is the ear's, until it calls what is returned."""
        enable_stamps(udp)
        number = udp.fileno()
        with self._lock:
            self._groups[number] = (index, udp)
            self._poll.register(number, select.EPOLLIN)
        return lambda: self._leave(number)

    def _leave(self, number: int) -> None:
        with self._lock:
            self._poll.unregister(number)
            _, udp = self._groups.pop(number)
            udp.close()

    def close(self) -> None:
        """Let `run` end."""
        self._closing = True

    def run(self) -> None:
        """In a thread of its own, until `close`."""
        with suppress(OSError):  # where this user may: what it does not read in time is lost
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while not self._closing:
            now_ns = self._clock.now_ns()
            rows = self._post.receive(now_ns)
            if len(rows[0]):
                self._take(*rows)
            heard = len(rows[0]) + (self._hear_groups() if self._groups else 0)
            # What still waits may be copies of frames that are long gone by the clock.
            self._settle(int(rows[3][-1]) if len(rows[0]) == self._post.batch else now_ns)
            if heard < _FEW:
                time.sleep(_REST_S)
        for number in list(self._groups):
            self._leave(number)
        self._poll.close()

    def _settle(self, until_ns: int) -> None:
        """Everything that came before this has been heard."""
        if until_ns - self._settled_ns > _SETTLE_NS:
            self._settled_ns = until_ns
            with self._lock:
                self._judge.settle(until_ns)

    def _take(self, indices: Times, data: Rows, lengths: Times, arrivals_ns: Times) -> None:
        # RFC 7983 section 7: what shares a socket with RTP is told by its first byte; RFC 5761
        # section 4: RTCP from RTP by the second.
        first, second = data[:, 0], data[:, 1]
        media = (first >= 0x80) & (first < 0xC0) & ((second < 192) | (second > 223))
        if media.all():
            with self._lock:
                self._judge.take(indices, data, lengths, arrivals_ns)
            return
        for row in np.flatnonzero((first <= 0x03) & (indices >= 0)).tolist():
            datagram = data[row, : lengths[row]].tobytes()
            self.answers.append((int(indices[row]), datagram, int(arrivals_ns[row])))
        with self._lock:
            self._judge.take(indices[media], data[media], lengths[media], arrivals_ns[media])

    # ------------------------------------------------------------- groups
    def _hear_groups(self) -> int:
        """How many came."""
        with self._lock:
            ready = [self._groups[n] for n, _ in self._poll.poll(0) if n in self._groups]
            heard = [one for index, udp in ready for one in self._read(index, udp)]
        if heard:
            data = np.zeros((len(heard), MAX_DATAGRAM), np.uint8)
            for row, (_, datagram, _) in enumerate(heard):
                data[row, : len(datagram)] = np.frombuffer(datagram, np.uint8)
            lengths = np.array([len(datagram) for _, datagram, _ in heard], np.int64)
            indices, arrivals_ns = (np.array([h[n] for h in heard], np.int64) for n in (0, 2))
            self._take(indices, data, lengths, arrivals_ns)
        return len(heard)

    def _read(self, index: int, udp: socket.socket) -> Iterator[tuple[int, bytes, int]]:
        for _ in range(_GROUP_BATCH):
            try:
                datagram, ancillary, _, _ = udp.recvmsg(MAX_DATAGRAM, ANCILLARY_BYTES)
            except OSError:  # no more waits, or the network is down
                return
            stamp_ns = realtime_stamp_ns(ancillary)
            arrival_ns = None if stamp_ns is None else self._clock.of_kernel_stamp(stamp_ns)
            yield index, datagram, arrival_ns or self._clock.now_ns()
