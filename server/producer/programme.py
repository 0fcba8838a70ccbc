"""One programme on air, in as many encodings as its listeners' networks ask for."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np

from codec.dsp.meter import Meter
from codec.format import SAMPLE_RATE
from codec.opus import Encoder
from server.encoding import encoder_settings, room_for_copies
from server.ingest import IngestError
from server.processes.bus import (
    EpochReport,
    ProgrammeOrder,
    ProgrammeReport,
    StreamOrder,
    StreamReport,
)
from server.processes.ring import REPAIR, RTCP, RTP, Entry
from server.producer.framer import Framer
from transport.clock.timeline import NS_PER_SECOND, ns_of_samples
from transport.recovery.along import Provision
from transport.security.keys import SigningKey
from transport.security.sealing import SealedSender
from transport.session.sender import StreamSender

# A block costs as much time as if 2,000 a second came, or what it repeats, if that is longer.
_BLOCK_NS = NS_PER_SECOND // 2_000
_MAX_OWED_NS = NS_PER_SECOND
WAITING, LIVE, ENDED = "waiting", "live", "ended"


class _Sender(Protocol):
    """The sending end of one RTP stream, sealed or in clear."""

    def report(self, now_ns: int) -> bytes | None: ...
    def bye(self) -> bytes: ...


class Encoding:
    """One encoding of a programme: frames, Opus, copies, RTP, seal, in the order sound flows.

    Its twin in clear, where there is one, has the same Opus payloads at the same media times, but
    neither copies nor symbols nor repairs, of which stock receivers know nothing.
    """

    def __init__(
        self,
        order: ProgrammeOrder,
        stream: StreamOrder,
        draw: Callable[[int], bytes],
        uniform: Callable[[], float],
        write: Callable[[Entry], None],
    ) -> None:
        """`draw` gives so many random bytes that nobody can foretell, and never the same again."""
        self._number = stream.stream
        self._write = write
        self._encoder = Encoder(encoder_settings(order, stream.frame_ms))
        self._framer = Framer(self._encoder.frame_samples)
        self._provision = Provision(self._encoder.frame_samples)
        self.adapt(stream)
        cname = f"loa-{order.programme}"
        # The random numbers of RFC 3550 section 5.1; the seal draws its own SSRCs and keys.
        offset = int.from_bytes(draw(4))
        self._sealed = SealedSender(
            SigningKey(draw(32)), stream.serial, offset, stream.frame_ms, cname, uniform, draw
        )
        self._senders: dict[int, _Sender] = {stream.stream: self._sealed}
        self._clear: tuple[int, StreamSender] | None = None
        if stream.clear is not None:
            # Even, as the seal's own are: `repair_ssrc` says why.
            ssrc, sequence = int.from_bytes(draw(4)) & ~1, int.from_bytes(draw(2))
            sender = StreamSender(ssrc, sequence, offset, stream.frame_ms, cname, uniform)
            self._clear = stream.clear, sender
            self._senders[stream.clear] = sender

    def push(self, start: int, pcm: np.ndarray, now_ns: int) -> None:
        """Sound whose first sample was captured at media sample `start`."""
        for frame_start, frame in self._framer.push(start, pcm):
            self._emit(frame_start, frame)
        for number, sender in self._senders.items():
            report = sender.report(now_ns)
            if report is not None:
                self._write(Entry(number, RTCP, report))

    def finish(self) -> None:
        """The last words, then RTCP BYE."""
        for start, frame in self._framer.flush(self._encoder.lookahead):
            self._emit(start, frame)
        for number, sender in self._senders.items():
            self._write(Entry(number, RTCP, sender.bye()))

    def _emit(self, start: int, frame: np.ndarray) -> None:
        payload = self._encoder.encode(frame)
        if payload:  # discontinuous transmission sends nothing in silence (RFC 7587 3.1.3)
            # The decoder's output lags by the encoder's look-ahead: stamp what it will play.
            self._send(payload, start - self._encoder.lookahead)

    def _send(self, payload: bytes, media_sample: int) -> None:
        along = self._provision.along(media_sample, payload, room_for_copies(len(payload)))
        datagram = self._sealed.packet(payload, media_sample, along)
        self._write(Entry(self._number, RTP, datagram))
        if self._clear is not None:
            number, sender = self._clear
            self._write(Entry(number, RTP, sender.packet(payload, media_sample)))
        # After what is waited for.
        self._write(Entry(self._number, REPAIR, self._sealed.repair()))

    def adapt(self, stream: StreamOrder) -> None:
        """From the next frame on what it says goes along."""
        self._provision.adapt(stream.copies, stream.code)

    @property
    def epochs(self) -> object:
        """Another value whenever there are other epochs."""
        return self._sealed.epochs

    def rekey(self, now_ns: int) -> None:
        """Go over soon to an epoch whose key nobody has been told yet."""
        self._sealed.rekey(now_ns)

    def report(self) -> StreamReport:
        """Its numbers and keys, for control."""
        return StreamReport(
            self._number,
            self._sealed.ssrc,
            self._sealed.timestamp_offset,
            self._sealed.public,
            tuple(EpochReport(*epoch) for epoch in self._sealed.epochs),
            None if self._clear is None else self._clear[1].ssrc,
        )


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
        draw: Callable[[int], bytes],
        uniform: Callable[[], float],
        write: Callable[[Entry], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`draw` as `Encoding` wants it; `changed` is called when other keys are to be told."""
        self.order = order
        self.state = WAITING
        self.abandoned_at_ns: int | None = None
        self._changed = changed
        self._lock = threading.Lock()
        self._meter = Meter()
        self._samples = 0
        self._allowance = _Allowance()
        self._encodings = [Encoding(order, s, draw, uniform, write) for s in order.streams]

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
            before = self._epochs()
            for encoding in self._encodings:
                encoding.push(start, pcm, now_ns)
            changed = self._epochs() != before
        if changed:
            self._changed()

    def _epochs(self) -> list[object]:
        return [encoding.epochs for encoding in self._encodings]

    def rekey(self, order: ProgrammeOrder, now_ns: int) -> None:
        """Go on with keys that nobody knows, as `order` says."""
        with self._lock:
            self.order = replace(self.order, rekey=order.rekey)
            if self.state != ENDED:
                for encoding in self._encodings:
                    encoding.rekey(now_ns)

    def adapt(self, order: ProgrammeOrder) -> None:
        """Send along what `order` says, which is of the same streams."""
        with self._lock:
            self.order = replace(self.order, streams=order.streams)
            for encoding, stream in zip(self._encodings, order.streams, strict=True):
                encoding.adapt(stream)

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
