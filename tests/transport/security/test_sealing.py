"""A sealed stream from its sender to its opener, and what others can do to it."""

import gc
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.format import samples_of_ms
from tests.support.chain import GENERATION, STATION, TRUSTED, Drawn, certificate, seal_of
from transport.clock.timeline import NS_PER_SECOND as SECOND
from transport.clock.timeline import ns_of_samples
from transport.control.messages import EpochSpec, SealSpec, StreamSpec
from transport.control.priority import Priority
from transport.errors import MalformedPacket
from transport.rtp.packet import RtpPacket, is_rtcp
from transport.rtp.rtcp import Bye, ReceiverReport, SenderReport, parse_compound
from transport.security.keys import SigningKey, VerifyKey
from transport.security.sealing import EPOCH_PACKETS, REKEY_NS, SealedSender, StreamOpener
from transport.security.signature import PacketSigner
from transport.security.srtp import EpochOpener, EpochSealer

KEY = SigningKey(b"k" * 32)
SERIAL, OFFSET = 0x1_0000_0007, 12_345
NOW = 1_790_000_000 * 48_000
NOW_NS = 1_790_000_000 * SECOND
FRAME = 960
PAYLOAD = bytes(60)


def sender_of(
    epoch_packets: int = EPOCH_PACKETS, seed: str = "a", frame_ms: float = 20.0
) -> SealedSender:
    return SealedSender(
        KEY, SERIAL, OFFSET, frame_ms, "station", lambda: 0.5, Drawn(seed), epoch_packets
    )


def spec_of(sender: SealedSender, **changed: object) -> StreamSpec:
    """What an endpoint is told of `sender` now."""
    plain = StreamSpec(
        "p", 1, sender.ssrc, 96, OFFSET, 20.0, inband_fec=False, playout_delay_ms=200.0
    )
    seal = seal_of(sender, certificate(sender.public, SERIAL))
    return replace(plain, **{"seal": seal, **changed})  # type: ignore[arg-type]


def opener_of(sender: SealedSender) -> StreamOpener:
    return StreamOpener(spec_of(sender), *TRUSTED)


def frame_at(index: int) -> int:
    return NOW + index * FRAME


def sent(sender: SealedSender, indices: Sequence[int]) -> list[bytes]:
    return [sender.packet(PAYLOAD, frame_at(index)) for index in indices]


def refused(opener: StreamOpener, data: bytes, now: int = NOW) -> str:
    with pytest.raises(MalformedPacket) as error:
        opener.open_report(data, now) if is_rtcp(data) else opener.open(data, now)
    return error.value.reason


class Thief:
    """A loudspeaker that was stolen: it has the group's keys and seals correctly."""

    def __init__(self, sender: SealedSender, key: SigningKey | None = None, epoch: int = 0) -> None:
        self.number, self.ssrc, self._key = sender.epochs[epoch]
        self._signer = PacketSigner(key, SERIAL) if key else None

    def open(self, data: bytes) -> RtpPacket:
        return RtpPacket.parse(EpochOpener(self.ssrc, self._key).open(data))

    def seal(self, packet: RtpPacket) -> bytes:
        return EpochSealer(self.ssrc, self._key).seal(replace(packet, ssrc=self.ssrc).serialise())

    def packet(self, sequence: int, sample: int = NOW) -> bytes:
        packet = RtpPacket(96, sequence, (sample + OFFSET) % 2**32, self.ssrc, PAYLOAD)
        if self._signer is not None:
            packet = self._signer.sign(packet, self.number, sample)
        return self.seal(packet)

    def report(self, compound: bytes, index: int = 1) -> bytes:
        sealer = EpochSealer(self.ssrc, self._key)
        return [sealer.seal_report(compound) for _ in range(index)][-1]

    def open_report(self, data: bytes) -> bytes:
        return EpochOpener(self.ssrc, self._key).open_report(data)


# ------------------------------------------------------------------ the station's own
def test_what_is_sealed_opens_at_its_media_time() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    for index, data in enumerate(sent(sender, range(5))):
        packet, epoch, start, copies, repaired = opener.open(data, NOW + 99)
        assert (copies, repaired) == ((), False)
        assert (packet.sequence, packet.payload) == (index, PAYLOAD)
        assert (epoch, start) == (0, frame_at(index))


