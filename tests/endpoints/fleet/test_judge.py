"""What the judge counts follows from what was sent to whom, and when it came."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from endpoints.fleet.figures import Heard
from endpoints.fleet.judge import SETTLED_NS, Judge
from tests.support.chain import TRUSTED, Drawn, certificate, seal_of
from transport.clock.timeline import NS_PER_MS as MS
from transport.clock.timeline import NS_PER_SECOND as SECOND
from transport.clock.timeline import ns_of_samples
from transport.control.messages import StreamSpec
from transport.errors import MalformedPacket
from transport.recovery.copies import Copy
from transport.security.keys import SigningKey
from transport.security.sealing import SealedSender

KEY = SigningKey(b"k" * 32)
SERIAL, OFFSET, FRAME = 7, 12_345, 960
FIRST = 1_790_000_000 * 48_000
# The media clock is ahead of this machine's by so much.
AHEAD_NS = 1_000_000 * SECOND
D_MS = 200.0
EVERYBODY = (0, 1, 2)


class World:
    """Three loudspeakers, one stream, and a clock that is told what it shows."""

    def __init__(self, count: int = 3) -> None:
        self.sender = SealedSender(
            KEY, SERIAL, OFFSET, 20.0, "station", lambda: 0.5, Drawn("a"), 100
        )
        self.judge = Judge(count)
        self.judge.streams.trust(*TRUSTED)
        for index in range(count):
            self.judge.learn(index, AHEAD_NS)
            self.listen(index)

    def spec(self) -> StreamSpec:
        plain = StreamSpec("p", 1, self.sender.ssrc, 96, OFFSET, 20.0, False, D_MS)
        return replace(plain, seal=seal_of(self.sender, certificate(self.sender.public, SERIAL)))

    def listen(self, index: int, since_ns: int = 0, at_ns: int = 0) -> None:
        self.judge.listens(index, (self.spec(),), at_ns, since_ns, since_ns)

    def packet(self, number: int) -> bytes:
        return self.sender.packet(bytes(60), FIRST + number * FRAME)

    def arrive(
        self, datagram: bytes, indices: Sequence[int], late_ms: float, number: int = 0
    ) -> None:
        """At so many ms after the frame's media time."""
        self.arrive_each(datagram, indices, [late_ms] * len(indices), number)

    def arrive_each(
        self, datagram: bytes, indices: Sequence[int], late_ms: Sequence[float], number: int = 0
    ) -> None:
        data = np.zeros((len(indices), 2048), np.uint8)
        data[:, : len(datagram)] = np.frombuffer(datagram, np.uint8)
        times = [sent_ns(number) + round(late * MS) for late in late_ms]
        self.judge.take(
            np.array(indices, np.int64),
            data,
            np.full(len(indices), len(datagram), np.int64),
            np.array(times, np.int64),
        )

    def run(self, numbers: range, indices: Sequence[int] = EVERYBODY, late_ms: float = 30) -> None:
        for number in numbers:
            self.arrive(self.packet(number), indices, late_ms, number)

    def heard(self, number: int = 1_000) -> Heard:
        """All figures, long after frame `number`."""
        self.judge.settle(sent_ns(number) + 2 * SETTLED_NS)
        return self.judge.heard()


def sent_ns(number: int) -> int:
    return ns_of_samples(FIRST + number * FRAME) - AHEAD_NS


@pytest.fixture
def world() -> World:
    return World()


# ------------------------------------------------------------------ what is expected
def test_what_came_to_all_is_all_there_is_to_expect(world: World) -> None:
    world.run(range(10))
    heard = world.heard()
    assert (heard.expected, heard.received, heard.lost) == (30, 30, 0)
    assert (heard.duplicate, heard.corrupt, heard.stray, heard.too_late) == (0, 0, 0, 0)


def test_a_copy_that_did_not_come_is_lost(world: World) -> None:
    world.run(range(5))
    world.run(range(5, 8), indices=(0, 2))
    heard = world.heard()
    assert (heard.expected, heard.received, heard.lost) == (24, 21, 3)


