"""The little of STUN we speak: as RFC 8489 lays it out, and not a bit otherwise."""

import hashlib
import hmac
import struct
import warnings
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.security import stun
from transport.security.session_keys import session_key
from transport.security.stun import Challenge, Mapped, Request

with warnings.catch_warnings():  # its warnings on import are not about us
    warnings.simplefilter("ignore")
    from scapy.contrib.stun import STUN

SESSION = 0x0000_0005_0000_0011
KEY = session_key(bytes(range(32)), SESSION)
OTHER_KEY = session_key(bytes(range(32)), SESSION + 1)
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")  # of RFC 5769
NONCE = bytes(range(100, 132))
TRANSACTIONS = st.binary(min_size=12, max_size=12)
NONCES = st.binary(min_size=1, max_size=127)
REQUEST = stun.request(TRANSACTION, SESSION, KEY, NONCE)
SUCCESS = stun.success(TRANSACTION, "192.0.2.1", 32853, KEY)
SUCCESS_OF_IPV6 = stun.success(TRANSACTION, "2001:db8:1234:5678:11:2233:4455:6677", 32853, KEY)
STALE = stun.stale(TRANSACTION, NONCE, KEY)

# The request of RFC 8489 appendix B.1, as its erratum 6268 has it.
SAMPLE = bytes.fromhex(
    "000100902112a44278ad3433c6ad72c029da412e001e00204a3cf38fef6992bda952c6780417da0f24819415"
    "569e60b205c46e41407f1704001500296f624d61744a6f733241414143662f2f3439396b39353464364f4c33"
    "346f4c39465354767936347341000000001400" + "0b6578616d706c652e6f726700001d000400020000001c0020"
    "b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65"
)
SAMPLE_KEY = hashlib.sha256("マトリックス:example.org:TheMatrIX".encode()).digest()


def flips(data: bytes) -> Iterator[bytes]:
    number = int.from_bytes(data)
    return ((number ^ 1 << bit).to_bytes(len(data)) for bit in range(8 * len(data)))


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def message(kind: int, *attributes: bytes, key: bytes = KEY) -> bytes:
    """Any message, rightly authenticated: what only the session itself could make."""
    body = b"".join(attributes)
    head = struct.pack("!HHI12s", kind, len(body) + 36, 0x2112_A442, TRANSACTION)
    return head + body + attribute(0x001C, hmac.digest(key, head + body, "sha256"))


def unauthenticated(kind: int, *attributes: bytes) -> bytes:
    body = b"".join(attributes)
    return struct.pack("!HHI12s", kind, len(body), 0x2112_A442, TRANSACTION) + body


def admitted(data: bytes, key: bytes = KEY) -> Request:
    request = stun.parse_request(data)
    stun.check_request(request, key)
    return request


def refusal_of(data: bytes) -> str:
    with pytest.raises(MalformedPacket) as refusal:
        admitted(data)
    return refusal.value.reason


USERNAME = attribute(0x0006, b"0000000500000011")


# ------------------------------------------------------------------ round trips
@given(TRANSACTIONS, st.integers(0, 2**64 - 1), st.none() | NONCES)
def test_a_request_survives_the_wire(transaction: bytes, session: int, nonce: bytes | None) -> None:
    data = stun.request(transaction, session, KEY, nonce)
    assert stun.is_stun(data)
    request = admitted(data)
    assert (request.transaction, request.session, request.nonce) == (transaction, session, nonce)


@given(TRANSACTIONS, st.ip_addresses(), st.integers(0, 65535))
def test_a_success_tells_the_address(transaction: bytes, address: object, port: int) -> None:
    data = stun.success(transaction, str(address), port, KEY)
    assert stun.parse_response(data, transaction, KEY) == Mapped(str(address), port)


@given(TRANSACTIONS, NONCES)
def test_a_challenge_tells_the_nonce(transaction: bytes, nonce: bytes) -> None:
    data = stun.stale(transaction, nonce, KEY)
    assert stun.parse_response(data, transaction, KEY) == Challenge(nonce)


# ------------------------------------------------------------------ the layout of RFC 8489
@pytest.mark.parametrize(("data", "kind"), [(REQUEST, 0x0001), (SUCCESS, 0x0101), (STALE, 0x0111)])
def test_a_message_has_the_head_of_section_5(data: bytes, kind: int) -> None:
    assert data[:2] == kind.to_bytes(2)
    assert int.from_bytes(data[2:4]) == len(data) - 20
    assert data[4:8] == bytes.fromhex("2112a442")
    assert data[8:20] == TRANSACTION
    assert len(data) % 4 == 0


