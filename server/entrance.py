"""Accepts connections and has them shake hands by TLS; whoever does not get on makes room."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from server.door import Door
from server.line import Line
from transport.control.address import neighbourhood

# Of one turn of the loop: those that are within come between.
_CALLERS = 16
# A handshake is a millisecond of ours; whoever is within waits for so many of them, and no more.
_AT_ONCE = 24
# As many as ask for a listening socket's whole backlog.
_MOST_WAITING = 4_096
# Without descriptors there is nothing to accept with; asking again at once would be all we do.
_REST_S = 0.1
# A ClientHello with two key shares, one of them post-quantum, has less.
_HELLO_BYTES = 4_096
_HANDSHAKE_RECORD, _RECORD_HEAD_BYTES = 22, 5
_TCP_CLOSE_WAIT = 8  # linux/tcp_states.h: the peer has hung up


@dataclass(frozen=True, slots=True)
class Manners:
    """How long TLS may take to begin, and to end.

    A handshake that takes longer than `slow_s` waits for its peer and not for us: others may begin.
    """

    handshake_s: float = 5.0
    goodbye_s: float = 5.0
    slow_s: float = 0.5


class _Caller:
    """A connection that is not through TLS."""

    __slots__ = ("address", "connection", "task")
    task: asyncio.Task[None]

    def __init__(self, connection: socket.socket, address: str) -> None:
        self.connection = connection
        self.address = address

    def drop(self) -> None:
        self.task.cancel()


class Entrance:
    """Of one listening socket, which stays its owner's.

    `receive` makes the protocol for a connection from an address; it is told of the connection
    after TLS, or never. `refused` is called for each that is ended before. `hand_on` may take a
    connection that was just accepted, by its first bytes, and says whether it did.

    A whole fleet may come at once. Of those that have said what TLS begins with only a few shake
    hands at a time, and the others wait: by turns of their addresses, and whoever `is_urgent`, by
    those first bytes, has every second turn.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        receive: Callable[[str], asyncio.Protocol],
        refused: Callable[[], None] = lambda: None,
        *,
        manners: Manners | None = None,
        door: Door | None = None,
        hand_on: Callable[[socket.socket, bytes], bool] = lambda *_: False,
        is_urgent: Callable[[bytes], bool] = lambda _: False,
        at_once: int = _AT_ONCE,
        most_waiting: int = _MOST_WAITING,
    ) -> None:
        self._listening = listening
        self._context = context
        self._receive = receive
        self._refused = refused
        self._manners = manners or Manners()
        self._door = Door() if door is None else door  # an empty one is false
        self._hand_on = hand_on
        self._is_urgent = is_urgent
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._loop = asyncio.get_running_loop()
        self._callers: set[_Caller] = set()
        self._waiting: Line[_Caller] = Line()
        # Those that began last, and when; each until it is through or slow.
        self._quick: dict[_Caller, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._accepting = False
        listening.setblocking(False)

    def __len__(self) -> int:
        """How many are not through TLS."""
        return len(self._door) + len(self._waiting)

    def open(self) -> None:
        """Accept, from now on."""
        self._resting = None
        self._accepting = True
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accept no more, and end all that are not through TLS."""
        self._pause()
        for timer in (self._resting, self._timer):
            if timer is not None:
                timer.cancel()
        for caller in self._callers:
            caller.drop()
        while self._waiting:
            self._waiting.pop().connection.close()

    def _pause(self) -> None:
        self._accepting = False
        self._loop.remove_reader(self._listening)

    # ------------------------------------------------------------- who comes
    def _accept(self) -> None:
        for _ in range(_CALLERS):
            if len(self._waiting) >= self._most_waiting:
                self._pause()  # the kernel keeps as many again
                return
            try:
                connection, (host, *_) = self._listening.accept()
            except (BlockingIOError, ConnectionError):  # nobody is there any more
                return
            except OSError:
                self._pause()
                self._resting = self._loop.call_later(_REST_S, self.open)
                return
            connection.setblocking(False)
            hello = first_bytes(connection)
            if not self._hand_on(connection, hello):
                self._welcome(_Caller(connection, neighbourhood(host)), hello)

    def _welcome(self, caller: _Caller, hello: bytes) -> None:
        if _is_whole(hello):
            self._waiting.put(caller, caller.address, urgent=self._is_urgent(hello))
            self._serve()
        else:
            # Whoever has nothing to say yet, or no TLS, costs nothing until it does or is too slow.
            self._begin(caller)

    # ------------------------------------------------------------- whose turn it is
    def _serve(self) -> None:
        """Have as many begin as may."""
        now_s = self._loop.time()
        self._forget_the_slow(now_s - self._manners.slow_s)
        while self._waiting and len(self._quick) < self._at_once:
            caller = self._waiting.pop()
            if _has_hung_up(caller.connection):
                self._end(caller)
            else:
                self._quick[caller] = now_s
                self._begin(caller)
        if self._waiting and self._timer is None:
            oldest_s = next(iter(self._quick.values()))
            due_s = oldest_s + self._manners.slow_s
            self._timer = self._loop.call_at(due_s, self._look_again)
        if not self._accepting and self._resting is None and not self._is_full:
            self.open()

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= self._most_waiting

    def _look_again(self) -> None:
        self._timer = None
        self._serve()

    def _forget_the_slow(self, before_s: float) -> None:
        while self._quick:
            caller = next(iter(self._quick))
            if self._quick[caller] > before_s:
                return
            del self._quick[caller]

    # ------------------------------------------------------------- TLS
    def _begin(self, caller: _Caller) -> None:
        caller.task = self._loop.create_task(self._shake_hands(caller))
        caller.task.add_done_callback(partial(self._through, caller))
        self._callers.add(caller)
        self._door.arrive(caller, caller.address)

    async def _shake_hands(self, caller: _Caller) -> None:
        await self._loop.connect_accepted_socket(
            partial(self._receive, caller.address),
            caller.connection,
            ssl=self._context,
            ssl_handshake_timeout=self._manners.handshake_s,
            ssl_shutdown_timeout=self._manners.goodbye_s,
        )

    def _through(self, caller: _Caller, task: asyncio.Task[None]) -> None:
        self._callers.discard(caller)
        self._door.leave(caller)
        self._quick.pop(caller, None)
        # It speaks no TLS, was too slow, is gone, or has made room.
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            self._end(caller)
        # Else caller, task, error and its frames hold each other until garbage is next collected.
        del caller.task
        if error is not None:
            error.__traceback__ = None
        if self._waiting:
            self._serve()

    def _end(self, caller: _Caller) -> None:
        caller.connection.close()
        self._refused()


def first_bytes(connection: socket.socket) -> bytes:
    """What has come already, and stays to be read."""
    try:
        return connection.recv(_HELLO_BYTES, socket.MSG_PEEK)
    except OSError:
        return b""


def _is_whole(hello: bytes) -> bool:
    """Whether it is all of the record that a handshake begins with (RFC 8446 section 5.1)."""
    begins = len(hello) >= _RECORD_HEAD_BYTES and hello[0] == _HANDSHAKE_RECORD
    return begins and len(hello) >= _RECORD_HEAD_BYTES + int.from_bytes(hello[3:5], "big")


def _has_hung_up(connection: socket.socket) -> bool:
    """Whether it has waited too long: its peer is gone, and would not hear what we say."""
    try:
        state = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    except (AttributeError, OSError):  # other systems than Linux do not tell
        return False
    return state == _TCP_CLOSE_WAIT
