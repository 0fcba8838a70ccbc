"""Requests for what is missing: sealed, opened, and whatever else comes."""

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.recovery import request as module
from transport.recovery.request import (
    MAX_REQUEST_BYTES,
    MAX_WANTED,
    REQUEST,
    Wanted,
    open_request,
    request_session,
    seal_request,
)

SESSION, KEY, OTHER_KEY = 0x0102_0304_0506_0708, bytes(range(32)), bytes(32)
SSRC = 0xCAFE_0000


def opened(data: bytes) -> set[tuple[int, int]]:
    return {(one.ssrc, n) for one in open_request(data, SESSION, KEY) for n in one.sequences}


def sealed_blocks(blocks: bytes) -> bytes:
    """Any blocks, right or wrong, under the right key."""
    said = struct.pack("!BQ", REQUEST, SESSION) + blocks
    return said + module._mac(said, KEY)


def test_it_is_laid_out_as_the_protocol_says() -> None:
    data = seal_request([Wanted(SSRC, (5, 6, 14))], SESSION, KEY)
    assert data[:-16] == bytes.fromhex("40 0102030405060708 cafe0000 0005 02 0302")
    assert len(data) == 34


@given(
    st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, 0xFFFF)), min_size=1),
    st.sets(st.integers(0, 400), min_size=1, max_size=30),
)
def test_what_is_opened_is_what_was_wanted_from_the_first_on(
    streams: list[tuple[int, int]], steps: set[int]
) -> None:
    wanted = [
        Wanted(ssrc, tuple((base + step) & 0xFFFF for step in sorted(steps)))
        for ssrc, base in streams
    ]
    data = seal_request(wanted, SESSION, KEY)
    assert len(data) <= MAX_REQUEST_BYTES
    assert request_session(data) == SESSION
    told = [(one.ssrc, n) for one in open_request(data, SESSION, KEY) for n in one.sequences]
    asked = [(one.ssrc, n) for one in wanted for n in one.sequences]
    assert told == asked[: len(told)]
    assert told


def test_half_a_second_that_was_lost_at_once_fits() -> None:
    numbers = tuple(n & 0xFFFF for n in range(65_520, 65_570))
    assert opened(seal_request([Wanted(SSRC, numbers)], SESSION, KEY)) == {
        (SSRC, number) for number in numbers
    }


def test_what_does_not_fit_is_left_out_and_the_oldest_is_kept() -> None:
    far_apart = tuple(range(0, 60_000, 1_000))
    told = open_request(seal_request([Wanted(SSRC, far_apart)], SESSION, KEY), SESSION, KEY)
    numbers = [number for one in told for number in one.sequences]
    assert numbers == list(far_apart[: len(numbers)])
    assert len(numbers) == 28


def test_no_request_asks_for_more_than_512_packets() -> None:
    data = seal_request([Wanted(SSRC, tuple(range(2_000)))], SESSION, KEY)
    assert len(opened(data)) == MAX_WANTED
    too_many = b"".join(struct.pack("!IHB", SSRC, base, 60) + b"\xff" * 60 for base in (0, 480))
    with pytest.raises(MalformedPacket, match="repair_request"):
        open_request(sealed_blocks(too_many), SESSION, KEY)


def test_a_request_for_nothing_or_for_what_cannot_be_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="asks"):
        seal_request([Wanted(SSRC, ())], SESSION, KEY)
    with pytest.raises(ValueError, match="sequence"):
        Wanted(SSRC, (65_536,))
    with pytest.raises(ValueError, match="ssrc"):
        Wanted(1 << 32, (1,))


def test_another_key_or_another_session_opens_nothing() -> None:
    data = seal_request([Wanted(SSRC, (1,))], SESSION, KEY)
    with pytest.raises(MalformedPacket, match="repair_mac"):
        open_request(data, SESSION, OTHER_KEY)
    with pytest.raises(MalformedPacket, match="repair_request"):
        open_request(data, SESSION + 1, KEY)


def test_every_bit_of_it_is_authenticated() -> None:
    data = seal_request([Wanted(SSRC, (1, 9, 300))], SESSION, KEY)
    for at in range(len(data) * 8):
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        with pytest.raises(MalformedPacket):
            open_request(bytes(changed), SESSION, KEY)


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param(bytes.fromhex("cafe0000 0005 00"), id="an empty bitmap at the end"),
        pytest.param(bytes.fromhex("cafe0000 0005 01 02"), id="its base is not wanted"),
        pytest.param(bytes.fromhex("cafe0000 0005 02 0100"), id="its last byte is idle"),
        pytest.param(bytes.fromhex("cafe0000 0005 02 01"), id="its bitmap is cut off"),
        pytest.param(bytes.fromhex("cafe0000 0005 01 01 cafe"), id="a block is cut off"),
    ],
)
def test_each_request_has_one_spelling(blocks: bytes) -> None:
    with pytest.raises(MalformedPacket, match="repair_request"):
        open_request(sealed_blocks(blocks), SESSION, KEY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x40",
        seal_request([Wanted(SSRC, (1,))], SESSION, KEY)[:-1],
        seal_request([Wanted(SSRC, (1,))], SESSION, KEY).ljust(MAX_REQUEST_BYTES + 1, b"\0"),
        b"\x41" + seal_request([Wanted(SSRC, (1,))], SESSION, KEY)[1:],
    ],
)
def test_what_has_not_the_form_is_of_no_session(data: bytes) -> None:
    assert request_session(data) is None


@given(st.binary(max_size=300))
def test_bytes_of_anybody_are_refused_by_one_of_two_words(blocks: bytes) -> None:
    for data in (blocks, sealed_blocks(blocks)):
        wanted = reason = None
        try:
            wanted = open_request(data, SESSION, KEY)
        except MalformedPacket as error:
            reason = error.reason
        if wanted is None:
            assert reason in {"repair_request", "repair_mac"}
        else:
            assert 0 < sum(len(one.sequences) for one in wanted) <= MAX_WANTED


def test_sequences_that_jump_about_are_told_as_well() -> None:
    numbers = tuple(random.Random(3).sample(range(65_536), 20))
    assert opened(seal_request([Wanted(SSRC, numbers)], SESSION, KEY)) == {
        (SSRC, number) for number in numbers
    }
