"""Copies and repairs in a sealed stream, and what others can do with them."""

from dataclasses import replace

import pytest
from typing_extensions import override

from tests.support.chain import TRUSTED, Drawn, certificate, seal_of
from transport.clock.timeline import NS_PER_SECOND as SECOND
from transport.clock.timeline import ns_of_samples
from transport.control.messages import StreamSpec
from transport.errors import MalformedPacket
from transport.recovery import erasure
from transport.recovery.along import Along
from transport.recovery.copies import Copy, pack
from transport.recovery.erasure import Symbols
from transport.recovery.repair import REPAIR_PAYLOAD_TYPE, repair_of
from transport.rtp.packet import RtpPacket, is_rtcp, repair_ssrc
from transport.security import sealing
from transport.security.keys import SigningKey
from transport.security.sealing import EPOCH_PACKETS, REKEY_NS, SealedSender, StreamOpener
from transport.security.signature import PacketSigner
from transport.security.srtp import EpochOpener, EpochSealer
from transport.session.receiver import Opened

KEY = SigningKey(b"k" * 32)
SERIAL, OFFSET = 0x1_0000_0007, 12_345
NOW = 1_790_000_000 * 48_000
NOW_NS = 1_790_000_000 * SECOND
FRAME = 960
COPIES = (Copy(FRAME, b"before"), Copy(21 * FRAME, b"long before"))
SYMBOLS = Symbols(2, 3 * FRAME, 0b11, 0, (b"a symbol", b"and more"))
WITH_AND_WITHOUT = pytest.mark.parametrize(
    "along", [(), COPIES, SYMBOLS], ids=["plain", "copies", "symbols"]
)


def sender_of(epoch_packets: int = EPOCH_PACKETS) -> SealedSender:
    return SealedSender(
        KEY, SERIAL, OFFSET, 20.0, "station", lambda: 0.5, Drawn("a"), epoch_packets
    )


def spec_of(sender: SealedSender) -> StreamSpec:
    seal = seal_of(sender, certificate(sender.public, SERIAL))
    return StreamSpec("p", 1, sender.ssrc, 96, OFFSET, 20.0, False, 200.0, seal=seal)


def opener_of(sender: SealedSender) -> StreamOpener:
    return StreamOpener(spec_of(sender), *TRUSTED)


def frame_at(index: int) -> int:
    return NOW + index * FRAME


def payload_of(index: int) -> bytes:
    return b"frame %d" % index


def sent(sender: SealedSender, indices: range, along: Along = ()) -> list[tuple[bytes, bytes]]:
    """Each frame's packet and its repair."""
    return [
        (sender.packet(payload_of(index), frame_at(index), along), sender.repair())
        for index in indices
    ]


def refused(opener: StreamOpener, data: bytes, now: int = NOW) -> str:
    with pytest.raises(MalformedPacket) as error:
        opener.open_report(data, now) if is_rtcp(data) else opener.open(data, now)
    return error.value.reason


class Thief:
    """A loudspeaker that was stolen: it has one epoch's key, and seals correctly."""

    def __init__(self, sender: SealedSender, epoch: int = 0) -> None:
        self.number, self.ssrc, self._key = sender.epochs[epoch]

    def open(self, data: bytes) -> RtpPacket:
        return RtpPacket.parse(EpochOpener(self.ssrc, self._key).open(data))

    def seal(self, packet: RtpPacket) -> bytes:
        """A packet, or a repair, as of his epoch."""
        repaired = packet.payload_type == REPAIR_PAYLOAD_TYPE
        ssrc = repair_ssrc(self.ssrc) if repaired else self.ssrc
        return self.seal_under(ssrc, packet)

    def seal_under(self, ssrc: int, packet: RtpPacket) -> bytes:
        return EpochSealer(ssrc, self._key).seal(replace(packet, ssrc=ssrc).serialise())

    def forged(self, sequence: int, sample: int = NOW) -> RtpPacket:
        """A packet that he signed himself."""
        plain = RtpPacket(96, sequence, (sample + OFFSET) % 2**32, self.ssrc, b"forged")
        return PacketSigner(SigningKey(b"t" * 32), SERIAL).sign(plain, self.number, sample)


