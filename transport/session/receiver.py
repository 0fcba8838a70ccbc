"""The receiving end of one RTP stream: datagrams in, frames by media time out. Sans-I/O."""

from collections import Counter
from typing import NamedTuple, Protocol

from codec.errors import CorruptPacket
from codec.format import SAMPLE_RATE, samples_of_ms
from codec.opus import packet_samples
from transport.clock.timeline import media_sample
from transport.control.messages import StreamSpec
from transport.errors import MalformedPacket
from transport.jitter.buffer import EncodedFrame, Insertion, JitterBuffer
from transport.rtp.packet import RtpPacket, is_rtcp
from transport.rtp.rtcp import Bye, parse_compound
from transport.rtp.stats import ReceptionStats, Verdict

# A media time further ahead than any playout delay, or this far behind, is no frame of now.
PLAUSIBLE_SAMPLES = 12 * SAMPLE_RATE


class Opened(NamedTuple):
    """A packet that is of this stream, the epoch it came in, and when its frame begins."""

    packet: RtpPacket
    epoch: int
    media_sample: int


class Opener(Protocol):
    """Takes what came for one stream out of its seal; MalformedPacket for what is none of it."""

    def open(self, data: bytes, now_sample: int) -> Opened:
        """The RTP packet in a datagram; `now_sample` is the media clock's reading, roughly."""

    def open_report(self, data: bytes, now_sample: int) -> bytes:
        """The compound RTCP packet in a datagram."""


class ClearOpener:
    """The opener of a stream in clear: whoever knows its SSRC is believed."""

    def __init__(self, spec: StreamSpec) -> None:
        self._spec = spec

    def open(self, data: bytes, now_sample: int) -> Opened:
        """The packet, if it is of this SSRC and of now."""
        packet = RtpPacket.parse(data)
        if packet.ssrc != self._spec.ssrc:
            raise MalformedPacket("ssrc")
        return Opened(packet, 0, plausible_sample(self._spec, packet.timestamp, now_sample))

    def open_report(self, data: bytes, now_sample: int) -> bytes:  # noqa: ARG002 - see Opener
        """As it came."""
        return data


def plausible_sample(spec: StreamSpec, timestamp: int, now_sample: int) -> int:
    """The media sample of an RTP timestamp; MalformedPacket if it is not of now."""
    start = media_sample(timestamp, spec.timestamp_offset, now_sample)
    if abs(start - now_sample) > PLAUSIBLE_SAMPLES:
        raise MalformedPacket("implausible_time")
    return start


class StreamReceiver:
    """Checks, counts and buffers what arrives for one stream.

    What is not of this stream, not well-formed, a duplicate or too late is counted in `dropped`
    by its reason and goes no further. Each epoch numbers its packets anew, so what is missing is
    counted within each; their frames are one stream's, by media time.
    """

    def __init__(self, spec: StreamSpec, opener: Opener) -> None:
        self.spec = spec
        self.opener = opener
        # Room for every frame of a plausible time, were they all to come at once.
        self.buffer = JitterBuffer(PLAUSIBLE_SAMPLES // samples_of_ms(spec.frame_ms))
        self.dropped: Counter[str] = Counter()
        self.ended = False
        # The end of the last frame there is, in media samples; None before the first.
        self.reach: int | None = None
        self._stats: dict[int, ReceptionStats] = {}
        self._past: Counter[str] = Counter()

    @property
    def received(self) -> int:
        """Packets of this stream, each counted once."""
        return self._past["received"] + sum(stats.received for stats in self._stats.values())

    @property
    def lost(self) -> int:
        """Packets expected and not (or not yet) arrived."""
        return self._past["lost"] + sum(stats.lost for stats in self._stats.values())

    def declare(self, spec: StreamSpec) -> None:
        """The same stream with other epochs; the opener is told by whoever trusts it."""
        self.spec = spec
        numbers = {epoch.number for epoch in spec.seal.epochs} if spec.seal else {0}
        for number in self._stats.keys() - numbers:
            stats = self._stats.pop(number)
            self._past.update(received=stats.received, lost=stats.lost)

    def receive(self, data: bytes, now_sample: int) -> None:
        """One datagram; `now_sample` is the media clock's reading, roughly."""
        try:
            if is_rtcp(data):
                self._receive_report(self.opener.open_report(data, now_sample))
            else:
                self._receive_packet(self.opener.open(data, now_sample), now_sample)
        except MalformedPacket as error:
            self.dropped[str(error)] += 1
        except CorruptPacket:
            self.dropped["opus"] += 1

    def _receive_packet(self, opened: Opened, now_sample: int) -> None:
        packet, epoch, start = opened
        if packet.payload_type != self.spec.payload_type:
            raise MalformedPacket("payload_type")
        samples = packet_samples(packet.payload)
        stats = self._stats.get(epoch)
        if stats is None:
            stats = self._stats[epoch] = ReceptionStats(SAMPLE_RATE)
        verdict = stats.update(packet.sequence, packet.timestamp, now_sample)
        if verdict in (Verdict.DUPLICATE, Verdict.DROPPED):
            raise MalformedPacket(verdict.name.lower())
        insertion = self.buffer.insert(EncodedFrame(start, samples, packet.payload))
        if insertion is not Insertion.ACCEPTED:
            raise MalformedPacket(insertion.value)
        self.reach = start + samples if self.reach is None else max(self.reach, start + samples)

    def _receive_report(self, compound: bytes) -> None:
        # A sender report says nothing new: its clock is the media clock, which we know.
        for packet in parse_compound(compound):
            if isinstance(packet, Bye) and not set(packet.ssrcs).isdisjoint(self.spec.ssrcs):
                self.ended = True

    def rewind(self) -> None:
        """The playout position is about to be set anew, perhaps to an earlier time."""
        self.buffer.rewind()
        self.reach = self.buffer.reach()