def test_a_request_names_its_session_as_a_user_and_ends_with_its_integrity() -> None:
    assert REQUEST[20:40] == bytes.fromhex("00060010") + b"0000000500000011"
    assert REQUEST[40:76] == bytes.fromhex("00150020") + NONCE
    assert REQUEST[76:80] == bytes.fromhex("001c0020")
    assert REQUEST[80:] == hmac.digest(KEY, REQUEST[:76], "sha256")


def test_an_address_is_masked_as_in_the_samples_of_rfc_5769() -> None:
    # Section 2.2: 192.0.2.1, port 32853.
    assert SUCCESS[20:32] == bytes.fromhex("002000080001a147e112a643")
    # Section 2.3: 2001:db8:1234:5678:11:2233:4455:6677, port 32853.
    assert SUCCESS_OF_IPV6[20:44] == bytes.fromhex(
        "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    )


def test_a_challenge_is_error_438_and_the_nonce() -> None:
    assert STALE[20:28] == bytes.fromhex("0009000400000426")
    assert STALE[28:64] == bytes.fromhex("00150020") + NONCE


def test_a_nonce_is_padded_to_four_bytes_with_zeros() -> None:
    data = stun.request(TRANSACTION, SESSION, KEY, b"abcde")
    assert data[40:52] == bytes.fromhex("00150005") + b"abcde\0\0\0"


def test_the_integrity_of_the_sample_of_rfc_8489_holds() -> None:
    """Its length counts the integrity attribute, and what is covered ends before it."""
    sample = Request(SAMPLE[8:20], 0, None, SAMPLE[:-36], SAMPLE[-32:])
    stun.check_request(sample, SAMPLE_KEY)
    with pytest.raises(MalformedPacket):
        stun.check_request(sample, KEY)


def test_scapy_reads_the_address_that_we_say() -> None:
    read = STUN(SUCCESS)
    assert read.transaction_id == int.from_bytes(TRANSACTION)
    mapped = read.attributes[0]
    assert (mapped.xip, mapped.xport) == ("192.0.2.1", 32853)


# ------------------------------------------------------------------ what is refused
def test_each_flipped_bit_of_a_request_is_refused() -> None:
    for wrong in flips(REQUEST):
        assert refusal_of(wrong).startswith("stun_")


@pytest.mark.parametrize("data", [SUCCESS, SUCCESS_OF_IPV6, STALE])
def test_each_flipped_bit_of_an_answer_is_refused(data: bytes) -> None:
    for wrong in flips(data):
        with pytest.raises(MalformedPacket):
            stun.parse_response(wrong, TRANSACTION, KEY)


@pytest.mark.parametrize("data", [REQUEST, SUCCESS, STALE])
def test_a_message_that_is_cut_or_lengthened_is_refused(data: bytes) -> None:
    for wrong in (*(data[:length] for length in range(len(data))), data + b"\0", data + bytes(4)):
        with pytest.raises(MalformedPacket):
            stun.parse_request(wrong)
        with pytest.raises(MalformedPacket):
            stun.parse_response(wrong, TRANSACTION, KEY)


@given(st.binary(max_size=600))
def test_any_bytes_are_refused(data: bytes) -> None:
    head = bytes.fromhex("2112a442") + TRANSACTION
    framed = b"\0\1" + (len(data) % 65536).to_bytes(2) + head + data
    for hostile in (data, framed):
        with pytest.raises(MalformedPacket):
            admitted(hostile)
        with pytest.raises(MalformedPacket):
            stun.parse_response(hostile, TRANSACTION, KEY)


@given(st.lists(st.tuples(st.integers(0, 0x40), st.binary(max_size=40)), max_size=6))
def test_any_attributes_under_the_right_key_are_refused_or_understood(
    pairs: list[tuple[int, bytes]],
) -> None:
    attributes = [attribute(kind, value) for kind, value in pairs]
    for kind in (0x0001, 0x0101, 0x0111):
        data = message(kind, *attributes)
        with suppress(MalformedPacket):
            assert admitted(data).session >= 0
        with suppress(MalformedPacket):
            assert isinstance(stun.parse_response(data, TRANSACTION, KEY), Mapped | Challenge)


def test_a_message_under_another_key_is_refused() -> None:
    with pytest.raises(MalformedPacket) as refusal:
        admitted(REQUEST, OTHER_KEY)
    assert refusal.value.reason == "stun_integrity"
    for data in (SUCCESS, STALE):
        with pytest.raises(MalformedPacket) as refusal:
            stun.parse_response(data, TRANSACTION, OTHER_KEY)
        assert refusal.value.reason == "stun_integrity"


def test_an_answer_to_another_request_is_refused() -> None:
    for data in (SUCCESS, STALE):
        with pytest.raises(MalformedPacket) as refusal:
            stun.parse_response(data, bytes(12), KEY)
        assert refusal.value.reason == "stun_transaction"


def test_a_request_thrown_back_is_no_answer_and_an_answer_no_request() -> None:
    with pytest.raises(MalformedPacket) as refusal:
        stun.parse_response(REQUEST, TRANSACTION, KEY)
    assert refusal.value.reason == "stun_type"
    assert {refusal_of(SUCCESS), refusal_of(STALE)} == {"stun_type"}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (unauthenticated(0x0001, USERNAME), "stun_integrity"),
        (unauthenticated(0x0001, USERNAME, attribute(0x001C, bytes(20))), "stun_integrity"),
        (unauthenticated(0x0001, attribute(0x001C, bytes(32)), USERNAME), "stun_attribute"),
        (message(0x0001), "stun_username"),
        (message(0x0001, attribute(0x0006, b"")), "stun_username"),
        (message(0x0001, attribute(0x0006, b"500000011")), "stun_username"),
        (message(0x0001, attribute(0x0006, b"+000000500000011")), "stun_username"),
        (message(0x0001, attribute(0x0006, b"0000_00500000011")), "stun_username"),
        (message(0x0001, attribute(0x0006, b"000000050000001A")), "stun_username"),
        (message(0x0001, USERNAME, USERNAME), "stun_attribute"),
        (message(0x0001, USERNAME, attribute(0x0014, b"realm")), "stun_attribute"),
        (message(0x0001, USERNAME, attribute(0x0015, b"")), "stun_nonce"),
        (message(0x0001, USERNAME, attribute(0x0015, bytes(128))), "stun_nonce"),
        (message(0x0001, USERNAME, attribute(0x8022, bytes(500))), "stun_length"),
        (message(0x0001, USERNAME, b"\x80\x22\xff\xff"), "stun_length"),
        (message(0x0003, USERNAME), "stun_type"),
        (message(0x0011, USERNAME), "stun_type"),
    ],
)
def test_a_request_that_is_not_ours_is_refused(data: bytes, reason: str) -> None:
    assert refusal_of(data) == reason


