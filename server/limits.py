"""What one peer may cost the HTTP side: how long it may keep us waiting, and how often at once.

uvicorn waits for ever for a request that does not come and for a peer that does not read.
"""

import asyncio
import ctypes
import math
import resource
import socket
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, ClassVar

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from server.door import Guest
from transport.control.address import neighbourhood

# Less progress than this within the patience is none: 3 MB for 10,000 loudspeakers may take long.
_LEAST_PROGRESS = 1 << 16
_MAX_UNREAD = 256 << 10
# All of ours are sent whole; of empty pieces, a message never becomes too long.
_MAX_PIECES = 64
# A peer has said so many words more, at the most, before it hears that its session is closed.
_MAX_AFTER_CLOSE = 64
_UNACKNOWLEDGED_MS = 15_000
# Whoever says nothing is asked by TCP whether it is there (tcp(7)): after so long, so often.
_IDLE_S, _PROBE_S, _PROBES = 20, 10, 3
_SILENT_S = 5
_M_MMAP_THRESHOLD, _LARGE = -3, 128 << 10  # malloc.h


@dataclass(frozen=True, slots=True)
class Limits:
    """Of connections that are not, or not yet, control sessions.

    A connection younger than `fresh_s` makes room for others only when there are `together` of
    them: after a restart, 10,000 loudspeakers behind one address come at once.

    Who has been answered has `rest_s` to ask again: a person thinks longer than 5 s, and each new
    connection costs both ends a handshake.
    """

    patience_s: float = 10.0
    rest_s: int = 60
    each: int = 256
    together: int = 4096
    fresh_s: float = 1.0


def limits_here() -> Limits:
    """As many as this process's descriptors allow: three quarters are the control sessions'."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    usual = Limits()
    if soft == resource.RLIM_INFINITY:
        return usual
    return replace(usual, together=max(1, min(soft // 4, usual.together)))


def give_up_on_the_deaf(listening: socket.socket) -> None:
    """Have the kernel end connections whose peers take no byte, or are gone without a word.

    To close one would wait for it; and who waits for a person has nothing to say.
    """
    # What is accepted from it inherits all of this.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_S)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)


def give_back_what_is_freed() -> None:
    """Have the C library ask the kernel for each large block, and return it when it is freed.

    uvloop takes 256 KB for each TLS connection and touches a page or two. By itself the C library
    raises its bound above that after the first (mallopt(3)), and reuses blocks touched all over.
    """
    with suppress(AttributeError):  # musl has no such thing, and always does so
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE)


def wait_for_words(listening: socket.socket) -> None:
    """Have the kernel keep connections to itself until their peers have said something."""
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _SILENT_S)


class Turn(Enum):
    """What a connection waits for."""

    REST = auto()  # for another request, of which nothing has come
    IDLE = auto()  # for a whole request head, or for the peer to read
    BODY = auto()
    ANSWER = auto()  # for us


@dataclass(slots=True)
class _Group:
    """Guests, and those of them that keep us waiting since when, oldest first."""

    size: int = 0
    waiting: dict[Turn, dict[Guest, float]] = field(
        default_factory=lambda: {Turn.REST: {}, Turn.IDLE: {}, Turn.BODY: {}}
    )

    def turn(self, guest: Guest, turn: Turn | None, now_s: float) -> None:
        for queue in self.waiting.values():
            queue.pop(guest, None)
        if turn in self.waiting:
            self.waiting[turn][guest] = now_s

    def oldest(self, before_s: float) -> Guest | None:
        """Whoever has kept us waiting longest, but who loses least before who loses more."""
        for queue in self.waiting.values():
            guest = next(iter(queue), None)
            if guest is not None and queue[guest] <= before_s:
                return guest
        return None


class Crowd:
    """All connections that are no control sessions; who waits longest makes room."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._everybody = _Group()
        self._by_address: defaultdict[str, _Group] = defaultdict(_Group)
        self._address: dict[Guest, str] = {}

    def __len__(self) -> int:
        return self._everybody.size

    def arrive(self, guest: Guest, address: str, now_s: float) -> None:
        """One has come; it may be sent away before this returns, if all others are busy."""
        self._address[guest] = address
        for group in self._groups(address):
            group.size += 1
        self.turn(guest, Turn.IDLE, now_s)
        self._make_room(self._by_address[address], now_s - self._limits.fresh_s)

    def turn(self, guest: Guest, turn: Turn, now_s: float) -> None:
        """What it waits for has changed."""
        for group in self._groups(self._address[guest]):
            group.turn(guest, turn, now_s)

    def leave(self, guest: Guest) -> None:
        """It is gone, or a control session."""
        address = self._address.pop(guest, None)
        if address is None:
            return
        for group in self._groups(address):
            group.size -= 1
            group.turn(guest, None, 0.0)
        if not self._by_address[address].size:
            del self._by_address[address]

    def _groups(self, address: str) -> tuple[_Group, _Group]:
        return self._everybody, self._by_address[address]

    def _make_room(self, neighbours: _Group, before_s: float) -> None:
        while neighbours.size > self._limits.each:
            if not self._send_away(neighbours.oldest(before_s)):
                break
        while self._everybody.size > self._limits.together:
            oldest = self._everybody.oldest(before_s)
            if oldest is None:
                oldest = self._everybody.oldest(math.inf)
            if not self._send_away(oldest):
                break

    def _send_away(self, guest: Guest | None) -> bool:
        if guest is None:
            return False
        self.leave(guest)
        guest.drop()
        return True


