"""Payload type 97: what is packed comes out again, and nothing else is taken for it."""

import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.recovery.along import signed_part
from transport.recovery.copies import (
    COPY_BYTES,
    COUNT_BYTES,
    KEPT_SAMPLES,
    MAX_COPIES,
    Copy,
    CopyBook,
    digest,
    pack,
    unpack,
)

FRAMES = st.binary(min_size=1, max_size=300)
COPIES = st.lists(
    st.builds(Copy, st.integers(1, (1 << 24) - 1), FRAMES),
    min_size=1,
    max_size=MAX_COPIES,
    unique_by=lambda copy: copy.offset,
)
FRAME = 960


def refused(payload: bytes) -> str:
    with pytest.raises(MalformedPacket) as error:
        unpack(payload)
    return error.value.reason


# ------------------------------------------------------------------ the form
@given(FRAMES, COPIES)
def test_what_is_packed_comes_out_again(primary: bytes, copies: list[Copy]) -> None:
    assert unpack(pack(primary, copies)) == (primary, tuple(copies))


def test_these_are_the_bytes() -> None:
    packed = pack(b"now", [Copy(960, b"before"), Copy(0x01_0203, b"long ago")])
    assert packed.hex() == "02" + "0003c0" + "0006" + "010203" + "0008" + b"beforelong agonow".hex()
    assert len(packed) == COUNT_BYTES + 2 * COPY_BYTES + len(b"beforelong agonow")


@given(st.binary(max_size=120))
def test_what_is_taken_has_no_other_spelling(data: bytes) -> None:
    with suppress(MalformedPacket):
        primary, copies = unpack(data)
        assert pack(primary, copies) == data


@given(FRAMES, COPIES, st.integers(0, 4_000))
def test_nearly_right_bytes_are_malformed_or_another_payload(
    primary: bytes, copies: list[Copy], at: int
) -> None:
    packed = bytearray(pack(primary, copies))
    packed[at % len(packed)] ^= 1 << at % 8
    with suppress(MalformedPacket):
        assert unpack(bytes(packed)) != (primary, tuple(copies))


@given(FRAMES, COPIES)
def test_cut_short_by_its_whole_frame_or_more_it_is_malformed(
    primary: bytes, copies: list[Copy]
) -> None:
    packed = pack(primary, copies)
    for length in range(len(packed) - len(primary) + 1):
        assert refused(packed[:length]) == "copies"


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0now",
        b"\1" + bytes.fromhex("000000") + b"\0\1bnow",  # an offset of 0
        b"\1" + bytes.fromhex("0003c0") + b"\0\0now",  # a copy of nothing
        b"\1" + bytes.fromhex("0003c0") + b"\0\4bnow",  # no frame of its own
        b"\1" + bytes.fromhex("0003c0") + b"\xff\xffbnow",
        b"\2" + 2 * (bytes.fromhex("0003c0") + b"\0\1") + b"bcnow",  # one frame twice
        b"\x09" + b"".join(bytes((0, 0, n, 0, 1)) for n in range(1, 10)) + b"123456789now",
    ],
)
def test_what_pack_never_makes_is_malformed(payload: bytes) -> None:
    assert refused(payload) == "copies"


@pytest.mark.parametrize(("offset", "payload"), [(0, b"x"), (1 << 24, b"x"), (-1, b"x"), (1, b"")])
def test_a_copy_is_of_a_frame_before_and_of_something(offset: int, payload: bytes) -> None:
    with pytest.raises(ValueError, match="a copy"):
        Copy(offset, payload)


def test_a_copy_is_no_longer_than_its_length_can_say() -> None:
    assert unpack(pack(b"x", [Copy(1, bytes(65_535))]))[1][0].payload == bytes(65_535)
    with pytest.raises(ValueError, match="65535"):
        Copy(1, bytes(65_536))


