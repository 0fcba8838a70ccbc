"""Sends a live source to the producer, paced to the media clock."""

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

from codec.dsp.meter import FLOOR_DBFS, Meter
from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from codec.pcm import pcm16
from server.ingest import VERSION, IngestError, ObjectStream
from server.keys.tls import TlsError
from server.live.clock import SourceClock
from server.live.pace import LiveBuffer
from server.live.station import Grant, LiveError, LiveOverError, ask
from server.remote import ApiError, Credentials, find_credentials
from transport.clock.timeline import NS_PER_MS, ns_of_samples, samples_of_ns

_SOURCE_STOPPED_S = 5.0
_SILENT_DBFS = -60.0
# Less than the 15 s for which a ticket lives that nobody speaks on.
_RECONNECT_S = 12.0
_PAUSE_S = 0.05
_UNKNOWN = "unknown ticket"  # so the producer's reason begins
_QUEUE_BLOCKS = 50
_TIMEOUT_S = 5.0
_PULL_SAMPLES = samples_of_ms(10)


@dataclass(frozen=True, slots=True)
class Progress:
    """What has been said so far; `began_ns` is the first sample's time, CLOCK_BOOTTIME here."""

    seconds: float
    level_dbfs: float
    sounded: bool
    began_ns: int
    holes: int
    dropped_samples: int = 0


class LiveClient:
    """One voice: asks, speaks, and says when it has finished."""

    def __init__(
        self, server: str, request: dict[str, object], credentials: Credentials | None = None
    ) -> None:
        """LiveError if the station is not there or refuses.

        Without `credentials`, those that `find_credentials` finds.
        """
        if credentials is None:
            credentials = _found_credentials(server)
        self.grant: Grant = ask(server, request, credentials)
        self._trust = credentials.trust
        self.progress = Progress(0.0, FLOOR_DBFS, sounded=False, began_ns=0, holes=0)
        self._clock = SourceClock(self.grant.host, self.grant.time_port)
        self._stream: ObjectStream | None = None
        self._connection: socket.socket | None = None
        self._meter = Meter()
        self._said_samples = 0
        self._said_until = 0  # media sample

    def speak(
        self,
        blocks: Iterator[Samples],
        patience_s: float = _SOURCE_STOPPED_S,
        live: LiveBuffer | None = None,
        samples: int = _PULL_SAMPLES,
    ) -> Iterator[Progress]:
        """Send every block when its last sample's time has come; yields after each.

        With `live` the source's own clock is followed: its blocks go through that buffer, of
        which `samples` are sent at a time. Without, they are sent as they are, as is right for
        what can be read as fast as one likes.

        May be called again when it has ended, for what comes after. SourceError when the source
        fails, or gives nothing for `patience_s`; LiveError when the station does.
        """
        if self._stream is None:
            self._connect()
        # Not before what was said last, should the estimate of the clock have moved back.
        position = max(samples_of_ns(self._clock.now_ns()), self._said_until)
        if not self._said_samples:
            began_ns = self._clock.own_ns(ns_of_samples(position))
            self.progress = replace(self.progress, began_ns=began_ns)
        if live is None:
            yield from self._speak_paced(position, _read_ahead(blocks, patience_s))
            return
        feed = _Feed(blocks, live, lambda: samples_of_ns(self._clock.now_ns()))
        try:
            yield from self._speak_live(position, feed, patience_s, samples)
        finally:
            feed.close()

    def _speak_paced(self, position: int, blocks: Iterator[Samples]) -> Iterator[Progress]:
        holes = self.progress.holes
        for block in blocks:
            late = self._wait(position + len(block))
            position += late
            holes += late > 0
            yield self._say(position, block, holes, self.progress.dropped_samples)
            position += len(block)

    def _speak_live(
        self, position: int, feed: "_Feed", patience_s: float, samples: int
    ) -> Iterator[Progress]:
        holes, dropped_samples = self.progress.holes, self.progress.dropped_samples
        while True:
            late = self._wait(position + samples)
            if late:
                position += late
                holes += 1
                feed.skip(late)
            position += samples
            block = feed.pull(samples, position, patience_s)
            if block is None:
                return
            live = feed.live
            yield self._say(
                position - samples,
                block,
                holes + live.holes,
                dropped_samples + live.dropped_samples,
            )

    def _wait(self, end: int) -> int:
        """Until media sample `end`; or, if that is too long past, by how many samples.

        Late by less than half of D, it still sounds in time, and a source that has only paused
        catches up. Late by more, it has left a hole, and what comes next belongs to now.
        """
        hole_ns = round(self.grant.playout_delay_ms * NS_PER_MS / 2)
        end_ns = ns_of_samples(end)
        late_ns = self._clock.now_ns() - end_ns
        if late_ns > hole_ns:
            return samples_of_ns(late_ns)
        self._clock.sleep_until(end_ns)
        return 0

    def _say(self, position: int, block: Samples, holes: int, dropped_samples: int) -> Progress:
        self._send(position, block)
        self._said_samples += len(block)
        self._said_until = position + len(block)
        self._meter.feed(block)
        self.progress = Progress(
            self._said_samples / SAMPLE_RATE,
            self._meter.rms_dbfs,
            self.progress.sounded or self._meter.peak_dbfs > _SILENT_DBFS,
            self.progress.began_ns,
            holes,
            dropped_samples,
        )
        return self.progress

    def finish(self) -> None:
        """Say that nothing more will come; the station then ends the programme in good order."""
        self._clock.close()
        if self._stream is None or self._connection is None:
            return
        with self._connection, suppress(OSError, IngestError):  # it will notice by itself
            self._stream.send(None)
            next(self._stream.receive(), None)
        self._stream = None

    def _send(self, position: int, block: Samples) -> None:
        item = [position, pcm16(block)]
        try:
            if self._stream is None:
                raise BrokenPipeError
            self._stream.send(item)
        except OSError:
            self._reconnect()
            # What could not be sent is late by now; sound goes on with the next block.

    def _reconnect(self) -> None:
        """Part of the station has died or been restarted: the ticket still holds."""
        deadline_s = time.monotonic() + _RECONNECT_S
        if self._connection is not None:
            self._connection.close()
        self._stream = None
        while True:
            try:
                left_s = deadline_s - time.monotonic()
                return self._connect(min(_TIMEOUT_S, max(left_s, _PAUSE_S)))
            except LiveOverError:
                raise
            except _UnknownError:
                if time.monotonic() > deadline_s:
                    why = "the station does not know this programme any more"
                    raise LiveError(why) from None
            except LiveError:
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(_PAUSE_S)

    def _connect(self, timeout_s: float = _TIMEOUT_S) -> None:
        address = (self.grant.host, self.grant.ingest_port)
        with ExitStack() as failing:
            try:
                plain = failing.enter_context(socket.create_connection(address, timeout_s))
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = failing.enter_context(self._trust.secure(plain, address[0]))
                stream = ObjectStream(connection)
                stream.send({"version": VERSION, "ticket": self.grant.ticket})
                answer = next(stream.receive(), None)
                if not isinstance(answer, dict):
                    raise IngestError("no answer")
                connection.settimeout(_TIMEOUT_S)
            except (OSError, IngestError, TlsError) as error:
                why = getattr(error, "strerror", None) or error
                raise LiveError(f"lost the station at {address[0]}:{address[1]}: {why}") from None
            if not answer.get("accepted"):
                raise _refusal(str(answer.get("reason")), final=bool(answer.get("final")))
            failing.pop_all()
        self._connection, self._stream = connection, stream


