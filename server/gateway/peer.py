"""One connection to the gateway: a WebSocket (RFC 6455) over TLS, and what its peer may cost us."""

import asyncio
import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol, cast

from typing_extensions import override
from websockets.exceptions import NegotiationError
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from server.gateway.allowance import Allowance

PATH = "/media"
SUBPROTOCOL = Subprotocol("loa.media.2")
MAX_MESSAGE_BYTES = 128
# For the request that follows TLS.
_OPEN_S = 5.0
PING_S = 4.0
DEAF_S = 10.0
_MAX_UNREAD = 64 << 10
_BEARER = "Bearer "
# What strangers say is counted; a line of the log for each would be a gift to them.
_log = logging.getLogger("loa.gateway.websocket")
_log.addHandler(logging.NullHandler())
_log.propagate = False


class Hall(Protocol):
    """What a peer asks of the gateway."""

    def met(self, peer: "Peer") -> None:
        """A connection is through TLS; it will be lost once."""

    def admit(self, peer: "Peer", token: str) -> bool:
        """Whether the token is good; the peer then counts as its session's."""

    def hear(self, peer: "Peer", message: bytes) -> bytes | None:
        """A binary message from a peer that was admitted; the answer, if any."""

    def malformed(self) -> None:
        """A peer said what nobody may say."""

    def lost(self, peer: "Peer") -> None:
        """The connection is gone; it may never have been admitted."""


def frame_of(message: bytes) -> bytes:
    """The bytes of a whole binary message to any peer: without extensions they are all the same."""
    return Frame(Opcode.BINARY, message).serialize(mask=False)


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol:
    if SUBPROTOCOL not in offered:
        raise NegotiationError(f"use subprotocol {SUBPROTOCOL}")
    return SUBPROTOCOL


class Peer(asyncio.Protocol):
    """Speaks WebSocket with one peer. Nothing here waits: what it does not read, it does not get.

    `address` is where it comes from; `session` is set when it has been admitted, `leaving` when
    it has said that it goes back to UDP.
    """

    def __init__(self, hall: Hall, address: str) -> None:
        self.address = address
        self.session: int | None = None
        self.leaving = False
        self._hall = hall
        self._loop = asyncio.get_running_loop()
        self._allowance = Allowance(self._loop.time())
        self._socket = ServerProtocol(
            subprotocols=[SUBPROTOCOL],
            select_subprotocol=_select,
            max_size=MAX_MESSAGE_BYTES,
            logger=_log,
        )
        self._transport: asyncio.Transport | None = None
        self._opening: asyncio.TimerHandle | None = None
        self._pings = 0
        # The pings that are not answered yet, and when they left.
        self._unanswered: dict[bytes, float] = {}
        self._ping_due_s = self._loop.time() + PING_S

    # ------------------------------------------------------------- asyncio
    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one in all but its class.
        self._transport = cast("asyncio.Transport", transport)
        self._opening = self._loop.call_later(_OPEN_S, self.drop)
        self._hall.met(self)

    @override
    def data_received(self, data: bytes) -> None:
        now_s = self._loop.time()
        if not self._allowance.take(len(data), now_s):
            self._hall.malformed()
            self.drop()
            return
        self._socket.receive_data(data)
        for event in self._socket.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame):
                self._take(event)
        self._flush()

    @override
    def eof_received(self) -> None:
        self._socket.receive_eof()
        self._flush()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self._transport is not None:
            self._transport = None
            self._hall.lost(self)

    # ------------------------------------------------------------- both ways
    def relay(self, frame: bytes) -> bool:
        """Send the bytes of a whole frame, or false: it does not read, or is about to go.

        Below TLS are 64 KB that wait for the kernel; only when those are full does anything wait
        in TLS itself, and then this peer is sent nothing more.
        """
        transport = self._transport
        if transport is None or self._socket.state is not State.OPEN or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > 0:
            return False
        transport.write(frame)
        return True

    def tick(self, now_s: float) -> None:
        """Ping it now and then, and cut it off when a ping has not been answered for long."""
        oldest_s = next(iter(self._unanswered.values()), now_s)
        if now_s - oldest_s >= DEAF_S:
            self.drop()
        elif now_s >= self._ping_due_s and self._socket.state is State.OPEN:
            self._ping_due_s = now_s + PING_S
            self._pings += 1
            ping = self._pings.to_bytes(8, "big")
            self._unanswered[ping] = now_s
            self._socket.send_ping(ping)
            self._flush()

    def go_away(self, code: CloseCode, reason: str) -> None:
        """Say why, and hang up without waiting for an answer."""
        if self._socket.state is State.OPEN:
            self._socket.send_close(code, reason)
            self._flush()
        if self._transport is not None:
            self._transport.close()

    def drop(self) -> None:
        """End it at once, though it may not be reading."""
        if self._transport is not None:
            self._transport.abort()

    def _open(self, request: Request) -> None:
        if self._socket.eof_sent:  # it went on, in what is no WebSocket, before we answered
            return
        response = self._refusal(request) or self._socket.accept(request)
        if response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            response = self._welcome(request) or response
        self._socket.send_response(response)
        self._stop_waiting()

    def _refusal(self, request: Request) -> Response | None:
        if request.path != PATH:
            return self._socket.reject(HTTPStatus.NOT_FOUND, f"media is at {PATH}\n")
        return None

    def _welcome(self, request: Request) -> Response | None:
        """None if the token is good: asked last, for from then on it is its session's peer."""
        shown = request.headers.get_all("Authorization")
        is_one = len(shown) == 1 and shown[0].startswith(_BEARER)
        if self._hall.admit(self, shown[0].removeprefix(_BEARER) if is_one else ""):
            return None
        response = self._socket.reject(HTTPStatus.UNAUTHORIZED, "show this session's token\n")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self._answered(bytes(frame.data))
        elif frame.opcode is Opcode.BINARY and frame.fin:
            answer = self._hall.hear(self, bytes(frame.data))
            if answer is not None:
                self.relay(frame_of(answer))
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT, Opcode.BINARY):
            self._hall.malformed()
            self._socket.fail(CloseCode.UNSUPPORTED_DATA, "whole binary messages, please")

    def _answered(self, ping: bytes) -> None:
        # Whoever is asked several times may answer the last alone (RFC 6455 section 5.5.3).
        if ping in self._unanswered:
            self._unanswered = {p: at for p, at in self._unanswered.items() if p > ping}

    def _flush(self) -> None:
        transport = self._transport
        if transport is None:
            return
        for data in self._socket.data_to_send():
            if data:
                transport.write(data)
            else:
                transport.close()  # TLS has no half-closed connection
        if transport.get_write_buffer_size() > _MAX_UNREAD:
            self.drop()  # it asks for pongs and reads none

    def _stop_waiting(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
