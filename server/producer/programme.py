"""One programme on air: frames, Opus, RTP, in the order sound flows."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codec.dsp.meter import Meter
from codec.format import SAMPLE_RATE
from codec.opus import Encoder
from server.bus import ProgrammeOrder, ProgrammeReport
from server.encoding import encoder_settings
from server.producer.framer import Framer
from server.ring import RTCP, RTP, Entry
from transport.session.sender import StreamSender

WAITING, LIVE, ENDED = "waiting", "live", "ended"


@dataclass(frozen=True, slots=True)
class StreamNumbers:
    """The random numbers of one stream's life (RFC 3550 section 5.1)."""

    ssrc: int
    first_sequence: int
    timestamp_offset: int


class Programme:
    """Takes PCM at media times; writes datagrams. Its methods may be called from any thread."""

    def __init__(
        self,
        order: ProgrammeOrder,
        numbers: StreamNumbers,
        uniform: Callable[[], float],
        write: Callable[[Entry], None],
    ) -> None:
        self.order = order
        self.state = WAITING
        self.abandoned_at_ns: int | None = None
        self._write = write
        self._lock = threading.Lock()
        self._meter = Meter()
        self._samples = 0
        self._encoder = Encoder(encoder_settings(order))
        self._framer = Framer(self._encoder.frame_samples)
        self._stream = StreamSender(
            numbers.ssrc,
            numbers.first_sequence,
            numbers.timestamp_offset,
            order.frame_ms,
            f"loa-{order.programme}",
            uniform,
        )

    def feed(self, start: int, pcm: np.ndarray, now_ns: int) -> None:
        """Sound whose first sample was captured at media sample `start`."""
        with self._lock:
            if self.state == ENDED:
                return
            self.state = LIVE
            self.abandoned_at_ns = None
            self._meter.feed(pcm)
            self._samples += len(pcm)
            for frame_start, frame in self._framer.push(start, pcm):
                self._emit(frame_start, frame)
            self._report_if_due(now_ns)

    def finish(self) -> None:
        """The last words, then RTCP BYE; nothing is taken after it."""
        with self._lock:
            if self.state == ENDED:
                return
            for start, frame in self._framer.flush(self._encoder.lookahead):
                self._emit(start, frame)
            self.state = ENDED
            self._write(Entry(self.order.stream, RTCP, self._stream.bye()))

    def _emit(self, start: int, frame: np.ndarray) -> None:
        payload = self._encoder.encode(frame)
        if payload:  # discontinuous transmission sends nothing in silence (RFC 7587 3.1.3)
            # The decoder's output lags by the encoder's look-ahead: stamp what it will play.
            datagram = self._stream.packet(payload, start - self._encoder.lookahead)
            self._write(Entry(self.order.stream, RTP, datagram))

    def _report_if_due(self, now_ns: int) -> None:
        report = self._stream.report(now_ns)
        if report is not None:
            self._write(Entry(self.order.stream, RTCP, report))

    def report(self) -> ProgrammeReport:
        """How it is, for control."""
        with self._lock:
            return ProgrammeReport(
                programme=self.order.programme,
                state=self.state,
                ssrc=self._stream.ssrc,
                timestamp_offset=self._stream.timestamp_offset,
                level_dbfs=self._meter.rms_dbfs,
                seconds=self._samples / SAMPLE_RATE,
            )
