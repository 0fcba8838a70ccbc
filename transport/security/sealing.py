"""One sealed and signed stream, at either end, through all its epochs.

An epoch is an SSRC and a key, both drawn for it, and sequence numbers from 0 on that end before
they wrap. The next one is always drawn and told before it sounds, so nobody waits for a key; the
former stays told until the next has begun, for what is still under way.

What is sent again is sealed by the key of the epoch in which it was sent first, under that epoch's
repair SSRC, with its own sequence number and signature.
"""

import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from codec.format import samples_of_ms
from transport.clock.timeline import NS_PER_SECOND, samples_of_ns
from transport.control.messages import SEAL_KEY_BYTES, EpochSpec, SealSpec, StreamSpec
from transport.errors import MalformedPacket
from transport.recovery.along import Along
from transport.recovery.repair import repair_of
from transport.rtp.packet import RtpPacket, repair_ssrc
from transport.security.certificates import StreamCertificate
from transport.security.keys import SigningKey, VerifyKey
from transport.security.signature import (
    PacketSigner,
    PacketVerifier,
    check_signed,
    signature_of_report,
)
from transport.security.srtp import EpochOpener, EpochSealer
from transport.session.receiver import Opened, plausible_sample, unpacked
from transport.session.sender import StreamSender

EPOCH_PACKETS: Final = 65_000
# How long after a rekey its epoch begins: a Listen has reached everybody by then.
REKEY_NS: Final = NS_PER_SECOND
# How much longer an epoch may last when a rekey comes at its very end: more than REKEY_NS of the
# shortest frames, and still below 65,536.
_GRACE_PACKETS = 500
_SEQUENCES = 1 << 16
# Verifying costs thirty times what opening does, so what has the group's key and no signature
# could keep a loudspeaker busy: this many times a stream's own rate in each epoch, and no more.
_VERIFICATIONS_A_PACKET = 4
_LEAST_BURST = 64
# An epoch of 20 ms has about 320 reports. One that came back after so many would do no harm.
_REPORTS_KEPT = 512
# Of an RTP header: sequence number, timestamp, SSRC.
_HEADER = struct.Struct("!2xHII")


class _SealingEpoch:
    """One epoch as it is sent."""

    def __init__(self, number: int, key: bytes, sender: StreamSender) -> None:
        self.number, self.key, self.sender = number, key, sender
        self.ssrc = sender.ssrc
        self.sealer = EpochSealer(sender.ssrc, key)
        self.repairs = EpochSealer(repair_ssrc(sender.ssrc), key)


