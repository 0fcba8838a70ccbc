import fcntl
import os
from collections.abc import Iterator
from itertools import chain, repeat
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.outputs import pipe
from endpoints.outputs.pipe import PipeSink

SCALE = 32_767


def ramp(start: int, count: int) -> np.ndarray:
    """Samples that read start, start + 1, ... as 16 bits."""
    return (np.arange(start, start + count) / SCALE).astype(np.float32)


@pytest.fixture
def ends() -> Iterator[tuple[int, int]]:
    """(reading, writing) end of the smallest pipe there is."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue  # the test has closed it


def test_samples_are_little_endian_16_bit(ends: tuple[int, int]) -> None:
    reading, writing = ends
    sink = PipeSink(writing)
    sink.start(0)
    sink.write(np.array([0, 1, -1, 0.5, 2, -2], np.float32))
    assert np.frombuffer(os.read(reading, 64), "<i2").tolist() == [
        *(0, SCALE, -SCALE, SCALE // 2 + 1, SCALE, -SCALE)
    ]


def test_samples_are_rounded_to_the_nearest(ends: tuple[int, int]) -> None:
    """Cut towards nought instead, whatever is quieter than a step would be a hole."""
    reading, writing = ends
    PipeSink(writing).write((np.array([0.6, -0.6, 0.4, 1.6]) / SCALE).astype(np.float32))
    assert np.frombuffer(os.read(reading, 64), "<i2").tolist() == [1, -1, 0, 2]


def test_a_reader_that_does_not_read_costs_samples_and_no_time(ends: tuple[int, int]) -> None:
    reading, writing = ends
    sink = PipeSink(writing)
    for block in range(100):
        sink.write(ramp(block * 240, 240))
    assert len(os.read(reading, 1 << 20)) // 2 + sink.dropped_samples == 24_000


def test_a_reader_that_comes_back_hears_what_is_played_then(ends: tuple[int, int]) -> None:
    reading, writing = ends
    sink = PipeSink(writing)
    for block in range(20):
        sink.write(ramp(block * 240, 240))
    os.read(reading, 1 << 20)
    sink.write(ramp(9_000, 240))
    assert np.frombuffer(os.read(reading, 1 << 20), "<i2").tolist() == list(range(9_000, 9_240))


def test_a_reader_that_has_gone_is_told(ends: tuple[int, int]) -> None:
    reading, writing = ends
    sink = PipeSink(writing)
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        sink.write(ramp(0, 240))


def test_standard_output_is_left_as_it_was(ends: tuple[int, int]) -> None:
    sink = PipeSink(ends[1])
    assert not os.get_blocking(ends[1])
    sink.close()
    assert os.get_blocking(ends[1])


@given(st.lists(st.integers(-1, 15), max_size=30))
def test_every_sample_that_comes_through_is_whole(taken: list[int]) -> None:
    """`taken` is how many bytes the pipe takes each time, -1 that it is full."""
    written = bytearray()
    room = chain(taken, repeat(1 << 20))

    def write(_: int, data: bytes) -> int:
        count = next(room)
        if count < 0:
            raise BlockingIOError
        written.extend(data[:count])
        return min(count, len(data))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipe, "os", SimpleNamespace(write=write, set_blocking=lambda *_: None))
        sink = PipeSink(1)
        for block in range(len(taken) + 1):
            sink.write(ramp(1_000 + block * 5, 5))
    heard = np.frombuffer(bytes(written), "<i2").tolist()
    assert heard == sorted(set(heard))
    assert set(heard) <= set(range(1_000, 1_000 + 5 * len(taken) + 5))
    assert len(heard) + sink.dropped_samples == 5 * (len(taken) + 1)
