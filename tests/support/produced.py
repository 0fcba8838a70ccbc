"""What a producer wrote, opened and verified as by loudspeakers that were told of it in time."""

import random
from collections.abc import Callable

from server.processes.bus import ProgrammeOrder, ProgrammeReport, StreamOrder, StreamReport
from server.processes.ring import REPAIR, RTCP, Entry
from tests.support.stations import CERTIFIER, GENERATION, KEY
from transport.control.messages import EpochSpec, SealSpec, StreamSpec
from transport.control.priority import Priority
from transport.recovery.along import Along
from transport.rtp.packet import RtpPacket
from transport.rtp.rtcp import RtcpPacket, parse_compound
from transport.security.keys import VerifyKey
from transport.security.sealing import StreamOpener
from transport.session.sender import OPUS_PAYLOAD_TYPE


def seeded(seed: int = 1, first: bytes = b"") -> Callable[[int], bytes]:
    """Bytes that look drawn; the first of them are these."""
    drawn = random.Random(seed)
    given = [first] if first else []

    def draw(size: int) -> bytes:
        return given.pop() if given else drawn.randbytes(size)

    return draw


def spec_of(order: StreamOrder, report: StreamReport) -> StreamSpec:
    """What a loudspeaker is told of a sealed stream."""
    certificate = CERTIFIER.certificate(order, report, Priority.LIVE, False)
    epochs = tuple(EpochSpec(e.number, e.ssrc, e.key) for e in report.epochs)
    return StreamSpec(
        programme="live-1",
        order=1,
        ssrc=report.ssrc,
        payload_type=OPUS_PAYLOAD_TYPE,
        timestamp_offset=report.timestamp_offset,
        frame_ms=order.frame_ms,
        inband_fec=False,
        playout_delay_ms=10_000.0,
        seal=SealSpec(certificate, epochs),
    )


class Ear:
    """Opens every sealed stream of one programme, and reads its twin in clear."""

    def __init__(self, order: ProgrammeOrder) -> None:
        self._orders = {stream.stream: stream for stream in order.streams}
        self._openers: dict[int, StreamOpener] = {}
        self.packets: list[tuple[int, RtpPacket]] = []
        self.control: list[tuple[int, RtcpPacket]] = []
        self.epochs: list[int] = []
        # What came along with each packet, in their order, and what may be sent again of it.
        self.along: list[Along] = []
        self.repairs: list[Entry] = []
        # When each packet's frame begins, by the identity of the packet.
        self.times: dict[int, int] = {}

    def hear(self, report: ProgrammeReport, entries: list[Entry], now_sample: int) -> None:
        """What was written, after the newest word on its keys; all of it must be true."""
        for stream in report.streams:
            spec = spec_of(self._orders[stream.stream], stream)
            opener, key = self._openers.get(stream.stream), VerifyKey(KEY.public)
            if opener is None:
                self._openers[stream.stream] = StreamOpener(spec, key, GENERATION)
            else:
                opener.declare(spec, key, GENERATION)
        for entry in entries:
            opener = self._openers.get(entry.stream)
            if entry.kind == REPAIR:
                self.repairs.append(entry)
            elif entry.kind == RTCP:
                data = entry.datagram
                compound = data if opener is None else opener.open_report(data, now_sample)
                self.control += [(entry.stream, packet) for packet in parse_compound(compound)]
            elif opener is None:
                self.packets.append((entry.stream, RtpPacket.parse(entry.datagram)))
            else:
                opened = opener.open(entry.datagram, now_sample)
                self.packets.append((entry.stream, opened.packet))
                self.along.append(opened.along)
                self.epochs.append(opened.epoch)
                self.times[id(opened.packet)] = opened.media_sample