def test_a_frame_that_came_to_nobody_is_lost_to_all(world: World) -> None:
    world.run(range(5))
    world.packet(5)
    world.run(range(6, 8))
    heard = world.heard()
    assert (heard.expected, heard.received, heard.lost) == (24, 21, 3)


def test_packets_with_copies_are_judged_as_those_without(world: World) -> None:
    copies = (Copy(FRAME, bytes(60)), Copy(10 * FRAME, bytes(50)))
    for number in range(10):
        data = world.sender.packet(bytes(60), FIRST + number * FRAME, copies if number % 2 else ())
        world.arrive(data, EVERYBODY if number != 5 else (0, 2), 30, number)
    heard = world.heard()
    assert (heard.expected, heard.received, heard.lost) == (30, 29, 1)
    assert (heard.duplicate, heard.corrupt, heard.stray) == (0, 0, 0)


def test_a_packet_whose_copies_were_changed_is_corrupt(world: World) -> None:
    world.run(range(3))
    data = world.sender.packet(bytes(60), FIRST + 3 * FRAME, (Copy(FRAME, bytes(60)),))
    world.arrive(data, (0,), 30, 3)
    world.arrive(data[:-40] + bytes(1) + data[-39:], (1,), 30, 3)
    assert world.heard().corrupt == 1


def test_a_repair_that_nobody_asked_for_is_no_frame_of_its_own(world: World) -> None:
    for number in range(10):
        world.arrive(world.packet(number), EVERYBODY, 30, number)
        world.arrive(world.sender.repair(), (1,), 130, number)
    heard = world.heard()
    assert (heard.expected, heard.received, heard.lost) == (30, 30, 0)
    assert (heard.duplicate, heard.stray) == (0, 10)


def test_the_first_frame_of_the_next_epoch_is_expected_too(world: World) -> None:
    world.run(range(98))
    world.packet(98), world.packet(99), world.packet(100)
    world.run(range(101, 110))
    # Of the last two of the first epoch nobody can know here; the second begins at sequence 0.
    assert world.heard().lost == 3


def test_a_frame_that_comes_after_its_successor_is_no_loss(world: World) -> None:
    packets = [world.packet(number) for number in range(4)]
    for number in (0, 2, 1, 3):
        world.arrive(packets[number], EVERYBODY, 50, number)
    heard = world.heard()
    assert (heard.expected, heard.received, heard.lost) == (12, 12, 0)


def test_nothing_is_expected_before_a_loudspeaker_has_heard_or_should_have() -> None:
    world = World(count=2)
    for index in (0, 1):
        world.judge.listens(index, (), 0, None, 0)
        world.listen(index, since_ns=sent_ns(6))
    world.run(range(3), indices=(0,))
    world.run(range(3, 10), indices=(0, 1))
    heard = world.heard()
    assert (heard.expected, heard.received) == (10 + 7, 17)


def test_whoever_hears_nothing_though_it_should_have_lost_all_from_then_on() -> None:
    world = World(count=2)
    world.judge.listens(1, (), 0, None, 0)
    world.listen(1, since_ns=sent_ns(6))
    world.run(range(10), indices=(0,))
    # From 30 ms after the media time of the fifth on.
    assert world.heard().lost == 5


def test_whoever_is_told_to_listen_no_more_has_lost_nothing_since(world: World) -> None:
    world.run(range(5))
    world.judge.listens(1, (), sent_ns(5), None, 0)
    world.run(range(5, 10), indices=(0, 2))
    assert world.heard().lost == 0


def test_to_be_told_the_same_again_changes_nothing(world: World) -> None:
    world.run(range(5))
    world.judge.listens(1, (world.spec(),), sent_ns(5), sent_ns(900), sent_ns(900))
    world.run(range(5, 10), indices=(0, 2))
    assert world.heard().lost == 5


