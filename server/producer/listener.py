"""The edge where live audio comes in: a thread a source."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from server.ingest import VERSION, IngestError, ObjectStream, block_of
from server.producer.programme import Programme
from server.producer.registry import Registry
from transport.clock.timeline import NS_PER_SECOND, ns_of_samples
from transport.net.clocks import MediaClock

# Sound of the future waits here, so TCP holds the source back; the nearest frame's worth may pass.
_EARLY_NS = 20_000_000
_MAX_AHEAD_NS = 5 * NS_PER_SECOND
_MAX_SOURCES = 64
_HANDSHAKE_S = 5.0


class Listener:
    """Accepts sources and feeds their programmes."""

    def __init__(
        self,
        listening: socket.socket,
        registry: Registry,
        clock: MediaClock,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called whenever a programme starts or ends, for a prompt report."""
        self._listening = listening
        self._registry = registry
        self._clock = clock
        self._changed = changed
        self._places = threading.BoundedSemaphore(_MAX_SOURCES)

    def run(self) -> None:
        """Accept for ever; a source beyond the 64th waits in the listen queue."""
        self._listening.setblocking(True)
        while True:
            self._places.acquire()
            connection, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(_HANDSHAKE_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._converse(connection)
        except (OSError, IngestError):
            pass  # a source that breaks off or talks rubbish disturbs nobody else
        finally:
            self._places.release()
            self._changed()

    def _converse(self, connection: socket.socket) -> None:
        stream = ObjectStream(connection)
        items = stream.receive()
        programme = self._admit(stream, next(items, None), connection)
        if programme is None:
            return
        connection.settimeout(None)
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
            case _:
                raise IngestError("the first object must hold version and ticket")
        reason = "" if programme else "unknown ticket or version; ask the station anew"
        stream.send({"accepted": programme is not None, "reason": reason})
        return programme

    def _take(self, programme: Programme, items: Iterator[Any], speaker: socket.socket) -> bool:
        """True when the source said that it has finished."""
        for item in items:
            if item is None:
                return True
            start, pcm = block_of(item)
            self._hold_back(ns_of_samples(start + len(pcm)))
            if not self._registry.speaks(programme, speaker):
                raise IngestError("another source has the word")
            starting = programme.state != "live"
            programme.feed(start, pcm, self._clock.now_ns())
            if starting:
                self._changed()
        return False

    def _hold_back(self, end_ns: int) -> None:
        ahead_ns = end_ns - self._clock.now_ns()
        if ahead_ns > _MAX_AHEAD_NS:
            raise IngestError("sound from more than 5 s in the future")
        if ahead_ns > _EARLY_NS:
            time.sleep((ahead_ns - _EARLY_NS) / NS_PER_SECOND)
