"""When a packet is sent to a group in place of those who ask for it."""

import pytest

from server.processes.routing import Route, Routes, pack_destination
from server.usher.crowd import PRIVATELY, Crowd, Crowds

MS = 1_000_000
HOLD_NS = 40 * MS
KEY = 0xCAFE_0000, 5
GROUP = ("239.192.76.1", 7_470)
MEMBER, APART = ("192.0.2.7", 5_004), ("192.0.2.8", 5_004)
GROUP_ROW = pack_destination(*GROUP, GROUP[1] + 1)
APART_ROW = pack_destination(*APART, APART[1])


def crowds(*routes: Route) -> Crowds:
    made = Crowds()
    made.declare(Routes(routes))
    return made


def crowd(destinations: bytes = GROUP_ROW, now_ns: int = 0) -> Crowd:
    found = crowds(Route(1, 10.0, destinations)).of(1)
    assert found is not None
    found.refill(now_ns, HOLD_NS)
    return found


def counted(one: Crowd, times: int) -> Crowd:
    for _ in range(times):
        one.count(KEY)
    return one


@pytest.mark.parametrize("destinations", [b"", APART_ROW, APART_ROW + GROUP_ROW])
def test_what_goes_to_no_group_has_no_crowd(destinations: bytes) -> None:
    assert crowds(Route(1, 10.0, destinations)).of(1) is None


def test_the_group_is_where_the_stream_goes_first() -> None:
    there = crowds(Route(1, 10.0, GROUP_ROW + APART_ROW), Route(2, 10.0, APART_ROW))
    found = there.of(1)
    assert found is not None
    assert found.home == GROUP
    assert there.of(2) is None


def test_a_few_are_answered_alone_and_one_more_is_a_crowd() -> None:
    one = counted(crowd(), PRIVATELY - 1)
    assert not one.serves(KEY, MEMBER)
    assert counted(one, 1).serves(KEY, MEMBER)
    assert not one.serves((KEY[0], 6), MEMBER)


def test_those_who_asked_long_ago_are_no_crowd() -> None:
    one = counted(crowd(now_ns=1), PRIVATELY)
    one.refill(HOLD_NS, HOLD_NS)
    assert one.serves(KEY, MEMBER)
    one.refill(1 + HOLD_NS, HOLD_NS)
    assert not one.serves(KEY, MEMBER)


def test_what_the_group_was_sent_nobody_is_sent_alone_for_a_while() -> None:
    one = crowd()
    one.share.take(KEY, 1)
    assert one.serves(KEY, MEMBER)
    one.refill(HOLD_NS, HOLD_NS)
    assert not one.serves(KEY, MEMBER)


@pytest.mark.parametrize("spelt", [APART[0], f"::ffff:{APART[0]}"])
def test_whoever_is_sent_the_stream_alone_is_answered_alone(spelt: str) -> None:
    one = counted(crowd(GROUP_ROW + APART_ROW), PRIVATELY)
    assert not one.serves(KEY, (spelt, APART[1]))
    assert one.serves(KEY, (spelt, APART[1] + 1))


def test_of_a_crowd_it_is_known_when_somebody_comes_or_goes() -> None:
    there = crowds(Route(1, 10.0, GROUP_ROW))
    one = there.of(1)
    assert one is not None
    assert counted(one, PRIVATELY).serves(KEY, APART)
    there.declare(Routes((Route(1, 10.0, GROUP_ROW + APART_ROW),)))
    assert there.of(1) is one
    assert not one.serves(KEY, APART)
    there.declare(Routes((Route(1, 10.0, GROUP_ROW),)))
    assert one.serves(KEY, APART)


def test_a_stream_that_has_ended_or_has_another_group_is_another_crowd() -> None:
    there = crowds(Route(1, 10.0, GROUP_ROW))
    one = there.of(1)
    there.declare(Routes((Route(1, 10.0, pack_destination("239.192.76.2", 1, 2)),)))
    assert there.of(1) is not one
    there.declare(Routes(()))
    assert there.of(1) is None
