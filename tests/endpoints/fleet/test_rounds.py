"""Who asks the station when, and what becomes of the answers."""

import numpy as np
import pytest

from endpoints.fleet.member import Kind, Member
from endpoints.fleet.rounds import Rounds
from endpoints.station.tls import TlsPeer
from endpoints.way.path import KEEP_ALIVE_NS, QUIET_NS
from tests.support.chain import Drawn
from transport.clock.estimator import ClockEstimate
from transport.clock.exchange import answer
from transport.control.messages import VERSION, Listen, StreamSpec, Welcome
from transport.security import stun
from transport.security.keys import VerifyKey
from transport.security.session_keys import open_time, seal_time

KEY = bytes(range(32))
MS, S = 1_000_000, 1_000_000_000
AHEAD_NS = 1_790_000_000 * S
SPEC = StreamSpec("p", 1, 9, 96, 0, 20.0, False, 200.0)
GROUP = StreamSpec("g", 2, 10, 96, 0, 20.0, False, 200.0, group="239.0.0.1", port=5004)


class World:
    """Two members, a clock that is told what it shows, and what they sent."""

    def __init__(self, count: int = 2) -> None:
        self.now = 0
        self.heard = np.zeros(count, np.int64)
        self.stun: list[tuple[int, bytes, tuple[str, int]]] = []
        self.times: list[tuple[int, bytes, tuple[str, int]]] = []
        self.listening: list[tuple[int, tuple[StreamSpec, ...], int | None, int]] = []
        self.known: dict[int, int | None] = {}
        kind = Kind("wan", False, Drawn("m"))
        self.members = [Member(n, f"127.1.0.{n + 1}", kind, self, None) for n in range(count)]
        self.rounds = Rounds(
            self.members,
            self,
            lambda *sent: self.stun.append(sent),
            lambda *sent: self.times.append(sent),
        )

    # What members and rounds ask of their world.
    def now_ns(self) -> int:
        return self.now

    def of_kernel_stamp(self, realtime_ns: int) -> int | None:
        return realtime_ns

    def trust(self, station: VerifyKey, generation: int) -> None:
        pass

    def listens(
        self, index: int, specs: tuple[StreamSpec, ...], unicast_ns: int | None, group_ns: int
    ) -> None:
        self.listening.append((index, specs, unicast_ns, group_ns))

    def ask_soon(self, index: int) -> None:
        self.rounds.ask_soon(index)

    def learnt(self, index: int, estimate: ClockEstimate | None) -> None:
        self.known[index] = None if estimate is None else estimate.theirs(self.now) - self.now

    def heard_at_ns(self, index: int) -> int:
        return int(self.heard[index])

    def packets(self, index: int) -> int:
        return 12 + 0 * index

    # What the tests do.
    def welcome(self, index: int, session: int = 1) -> None:
        told = Welcome(VERSION, 1, session, KEY, 7001, 7002, 7003, time_s=10.0)
        self.members[index].welcomed("127.0.0.1", "127.1.0.1", told, TlsPeer("h", b""))

    def go(self, at_ns: int) -> None:
        self.now = at_ns
        self.rounds.go(at_ns, self.heard)

    def answer_stun(self) -> None:
        index, request, _ = self.stun.pop()
        transaction = request[8:20]
        data = stun.success(transaction, "127.1.0.1", 5000, KEY)
        self.rounds.take_stun(index, data, self.now)

    def answer_time(self, session: int = 1) -> None:
        for index, question, _ in self.times:
            there_ns = self.now + AHEAD_NS + 50_000
            said = answer(open_time(question, session, KEY), there_ns, there_ns, 1)
            self.rounds.take_time(index, seal_time(said, session, KEY), self.now + 100_000)
        self.times.clear()


@pytest.fixture
def world() -> World:
    return World()


def test_nobody_asks_before_it_was_welcomed(world: World) -> None:
    world.go(S)
    assert (world.stun, world.times) == ([], [])


def test_who_was_welcomed_asks_both_at_once_where_the_station_said(world: World) -> None:
    world.welcome(1)
    world.go(0)
    assert [(index, to) for index, _, to in world.stun] == [(1, ("127.0.0.1", 7002))]
    assert [(index, to) for index, _, to in world.times] == [(1, ("127.0.0.1", 7001))]


def test_the_way_is_asked_for_again_until_there_is_an_answer_and_then_kept_open(
    world: World,
) -> None:
    world.welcome(0)
    world.go(0)
    world.go(50 * MS)
    world.go(100 * MS)
    assert len(world.stun) == 2
    world.answer_stun()
    assert world.members[0].path.open
    world.stun.clear()
    world.go(100 * MS + KEEP_ALIVE_NS - 1)
    assert world.stun == []
    world.go(100 * MS + KEEP_ALIVE_NS)
    assert len(world.stun) == 1


def test_when_its_sound_stops_it_asks_for_the_way(world: World) -> None:
    world.welcome(0)
    world.go(0)
    world.answer_stun()
    world.heard[0] = 5 * S
    world.go(5 * S + QUIET_NS - 1)
    assert world.stun == []
    world.go(5 * S + QUIET_NS)
    assert len(world.stun) == 1
    world.answer_stun()
    world.go(5 * S + 3 * QUIET_NS)
    assert world.stun == []


def test_a_burst_of_questions_teaches_it_the_time(world: World) -> None:
    world.welcome(1)
    for number in range(8):
        world.go(number * 30 * MS)
        world.answer_time()
    assert abs((world.known[1] or 0) - AHEAD_NS) < 1_000


def test_who_rests_asks_nothing_and_takes_nothing(world: World) -> None:
    world.welcome(0)
    world.go(0)
    world.rounds.rest(0)
    world.answer_stun()
    world.answer_time()
    world.go(S)
    assert (world.stun, world.times) == ([], [])
    world.heard[0] = S
    world.go(S + QUIET_NS)
    assert world.stun == []
    assert not world.members[0].path.open
    assert not world.rounds.dropped


def test_rubbish_is_counted(world: World) -> None:
    world.welcome(0)
    world.go(0)
    world.rounds.take_stun(0, b"\x01\x01" + bytes(30), 0)
    world.rounds.take_time(0, bytes(72), 0)
    assert world.rounds.dropped.total() == 2


# ------------------------------------------------------------------ what is heard since when
def test_unicast_is_due_a_second_after_its_way_is_open_and_groups_at_once(world: World) -> None:
    world.welcome(0)
    world.members[0].declared(Listen(1, (SPEC, GROUP)))
    assert world.listening == [(0, (SPEC, GROUP), None, S)]
    world.go(100 * MS)
    world.answer_stun()
    assert world.listening[1:] == [(0, (SPEC, GROUP), 100 * MS + S, 100 * MS + S)]


def test_a_machine_that_is_off_listens_to_nothing_and_knows_nothing(world: World) -> None:
    world.welcome(0)
    world.members[0].declared(Listen(1, (SPEC,)))
    world.members[0].leave()
    assert world.listening[-1][:2] == (0, ())
    assert world.known == {0: None}


def test_telemetry_says_what_is_known(world: World) -> None:
    member = world.members[0]
    assert (member.telemetry().state, member.telemetry().way) == ("syncing", "none")
    world.welcome(0)
    world.go(0)
    world.answer_stun()
    for number in range(8):
        world.go(number * 30 * MS)
        world.answer_time()
    world.heard[0] = world.now
    told = member.telemetry()
    assert (told.state, told.way, told.packets_received) == ("playing", "udp", 12)
    world.now += 2 * S
    assert member.telemetry().state == "idle"
