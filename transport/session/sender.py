"""The sending end of one RTP stream: packets, sender reports, and a goodbye. Sans-I/O."""

from collections.abc import Callable
from dataclasses import replace

from codec.format import samples_of_ms
from transport.clock.exchange import ntp_of_ns
from transport.clock.timeline import samples_of_ns
from transport.recovery.along import Along, pack
from transport.recovery.repair import repair_of
from transport.rtp.packet import RtpPacket
from transport.rtp.packetizer import Packetizer
from transport.rtp.rtcp import (
    Bye,
    ReceiverReport,
    SourceDescription,
    report_interval_ns,
    serialise_compound,
)

OPUS_PAYLOAD_TYPE = 96


# Reports go between one station and one loudspeaker, never to a whole group, so two members share
# the 5 %; at a voice's bandwidth RFC 3550's five seconds are then the longer time.
_SESSION_BPS = 24_000
_REPORT_BYTES = 100


def report_pause_ns(uniform: float) -> int:
    """How long until the next report; `uniform` is a draw from [0, 1)."""
    return report_interval_ns(
        uniform,
        members=2,
        senders=1,
        session_bandwidth_bps=_SESSION_BPS,
        average_size_bytes=_REPORT_BYTES,
        we_sent=True,
    )


class StreamSender:
    """Numbers and stamps frames; says when a report is due."""

    def __init__(
        self,
        ssrc: int,
        first_sequence: int,
        timestamp_offset: int,
        frame_ms: float,
        cname: str,
        uniform: Callable[[], float],
    ) -> None:
        """The random numbers of RFC 3550 section 5.1 are the caller's to draw."""
        self.ssrc = ssrc
        self.timestamp_offset = timestamp_offset
        self._packetizer = Packetizer(ssrc, OPUS_PAYLOAD_TYPE, first_sequence, timestamp_offset)
        self._frame_samples = samples_of_ms(frame_ms)
        self._cname = cname
        self._uniform = uniform
        self._report_due_ns = 0
        self._last: RtpPacket | None = None

    @property
    def sent(self) -> int:
        """How many packets it has made."""
        return self._packetizer.packet_count

    @property
    def reach(self) -> int | None:
        """The end of its last frame, in media samples; None before the first."""
        return self._packetizer.next_media_sample

    def frame(self, payload: bytes, media_sample: int, along: Along = ()) -> RtpPacket:
        """One frame as a packet; its first sample is captured at `media_sample`.

        `along` are copies or symbols of frames that were sent before: without any it is a packet as
        any player knows it.
        """
        payload_type, whole = pack(payload, along, OPUS_PAYLOAD_TYPE)
        packet = self._packetizer.packetize(whole, media_sample, self._frame_samples)
        return replace(packet, payload_type=payload_type) if along else packet

    def packet(self, payload: bytes, media_sample: int, along: Along = ()) -> bytes:
        """The same as a datagram in clear."""
        self._last = self.frame(payload, media_sample, along)
        return self._last.serialise()

    def repair(self) -> bytes:
        """The last packet's frame as a datagram in clear, to be sent again to who asks for it."""
        if self._last is None:
            raise ValueError("nothing was sent that could be sent again")
        return repair_of(self._last).serialise()

    def report(self, now_ns: int) -> bytes | None:
        """A sender report if one is due; the first as soon as anything was sent."""
        if now_ns < self._report_due_ns or not self._packetizer.packet_count:
            return None
        self._report_due_ns = now_ns + report_pause_ns(self._uniform())
        report = self._packetizer.sender_report(ntp_of_ns(now_ns), samples_of_ns(now_ns))
        return serialise_compound((report, SourceDescription(self.ssrc, self._cname)))

    def bye(self) -> bytes:
        """The stream is over (RFC 3550 section 6.6)."""
        return serialise_compound(
            (
                ReceiverReport(self.ssrc, ()),
                SourceDescription(self.ssrc, self._cname),
                Bye((self.ssrc,)),
            )
        )