# ------------------------------------------------------------------ the station's own
def test_a_packet_with_copies_opens_to_its_frame_and_them() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    for index, (data, _) in enumerate(sent(sender, range(3), COPIES)):
        packet, epoch, start, copies, repaired = opener.open(data, NOW)
        assert (packet.payload, packet.payload_type) == (payload_of(index), 97)
        assert (epoch, start, copies, repaired) == (0, frame_at(index), COPIES, False)


@WITH_AND_WITHOUT
def test_a_repair_opens_to_the_same_frame_at_the_same_place(along: Along) -> None:
    sender = sender_of()
    opener, other = opener_of(sender), opener_of(sender)
    for data, again in sent(sender, range(4), along):
        first, second = opener.open(data, NOW), other.open(again, NOW)
        assert second == Opened(first.packet, first.epoch, first.media_sample, (), repaired=True)


def test_a_repair_bears_the_other_ssrc_of_its_epoch() -> None:
    sender = sender_of(epoch_packets=2)
    pairs = sent(sender, range(4))
    ssrcs = [(RtpPacket.parse(one).ssrc, RtpPacket.parse(two).ssrc) for one, two in pairs]
    assert all(one % 2 == 0 and two == one + 1 for one, two in ssrcs)
    assert len(set(ssrcs)) == 2


def test_there_is_one_repair_of_each_packet_and_none_before_the_first() -> None:
    sender = sender_of()
    with pytest.raises(ValueError, match="nothing was sent"):
        sender.repair()
    sent(sender, range(1))
    with pytest.raises(ValueError, match="nothing was sent"):
        sender.repair()


def test_a_repair_need_not_be_made() -> None:
    sender = sender_of(epoch_packets=3)
    for index in range(6):
        sender.packet(payload_of(index), frame_at(index))
    opened = opener_of(sender).open(sender.repair(), NOW)
    assert (opened.packet.payload, opened.epoch) == (payload_of(5), 1)


def test_no_nonce_is_used_twice_under_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7714 section 8.1 makes it of SSRC and sequence number; RTCP's key is another."""
    used: list[tuple[bytes, int, int]] = []

    class Recording(EpochSealer):
        def __init__(self, ssrc: int, key: bytes) -> None:
            super().__init__(ssrc, key)
            self._key = key

        @override
        def seal(self, rtp: bytes) -> bytes:
            packet = RtpPacket.parse(rtp)
            used.append((self._key, packet.ssrc, packet.sequence))
            return super().seal(rtp)

    monkeypatch.setattr(sealing, "EpochSealer", Recording)
    sender = sender_of(epoch_packets=7)
    for index in range(50):
        if index in {10, 12, 30}:
            sender.rekey(NOW_NS - REKEY_NS + ns_of_samples(index * FRAME))
        sent(sender, range(index, index + 1), COPIES if index % 3 else ())
    assert len(used) == len(set(used)) == 100
    assert len({key for key, _, _ in used}) > 7
    assert len({ssrc for _, ssrc, _ in used}) == 2 * len({key for key, _, _ in used})


# ------------------------------------------------------------------ again and again
@WITH_AND_WITHOUT
def test_a_repair_of_what_has_been_here_is_refused(along: Along) -> None:
    sender = sender_of()
    opener = opener_of(sender)
    for data, again in sent(sender, range(3), along):
        opener.open(data, NOW)
        assert refused(opener, again) == "replay"


def test_it_is_refused_before_anything_is_spent_on_it() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    pairs = sent(sender, range(64))
    opener.open(pairs[0][0], NOW)
    for _ in range(200):
        assert refused(opener, pairs[0][1]) == "replay"
        assert refused(opener, pairs[0][1][:12]) == "replay"  # not even opened
    assert len([opener.open(again, NOW) for _, again in pairs[1:]]) == 63


def test_a_repair_is_taken_once() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    ((_, again),) = sent(sender, range(1))
    assert opener.open(again, NOW).repaired
    assert refused(opener, again) == "replay"


