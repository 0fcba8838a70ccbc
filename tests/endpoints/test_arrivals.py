"""Which packets the clock is told of: those of a group that only the station can have made."""

from dataclasses import replace

import numpy as np
import pytest

from codec.format import SAMPLE_RATE
from endpoints.player import Player
from tests.support.chain import TRUSTED, Programme, perfect_estimate
from tests.support.clock import MEDIA_EPOCH_NS, OwnClock
from transport.clock.timeline import ns_of_samples
from transport.control.messages import Listen, StreamSpec
from transport.recovery.bundle import bundle

MS, SECOND = 1_000_000, 1_000_000_000
OWN = OwnClock(5.0)
VOICE = (0.3 * np.sin(np.arange(2 * SAMPLE_RATE) * 0.05)).astype(np.float32)
BLOCK = 960
LATE_NS = 300_000


def by_group(programme: Programme) -> StreamSpec:
    return replace(programme.spec, group="239.1.2.3", port=5004)


class Listening:
    """A player that hears a programme, and what its clock is told of."""

    def __init__(self, programme: Programme, spec: StreamSpec) -> None:
        self.told: list[tuple[int, int, int]] = []
        self.player = Player(
            lambda: perfect_estimate(OWN), arrived=lambda *what: self.told.append(what)
        )
        self.player.trust(*TRUSTED)
        self.player.declare(Listen(1, (spec,)))
        self._played = 0
        self._programme = programme

    def pull_until(self, true_ns: int) -> None:
        while (at_ns := self._played * SECOND // SAMPLE_RATE) < true_ns:
            self.player.pull(BLOCK, OWN.of_true(at_ns))
            self._played += BLOCK

    def hear(self, begin: int, end: int, *, came: bool = True) -> None:
        for packet in self._programme.packets[begin:end]:
            self.pull_until(packet.true_ns)
            at_ns = OWN.of_true(packet.true_ns + LATE_NS)
            self.player.receive(packet.data, at_ns + 2 * MS, at_ns if came else None)


def expected(programme: Programme, begin: int, end: int) -> list[tuple[int, int, int]]:
    return [
        (
            programme.spec.ssrc,
            ns_of_samples(programme.start + number * programme.frame),
            OWN.of_true(programme.packets[number].true_ns + LATE_NS),
        )
        for number in range(begin, end)
    ]


@pytest.fixture
def sealed() -> Programme:
    return Programme(VOICE, sealed=True, delay_ms=100, copies=(960,))


def test_packets_of_the_group_that_is_heard_are_told_with_their_media_time(
    sealed: Programme,
) -> None:
    """From when it is heard on: the first are waiting for their time."""
    here = Listening(sealed, by_group(sealed))
    here.hear(0, 60)
    first = 60 - len(here.told)
    assert 4 <= first <= 8
    assert here.told == expected(sealed, first, 60)
    assert here.told[0][1] > MEDIA_EPOCH_NS


def test_new_epochs_are_of_the_same_stream() -> None:
    programme = Programme(VOICE, sealed=True, delay_ms=100, epoch_packets=20)
    here = Listening(programme, by_group(programme))
    begin = 0
    for at_ns, spec in programme.told[1:]:
        end = next(n for n, packet in enumerate(programme.packets) if packet.true_ns > at_ns)
        here.hear(begin, end)
        here.player.declare(Listen(1, (replace(spec, group="239.1.2.3", port=5004),)))
        begin = end
    assert {stream for stream, _, _ in here.told} == {programme.spec.ssrc}
    assert len(here.told) > 40


def test_without_the_kernels_stamp_nothing_is_told(sealed: Programme) -> None:
    here = Listening(sealed, by_group(sealed))
    here.hear(0, 60, came=False)
    assert here.player.hearing
    assert here.told == []


def test_of_a_stream_by_unicast_nothing_is_told(sealed: Programme) -> None:
    here = Listening(sealed, sealed.spec)
    here.hear(0, 60)
    assert here.player.hearing
    assert here.told == []


def test_of_a_stream_in_clear_nothing_is_told() -> None:
    clear = Programme(VOICE, delay_ms=100)
    here = Listening(clear, by_group(clear))
    here.hear(0, 60)
    assert here.player.hearing
    assert here.told == []


def test_what_is_replayed_forged_or_repaired_is_not_told(sealed: Programme) -> None:
    here = Listening(sealed, by_group(sealed))
    here.hear(0, 50)
    before = list(here.told)
    at_ns = OWN.of_true(sealed.packets[50].true_ns)
    forged = bytearray(sealed.packets[50].data)
    forged[30] ^= 1
    for data in (
        sealed.packets[40].data,
        bytes(forged),
        sealed.repairs[51].data,
        next(iter(bundle([sealed.repairs[52].data, sealed.packets[53].data]))),
        b"",
        b"\x80" * 12,
    ):
        here.player.receive(data, at_ns, at_ns)
    assert here.told == before


def test_a_packet_that_came_too_late_to_sound_is_told(sealed: Programme) -> None:
    """It is as authentic as any, and harms no more than any that waited."""
    here = Listening(sealed, by_group(sealed))
    here.hear(0, 30)
    here.hear(31, 60)
    before = len(here.told)
    late_ns = OWN.of_true(sealed.packets[59].true_ns)
    here.player.receive(sealed.packets[30].data, late_ns, late_ns)
    assert len(here.told) == before + 1


def test_of_two_streams_only_the_one_that_is_heard_is_told() -> None:
    quiet = Programme(VOICE, sealed=True, delay_ms=100, order=1, priority=1)
    loud = Programme(VOICE, sealed=True, delay_ms=100, order=2, priority=4)
    told: list[int] = []
    player = Player(lambda: perfect_estimate(OWN), arrived=lambda stream, *_: told.append(stream))
    player.trust(*TRUSTED)
    specs = tuple(
        replace(said.spec, group=f"239.1.2.{number}", port=5004)
        for number, said in enumerate((quiet, loud))
    )
    player.declare(Listen(1, specs))
    for number in range(60):
        for said in (quiet, loud):
            packet = said.packets[number]
            player.receive(packet.data, OWN.of_true(packet.true_ns), OWN.of_true(packet.true_ns))
        player.pull(BLOCK, OWN.of_true(number * 20 * MS))
    assert set(told) == {loud.spec.ssrc}