class HttpConnection(H11Protocol):
    """uvicorn's, that waits for its peer only so long."""

    limits: ClassVar[Limits]
    crowd: ClassVar[Crowd]

    _turn: Turn | None = None  # nothing, once it is over or a control session
    _timer: asyncio.TimerHandle | None = None
    _unread = 0

    # typing.override is of Python 3.12.
    def connection_made(  # type: ignore[override, explicit-override]
        self, transport: asyncio.Transport
    ) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._take(Turn.IDLE)
        self.crowd.arrive(
            self, neighbourhood(self.client[0]) if self.client else "", self.loop.time()
        )

    def connection_lost(  # type: ignore[explicit-override]
        self, exc: Exception | None
    ) -> None:
        """Wait no more."""
        self._leave()
        super().connection_lost(exc)

    def handle_events(self) -> None:  # type: ignore[explicit-override]
        """Whatever has been received may have been all we waited for."""
        super().handle_events()
        self._review()

    def on_response_complete(self) -> None:  # type: ignore[explicit-override]
        """Wait for the next request."""
        super().on_response_complete()
        self._review()

    def pause_writing(self) -> None:  # type: ignore[explicit-override]
        """Wait for the peer to read."""
        super().pause_writing()
        self._review()

    def resume_writing(self) -> None:  # type: ignore[explicit-override]
        """It has read."""
        super().resume_writing()
        self._review()

    def handle_websocket_upgrade(self, event: Any) -> None:  # type: ignore[explicit-override]
        """Let it be a session; until it is one, or gone, it is waited for like all others."""
        super().handle_websocket_upgrade(event)
        session = self.transport.get_protocol()
        if isinstance(session, SessionConnection):
            session.attend(self._leave)

    def drop(self) -> None:
        """End it, even with a peer that does not read: that would keep a mere close waiting."""
        self._leave()
        self.transport.abort()

    def _review(self) -> None:
        turn = self._whose_turn()
        if self._turn not in {None, turn}:
            self._take(turn)
            self.crowd.turn(self, turn, self.loop.time())

    def _whose_turn(self) -> Turn:
        # It is None before the first request, whatever its type says, and stays after the last.
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or self.flow.write_paused:
            return Turn.IDLE
        if cycle.response_complete:
            unread = self.conn.trailing_data[0] or self.transport.get_write_buffer_size()
            # Whoever was answered before all was said may say no more.
            return Turn.IDLE if unread or cycle.more_body else Turn.REST
        return Turn.BODY if cycle.more_body else Turn.ANSWER

    def _take(self, turn: Turn) -> None:
        self._stop_waiting()
        self._turn = turn
        if turn is Turn.IDLE:  # a body has its own deadline, which is answered
            self._wait(self.limits.patience_s)
        elif turn is Turn.REST:  # uvicorn ends it, and this whom that does not
            self._wait(self.limits.rest_s + self.limits.patience_s)

    def _wait(self, patience_s: float) -> None:
        self._unread = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(patience_s, self._overdue)

    def _overdue(self) -> None:
        before = self._turn
        self._review()  # nobody tells us of what was sent in the meantime
        if self._turn is not before:
            return
        if 0 < self.transport.get_write_buffer_size() <= self._unread - _LEAST_PROGRESS:
            self._wait(self.limits.patience_s)
        else:
            self.drop()

    def _leave(self) -> None:
        self._stop_waiting()
        self._turn = None
        self.crowd.leave(self)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def http_connection(limits: Limits) -> type[HttpConnection]:
    """The class for one server, whose connections make room for each other."""

    class Connection(HttpConnection):
        pass

    Connection.limits = limits
    Connection.crowd = Crowd(limits)
    return Connection


