"""Sends a live source to the producer, paced to the media clock."""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from codec.dsp.meter import FLOOR_DBFS, Meter
from codec.errors import SourceError
from codec.format import SAMPLE_RATE, Samples
from codec.pcm import pcm16
from server.ingest import VERSION, IngestError, ObjectStream
from server.live.clock import SourceClock
from server.live.station import Grant, LiveError, ask
from transport.clock.timeline import NS_PER_MS, ns_of_samples, samples_of_ns

_SOURCE_STOPPED_S = 5.0
_SILENT_DBFS = -60.0
_RECONNECT_S = 3.0
_QUEUE_BLOCKS = 50
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Progress:
    """What has been said so far; `began_ns` is the first sample's time, CLOCK_MONOTONIC here."""

    seconds: float
    level_dbfs: float
    sounded: bool
    began_ns: int
    holes: int


class LiveClient:
    """One voice: asks, speaks, and says when it has finished."""

    def __init__(self, server: str, request: dict[str, object]) -> None:
        """LiveError if the station is not there or refuses."""
        self.grant: Grant = ask(server, request)
        self.progress = Progress(0.0, FLOOR_DBFS, sounded=False, began_ns=0, holes=0)
        self._clock = SourceClock(self.grant.host, self.grant.time_port)
        self._stream: ObjectStream | None = None
        self._connection: socket.socket | None = None
        self._meter = Meter()

    def speak(
        self, blocks: Iterator[Samples], patience_s: float = _SOURCE_STOPPED_S
    ) -> Iterator[Progress]:
        """Send every block when its last sample's time has come; yields after each.

        SourceError when the source fails, or gives nothing for `patience_s`; LiveError when the
        station does.
        """
        self._connect()
        position = samples_of_ns(self._clock.now_ns())
        began_ns = self._clock.own_ns(ns_of_samples(position))
        # Late by less, it still sounds in time, and a source that has only paused catches up. Late
        # by more, it has left a hole, and what comes next belongs to now.
        hole_ns = round(self.grant.playout_delay_ms * NS_PER_MS / 2)
        sent = holes = 0
        for block in _read_ahead(blocks, patience_s):
            end_ns = ns_of_samples(position + len(block))
            late_ns = self._clock.now_ns() - end_ns
            if late_ns > hole_ns:
                position += samples_of_ns(late_ns)
                holes += 1
            else:
                self._clock.sleep_until(end_ns)
            self._send(position, block)
            position += len(block)
            sent += len(block)
            self._meter.feed(block)
            self.progress = Progress(
                sent / SAMPLE_RATE,
                self._meter.rms_dbfs,
                self.progress.sounded or self._meter.peak_dbfs > _SILENT_DBFS,
                began_ns,
                holes,
            )
            yield self.progress

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
        """The producer has died or been restarted: the ticket still holds."""
        deadline_s = time.monotonic() + _RECONNECT_S
        if self._connection is not None:
            self._connection.close()
        self._stream = None
        while True:
            try:
                return self._connect()
            except LiveError:
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.05)

    def _connect(self) -> None:
        address = (self.grant.host, self.grant.ingest_port)
        with ExitStack() as failing:
            try:
                connection = failing.enter_context(socket.create_connection(address, _TIMEOUT_S))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream = ObjectStream(connection)
                stream.send({"version": VERSION, "ticket": self.grant.ticket})
                answer = next(stream.receive(), None)
            except (OSError, IngestError) as error:
                why = getattr(error, "strerror", None) or error
                raise LiveError(f"lost the station at {address[0]}:{address[1]}: {why}") from None
            if not isinstance(answer, dict) or not answer.get("accepted"):
                reason = answer.get("reason") if isinstance(answer, dict) else "no answer"
                raise LiveError(f"the station ended the programme: {reason}")
            failing.pop_all()
        self._connection, self._stream = connection, stream


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
