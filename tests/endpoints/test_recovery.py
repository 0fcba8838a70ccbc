"""A player that asks for what it misses, and a station that answers, over two seeded links."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest

from bench.network import MS, SECOND, Burst, Impairments, Link, Outages
from codec.format import Samples
from codec.opus import Decoder, Encoder, EncoderSettings
from endpoints.player import Player
from endpoints.way.metering import Meter
from tests.support.chain import (
    BLOCK,
    MEDIA_EPOCH,
    TRUSTED,
    Drawn,
    certificate,
    human_voice,
    perfect_estimate,
    seal_of,
    snr_db,
)
from tests.support.clock import OwnClock
from transport.control.messages import Listen, StreamSpec
from transport.recovery.bundle import bundle
from transport.recovery.copies import CopyBook
from transport.recovery.request import open_request, seal_request
from transport.security.keys import SigningKey
from transport.security.sealing import SealedSender

FRAME, FRAME_MS = 960, 20
SESSION, KEY = 7, b"k" * 32
D_MS = 500
# IPv4 and UDP.
HEADERS = 28


@cache
def payloads() -> tuple[bytes, ...]:
    encoder = Encoder(EncoderSettings(frame_ms=FRAME_MS))
    sound = human_voice()[9_600:][: 300 * FRAME].reshape(-1, FRAME)
    return tuple(encoder.encode(block) for block in sound)


@cache
def reference(count: int) -> Samples:
    decoder = Decoder()
    return np.concatenate([decoder.decode(payloads()[n % 300]) for n in range(count)])


class Station:
    """Says a frame each 20 ms, and says again what it is asked for: twice, 20 ms apart."""

    def __init__(self, epoch_packets: int = 10_000, offsets: Sequence[int] = ()) -> None:
        key = SigningKey(b"a" * 32)
        self.sender = SealedSender(
            key, 1, 12_345, FRAME_MS, "station", lambda: 0.5, Drawn("a"), epoch_packets
        )
        self.certificate = certificate(key.public, 1)
        self._offsets = offsets
        self._book = CopyBook()
        self._kept: dict[tuple[int, int], bytes] = {}
        self._answers: list[tuple[int, bytes]] = []
        self._held_ns: dict[tuple[int, int], int] = {}
        self.asked = 0

    def spec(self) -> StreamSpec:
        plain = StreamSpec("p", 1, self.sender.ssrc, 96, 12_345, FRAME_MS, False, D_MS)
        return replace(plain, seal=seal_of(self.sender, self.certificate))

    def packet(self, index: int) -> bytes:
        media_sample = MEDIA_EPOCH + index * FRAME
        copies = self._book.copies(media_sample, self._offsets, 1_000)
        payload = payloads()[index % 300]
        data = self.sender.packet(payload, media_sample, copies)
        self._book.remember(media_sample, payload)
        ssrc, sequence = int.from_bytes(data[8:12]), int.from_bytes(data[2:4])
        self._kept[ssrc, sequence] = self.sender.repair()
        return data

    def take(self, request: bytes, now_ns: int) -> None:
        wanted = open_request(request, SESSION, KEY)
        found = []
        for key in ((one.ssrc, sequence) for one in wanted for sequence in one.sequences):
            self.asked += 1
            if key in self._kept and now_ns - self._held_ns.get(key, -SECOND) >= 40 * MS:
                self._held_ns[key] = now_ns
                found.append(self._kept[key])
        for data in bundle(found):
            self._answers += [(now_ns, data), (now_ns + 20 * MS, data)]

    def answers(self, now_ns: int) -> list[bytes]:
        self._answers.sort(key=lambda answer: answer[0])
        due = [data for at_ns, data in self._answers if at_ns <= now_ns]
        self._answers = [answer for answer in self._answers if answer[0] > now_ns]
        return due


@dataclass
class Came:
    """Bytes that reached the loudspeaker in each millisecond, headers included."""

    sound: list[int]
    repairs: list[int]


class World:
    """Station, loudspeaker, and what is between them, in steps of a millisecond."""

    def __init__(
        self,
        station: Station,
        down: Impairments,
        up: Impairments,
        *,
        seed: int = 1,
        asks: bool = True,
        own: OwnClock | None = None,
        meter: Meter | None = None,
        frames: int = 1 << 30,
    ) -> None:
        """After so many frames the station says goodbye."""
        rng = np.random.default_rng(seed)
        self.station = station
        self.own = own or OwnClock()
        estimate = perfect_estimate(self.own)
        self.player = Player(lambda: estimate)
        self.player.trust(*TRUSTED)
        self.down, self.up = Link(down, rng), Link(up, rng)
        self._asks, self._meter = asks, meter
        self._frames = frames
        self.lose: set[int] = set()
        self.came = Came([], [])
        self._declare()

    def _declare(self) -> None:
        self.player.declare(Listen(1, (self.station.spec(),)))

    def run(self, seconds: float) -> Samples:
        """What is heard; the sample that is captured at 0 sounds at D."""
        blocks, played = [], 0
        for now_ns in range(0, round(seconds * SECOND), MS):
            self._say(now_ns)
            self._hear(now_ns)
            self._ask(now_ns)
            if now_ns % (5 * MS) == 0:
                blocks.append(self.player.pull(BLOCK, self.own.of_true(now_ns + 5 * MS)))
                played += BLOCK
        return np.concatenate(blocks)[(D_MS - 5) * 48 :]

    def _say(self, now_ns: int) -> None:
        index, rest = divmod(now_ns, FRAME_MS * MS)
        if not rest and 0 < index <= self._frames:  # it is whole when its last sample was captured
            packet = self.station.packet(index - 1)
            if index - 1 not in self.lose:
                self.down.send(packet, now_ns)
            self._declare()
        elif not rest and index == self._frames + 1:
            self.down.send(self.station.sender.bye(), now_ns)
        for data in self.station.answers(now_ns):
            self.down.send(data, now_ns)

    def _hear(self, now_ns: int) -> None:
        self.came.sound.append(0)
        self.came.repairs.append(0)
        for at_ns, data in self.down.due(now_ns):
            own_ns = self.own.of_true(at_ns)
            if self._meter is not None:
                self._meter.came(data, own_ns)
            (self.came.repairs if data[0] == 0x41 else self.came.sound)[-1] += HEADERS + len(data)
            self.player.receive(data, own_ns)

    def _ask(self, now_ns: int) -> None:
        own_ns = self.own.of_true(now_ns)
        due_ns = self.player.next_request_ns()
        if self._asks and due_ns is not None and due_ns <= own_ns:
            wanted = self.player.requests(own_ns)
            if self._meter is not None:
                wanted = self._meter.allowed(
                    wanted,
                    own_ns,
                    packets_a_second=self.player.packets_a_second(own_ns),
                    round_trip_ns=self.player.round_trip_ns,
                )
            if wanted:
                request = seal_request(wanted, SESSION, KEY)
                self.up.send(request, now_ns)
        for at_ns, data in self.up.due(now_ns):
            self.station.take(data, at_ns)


def expected(heard: Samples) -> Samples:
    return reference(len(heard) // FRAME + 1)[: len(heard)]


def flawless(heard: Samples) -> bool:
    """But for the first 5 ms, where a voice fades in."""
    after = slice(FRAME, len(heard) - 2 * FRAME)
    return snr_db(heard[after], expected(heard)[after]) > 100


LOSSY = Impairments(loss=0.3, delay_ns=50 * MS)
PERFECT = Impairments(delay_ns=50 * MS)


# ------------------------------------------------------------------ what comes back
@pytest.mark.parametrize("own", [OwnClock(), OwnClock(-3_600.0, 50.0)], ids=["right", "wrong"])
def test_at_thirty_percent_of_loss_both_ways_all_is_heard(own: OwnClock) -> None:
    world = World(Station(), LOSSY, LOSSY, own=own)
    assert flawless(world.run(8)) or own.skew_ppm  # a servo at work shifts by part of a sample
    counts = world.player.counts()
    assert counts["lost"] > 80
    assert counts["concealed"] == 0
    assert abs(counts["recovered_repair"] - counts["lost"]) <= 25  # some are still under way
    assert {key for key in counts if key.startswith("dropped")} <= {"dropped_late"}


def test_without_requests_it_is_concealed() -> None:
    world = World(Station(), LOSSY, PERFECT, asks=False)
    assert not flawless(world.run(6))
    counts = world.player.counts()
    assert counts["concealed"] > 50
    assert counts["recovered_repair"] == 0


def test_what_an_epoch_ended_with_is_asked_for_by_its_own_ssrc() -> None:
    world = World(Station(epoch_packets=40), LOSSY, PERFECT)
    heard = world.run(5)
    assert world.player.counts()["concealed"] == 0
    assert flawless(heard)


def test_a_gap_of_400_ms_comes_back_from_copies_alone() -> None:
    far = (D_MS - 80) // FRAME_MS * FRAME
    path = Impairments(delay_ns=5 * MS, outages=Outages(2 * SECOND, 400 * MS, 400 * MS))
    world = World(Station(offsets=(far,)), path, PERFECT, asks=False)
    heard = world.run(8)
    counts = world.player.counts()
    assert counts["lost"] >= 60
    assert counts["recovered_copy"] >= counts["lost"]
    assert counts["concealed"] == 0
    assert flawless(heard)


def test_copies_and_repairs_together_bridge_what_neither_does_alone() -> None:
    path = Impairments(burst=Burst(0.2, 100 * MS), delay_ns=50 * MS)
    concealed = []
    for offsets, asks in (((), False), ((20 * FRAME,), False), ((), True), ((20 * FRAME,), True)):
        world = World(Station(offsets=offsets), path, path, seed=3, asks=asks)
        world.run(7)
        concealed.append(world.player.counts()["concealed"])
    neither, copies, repairs, both = concealed
    assert neither > 40
    assert both < min(copies, repairs) < max(copies, repairs) < neither


def test_on_a_perfect_way_nothing_is_asked_for() -> None:
    world = World(Station(), PERFECT, PERFECT)
    world.run(5)
    assert world.up.sent == 0


def test_what_is_lost_is_told_as_it_was_before_repair() -> None:
    world = World(Station(), LOSSY, PERFECT)
    world.run(10)
    told = world.player.losses(world.own.of_true(10 * SECOND))
    assert told.loss == pytest.approx(0.3, abs=0.06)
    assert 40 <= told.longest_burst_ms <= 200
    assert told.jitter_ms < 1


def test_after_a_goodbye_nobody_asks_for_what_never_was() -> None:
    world = World(Station(), PERFECT, PERFECT, frames=100)
    world.run(4)
    assert world.up.sent == 0


@pytest.mark.parametrize("lost", [1, 3])
def test_the_last_frames_before_a_goodbye_come_back_as_well(lost: int) -> None:
    world = World(Station(), PERFECT, PERFECT, frames=100)
    world.lose = set(range(100 - lost, 100))
    world.run(4)
    assert world.player.counts()["recovered_repair"] == lost
    assert world.station.asked <= 4 * lost


# ------------------------------------------------------------------ where each byte is paid for
def most_in_a_second(came: Sequence[int]) -> int:
    """In kilobits."""
    sums = np.convolve(np.array(came), np.ones(1_000, np.int64))
    return int(sums.max()) * 8 // 1000


@pytest.mark.parametrize("max_kbps", [80, 100, 120])
@pytest.mark.parametrize(
    "path",
    [LOSSY, Impairments(delay_ns=50 * MS, outages=Outages(2 * SECOND, 100 * MS, 400 * MS))],
    ids=["random", "outages"],
)
def test_recovery_never_exceeds_the_limit(max_kbps: int, path: Impairments) -> None:
    meter = Meter(max_kbps)
    world = World(Station(), path, PERFECT, meter=meter)
    world.run(6)
    came = np.add(world.came.sound, world.came.repairs).tolist()
    assert most_in_a_second(came) <= max_kbps
    assert meter.withheld > 0


def test_what_the_limit_leaves_is_used() -> None:
    kbps, recovered = [], []
    for meter in (Meter(80), Meter(100), Meter(200), None):
        world = World(Station(), LOSSY, PERFECT, meter=meter)
        world.run(5)
        kbps.append(most_in_a_second(np.add(world.came.sound, world.came.repairs).tolist()))
        recovered.append(world.player.counts()["recovered_repair"])
    assert recovered[0] < recovered[1] < recovered[2]
    assert (kbps[2], recovered[2]) == (kbps[3], recovered[3])


def test_where_sound_alone_takes_more_than_the_limit_nothing_is_asked_for() -> None:
    world = World(Station(), LOSSY, PERFECT, meter=Meter(20))
    world.run(4)
    assert world.up.sent == 0
