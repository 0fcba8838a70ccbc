"""Control's side of the halls: loudspeakers that it hands on, and their sessions as its own.

A connection is handed on before TLS has begun, for nothing of TLS can be. Control sees what is said
in each session and answers; the hall has the descriptor, the TLS and the WebSocket.
"""

import asyncio
import logging
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import WebSocketDisconnect
from starlette.datastructures import Address

from server.clienthello import alpn_of
from server.hall.hall import places_here
from server.hall.link import Link
from server.hall.words import (
    Begin,
    Close,
    Gone,
    Heard,
    Here,
    Holds,
    Opened,
    Said,
    Say,
    Sent,
    Take,
    Word,
)
from server.processes.child import adopt
from transport.control.messages import SUBPROTOCOL

# Of a hall: some seconds of handshakes. Whoever comes then is better off coming again.
MAX_UNFINISHED = 2_048
# RFC 6455 7.4.1: no close frame came; what is ours to regret.
_LOST, _INTERNAL = 1006, 1011

_log = logging.getLogger(__name__)


class RelayedSession:
    """A WebSocket in a hall, as far as Starlette's would be used; its handshake is over.

    One message of each direction is under way at a time: a peer that does not read, or says much,
    costs control no memory.
    """

    def __init__(self, opened: Opened, link: Link) -> None:
        self.client = Address(opened.host, opened.port)
        self.scope = {"subprotocols": [opened.subprotocol] if opened.subprotocol else []}
        self._number = opened.session
        self._link = link
        self._said: deque[bytes] = deque()
        self._gone: int | None = None
        self._receiving: asyncio.Future[None] | None = None
        self._sending: asyncio.Future[None] | None = None

    async def accept(self, subprotocol: str | None = None) -> None:
        """Nothing is to be done: the hall accepts whoever speaks WebSocket."""

    async def receive(self) -> dict[str, Any]:
        """The next message, or that it is over, as ASGI has them; for one who waits at a time."""
        if not self._said and self._gone is None:
            self._receiving = asyncio.get_running_loop().create_future()
            await self._receiving
        if not self._said:
            return {"type": "websocket.disconnect", "code": self._gone}
        self._put(Heard(self._number))
        return {"type": "websocket.receive", "bytes": self._said.popleft()}

    async def send_bytes(self, data: bytes) -> None:
        """Say this; returns when the peer reads. WebSocketDisconnect if it has gone.

        One at a time: RuntimeError while the one before is under way, also if nobody waits for it
        any more.
        """
        if self._gone is not None:
            raise WebSocketDisconnect(self._gone)
        if self._sending is not None:
            raise RuntimeError("it has not read what it was told before")
        self._sending = asyncio.get_running_loop().create_future()
        self._put(Say(self._number, data))
        await self._sending

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """End it; nothing if it is over already."""
        self._put(Close(self._number, code, reason))
        self.gone(code)

    def _put(self, word: Heard | Say | Close) -> None:
        if self._gone is None:
            self._link.put(word)

    # ------------------------------------------------------------- what the hall says
    def said(self, data: bytes) -> None:
        """The loudspeaker has said this."""
        self._said.append(data)
        _settle(self._receiving)

    def sent(self) -> None:
        """What it was told is on its way."""
        _settle(self._sending)
        self._sending = None

    def gone(self, code: int) -> None:
        """It is over."""
        if self._gone is not None:
            return
        self._gone = code
        _settle(self._receiving)
        if self._sending is not None and not self._sending.done():
            self._sending.set_exception(WebSocketDisconnect(code))


