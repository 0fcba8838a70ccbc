"""Session keys: time and gateway, each for one session and one purpose."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.clock.exchange import ExchangeClient, answer
from transport.errors import MalformedPacket
from transport.security import stun
from transport.security.keys import BadKey
from transport.security.session_keys import (
    TIME_BYTES,
    check_gateway_token,
    gateway_token,
    holder_of,
    is_newer,
    open_time,
    seal_time,
    session_key,
    session_number,
    time_session,
)

SECRET = bytes(range(32))
SESSION = (5 << 32) + 17
KEY = session_key(SECRET, SESSION)
SESSIONS = st.integers(0, 2**64 - 1)
PACKETS = st.binary(min_size=48, max_size=48)
PACKET = ExchangeClient(lambda: 0x0123_4567_89AB_CDEF).request()[1]


def flips(data: bytes) -> Iterator[bytes]:
    number = int.from_bytes(data)
    return ((number ^ 1 << bit).to_bytes(len(data)) for bit in range(8 * len(data)))


# ------------------------------------------------------------------ keys
@given(SESSIONS, SESSIONS)
def test_each_session_has_a_key_of_its_own(one: int, two: int) -> None:
    assert len(session_key(SECRET, one)) == 32
    assert (session_key(SECRET, one) == session_key(SECRET, two)) == (one == two)


def test_another_run_of_the_station_has_other_keys() -> None:
    assert session_key(bytes(32), SESSION) != KEY


@pytest.mark.parametrize("length", [0, 16, 31])
def test_no_key_is_derived_from_a_secret_too_short_to_be_one(length: int) -> None:
    with pytest.raises(BadKey, match="32 bytes"):
        session_key(bytes(length), SESSION)


# ------------------------------------------------------------------ numbers
PUBLICS = st.binary(min_size=32, max_size=32)
TIMES = st.integers(0, 2**63)
TICK_NS = 62_500_000
ROUND_NS = TICK_NS << 24


@given(PUBLICS, TIMES, SESSIONS)
def test_the_number_of_a_session_says_whose_it_is(public: bytes, now_ns: int, before: int) -> None:
    number = session_number(public, now_ns, before)
    assert 0 < number < 2**64
    assert holder_of(number) == int.from_bytes(hashlib.sha256(public).digest()[:5])


def test_the_number_of_a_session_is_as_the_protocol_says() -> None:
    assert session_number(bytes(32), 3 * TICK_NS) == 0x66687AADF8_000003


@given(PUBLICS, TIMES, st.integers(1, 6 * 24 * 3600 * 10**9))
def test_a_session_that_begins_within_six_days_is_newer(
    public: bytes, now_ns: int, later_ns: int
) -> None:
    first = session_number(public, now_ns)
    second = session_number(public, now_ns + later_ns, first)
    assert is_newer(second, first)
    assert not is_newer(first, second)


@given(PUBLICS, TIMES, st.integers(0, 4 * ROUND_NS))
def test_the_next_session_is_newer_however_long_the_one_before_lasted(
    public: bytes, now_ns: int, later_ns: int
) -> None:
    first = session_number(public, now_ns)
    assert is_newer(session_number(public, now_ns + later_ns, first), first)


@given(PUBLICS, TIMES)
def test_sessions_that_begin_at_once_are_each_newer_than_the_one_before(
    public: bytes, now_ns: int
) -> None:
    number = session_number(public, now_ns)
    for _ in range(40):
        number, before = session_number(public, now_ns, number), number
        assert is_newer(number, before)


@given(SESSIONS)
def test_no_session_is_newer_than_itself(session: int) -> None:
    assert not is_newer(session, session)


def test_serials_are_compared_around_their_end() -> None:
    last, first = 0xFF_FFFF, 0x00_0000
    assert is_newer(first, last)
    assert not is_newer(last, first)
    assert not is_newer(1 << 23, 0)  # RFC 1982 section 3.2: undefined, so neither is
    assert not is_newer(0, 1 << 23)


# ------------------------------------------------------------------ time
@given(PACKETS, SESSIONS)
def test_a_time_packet_survives_its_seal(packet: bytes, session: int) -> None:
    key = session_key(SECRET, session)
    data = seal_time(packet, session, key)
    assert len(data) == TIME_BYTES == 72
    assert data[:48] == packet
    assert time_session(data) == session
    assert open_time(data, session, key) == packet


def test_each_flipped_bit_of_a_time_packet_is_refused() -> None:
    for wrong in flips(seal_time(PACKET, SESSION, KEY)):
        with pytest.raises(MalformedPacket) as refusal:
            open_time(wrong, SESSION, KEY)
        assert refusal.value.reason == "time_mac"


@pytest.mark.parametrize("other", [0, SESSION + 1])
def test_a_time_packet_is_good_for_no_other_session(other: int) -> None:
    data = seal_time(PACKET, SESSION, KEY)
    for key in (KEY, session_key(SECRET, other)):
        with pytest.raises(MalformedPacket):
            open_time(data, other, key)
    with pytest.raises(MalformedPacket):  # a session that calls itself another
        open_time(seal_time(PACKET, other, KEY), other, session_key(SECRET, other))


@given(st.binary(max_size=100) | st.binary(min_size=72, max_size=72))
def test_any_bytes_for_a_time_packet_are_refused(data: bytes) -> None:
    assert (time_session(data) is None) == (len(data) != 72)
    with pytest.raises(MalformedPacket):
        open_time(data, time_session(data) or SESSION, KEY)


@pytest.mark.parametrize("length", [0, 48, 68, 71, 73])
def test_a_time_packet_of_another_length_is_of_no_session(length: int) -> None:
    data = seal_time(PACKET, SESSION, KEY).ljust(80, b"\0")[:length]
    assert time_session(data) is None
    with pytest.raises(MalformedPacket):
        open_time(data, SESSION, KEY)


def test_a_request_thrown_back_is_no_answer() -> None:
    client = ExchangeClient(lambda: 99)
    nonce, packet = client.request()
    client.sent(nonce, 0)
    thrown_back = open_time(seal_time(packet, SESSION, KEY), SESSION, KEY)
    with pytest.raises(MalformedPacket):
        client.receive(thrown_back, 1_000)
    true = seal_time(answer(packet, 10, 20, 0), SESSION, KEY)
    assert client.receive(open_time(true, SESSION, KEY), 1_000).t2_ns == 10


@pytest.mark.parametrize("length", [0, 47, 49])
def test_only_a_packet_of_48_bytes_is_sealed(length: int) -> None:
    with pytest.raises(ValueError, match="48 bytes"):
        seal_time(bytes(length), SESSION, KEY)


# ------------------------------------------------------------------ the gateway
@given(SESSIONS)
def test_the_gateway_learns_the_session_from_its_token(session: int) -> None:
    token = gateway_token(session, session_key(SECRET, session))
    assert len(token) == 80
    assert check_gateway_token(token, SECRET) == session


def test_each_other_digit_of_a_token_is_refused() -> None:
    token = gateway_token(SESSION, KEY)
    for at, right in enumerate(token):
        for wrong in "0123456789abcdef".replace(right, ""):
            with pytest.raises(MalformedPacket) as refusal:
                check_gateway_token(token[:at] + wrong + token[at + 1 :], SECRET)
            assert refusal.value.reason == "token"


def test_a_token_of_another_run_of_the_station_is_refused() -> None:
    with pytest.raises(MalformedPacket):
        check_gateway_token(gateway_token(SESSION, KEY), bytes(32))


@pytest.mark.parametrize(
    "change",
    [str.upper, lambda token: token + "0", lambda token: token[:-1], lambda token: token + "\n"],
)
def test_a_token_has_one_spelling(change: "type[str]") -> None:
    with pytest.raises(MalformedPacket):
        check_gateway_token(change(gateway_token(SESSION, KEY)), SECRET)


@given(st.text(max_size=100) | st.text("0123456789abcdef\u0660\u07c0", min_size=80, max_size=80))
def test_any_text_for_a_token_is_refused(token: str) -> None:
    with pytest.raises(MalformedPacket):
        check_gateway_token(token, SECRET)


# ------------------------------------------------------------------ one key, three purposes
def test_what_a_key_says_for_one_purpose_is_no_good_for_another() -> None:
    """The codes are of one key; each is put where the others belong."""
    time_mac = seal_time(PACKET, SESSION, KEY)[56:]
    token_mac = bytes.fromhex(gateway_token(SESSION, KEY)[16:])
    request = stun.request(bytes(12), SESSION, KEY, None)
    for mac in (token_mac[:16], request[-32:-16], request[-16:]):
        with pytest.raises(MalformedPacket):
            open_time(PACKET + SESSION.to_bytes(8) + mac, SESSION, KEY)
    for mac in (time_mac + time_mac, request[-32:]):
        with pytest.raises(MalformedPacket):
            check_gateway_token(f"{SESSION:016x}{mac.hex()}", SECRET)
    for mac in (time_mac + time_mac, token_mac):
        with pytest.raises(MalformedPacket):
            stun.check_request(stun.parse_request(request[:-32] + mac), KEY)


def test_a_stun_message_as_long_as_a_time_packet_is_none() -> None:
    """With a nonce of 12 bytes both codes cover 56, of which the last 8 are the session."""
    request = stun.request(bytes(12), SESSION, KEY, bytes(4) + SESSION.to_bytes(8))
    covered, mac = request[:-36], request[-32:]
    assert len(covered) == 56
    assert time_session(covered + mac[:16]) == SESSION
    with pytest.raises(MalformedPacket):
        open_time(covered + mac[:16], SESSION, KEY)
