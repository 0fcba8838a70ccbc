"""The way for unicast, opened and held open: no socket, no clock, both ends in the test."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.way.path import (
    KEEP_ALIVE_NS,
    QUIET_NS,
    RETRY_NS,
    Challenged,
    KeepAlive,
    Lost,
    Opened,
)
from transport.errors import MalformedPacket
from transport.security import stun

SESSION, KEY = 0xABCDEF, bytes(range(32))
MS = 1_000_000
SECOND = 1_000_000_000
START = 5 * SECOND
HERE = Opened("192.0.2.7", 40_000)


class Draw:
    """Random bytes that are different each time, and known."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, length: int) -> bytes:
        self.count += 1
        return self.count.to_bytes(length)


def begun(now_ns: int = START) -> KeepAlive:
    path = KeepAlive(Draw())
    path.begin(SESSION, KEY, now_ns)
    return path


def asked(path: KeepAlive, now_ns: int) -> stun.Request:
    """The request that is due, as the station reads it."""
    data = path.request(now_ns)
    assert data is not None
    request = stun.parse_request(data)
    stun.check_request(request, KEY)
    assert request.session == SESSION
    return request


def succeed(path: KeepAlive, request: stun.Request, now_ns: int, at: Opened = HERE) -> None:
    path.receive(stun.success(request.transaction, at.address, at.port, KEY), now_ns)


def opened(now_ns: int = START) -> KeepAlive:
    path = begun(now_ns)
    succeed(path, asked(path, now_ns), now_ns)
    path.events()
    return path


def unanswered(path: KeepAlive) -> list[int]:
    """Ask until it is given up; when each request left."""
    times: list[int] = []
    while not path.events():
        assert path.deadline_ns is not None
        at = path.deadline_ns
        if path.request(at) is not None:
            times.append(at)
    return times


# ------------------------------------------------------------------ opening
def test_before_there_is_a_session_nothing_is_due() -> None:
    path = KeepAlive(Draw())
    assert path.deadline_ns is None
    assert path.request(START) is None
    assert not path.open


def test_a_session_begins_by_asking_at_once_without_a_nonce() -> None:
    path = begun()
    assert path.deadline_ns == START
    assert asked(path, START).nonce is None
    assert path.events() == []
    assert not path.open


def test_nothing_is_said_before_it_is_due() -> None:
    path = begun()
    assert path.request(START - 1) is None
    asked(path, START)
    assert path.request(START + 100 * MS - 1) is None
    assert path.request(START + 100 * MS) is not None


def test_a_success_opens_it_and_says_where_the_station_sees_us() -> None:
    path = begun()
    succeed(path, asked(path, START), START + 7 * MS)
    assert path.events() == [HERE]
    assert path.events() == []
    assert path.open
    assert path.deadline_ns == START + 7 * MS + KEEP_ALIVE_NS


def test_the_question_is_said_four_times_and_then_given_up() -> None:
    path = begun()
    assert unanswered(path) == [START + at * MS for at in (0, 100, 300, 700)]
    assert not path.open
    assert path.deadline_ns == START + 1_500 * MS + RETRY_NS


def test_giving_up_is_an_event() -> None:
    path = begun()
    for at in (0, 100, 300, 700, 1_500):
        assert path.events() == []
        path.request(START + at * MS)
    assert path.events() == [Lost()]


def test_each_time_it_is_the_same_transaction_so_that_any_answer_will_do() -> None:
    path = begun()
    first = asked(path, START)
    assert asked(path, START + 100 * MS) == first
    succeed(path, first, START + 150 * MS)
    assert path.events() == [HERE]


def test_who_looks_late_says_one_request_and_not_all_that_were_due() -> None:
    path = begun()
    asked(path, START + 3_600 * SECOND)
    assert path.request(START + 3_600 * SECOND) is None
    assert path.deadline_ns == START + 3_600 * SECOND + 100 * MS


# ------------------------------------------------------------------ challenges
def test_a_challenge_is_answered_at_once_with_its_nonce_in_a_new_transaction() -> None:
    path = begun()
    first = asked(path, START)
    path.receive(stun.stale(first.transaction, b"a nonce", KEY), START + 5 * MS)
    assert path.events() == [Challenged()]
    assert path.deadline_ns == START + 5 * MS
    second = asked(path, START + 5 * MS)
    assert second.nonce == b"a nonce"
    assert second.transaction != first.transaction
    succeed(path, second, START + 10 * MS)
    assert path.events() == [HERE]