def test_its_first_ssrc_is_what_it_is_known_by() -> None:
    sender = sender_of(epoch_packets=2)
    first = sender.epochs[0][1]
    sent(sender, range(7))
    assert sender.ssrc == first != sender.epochs[-1][1]


LATE = pytest.mark.parametrize("sequence", [0, 1, 32_767, 32_768, 64_999])


@LATE
@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_late_joiner_opens_whatever_comes_first(sequence: int, epoch: int) -> None:
    """In any epoch; the joiner is told only what is true now."""
    sender = sender_of(epoch_packets=1)
    sent(sender, range(epoch + 1))
    number, ssrc, key = sender.epochs[-2]
    assert number == epoch
    data = sealed_at(sequence, number, ssrc, key, NOW)
    opened = opener_of(sender).open(data, NOW)
    assert (opened.packet.sequence, opened.epoch, opened.media_sample) == (sequence, number, NOW)


def sealed_at(sequence: int, number: int, ssrc: int, key: bytes, sample: int) -> bytes:
    """What a station that had sent `sequence` packets in this epoch would send now."""
    packet = RtpPacket(96, sequence, (sample + OFFSET) % 2**32, ssrc, PAYLOAD)
    signed = PacketSigner(KEY, SERIAL).sign(packet, number, sample)
    return EpochSealer(ssrc, key).seal(signed.serialise())


@cache
def whole_epoch() -> tuple[SealedSender, list[bytes]]:
    """All of a first epoch, and a little of the next."""
    sender = sender_of()
    return sender, sent(sender, range(EPOCH_PACKETS + 2))


@LATE
def test_a_late_joiner_of_a_real_epoch_opens_all_that_follows(sequence: int) -> None:
    sender, data = whole_epoch()
    opener = opener_of(sender)
    follows = range(sequence, sequence + 3)
    got = [opener.open(data[index], frame_at(index)).media_sample for index in follows]
    assert got == [frame_at(index) for index in follows]


def test_an_epoch_has_65000_packets_and_the_next_begins_at_0() -> None:
    sender, data = whole_epoch()
    (_, first, _), (_, second, _), _ = sender.epochs
    heads = [(RtpPacket.parse(d).ssrc, RtpPacket.parse(d).sequence) for d in data[-4:]]
    assert heads == [(first, 64_998), (first, 64_999), (second, 0), (second, 1)]


def test_the_next_epoch_is_told_before_it_sounds_and_the_former_after() -> None:
    sender = sender_of(epoch_packets=3)
    opener = opener_of(sender)
    held: list[bytes] = []
    for index in range(30):
        told = spec_of(sender)
        data = sender.packet(PAYLOAD, frame_at(index))
        opener.open(data, frame_at(index))  # with what was told before it was sent
        held.append(data)
        opener.declare(told, *TRUSTED)
        if len(held) > 3:
            late = StreamOpener(spec_of(sender), *TRUSTED)
            late.open(held[-4], frame_at(index))  # of the epoch before: still under way
    assert [number for number, _, _ in sender.epochs] == [8, 9, 10]


def test_a_frame_that_overlaps_the_last_of_the_former_epoch_is_our_own_mistake() -> None:
    sender = sender_of(epoch_packets=2)
    sent(sender, range(2))
    with pytest.raises(ValueError, match="overlaps"):
        sender.packet(PAYLOAD, frame_at(2) - 1)
    sender.packet(PAYLOAD, frame_at(2))