def test_an_attribute_that_may_be_skipped_is_skipped() -> None:
    data = message(0x0001, attribute(0x8022, b"Loa"), USERNAME)
    assert admitted(data).session == SESSION


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message(0x0101), "stun_address"),
        (message(0x0101, attribute(0x0020, bytes(7))), "stun_address"),
        (message(0x0101, attribute(0x0020, b"\0\1" + bytes(18))), "stun_address"),
        (message(0x0101, attribute(0x0020, b"\0\2" + bytes(6))), "stun_address"),
        (message(0x0101, attribute(0x0020, b"\0\3" + bytes(6))), "stun_address"),
        (message(0x0101, attribute(0x0020, b"\0\1\0")), "stun_address"),
        (message(0x0111), "stun_error"),
        (message(0x0111, attribute(0x0015, b"nonce")), "stun_error"),
        (message(0x0111, attribute(0x0009, b"\0\0\4\x26")), "stun_error"),
        (message(0x0111, attribute(0x0009, b"\0\0\4\1"), attribute(0x0015, b"n")), "stun_error"),
        (message(0x0111, attribute(0x0009, b"\0"), attribute(0x0015, b"n")), "stun_error"),
    ],
)
def test_an_answer_that_is_not_ours_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedPacket) as refusal:
        stun.parse_response(data, TRANSACTION, KEY)
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    "data",
    [
        b"",
        REQUEST[:19],
        b"\x80" + REQUEST[1:],  # RTP and RTCP begin so
        b"\x40" + REQUEST[1:],
        REQUEST[:4] + bytes(4) + REQUEST[8:],
    ],
)
def test_what_has_not_the_head_of_stun_is_none(data: bytes) -> None:
    assert not stun.is_stun(data)


# ------------------------------------------------------------------ our own misuse
def test_what_does_not_fit_is_not_said() -> None:
    for length in (0, 128):
        with pytest.raises(ValueError, match="1 to 127 bytes"):
            stun.stale(TRANSACTION, bytes(length), KEY)
    with pytest.raises(ValueError, match="12 bytes"):
        stun.request(bytes(11), SESSION, KEY, None)
    with pytest.raises(ValueError, match="no address"):
        stun.success(TRANSACTION, "no address", 1, KEY)


def test_a_request_that_is_printed_tells_no_code_of_its_own() -> None:
    assert repr(REQUEST[-32:]) not in repr(stun.parse_request(REQUEST))


def test_the_longest_of_our_messages_pass_whole() -> None:
    assert len(stun.request(TRANSACTION, SESSION, KEY, bytes(127))) <= stun.MAX_STUN_BYTES
    assert len(stun.stale(TRANSACTION, bytes(127), KEY)) <= stun.MAX_STUN_BYTES