def test_what_is_deaf_is_not_expected_to_hear_and_is_again_afterwards(world: World) -> None:
    world.run(range(50))
    world.judge.deafen(2, sent_ns(50), deaf=True)
    world.run(range(50, 100))
    world.judge.deafen(2, sent_ns(100), deaf=False)
    world.run(range(100, 150), indices=(0, 1))
    heard = world.heard()
    # But for a fifth of a second, in which it may or may not have heard.
    assert 35 <= heard.lost <= 42
    assert heard.received == 2 * 150 + 50


# ------------------------------------------------------------------ what is no good
def test_a_copy_that_comes_twice_is_received_once(world: World) -> None:
    packet = world.packet(0)
    world.arrive(packet, (0, 1, 2, 1), 30)
    world.arrive(packet, (0,), 40)
    heard = world.heard()
    assert (heard.received, heard.duplicate) == (3, 2)


def test_a_copy_of_which_a_bit_differs_is_corrupt_and_not_received(world: World) -> None:
    packet = world.packet(0)
    world.arrive(packet, (0, 1), 30)
    world.arrive(packet[:-1] + bytes([packet[-1] ^ 1]), (2,), 30)
    heard = world.heard()
    assert (heard.received, heard.corrupt, heard.lost) == (2, 1, 1)


def test_a_copy_that_is_cut_off_is_corrupt(world: World) -> None:
    packet = world.packet(0)
    world.arrive(packet, (0, 1), 30)
    world.arrive(packet[:-1], (2,), 30)
    assert world.heard().corrupt == 1


def test_a_forgery_that_comes_first_does_not_pass_for_the_original(world: World) -> None:
    packet = world.packet(0)
    forged = packet[:-1] + bytes([packet[-1] ^ 1])
    world.arrive(forged, (0, 1), 29)
    world.arrive(packet, EVERYBODY, 30)
    heard = world.heard()
    assert (heard.received, heard.corrupt, heard.lost) == (3, 2, 0)


def test_the_original_is_found_among_forgeries_of_one_moment(world: World) -> None:
    packet = world.packet(0)
    data = np.zeros((4, 2048), np.uint8)
    data[:, : len(packet)] = np.frombuffer(packet, np.uint8)
    data[(0, 1), len(packet) - 1] ^= np.array([1, 2], np.uint8)
    lengths, arrivals_ns = np.full(4, len(packet)), np.full(4, sent_ns(0) + 30 * MS)
    world.judge.take(np.array([0, 1, 1, 2]), data, lengths, arrivals_ns)
    heard = world.heard()
    assert (heard.received, heard.corrupt, heard.lost) == (2, 2, 1)


def test_a_copy_of_what_was_judged_already_is_stray(world: World) -> None:
    packet = world.packet(0)
    world.arrive(packet, (0, 1), 30)
    world.judge.settle(sent_ns(0) + 2 * SETTLED_NS)
    world.arrive(packet, (2,), 2 * SETTLED_NS / MS)
    heard = world.heard()
    assert (heard.received, heard.lost, heard.stray, heard.corrupt) == (2, 1, 1, 0)


def test_a_forged_sequence_number_makes_nothing_expected(world: World) -> None:
    world.run(range(5))
    packet = world.packet(5)
    world.arrive(packet[:2] + (500).to_bytes(2) + packet[4:], EVERYBODY, 30, 5)
    heard = world.heard()
    assert (heard.expected, heard.corrupt) == (15, 3)


def test_what_is_of_no_stream_that_is_known_is_stray(world: World) -> None:
    packet = world.packet(0)
    world.arrive(packet[:8] + b"\0\0\0\1" + packet[12:], EVERYBODY, 30)
    assert (world.heard().stray, world.heard().expected) == (3, 0)


def test_what_is_for_nobody_here_counts_for_nothing(world: World) -> None:
    world.arrive(world.packet(0), (-1, -1), 30)
    assert world.heard() == Heard()


