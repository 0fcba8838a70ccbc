"""The edge where live audio comes in: a thread a source."""

import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from typing_extensions import override

from server.door import Door
from server.ingest import VERSION, IngestError, ObjectStream, block_of
from server.producer.programme import LIVE, Programme
from server.producer.registry import Registry
from transport.clock.timeline import NS_PER_MS, NS_PER_SECOND, ns_of_samples
from transport.control.messages import MAX_PLAYOUT_DELAY_MS
from transport.net.clocks import Clock

# Sound of the future waits here, so TCP holds the source back; the nearest frame's worth may pass.
_EARLY_NS = 20_000_000
# Further away than this is no sound of now: what is later than the longest playout delay could not
# sound any more. Without that bound a source could hand over years of the past as fast as it
# likes, and crowd everybody else out of the ring.
_MAX_AHEAD_NS = 5 * NS_PER_SECOND
_MAX_BEHIND_NS = MAX_PLAYOUT_DELAY_MS * NS_PER_MS
# Counted apart, so that whoever has a ticket comes in, however many stand at the door; and who has
# finished the handshake, however many do not even begin it.
_MAX_WITHOUT_TLS = 64
_MAX_WITHOUT_TICKET = 64
_MAX_SPEAKING = 64
# These, and those that are on their way out, which takes no longer than a nap.
_MAX_THREADS = _MAX_WITHOUT_TLS + _MAX_WITHOUT_TICKET + 2 * _MAX_SPEAKING
# For the whole of the first object.
_HANDSHAKE_S = 2.0
# Who sleeps until the time of its sound looks up so often whether it still has the word.
_NAP_S = 0.1
# A machine that lost its power or its network says no farewell.
_SILENCE_S = 10.0
# What `accept` says once the socket has been shut down; anything else it says may pass.
_SHUT_DOWN = {errno.EBADF, errno.EINVAL}
_SHORTAGE_S = 0.1
_OVER = "the programme was stopped"
_FULL = f"{_MAX_SPEAKING} voices are on air already"
_log = logging.getLogger(__name__)


class _Caller(ssl.SSLSocket):
    """A connection that may have to say what it has to say within a time."""

    address = ""
    had_the_word = False
    seconds_left: Callable[[], float] | None = None

    @override
    def do_handshake(self, block: bool = False) -> None:
        self._hurry()
        super().do_handshake(block)

    @override
    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        self._hurry()
        return super().recv(buflen, flags)

    def drop(self) -> None:
        """Hang up; its own thread notices, and closes it."""
        _hang_up(self)

    def _hurry(self) -> None:
        """What comes next has the time that is left, for all of it and not for every byte."""
        if self.seconds_left is not None:
            left_s = self.seconds_left()
            if left_s <= 0:
                raise TimeoutError("the first object took too long")
            self.settimeout(left_s)


class _FullError(Exception):
    """There is no place for another voice now."""


class _Places:
    """Who is connected: callers without TLS, or still without a ticket, and one source a ticket."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._without_tls = Door(_MAX_WITHOUT_TLS, _MAX_WITHOUT_TLS)
        self._without_ticket = Door(_MAX_WITHOUT_TICKET, _MAX_WITHOUT_TICKET)
        self._speaking: dict[str, tuple[Programme, _Caller]] = {}  # by ticket

    def enter(self, caller: _Caller) -> None:
        """A place for whoever has yet to finish the handshake."""
        with self._lock:
            self._without_tls.arrive(caller, caller.address)

    def secured(self, caller: _Caller) -> None:
        """It has finished; IngestError if it had to make room meanwhile."""
        with self._lock:
            if caller not in self._without_tls:
                raise IngestError("it took too long")
            self._without_tls.leave(caller)
            self._without_ticket.arrive(caller, caller.address)

    def admit(self, ticket: str, caller: _Caller) -> Programme | None:
        """The programme of this ticket, and a place to speak in it; the older source loses its.

        _FullError if there is none, IngestError if the caller had to make room meanwhile.
        """
        with self._lock:
            if caller not in self._without_ticket:
                raise IngestError("it took too long")
            if ticket not in self._speaking and len(self._speaking) >= _MAX_SPEAKING:
                self._clear()
            # In one step with the claim: of two sources the one that has the word is kept.
            programme = self._registry.claim(ticket, caller)
            if programme is not None:
                self._without_ticket.leave(caller)
                if ticket in self._speaking:
                    _hang_up(self._speaking[ticket][1])
                self._speaking[ticket] = programme, caller
        return programme

    def leave(self, caller: _Caller) -> None:
        """Before the caller is closed: its number may be another's then."""
        with self._lock:
            self._without_tls.leave(caller)
            self._without_ticket.leave(caller)
            for ticket, (_, speaker) in tuple(self._speaking.items()):
                if speaker is caller:
                    del self._speaking[ticket]

    def _clear(self) -> None:
        """Of those who have not noticed yet that their programme is over."""
        for ticket, (programme, speaker) in tuple(self._speaking.items()):
            if not self._registry.speaks(programme, speaker):
                del self._speaking[ticket]
                _hang_up(speaker)
        if len(self._speaking) >= _MAX_SPEAKING:
            raise _FullError


def _hang_up(caller: _Caller) -> None:
    """Its own thread notices, and closes it."""
    with suppress(OSError):  # gone by itself
        # Not the caller's own: that would have its thread go on reading without TLS.
        socket.socket.shutdown(caller, socket.SHUT_RDWR)