@pytest.mark.parametrize(
    ("primary", "copies"),
    [
        (b"x", []),
        (b"", [Copy(1, b"y")]),
        (b"x", [Copy(n, b"y") for n in range(1, 10)]),
        (b"x", [Copy(1, b"y"), Copy(1, b"z")]),
    ],
)
def test_what_could_not_be_unpacked_is_not_packed(primary: bytes, copies: list[Copy]) -> None:
    with pytest.raises(ValueError, match="copies"):
        pack(primary, copies)


# ------------------------------------------------------------------ what is signed
def test_signed_is_the_frame_and_the_digest_of_all_before_it() -> None:
    packed = pack(b"now", [Copy(960, b"before")])
    before = hashlib.sha256(packed[:-3]).digest()
    assert signed_part(97, packed) == b"now" + before[:16]
    assert digest(packed, b"now") == before[:16]


@given(FRAMES, COPIES, st.integers(0, 4_000))
def test_every_byte_of_a_payload_is_signed(primary: bytes, copies: list[Copy], at: int) -> None:
    packed = pack(primary, copies)
    spoilt = bytearray(packed)
    spoilt[at % len(packed)] ^= 1 << at % 8
    with suppress(MalformedPacket):
        assert signed_part(97, bytes(spoilt)) != signed_part(97, packed)


def test_what_has_not_the_form_has_nothing_to_sign() -> None:
    with pytest.raises(MalformedPacket, match="copies"):
        signed_part(97, b"\0now")


# ------------------------------------------------------------------ what is remembered
def book_of(indices: range | list[int], most: int = KEPT_SAMPLES) -> CopyBook:
    book = CopyBook(most)
    for index in indices:
        book.remember(index * FRAME, f"frame {index}".encode())
    return book


def test_copies_are_of_the_frames_so_far_before_nearest_first() -> None:
    book = book_of(range(30))
    copies = book.copies(30 * FRAME, [21 * FRAME, FRAME, 3 * FRAME], 1_000)
    assert copies == (
        Copy(FRAME, b"frame 29"),
        Copy(3 * FRAME, b"frame 27"),
        Copy(21 * FRAME, b"frame 9"),
    )


def test_of_a_pause_and_of_what_is_between_two_frames_there_is_no_copy() -> None:
    book = book_of([0, 1, 4])
    assert book.copies(5 * FRAME, [FRAME, 2 * FRAME, 3 * FRAME, 4 * FRAME, 1], 1_000) == (
        Copy(FRAME, b"frame 4"),
        Copy(4 * FRAME, b"frame 1"),
    )


def test_room_is_for_everything_that_the_payload_grows_by() -> None:
    book = book_of(range(9))
    offsets = [FRAME, 2 * FRAME]
    primary = b"now"
    for room in range(40):
        copies = book.copies(9 * FRAME, offsets, room)
        assert len(copies) == min(max((room - 1) // 12, 0), 2)
        if copies:
            assert len(pack(primary, copies)) - len(primary) <= room


def test_a_long_frame_that_does_not_fit_leaves_room_for_a_farther_one() -> None:
    book = CopyBook()
    book.remember(0, b"short")
    book.remember(FRAME, bytes(500))
    assert book.copies(2 * FRAME, [FRAME, 2 * FRAME], 100) == (Copy(2 * FRAME, b"short"),)


def test_no_more_copies_than_a_payload_has() -> None:
    book = book_of(range(20))
    copies = book.copies(20 * FRAME, [n * FRAME for n in range(1, 20)], 10_000)
    assert [copy.offset for copy in copies] == [n * FRAME for n in range(1, MAX_COPIES + 1)]


def test_it_forgets_what_is_over() -> None:
    book = book_of(range(2_000))
    assert len(book) == 601  # 12 s, and the frame that began 12 s ago
    assert book.copies(2_000 * FRAME, [600 * FRAME], 1_000) == (Copy(600 * FRAME, b"frame 1400"),)
    assert len(book_of(range(100), most=5 * FRAME)) == 6
    book.remember(10_000 * FRAME, b"after a pause")
    assert len(book) == 1