def _found_credentials(server: str) -> Credentials:
    try:
        return find_credentials(os.environ, server)
    except ApiError as error:
        raise LiveError(str(error)) from None


class _UnknownError(LiveError):
    """The station does not know the ticket: not yet again, or not any more."""


def _refusal(reason: str, *, final: bool) -> LiveError:
    kind = LiveError
    if final:
        kind = LiveOverError
    elif reason.startswith(_UNKNOWN):
        kind = _UnknownError
    return kind(f"the station ended the programme: {reason}")


def _read_ahead(blocks: Iterator[Samples], patience_s: float) -> Iterator[Samples]:
    """The same blocks, read on a thread, so that a source that hangs is noticed."""
    waiting: queue.Queue[Samples | BaseException | None] = queue.Queue(_QUEUE_BLOCKS)

    def read() -> None:
        try:
            for block in blocks:
                waiting.put(block)
            waiting.put(None)
        except BaseException as error:  # noqa: BLE001 - handed over and raised where it is awaited
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            item = waiting.get(timeout=patience_s)
        except queue.Empty:
            raise SourceError(f"the source stopped: no sound for {patience_s:g} s") from None
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return
        yield item


class _Feed:
    """A live source, read on a thread into its buffer."""

    def __init__(self, blocks: Iterator[Samples], live: LiveBuffer, now: Callable[[], int]) -> None:
        self.live = live
        self._blocks = blocks
        self._now = now
        self._room = threading.Condition()  # guards all that follows, and the buffer
        self._arrived_s = time.monotonic()
        self._over = self._closed = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._read, daemon=True).start()

    def close(self) -> None:
        """Read no further block."""
        with self._room:
            self._closed = True
            self._room.notify()

    def skip(self, samples: int) -> None:
        """See LiveBuffer."""
        with self._room:
            self.live.skip(samples)

    def pull(self, samples: int, end: int, patience_s: float) -> Samples | None:
        """The next `samples`, up to media sample `end`; None when the source has ended.

        What failed it is raised when all that came before has been pulled.
        """
        with self._room:
            if self.live.drained:
                if self._failure is not None:
                    raise self._failure
                return None
            if self.live.full:
                self._arrived_s = time.monotonic()  # it waits for us, not we for it
            if not self._over and time.monotonic() - self._arrived_s > patience_s:
                raise SourceError(f"the source stopped: no sound for {patience_s:g} s")
            block = self.live.pull(samples, end)
            self._room.notify()
            return block

    def _read(self) -> None:
        failure: BaseException | None = None
        try:
            for block in self._blocks:
                if not self._push(block):
                    return
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            failure = error
        with self._room:
            self._over, self._failure = True, failure
            self.live.finish()

    def _push(self, block: Samples) -> bool:
        """When there is room; False if nobody wants it any more."""
        with self._room:
            self._room.wait_for(lambda: self._closed or not self.live.full)
            if self._closed:
                return False
            self.live.push(block, self._now())
            self._arrived_s = time.monotonic()
            return True
