"""The receiving end of one RTP stream: datagrams in, frames by media time out. Sans-I/O."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

from codec.errors import CorruptPacket
from codec.format import SAMPLE_RATE, samples_of_ms
from codec.opus import packet_samples
from transport.clock.timeline import media_sample
from transport.control.messages import StreamSpec
from transport.errors import MalformedPacket
from transport.jitter.buffer import EncodedFrame, Insertion, JitterBuffer
from transport.recovery.along import ALONG_PAYLOAD_TYPES, Along, unpack
from transport.recovery.blocks import BlockReader
from transport.recovery.copies import digest
from transport.recovery.erasure import CODE_PAYLOAD_TYPE, Symbols
from transport.recovery.nack import RepairSchedule
from transport.recovery.repair import REPAIR_PAYLOAD_TYPE, restore
from transport.recovery.report import LossReport
from transport.rtp.packet import RtpPacket, is_rtcp, repair_ssrc
from transport.rtp.rtcp import Bye, parse_compound
from transport.rtp.stats import ReceptionStats, Verdict

# A media time further ahead than any playout delay, or this far behind, is no frame of now.
PLAUSIBLE_SAMPLES = 12 * SAMPLE_RATE
# Why a repair is not needed: its frame has come itself, as a repair, or as a copy.
_SPARE = frozenset({"replay", "duplicate"})
_FILLED_KEPT = 1_024


class Opened(NamedTuple):
    """A packet that is of this stream, the epoch it came in, and when its frame begins.

    The packet's payload is its own frame alone; `along` are copies or symbols of frames before it.
    `repaired` if it came as a repair; it is as it was the first time then, with nothing along.
    """

    packet: RtpPacket
    epoch: int
    media_sample: int
    along: Along = ()
    repaired: bool = False


class Opener(Protocol):
    """Takes what came for one stream out of its seal; MalformedPacket for what is none of it."""

    def open(self, data: bytes, now_sample: int) -> Opened:
        """The RTP packet in a datagram; `now_sample` is the media clock's reading, roughly."""

    def open_report(self, data: bytes, now_sample: int) -> bytes:
        """The compound RTCP packet in a datagram."""


class ClearOpener:
    """The opener of a stream in clear: whoever knows its SSRC is believed.

    But for symbols: what is made of them is only as true as all of them are. In clear there are
    none, so they are refused as another payload type would be.
    """

    def __init__(self, spec: StreamSpec) -> None:
        self._spec = spec

    def open(self, data: bytes, now_sample: int) -> Opened:
        """The packet, if it is of this SSRC and of now."""
        packet = RtpPacket.parse(data)
        repaired = packet.ssrc == repair_ssrc(self._spec.ssrc)
        if not repaired and packet.ssrc != self._spec.ssrc:
            raise MalformedPacket("ssrc")
        if packet.payload_type == CODE_PAYLOAD_TYPE:
            raise MalformedPacket("payload_type")
        start = plausible_sample(self._spec, packet.timestamp, now_sample)
        packet, along, _ = unpacked(packet, repaired=repaired)
        return Opened(packet, 0, start, along, repaired)

    def open_report(self, data: bytes, now_sample: int) -> bytes:  # noqa: ARG002 - see Opener
        """As it came."""
        return data


def plausible_sample(spec: StreamSpec, timestamp: int, now_sample: int) -> int:
    """The media sample of an RTP timestamp; MalformedPacket if it is not of now."""
    start = media_sample(timestamp, spec.timestamp_offset, now_sample)
    if abs(start - now_sample) > PLAUSIBLE_SAMPLES:
        raise MalformedPacket("implausible_time")
    return start


def unpacked(packet: RtpPacket, *, repaired: bool) -> tuple[RtpPacket, Along, bytes]:
    """A packet with its own frame alone, what goes along, and what is signed of its payload.

    MalformedPacket("copies"), ("symbols"), ("repair"), or ("payload_type") for one that is neither.
    """
    if repaired:
        packet, signed = restore(packet)
        return packet, (), signed
    if packet.payload_type not in ALONG_PAYLOAD_TYPES:
        return packet, (), packet.payload
    primary, along = unpack(packet.payload_type, packet.payload)
    signed = primary + digest(packet.payload, primary)
    return replace(packet, payload=primary), along, signed


