"""What goes along with each packet, and what may be sent again of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from codec.format import SAMPLE_RATE, Samples, samples_of_ms
from server.processes.bus import ProgrammeOrder, StreamOrder
from server.processes.ring import MAX_DATAGRAM, REPAIR, RTP, Entry
from server.producer.programme import Programme
from tests.support.produced import Ear, seeded, spec_of
from tests.support.stations import GENERATION, KEY
from transport.clock.timeline import ns_of_samples
from transport.recovery.blocks import BlockReader
from transport.recovery.copies import Copy
from transport.recovery.erasure import Code, Symbols
from transport.rtp.packet import RtpPacket
from transport.security.keys import VerifyKey
from transport.security.sealing import StreamOpener
from transport.session.receiver import Opened

START = 84_000_000_000_017
FRAME = samples_of_ms(10.0)
NEAR, FAR = 2 * FRAME, 10 * FRAME


def order_of(*copies: int, bitrate: int = 24_000, clear: int | None = None) -> ProgrammeOrder:
    stream = StreamOrder(3, 10.0, 4711, clear, copies)
    return ProgrammeOrder("live-1", (stream,), "t", bitrate, 9, False, False, 0)


class OnAir:
    """A programme of one stream, and what it wrote, opened."""

    def __init__(self, order: ProgrammeOrder) -> None:
        self.written: list[Entry] = []
        self.ear = Ear(order)
        self.programme = Programme(order, seeded(), lambda: 0.5, self.written.append)

    def say(self, sound: Samples, start: int = START) -> None:
        already = len(self.written)
        for at in range(0, len(sound), FRAME):
            now_ns = ns_of_samples(start + at + FRAME)
            self.programme.feed(start + at, sound[at : at + FRAME], now_ns)
        now_sample = start + len(sound)
        self.ear.hear(self.programme.report(), self.written[already:], now_sample)

    @property
    def sent(self) -> list[tuple[int, bytes, Sequence[Copy]]]:
        """Of each sealed packet when its frame begins, the frame, and what went along."""
        packets = [packet for stream, packet in self.ear.packets if stream == 3]
        return [
            (
                self.ear.times[id(packet)],
                packet.payload,
                () if isinstance(along, Symbols) else along,
            )
            for packet, along in zip(packets, self.ear.along, strict=True)
        ]

    def open_repairs(self) -> list[Opened]:
        """As a loudspeaker opens them to which nothing else came."""
        (stream,) = self.programme.report().streams
        spec = spec_of(self.programme.order.streams[0], stream)
        opener = StreamOpener(spec, VerifyKey(KEY.public), GENERATION)
        end = self.sent[-1][0] + FRAME
        return [opener.open(entry.datagram, end) for entry in self.ear.repairs]


def noise(seconds: float) -> Samples:
    samples = round(seconds * SAMPLE_RATE)
    return np.random.default_rng(7).uniform(-0.5, 0.5, samples).astype(np.float32)


def test_each_packet_carries_the_frames_that_began_just_so_long_before() -> None:
    on_air = OnAir(order_of(NEAR, FAR))
    on_air.say(noise(0.3))
    frames = {start: payload for start, payload, _ in on_air.sent}
    assert len(frames) == 30
    first = min(frames)
    for start, _, copies in on_air.sent:
        assert copies == tuple(
            Copy(offset, frames[start - offset])
            for offset in (NEAR, FAR)
            if start - offset >= first
        )


def test_without_copies_packets_are_as_they_were() -> None:
    plain, copied = OnAir(order_of()), OnAir(order_of(NEAR))
    for on_air in (plain, copied):
        on_air.say(noise(0.3))
    assert {copies for _, _, copies in plain.sent} == {()}
    assert [sent[:2] for sent in plain.sent] == [sent[:2] for sent in copied.sent]


def test_over_a_hole_in_the_sound_nothing_is_copied_that_did_not_begin_just_then() -> None:
    on_air = OnAir(order_of(NEAR))
    on_air.say(noise(0.1))
    on_air.say(noise(0.1), START + SAMPLE_RATE + 7)
    copied = [bool(copies) for _, _, copies in on_air.sent]
    assert copied == 2 * (2 * [False] + 8 * [True])


def test_other_copies_go_along_from_the_next_frame_on_and_nothing_else_changes() -> None:
    plain, adapted = OnAir(order_of()), OnAir(order_of())
    for on_air, copies in ((plain, ()), (adapted, (NEAR,))):
        on_air.say(noise(0.1))
        before = on_air.programme.report()
        on_air.programme.adapt(order_of(*copies))
        assert on_air.programme.report() == before
        on_air.say(noise(0.1), START + SAMPLE_RATE // 10)
    counts = [len(copies) for _, _, copies in adapted.sent]
    assert counts == 10 * [0] + 10 * [1]  # also of what was sent before
    assert [sent[:2] for sent in plain.sent] == [sent[:2] for sent in adapted.sent]
    assert adapted.programme.order == order_of(NEAR)


def test_copies_go_over_into_the_next_epoch() -> None:
    on_air = OnAir(order_of(NEAR))
    on_air.say(noise(0.5))
    half = START + SAMPLE_RATE // 2
    on_air.programme.rekey(replace(order_of(NEAR), rekey=1), ns_of_samples(half))
    on_air.say(noise(2.0), half)
    assert set(on_air.ear.epochs) == {0, 2}
    assert [len(copies) for _, _, copies in on_air.sent] == 2 * [0] + 248 * [1]


def test_each_frame_can_be_sent_again_and_is_the_same() -> None:
    on_air = OnAir(order_of(NEAR, FAR))
    on_air.say(noise(0.3))
    repaired = [(r.media_sample, r.packet.payload, r.along) for r in on_air.open_repairs()]
    assert repaired == [(start, payload, ()) for start, payload, _ in on_air.sent]
    assert all(r.repaired for r in on_air.open_repairs())


def test_a_repair_stands_behind_its_packet_and_there_is_none_of_the_twin() -> None:
    on_air = OnAir(order_of(clear=10))
    on_air.say(noise(0.05))
    written = [
        (entry.stream, entry.kind) for entry in on_air.written if entry.kind in {RTP, REPAIR}
    ]
    assert written == 5 * [(3, RTP), (10, RTP), (3, REPAIR)]


def test_the_twin_in_clear_is_what_any_player_knows() -> None:
    on_air = OnAir(order_of(NEAR, FAR, clear=10))
    on_air.say(noise(0.3))
    clear = [RtpPacket.parse(e.datagram) for e in on_air.written if (e.stream, e.kind) == (10, RTP)]
    assert {packet.payload_type for packet in clear} == {96}
    assert [packet.payload for packet in clear] == [payload for _, payload, _ in on_air.sent]
    assert {packet.ssrc % 2 for packet in clear} == {0}


@pytest.mark.parametrize("bitrate", [150_000, 200_000, 400_000])
def test_what_does_not_fit_is_left_out_and_what_goes_out_passes(bitrate: int) -> None:
    eight = tuple(n * FRAME for n in range(1, 9))
    on_air = OnAir(order_of(*eight, bitrate=bitrate))
    on_air.say(noise(0.3))
    assert max(len(entry.datagram) for entry in on_air.written) <= min(MAX_DATAGRAM, 1500 - 28)
    counts = [len(copies) for _, _, copies in on_air.sent[8:]]
    assert 0 < max(counts) < 8


def test_a_frame_as_long_as_can_be_sent_goes_alone_and_can_be_sent_again() -> None:
    order = order_of(2 * FRAME, bitrate=508_400)
    order = replace(order, streams=(replace(order.streams[0], frame_ms=20.0),))
    on_air = OnAir(order)
    on_air.say(noise(0.4))
    longest = max(len(payload) for _, payload, _ in on_air.sent)
    assert longest == 1271
    assert len(on_air.open_repairs()) == 20


# ------------------------------------------------------------------ a code instead
def coded(*copies: int) -> ProgrammeOrder:
    order = order_of(*copies)
    return replace(order, streams=(replace(order.streams[0], code=Code(4, 8)),))


def test_with_a_code_symbols_go_along_that_bring_the_frames_back() -> None:
    on_air = OnAir(coded())
    on_air.say(noise(0.3))
    frames = {start: payload for start, payload, _ in on_air.sent}
    symbols = [along for along in on_air.ear.along if isinstance(along, Symbols)]
    assert len(symbols) == len(frames) - 4
    reader = BlockReader(FRAME)
    found: dict[int, bytes] = {}
    for (start, payload, _), along in zip(on_air.sent, on_air.ear.along, strict=True):
        if start // FRAME % 3:  # every third packet is lost
            found |= dict(reader.take(start, payload))
            if isinstance(along, Symbols):
                found |= dict(reader.hear(start, along))
    lost = [start for start in frames if not start // FRAME % 3]
    assert found == {start: frames[start] for start in lost if start in found}
    assert len(found) >= len(lost) - 2  # of the last block no symbols were sent


def test_a_code_is_begun_with_copies_and_ended_at_once_and_nothing_else_changes() -> None:
    plain, on_air = OnAir(order_of(NEAR)), OnAir(order_of(NEAR))
    for each, order in ((plain, order_of(NEAR)), (on_air, coded(NEAR))):
        each.say(noise(0.1))
        each.programme.adapt(order)
        each.say(noise(0.1), START + SAMPLE_RATE // 10)
        each.programme.adapt(order_of(NEAR))
        each.say(noise(0.1), START + SAMPLE_RATE // 5)
    kinds = ["symbols" if isinstance(a, Symbols) else len(a) for a in on_air.ear.along]
    assert kinds == [0, 0, *12 * [1], *6 * ["symbols"], *10 * [1]]
    assert [sent[:2] for sent in plain.sent] == [sent[:2] for sent in on_air.sent]


def test_what_had_symbols_can_be_sent_again_without_them() -> None:
    on_air = OnAir(coded())
    on_air.say(noise(0.2))
    repaired = [(r.media_sample, r.packet.payload, r.along) for r in on_air.open_repairs()]
    assert repaired == [(start, payload, ()) for start, payload, _ in on_air.sent]


def test_frames_without_room_for_symbols_are_sent_without() -> None:
    order = order_of(bitrate=512_000)
    order = replace(order, streams=(replace(order.streams[0], code=Code(4, 8)),))
    on_air = OnAir(order)
    on_air.say(noise(0.2))
    assert max(len(entry.datagram) for entry in on_air.written) <= MAX_DATAGRAM
    assert not any(isinstance(along, Symbols) for along in on_air.ear.along)