def test_a_repair_before_its_packet_does_not_take_the_copies_away() -> None:
    """Whoever has the group's key can make one of any packet that he hears."""
    sender = sender_of()
    opener, thief = opener_of(sender), Thief(sender)
    ((data, _),) = sent(sender, range(1), COPIES)
    assert opener.open(thief.seal(repair_of(thief.open(data))), NOW).packet.payload == b"frame 0"
    assert opener.open(data, NOW).along == COPIES
    assert refused(opener, data) == "replay"


def test_it_stays_so_when_the_epochs_are_told_anew() -> None:
    sender = sender_of(epoch_packets=2)
    opener = opener_of(sender)
    pairs = sent(sender, range(3))
    for data, again in pairs:
        opener.declare(spec_of(sender), *TRUSTED)
        opener.open(again, NOW)
        opener.open(data, NOW)
    opener.declare(spec_of(sender), *TRUSTED)
    assert {refused(opener, data) for pair in pairs for data in pair} == {"replay"}


# ------------------------------------------------------------------ epochs
def turned() -> tuple[SealedSender, StreamOpener, list[tuple[bytes, bytes]]]:
    """Six frames of which the last three are of a new epoch, and who is told of both."""
    sender = sender_of()
    pairs = sent(sender, range(3))
    sender.rekey(NOW_NS - REKEY_NS + ns_of_samples(3 * FRAME))
    pairs += sent(sender, range(3, 6), COPIES)
    return sender, opener_of(sender), pairs


def test_a_repair_of_an_epoch_that_is_over_is_heard() -> None:
    _, opener, pairs = turned()
    opener.open(pairs[0][0], NOW)
    for data, _ in pairs[3:]:
        opener.open(data, NOW)
    got = [opener.open(again, NOW) for _, again in pairs[1:3]]
    assert [(one.epoch, one.media_sample) for one in got] == [(0, frame_at(1)), (0, frame_at(2))]


def test_who_has_the_key_of_an_epoch_that_is_over_gets_nothing_new_in() -> None:
    sender, opener, pairs = turned()
    thief, member = Thief(sender), Thief(sender, epoch=1)
    assert (thief.number, member.number) == (0, 2)
    opener.open(pairs[3][0], NOW)
    # Not what the station said since, in the epoch that he can seal for.
    new = member.open(pairs[4][0])
    assert refused(opener, thief.seal(repair_of(new))) == "epoch_over"
    assert refused(opener, thief.seal(new)) == "epoch_over"
    # Not what he makes up, whenever he says that it was.
    assert refused(opener, thief.seal(repair_of(thief.forged(9, frame_at(3))))) == "epoch_over"
    assert refused(opener, thief.seal(repair_of(thief.forged(9, frame_at(2))))) == "signature"
    # Not what was said, at another time or under another number.
    old = thief.open(pairs[2][0])
    earlier = replace(old, timestamp=(old.timestamp - FRAME) % 2**32)
    assert refused(opener, thief.seal(repair_of(earlier))) == "signature"
    assert refused(opener, thief.seal(repair_of(replace(old, sequence=9)))) == "signature"


def test_a_repair_of_a_new_epochs_first_frame_ends_the_former_there() -> None:
    sender, opener, pairs = turned()
    thief = Thief(sender)
    opener.open(pairs[4][0], NOW)
    at_the_end = thief.seal(repair_of(thief.forged(9, frame_at(3))))
    assert refused(opener, at_the_end) == "signature"  # it might be the former's last
    opener.open(pairs[3][1], NOW)
    assert refused(opener, at_the_end) == "epoch_over"


def test_a_repair_of_an_epoch_that_is_told_no_more_is_refused() -> None:
    sender = sender_of(epoch_packets=1)
    (_, again), *_ = sent(sender, range(3))
    assert refused(opener_of(sender), again) == "ssrc"


# ------------------------------------------------------------------ others' packets
@WITH_AND_WITHOUT
@pytest.mark.parametrize("which", [0, 1], ids=["packet", "repair"])
def test_every_flipped_bit_is_refused(which: int, along: Along) -> None:
    sender = sender_of()
    opener = opener_of(sender)
    data = sent(sender, range(1), along)[0][which]
    reasons = set()
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        reasons.add(refused(opener, bytes(spoilt)))
    assert reasons == {"ssrc", "implausible_time", "unsigned", "seal"}
    assert opener.open(data, NOW).repaired == bool(which)