@pytest.mark.parametrize("count", [0, -1, EPOCH_PACKETS + 1])
def test_an_epoch_that_would_wrap_is_our_own_mistake(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 65000"):
        sender_of(epoch_packets=count)


# ------------------------------------------------------------------ rekey
def test_a_rekey_forgets_the_next_epoch_and_begins_another_a_second_later() -> None:
    sender = sender_of()
    sent(sender, range(3))
    now, told = sender.epochs
    sender.rekey(NOW_NS + ns_of_samples(3 * FRAME))
    assert sender.epochs[0] == now
    assert told not in sender.epochs
    drawn = sender.epochs[1]
    second = REKEY_NS // 20_000_000
    ssrcs = [RtpPacket.parse(d).ssrc for d in sent(sender, range(3, 5 + second))]
    assert ssrcs == [now[1]] * second + [drawn[1]] * 2
    assert sender.epochs[:2] == (now, drawn)


def test_another_rekey_before_the_first_has_begun_forgets_that_one_too() -> None:
    sender = sender_of()
    sent(sender, [0])
    sender.rekey(NOW_NS)
    forgotten = sender.epochs[1]
    sender.rekey(NOW_NS + REKEY_NS // 2)
    data = sent(sender, range(1, 80))
    ssrcs = [RtpPacket.parse(d).ssrc for d in data]
    assert forgotten[1] not in ssrcs
    assert len(set(ssrcs)) == 2
    assert ssrcs.index(sender.epochs[1][1]) == 75 - 1  # 1.5 s after NOW


def test_rekeys_without_end_do_not_put_the_change_off_for_ever() -> None:
    sender = sender_of()
    first = RtpPacket.parse(sent(sender, [0])[0]).ssrc
    for frame in range(1, 200):  # somebody is revoked every 20 ms
        sender.rekey(NOW_NS + frame * 20_000_000)
        data = sent(sender, [frame])
        if RtpPacket.parse(data[0]).ssrc != first:
            break
    assert frame * 20_000_000 - 20_000_000 == 3 * REKEY_NS


def test_a_rekey_at_the_very_end_of_an_epoch_still_gives_its_second() -> None:
    """With the shortest frames; and the sequence numbers do not wrap meanwhile."""
    sender = sender_of(frame_ms=2.5)
    step = samples_of_ms(2.5)
    for index in range(EPOCH_PACKETS):
        sender.packet(PAYLOAD, NOW + index * step)
    former = sender.epochs[0][1]
    end = NOW + EPOCH_PACKETS * step
    sender.rekey(ns_of_samples(end))
    data = [sender.packet(PAYLOAD, end + n * step) for n in range(410)]
    packets = [RtpPacket.parse(d) for d in data]
    assert [p.ssrc == former for p in packets] == [True] * 400 + [False] * 10


def test_rekeys_without_end_do_not_make_the_numbers_wrap() -> None:
    sender = sender_of(epoch_packets=10, frame_ms=2.5)
    ssrcs = []
    for index in range(600):
        sender.rekey(NOW_NS + index * 2_500_000)
        data = sender.packet(PAYLOAD, NOW + index * samples_of_ms(2.5))
        ssrcs.append(RtpPacket.parse(data).ssrc)
    assert ssrcs.index(ssrcs[-1]) == 510


# ------------------------------------------------------------------ nothing is used twice
ACTIONS = st.lists(st.sampled_from(["packet", "rekey", "report", "start", "pause"]), max_size=80)


@settings(max_examples=60, deadline=None)
@given(ACTIONS, st.integers(1, 7))
def test_no_key_ssrc_and_index_ever_repeat(actions: list[str], epoch_packets: int) -> None:
    """Over starts, epochs and rekeys, RTP and RTCP (which have keys apart, and indices apart)."""
    starts, index = 0, 0
    sender = sender_of(epoch_packets, "0")
    used: set[tuple[str, bytes, int, int]] = set()
    keys = {epoch[1:] for epoch in sender.epochs}

    def use(data: bytes | None) -> None:
        keys.update(epoch[1:] for epoch in sender.epochs)
        if data is None:
            return
        kind = "rtcp" if is_rtcp(data) else "rtp"
        ssrc = int.from_bytes(data[4:8] if kind == "rtcp" else data[8:12], "big")
        at = int.from_bytes(data[-4:] if kind == "rtcp" else data[2:4], "big")
        key = next(key for _, its, key in sender.epochs if its == ssrc)
        assert (kind, key, ssrc, at) not in used
        used.add((kind, key, ssrc, at))

    for action in actions:
        index += 60 if action == "pause" else 1
        if action == "packet":
            use(sender.packet(PAYLOAD, frame_at(index)))
        elif action == "report":
            use(sender.report(NOW_NS + index * SECOND))
        elif action == "rekey":
            sender.rekey(NOW_NS + index * 20_000_000)
        elif action == "start":
            use(sender.bye())
            starts += 1
            sender = sender_of(epoch_packets, str(starts))
    assert len({key for _, key in keys}) == len(keys)


def test_an_ssrc_that_another_told_epoch_has_is_drawn_again() -> None:
    same = iter([b"\0\0\0\2", b"a" * 28, b"\0\0\0\2", b"\0\0\0\4", b"b" * 28, *[b"\0\0\0\3"] * 2])
    rest = iter([b"\0\0\0\6", b"c" * 28])

    def draw(_: int) -> bytes:
        return next(same, b"") or next(rest)

    sender = SealedSender(KEY, 1, 0, 20.0, "s", lambda: 0.5, draw, 1)
    assert [ssrc for _, ssrc, _ in sender.epochs] == [2, 4]
    sent(sender, [0, 1])
    assert [ssrc for _, ssrc, _ in sender.epochs] == [2, 4, 6]


# ------------------------------------------------------------------ others' packets
def test_every_flipped_bit_is_refused() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    (data,) = sent(sender, [0])
    reasons = set()
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedPacket) as error:
            opener.open(bytes(spoilt), NOW)
        reasons.add(error.value.reason)
    assert reasons == {"ssrc", "implausible_time", "unsigned", "seal"}
    assert opener.open(data, NOW).media_sample == NOW  # and none of them kept it out


def test_what_cannot_be_signed_uses_up_no_verification() -> None:
    """Whoever stole the group's key could otherwise starve the station's packets for nothing."""
    sender = sender_of()
    opener = opener_of(sender)
    (data,) = sent(sender, [0])
    _, ssrc, key = sender.epochs[0]
    thief = EpochSealer(ssrc, key)
    for sequence in range(1, 1000):
        plain = RtpPacket(96, sequence, RtpPacket.parse(data).timestamp, ssrc, PAYLOAD)
        assert refused(opener, thief.seal(plain.serialise())) == "unsigned"
    assert opener.open(data, NOW).media_sample == NOW


def test_a_truncated_packet_is_refused_at_any_length() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    (data,) = sent(sender, [0])
    reasons = {refused(opener, data[:length]) for length in range(len(data))}
    assert reasons == {"rtp_truncated", "unsigned", "seal"}
    assert opener.open(data, NOW).media_sample == NOW


def test_wrong_key_wrong_epoch_and_wrong_ssrc_are_refused() -> None:
    sender, other = sender_of(), sender_of(seed="b")
    opener = opener_of(sender)
    (_, ssrc, key), (_, next_ssrc, _) = sender.epochs
    plain = RtpPacket(96, 0, OFFSET, ssrc, PAYLOAD)
    signed = PacketSigner(KEY, SERIAL).sign(
        replace(plain, timestamp=(NOW + OFFSET) % 2**32), 0, NOW
    )
    wrong_key = EpochSealer(ssrc, bytes(28)).seal(signed.serialise())
    assert refused(opener, wrong_key) == "seal"
    wrong_epoch = EpochSealer(next_ssrc, key).seal(replace(signed, ssrc=next_ssrc).serialise())
    assert refused(opener, wrong_epoch) == "seal"
    assert refused(opener, sent(other, [0])[0]) == "ssrc"
    moved = bytearray(EpochSealer(ssrc, key).seal(signed.serialise()))
    moved[8:12] = next_ssrc.to_bytes(4, "big")
    assert refused(opener, bytes(moved)) == "seal"


@pytest.mark.parametrize("later", [0, 1, 300])
def test_a_replay_is_refused_however_many_came_since(later: int) -> None:
    sender = sender_of()
    opener = opener_of(sender)
    data = sent(sender, range(later + 1))
    for index, one in enumerate(data):
        opener.open(one, frame_at(index))
    assert {refused(opener, one, frame_at(later)) for one in data} == {"replay"}


def test_a_replay_stays_one_when_the_epochs_are_told_anew() -> None:
    sender = sender_of(epoch_packets=2)
    opener = opener_of(sender)
    data = sent(sender, range(3))
    for one in data:
        opener.open(one, NOW)
        opener.declare(spec_of(sender), *TRUSTED)
    assert {refused(opener, one) for one in data} == {"replay"}


def test_a_packet_of_an_epoch_that_is_told_no_more_is_refused() -> None:
    sender = sender_of(epoch_packets=1)
    first, *_ = sent(sender, range(3))
    assert refused(opener_of(sender), first) == "ssrc"


def test_a_true_packet_sealed_anew_for_the_next_epoch_is_refused() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    (data,) = sent(sender, [0])
    thief, of_next = Thief(sender), Thief(sender, epoch=1)
    assert refused(opener, of_next.seal(thief.open(data))) == "signature"
    assert refused(opener, thief.seal(replace(thief.open(data), sequence=1))) == "signature"


@pytest.mark.parametrize("late_s", [13, -13, 3_600, 86_400])
def test_a_true_packet_of_another_time_is_refused(late_s: int) -> None:
    sender = sender_of()
    (data,) = sent(sender, [0])
    assert refused(opener_of(sender), data, NOW + late_s * 48_000) == "implausible_time"


def test_after_a_day_the_timestamp_is_the_same_and_the_signature_is_not() -> None:
    """24.86 hours later its 32 bits come round: only the media time tells."""
    sender = sender_of()
    (data,) = sent(sender, [0])
    assert refused(opener_of(sender), data, NOW + 2**32) == "signature"


# ------------------------------------------------------------------ from inside the group
def test_a_member_of_the_group_that_cannot_sign_is_refused() -> None:
    sender = sender_of()
    assert refused(opener_of(sender), Thief(sender).packet(0)) == "unsigned"
    assert refused(opener_of(sender), Thief(sender, SigningKey(b"t" * 32)).packet(0)) == "signature"


@pytest.mark.parametrize("key", [None, SigningKey(b"t" * 32)])
def test_a_packet_with_a_false_signature_does_not_keep_the_true_one_out(
    key: SigningKey | None,
) -> None:
    sender = sender_of()
    opener = opener_of(sender)
    thief = Thief(sender, key)
    data = sent(sender, range(10))
    for sequence in (*range(10), 40_000, 64_999):
        refused(opener, thief.packet(sequence))
    got = [opener.open(one, NOW).packet.sequence for one in data]
    assert got == list(range(10))


def test_verification_is_limited_and_what_is_not_verified_takes_no_number() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    thief = Thief(sender, SigningKey(b"t" * 32))
    reasons = [refused(opener, thief.packet(n)) for n in range(200)]
    assert reasons == ["signature"] * 64 + ["verification_limit"] * 136
    data = sent(sender, [0, 1])
    assert refused(opener, data[0]) == "verification_limit"
    # Four times the stream's own rate: within one frame it can verify four packets again.
    later = NOW + FRAME
    assert [opener.open(one, later).packet.sequence for one in data] == [0, 1]
    again = [refused(opener, thief.packet(n), later) for n in (5, 6, 7)]
    assert again == ["signature", "signature", "verification_limit"]


def test_what_the_seal_or_the_number_refuses_is_not_verified() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    data = sent(sender, range(70))
    opener.open(data[0], NOW)
    for _ in range(200):
        assert refused(opener, data[0]) == "replay"
        assert refused(opener, data[1][:-1]) == "seal"
        assert refused(opener, data[1], NOW - 13 * 48_000) == "implausible_time"
    assert len([opener.open(one, NOW) for one in data[1:64]]) == 63


def turned(frames: int = 3) -> tuple[SealedSender, StreamOpener, Thief, list[bytes]]:
    """A new epoch's packets, and a thief who knows no key but that of the one just over.

    The opener, of D = 10 s, is told both, and has heard what went before.
    """
    sender = sender_of()
    thief = Thief(sender, SigningKey(b"t" * 32))
    opener = StreamOpener(spec_of(sender, playout_delay_ms=10_000.0), *TRUSTED)
    before = sent(sender, range(frames))
    sender.rekey(NOW_NS - REKEY_NS + ns_of_samples(frames * FRAME))
    after = sent(sender, range(frames, 200))
    assert [number for number, _, _ in sender.epochs] == [0, 2, 3]
    for one in before:
        opener.open(one, NOW)
    opener.declare(spec_of(sender, playout_delay_ms=10_000.0), *TRUSTED)
    return sender, opener, thief, after


def test_who_has_another_epochs_key_alone_takes_nothing_from_the_one_that_sounds() -> None:
    """Revoked, he still has the key of the epoch just over, and forges its past."""
    _, opener, thief, after = turned()
    reasons = set()
    for index, one in enumerate(after, 3):
        for n in range(20):
            false = thief.packet(1_000 + 20 * index + n, frame_at(2))
            reasons.add(refused(opener, false, frame_at(index)))
        assert opener.open(one, frame_at(index)).media_sample == frame_at(index)
    assert reasons == {"signature", "verification_limit"}


def test_an_epoch_is_over_from_the_first_frame_of_the_next() -> None:
    _, opener, thief, after = turned()
    assert refused(opener, thief.packet(70, frame_at(3))) == "signature"  # not heard of yet
    opener.open(after[1], NOW)
    assert refused(opener, thief.packet(70, frame_at(3))) == "signature"
    assert refused(opener, thief.packet(70, frame_at(4))) == "epoch_over"
    opener.open(after[0], NOW)  # it had been overtaken
    assert refused(opener, thief.packet(70, frame_at(3))) == "epoch_over"
    assert refused(opener, thief.packet(70, frame_at(3) - 1)) == "signature"


def test_twelve_seconds_after_its_end_nothing_of_an_epoch_is_verified() -> None:
    """Though it is told until the next ends, which may take an hour."""
    _, opener, thief, after = turned()
    opener.open(after[0], NOW)
    later = frame_at(3) + 12 * 48_000
    reasons = {refused(opener, thief.packet(70, frame_at(n)), later) for n in range(-700, 700)}
    assert reasons == {"epoch_over", "implausible_time"}


def test_an_epoch_stays_over_when_the_epochs_are_told_anew() -> None:
    sender, opener, thief, after = turned()
    opener.open(after[0], NOW)
    opener.declare(spec_of(sender), *TRUSTED)
    assert refused(opener, thief.packet(70, frame_at(3))) == "epoch_over"


def test_what_the_next_epoch_overtook_is_heard() -> None:
    sender = sender_of(epoch_packets=5)
    data = sent(sender, range(10))
    opener = opener_of(sender)
    got = [opener.open(one, frame_at(10)).media_sample for one in data[::-1]]
    assert got == [frame_at(index) for index in range(10)][::-1]


def test_a_false_packet_of_the_next_epoch_ends_none() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    data = sent(sender, range(5))
    assert refused(opener, Thief(sender, SigningKey(b"t" * 32), epoch=1).packet(0)) == "signature"
    assert [opener.open(one, NOW).epoch for one in data] == [0] * 5


def test_a_report_of_an_epoch_that_is_over_is_refused() -> None:
    """Goodbye comes in the last, and nothing else is of use."""
    sender = sender_of(epoch_packets=1)
    sent(sender, [0])
    report = sender.report(NOW_NS)
    assert report is not None
    (data,) = sent(sender, [1])
    opener = opener_of(sender)
    opener.open(data, NOW)
    assert refused(opener, report) == "epoch_over"


def test_a_flood_leaves_nothing_behind() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    thief = Thief(sender, SigningKey(b"t" * 32))
    flood = [thief.packet(n) for n in range(500)]
    for one in flood:
        refused(opener, one)
    tracemalloc.start()
    held = []
    for round_number in range(6):
        for one in flood:
            refused(opener, one, NOW + round_number * 1_000)
        gc.collect()  # what pytest keeps of each exception
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(held[2:]) - held[1] < 1_000


def test_after_an_outage_that_d_bridges_all_that_waited_is_verified() -> None:
    sender = sender_of()
    opener = StreamOpener(spec_of(sender, playout_delay_ms=10_000.0), *TRUSTED)
    data = sent(sender, range(500))
    assert len([opener.open(one, frame_at(500)) for one in data]) == 500


def test_a_clock_that_goes_back_earns_nothing_by_it() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    data = sent(sender, range(80))
    opened = 0
    for index, one in enumerate(data):
        try:
            opener.open(one, NOW - index)
        except MalformedPacket:
            break
        opened += 1
    assert opened == 64


# ------------------------------------------------------------------ RTCP
def test_reports_and_the_goodbye_are_sealed_and_signed() -> None:
    sender = sender_of()
    sent(sender, range(3))
    opener = opener_of(sender)
    report = sender.report(NOW_NS)
    assert report is not None
    assert sender.report(NOW_NS) is None
    first, *_ = parse_compound(opener.open_report(report, NOW))
    assert isinstance(first, SenderReport)
    assert (first.ssrc, first.packet_count) == (sender.ssrc, 3)
    goodbye = parse_compound(opener.open_report(sender.bye(), NOW))
    assert goodbye[0] == ReceiverReport(sender.ssrc)
    assert goodbye[-1] == Bye((sender.ssrc,))


def test_there_is_no_report_before_anything_was_sent() -> None:
    assert sender_of().report(NOW_NS) is None


def test_a_goodbye_comes_from_the_epoch_that_sounds() -> None:
    sender = sender_of(epoch_packets=1)
    sent(sender, range(3))
    (_, _, _), (number, ssrc, _), _ = sender.epochs
    assert number == 2
    assert parse_compound(opener_of(sender).open_report(sender.bye(), NOW))[-1] == Bye((ssrc,))


def test_every_flipped_bit_of_a_goodbye_is_refused() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    data = sender.bye()
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedPacket):
            opener.open_report(bytes(spoilt), NOW)
    assert opener.open_report(data, NOW)