def _settle(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


Serve = Callable[[RelayedSession], Awaitable[None]]


class _Hall:
    """What control knows of one hall."""

    def __init__(self, end: socket.socket, instance: str, serve: Serve) -> None:
        self._instance = instance
        self._serve = serve
        self._link = Link(end, self._hear)
        self._acquainted = False
        self._places = 0
        self._given = 0
        self._holds = Holds(0, 0, 0)
        self.sessions: dict[int, RelayedSession] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._link.put(Begin(instance))

    @property
    def load(self) -> int:
        """How many connections it holds, and is about to."""
        return self._unfinished + self._holds.held

    @property
    def has_room(self) -> bool:
        """Whether it may be given one more."""
        within = self.load < self._places and self._unfinished < MAX_UNFINISHED
        return self._acquainted and within

    @property
    def _unfinished(self) -> int:
        return self._holds.unfinished + self._given - self._holds.taken

    def give(self, connection: socket.socket) -> None:
        """It is the hall's from now on."""
        self._given += 1
        self._link.put(Take(), connection)

    def close(self) -> None:
        """Hear of it no more; its sessions are over for control."""
        self._link.close()
        for session in self.sessions.values():
            session.gone(_LOST)

    # ------------------------------------------------------------- what it says
    def _hear(self, word: Word, _: socket.socket | None) -> None:
        match word:
            case Here():
                self._meet(word)
            case Holds() if self._acquainted:
                self._holds = word
            case Opened() if self._acquainted:
                self._open(word)
            case Said() | Sent() | Gone():
                session = self.sessions.get(word.session)
                if session is not None:
                    _pass_to(session, word)
            case _:
                pass  # said to the control before this one

    def _meet(self, here: Here) -> None:
        self._acquainted = here.instance == self._instance
        self._places = here.places
        if self._acquainted:
            return
        # It has been born again, and its sessions have died with the one before.
        for session in self.sessions.values():
            session.gone(_LOST)
        self._given, self._holds = 0, Holds(0, 0, 0)
        self._link.put(Begin(self._instance))

    def _open(self, opened: Opened) -> None:
        session = self.sessions[opened.session] = RelayedSession(opened, self._link)
        task = asyncio.get_running_loop().create_task(self._attend(opened.session, session))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _attend(self, number: int, session: RelayedSession) -> None:
        code = 1000
        try:
            await self._serve(session)
        except Exception:  # noqa: BLE001 - the outermost of this session; the others go on
            code = _INTERNAL
            _log.exception("in a session of a hall")
        finally:
            await session.close(code)
            del self.sessions[number]


def _pass_to(session: RelayedSession, word: Said | Sent | Gone) -> None:
    match word:
        case Said():
            session.said(word.data)
        case Sent():
            session.sent()
        case Gone():
            session.gone(word.code)


class Halls:
    """All halls of a station, of which there may be none."""

    def __init__(
        self,
        ends: tuple[int, ...],
        serve: Serve,
        own_places: int,
        own: Callable[[], int] = lambda: 0,
        most_own: int | None = None,
    ) -> None:
        """`ends` are inherited sockets; `serve` is called for each session, as for one's own.

        `own` says how many connections control itself has. From `own_places` on it hands
        loudspeakers on, and keeps those that no hall has room for, but `most_own` at most: if that
        is none, as many as its descriptors allow.
        """
        instance = secrets.token_hex(8)
        self._halls = [_Hall(adopt(end), instance, serve) for end in ends]
        self._own_places = own_places
        self._own = own
        self._most_own = places_here() if most_own is None else most_own
        self.turned_away = 0

    def __len__(self) -> int:
        """How many sessions they have together."""
        return sum(len(hall.sessions) for hall in self._halls)

    def offer(self, connection: socket.socket, hello: bytes) -> bool:
        """Whether this one, just accepted, is the halls' now; if not, it is the caller's still.

        Handed on is whoever asks for a loudspeaker's session by ALPN in `hello`, its first bytes;
        all else is for control itself. With no room anywhere it is closed and counted: it will
        come again.
        """
        own = self._own()
        if not self._halls or own < self._own_places:
            return False
        if SUBPROTOCOL not in alpn_of(hello):
            return False
        hall = min(filter(_has_room, self._halls), key=_load, default=None)
        if hall is not None:
            hall.give(connection)
        elif own < self._most_own:
            return False
        else:
            self.turned_away += 1
            connection.close()
        return True

    def close(self) -> None:
        """Hear nothing of them any more."""
        for hall in self._halls:
            hall.close()


def _has_room(hall: _Hall) -> bool:
    return hall.has_room


def _load(hall: _Hall) -> int:
    return hall.load
