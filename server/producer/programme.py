"""One programme on air, in as many encodings as its listeners' networks ask for."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codec.dsp.meter import Meter
from codec.format import SAMPLE_RATE
from codec.opus import Encoder
from server.bus import ProgrammeOrder, ProgrammeReport, StreamOrder, StreamReport
from server.encoding import encoder_settings
from server.ingest import IngestError
from server.producer.framer import Framer
from server.ring import RTCP, RTP, Entry
from transport.clock.timeline import NS_PER_SECOND, ns_of_samples
from transport.session.sender import StreamSender

# A block costs as much time as if 2,000 a second came, or what it repeats, if that is longer.
_BLOCK_NS = NS_PER_SECOND // 2_000
_MAX_OWED_NS = NS_PER_SECOND
WAITING, LIVE, ENDED = "waiting", "live", "ended"


@dataclass(frozen=True, slots=True)
class StreamNumbers:
    """The random numbers of one stream's life (RFC 3550 section 5.1)."""

    ssrc: int
    first_sequence: int
    timestamp_offset: int


class Encoding:
    """One encoding of a programme: frames, Opus, RTP, in the order sound flows."""

    def __init__(
        self,
        order: ProgrammeOrder,
        stream: StreamOrder,
        numbers: StreamNumbers,
        uniform: Callable[[], float],
        write: Callable[[Entry], None],
    ) -> None:
        self._number = stream.stream
        self._write = write
        self._encoder = Encoder(encoder_settings(order, stream.frame_ms))
        self._framer = Framer(self._encoder.frame_samples)
        self._sender = StreamSender(
            numbers.ssrc,
            numbers.first_sequence,
            numbers.timestamp_offset,
            stream.frame_ms,
            f"loa-{order.programme}",
            uniform,
        )

    def push(self, start: int, pcm: np.ndarray, now_ns: int) -> None:
        """Sound whose first sample was captured at media sample `start`."""
        for frame_start, frame in self._framer.push(start, pcm):
            self._emit(frame_start, frame)
        report = self._sender.report(now_ns)
        if report is not None:
            self._write(Entry(self._number, RTCP, report))

    def finish(self) -> None:
        """The last words, then RTCP BYE."""
        for start, frame in self._framer.flush(self._encoder.lookahead):
            self._emit(start, frame)
        self._write(Entry(self._number, RTCP, self._sender.bye()))

    def _emit(self, start: int, frame: np.ndarray) -> None:
        payload = self._encoder.encode(frame)
        if payload:  # discontinuous transmission sends nothing in silence (RFC 7587 3.1.3)
            # The decoder's output lags by the encoder's look-ahead: stamp what it will play.
            datagram = self._sender.packet(payload, start - self._encoder.lookahead)
            self._write(Entry(self._number, RTP, datagram))

    def report(self) -> StreamReport:
        """Its numbers, for control."""
        return StreamReport(self._number, self._sender.ssrc, self._sender.timestamp_offset)


class _Allowance:
    """How much work a programme's sources may make beside their sound.

    New sound is paced by the media clock. What brings nothing new is not: blocks of one sample,
    or the same second again and again, would come as fast as the network carries them and take
    the interpreter away from all other voices. So it is owed, and time pays: the clock's or the
    sound's, whichever went on further, for a source that catches up brings much at once.
    """

    def __init__(self) -> None:
        self._owed_ns = 0
        self._end: int | None = None
        self._seen_ns = 0

    def spend(self, start: int, count: int, now_ns: int) -> None:
        """IngestError if this block is too much."""
        if self._end is None:
            self._end, self._seen_ns = start, now_ns
        overlap = min(max(self._end - start, 0), count)
        end = max(self._end, start + count)
        paid_ns = max(ns_of_samples(end - self._end), now_ns - self._seen_ns)
        self._end, self._seen_ns = end, now_ns
        cost_ns = max(_BLOCK_NS, ns_of_samples(overlap))
        self._owed_ns = max(self._owed_ns + cost_ns - paid_ns, 0)
        if self._owed_ns > _MAX_OWED_NS:
            raise IngestError("too many blocks, or too much sound that overlaps")


class Programme:
    """Takes PCM at media times; writes datagrams. Its methods may be called from any thread."""

    def __init__(
        self,
        order: ProgrammeOrder,
        numbers: Callable[[], StreamNumbers],
        uniform: Callable[[], float],
        write: Callable[[Entry], None],
    ) -> None:
        """`numbers` are drawn for each encoding."""
        self.order = order
        self.state = WAITING
        self.abandoned_at_ns: int | None = None
        self._lock = threading.Lock()
        self._meter = Meter()
        self._samples = 0
        self._allowance = _Allowance()
        self._encodings = [Encoding(order, s, numbers(), uniform, write) for s in order.streams]

    def feed(self, start: int, pcm: np.ndarray, now_ns: int) -> None:
        """Sound whose first sample was captured at media sample `start`.

        IngestError if it is more than a source may ask of us.
        """
        with self._lock:
            if self.state == ENDED:
                return
            self._allowance.spend(start, len(pcm), now_ns)
            self.state = LIVE
            self.abandoned_at_ns = None
            self._meter.feed(pcm)
            self._samples += len(pcm)
            for encoding in self._encodings:
                encoding.push(start, pcm, now_ns)

    def finish(self) -> None:
        """The last words of every encoding; nothing is taken after it."""
        with self._lock:
            if self.state == ENDED:
                return
            self.state = ENDED
            for encoding in self._encodings:
                encoding.finish()

    def report(self) -> ProgrammeReport:
        """How it is, for control."""
        with self._lock:
            return ProgrammeReport(
                programme=self.order.programme,
                state=self.state,
                level_dbfs=self._meter.rms_dbfs,
                seconds=self._samples / SAMPLE_RATE,
                streams=tuple(encoding.report() for encoding in self._encodings),
            )