def test_a_goodbye_that_a_member_of_the_group_sealed_is_refused() -> None:
    sender = sender_of()
    opener = opener_of(sender)
    signer = PacketSigner(SigningKey(b"t" * 32), SERIAL)
    thief = Thief(sender)
    true = sender.bye()
    compound = opener_of(sender).open_report(true, NOW)
    assert refused(opener, thief.report(compound)) == "unsigned"
    assert refused(opener, thief.report(signer.sign_report(compound, thief.ssrc, 0))) == "signature"
    assert opener.open_report(true, NOW) == compound
    assert refused(opener, true) == "replay"


def test_reports_are_taken_in_any_order_and_each_once() -> None:
    sender = sender_of()
    sent(sender, [0])
    opener = opener_of(sender)
    report, goodbye = sender.report(NOW_NS), sender.bye()
    assert report is not None
    assert opener.open_report(goodbye, NOW)
    assert opener.open_report(report, NOW)
    assert [refused(opener, one) for one in (report, goodbye)] == ["replay"] * 2


def test_a_true_report_sealed_anew_keeps_no_other_out() -> None:
    """Its index is not signed: whoever has the group's key chooses it."""
    sender = sender_of()
    sent(sender, [0])
    opener = opener_of(sender)
    report, goodbye = sender.report(NOW_NS), sender.bye()
    assert report is not None
    thief = Thief(sender)
    signed = thief.open_report(report)
    assert opener.open_report(thief.report(signed, index=1_000), NOW)
    assert refused(opener, report) == "replay"
    for index in range(1, 100):  # and costs no verification
        assert refused(opener, thief.report(signed, index)) == "replay"
    assert opener.open_report(goodbye, NOW)