class Listener:
    """Accepts sources and feeds their programmes."""

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        registry: Registry,
        clock: Clock,
        changed: Callable[[], None],
        *,
        refused: Callable[[str, str], None] = lambda _address, _why: None,
        sleep: Callable[[float], None] = time.sleep,
        handshake_s: float = _HANDSHAKE_S,
        silence_s: float = _SILENCE_S,
    ) -> None:
        """`context` is the listener's own from now on; see `server.keys.tls.server_context`.

        `changed` is called whenever a programme starts or ends, for a prompt report; `refused`
        with the address of whoever may not speak, and why.
        """
        context.sslsocket_class = _Caller
        self._listening = listening
        self._context = context
        self._registry = registry
        self._clock = clock
        self._changed = changed
        self._refused = refused
        self._sleep = sleep
        self._handshake_s = handshake_s
        self._silence_s = silence_s
        self._places = _Places(registry)
        self._threads = threading.BoundedSemaphore(_MAX_THREADS)

    def run(self) -> None:
        """Accept until the socket is shut down."""
        self._listening.setblocking(True)
        while True:
            self._threads.acquire()
            try:
                connection, peer = self._listening.accept()
            except OSError as error:
                self._threads.release()
                if error.errno in _SHUT_DOWN:
                    return
                self._sleep(_SHORTAGE_S)  # of descriptors, say; what else there is goes on
                continue
            caller = self._caller(connection, peer[0])
            if caller is None:
                self._threads.release()
                continue
            self._places.enter(caller)
            threading.Thread(target=self._serve, args=(caller,), daemon=True).start()

    def _caller(self, connection: socket.socket, address: str) -> _Caller | None:
        """The connection, with TLS that has not begun; None if it is gone already."""
        try:
            caller = self._context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        except (OSError, ValueError):
            connection.close()
            return None
        assert isinstance(caller, _Caller)  # noqa: S101 - the context makes no others
        caller.address = address
        return caller

    def _serve(self, caller: _Caller) -> None:
        until_ns = self._clock.now_ns() + round(self._handshake_s * NS_PER_SECOND)
        caller.seconds_left = lambda: (until_ns - self._clock.now_ns()) / NS_PER_SECOND
        try:
            with caller:
                try:
                    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    caller.do_handshake()
                    self._places.secured(caller)
                    self._converse(caller)
                finally:
                    self._places.leave(caller)
        except (OSError, IngestError):
            pass  # a source that breaks off or talks rubbish disturbs nobody else
        except Exception:  # noqa: BLE001 - the outermost of this thread; told with its traceback
            _log.exception("loa: a source was cut off")
        finally:
            self._threads.release()
            if caller.had_the_word:  # of strangers there may be thousands a second
                self._changed()

    def _converse(self, caller: _Caller) -> None:
        stream = ObjectStream(caller)
        items = stream.receive()
        match next(items, None):
            case {"version": int(version), "ticket": str(ticket)}:
                programme, reason = self._admit(version, ticket, caller)
            case _:
                raise IngestError("the first object must hold version and ticket")
        caller.seconds_left = None
        caller.settimeout(self._silence_s)
        if programme is None:
            self._refused(caller.address, reason)
            stream.send({"accepted": False, "reason": reason, "final": reason == _OVER})
            return
        caller.had_the_word = True
        try:
            stream.send({"accepted": True, "reason": ""})
            if self._take(programme, items, caller):
                programme.finish()
                stream.send({"ended": True})
        finally:
            self._registry.abandon(programme, caller, self._clock.now_ns())

    def _admit(self, version: int, ticket: str, caller: _Caller) -> tuple[Programme | None, str]:
        """The programme, or the reason why there is none."""
        try:
            programme = self._places.admit(ticket, caller) if version == VERSION else None
        except _FullError:
            return None, _OVER if self._registry.is_over(ticket) else _FULL
        if programme is None and self._registry.is_over(ticket):
            return None, _OVER
        # A producer that was born a moment ago does not know its tickets yet.
        return programme, "unknown ticket or version; ask the station anew"

    def _take(self, programme: Programme, items: Iterator[Any], speaker: _Caller) -> bool:
        """True when the source said that it has finished."""
        for item in items:
            if item is None:
                return self._registry.speaks(programme, speaker)
            start, pcm = block_of(item)
            end_ns = ns_of_samples(start + len(pcm))
            waiting = True
            while waiting:
                waiting = self._hold_back(end_ns)
                if not self._registry.speaks(programme, speaker):
                    raise IngestError("the programme is over, or another source has the word")
            starting = programme.state != LIVE
            try:
                programme.feed(start, pcm, self._clock.now_ns())
            except IngestError:
                programme.finish()  # else it would come back and be as much work again
                raise
            if starting:
                self._changed()
        return False

    def _hold_back(self, end_ns: int) -> bool:
        """Sleep if it is too early for sound that ends then; True if it may still be."""
        ahead_ns = end_ns - self._clock.now_ns()
        if not -_MAX_BEHIND_NS <= ahead_ns <= _MAX_AHEAD_NS:
            raise IngestError("sound of no time that could be played")
        early_s = (ahead_ns - _EARLY_NS) / NS_PER_SECOND
        if early_s > 0:
            self._sleep(min(early_s, _NAP_S))
        return early_s > _NAP_S
