import struct
import warnings
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.clock.exchange import (
    PACKET_BYTES,
    Exchange,
    ExchangeClient,
    answer,
    ns_of_ntp,
    ntp_of_ns,
)
from transport.errors import MalformedPacket

with warnings.catch_warnings():  # its warnings on import are not about us
    warnings.simplefilter("ignore")
    from scapy.layers.ntp import NTPHeader

SECOND = 1_000_000_000
ERA_SECONDS = 1 << 32
# Era 1 begins on 2036-02-07 at 06:28:16 UTC (RFC 5905 figure 4).
ERA_1_NS = 2_085_978_496 * SECOND
# Where this era's timestamps have their first bit set, and era 1's have not.
FIRST_NS, LAST_NS = -61_505_152 * SECOND, 4_233_462_144 * SECOND - 1
TIMES_NS = st.integers(FIRST_NS, LAST_NS)
NOW_NS = 1_790_000_000 * SECOND
SET_NS = NOW_NS - 3_600 * SECOND


def make_client() -> ExchangeClient:
    nonces = count(0x1122_3344_5566_7788)
    return ExchangeClient(lambda: next(nonces))


def ask(client: ExchangeClient, t1_ns: int = 1_000) -> bytes:
    nonce, packet = client.request()
    client.sent(nonce, t1_ns)
    return packet


def reply_to(request: bytes, t2_ns: int = NOW_NS, t3_ns: int = NOW_NS + 20_000) -> bytes:
    return answer(request, t2_ns, t3_ns, SET_NS)


def patched(packet: bytes, at: int, value: int) -> bytes:
    return packet[:at] + bytes((value,)) + packet[at + 1 :]


# ------------------------------------------------------------------ timestamps
@given(TIMES_NS)
def test_a_time_survives_ntp_to_the_nanosecond(ns: int) -> None:
    assert ns_of_ntp(ntp_of_ns(ns)) == ns


@given(st.integers(0, 2**64 - 1))
def test_a_timestamp_survives_nanoseconds_to_half_of_one(timestamp: int) -> None:
    # 2**32 steps a second are 4.3 steps a nanosecond.
    apart = (ntp_of_ns(ns_of_ntp(timestamp)) - timestamp + 2**63) % 2**64 - 2**63
    assert abs(apart) <= 3


@given(TIMES_NS, st.integers(1, SECOND))
def test_the_order_of_times_survives(ns: int, later: int) -> None:
    assert (ntp_of_ns(ns + later) - ntp_of_ns(ns)) % 2**64 < 2**63


