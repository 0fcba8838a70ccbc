"""SRTP and SRTCP with AEAD_AES_128_GCM (RFC 3711, RFC 7714): one SSRC under one key.

GCM gives up two plaintexts, and the power to forge, when a nonce is used twice under a key. It is
made of the SSRC and the packet's index (RFC 7714 section 8.1); RTCP has a key of its own (RFC 3711
section 4.3.2). So a sealer refuses any sequence number that does not rise, and whoever draws a key
makes one sealer for each SSRC: an epoch's, and its repairs', which is never the same
(`repair_ssrc`). Repairs have no RTCP. The rollover counter is always 0: an epoch ends before its
sequence numbers do, and a late joiner need not be told.
"""

from pylibsrtp import Error, Policy, Session

from transport.errors import MalformedPacket

# The tag at the end of each RTP packet; an RTCP packet has its index after it (RFC 7714 section 9).
TAG_BYTES = 16
REPORT_TAIL_BYTES = 20
# pylibsrtp's buffer of 1,500 bytes, less the most that any profile appends to a packet.
MAX_PLAIN_BYTES = 1356


def _policy(ssrc: int, key: bytes) -> Policy:
    return Policy(key, Policy.SSRC_SPECIFIC, ssrc, Policy.SRTP_PROFILE_AEAD_AES_128_GCM)


class EpochSealer:
    """Seals what one SSRC sends. ValueError for what it must not seal: our own misuse."""

    def __init__(self, ssrc: int, key: bytes) -> None:
        """`key` is 28 bytes; no other sealer has it with this SSRC."""
        self._session = Session(_policy(ssrc, key))
        self._last_sequence = -1

    def seal(self, rtp: bytes) -> bytes:
        """An RTP packet as it goes on the wire; each has a higher sequence number than the last."""
        sequence = int.from_bytes(rtp[2:4], "big")
        if sequence <= self._last_sequence:
            raise ValueError(f"sequence {sequence} was used, or passed over, under this key")
        try:
            sealed = self._session.protect(rtp)
        except Error as error:
            raise ValueError(f"no RTP packet of this epoch: {error}") from error
        self._last_sequence = sequence
        return sealed

    def seal_report(self, rtcp: bytes) -> bytes:
        """A compound RTCP packet as it goes on the wire; the library counts its index."""
        try:
            return self._session.protect_rtcp(rtcp)
        except Error as error:
            raise ValueError(f"no RTCP packet of this epoch: {error}") from error


class EpochOpener:
    """Opens what one SSRC sent, in any order, as often as it comes.

    It remembers nothing. The library's own window believes whatever the seal proves, and the seal
    proves only that the sender is in the group: one packet with sequence 64,999 from a stolen
    loudspeaker would have it refuse all that the station sends from then on. So the stream is made
    anew in the library after each packet that opens (4.5 us), and who was here before is for those
    to say who have checked the signature.
    """

    def __init__(self, ssrc: int, key: bytes) -> None:
        self._ssrc = ssrc
        self._policy = _policy(ssrc, key)
        self._session = Session(self._policy)

    def open(self, data: bytes) -> bytes:
        """The RTP packet in `data`; MalformedPacket("seal") if the seal does not hold."""
        try:
            plain = self._session.unprotect(data)
        except (Error, ValueError) as error:  # ValueError: longer than any packet of ours
            raise MalformedPacket("seal") from error
        self._forget()
        return plain

    def open_report(self, data: bytes) -> bytes:
        """The compound RTCP packet in `data`, likewise."""
        try:
            plain = self._session.unprotect_rtcp(data)
        except (Error, ValueError) as error:
            raise MalformedPacket("seal") from error
        self._forget()
        return plain

    def _forget(self) -> None:
        self._session.remove_stream(self._ssrc)
        self._session.add_stream(self._policy)