def test_what_answers_a_challenge_is_said_four_times_as_well() -> None:
    path = begun()
    path.receive(stun.stale(asked(path, START).transaction, b"n", KEY), START + 90 * MS)
    path.events()
    assert unanswered(path) == [START + (90 + at) * MS for at in (0, 100, 300, 700)]


def test_a_station_that_challenges_for_ever_is_not_answered_for_ever() -> None:
    path = begun()
    for number in range(3):
        request = asked(path, START)
        path.receive(stun.stale(request.transaction, b"%d" % number, KEY), START)
    request = asked(path, START)
    with pytest.raises(MalformedPacket, match=r"^stun_challenges$"):
        path.receive(stun.stale(request.transaction, b"another", KEY), START)
    assert path.request(START) is None
    # The question stands: it may still be answered, and is said again in its time.
    assert path.deadline_ns == START + 100 * MS


def test_the_next_keep_alive_begins_without_the_old_nonce() -> None:
    path = begun()
    path.receive(stun.stale(asked(path, START).transaction, b"n", KEY), START)
    succeed(path, asked(path, START), START)
    assert asked(path, START + KEEP_ALIVE_NS).nonce is None


# ------------------------------------------------------------------ holding it open
def test_it_is_kept_open_every_fifteen_seconds_and_that_is_no_news() -> None:
    path = opened()
    for number in range(1, 10):
        now_ns = START + number * KEEP_ALIVE_NS
        assert path.deadline_ns == now_ns
        succeed(path, asked(path, now_ns), now_ns)
        assert path.events() == []
        assert path.open


def test_sound_that_stops_is_asked_after_a_second_later() -> None:
    """UDP may have been blocked in mid-programme, and the next keep-alive is far."""
    path = opened()
    assert path.heard(START + SECOND)
    assert not path.heard(START + SECOND + 20 * MS)
    until = START + SECOND + 20 * MS + QUIET_NS
    assert path.deadline_ns == until
    assert path.request(until - 1) is None
    succeed(path, asked(path, until), until)
    assert path.events() == []
    assert path.deadline_ns == until + KEEP_ALIVE_NS
    assert path.heard(until + 1)


def test_sound_that_goes_on_asks_nothing_before_its_time() -> None:
    path = opened()
    for at in range(START, START + KEEP_ALIVE_NS, 20 * MS):
        path.heard(at)
        assert path.request(at) is None
    asked(path, START + KEEP_ALIVE_NS)


def test_what_comes_before_the_way_is_open_hurries_nobody() -> None:
    path = begun()
    assert not path.heard(START)
    assert path.deadline_ns == START


def test_each_keep_alive_is_a_transaction_of_its_own() -> None:
    path = begun()
    seen: set[bytes] = set()
    for number in range(5):
        request = asked(path, START + number * KEEP_ALIVE_NS)
        succeed(path, request, START + number * KEEP_ALIVE_NS)
        seen.add(request.transaction)
    assert len(seen) == 5


def test_another_address_of_ours_is_news() -> None:
    """A NAT that has forgotten us gives another port."""
    path = opened()
    now_ns = START + KEEP_ALIVE_NS
    path.receive(stun.stale(asked(path, now_ns).transaction, b"n", KEY), now_ns)
    moved = Opened("192.0.2.7", 40_001)
    succeed(path, asked(path, now_ns), now_ns, moved)
    assert path.events() == [Challenged(), moved]
    assert path.open


def test_one_lost_request_or_answer_is_not_a_lost_way() -> None:
    path = opened()
    now_ns = START + KEEP_ALIVE_NS
    asked(path, now_ns)
    asked(path, now_ns + 100 * MS)
    succeed(path, asked(path, now_ns + 300 * MS), now_ns + 310 * MS)
    assert path.events() == []
    assert path.open


def test_a_keep_alive_that_is_never_answered_loses_the_way_within_two_seconds() -> None:
    path = opened()
    now_ns = START + KEEP_ALIVE_NS
    assert unanswered(path) == [now_ns + at * MS for at in (0, 100, 300, 700)]
    assert not path.open
    assert path.deadline_ns == now_ns + 1_500 * MS + RETRY_NS