class SealedSender:
    """Numbers, stamps, signs and seals frames; says when a report is due.

    No (key, SSRC, index) is ever used twice, so no nonce of GCM is. Each epoch of each sender has a
    key of its own. Under it two sealers take sequence numbers that rise, and their SSRCs differ in
    the lowest bit: each number has one packet and one repair, which is sealed once, however often
    it is sent then. Reports have a key of their own, derived from the same, and one SSRC.
    """

    def __init__(
        self,
        key: SigningKey,
        serial: int,
        timestamp_offset: int,
        frame_ms: float,
        cname: str,
        uniform: Callable[[], float],
        draw: Callable[[int], bytes],
        epoch_packets: int = EPOCH_PACKETS,
    ) -> None:
        """`draw` gives so many random bytes that nobody can guess: keys are made of them."""
        if not 0 < epoch_packets <= EPOCH_PACKETS:
            raise ValueError(f"an epoch has 1 to {EPOCH_PACKETS} packets, not {epoch_packets}")
        self.public = key.public
        self.timestamp_offset = timestamp_offset
        self._signer = PacketSigner(key, serial)
        self._sender = partial(
            StreamSender,
            first_sequence=0,
            timestamp_offset=timestamp_offset,
            frame_ms=frame_ms,
            cname=cname,
            uniform=uniform,
        )
        self._draw = draw
        self._epoch_packets = epoch_packets
        self._drawn = 0
        self._rekey_sample: int | None = None
        self._rekey_at_most = 0
        self._last: RtpPacket | None = None
        self._former: _SealingEpoch | None = None
        self._current = self._draw_epoch(())
        self._next = self._draw_epoch((self._current.ssrc,))
        self.ssrc = self._current.ssrc

    @property
    def epochs(self) -> tuple[tuple[int, int, bytes], ...]:
        """(number, SSRC, key) of the epoch just over if there was one, of this and of the next."""
        told = (self._former, self._current, self._next)
        return tuple((e.number, e.ssrc, e.key) for e in told if e is not None)

    def packet(self, payload: bytes, media_sample: int, along: Along = ()) -> bytes:
        """One frame as a datagram; its first sample is captured at `media_sample`.

        `along` is of frames that were sent before, in whatever epoch.
        """
        if self._is_over(media_sample):
            self._turn()
        epoch = self._current
        if not epoch.sender.sent and self._former is not None:
            _check_after(self._former.sender.reach, media_sample)
        plain = epoch.sender.frame(payload, media_sample, along)
        signed = self._signer.sign(plain, epoch.number, media_sample)
        sealed = epoch.sealer.seal(signed.serialise())
        self._last = signed
        return sealed

    def repair(self) -> bytes:
        """The last packet's frame as a datagram, to be sent again to who asks for it.

        Once for each packet; ValueError the second time, and if there was none yet.
        """
        if self._last is None:
            raise ValueError("nothing was sent that could be sent again")
        repair, self._last = repair_of(self._last), None
        return self._current.repairs.seal(repair.serialise())

    def report(self, now_ns: int) -> bytes | None:
        """A sender report if one is due; the first as soon as an epoch has sent anything."""
        compound = self._current.sender.report(now_ns)
        return None if compound is None else self._seal_report(compound)

    def bye(self) -> bytes:
        """The stream is over (RFC 3550 section 6.6)."""
        return self._seal_report(self._current.sender.bye())

    def rekey(self, now_ns: int) -> None:
        """Forget the next epoch, whose key somebody has who must not hear it; draw another.

        It begins REKEY_NS after `now_ns` of the media clock, and at most three times as long after
        the first call of several.
        """
        self._next = self._draw_epoch((self._current.ssrc, self._next.ssrc))
        if self._rekey_sample is None:
            self._rekey_at_most = samples_of_ns(now_ns + 3 * REKEY_NS)
        # However many are revoked one after another, the first of them is rid of in time.
        self._rekey_sample = min(samples_of_ns(now_ns + REKEY_NS), self._rekey_at_most)

    def _seal_report(self, compound: bytes) -> bytes:
        epoch = self._current
        return epoch.sealer.seal_report(
            self._signer.sign_report(compound, epoch.ssrc, epoch.number)
        )

    def _is_over(self, media_sample: int) -> bool:
        sent = self._current.sender.sent
        if self._rekey_sample is None:
            return sent >= self._epoch_packets
        last = self._epoch_packets + _GRACE_PACKETS
        return media_sample >= self._rekey_sample or sent >= last

    def _turn(self) -> None:
        self._former, self._current = self._current, self._next
        self._next = self._draw_epoch((self._former.ssrc, self._current.ssrc))
        self._rekey_sample = None

    def _draw_epoch(self, taken: tuple[int, ...]) -> _SealingEpoch:
        """Its number is one that no other had, so a signature names one epoch only."""
        number, self._drawn = self._drawn, self._drawn + 1
        ssrc = self._draw_ssrc()
        while ssrc in taken:
            ssrc = self._draw_ssrc()
        return _SealingEpoch(number, self._draw(SEAL_KEY_BYTES), self._sender(ssrc))

    def _draw_ssrc(self) -> int:
        # Even: the odd one behind it is that of its repairs.
        return int.from_bytes(self._draw(4), "big") & ~1


def _check_after(reach: int | None, media_sample: int) -> None:
    if reach is not None and media_sample < reach:
        raise ValueError(f"frame at {media_sample} overlaps the last, which ends at {reach}")


class _Allowance:
    """A token bucket, in samples of the media clock: one go costs `cost`, and time pays."""

    def __init__(self, cost: int, at_once: int) -> None:
        self._cost = cost
        self._most = self._left = cost * at_once
        self._at: int | None = None

    def spend(self, now_sample: int) -> None:
        """MalformedPacket if too little is left."""
        if self._at is not None:
            self._left = min(self._left + max(now_sample - self._at, 0), self._most)
        self._at = now_sample
        if self._left < self._cost:
            raise MalformedPacket("verification_limit")
        self._left -= self._cost