def test_so_many_reports_are_remembered_and_no_more() -> None:
    sender = sender_of()
    sent(sender, [0])
    opener = opener_of(sender)
    data = [sender.report(NOW_NS + n * 10 * SECOND) for n in range(513)]
    reports = [one for one in data if one is not None]
    assert len(reports) == 513
    for n, one in enumerate(reports):
        opener.open_report(one, NOW + n * 480_000)
    now = NOW + 513 * 480_000
    assert {refused(opener, one, now) for one in reports[1:]} == {"replay"}
    assert opener.open_report(reports[0], now)  # which says nothing that matters


# ------------------------------------------------------------------ certificates
def not_allowed(spec: StreamSpec, station: VerifyKey, generation: int) -> None:
    with pytest.raises(MalformedPacket, match="certificate"):
        StreamOpener(spec, station, generation)


def certified(sender: SealedSender, data: bytes, **changed: object) -> StreamSpec:
    spec = spec_of(sender, **changed)
    assert spec.seal is not None
    return replace(spec, seal=replace(spec.seal, certificate=data))


def test_another_stations_certificate_does_not_hold() -> None:
    sender = sender_of()
    other = SigningKey(b"o" * 32)
    foreign = certified(sender, certificate(sender.public, SERIAL, station=other))
    not_allowed(foreign, *TRUSTED)
    StreamOpener(foreign, VerifyKey(other.public), GENERATION)