class SessionConnection(WebSocketsSansIOProtocol):
    """uvicorn's, that ends when the peer asks for more than it takes, or for what is no session."""

    _settled: Callable[[], None] | None = None
    _after_close = 0

    def attend(self, settled: Callable[[], None]) -> None:
        """Have it called once, when this is a session or gone."""
        self._settled = settled

    def connection_lost(  # type: ignore[explicit-override]
        self, exc: Exception | None
    ) -> None:
        """It is over."""
        self._settle()
        super().connection_lost(exc)

    def start_keepalive(self) -> None:  # type: ignore[explicit-override]
        """It is a session; what it was asked for with is wanted no more, and is 5 KB of each."""
        super().start_keepalive()
        self.scope["headers"] = []
        del self.request, self.response
        self._settle()

    def data_received(self, data: bytes) -> None:  # type: ignore[explicit-override]
        """Take what the peer says; end it if that is no request for a session.

        uvicorn neither answers nor ends one that has a body, too many fields or too long ones.
        """
        super().data_received(data)
        if self.conn.handshake_exc is None or self.transport.is_closing():
            return
        answer = b"".join(self.conn.data_to_send())
        if answer:
            self.transport.write(answer)
            self.transport.close()
        else:
            self.transport.abort()

    def _settle(self) -> None:
        settled, self._settled = self._settled, None
        if settled is not None:
            settled()

    def handle_bytes(self, event: Frame) -> None:  # type: ignore[explicit-override]
        """Take a message; who talks on and on after the session is over is not waited for."""
        super().handle_bytes(event)
        self._after_close += self.close_sent
        if self._after_close > _MAX_AFTER_CLOSE:
            self.transport.abort()

    def handle_ping(self) -> None:  # type: ignore[explicit-override]
        """Answer; all else that we send waits until the peer has read."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > _MAX_UNREAD:
            self.transport.abort()

    def handle_cont(self, event: Frame) -> None:  # type: ignore[explicit-override]
        """Take one more piece of a message."""
        super().handle_cont(event)
        if len(self.frames) > _MAX_PIECES:
            self.transport.abort()

    def handle_parser_exception(self) -> None:  # type: ignore[explicit-override]
        """End it, even if it has not begun: a stranger's rubbish is no mistake of ours to log."""
        if self.conn.close_sent is None:
            self.transport.abort()
        else:
            super().handle_parser_exception()


def connections(application: ASGIApp, limits: Limits) -> uvicorn.Config:
    """How uvicorn is to treat the connections of one process, control's or a hall's."""
    return uvicorn.Config(
        application,
        lifespan="off",
        log_level="error",
        access_log=False,
        # Nobody stands between us and who calls, and says from where.
        proxy_headers=False,
        http=http_connection(limits),
        ws=SessionConnection,
        # Deflate would cost 87 KB a session for messages of a hundred bytes.
        ws_per_message_deflate=False,
        ws_max_size=1 << 16,
        # Loudspeakers ping, and say how they are; TCP tells of those that are gone.
        ws_ping_interval=None,
        timeout_keep_alive=limits.rest_s,
        timeout_graceful_shutdown=1,
    )
