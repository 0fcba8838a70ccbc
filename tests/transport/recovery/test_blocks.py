"""Blocks of a stream's frames from end to end: what is lost by chance is there again."""

import random
from collections.abc import Iterable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transport.errors import MalformedPacket
from transport.recovery.blocks import BlockReader, BlockWriter
from transport.recovery.erasure import HEAD_BYTES, Code, Symbols, encode

FRAME = 960
ROOM = 1_200
CODES = st.integers(2, 16).flatmap(
    lambda frames: st.builds(Code, st.just(frames), st.integers(1, 32 - frames))
)
Sent = tuple[int, bytes, Symbols | None]


def payload_of(index: int) -> bytes:
    """Of many lengths, and none like another."""
    return random.Random(index).randbytes(20 + index * 37 % 90)


def sent(
    code: Code | None, indices: Iterable[int], writer: BlockWriter | None = None, room: int = ROOM
) -> list[Sent]:
    """When each frame begins, the frame, and what goes along."""
    if writer is None:
        writer = BlockWriter(FRAME)
        writer.adapt(code)
    return [
        (n * FRAME, payload_of(n), writer.along(n * FRAME, payload_of(n), room)) for n in indices
    ]


def heard(reader: BlockReader, packets: Iterable[Sent]) -> dict[int, bytes]:
    """The frames that the reader finds, by their numbers."""
    found = []
    for start, payload, symbols in packets:
        found += reader.take(start, payload)
        if symbols is not None:
            found += reader.hear(start, symbols)
    assert len(dict(found)) == len(found)  # none is found twice
    return {start // FRAME: payload for start, payload in found}


# ------------------------------------------------------------------ what goes along
def test_the_symbols_of_a_block_go_evenly_along_with_the_packets_after_it() -> None:
    packets = sent(Code(4, 6), range(12))
    along = [symbols for _, _, symbols in packets]
    assert along[:4] == 4 * [None]
    assert [(s.first, len(s.data)) for s in along[4:8] if s] == [(0, 1), (1, 2), (3, 1), (4, 2)]
    assert [s.offset // FRAME for s in along[4:] if s] == [4, 5, 6, 7, 4, 5, 6, 7]
    assert {(s.places, s.sent) for s in along[4:] if s} == {(4, 0b1111)}
    data = [symbol for s in along[4:8] if s for symbol in s.data]
    assert tuple(data) == encode([payload_of(n) for n in range(4)], 6)


@given(CODES)
def test_nothing_of_a_block_comes_later_than_twice_its_time(code: Code) -> None:
    for _, _, symbols in sent(code, range(60)):
        assert symbols is None or symbols.offset < 2 * code.frames * FRAME


def test_a_pause_is_a_place_without_a_frame_and_costs_no_symbol() -> None:
    packets = sent(Code(4, 8), (0, 2, 4, 5, 6, 7))
    along = [symbols for _, _, symbols in packets[2:]]
    assert {(s.places, s.sent) for s in along if s} == {(4, 0b101)}
    assert sum(len(s.data) for s in along if s) == 4  # of 8, for half of the frames


def test_after_a_long_pause_nothing_is_sent_that_comes_too_late() -> None:
    packets = sent(Code(4, 4), (*range(4), *range(50, 54)))
    assert [symbols for _, _, symbols in packets] == 8 * [None]


def test_a_frame_that_is_not_in_step_with_its_block_begins_another() -> None:
    writer = BlockWriter(FRAME)
    writer.adapt(Code(4, 16))
    assert writer.along(0, b"one", ROOM) is None
    symbols = writer.along(2 * FRAME + 7, b"two", ROOM)
    assert symbols is not None
    assert (symbols.offset, symbols.sent) == (2 * FRAME + 7, 1)


def test_what_does_not_fit_is_left_out() -> None:
    length = 2 + max(len(payload_of(n)) for n in range(4))
    for room, count in ((HEAD_BYTES + 2 * length, 2), (HEAD_BYTES + 2 * length - 1, 1), (30, 0)):
        *_, (_, _, symbols) = sent(Code(4, 12), range(5), room=room)
        assert (0 if symbols is None else len(symbols.data)) == count


def test_another_code_begins_with_the_next_block_and_none_at_once() -> None:
    writer = BlockWriter(FRAME)
    writer.adapt(Code(4, 4))
    sent(None, range(6), writer)
    writer.adapt(Code(6, 6))
    places = [symbols.places for *_, symbols in sent(None, range(6, 20), writer) if symbols]
    assert places == 2 * [4] + 4 * [4] + 6 * [6]
    writer.adapt(None)
    assert [symbols for *_, symbols in sent(None, range(20, 30), writer)] == 10 * [None]


# ------------------------------------------------------------------ what is found
@settings(max_examples=150, deadline=None)
@given(CODES, st.data())
def test_whatever_is_lost_what_is_found_is_true_and_enough_symbols_find_it(
    code: Code, data: st.DataObject
) -> None:
    """With pauses, losses, duplicates and packets out of order, as it comes."""
    spoken = data.draw(st.lists(st.booleans(), min_size=10, max_size=70))
    packets = sent(code, [n for n, there in enumerate(spoken) if there])
    came = [packet for packet in packets if data.draw(st.integers(0, 9)) > 2]
    came += data.draw(st.lists(st.sampled_from(came), max_size=5)) if came else []
    rng = random.Random(data.draw(st.integers(0, 99)))
    came.sort(key=lambda packet: packet[0] + rng.randrange(3 * FRAME))
    found = heard(BlockReader(FRAME), came)
    assert all(frame == payload_of(n) for n, frame in found.items())
    own = {start // FRAME for start, _, _ in came}
    assert found.keys() >= decodable(packets, came) - own


def decodable(packets: list[Sent], came: list[Sent]) -> set[int]:
    """The frames of those blocks of which enough has come, by counting alone."""
    own = {start for start, _, _ in came}
    begins: dict[int, Symbols] = {}
    numbers: dict[int, set[int]] = {}
    for start, _, symbols in came:
        if symbols is not None:
            begin = start - symbols.offset
            begins[begin] = symbols
            numbers.setdefault(begin, set()).update(
                range(symbols.first, symbols.first + len(symbols.data))
            )
    found: set[int] = set()
    for begin, symbols in begins.items():
        places = [n for n in range(symbols.places) if symbols.sent >> n & 1]
        missing = [n for n in places if begin + n * FRAME not in own]
        if len(missing) <= len(numbers[begin]):
            found |= {begin // FRAME + n for n in places}
    return found


def test_whoever_comes_late_finds_what_the_symbols_suffice_for() -> None:
    packets = sent(Code(4, 8), range(12))
    assert heard(BlockReader(FRAME), packets[5:6]) == {}
    # Of the first block only its last frame came, and six symbols.
    assert heard(BlockReader(FRAME), [packets[3], *packets[5:8]]).keys() == {0, 1, 2}


def test_a_frame_that_comes_after_the_symbols_suffices_as_well() -> None:
    packets = sent(Code(4, 4), range(8))
    reader = BlockReader(FRAME)
    assert heard(reader, packets[5:8]).keys() == set()
    assert dict(reader.take(0, payload_of(0))) == {n * FRAME: payload_of(n) for n in (1, 2, 3)}


def test_what_does_not_agree_with_its_block_is_refused_and_does_no_harm() -> None:
    packets = sent(Code(4, 8), range(8))
    reader = BlockReader(FRAME)
    _, _, symbols = packets[4]
    assert symbols is not None
    reader.hear(4 * FRAME, symbols)
    for wrong in (
        Symbols(5, symbols.offset, symbols.sent, 2, symbols.data),
        Symbols(4, symbols.offset, 0b0111, 2, symbols.data),
        Symbols(4, symbols.offset, symbols.sent, 2, (b"short",)),
        Symbols(4, symbols.offset - 1, symbols.sent, 2, symbols.data),
    ):
        with pytest.raises(MalformedPacket, match="symbols"):
            reader.hear(4 * FRAME, wrong)
    assert heard(reader, packets[5:8]).keys() == {0, 1, 2, 3}


def test_what_came_in_a_place_that_had_a_pause_is_no_frame_of_the_block() -> None:
    packets = sent(Code(4, 16), (0, 2, 4, 5, 6, 7))
    reader = BlockReader(FRAME)
    assert reader.take(FRAME, b"stranger") == []
    assert heard(reader, packets[2:]) == {0: payload_of(0), 2: payload_of(2)}


def test_symbols_of_other_frames_are_refused_and_no_frame_is_invented() -> None:
    reader = BlockReader(FRAME)
    reader.take(0, b"longer than any of theirs")
    wrong = Symbols(4, 4 * FRAME, 0b11, 0, (b"abc",))
    with pytest.raises(MalformedPacket, match="symbols"):
        reader.hear(4 * FRAME, wrong)
    assert reader.hear(4 * FRAME, wrong) == []  # it is not tried again


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(-(1 << 40), 1 << 40),
            st.integers(2, 16),
            st.integers(1, 40),
            st.integers(0, 0xFFFF),
            st.integers(0, 12),
            st.binary(min_size=3, max_size=9),
        ),
        max_size=60,
    )
)
def test_nothing_that_the_form_allows_raises_anything_else(
    packets: list[tuple[int, int, int, int, int, bytes]],
) -> None:
    reader = BlockReader(FRAME)
    for start, places, back, sent_bits, first, data in packets:
        some = sent_bits % (1 << places) | 1
        symbols = Symbols(places, back * FRAME, some, first, (data, data))
        with suppress(MalformedPacket):
            reader.take(start, data)
            reader.hear(start, symbols)


def test_it_keeps_few_blocks_and_few_frames() -> None:
    reader = BlockReader(FRAME)
    for n in range(5_000):
        reader.take(n * FRAME, b"frame")
        with suppress(MalformedPacket):
            reader.hear(n * FRAME, Symbols(16, 16 * FRAME, 0xFFFF, 0, (b"symbol",)))
    assert len(reader._frames) == 128
    assert len(reader._blocks) == 4
