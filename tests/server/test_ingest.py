"""The ingest protocol: a stream of msgpack objects, from whoever connects."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.pcm import pcm16
from server.ingest import MAX_BLOCK_SAMPLES, IngestError, ObjectStream, block_of


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def received(data: bytes) -> list[Any]:
    """What `data`, sent whole and followed by the end, is understood as."""
    ours, theirs = socket.socketpair()

    def send() -> None:
        with theirs, suppress(OSError):  # whoever refuses does not read on
            theirs.sendall(data)

    # Apart, for it may be more than the kernel holds.
    sending = threading.Thread(target=send)
    sending.start()
    try:
        with ours:
            return list(ObjectStream(ours).receive())
    finally:
        sending.join()


OBJECTS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.floats(allow_nan=False),
    st.text(max_size=20),
    st.binary(max_size=300),
    st.tuples(st.integers(0, 1 << 53), st.binary(max_size=300)).map(list),
    st.dictionaries(st.text(max_size=5), st.integers(0, 9), max_size=3),
)


@given(st.lists(OBJECTS, max_size=5))
def test_objects_arrive_as_they_were_sent(objects: list[Any]) -> None:
    assert received(b"".join(msgpack.packb(item) for item in objects)) == objects


@settings(max_examples=40)
@given(objects=st.lists(OBJECTS, min_size=1, max_size=4), cut=st.integers(1, 400))
def test_however_the_stream_is_cut_the_objects_are_the_same(objects: list[Any], cut: int) -> None:
    data = b"".join(msgpack.packb(item) for item in objects)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        items = ObjectStream(ours).receive()
        got: list[Any] = []
        for at in range(0, len(data), cut):
            theirs.sendall(data[at : at + cut])
        theirs.shutdown(socket.SHUT_WR)
        got = list(items)
    assert got == objects


def test_an_object_is_there_before_the_next_has_come(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    items = ObjectStream(ends[0]).receive()
    ObjectStream(ends[1]).send({"version": 1})
    assert next(items) == {"version": 1}


def test_an_object_cut_off_by_the_end_is_not_delivered() -> None:
    assert received(msgpack.packb(None) + msgpack.packb([0, bytes(100)])[:50]) == [None]


@settings(max_examples=200)
@given(st.binary(max_size=400))
def test_whatever_comes_is_objects_or_an_ingest_error(data: bytes) -> None:
    with suppress(IngestError):
        received(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xc1", id="a byte msgpack never uses"),
        pytest.param(b"\xa4\xff\xff\xff\xff", id="text that is no UTF-8"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="4 G items announced"),
        pytest.param(b"\xdd\x00\x03\x00\x00", id="200,000 items announced"),
        pytest.param(b"\xdf\x00\x03\x00\x00", id="200,000 keys announced"),
        pytest.param(b"\x91" * 5000, id="5000 deep"),
        pytest.param(b"\x81\x01\x01", id="a key that is no text"),
        pytest.param(b"\xc6\x00\x01\x77\x02" + bytes(96_002), id="more than a second of sound"),
        pytest.param(b"\xc6\x0f\xff\xff\xff" + bytes(1 << 19), id="more than fits the buffer"),
        pytest.param(b"\xda\x03\xe9" + b"a" * 1001, id="1001 letters"),
        pytest.param(b"\xd4\x05\x00", id="an extension type"),
    ],
)
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(IngestError):
        received(data)


SAMPLES = st.lists(st.integers(-32768, 32767), min_size=1, max_size=50)


@given(start=st.integers(0, (1 << 53) - 1), values=SAMPLES)
def test_a_block_is_its_media_sample_and_its_sound(start: int, values: list[int]) -> None:
    data = np.array(values, "<i2").tobytes()
    at, pcm = block_of([start, data])
    assert at == start
    assert pcm.dtype == np.float32
    assert np.all(np.abs(pcm) <= 1.0)
    assert np.allclose(pcm, np.maximum(np.array(values) / 32767, -1.0), atol=1e-7)


NO_BLOCKS = st.one_of(
    OBJECTS.filter(lambda item: not isinstance(item, list)),
    st.tuples(st.integers(-(1 << 63), -1), st.just(b"\0\0")).map(list),
    st.tuples(st.integers(1 << 53, (1 << 64) - 1), st.just(b"\0\0")).map(list),
    st.tuples(st.booleans(), st.just(b"\0\0")).map(list),
    st.tuples(st.just(0), st.binary(max_size=99).filter(lambda data: len(data) % 2 == 1)).map(list),
    st.tuples(st.just(0), st.text(min_size=2, max_size=2)).map(list),
    st.just([0, b""]),
    st.just([0]),
    st.just([0, b"\0\0", 0]),
    st.just([0.0, b"\0\0"]),
    st.just([0, bytes(2 * MAX_BLOCK_SAMPLES + 2)]),
)


@given(NO_BLOCKS)
def test_what_is_no_block_is_refused(item: Any) -> None:
    with pytest.raises(IngestError, match="a block is"):
        block_of(item)


def test_a_second_of_sound_is_the_longest_block() -> None:
    assert len(block_of([0, bytes(2 * MAX_BLOCK_SAMPLES)])[1]) == MAX_BLOCK_SAMPLES


def test_the_longest_block_passes_the_stream() -> None:
    block = [1 << 52, bytes(2 * MAX_BLOCK_SAMPLES)]
    assert received(msgpack.packb(block)) == [block]


@given(SAMPLES)
def test_sixteen_bits_survive_the_way_there_and_back(values: list[int]) -> None:
    # -32768 alone has no counterpart above and becomes -32767.
    data = np.maximum(np.array(values, "<i2"), -32767).astype("<i2").tobytes()
    assert pcm16(block_of([0, data])[1]) == data


@given(st.floats(-1.0, 1.0, width=32))
def test_a_sample_is_rounded_to_the_nearest(value: float) -> None:
    written = int(np.frombuffer(pcm16(np.array([value], np.float32)), "<i2")[0])
    assert abs(written - value * 32767) <= 0.5 + 1e-2


def test_what_is_too_loud_is_clipped() -> None:
    loud = pcm16(np.array([2.0, -2.0], np.float32))
    assert np.frombuffer(loud, "<i2").tolist() == [32767, -32767]
