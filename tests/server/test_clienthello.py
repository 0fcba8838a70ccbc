"""What is read out of a ClientHello: real ones, cut ones, and rubbish."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.clienthello import alpn_of, is_whole
from tests.support.clienthello import client_hello

OFFERED = ("loa.control.v2", "http/1.1")
_HEADER = 5  # of a TLS record


HELLO = client_hello(*OFFERED)


def in_records(handshake: bytes, *cuts: int) -> bytes:
    """The same, in several records (RFC 8446 5.1)."""
    bounds = [0, *sorted(cuts), len(handshake)]
    pieces = [handshake[start:end] for start, end in pairwise(bounds)]
    return b"".join(b"\x16\x03\x01" + len(p).to_bytes(2, "big") + p for p in pieces)


def test_the_protocols_are_in_the_caller_s_order() -> None:
    assert alpn_of(HELLO) == OFFERED


def test_who_asks_for_none_offers_nothing() -> None:
    assert alpn_of(client_hello()) == ()


def test_what_follows_the_hello_does_not_matter() -> None:
    assert alpn_of(HELLO + b"\x14\x03\x03\x00\x01\x01 and more") == OFFERED


@given(st.integers(0, len(HELLO)))
def test_a_cut_hello_offers_all_or_nothing(length: int) -> None:
    assert alpn_of(HELLO[:length]) in {(), OFFERED}


def test_it_need_not_be_whole() -> None:
    end = HELLO.index(b"http/1.1") + len(b"http/1.1")
    assert alpn_of(HELLO[:end]) == OFFERED
    assert alpn_of(HELLO[: end - 1]) == ()


@given(st.integers(0, len(HELLO) - 1))
def test_only_a_whole_hello_is_whole(length: int) -> None:
    assert is_whole(HELLO)
    assert is_whole(HELLO + b"more")
    assert not is_whole(HELLO[:length])


@given(st.lists(st.integers(1, len(HELLO) - _HEADER - 1), max_size=5, unique=True))
def test_records_may_cut_it_anywhere(cuts: list[int]) -> None:
    pieces = in_records(HELLO[_HEADER:], *cuts)
    assert alpn_of(pieces) == OFFERED
    assert is_whole(pieces)
    assert not is_whole(pieces[:-1])


@pytest.mark.parametrize(
    "said",
    [b"", b"\x16", b"GET /control HTTP/1.1\r\n\r\n", HELLO[1:], b"\x15" + HELLO[1:]],
    ids=["nothing", "one byte", "http", "shifted", "an alert"],
)
def test_all_else_offers_nothing_and_is_no_hello(said: bytes) -> None:
    assert alpn_of(said) == ()
    assert not is_whole(said)


def test_a_server_hello_is_none() -> None:
    said = HELLO[:_HEADER] + b"\x02" + HELLO[_HEADER + 1 :]
    assert alpn_of(said) == ()
    assert not is_whole(said)


@given(st.binary(max_size=600))
def test_rubbish_never_raises(rubbish: bytes) -> None:
    for said in (rubbish, in_records(b"\x01" + rubbish)):
        alpn_of(said)
        is_whole(said)


@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255))
def test_nor_does_a_hello_with_a_wrong_byte(at: int, byte: int) -> None:
    assert len(alpn_of(HELLO[:at] + bytes([byte]) + HELLO[at + 1 :])) <= len(HELLO)