def test_a_lost_way_is_tried_every_five_seconds_while_there_is_no_other() -> None:
    path = begun()
    gone = [unanswered(path)[0] for _ in range(4)]
    assert [b - a for a, b in pairwise(gone)] == [RETRY_NS + 1_500 * MS] * 3


def test_a_lost_way_is_tried_every_fifteen_seconds_while_the_gateway_serves() -> None:
    path = begun()
    unanswered(path)
    path.relayed = True
    gone = [unanswered(path)[0] for _ in range(4)]
    assert [b - a for a, b in pairwise(gone)] == [KEEP_ALIVE_NS + 1_500 * MS] * 3


def test_a_way_that_is_found_again_is_news_though_the_address_is_the_old_one() -> None:
    path = opened()
    unanswered(path)
    assert path.deadline_ns is not None
    succeed(path, asked(path, path.deadline_ns), path.deadline_ns)
    assert path.events() == [HERE]
    assert path.open


def test_a_new_session_begins_anew_with_its_own_key() -> None:
    path = opened()
    path.begin(SESSION + 1, bytes(32), START + SECOND)
    assert not path.open
    data = path.request(START + SECOND)
    assert data is not None
    request = stun.parse_request(data)
    assert request.session == SESSION + 1
    stun.check_request(request, bytes(32))


def test_an_answer_to_the_session_before_does_not_open_the_new_one() -> None:
    path = begun()
    old = asked(path, START)
    path.begin(SESSION + 1, bytes(32), START)
    asked_now = path.request(START)
    assert asked_now is not None
    with pytest.raises(MalformedPacket, match=r"^stun_unasked$"):
        succeed(path, old, START)
    assert not path.open


# ------------------------------------------------------------------ what others say
def test_an_answer_that_nobody_asked_for_is_refused() -> None:
    path = opened()
    with pytest.raises(MalformedPacket, match=r"^stun_unasked$"):
        path.receive(stun.success(bytes(12), "192.0.2.9", 9, KEY), START)
    assert path.events() == []


def test_an_answer_under_another_key_is_refused_and_the_question_stands() -> None:
    path = begun()
    request = asked(path, START)
    for data in (
        stun.success(request.transaction, "192.0.2.9", 9, bytes(32)),
        stun.stale(request.transaction, b"n", bytes(32)),
    ):
        with pytest.raises(MalformedPacket, match=r"^stun_integrity$"):
            path.receive(data, START)
    assert path.events() == []
    succeed(path, request, START)
    assert path.open


def test_our_own_request_sent_back_is_no_answer() -> None:
    path = begun()
    data = path.request(START)
    assert data is not None
    with pytest.raises(MalformedPacket, match=r"^stun_type$"):
        path.receive(data, START)
    assert not path.open


def test_the_second_answer_to_a_question_that_was_said_twice_is_nothing_at_all() -> None:
    path = begun()
    request = asked(path, START)
    asked(path, START + 100 * MS)
    succeed(path, request, START + 120 * MS)
    succeed(path, request, START + 220 * MS, Opened("192.0.2.9", 9))
    assert path.events() == [HERE]
    assert path.deadline_ns == START + 120 * MS + KEEP_ALIVE_NS


def test_the_second_challenge_to_a_question_that_was_said_twice_is_nothing_at_all() -> None:
    path = begun()
    first = asked(path, START)
    path.receive(stun.stale(first.transaction, b"one", KEY), START)
    second = asked(path, START)
    path.receive(stun.stale(first.transaction, b"two", KEY), START)
    assert path.events() == [Challenged()]
    succeed(path, second, START)
    assert path.open


@pytest.mark.parametrize("data", [b"", b"\0", bytes(20), b"\x80" + bytes(40)])
def test_what_is_no_stun_is_refused(data: bytes) -> None:
    path = begun()
    asked(path, START)
    with pytest.raises(MalformedPacket, match=r"^stun_head$"):
        path.receive(data, START)


@given(st.binary(max_size=200), st.booleans())
def test_rubbish_is_never_more_than_malformed(data: bytes, headed: bool) -> None:
    path = begun()
    request = asked(path, START)
    if headed:
        length = len(data) - len(data) % 4
        data = data[:length]
        head = b"\x01\x01" + length.to_bytes(2) + stun.MAGIC_COOKIE.to_bytes(4)
        data = head + request.transaction + data
    with pytest.raises(MalformedPacket):
        path.receive(data, START)
    assert path.events() == []
    assert not path.open
