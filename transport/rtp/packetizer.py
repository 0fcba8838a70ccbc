"""Frames of one stream into numbered, timed RTP packets (RFC 3550 section 5.1, RFC 7587)."""

from __future__ import annotations

from transport.rtp.packet import RtpPacket
from transport.rtp.rtcp import SenderReport
from transport.seq import require_unsigned, wrap

__all__ = ["Packetizer"]


class Packetizer:
    """The sending end of one SSRC. Times are in samples of the media clock, 48 kHz for Opus.

    RFC 7587 section 4.1 fixes the RTP clock at 48 kHz whatever the codec runs at, so a media time
    and an RTP timestamp differ by a constant, and a receiver who knows it (SDP, RFC 7273) can go
    back. RFC 3550 section 5.1 wants that constant, and the first sequence number, unpredictable:
    drawing them is the caller's business.
    """

    def __init__(
        self, ssrc: int, payload_type: int, first_sequence: int, timestamp_offset: int
    ) -> None:
        require_unsigned("ssrc", ssrc, 32)
        require_unsigned("payload_type", payload_type, 7)
        require_unsigned("first_sequence", first_sequence, 16)
        require_unsigned("timestamp_offset", timestamp_offset, 32)
        self.ssrc = ssrc
        self.payload_type = payload_type
        self.timestamp_offset = timestamp_offset
        self._next_sequence = first_sequence
        self._next_media_sample: int | None = None
        self._packet_count = 0
        self._octet_count = 0

    @property
    def next_sequence(self) -> int:
        """The sequence number that the next packet will carry."""
        return self._next_sequence

    @property
    def next_media_sample(self) -> int | None:
        """Where the last frame ended, the earliest time for the next; `None` before the first."""
        return self._next_media_sample

    @property
    def packet_count(self) -> int:
        """Packets made since the start; does not wrap."""
        return self._packet_count

    @property
    def octet_count(self) -> int:
        """Payload bytes made since the start, headers not counted; does not wrap."""
        return self._octet_count

    def rtp_timestamp(self, media_sample: int) -> int:
        """Return the 32-bit RTP timestamp of a media time."""
        return wrap(media_sample + self.timestamp_offset, 32)

    def packetize(self, payload: bytes, media_sample: int, frame_samples: int) -> RtpPacket:
        """Return the next packet, for a frame that starts at `media_sample`.

        The marker bit opens a talkspurt: the first frame, and the first after media time in which
        nothing was sent (RFC 3551 section 4.1), where a receiver may re-anchor unheard. Raises
        `ValueError` for a frame that overlaps the one before it, and changes nothing then.
        """
        if frame_samples <= 0:
            raise ValueError(f"a frame lasts at least one sample, got {frame_samples}")
        expected = self._next_media_sample
        if expected is not None and media_sample < expected:
            raise ValueError(f"frame at {media_sample} overlaps the last, which ends at {expected}")
        packet = RtpPacket(
            self.payload_type,
            self._next_sequence,
            self.rtp_timestamp(media_sample),
            self.ssrc,
            payload,
            marker=media_sample != expected,
        )
        self._next_sequence = wrap(self._next_sequence + 1, 16)
        self._next_media_sample = media_sample + frame_samples
        self._packet_count += 1
        self._octet_count += len(payload)
        return packet

    def sender_report(self, ntp_time: int, media_sample: int) -> SenderReport:
        """Return the report that says `media_sample` is, or was, at the 64-bit `ntp_time`.

        The pair need not be the time of any packet (RFC 3550 section 6.4.1).
        """
        return SenderReport(
            self.ssrc,
            ntp_time,
            self.rtp_timestamp(media_sample),
            wrap(self._packet_count, 32),
            wrap(self._octet_count, 32),
        )
