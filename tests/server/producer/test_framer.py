"""Blocks of any size into frames of one size, against a model that keeps every sample apart."""

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.format import SAMPLE_RATE, Samples
from server.producer.framer import Framer

FRAME = 48
START = 81_000_000_000_000  # a media sample of 2023
HALF_SECOND = SAMPLE_RATE // 2

Frames = list[tuple[int, list[float]]]
Blocks = list[tuple[int, list[float]]]


def ramp(count: int, first: int = 1) -> Samples:
    """Every sample another value, none of them silent."""
    return np.arange(first, first + count, dtype=np.float32)


def plain(frames: Iterable[tuple[int, np.ndarray]]) -> Frames:
    return [(start, frame.tolist()) for start, frame in frames]


def framed(blocks: Blocks, tail: int = 0) -> Frames:
    framer = Framer(FRAME)
    out: Frames = []
    for start, values in blocks:
        out += plain(framer.push(start, np.array(values, np.float32)))
    return out + plain(framer.flush(tail))


def modelled(blocks: Blocks, tail: int = 0) -> Frames:
    """The same by the words of the docstrings, one sample at a time."""
    spurts: list[tuple[int, list[float]]] = []
    for start, values in blocks:
        if not spurts or start - sum_end(spurts[-1]) > HALF_SECOND:
            spurts.append((start, []))
        spurt = spurts[-1]
        spurt[1].extend([0.0] * (start - sum_end(spurt)))
        spurt[1].extend(values[max(sum_end(spurt) - start, 0) :])
    frames: Frames = []
    for number, (start, values) in enumerate(spurts):
        is_last = number == len(spurts) - 1
        # A tail follows every last talkspurt, be it silent so far.
        padded = values + [0.0] * (tail if is_last else 0)
        padded += [0.0] * (-len(padded) % FRAME)
        frames += [(start + at, padded[at : at + FRAME]) for at in range(0, len(padded), FRAME)]
    return frames


def sum_end(spurt: tuple[int, list[float]]) -> int:
    return spurt[0] + len(spurt[1])


@given(st.lists(st.integers(0, 200), max_size=12))
def test_however_the_sound_is_cut_the_frames_are_the_same(lengths: list[int]) -> None:
    sound = ramp(sum(lengths))
    blocks, at = [], 0
    for length in lengths:
        blocks.append((START + at, sound[at : at + length].tolist()))
        at += length
    assert framed(blocks) == framed([(START, sound.tolist())] if lengths else [])


STEPS = st.one_of(
    st.integers(-300, 300),
    st.sampled_from([HALF_SECOND - 1, HALF_SECOND, HALF_SECOND + 1, 10 * SAMPLE_RATE]),
)


@settings(max_examples=60, deadline=None)
@given(
    pushes=st.lists(st.tuples(STEPS, st.integers(0, 150)), max_size=8),
    tail=st.sampled_from([0, 1, 47, 48, 312]),
)
def test_gaps_overlaps_and_tails_are_as_the_model_has_them(
    pushes: list[tuple[int, int]], tail: int
) -> None:
    blocks: Blocks = []
    end, value = START, 1
    for step, length in pushes:
        blocks.append((end + step, ramp(length, value).tolist()))
        end = max(end, end + step + length)
        value += length
    assert framed(blocks, tail) == modelled(blocks, tail)


def test_frames_of_one_talkspurt_are_contiguous_in_media_time() -> None:
    frames = framed([(START, ramp(100).tolist()), (START + 130, ramp(100).tolist())])
    assert [start for start, _ in frames] == [START + n * FRAME for n in range(len(frames))]


def test_a_short_gap_is_filled_with_silence() -> None:
    frames = framed([(START, [1.0] * 10), (START + 20, [1.0] * 28)])
    assert frames == [(START, [1.0] * 10 + [0.0] * 10 + [1.0] * 28)]


def test_a_long_gap_starts_a_new_talkspurt_where_its_sound_is() -> None:
    later = START + 10 + HALF_SECOND + 1
    frames = framed([(START, [1.0] * 10), (later, [1.0] * FRAME)])
    assert frames == [(START, [1.0] * 10 + [0.0] * 38), (later, [1.0] * FRAME)]


def test_time_does_not_go_back() -> None:
    frames = framed([(START, ramp(FRAME).tolist()), (START, ramp(FRAME, 1000).tolist())])
    assert frames == [(START, ramp(FRAME).tolist())]


def test_only_the_part_that_overlaps_is_dropped() -> None:
    frames = framed([(START, [1.0] * 30), (START + 20, [2.0] * 28)])
    assert frames == [(START, [1.0] * 30 + [2.0] * 18)]


def test_a_frame_comes_out_as_soon_as_it_is_complete() -> None:
    framer = Framer(FRAME)
    assert plain(framer.push(START, ramp(FRAME - 1))) == []
    assert len(plain(framer.push(START + FRAME - 1, ramp(1)))) == 1


@pytest.mark.parametrize("tail", [0, 312])
def test_a_programme_nobody_spoke_in_has_no_last_frame(tail: int) -> None:
    assert plain(Framer(FRAME).flush(tail)) == []


def test_the_tail_follows_the_sound_even_where_frames_came_out_even() -> None:
    framer = Framer(FRAME)
    assert len(plain(framer.push(START, ramp(FRAME)))) == 1
    assert plain(framer.flush(1)) == [(START + FRAME, [0.0] * FRAME)]
