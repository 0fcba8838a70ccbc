"""One stream being played: from buffered frames to samples at exact media times."""

from collections.abc import Callable, Iterator

import numpy as np

from codec.dsp.conceal import Mender
from codec.dsp.fade import Fader
from codec.dsp.resample import HALF_TAPS, interpolate
from codec.errors import CorruptPacket
from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from codec.opus import Decoder
from transport.control.messages import StreamSpec
from transport.jitter.buffer import EncodedFrame
from transport.jitter.playout import Segment
from transport.recovery.request import Wanted
from transport.session.receiver import Opener, StreamReceiver

_STEP = 120  # concealment comes in steps of 2.5 ms
# After so long without a frame the speaker has paused: silence, not invention.
_GIVE_UP_SAMPLES = SAMPLE_RATE // 2
# What a decoder wants to have heard before its output is right (RFC 7845 section 4.6).
_PREROLL_SAMPLES = samples_of_ms(80)


class Voice:
    """Decodes just ahead of the playhead; conceals what is missing."""

    def __init__(
        self, spec: StreamSpec, opener: Opener, uniform: Callable[[], float] | None = None
    ) -> None:
        """`uniform` as `StreamReceiver` has it."""
        self.spec = spec
        self.receiver = StreamReceiver(spec, opener, uniform)
        self.fader = Fader()
        self.concealed_frames = 0
        self._delay = samples_of_ms_rounded(spec.playout_delay_ms)
        self._frame = samples_of_ms(spec.frame_ms)
        self._decoder = Decoder(channels=1)
        self._mender = Mender()
        self._history = np.zeros(0, np.float32)
        self._history_start = 0
        self._talking = False
        self._concealed_in_a_row = 0
        self._due_from: int | None = None
        # The newest packet of its own: epoch's SSRC, sequence number, and when it came; and when
        # the goodbye did.
        self._newest = (0, 0, 0)
        self._ended_at: int | None = None

    @property
    def priority(self) -> int:
        """See `transport.control.priority`."""
        return self.spec.priority

    @property
    def order(self) -> int:
        """A later programme has a greater one."""
        return self.spec.order

    @property
    def authenticated(self) -> bool:
        """Whether nobody but the station can have said it."""
        return self.spec.seal is not None

    def declare(self, spec: StreamSpec) -> None:
        """The same stream with other epochs: what plays, plays on."""
        self.spec = spec
        self.receiver.declare(spec)

    def receive(self, data: bytes, now_sample: int) -> int | None:
        """A datagram of this stream, by its SSRC; the media clock's reading is `now_sample`.

        Where the frame of a packet begins that came by itself, for the first time; None of others.
        """
        received = self.receiver.received
        self.receiver.receive(data, now_sample)
        if self.receiver.received > received:
            ssrc, sequence = int.from_bytes(data[8:12]), int.from_bytes(data[2:4])
            ahead = (sequence - self._newest[1]) & 0xFFFF
            if ssrc != self._newest[0] or ahead < 0x8000:
                self._newest = ssrc, sequence, now_sample
            return self.receiver.came
        if self.receiver.ended and self._ended_at is None:
            self._ended_at = now_sample
        return None

    def wanted(self, now_sample: int) -> Iterator[Wanted]:
        """What to ask the station for now, an epoch each; it counts as asked for.

        Only what is sealed: of what is in clear, which is for stock players, it keeps nothing.
        """
        ssrcs = {e.number: e.ssrc for e in self.spec.seal.epochs} if self.spec.seal else {}
        for epoch, sequences in self.receiver.schedule.due(now_sample).items():
            if epoch not in ssrcs:
                continue
            ssrc = ssrcs[epoch]
            if sent := tuple(n for n in sequences if self._was_sent(ssrc, n)):
                yield Wanted(ssrc, sent)

    def _was_sent(self, ssrc: int, sequence: int) -> bool:
        """Whether there can be such a packet: after a goodbye no more is supposed to be lost.

        But for the frames that would have come between the newest packet and the goodbye. At the
        end of an announcement ten thousand loudspeakers would ask for what never was.
        """
        newest_ssrc, newest, came_at = self._newest
        if self._ended_at is None or ssrc != newest_ssrc:
            return True
        ahead = (sequence - newest) & 0xFFFF
        between = round((self._ended_at - came_at) / self._frame) - 1
        return ahead >= 0x8000 or ahead <= between

    @property
    def next_wanted(self) -> int | None:
        """The media sample at which `wanted` may have something to say."""
        return None if self.spec.seal is None else self.receiver.schedule.next_due()

    def is_sent(self, now_sample: int) -> bool:
        """Whether packets of it are to be expected."""
        reach = self.receiver.reach
        return reach is not None and not self.receiver.ended and reach > now_sample - SAMPLE_RATE

    def due(self, begin: int, end: int) -> tuple[int, int] | None:
        """When within [begin, end) of the playhead it is this voice's time; None if it is not.

        From its first frame on, not from its first packet, which comes D earlier. Until its last
        frame after a goodbye; without one until nothing has come for half a second: its source has
        died, for even discontinuous transmission sends a frame every 400 ms. All loudspeakers
        that have the same frames find the same sample.
        """
        reach = self.receiver.reach
        if reach is None:
            return None
        first = self.receiver.buffer.first()
        if first is not None and reach + self._delay > begin:
            starts = first.start_sample + self._delay
            # An earlier frame may come after a later one.
            self._due_from = starts if self._due_from is None else min(starts, self._due_from)
        if self._due_from is None or self._due_from >= end:
            return None
        since = max(self._due_from, begin)
        until = min(reach + self._delay + (0 if self.receiver.ended else _GIVE_UP_SAMPLES), end)
        if until < end:
            self._due_from = None  # it may begin again
        return (since, until) if since < until else None

    def rewind(self) -> None:
        """The playhead has been set anew, perhaps to an earlier time."""
        self.receiver.rewind()
        self.fader = Fader()
        self._due_from = None

    def read(self, segment: Segment) -> Samples:
        """The samples that sound during `segment` of the playhead, its length."""
        first = segment.start - self._delay - HALF_TAPS
        last = first + int(segment.samples * segment.ratio) + 2 * HALF_TAPS + 3
        self._keep_from(first)
        self._decode_to(last)
        positions = segment.positions(self._history_start + self._delay)
        return interpolate(self._history, positions)

    def skip(self, segment: Segment) -> None:
        """Nobody hears this voice now: let its frames go by, but for what a decoder begins with."""
        self._talking = False
        self.receiver.buffer.drop_before(segment.start - self._delay, keep=_PREROLL_SAMPLES)

    def _end(self) -> int:
        return self._history_start + len(self._history)

    def _keep_from(self, first: int) -> None:
        if not self._history_start <= first <= self._end():
            # The playhead has jumped, or nobody has heard this voice until now: nothing old fits.
            # A decoder that begins in mid-stream is given a little of what came before.
            start = first - _PREROLL_SAMPLES
            self._history, self._history_start = np.zeros(0, np.float32), start
            self._talking = False
            self._mender.begin()
            self._decode_to(first)
        self._history = self._history[first - self._history_start :]
        self._history_start = first

    def _decode_to(self, last: int) -> None:
        while self._end() < last:
            self._append(self._next_samples(last))

    def _append(self, samples: Samples) -> None:
        self._history = np.concatenate((self._history, samples))

    def _next_samples(self, last: int) -> Samples:
        """What follows the history: decoded, concealed, or silence up to `last`."""
        head = self._end()
        frame = self.receiver.buffer.take(head)
        if frame is not None:
            return self._decode(frame, head)
        following = self.receiver.buffer.first()
        if not self._talking or (self.receiver.ended and following is None):
            self._talking = False
            until = last if following is None else min(last, following.start_sample)
            return np.zeros(until - head, np.float32)
        gap = self._frame if following is None else min(following.start_sample - head, self._frame)
        return self._conceal(gap, following, head)

    def _decode(self, frame: EncodedFrame, head: int) -> Samples:
        self._talking = True
        self._concealed_in_a_row = 0
        from_head = slice(head - frame.start_sample, None)
        try:
            return self._mender.sent(self._decoder.decode(frame.payload)[from_head])
        except CorruptPacket:
            self.receiver.dropped["opus"] += 1
            return self._mender.invented(self._decoder.conceal(frame.samples)[from_head])

    def _conceal(self, gap: int, following: EncodedFrame | None, head: int) -> Samples:
        whole = -(-gap // _STEP) * _STEP
        self.concealed_frames += 1
        self._concealed_in_a_row += gap
        if self._concealed_in_a_row > _GIVE_UP_SAMPLES:
            self._talking = False
        adjacent = following is not None and following.start_sample - head <= whole
        # Whatever copy or repair there was has come by now, or this frame would not be missing.
        if self.spec.inband_fec and following is not None and adjacent:
            try:
                return self._mender.sent(self._decoder.recover(following.payload, whole)[:gap])
            except CorruptPacket:
                pass  # it will be counted when its own turn comes
        return self._mender.invented(self._decoder.conceal(whole)[:gap])


def samples_of_ms_rounded(ms: float) -> int:
    """A playout delay in whole samples; everyone rounds alike."""
    return round(ms * SAMPLE_RATE / 1000)
