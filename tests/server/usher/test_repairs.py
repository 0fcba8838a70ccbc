"""Answers to requests: what is there, to who may ask, twice, and no more than their share."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.processes.ring import REPAIR, RTP, Entry
from server.processes.routing import Route, Routes, pack_destination
from server.usher import repairs as module
from server.usher.crowd import PRIVATELY
from server.usher.paths import Address
from server.usher.repairs import (
    AGAIN_NS,
    HOLD_NS,
    MAX_KEPT,
    MAX_QUEUED,
    MAX_TO_GROUPS,
    Repairs,
)
from server.usher.share import BYTES_A_SECOND, BYTES_AT_ONCE
from transport.recovery.bundle import unbundle
from transport.recovery.request import Wanted, seal_request
from transport.rtp.packet import repair_ssrc
from transport.security.session_keys import session_key

MS, S = 1_000_000, 1_000_000_000
NOW = 1_000 * S
SECRET = bytes(range(32))
ONE, TWO = 1 << 24 | 17, 2 << 24 | 17
HOMES = {ONE: ("192.0.2.7", 5_004), TWO: ("2001:db8::7", 5_004)}
# Of whom some hear the stream by its group.
MANY = {n << 24 | 17: (f"198.51.100.{n}", 5_004) for n in range(3, 100)}
GROUP = ("239.192.76.1", 7_470)
SSRC = 0xCAFE_0000


def repair(sequence: int, ssrc: int = SSRC, size: int = 190) -> bytes:
    head = b"\x80\x62" + sequence.to_bytes(2) + bytes(4) + repair_ssrc(ssrc).to_bytes(4)
    return head.ljust(size, b"\x5a")


class Station:
    """Repairs, and the ring they read."""

    def __init__(self) -> None:
        self.written: list[Entry] = []
        self.repairs = Repairs(self._read, SECRET)

    def _read(self) -> list[Entry]:
        entries, self.written = self.written, []
        return entries

    def write(self, *packets: bytes) -> None:
        self.written += [Entry(1, REPAIR, packet) for packet in packets]

    def ask(
        self,
        *sequences: int,
        session: int = ONE,
        ssrc: int = SSRC,
        now_ns: int = NOW,
        source: Address | None = None,
        key: bytes | None = None,
    ) -> None:
        key = session_key(SECRET, session) if key is None else key
        data = seal_request([Wanted(ssrc, sequences)], session, key)
        self.receive(data, source or HOMES[session], now_ns)

    def receive(self, data: bytes, source: Address, now_ns: int = NOW) -> None:
        self.repairs.receive(data, source, now_ns, (HOMES | MANY).get)

    def declare(self, *apart: Address) -> None:
        """It goes to its group, and to these alone."""
        rows = [pack_destination(host, port, port) for host, port in apart]
        there = pack_destination(*GROUP, GROUP[1] + 1) + b"".join(rows)
        self.repairs.declare(Routes((Route(1, 10.0, there),)))

    def ask_all(self, *sequences: int, first: int = 0, many: int, now_ns: int = NOW) -> None:
        for session in list(MANY)[first : first + many]:
            self.ask(*sequences, session=session, source=MANY[session], now_ns=now_ns)

    def next_due_ns(self) -> int | None:
        return self.repairs.next_due_ns

    def sent(self, now_ns: int = NOW) -> list[tuple[tuple[bytes, ...], Address]]:
        return [(unbundle(data), address) for data, address in self.repairs.due(now_ns)]


@pytest.fixture
def station() -> Station:
    return Station()


def test_what_is_asked_for_is_sent_at_once_and_once_more(station: Station) -> None:
    station.write(repair(5), repair(6), repair(7))
    station.ask(5, 7)
    both = [((repair(5), repair(7)), HOMES[ONE])]
    assert station.next_due_ns() == NOW
    assert station.sent() == both
    assert station.next_due_ns() == NOW + AGAIN_NS
    assert station.sent(NOW + AGAIN_NS - 1) == []
    assert station.sent(NOW + AGAIN_NS) == both
    assert station.next_due_ns() is None
    counted = station.repairs
    assert (counted.requests, counted.packets, counted.bundles) == (1, 2, 2)


def test_the_same_is_not_sent_again_within_the_hold_and_then_it_is(station: Station) -> None:
    station.write(repair(5), repair(6))
    station.ask(5)
    station.ask(5, 6, now_ns=NOW + 10 * MS)
    assert [packets for packets, _ in station.sent(NOW + 10 * MS)] == [(repair(5),), (repair(6),)]
    station.sent(NOW + S)
    station.ask(5, now_ns=NOW + HOLD_NS - 1)
    assert station.next_due_ns() is None
    station.ask(5, now_ns=NOW + HOLD_NS)
    assert station.repairs.packets == 3


def test_what_one_was_sent_another_may_have_as_well(station: Station) -> None:
    station.write(repair(5))
    station.ask(5)
    station.ask(5, session=TWO)
    assert {address for _, address in station.sent()} == set(HOMES.values())


def test_what_is_not_there_is_counted_and_nothing_is_sent(station: Station) -> None:
    station.write(repair(5))
    station.ask(6)
    station.ask(5, ssrc=SSRC + 2)
    station.ask(5, ssrc=repair_ssrc(SSRC))
    assert station.repairs.unknown == 3
    assert station.sent() == []


def test_what_is_no_repair_is_never_sent_again(station: Station) -> None:
    station.written = [Entry(1, RTP, repair(5)), Entry(1, REPAIR, repair(6)[:11])]
    station.ask(5, 6)
    assert station.repairs.unknown == 2


def test_who_has_another_key_or_no_path_there_is_refused(station: Station) -> None:
    station.write(repair(5))
    station.ask(5, key=bytes(32))
    station.ask(5, source=HOMES[TWO])
    station.ask(5, source=(HOMES[ONE][0], 5_006))
    station.ask(5, session=3 << 24, source=HOMES[ONE])
    assert station.repairs.refused == 4
    assert station.repairs.requests == 0
    assert station.sent() == []


def test_an_address_of_ipv4_is_the_same_however_it_is_spelt(station: Station) -> None:
    station.write(repair(5))
    spelt = ("::ffff:192.0.2.7", 5_004)
    station.ask(5, source=spelt)
    assert station.sent() == [((repair(5),), spelt)]


def test_nobody_without_a_path_costs_a_hash(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "session_key", lambda *_: pytest.fail("a key was derived"))
    data = seal_request([Wanted(SSRC, (5,))], ONE, bytes(32))
    station.receive(data, ("198.51.100.9", 5_004))
    assert station.repairs.refused == 1


@pytest.mark.parametrize("data", [b"", b"\x40", b"\x40" * 33, b"\x40" * 300])
def test_rubbish_is_counted(station: Station, data: bytes) -> None:
    station.receive(data, HOMES[ONE])
    assert station.repairs.malformed + station.repairs.refused == 1


@given(st.binary(max_size=300))
def test_whatever_a_stranger_sends_nothing_is_answered(data: bytes) -> None:
    station = Station()
    station.write(repair(5))
    station.receive(b"\x40" + data, HOMES[ONE])
    assert station.sent(NOW + S) == []
    assert station.repairs.malformed + station.repairs.refused == 1


def test_the_newest_8192_packets_are_kept_and_a_number_s_newest(station: Station) -> None:
    station.write(repair(5), *(repair(n % 65_536) for n in range(6, MAX_KEPT + 6)))
    station.ask(5)
    assert station.repairs.unknown == 1
    newer = repair(6)[:-1] + b"!"
    station.write(newer)
    station.ask(6)
    assert station.sent() == [((newer,), HOMES[ONE])]


def test_a_request_for_much_is_answered_in_several_datagrams(station: Station) -> None:
    station.write(*(repair(n) for n in range(30)))
    station.ask(*range(30))
    sent = station.repairs.due(NOW)
    assert all(len(data) <= 1_200 for data, _ in sent)
    assert [p for data, _ in sent for p in unbundle(data)] == [repair(n) for n in range(30)]


def test_one_session_gets_its_share_and_others_theirs(station: Station) -> None:
    station.write(*(repair(n) for n in range(1_000)))
    for at in range(0, 1_000, 100):
        station.ask(*range(at, at + 100))
    at_once = sum(len(data) for data, _ in station.repairs.due(NOW + AGAIN_NS))
    assert BYTES_AT_ONCE - 1_000 < at_once < BYTES_AT_ONCE + 1_000
    assert station.repairs.limited == 1_000 - station.repairs.packets
    granted = station.repairs.packets
    station.ask(*range(10), session=TWO)
    assert station.repairs.packets == granted + 10
    # After ten seconds no more than after two.
    station.ask(*range(500, 600), now_ns=NOW + 10 * S)
    station.ask(*range(600, 700), now_ns=NOW + 10 * S)
    assert station.repairs.packets <= 2 * granted + 10


def test_over_a_minute_a_session_is_sent_its_average(station: Station) -> None:
    station.write(*(repair(n) for n in range(200)))
    sent = 0
    for tick in range(1_200):
        now_ns = NOW + tick * 50 * MS
        station.ask(*range(200), now_ns=now_ns)
        sent += sum(len(data) for data, _ in station.repairs.due(now_ns))
    assert sent <= 63 * BYTES_A_SECOND
    assert sent >= 55 * BYTES_A_SECOND


def test_the_queue_is_bounded_and_says_what_it_drops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED", 6)
    station = Station()
    station.write(*(repair(n) for n in range(5)))
    for n in range(5):
        station.ask(n)
    assert station.repairs.limited == 2
    assert len(station.sent(NOW + S)) == 6
    assert MAX_QUEUED > 6


def test_what_waits_is_sent_in_turns_so_that_there_is_time_for_the_time() -> None:
    station = Station()
    station.write(repair(5))
    station.ask_all(5, many=70)
    assert len(station.sent()) == 64
    assert station.next_due_ns() == NOW
    assert len(station.sent()) == 6
    assert station.next_due_ns() == NOW + AGAIN_NS


def test_what_many_of_a_group_miss_the_group_is_sent_twice_and_no_more_are_answered_alone(
    station: Station,
) -> None:
    station.declare()
    station.write(repair(5))
    station.ask_all(5, many=90)
    sent = station.sent()
    assert [home for _, home in sent].count(GROUP) == 1
    assert len(sent) == PRIVATELY + 1
    assert GROUP in {home for _, home in station.sent(NOW + AGAIN_NS)}
    counted = station.repairs
    assert (counted.requests, counted.packets, counted.to_groups) == (90, PRIVATELY + 1, 1)
    assert counted.covered == 90 - PRIVATELY - 1


def test_what_goes_to_a_group_goes_before_what_waits_for_others(station: Station) -> None:
    station.declare()
    station.write(repair(5))
    station.ask_all(5, many=PRIVATELY + 1)
    assert station.sent()[0] == ((repair(5),), GROUP)


def test_what_is_missed_together_goes_to_the_group_together(station: Station) -> None:
    station.declare()
    station.write(*(repair(n) for n in range(5, 10)))
    station.ask_all(*range(5, 10), many=PRIVATELY + 1)
    assert station.sent()[0] == (tuple(repair(n) for n in range(5, 10)), GROUP)


def test_whoever_is_alone_in_what_it_misses_does_not_trouble_its_group(station: Station) -> None:
    station.declare()
    station.write(*(repair(n) for n in range(90)))
    for n in range(90):
        station.ask_all(n, first=n, many=1)
    for tick in range(50):
        station.ask_all(5, many=1, now_ns=NOW + tick * HOLD_NS)
    assert station.repairs.to_groups == 0
    assert station.repairs.packets == 90 + 50


def test_who_hears_no_group_is_answered_alone_however_many_ask(station: Station) -> None:
    apart = list(MANY.values())[-1]
    station.declare(apart)
    station.write(repair(5))
    station.ask_all(5, many=len(MANY))
    assert apart in {home for _, home in station.sent()}


def test_without_a_group_each_is_answered_alone(station: Station) -> None:
    station.write(repair(5))
    station.ask_all(5, many=60)
    assert {home for _, home in station.sent()} == set(list(MANY.values())[:60])


def test_a_group_has_its_share_and_no_more(station: Station) -> None:
    station.declare()
    station.write(*(repair(n) for n in range(400)))
    for at in range(0, 400, 50):
        station.ask_all(*range(at, at + 50), many=PRIVATELY + 1)
    packets = BYTES_AT_ONCE // (2 * (2 + 190))
    assert station.repairs.to_groups == packets
    assert station.repairs.limited > 0


@pytest.mark.parametrize(("room", "reached"), [(MAX_TO_GROUPS, True), (0, False)])
def test_a_full_queue_has_room_for_what_goes_to_groups(
    monkeypatch: pytest.MonkeyPatch, room: int, reached: bool
) -> None:
    monkeypatch.setattr(module, "MAX_QUEUED", 6)
    monkeypatch.setattr(module, "MAX_TO_GROUPS", room)
    station = Station()
    station.declare()
    station.write(repair(5))
    station.ask_all(5, many=PRIVATELY + 1)
    assert (GROUP in {home for _, home in station.sent()}) is reached
    assert station.repairs.limited == PRIVATELY - 3 + (not reached)


def test_those_who_asked_long_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PATHS", 3)
    repairs = Repairs(lambda: [Entry(1, REPAIR, repair(5))], SECRET)
    for holder in random.Random(1).sample(range(1, 100), 10):
        session = holder << 24
        data = seal_request([Wanted(SSRC, (5,))], session, session_key(SECRET, session))
        repairs.receive(data, HOMES[ONE], NOW, lambda _: HOMES[ONE])
    assert len(repairs._askers) == 3
    assert repairs.packets == 10
