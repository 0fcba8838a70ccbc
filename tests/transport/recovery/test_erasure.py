"""Payload type 99, and the block code whose symbols it carries."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.recovery.erasure import (
    HEAD_BYTES,
    MOST_FRAMES,
    MOST_IN_PACKET,
    MOST_SYMBOLS,
    Code,
    Symbols,
    decode,
    encode,
    pack,
    unpack,
)

FRAMES = st.binary(min_size=1, max_size=200)
SYMBOLS = Symbols(3, 1_440, 0b101, 1, (b"one\0", b"two\0"))
PACKED = pack(b"now", SYMBOLS)


@st.composite
def symbols(draw: st.DrawFn) -> Symbols:
    places = draw(st.integers(2, MOST_FRAMES))
    length, count = draw(st.integers(3, 60)), draw(st.integers(1, MOST_IN_PACKET))
    data = draw(
        st.lists(st.binary(min_size=length, max_size=length), min_size=count, max_size=count)
    )
    return Symbols(
        places,
        draw(st.integers(1, (1 << 24) - 1)),
        draw(st.integers(0, (1 << places) - 1)) | 1,
        draw(st.integers(0, MOST_SYMBOLS - places - count)),
        tuple(data),
    )


@st.composite
def blocks(draw: st.DrawFn) -> list[bytes | None]:
    """Frames of all lengths, and pauses; the first place has a frame."""
    rest = st.lists(st.none() | FRAMES, min_size=1, max_size=MOST_FRAMES - 1)
    return [draw(FRAMES), *draw(rest)]


def sent_of(block: list[bytes | None]) -> int:
    return sum(1 << n for n, frame in enumerate(block) if frame is not None)


# ------------------------------------------------------------------ the form
@given(FRAMES, symbols())
def test_what_is_packed_comes_out_again(primary: bytes, some: Symbols) -> None:
    assert unpack(pack(primary, some)) == (primary, some)


def test_these_are_the_bytes() -> None:
    assert PACKED.hex() == "03020005a00005010004" + b"one\0two\0now".hex()
    assert len(PACKED) == HEAD_BYTES + 8 + 3


@given(st.binary(max_size=120))
def test_what_is_taken_has_no_other_spelling(data: bytes) -> None:
    with suppress(MalformedPacket):
        assert pack(*unpack(data)) == data


@given(FRAMES, symbols(), st.integers(0, 4_000), st.integers(0, 255))
def test_nearly_right_bytes_are_malformed_or_another_payload(
    primary: bytes, some: Symbols, at: int, value: int
) -> None:
    spoilt = bytearray(pack(primary, some))
    spoilt[at % min(len(spoilt), HEAD_BYTES)] = value
    with suppress(MalformedPacket):
        assert pack(*unpack(bytes(spoilt))) == spoilt


@pytest.mark.parametrize(
    ("what", "at", "value"),
    [
        ("one place", 0, 1),
        ("seventeen places", 0, 17),
        ("no symbols", 1, 0),
        ("nine symbols", 1, 9),
        ("more symbols than bytes", 1, 3),
        ("no frame in the first place", 6, 4),
        ("a frame in the fourth place", 6, 13),
        ("a symbol that no block has", 7, 28),
        ("symbols without bytes", 9, 0),
        ("symbols without a frame", 9, 2),
        ("longer symbols than bytes", 9, 6),
    ],
)
def test_bytes_that_no_packet_of_ours_has_are_malformed(what: str, at: int, value: int) -> None:
    spoilt = bytearray(PACKED)
    spoilt[at] = value
    with pytest.raises(MalformedPacket, match="symbols"):
        unpack(bytes(spoilt))


@pytest.mark.parametrize("length", range(len(PACKED) - 3))
def test_a_payload_that_is_cut_off_is_malformed(length: int) -> None:
    with pytest.raises(MalformedPacket, match="symbols"):
        unpack(PACKED[:length])


def test_there_is_no_offset_of_nothing() -> None:
    with pytest.raises(MalformedPacket, match="symbols"):
        unpack(PACKED[:2] + bytes(3) + PACKED[5:])


@pytest.mark.parametrize(
    "wrong",
    [
        {"places": 1},
        {"places": 17},
        {"offset": 0},
        {"offset": 1 << 24},
        {"sent": 0b100},
        {"sent": 0b1001},
        {"first": 28},
        {"first": -1},
        {"data": ()},
        {"data": 9 * (b"abc",)},
        {"data": (b"abc", b"ab")},
        {"data": (b"ab",)},
    ],
)
def test_what_could_not_be_unpacked_is_not_made(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"block|packet"):
        replace(SYMBOLS, **wrong)  # type: ignore[arg-type]  # of many types


def test_symbols_do_not_go_without_a_frame() -> None:
    with pytest.raises(ValueError, match="frame"):
        pack(b"", SYMBOLS)


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (17, 1), (12, 0), (12, 21), (16, 17)])
def test_there_is_no_code_that_the_library_has_not(frames: int, count: int) -> None:
    with pytest.raises(ValueError, match="block"):
        Code(frames, count)


# ------------------------------------------------------------------ the code
@settings(max_examples=200)
@given(blocks(), st.data())
def test_any_symbols_as_many_as_frames_are_missing_bring_them_back(
    block: list[bytes | None], data: st.DataObject
) -> None:
    made = encode(block, MOST_SYMBOLS - len(block))
    sent = [n for n, frame in enumerate(block) if frame is not None]
    most = min(len(sent), len(made))
    missing = data.draw(st.sets(st.sampled_from(sent), min_size=1, max_size=most))
    numbers = st.sampled_from(range(len(made)))
    came = data.draw(st.sets(numbers, min_size=len(missing)))
    held = [None if n in missing else frame for n, frame in enumerate(block)]
    found = decode(held, sent_of(block), {n: made[n] for n in came})
    assert found == {n: block[n] for n in missing}


def test_the_first_symbols_are_those_of_more() -> None:
    block = [b"one", None, b"another", b"!"]
    assert encode(block, 2) == encode(block, 28)[:2]
    assert {len(symbol) for symbol in encode(block, 28)} == {2 + len(b"another")}


@settings(max_examples=100)
@given(blocks(), st.integers(0, 400), st.integers(1, 255))
def test_of_a_symbol_that_is_not_theirs_no_frame_is_made_that_is_not_as_long_as_it_says(
    block: list[bytes | None], at: int, flip: int
) -> None:
    made = bytearray(encode(block, 1)[0])
    made[at % len(made)] ^= flip
    with suppress(MalformedPacket):
        (frame,) = decode([None, *block[1:]], sent_of(block), {0: bytes(made)}).values()
        assert 0 < len(frame) <= len(made) - 2


@given(blocks(), st.binary(min_size=3, max_size=400))
def test_bytes_that_are_no_symbol_are_malformed_or_a_frame(
    block: list[bytes | None], wrong: bytes
) -> None:
    with suppress(MalformedPacket):
        decode([None, *block[1:]], sent_of(block), {0: wrong})


def test_a_symbol_too_short_for_the_frames_that_came_is_malformed() -> None:
    with pytest.raises(MalformedPacket, match="symbols"):
        decode([None, b"longer"], 0b11, {0: b"short"})
