"""Copies and repairs into one stream's receiver: they fill holes, and only holes."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.opus import Encoder, EncoderSettings
from tests.support.chain import TRUSTED, Drawn, certificate, seal_of
from transport.control.messages import StreamSpec
from transport.recovery.along import Provision
from transport.recovery.copies import Copy
from transport.recovery.erasure import Code, Symbols
from transport.rtp.packet import RtpPacket
from transport.security.keys import SigningKey
from transport.security.sealing import SealedSender, StreamOpener
from transport.session.receiver import ClearOpener, StreamReceiver
from transport.session.sender import StreamSender

SSRC = 0x0A0B0C0C
NOW = 1_790_000_000 * 48_000  # of the media clock, in samples
FRAME = 960
FIRSTS = pytest.mark.parametrize("first", [0, 65_530, 65_535])
KINDS = pytest.mark.parametrize("sealed", [False, True], ids=["clear", "sealed"])
BURST = st.lists(st.tuples(st.booleans(), st.integers(0, 11)), max_size=40)


def _payloads(count: int) -> list[bytes]:
    """Frames of a tone that moves, so that no two are alike."""
    encoder = Encoder(EncoderSettings(frame_ms=20))
    phases = 2 * np.pi * 300 * np.arange(count * FRAME) / 48_000
    tone = 0.3 * np.sin(phases + 3 * np.sin(phases / 37)).astype(np.float32)
    return [encoder.encode(frame) for frame in tone.reshape(-1, FRAME)]


PAYLOADS = _payloads(12)


class Stream:
    """What was sent, each frame with copies of those `offsets` frames before; and a receiver."""

    def __init__(
        self,
        offsets: tuple[int, ...] = (),
        *,
        sealed: bool = False,
        first: int = 0,
        code: Code | None = None,
    ) -> None:
        spec = StreamSpec("p", 1, SSRC, 96, 0, 20.0, inband_fec=False, playout_delay_ms=200.0)
        if sealed:
            key = SigningKey(b"k" * 32)
            sender: SealedSender | StreamSender = SealedSender(
                key, 1, 0, 20.0, "s", lambda: 0.5, Drawn("r"), epoch_packets=6 if code else 5
            )
        else:
            sender = StreamSender(SSRC, first, 0, 20.0, "s", lambda: 0.5)
        self.packets, self.repairs = [], []
        provision = Provision(FRAME)
        provision.adapt(tuple(n * FRAME for n in offsets), code)
        for index, payload in enumerate(PAYLOADS):
            along = provision.along(NOW + index * FRAME, payload, 1_200)
            self.packets.append(sender.packet(payload, NOW + index * FRAME, along))
            self.repairs.append(sender.repair())
        if isinstance(sender, SealedSender):
            spec = replace(spec, seal=seal_of(sender, certificate(sender.public, 1)))
            # As it is told at the end: of frames 0 to 4 the epoch is told no more.
            self.receiver = StreamReceiver(spec, StreamOpener(spec, *TRUSTED))
        else:
            self.receiver = StreamReceiver(spec, ClearOpener(spec))

    def receive(self, data: bytes, now: int = NOW) -> None:
        self.receiver.receive(data, now)

    def held(self) -> dict[int, bytes]:
        """The frames in the buffer by their number."""
        found = {}
        while (frame := self.receiver.buffer.first()) is not None:
            found[(frame.start_sample - NOW) // FRAME] = frame.payload
            self.receiver.buffer.take(frame.start_sample)
        return found

    def drops(self, data: bytes, now: int = NOW) -> Counter[str]:
        """Why one datagram was dropped; nothing of it may be left."""
        held, before = len(self.receiver.buffer), Counter(self.receiver.dropped)
        self.receive(data, now)
        assert len(self.receiver.buffer) == held
        return self.receiver.dropped - before


def true(indices: set[int]) -> dict[int, bytes]:
    return {index: PAYLOADS[index] for index in sorted(indices)}


# ------------------------------------------------------------------ what is played
@KINDS
@FIRSTS
def test_copies_fill_the_holes_that_there_are(first: int, *, sealed: bool) -> None:
    stream = Stream((1, 3), sealed=sealed, first=first)
    for index in (5, 6, 9, 11):
        stream.receive(stream.packets[index])
    assert stream.receiver.recovered == {"copy": 5}  # 2, 3, 4 before; 8 and 10 between
    assert stream.receiver.received == 4
    assert stream.held() == true({2, 3, 4, 5, 6, 8, 9, 10, 11})
    assert not stream.receiver.dropped


@KINDS
@FIRSTS
def test_repairs_fill_the_holes_that_there_are(first: int, *, sealed: bool) -> None:
    stream = Stream((1,), sealed=sealed, first=first)
    for index in (5, 9):
        stream.receive(stream.packets[index])
    for index in (6, 7, 8, 9, 5):
        stream.receive(stream.repairs[index])
    assert stream.receiver.recovered == {"copy": 2, "repair": 2}
    assert stream.held() == true({4, 5, 6, 7, 8, 9})
    assert not stream.receiver.dropped


@given(BURST, st.booleans(), st.sampled_from([(), (1,), (1, 2), (5,), (2, 7, 11)]))
def test_whatever_comes_each_frame_is_held_once_and_is_what_was_said(
    came: list[tuple[bool, int]], sealed: bool, offsets: tuple[int, ...]
) -> None:
    stream = Stream(offsets, sealed=sealed)
    could = range(5 if sealed else 0, 12)
    there: set[int] = set()
    for repaired, index in came:
        stream.receive((stream.repairs if repaired else stream.packets)[index])
        if index in could:
            there.add(index)
            if not repaired:
                there |= {index - n for n in offsets if n <= index}
    own = {index for repaired, index in came if not repaired and index in could}
    receiver = stream.receiver
    assert len(receiver.buffer) == len(there)
    assert receiver.received == len(own)
    assert sum(receiver.recovered.values()) >= len(there - own)
    assert len(receiver.buffer) - sum(receiver.recovered.values()) <= len(own)
    assert stream.held() == true(there)


def test_a_frame_that_is_held_is_not_replaced() -> None:
    stream = Stream()
    stream.receive(stream.packets[0])
    other = StreamSender(SSRC, 1, 0, 20.0, "s", lambda: 0.5)
    stream.receive(other.packet(PAYLOADS[1], NOW + FRAME, [Copy(FRAME, PAYLOADS[7])]))
    assert stream.held() == true({0, 1})
    assert not stream.receiver.recovered


def test_a_frame_that_has_been_played_is_not_taken_again() -> None:
    stream = Stream((1, 2))
    stream.receive(stream.packets[0])
    stream.receiver.buffer.take(NOW)
    stream.receiver.buffer.take(NOW + FRAME)  # which was not there
    stream.receiver.buffer.drop_before(NOW + 2 * FRAME)
    stream.receive(stream.packets[2])
    assert stream.held() == true({2})
    assert not stream.receiver.recovered
    assert not stream.receiver.dropped


def test_a_copy_of_a_time_that_is_long_over_is_not_taken() -> None:
    stream = Stream((11,))
    stream.receive(stream.packets[11], now=NOW + 12 * 48_000)
    assert stream.held() == true({11})
    other = Stream((11,))
    other.receive(other.packets[11], now=NOW + 12 * 48_000 - 1)
    assert other.held() == true({0, 11})


def test_it_reaches_as_far_as_what_was_repaired() -> None:
    stream = Stream((1,))
    stream.receive(stream.packets[1])
    stream.receive(stream.repairs[4])
    assert stream.receiver.reach == NOW + 5 * FRAME


# ------------------------------------------------------------------ what is counted
@KINDS
def test_what_did_not_come_itself_is_lost_though_it_is_there(*, sealed: bool) -> None:
    stream = Stream((1,), sealed=sealed)
    for index in (5, 7, 9):
        stream.receive(stream.packets[index])
    stream.receive(stream.repairs[8])
    assert (stream.receiver.received, stream.receiver.lost) == (3, 2)


@KINDS
def test_a_packet_after_its_copy_or_its_repair_is_no_duplicate_and_not_lost(
    *, sealed: bool
) -> None:
    stream = Stream((1,), sealed=sealed)
    for index in (5, 7, 9):
        stream.receive(stream.packets[index])
    stream.receive(stream.repairs[8])
    for index in (6, 8):
        stream.receive(stream.packets[index])
    assert not stream.receiver.dropped
    assert (stream.receiver.received, stream.receiver.lost) == (5, 0)
    assert stream.held() == true({4, 5, 6, 7, 8, 9})


@KINDS
def test_a_packet_that_comes_again_is_dropped_whatever_filled_its_hole(*, sealed: bool) -> None:
    stream = Stream((1,), sealed=sealed)
    for index in (5, 7, 6):
        stream.receive(stream.packets[index])
    reason = "replay" if sealed else "duplicate"
    assert stream.drops(stream.packets[6]) == {reason: 1}


@KINDS
def test_a_repair_that_was_not_needed_is_spare_and_not_dropped(*, sealed: bool) -> None:
    stream = Stream(sealed=sealed)
    stream.receive(stream.packets[5])
    stream.receive(stream.packets[7])
    for _ in range(2):  # as the station sends it
        assert not stream.drops(stream.repairs[5])
    stream.receive(stream.repairs[6])
    assert not stream.drops(stream.repairs[6])
    assert stream.receiver.spare == 3
    assert stream.receiver.recovered == {"repair": 1}


@KINDS
def test_a_repair_that_comes_too_late_is_late(*, sealed: bool) -> None:
    stream = Stream(sealed=sealed)
    stream.receive(stream.packets[5])
    stream.receiver.buffer.drop_before(NOW + 9 * FRAME)
    assert stream.drops(stream.repairs[6]) == {"late": 1}
    assert not stream.receiver.recovered


def test_so_many_holes_that_were_filled_are_remembered_and_no_more() -> None:
    """All 1,025 are in the buffer still: the packet of the oldest counts as a duplicate by now."""
    frame = 120
    spec = StreamSpec("p", 1, SSRC, 96, 0, 2.5, inband_fec=False, playout_delay_ms=10_000.0)
    receiver = StreamReceiver(spec, ClearOpener(spec))
    sender = StreamSender(SSRC, 0, 0, 2.5, "s", lambda: 0.5)
    short = Encoder(EncoderSettings(frame_ms=2.5, application="lowdelay"))
    payload = short.encode(np.zeros(frame, np.float32))
    packets = []
    for index in range(1_025):
        packets.append(sender.packet(payload, NOW + index * frame))
        receiver.receive(sender.repair(), NOW)
    for packet in packets[:2]:
        receiver.receive(packet, NOW)
    assert receiver.recovered == {"repair": 1_025}
    assert receiver.dropped == {"duplicate": 1}


# ------------------------------------------------------------------ who is told
def asked_for(stream: Stream, now: int) -> set[int]:
    """The sequence numbers that the schedule wants within the next 100 ms."""
    found: set[int] = set()
    for sample in range(now, now + 4_800, 48):
        for sequences in stream.receiver.schedule.due(sample).values():
            found |= set(sequences)
    return found


@KINDS
def test_the_schedule_asks_for_what_is_missing(*, sealed: bool) -> None:
    stream = Stream(sealed=sealed)
    for index in (5, 8):
        stream.receive(stream.packets[index], NOW + index * FRAME)
    missing = {1, 2} if sealed else {6, 7}  # an epoch of five begins with frame 5
    assert missing <= asked_for(stream, NOW + 8 * FRAME)


@KINDS
@pytest.mark.parametrize("by", ["copy", "repair", "itself"])
def test_it_does_not_ask_for_what_has_come(by: str, *, sealed: bool) -> None:
    stream = Stream((1,) if by == "copy" else (), sealed=sealed)
    for index in (5, 7):
        stream.receive(stream.packets[index], NOW + index * FRAME)
    if by != "copy":
        came = stream.repairs if by == "repair" else stream.packets
        stream.receive(came[6], NOW + 7 * FRAME)
    assert (1 if sealed else 6) not in asked_for(stream, NOW + 7 * FRAME)


def test_the_report_is_of_what_came_itself() -> None:
    stream = Stream((1,))
    for index in (0, 1, 2, 4, 5, 6, 8, 9):
        stream.receive(stream.packets[index], NOW + index * FRAME)
    stream.receive(stream.repairs[7], NOW + 9 * FRAME)
    summary = stream.receiver.report.summary(NOW + 10 * FRAME)
    assert summary.loss == pytest.approx(0.2)
    assert summary.longest_burst_ms == pytest.approx(20.0)


# ------------------------------------------------------------------ what is dropped, and why
def test_what_has_not_the_form_of_copies_or_of_a_repair_is_dropped() -> None:
    stream = Stream((1,))
    packet, repair = RtpPacket.parse(stream.packets[1]), RtpPacket.parse(stream.repairs[1])
    assert stream.drops(replace(packet, payload=b"\0abc").serialise()) == {"copies": 1}
    assert stream.drops(replace(repair, payload=b"").serialise()) == {"repair": 1}
    assert stream.drops(replace(repair, payload_type=96).serialise()) == {"payload_type": 1}
    other = replace(repair, payload=b"\x05" + repair.payload[1:])
    assert stream.drops(other.serialise()) == {"payload_type": 1}
    assert stream.drops(replace(repair, payload=b"\x60\xff").serialise()) == {"opus": 1}
    assert stream.receiver.received == 0


def test_a_copy_that_is_no_opus_packet_does_not_cost_the_frame_it_came_with() -> None:
    stream = Stream()
    sender = StreamSender(SSRC, 0, 0, 20.0, "s", lambda: 0.5)
    copies = [Copy(FRAME, PAYLOADS[5]), Copy(2 * FRAME, b"\xff")]
    stream.receive(sender.packet(PAYLOADS[6], NOW + 6 * FRAME, copies))
    assert stream.receiver.dropped == {"opus": 1}
    assert stream.held() == true({5, 6})


# ------------------------------------------------------------------ what is decoded
def test_symbols_fill_the_holes_that_there_are_across_epochs() -> None:
    stream = Stream(sealed=True, code=Code(4, 8))
    for index in (1, 5, 7, 8, 10):
        stream.receive(stream.packets[index])
    # Of the first block one frame and four symbols came, of the second two and four.
    assert stream.receiver.recovered == {"erasure": 5}
    assert stream.receiver.received == 5
    assert stream.held() == true({0, 1, 2, 3, 4, 5, 6, 7, 8, 10})
    assert not stream.receiver.dropped


def test_a_frame_comes_by_whichever_is_first_and_counts_once() -> None:
    stream = Stream(sealed=True, code=Code(4, 8))
    for index in (0, 1, 4):
        stream.receive(stream.packets[index])
    assert stream.receiver.recovered == {"erasure": 2}
    stream.receive(stream.packets[2])  # late, and itself
    stream.receive(stream.repairs[3])
    stream.receive(stream.packets[5])
    assert stream.receiver.recovered == {"erasure": 2}
    assert stream.receiver.spare == 1
    assert stream.receiver.received == 5
    assert not stream.receiver.dropped


def test_a_repair_can_be_what_was_lacking_and_is_asked_for_no_more() -> None:
    stream = Stream(sealed=True, code=Code(4, 4))
    for index in (1, 4, 5):
        stream.receive(stream.packets[index])
    assert not stream.receiver.recovered
    stream.receive(stream.repairs[0])
    assert stream.receiver.recovered == {"repair": 1, "erasure": 2}
    asked = stream.receiver.schedule.due(NOW + 8 * FRAME)
    assert not {2, 3} & set(asked.get(0, ()))


def test_what_was_lost_twice_over_is_not_found() -> None:
    stream = Stream(sealed=True, code=Code(4, 4))
    for index in (1, 5, 7):
        stream.receive(stream.packets[index])
    assert not stream.receiver.recovered
    assert stream.held() == true({1, 5, 7})


def test_what_has_sounded_is_not_filled_by_symbols() -> None:
    stream = Stream(sealed=True, code=Code(4, 8))
    stream.receive(stream.packets[3])
    stream.receiver.buffer.drop_before(NOW + 2 * FRAME)
    for index in (5, 6):
        stream.receive(stream.packets[index])
    assert stream.receiver.recovered == {"erasure": 1}
    assert stream.held() == true({2, 3, 5, 6})


def test_in_clear_symbols_are_refused() -> None:
    stream = Stream(code=Code(4, 8))
    assert stream.drops(stream.packets[5]) == {"payload_type": 1}
    stream.receive(stream.packets[3])
    assert stream.held() == true({3})


@pytest.mark.parametrize("data", [b"no symbol of them", b"\0\x01\xff"])
def test_symbols_of_nothing_do_not_cost_the_frame_they_came_with(data: bytes) -> None:
    """The station's own mistake, signed as it is: nothing is heard that was not said."""
    key = SigningKey(b"k" * 32)
    sender = SealedSender(key, 1, 0, 20.0, "s", lambda: 0.5, Drawn("r"))
    stream = Stream(sealed=True)
    spec = replace(stream.receiver.spec, seal=seal_of(sender, certificate(sender.public, 1)))
    receiver = StreamReceiver(spec, StreamOpener(spec, *TRUSTED))
    wrong = Symbols(4, 4 * FRAME, 1, 0, (data,))
    receiver.receive(sender.packet(PAYLOADS[0], NOW + 8 * FRAME, wrong), NOW)
    assert len(receiver.buffer) == 1
    assert not receiver.recovered
    assert set(receiver.dropped) <= {"symbols", "opus"}
    assert receiver.dropped.total() == 1


@given(st.binary(max_size=80), st.sampled_from([97, 98, 99]), st.booleans())
def test_arbitrary_payloads_never_raise(payload: bytes, payload_type: int, marker: bool) -> None:
    stream = Stream()
    ssrc = SSRC + (payload_type == 98)
    packet = RtpPacket(payload_type, 3, (NOW + 3 * FRAME) % 2**32, ssrc, payload, marker=marker)
    stream.receive(packet.serialise())
    assert set(stream.receiver.dropped) <= {"copies", "repair", "payload_type", "opus"}