class StreamReceiver:
    """Checks, counts and buffers what arrives for one stream.

    What is not of this stream, not well-formed, a duplicate or too late is counted in `dropped`
    by its reason and goes no further. Each epoch numbers its packets anew, so what is missing is
    counted within each; their frames are one stream's, by media time.

    `recovered` counts frames that came otherwise than by their own packet: "copy", "repair",
    "erasure". A repair comes twice, and may cross its packet: what came for nothing is counted in
    `spare`. `schedule` knows what to ask for, `report` how the network is.
    """

    def __init__(
        self, spec: StreamSpec, opener: Opener, uniform: Callable[[], float] | None = None
    ) -> None:
        """`uniform` draws from [0, 1): whoever hears a group asks at times drawn by chance."""
        self.spec = spec
        self.opener = opener
        frame_samples = samples_of_ms(spec.frame_ms)
        # Room for every frame of a plausible time, were they all to come at once.
        self.buffer = JitterBuffer(PLAUSIBLE_SAMPLES // frame_samples)
        self._blocks = BlockReader(frame_samples)
        delay_samples = round(spec.playout_delay_ms * SAMPLE_RATE / 1000)
        turns = None if spec.group is None else uniform
        self.schedule = RepairSchedule(frame_samples, delay_samples, uniform=turns)
        self.report = LossReport(frame_samples)
        self.dropped: Counter[str] = Counter()
        self.recovered: Counter[str] = Counter()
        self.spare = 0
        self.ended = False
        # The end of the last frame there is, in media samples; None before the first.
        self.reach: int | None = None
        # Where the frame begins of the packet that came last by itself, no repair nor copy.
        self.came: int | None = None
        self._stats: dict[int, ReceptionStats] = {}
        self._past: Counter[str] = Counter()
        # Where frames begin that did not come by their own packet, oldest first.
        self._filled: dict[int, None] = {}

    @property
    def received(self) -> int:
        """Packets of this stream, each counted once."""
        return self._past["received"] + sum(stats.received for stats in self._stats.values())

    @property
    def lost(self) -> int:
        """Packets expected and not (or not yet) arrived themselves, repaired or not."""
        return self._past["lost"] + sum(stats.lost for stats in self._stats.values())

    def declare(self, spec: StreamSpec) -> None:
        """The same stream with other epochs; the opener is told by whoever trusts it."""
        self.spec = spec
        numbers = {epoch.number for epoch in spec.seal.epochs} if spec.seal else {0}
        for number in self._stats.keys() - numbers:
            stats = self._stats.pop(number)
            self._past.update(received=stats.received, lost=stats.lost)

    def receive(self, data: bytes, now_sample: int) -> None:
        """One packet or repair; `now_sample` is the media clock's reading, roughly."""
        try:
            if is_rtcp(data):
                self._receive_report(self.opener.open_report(data, now_sample))
            else:
                self._receive_packet(self.opener.open(data, now_sample), now_sample)
        except MalformedPacket as error:
            if error.reason in _SPARE and data[1] & 0x7F == REPAIR_PAYLOAD_TYPE:
                self.spare += 1
            else:
                self.dropped[error.reason] += 1
        except CorruptPacket:
            self.dropped["opus"] += 1

    def _receive_packet(self, opened: Opened, now_sample: int) -> None:
        packet = opened.packet
        if packet.payload_type not in {self.spec.payload_type, *ALONG_PAYLOAD_TYPES}:
            raise MalformedPacket("payload_type")
        samples = packet_samples(packet.payload)
        self._note(opened, now_sample)
        frame = EncodedFrame(opened.media_sample, samples, packet.payload)
        insertion = self._keep(frame, "repair" if opened.repaired else None)
        self._take_along(opened, now_sample - PLAUSIBLE_SAMPLES)
        if insertion is not Insertion.ACCEPTED and not self._is_made_good(opened, insertion):
            raise MalformedPacket(insertion.value)

    def _note(self, opened: Opened, now_sample: int) -> None:
        """Have those know who count and ask; MalformedPacket for a packet that came before."""
        packet, epoch, start, _, repaired = opened
        sequence = packet.sequence
        if not repaired:
            stats = self._stats.get(epoch)
            if stats is None:
                stats = self._stats[epoch] = ReceptionStats(SAMPLE_RATE)
            verdict = stats.update(sequence, packet.timestamp, now_sample)
            if verdict in (Verdict.DUPLICATE, Verdict.DROPPED):
                raise MalformedPacket(verdict.name.lower())
            self.report.arrived(start, now_sample, sequence, epoch, self.buffer.margin(start))
            self.came = start
        self.schedule.arrived(epoch, sequence, start, now_sample, repaired=repaired)

    def _keep(self, frame: EncodedFrame, recovered: str | None) -> Insertion:
        """Buffer a frame; `recovered` says how it came, if not by its own packet."""
        insertion = self.buffer.insert(frame)
        if insertion is Insertion.ACCEPTED:
            reach = frame.end_sample
            self.reach = reach if self.reach is None else max(self.reach, reach)
            if recovered is not None:
                self.recovered[recovered] += 1
                self._filled[frame.start_sample] = None
                if len(self._filled) > _FILLED_KEPT:
                    del self._filled[next(iter(self._filled))]
        return insertion

    def _take_along(self, opened: Opened, earliest: int) -> None:
        """Fill holes by what goes along with a packet, and by what follows from its own frame."""
        start, along = opened.media_sample, opened.along
        decoded = self._blocks.take(start, opened.packet.payload)
        if isinstance(along, Symbols):
            decoded += self._blocks.hear(start, along)
        else:
            for copy in along:
                decoded += self._blocks.take(start - copy.offset, copy.payload)
                self._fill(start - copy.offset, copy.payload, earliest, "copy")
        for begin, payload in decoded:
            self._fill(begin, payload, earliest, "erasure")

    def _fill(self, start: int, payload: bytes, earliest: int, how: str) -> None:
        if start <= earliest:
            return
        frame = EncodedFrame(start, packet_samples(payload), payload)
        if self._keep(frame, how) is Insertion.ACCEPTED:
            self.schedule.filled(start)

    def _is_made_good(self, opened: Opened, insertion: Insertion) -> bool:
        """Whether a packet comes to a frame that has come another way before it: no harm."""
        is_there = insertion is Insertion.DUPLICATE and opened.media_sample in self._filled
        return is_there and not opened.repaired

    def _receive_report(self, compound: bytes) -> None:
        # A sender report says nothing new: its clock is the media clock, which we know.
        for packet in parse_compound(compound):
            if isinstance(packet, Bye) and not set(packet.ssrcs).isdisjoint(self.spec.ssrcs):
                self.ended = True

    def rewind(self) -> None:
        """The playout position is about to be set anew, perhaps to an earlier time."""
        self.buffer.rewind()
        self.reach = self.buffer.reach()
