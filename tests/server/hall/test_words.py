"""Words in packets."""

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.hall.words import (
    Begin,
    Close,
    Gone,
    Heard,
    Here,
    Holds,
    Opened,
    Said,
    Say,
    Sent,
    Take,
    Word,
    pack,
    unpack,
)
from transport.errors import MalformedPacket

_NUMBERS = st.integers(0, (1 << 63) - 1)
_WORDS = st.one_of(
    st.builds(Begin, st.text(max_size=20)),
    st.just(Take()),
    st.builds(Say, _NUMBERS, st.binary(max_size=300)),
    st.builds(Heard, _NUMBERS),
    st.builds(Close, _NUMBERS, st.integers(1000, 4999), st.text(max_size=100)),
    st.builds(Here, st.text(max_size=20), _NUMBERS),
    st.builds(Holds, _NUMBERS, _NUMBERS, _NUMBERS),
    st.builds(Opened, _NUMBERS, st.text(max_size=40), _NUMBERS, st.text(max_size=20)),
    st.builds(Said, _NUMBERS, st.binary(max_size=300)),
    st.builds(Sent, _NUMBERS),
    st.builds(Gone, _NUMBERS, st.integers(1000, 4999)),
)


@given(st.lists(_WORDS, max_size=20))
def test_a_packet_gives_back_its_words_in_order(words: list[Word]) -> None:
    assert unpack(memoryview(b"".join(map(pack, words)))) == words


@given(st.lists(_WORDS, max_size=3), _WORDS.filter(lambda word: len(pack(word)) > 2), st.data())
def test_a_cut_packet_is_malformed(before: list[Word], last: Word, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, len(pack(last)) - 1))
    with pytest.raises(MalformedPacket):
        unpack(memoryview(b"".join(map(pack, before)) + pack(last)[:length]))


@given(st.binary(max_size=200))
def test_rubbish_is_malformed_or_words(rubbish: bytes) -> None:
    try:
        words = unpack(memoryview(rubbish))
    except MalformedPacket:
        return
    assert unpack(memoryview(b"".join(map(pack, words)))) == words


@pytest.mark.parametrize(
    "plain",
    [[], [99], [-1], ["Say"], [2, 1], [2, "1", b""], [2, True, b""], {"type": "Say"}, 7],
    ids=repr,
)
def test_what_is_no_word_is_malformed(plain: object) -> None:
    with pytest.raises(MalformedPacket):
        unpack(memoryview(msgpack.packb(plain)))