@pytest.mark.parametrize("generation", [GENERATION - 1, GENERATION + 1])
def test_a_certificate_of_another_generation_does_not_hold(generation: int) -> None:
    sender = sender_of()
    old = certified(sender, certificate(sender.public, SERIAL, generation=generation))
    not_allowed(old, *TRUSTED)
    StreamOpener(old, VerifyKey(STATION.public), generation)


@pytest.mark.parametrize("highest", Priority)
@pytest.mark.parametrize("said", Priority)
def test_no_stream_is_heard_above_its_highest_priority(highest: Priority, said: Priority) -> None:
    sender = sender_of()
    spec = certified(sender, certificate(sender.public, SERIAL, highest), priority=int(said))
    if said > highest:
        not_allowed(spec, *TRUSTED)
    else:
        StreamOpener(spec, *TRUSTED)


@pytest.mark.parametrize("really", [True, False])
def test_a_test_is_no_announcement_and_an_announcement_no_test(really: bool) -> None:
    sender = sender_of()
    spec = certified(sender, certificate(sender.public, SERIAL, test=really), test=not really)
    not_allowed(spec, *TRUSTED)
    StreamOpener(replace(spec, test=really), *TRUSTED)


@pytest.mark.parametrize("length", [0, 113, 115])
def test_what_is_no_certificate_does_not_hold(length: int) -> None:
    sender = sender_of()
    not_allowed(certified(sender, bytes(length)), *TRUSTED)