def test_a_stream_that_the_station_did_not_certify_is_not_listened_to(world: World) -> None:
    forged = replace(world.spec(), ssrc=99, test=True)
    with pytest.raises(MalformedPacket, match="certificate"):
        world.judge.listens(0, (forged,), 0, 0, 0)
    assert [stream.spec.ssrc for stream in world.judge.streams] == [world.sender.ssrc]


# ------------------------------------------------------------------ how late
def test_late_is_later_than_the_quickest_to_the_same_loudspeaker_in_that_second(
    world: World,
) -> None:
    for number in range(40):
        late = 25.0 if number == 7 else 5.0
        world.arrive_each(world.packet(number), (0, 1), (late, 105.0), number)
    heard = world.heard()
    assert heard.late_max_ms == 20.0
    assert heard.late_p50_ms < 0.011
    assert heard.late_p99_ms == 20.0  # one of eighty


def test_transit_is_from_media_time_by_the_stations_clock(world: World) -> None:
    world.judge.learn(1, AHEAD_NS + 10 * MS)
    world.arrive(world.packet(0), (0, 1), 30)
    heard = world.heard()
    assert heard.transit_p50_ms == pytest.approx(30.0, rel=0.06)
    assert heard.transit_p99_ms == 40.0


def test_too_late_is_later_than_d(world: World) -> None:
    world.arrive_each(world.packet(0), EVERYBODY, (D_MS - 1, D_MS, D_MS + 1))
    assert world.heard().too_late == 1


def test_who_does_not_know_the_time_yet_says_nothing_of_transit(world: World) -> None:
    world.judge.learn(0, None)
    world.arrive(world.packet(0), (0,), 30)
    heard = world.heard()
    assert (heard.received, heard.transit_p99_ms) == (1, 0.0)


def test_nothing_opens_while_nobody_knows_the_time(world: World) -> None:
    for index in EVERYBODY:
        world.judge.learn(index, None)
    world.arrive(world.packet(0), EVERYBODY, 30)
    assert world.heard().received == 0


def test_the_longest_gap_is_anybodys_longest_silence(world: World) -> None:
    world.run(range(5))
    world.run(range(5, 10), indices=(0, 1))
    world.run(range(10, 15))
    assert world.heard().longest_gap_ms == 120.0
    assert world.judge.details().gaps_ms == [20.0, 20.0, 120.0]


def test_who_hears_no_more_while_others_do_is_in_a_gap(world: World) -> None:
    world.run(range(5))
    world.run(range(5, 30), indices=(0, 1))
    assert world.judge.details().gaps_ms == [20.0, 20.0, 500.0]


# ------------------------------------------------------------------ the window
def test_only_frames_that_first_came_after_the_beginning_count(world: World) -> None:
    packets = [world.packet(number) for number in range(10)]
    for number in range(5):
        world.arrive(packets[number], (0, 1), 30, number)
    world.judge.begin(sent_ns(5))
    world.arrive(packets[4], (2,), 90, 4)
    for number in range(5, 10):
        world.arrive(packets[number], EVERYBODY, 30, number)
    heard = world.heard()
    assert (heard.expected, heard.received) == (15, 15)
    assert heard.late_max_ms == 0.0
    # The one that belongs to no window counts as a sign of life all the same.
    assert heard.longest_gap_ms <= 60.0


def test_a_gap_that_began_before_the_window_counts_from_its_beginning(world: World) -> None:
    world.run(range(5))
    world.judge.begin(sent_ns(50))
    world.run(range(55, 60))
    assert world.heard().longest_gap_ms == 130.0


def test_frames_that_may_still_come_are_not_judged_yet(world: World) -> None:
    world.run(range(5), indices=(0, 1))
    world.judge.settle(sent_ns(5))
    assert world.judge.heard().expected == 0
    world.arrive(world.packet(5), EVERYBODY, 30, 5)
    assert world.heard().lost == 5