class _OpeningEpoch:
    """One epoch as it is received, and which of its packets were the station's own.

    Only those are kept in mind, so that nobody else can use up a sequence number. Nor can who has
    one epoch's key alone use up what may be verified of another.

    Packets and repairs are kept in mind apart: whoever has the key can make a repair of a packet,
    and were that to stand for it, he could take its copies away.
    """

    def __init__(self, spec: EpochSpec, allowance: _Allowance) -> None:
        self.spec = spec
        self.opener = EpochOpener(spec.ssrc, spec.key)
        self._repair_opener = EpochOpener(repair_ssrc(spec.ssrc), spec.key)
        self.allowance = allowance
        # The media sample of the earliest frame that came in it.
        self.begun: int | None = None
        self._seen = bytearray(_SEQUENCES // 8)
        self._repaired = bytearray(_SEQUENCES // 8)
        self._reports: dict[bytes, None] = {}

    def check_new(self, sequence: int, *, repaired: bool) -> None:
        """MalformedPacket if this packet has been here; before anything is spent on it.

        A repair is refused after either, a packet itself only after itself.
        """
        been = self._seen[sequence >> 3]
        if repaired:
            been |= self._repaired[sequence >> 3]
        if been >> (sequence & 7) & 1:
            raise MalformedPacket("replay")

    def unseal(self, data: bytes, *, repaired: bool) -> RtpPacket:
        """The packet in a datagram, or its repair, whoever of the group it is from."""
        opener = self._repair_opener if repaired else self.opener
        return RtpPacket.parse(opener.open(data))

    def remember(self, sequence: int, start: int, *, repaired: bool) -> None:
        """This packet was the station's; its frame begins at `start`."""
        seen = self._repaired if repaired else self._seen
        seen[sequence >> 3] |= 1 << (sequence & 7)
        self.begun = start if self.begun is None else min(self.begun, start)

    def check_new_report(self, signature: bytes) -> None:
        """MalformedPacket if the report with this signature has been here.

        Its index tells nothing: the signature does not cover it, so who has the key chooses it.
        """
        if signature in self._reports:
            raise MalformedPacket("replay")

    def remember_report(self, signature: bytes) -> None:
        """This report was the station's; the oldest of many is forgotten."""
        self._reports[signature] = None
        if len(self._reports) > _REPORTS_KEPT:
            del self._reports[next(iter(self._reports))]


class StreamOpener:
    """Opens what a `SealedSender` sealed, and believes what its certified key signed.

    In the order of their cost: SSRC, replay, time, the signature's place (all four in clear), seal,
    form, signature. What fails raises MalformedPacket with "ssrc", "replay", "implausible_time",
    "epoch_over", "unsigned", "seal", "copies", "symbols", "repair", "signature", or
    "verification_limit" where more came than is worth verifying. Repairs go the same way and share
    the packets' allowance.

    An epoch is over where the station's first frame of a later one begins: it never goes back.
    Whoever was revoked still has the key of the epoch just over, and it stays told until the next
    ends. But he can seal only what claims to be older than its end, which for 12 s is plausible,
    and wastes no verification but that epoch's. The station's own repairs of an epoch that is over
    are of frames before that end, so they still get in.
    """

    def __init__(self, spec: StreamSpec, station: VerifyKey, generation: int) -> None:
        """MalformedPacket("certificate") if its certificate does not allow what it says."""
        self._certificate = _certificate_of(spec, station, generation)
        self._verifier = PacketVerifier(self._certificate)
        # By the SSRC of its packets, and by that of its repairs.
        self._epochs: dict[int, _OpeningEpoch] = {}
        self._repairs: dict[int, _OpeningEpoch] = {}
        self._take(spec)

    def declare(self, spec: StreamSpec, station: VerifyKey, generation: int) -> None:
        """The same stream with other epochs; those that stay know what has been here.

        MalformedPacket("certificate"), and nothing is changed, if its certificate does not allow
        what it says, or is another stream's.
        """
        certificate = _certificate_of(spec, station, generation)
        mine = self._certificate
        if (certificate.serial, certificate.public) != (mine.serial, mine.public):
            raise MalformedPacket("certificate")
        self._take(spec)

    def _take(self, spec: StreamSpec) -> None:
        self._spec = spec
        former, self._epochs = self._epochs, {}
        for epoch in _seal_of(spec).epochs:
            known = former.get(epoch.ssrc)
            if known is None or known.spec != epoch:
                known = _OpeningEpoch(epoch, _allowance_of(spec))
            self._epochs[epoch.ssrc] = known
        self._repairs = {repair_ssrc(ssrc): epoch for ssrc, epoch in self._epochs.items()}

    def open(self, data: bytes, now_sample: int) -> Opened:
        """The packet in a datagram, if it is the station's and new; the media clock shows now.

        Of a repair it is the packet as it was the first time, but its frame alone.
        """
        if len(data) < _HEADER.size:
            raise MalformedPacket("rtp_truncated")
        sequence, timestamp, ssrc = _HEADER.unpack_from(data)
        epoch, repaired = self._epoch_of(ssrc)
        epoch.check_new(sequence, repaired=repaired)
        start = plausible_sample(self._spec, timestamp, now_sample)
        end = self._end_of(epoch)
        if end is not None and start >= end:
            raise MalformedPacket("epoch_over")
        check_signed(data)
        plain = epoch.unseal(data, repaired=repaired)
        packet, along, signed = unpacked(plain, repaired=repaired)
        epoch.allowance.spend(now_sample)
        self._verifier.verify(packet, epoch.spec.number, start, signed)
        epoch.remember(sequence, start, repaired=repaired)
        return Opened(packet, epoch.spec.number, start, along, repaired)

    def open_report(self, data: bytes, now_sample: int) -> bytes:
        """The compound RTCP packet in a datagram, likewise, but that its time is not looked at.

        Of an epoch that is over none is of use: goodbye comes in the last. Repairs have no reports.
        """
        epoch, repaired = self._epoch_of(int.from_bytes(data[4:8], "big"))
        if repaired:
            raise MalformedPacket("ssrc")
        if self._end_of(epoch) is not None:
            raise MalformedPacket("epoch_over")
        signed = epoch.opener.open_report(data)
        signature = signature_of_report(signed)
        epoch.check_new_report(signature)
        epoch.allowance.spend(now_sample)
        compound = self._verifier.verify_report(signed, epoch.spec.number)
        epoch.remember_report(signature)
        return compound

    def _epoch_of(self, ssrc: int) -> tuple[_OpeningEpoch, bool]:
        """The epoch in which this SSRC is used, and whether by repairs."""
        epoch = self._epochs.get(ssrc)
        if epoch is not None:
            return epoch, False
        epoch = self._repairs.get(ssrc)
        if epoch is None:
            raise MalformedPacket("ssrc")
        return epoch, True

    def _end_of(self, epoch: _OpeningEpoch) -> int | None:
        """Where `epoch` is known to be over; None as long as no later one has come."""
        later = (e.begun for e in self._epochs.values() if e.spec.number > epoch.spec.number)
        return min((begun for begun in later if begun is not None), default=None)


def _allowance_of(spec: StreamSpec) -> _Allowance:
    # After an outage that D bridges, D's worth of packets may come at once.
    at_once = max(_LEAST_BURST, round(2 * spec.playout_delay_ms / spec.frame_ms))
    return _Allowance(samples_of_ms(spec.frame_ms) // _VERIFICATIONS_A_PACKET, at_once)


def _seal_of(spec: StreamSpec) -> SealSpec:
    if spec.seal is None:
        raise ValueError("a stream in clear has nothing to open")
    return spec.seal


def _certificate_of(spec: StreamSpec, station: VerifyKey, generation: int) -> StreamCertificate:
    certificate = StreamCertificate.parse(_seal_of(spec).certificate, station, generation)
    if spec.priority > certificate.highest_priority or spec.test != certificate.test:
        raise MalformedPacket("certificate")
    return certificate
