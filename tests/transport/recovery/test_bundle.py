"""Several packets in one datagram, and back."""

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.recovery.bundle import BUNDLE, MAX_BUNDLED, bundle, unbundle
from transport.rtp.packet import is_rtcp

PACKETS = st.lists(st.binary(min_size=1, max_size=400), max_size=80)


def refused(data: bytes) -> str:
    with pytest.raises(MalformedPacket) as error:
        unbundle(data)
    return error.value.reason


@given(PACKETS, st.integers(1, 2_000))
def test_what_is_bundled_comes_out_in_its_order(packets: list[bytes], most: int) -> None:
    bundles = bundle(packets, most)
    assert [packet for data in bundles for packet in unbundle(data)] == packets


@given(PACKETS, st.integers(1, 2_000))
def test_a_bundle_is_too_long_only_if_it_is_one_packet(packets: list[bytes], most: int) -> None:
    for data in bundle(packets, most):
        assert len(data) <= most or len(unbundle(data)) == 1


@given(PACKETS, st.integers(1, 2_000))
def test_no_bundle_could_take_the_next_packet_too(packets: list[bytes], most: int) -> None:
    unbundled = [unbundle(data) for data in bundle(packets, most)]
    for before, after in pairwise(unbundled):
        longer = 1 + sum(2 + len(packet) for packet in (*before, after[0]))
        assert longer > most or len(before) == MAX_BUNDLED


def test_these_are_the_bytes() -> None:
    assert bundle([b"one", b"three"]) == [b"\x41\0\3one\0\5three"]


def test_it_is_not_taken_for_anything_else_on_the_socket() -> None:
    """RFC 7983 section 7: STUN begins with 0 to 3, RTP and RTCP with 128 to 191."""
    (data,) = bundle([b"x"])
    assert data[0] == BUNDLE
    assert not 0 <= data[0] <= 3
    assert not 128 <= data[0] <= 191
    assert not is_rtcp(data)


@given(st.binary(max_size=100))
def test_what_is_taken_has_no_other_spelling(data: bytes) -> None:
    with suppress(MalformedPacket):
        assert bundle(unbundle(bytes((BUNDLE,)) + data), 10_000) == [bytes((BUNDLE,)) + data]


def test_cut_short_it_is_malformed_wherever() -> None:
    (data,) = bundle([bytes(100), bytes(300)])
    whole = {1 + 2 + 100, len(data)}
    for length in range(len(data)):
        assert length in whole or refused(data[:length]) == "bundle"


@pytest.mark.parametrize(
    "data", [b"", b"\x41", b"\x41\0", b"\x41\0\0", b"\x40\0\1x", b"\x41\0\1", b"\x41\0\1x\0"]
)
def test_what_bundle_never_makes_is_malformed(data: bytes) -> None:
    assert refused(data) == "bundle"


def test_more_packets_than_any_bundle_has_are_malformed() -> None:
    most = b"\x41" + b"\0\1x" * MAX_BUNDLED
    assert len(unbundle(most)) == MAX_BUNDLED
    assert refused(most + b"\0\1x") == "bundle"


@pytest.mark.parametrize("packet", [b"", bytes(65_536)])
def test_what_its_length_cannot_say_is_not_bundled(packet: bytes) -> None:
    with pytest.raises(ValueError, match="65535"):
        bundle([packet])
