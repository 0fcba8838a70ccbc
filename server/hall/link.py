"""The socket between control and a hall: words in packets, and connections beside them."""

import array
import asyncio
import socket
from collections import deque
from collections.abc import Callable

from server.hall.words import MAX_PACKET_BYTES, Take, Word, pack, unpack
from transport.errors import MalformedPacket

# The kernel's queue is ten packets long, whatever their size: words wait for each other.
_PACKET_BYTES = 1 << 15
# The kernel passes 253 at once (SCM_MAX_FD).
_CONNECTIONS = 64
# Of one turn of the loop; others come between.
_PACKETS_IN_A_ROW = 4
_BUFFER = 1 << 20
# The kernel holds only so many descriptors that nobody has received yet (ETOOMANYREFS).
_REST_S = 0.02

Hear = Callable[[Word, socket.socket | None], None]


class Link:
    """One end. What it is given is sent in this order, and waits while the other end is busy.

    Nothing is dropped, so whoever puts words in bounds them: one of each kind for a session.
    `hear` is called with each word, and the connection that came with it; `malformed` counts
    packets that made no sense.
    """

    def __init__(self, end: socket.socket, hear: Hear) -> None:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._end = end
        self._hear = hear
        self._loop = asyncio.get_running_loop()
        self._words: deque[tuple[bytes, socket.socket | None]] = deque()
        self._packet: tuple[bytes, list[socket.socket]] | None = None
        self._flushing = False
        self._buffer = bytearray(MAX_PACKET_BYTES)
        self.malformed = 0
        self._loop.add_reader(end, self._receive)

    def __len__(self) -> int:
        """How many words have not been packed yet."""
        return len(self._words)

    def put(self, word: Word, connection: socket.socket | None = None) -> None:
        """Send it in its turn; the connection is the link's from now on.

        ValueError for a word that no packet holds.
        """
        packed = pack(word)
        if len(packed) > MAX_PACKET_BYTES:
            raise ValueError(f"{type(word).__name__} takes {len(packed)} bytes")
        self._words.append((packed, connection))
        if not self._flushing:
            # Whatever else is said in this turn of the loop goes with it.
            self._flushing = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Neither send nor hear any more; connections that wait are closed."""
        if self._end.fileno() < 0:
            return
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        waiting = [connection for _, connection in self._words if connection is not None]
        for connection in waiting + (self._packet[1] if self._packet else []):
            connection.close()
        self._words.clear()
        self._packet = None
        self._flushing = True  # for ever
        self._end.close()

    # ------------------------------------------------------------- out
    def _flush(self) -> None:
        if self._end.fileno() < 0:  # it was closed meanwhile
            return
        self._loop.remove_writer(self._end)
        while self._packet is not None or self._words:
            if self._packet is None:
                self._packet = self._pack()
            data, connections = self._packet
            try:
                self._end.sendmsg([data], _beside(connections))
            except BlockingIOError:
                self._loop.add_writer(self._end, self._flush)
                return
            except OSError:  # too many descriptors under way, or the other end is restarted
                self._loop.call_later(_REST_S, self._flush)
                return
            self._packet = None
            for connection in connections:
                connection.close()  # the other end has its own
        self._flushing = False

    def _pack(self) -> tuple[bytes, list[socket.socket]]:
        words: list[bytes] = []
        connections: list[socket.socket] = []
        size = 0
        while self._words and len(connections) < _CONNECTIONS:
            packed, connection = self._words[0]
            if words and size + len(packed) > _PACKET_BYTES:
                break
            self._words.popleft()
            words.append(packed)
            size += len(packed)
            if connection is not None:
                connections.append(connection)
        return b"".join(words), connections

    # ------------------------------------------------------------- in
    def _receive(self) -> None:
        for _ in range(_PACKETS_IN_A_ROW):
            try:
                size, beside, _, _ = self._end.recvmsg_into(
                    [self._buffer], socket.CMSG_SPACE(_CONNECTIONS * 4), socket.MSG_CMSG_CLOEXEC
                )
            except OSError:  # nothing more, for now
                return
            connections = _connections(beside)
            if size == 0:  # the supervisor is gone
                self._loop.remove_reader(self._end)
                return
            try:
                words = unpack(memoryview(self._buffer)[:size])
            except MalformedPacket:  # of another version of ours, across a restart
                self.malformed += 1
                words = []
            for word in words:
                # None has come if this process has no descriptor left for it.
                taken = connections.popleft() if isinstance(word, Take) and connections else None
                self._hear(word, taken)
            for connection in connections:
                connection.close()


def _beside(connections: list[socket.socket]) -> list[tuple[int, int, bytes]]:
    if not connections:
        return []
    descriptors = array.array("i", [connection.fileno() for connection in connections])
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors.tobytes())]


def _connections(beside: list[tuple[int, int, bytes]]) -> deque[socket.socket]:
    descriptors = array.array("i")
    for level, kind, data in beside:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(data[: len(data) // descriptors.itemsize * descriptors.itemsize])
    return deque(socket.socket(fileno=descriptor) for descriptor in descriptors)