def test_a_member_of_the_group_can_spoil_no_copy() -> None:
    sender = sender_of()
    opener, thief = opener_of(sender), Thief(sender)
    ((data, _),) = sent(sender, range(1), COPIES)
    true = thief.open(data)
    for copies in (COPIES[:1], COPIES[::-1], (Copy(FRAME, b"Before"), COPIES[1])):
        spoilt = replace(true, payload=pack(payload_of(0), copies))
        assert refused(opener, thief.seal(spoilt)) == "signature"
    assert refused(opener, thief.seal(replace(true, payload=b"\0" + true.payload))) == "copies"
    assert opener.open(data, NOW).along == COPIES


def test_a_member_of_the_group_can_spoil_no_symbol_and_none_of_his_is_decoded() -> None:
    sender = sender_of()
    opener, thief = opener_of(sender), Thief(sender)
    ((data, _),) = sent(sender, range(1), SYMBOLS)
    true = thief.open(data)
    for wrong in (
        replace(SYMBOLS, first=1),
        replace(SYMBOLS, sent=1),
        replace(SYMBOLS, offset=4 * FRAME),
        replace(SYMBOLS, data=SYMBOLS.data[::-1]),
    ):
        spoilt = replace(true, payload=erasure.pack(payload_of(0), wrong))
        assert refused(opener, thief.seal(spoilt)) == "signature"
    assert refused(opener, thief.seal(replace(true, payload=b"\0" + true.payload))) == "symbols"
    assert refused(opener, thief.seal(replace(true, payload_type=97))) in {"copies", "signature"}
    assert opener.open(data, NOW).along == SYMBOLS


def test_a_member_of_the_group_can_spoil_no_repair() -> None:
    sender = sender_of()
    opener, thief = opener_of(sender), Thief(sender)
    ((data, again),) = sent(sender, range(1), COPIES)
    true = repair_of(thief.open(data))
    for at in range(len(true.payload)):
        spoilt = bytearray(true.payload)
        spoilt[at] ^= 1
        reason = refused(opener, thief.seal(replace(true, payload=bytes(spoilt))))
        assert reason in {"signature", "repair"}
    assert opener.open(again, NOW).packet.payload == payload_of(0)


def test_repairs_share_the_packets_verifications() -> None:
    sender = sender_of()
    opener, thief = opener_of(sender), Thief(sender)
    reasons = [refused(opener, thief.seal(repair_of(thief.forged(n)))) for n in range(100)]
    assert reasons == ["signature"] * 64 + ["verification_limit"] * 36
    ((data, again),) = sent(sender, range(1))
    assert {refused(opener, data), refused(opener, again)} == {"verification_limit"}
    assert opener.open(again, NOW + FRAME).repaired


def test_what_has_not_its_form_uses_up_no_verification() -> None:
    sender = sender_of()
    opener, thief = opener_of(sender), Thief(sender)
    ((data, _),) = sent(sender, range(1), COPIES)
    true = thief.open(data)
    empty = replace(repair_of(true), payload=b"")
    for _ in range(100):
        assert refused(opener, thief.seal(replace(true, payload=b"\0"))) == "copies"
        assert refused(opener, thief.seal(empty)) == "repair"
    assert opener.open(data, NOW).along == COPIES


def test_under_the_repair_ssrc_there_is_nothing_but_repairs() -> None:
    sender = sender_of()
    opener, thief = opener_of(sender), Thief(sender)
    ((data, _),) = sent(sender, range(1))
    moved = thief.seal_under(repair_ssrc(thief.ssrc), thief.open(data))
    assert refused(opener, moved) == "payload_type"
    repair = replace(repair_of(thief.open(data)), ssrc=thief.ssrc)
    assert refused(opener, thief.seal_under(thief.ssrc, repair)) == "signature"
    goodbye = bytearray(sender.bye())
    goodbye[4:8] = repair_ssrc(thief.ssrc).to_bytes(4)
    assert refused(opener, bytes(goodbye)) == "ssrc"
