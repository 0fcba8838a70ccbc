"""Passes words between loudspeakers' WebSockets and control: an ASGI application."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

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
from transport.control.messages import SUBPROTOCOL

# RFC 6455 7.4.1: what is no binary message; and the end of this server's part in it.
_UNSUPPORTED, _AGAIN = 1003, 1012
_CLOSE_TIMEOUT_S = 0.4
# How late control may hear what has come of its connections.
_HOLDS_S = 0.02
_LOOK_AGAIN_S = 0.25


class _Guest:
    """One loudspeaker's session: one message on its way to control, and one from it, at most."""

    def __init__(self, number: int, link: Link, receive: Receive, send: Send) -> None:
        self._number = number
        self._link = link
        self._receive = receive
        self._send = send
        self._heard = asyncio.Event()
        self._patience = asyncio.timeout(None)
        self._saying: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._over = False

    async def run(self) -> None:
        """Pass on what it says, until it goes or is closed."""
        try:
            async with self._patience:
                code = await self._pass_on()
        except TimeoutError:  # it does not even read that it is closed
            return
        finally:
            self._over = True
            if self._saying is not None:
                self._saying.cancel()
        if self._closing is None:
            self._link.put(Gone(self._number, code))
        if code == _UNSUPPORTED:
            await self._close(code, "")

    async def _pass_on(self) -> int:
        while True:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or 1005)
            data = message.get("bytes")
            if data is None:
                return _UNSUPPORTED
            if self._closing is None:
                self._heard.clear()
                self._link.put(Said(self._number, bytes(data)))
                await self._heard.wait()

    def heard(self) -> None:
        """Control has taken its message."""
        self._heard.set()

    def say(self, data: bytes) -> None:
        """Tell it this; control has waited for the one before."""
        if self._closing is None:
            self._saying = asyncio.create_task(self._say(data))

    async def _say(self, data: bytes) -> None:
        # An OSError says that it has gone, which `run` hears of too.
        if await _sent(self._send({"type": "websocket.send", "bytes": data})):
            self._link.put(Sent(self._number))

    def close(self, code: int, reason: str) -> None:
        """Close it; once."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, reason))

    async def _close(self, code: int, reason: str) -> None:
        if self._saying is not None:
            self._saying.cancel()
        closed = {"type": "websocket.close", "code": code, "reason": reason}
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await _sent(self._send(closed))
        except TimeoutError:
            if not self._over:
                self._patience.reschedule(asyncio.get_running_loop().time())
        self._heard.set()


async def _sent(sending: Awaitable[None]) -> bool:
    """Whether the peer was there; ours and uvicorn's words for it differ."""
    try:
        await sending
    except (OSError, RuntimeError):
        return False
    return True


class Relay:
    """Of one hall: its sessions, and what control has it do with them."""

    def __init__(
        self,
        end: socket.socket,
        places: int,
        first_session: int,
        take: Callable[[socket.socket], None],
        count: Callable[[], tuple[int, int]],
    ) -> None:
        """`end` is this hall's end of the link, and is closed with it.

        Sessions are numbered from `first_session`, which is drawn at random: what control meant
        for a hall before this one meets nobody. `take` is given each connection; `count` says how
        many are unfinished, and how many there are beside those.
        """
        self._link = Link(end, self._hear)
        self._places = places
        self._next_session = first_session
        self._take = take
        self._count = count
        self._instance = ""
        self._taken = 0
        self._holds = Holds(0, 0, 0)
        self._guests: dict[int, _Guest] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._link.put(Here("", places))

    def __len__(self) -> int:
        """How many sessions there are."""
        return len(self._guests)

    def close(self) -> None:
        """Say nothing more to control."""
        if self._timer is not None:
            self._timer.cancel()
        self._link.close()

    def changed(self) -> None:
        """What `count` says has changed: tell control, soon."""
        loop = asyncio.get_running_loop()
        soon = loop.time() + _HOLDS_S
        if self._timer is not None and self._timer.when() <= soon:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_at(soon, self._tell_holds)

    def _tell_holds(self) -> None:
        self._timer = None
        holds = Holds(self._taken, *self._count())
        if holds != self._holds:
            self._holds = holds
            self._link.put(holds)
        if holds.unfinished + holds.held > len(self):
            # Nobody says so when these go.
            self._timer = asyncio.get_running_loop().call_later(_LOOK_AGAIN_S, self._tell_holds)

    # ------------------------------------------------------------- from the loudspeakers
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: a session at /control; nothing else is here (ASGI 3)."""
        self.changed()
        try:
            if scope["type"] == "http":
                await _not_here(send)
            elif scope["path"] != "/control":
                await send({"type": "websocket.close"})
            elif (await receive())["type"] == "websocket.connect":
                await self._serve(scope, receive, send)
        finally:
            self.changed()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        chosen = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
        if not await _sent(send({"type": "websocket.accept", "subprotocol": chosen})):
            return
        host, port = scope["client"] or ("", 0)
        number = self._next_session
        self._next_session += 1
        guest = self._guests[number] = _Guest(number, self._link, receive, send)
        self._link.put(Opened(number, host, port, chosen or ""))
        try:
            await guest.run()
        finally:
            del self._guests[number]

    # ------------------------------------------------------------- from control
    def _hear(self, word: Word, connection: socket.socket | None) -> None:
        match word:
            case Take():
                self._taken += 1
                if connection is not None:
                    self._take(connection)
                self.changed()
            case Begin():
                self._begin(word.instance)
            case Say() | Heard() | Close():
                guest = self._guests.get(word.session)
                if guest is not None:  # it may have gone while this was said
                    _pass_to(guest, word)
            case _:
                pass  # control says nothing else

    def _begin(self, instance: str) -> None:
        if instance != self._instance:
            self._instance = instance
            for guest in self._guests.values():
                guest.close(_AGAIN, "the station has begun anew")
        self._taken = 0
        self._holds = Holds(0, 0, 0)
        self._link.put(Here(instance, self._places))
        self.changed()


def _pass_to(guest: _Guest, word: Say | Heard | Close) -> None:
    match word:
        case Say():
            guest.say(word.data)
        case Heard():
            guest.heard()
        case Close():
            guest.close(word.code, word.reason)


async def _not_here(send: Send) -> None:
    body = b"only loudspeakers' sessions are here, at /control\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})
