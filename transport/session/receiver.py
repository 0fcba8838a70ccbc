"""The receiving end of one RTP stream: datagrams in, frames by media time out. Sans-I/O."""

from collections import Counter

from codec.errors import CorruptPacket
from codec.format import SAMPLE_RATE, samples_of_ms
from codec.opus import packet_samples
from transport.clock.timeline import media_sample
from transport.control.messages import StreamSpec
from transport.errors import MalformedPacket
from transport.jitter.buffer import EncodedFrame, Insertion, JitterBuffer
from transport.rtp.packet import RtpPacket, is_rtcp
from transport.rtp.rtcp import (
    Bye,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    parse_compound,
    serialise_compound,
)
from transport.rtp.stats import ReceptionStats, Verdict

# A media time further ahead than any playout delay, or this far behind, is no frame of now.
_PLAUSIBLE_SAMPLES = 12 * SAMPLE_RATE


class StreamReceiver:
    """Checks, counts and buffers what arrives for one stream.

    What is not of this stream, not well-formed, a duplicate or too late is counted in `dropped`
    by its reason and goes no further.
    """

    def __init__(self, spec: StreamSpec, own_ssrc: int, cname: str) -> None:
        self.spec = spec
        # Room for every frame of a plausible time, were they all to come at once.
        self.buffer = JitterBuffer(_PLAUSIBLE_SAMPLES // samples_of_ms(spec.frame_ms))
        self.dropped: Counter[str] = Counter()
        self.ended = False
        # The end of the last frame there is, in media samples; None before the first.
        self.reach: int | None = None
        self.stats = ReceptionStats(SAMPLE_RATE)
        self._own_ssrc = own_ssrc
        self._cname = cname
        self._last_report: tuple[int, int] | None = None

    def receive(self, data: bytes, now_sample: int, arrival_ns: int) -> None:
        """One datagram; `now_sample` is the media clock's reading, roughly."""
        try:
            if is_rtcp(data):
                self._receive_report(data, arrival_ns)
            else:
                self._receive_packet(RtpPacket.parse(data), now_sample)
        except MalformedPacket as error:
            self.dropped[str(error)] += 1
        except CorruptPacket:
            self.dropped["opus"] += 1

    def _receive_packet(self, packet: RtpPacket, now_sample: int) -> None:
        if packet.ssrc != self.spec.ssrc:
            raise MalformedPacket("ssrc")
        if packet.payload_type != self.spec.payload_type:
            raise MalformedPacket("payload_type")
        samples = packet_samples(packet.payload)
        start = media_sample(packet.timestamp, self.spec.timestamp_offset, now_sample)
        if abs(start - now_sample) > _PLAUSIBLE_SAMPLES:
            raise MalformedPacket("implausible_time")
        verdict = self.stats.update(packet.sequence, packet.timestamp, now_sample)
        if verdict in (Verdict.DUPLICATE, Verdict.DROPPED):
            raise MalformedPacket(verdict.name.lower())
        insertion = self.buffer.insert(EncodedFrame(start, samples, packet.payload))
        if insertion is not Insertion.ACCEPTED:
            raise MalformedPacket(insertion.value)
        self.reach = start + samples if self.reach is None else max(self.reach, start + samples)

    def _receive_report(self, data: bytes, arrival_ns: int) -> None:
        for packet in parse_compound(data):
            match packet:
                case SenderReport(ssrc=self.spec.ssrc):
                    self._last_report = ((packet.ntp_time >> 16) & 0xFFFF_FFFF, arrival_ns)
                case Bye() if self.spec.ssrc in packet.ssrcs:
                    self.ended = True
                case _:
                    pass

    def rewind(self) -> None:
        """The playout position is about to be set anew, perhaps to an earlier time."""
        self.buffer.rewind()
        self.reach = self.buffer.reach()

    def report(self, now_ns: int) -> bytes:
        """A receiver report for the station (RFC 3550 section 6.4.2)."""
        last, delay = 0, 0
        if self._last_report is not None:
            last, arrived_ns = self._last_report
            # After 18 hours without one the field is full; it must not begin again.
            delay = min((now_ns - arrived_ns) * 65536 // 1_000_000_000, 0xFFFF_FFFF)
        blocks: tuple[ReportBlock, ...] = ()
        if self.stats.received:
            blocks = (self.stats.report_block(self.spec.ssrc, last, delay),)
        return serialise_compound(
            (
                ReceiverReport(self._own_ssrc, blocks),
                SourceDescription(self._own_ssrc, self._cname),
            )
        )
