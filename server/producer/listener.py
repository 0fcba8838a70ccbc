"""The edge where live audio comes in: a thread a source."""

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

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
_MAX_SOURCES = 64
_HANDSHAKE_S = 5.0
# A machine that lost its power or its network says no farewell.
_SILENCE_S = 10.0
# What `accept` says once the socket has been shut down; anything else it says may pass.
_SHUT_DOWN = {errno.EBADF, errno.EINVAL}
_SHORTAGE_S = 0.1
_OVER = "the programme was stopped"
_log = logging.getLogger(__name__)


class Listener:
    """Accepts sources and feeds their programmes."""

    def __init__(
        self,
        listening: socket.socket,
        registry: Registry,
        clock: Clock,
        changed: Callable[[], None],
        *,
        sleep: Callable[[float], None] = time.sleep,
        handshake_s: float = _HANDSHAKE_S,
        silence_s: float = _SILENCE_S,
    ) -> None:
        """`changed` is called whenever a programme starts or ends, for a prompt report."""
        self._listening = listening
        self._registry = registry
        self._clock = clock
        self._changed = changed
        self._sleep = sleep
        self._handshake_s = handshake_s
        self._silence_s = silence_s
        self._places = threading.BoundedSemaphore(_MAX_SOURCES)

    def run(self) -> None:
        """Accept until the socket is shut down; a source beyond the 64th waits in its queue."""
        self._listening.setblocking(True)
        while True:
            self._places.acquire()
            try:
                connection, _ = self._listening.accept()
            except OSError as error:
                self._places.release()
                if error.errno in _SHUT_DOWN:
                    return
                self._sleep(_SHORTAGE_S)  # of descriptors, say; what else there is goes on
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(self._handshake_s)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._converse(connection)
        except (OSError, IngestError):
            pass  # a source that breaks off or talks rubbish disturbs nobody else
        except Exception:  # noqa: BLE001 - the outermost of this thread; told with its traceback
            _log.exception("loa: a source was cut off")
        finally:
            self._places.release()
            self._changed()

    def _converse(self, connection: socket.socket) -> None:
        stream = ObjectStream(connection)
        items = stream.receive()
        programme = self._admit(stream, next(items, None), connection)
        if programme is None:
            return
        connection.settimeout(self._silence_s)
        try:
            if self._take(programme, items, connection):
                programme.finish()
                stream.send({"ended": True})
        finally:
            self._registry.abandon(programme, connection, self._clock.now_ns())

    def _admit(self, stream: ObjectStream, first: Any, speaker: socket.socket) -> Programme | None:
        match first:
            case {"version": int(version), "ticket": str(ticket)}:
                programme = self._registry.claim(ticket, speaker) if version == VERSION else None
                over = programme is None and self._registry.is_over(ticket)
            case _:
                raise IngestError("the first object must hold version and ticket")
        if programme is not None:
            stream.send({"accepted": True, "reason": ""})
        else:
            # A producer that was born a moment ago does not know its tickets yet.
            reason = _OVER if over else "unknown ticket or version; ask the station anew"
            stream.send({"accepted": False, "reason": reason, "final": over})
        return programme

    def _take(self, programme: Programme, items: Iterator[Any], speaker: socket.socket) -> bool:
        """True when the source said that it has finished."""
        for item in items:
            if item is None:
                return self._registry.speaks(programme, speaker)
            start, pcm = block_of(item)
            self._hold_back(ns_of_samples(start + len(pcm)))
            if not self._registry.speaks(programme, speaker):
                raise IngestError("the programme is over, or another source has the word")
            starting = programme.state != LIVE
            programme.feed(start, pcm, self._clock.now_ns())
            if starting:
                self._changed()
        return False

    def _hold_back(self, end_ns: int) -> None:
        ahead_ns = end_ns - self._clock.now_ns()
        if not -_MAX_BEHIND_NS <= ahead_ns <= _MAX_AHEAD_NS:
            raise IngestError("sound of no time that could be played")
        if ahead_ns > _EARLY_NS:
            self._sleep((ahead_ns - _EARLY_NS) / NS_PER_SECOND)