@pytest.mark.parametrize(
    ("ns", "timestamp"),
    [
        (0, 2_208_988_800 << 32),  # the Unix epoch (RFC 5905 figure 4)
        (SECOND // 2, (2_208_988_800 << 32) + (1 << 31)),
        (ERA_1_NS - SECOND, (ERA_SECONDS - 1) << 32),
        (ERA_1_NS, 0),
        (ERA_1_NS + SECOND, 1 << 32),
        (FIRST_NS, 1 << 63),
        (LAST_NS + 1 - SECOND, (ERA_SECONDS // 2 - 1) << 32),
    ],
)
def test_known_times_have_their_known_timestamps(ns: int, timestamp: int) -> None:
    assert ntp_of_ns(ns) == timestamp
    assert ns_of_ntp(timestamp) == ns


@pytest.mark.parametrize("t2_ns", [NOW_NS, ERA_1_NS - 1, ERA_1_NS, ERA_1_NS + 1])
def test_an_exchange_across_the_end_of_the_era_is_exact(t2_ns: int) -> None:
    client = make_client()
    exchange = client.receive(reply_to(ask(client, 5), t2_ns, t2_ns + 2), 17)
    assert exchange == Exchange(5, t2_ns, t2_ns + 2, 17, SET_NS)


def test_the_round_trip_leaves_out_the_servers_own_time() -> None:
    assert Exchange(100, 5_000, 5_030, 200, 0).round_trip_ns == 70


# ------------------------------------------------------------------ against an independent reading
def scapy_timestamp(packet: NTPHeader, name: str) -> int:
    """A timestamp as its 64 bits; scapy's own reading of it is a rounded decimal."""
    field, _ = packet.getfield_and_val(name)
    start = {"ref": 16, "orig": 24, "recv": 32, "sent": 40}[name]
    raw: bytes = bytes(packet)[start : start + 8]
    assert field.sz == 8
    return int(struct.unpack("!Q", raw)[0])


def test_scapy_reads_our_request_as_a_clients() -> None:
    _, packet = make_client().request()
    read = NTPHeader(packet)
    assert (read.version, read.mode, read.leap, read.stratum) == (4, 3, 0, 0)
    assert scapy_timestamp(read, "sent") == 0x1122_3344_5566_7788
    assert float(read.sent) == pytest.approx(0x1122_3344_5566_7788 / 2**32)
    assert len(packet) == PACKET_BYTES == len(NTPHeader())


def test_scapy_reads_our_answer_as_a_reference_clocks() -> None:
    client = make_client()
    read = NTPHeader(reply_to(patched(ask(client), 2, 6)))
    assert (read.version, read.mode, read.leap, read.stratum) == (4, 4, 0, 1)
    assert (read.poll, read.ref_id) == (6, b"LOA\0")
    unix_to_ntp = 2_208_988_800
    assert float(read.ref) == SET_NS / 1e9 + unix_to_ntp
    assert float(read.recv) == pytest.approx(NOW_NS / 1e9 + unix_to_ntp, abs=1e-6)
    assert float(read.sent) == pytest.approx(NOW_NS / 1e9 + unix_to_ntp + 20e-6, abs=1e-6)
    assert float(read.orig) == pytest.approx(0x1122_3344_5566_7788 / 2**32)


@pytest.mark.parametrize("version", [3, 4])
def test_we_answer_what_scapy_asks(version: int) -> None:
    request = bytes(NTPHeader(version=version, mode="client", sent=3_900_000_000.25))
    read = NTPHeader(reply_to(request))
    assert scapy_timestamp(read, "orig") == (3_900_000_000 << 32) + (1 << 30)


def test_we_understand_what_scapy_answers() -> None:
    client = make_client()
    request = NTPHeader(ask(client, 70))
    reply = NTPHeader(
        version=4,
        mode="server",
        stratum=2,
        ref=3_998_000_000,
        orig=request.sent,
        recv=3_999_000_000.5,
        sent=3_999_000_000.75,
    )
    # Through the bytes: scapy keeps the origin exactly only there.
    data = bytes(reply)[:24] + bytes(request)[40:48] + bytes(reply)[32:]
    second_ns = (3_999_000_000 - 2_208_988_800) * SECOND
    assert client.receive(data, 90 + SECOND) == Exchange(
        t1_ns=70,
        t2_ns=second_ns + SECOND // 2,
        t3_ns=second_ns + SECOND * 3 // 4,
        t4_ns=90 + SECOND,
        clock_set_ns=second_ns - 1_000_000 * SECOND,
    )


# ------------------------------------------------------------------ rubbish
def answered(data: bytes, now_ns: int) -> bytes | str:
    """The station's answer, or the reason why there is none."""
    try:
        return answer(data, now_ns, now_ns, SET_NS)
    except MalformedPacket as error:
        return error.reason


@given(st.binary(max_size=80), st.integers(0, 2**70))
def test_arbitrary_bytes_are_answered_as_a_request_or_refused(data: bytes, now_ns: int) -> None:
    outcome = answered(data, now_ns)
    if isinstance(outcome, bytes):
        assert data[0] & 7 == 3
        assert outcome[24:32] == data[40:48]
    else:
        assert outcome in {"time_length", "time_version", "time_mode"}


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_no_answer(data: bytes) -> None:
    client = make_client()
    ask(client)
    with pytest.raises(MalformedPacket):
        client.receive(data, 2_000)


@given(st.integers(0, PACKET_BYTES - 1), st.integers(0, 255))
def test_an_answer_with_one_wrong_byte_is_an_exchange_or_malformed(at: int, value: int) -> None:
    client = make_client()
    data = patched(reply_to(ask(client, 0)), at, value)
    try:
        exchange = client.receive(data, SECOND)
    except MalformedPacket:
        return
    assert exchange.t2_ns <= exchange.t3_ns
    assert exchange.round_trip_ns > -20_000


@pytest.mark.parametrize("length", [0, 1, PACKET_BYTES - 1])
def test_a_truncated_packet_is_refused_by_both_ends(length: int) -> None:
    client = make_client()
    request = ask(client)
    with pytest.raises(MalformedPacket, match="time_length"):
        reply_to(request[:length])
    with pytest.raises(MalformedPacket, match="time_length"):
        client.receive(reply_to(request)[:length], 2_000)


def test_extension_fields_are_skipped_by_both_ends() -> None:
    client = make_client()
    reply = reply_to(ask(client) + bytes(20))
    assert client.receive(reply + bytes(20), 2_000 + 20_000).t3_ns == NOW_NS + 20_000


@pytest.mark.parametrize("version", [0, 1, 2, 5, 6, 7])
def test_another_version_is_refused(version: int) -> None:
    with pytest.raises(MalformedPacket, match="time_version"):
        reply_to(patched(ask(make_client()), 0, version << 3 | 3))


@pytest.mark.parametrize("mode", [0, 1, 2, 4, 5, 6, 7])
def test_only_a_clients_request_is_answered(mode: int) -> None:
    # Answering a server's answer would let two stations bounce one forged packet for ever.
    with pytest.raises(MalformedPacket, match="time_mode"):
        reply_to(patched(ask(make_client()), 0, 4 << 3 | mode))


@pytest.mark.parametrize("mode", [0, 1, 2, 3, 5, 6, 7])
def test_only_a_servers_answer_is_taken(mode: int) -> None:
    client = make_client()
    with pytest.raises(MalformedPacket, match="time_mode"):
        client.receive(patched(reply_to(ask(client)), 0, 4 << 3 | mode), 2_000)


def test_a_kiss_of_death_is_no_answer() -> None:
    client = make_client()
    with pytest.raises(MalformedPacket, match="time_mode"):
        client.receive(patched(reply_to(ask(client)), 1, 0), 2_000)


# ------------------------------------------------------------------ pairing
def test_an_answer_that_was_not_asked_for_is_refused() -> None:
    stranger = make_client()
    ask(stranger)
    with pytest.raises(MalformedPacket, match="time_unasked"):
        make_client().receive(reply_to(ask(stranger)), 2_000)


def test_a_request_that_was_never_sent_has_no_answer() -> None:
    client = make_client()
    _, packet = client.request()
    with pytest.raises(MalformedPacket, match="time_unasked"):
        client.receive(reply_to(packet), 2_000)


def test_an_answer_counts_once() -> None:
    client = make_client()
    reply = reply_to(ask(client))
    client.receive(reply, 30_000)
    with pytest.raises(MalformedPacket, match="time_unasked"):
        client.receive(reply, 30_000)


def test_answers_are_paired_in_any_order() -> None:
    client = make_client()
    replies = [reply_to(ask(client, t1)) for t1 in (10, 20, 30)]
    got = [client.receive(replies[index], 60_000 + index).t1_ns for index in (2, 0, 1)]
    assert got == [30, 10, 20]


def test_only_the_newest_sixteen_questions_are_remembered() -> None:
    client = make_client()
    replies = [reply_to(ask(client, t1)) for t1 in range(1, 18)]
    with pytest.raises(MalformedPacket, match="time_unasked"):
        client.receive(replies[0], 60_000)
    assert [client.receive(reply, 60_000).t1_ns for reply in replies[1:]] == list(range(2, 18))


@pytest.mark.parametrize(
    ("t2_ns", "t3_ns", "t4_ns"),
    [
        (NOW_NS, NOW_NS - 1, 50_000),  # answered before it was asked
        (NOW_NS, NOW_NS, 999),  # arrived before it was sent
        (NOW_NS, NOW_NS + SECOND, 50_000),  # held at the station longer than it was away
    ],
)
def test_times_in_an_impossible_order_are_refused(t2_ns: int, t3_ns: int, t4_ns: int) -> None:
    client = make_client()
    reply = reply_to(ask(client, 1_000), t2_ns, t3_ns)
    with pytest.raises(MalformedPacket, match="time_order"):
        client.receive(reply, t4_ns)


def test_stamps_that_are_a_little_out_on_a_very_short_path_are_taken() -> None:
    client = make_client()
    reply = reply_to(ask(client, 1_000), NOW_NS, NOW_NS + 20_000)
    assert client.receive(reply, 1_000 + 19_000).round_trip_ns == -1_000


def test_a_nonce_of_more_than_64_bits_is_cut_to_fit() -> None:
    client = ExchangeClient(lambda: (1 << 64) + 7)
    nonce, packet = client.request()
    assert nonce == 7
    assert packet[40:48] == (7).to_bytes(8)