def test_a_stream_in_clear_has_nothing_to_open() -> None:
    with pytest.raises(ValueError, match="in clear"):
        StreamOpener(spec_of(sender_of(), seal=None), *TRUSTED)


def test_a_renewed_certificate_of_the_same_key_goes_on() -> None:
    """The station's key was replaced while a programme is on air."""
    sender = sender_of()
    opener = opener_of(sender)
    first, second = sent(sender, range(2))
    opener.open(first, NOW)
    fresh = SigningKey(b"f" * 32)
    renewed = certificate(sender.public, SERIAL, station=fresh, generation=GENERATION + 1)
    opener.declare(certified(sender, renewed), VerifyKey(fresh.public), GENERATION + 1)
    assert refused(opener, first) == "replay"
    assert opener.open(second, NOW).packet.sequence == 1


@pytest.mark.parametrize(
    "data",
    [
        certificate(SigningKey(b"x" * 32).public, SERIAL),
        certificate(KEY.public, SERIAL + 1),
        certificate(KEY.public, SERIAL, Priority.BACKGROUND),
        certificate(KEY.public, SERIAL, test=True),
        certificate(KEY.public, SERIAL, generation=GENERATION - 1),
        bytes(114),
    ],
    ids=["another key", "another stream", "a lower priority", "a test", "older", "none"],
)
def test_another_certificate_changes_nothing(data: bytes) -> None:
    sender = sender_of()
    opener = opener_of(sender)
    epochs = (EpochSpec(9, 9, bytes(28)),)
    with pytest.raises(MalformedPacket, match="certificate"):
        opener.declare(spec_of(sender, seal=SealSpec(data, epochs)), *TRUSTED)
    assert opener.open(sent(sender, [0])[0], NOW).packet.sequence == 0


# ------------------------------------------------------------------ whatever comes
@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(-(2**62), 2**62), st.booleans())
def test_arbitrary_bytes_are_refused_and_nothing_else(data: bytes, now: int, named: bool) -> None:
    sender = sender_of()
    opener = opener_of(sender)
    if named:
        ssrc = sender.ssrc.to_bytes(4, "big")
        data = data[:4] + ssrc + ssrc + data[12:]
    with pytest.raises(MalformedPacket):
        opener.open(data, now)
    with pytest.raises(MalformedPacket):
        opener.open_report(data, now)
    assert opener.open(sent(sender, [0])[0], NOW)
