from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.format import Samples
from codec.sources.blocks import first_sound, reblock
from codec.sources.tone import ToneSource


@given(st.lists(st.integers(0, 50)), st.integers(1, 60))
def test_reblocking_loses_and_invents_nothing(lengths: list[int], size: int) -> None:
    sound = np.arange(sum(lengths), dtype=np.float32)
    ends = np.cumsum(lengths, dtype=int)
    parts = [sound[e - n : e] for e, n in zip(ends, lengths, strict=True)]
    out = list(reblock(parts, size))
    assert np.array_equal(np.concatenate([np.zeros(0), *out]), sound)
    assert all(len(block) == size for block in out[:-1])
    assert all(0 < len(block) <= size for block in out)


def test_a_block_is_given_as_soon_as_it_is_full() -> None:
    def live() -> Iterator[Samples]:
        yield np.zeros(300, np.float32)
        yield np.zeros(300, np.float32)
        pytest.fail("waited for more than it needed")

    assert len(next(reblock(live(), 480))) == 480


def test_a_block_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        next(reblock([], 0))


def silence(seconds: float, offset: float = 0.0) -> Samples:
    return np.full(round(seconds * 48_000), offset, np.float32)


def test_silence_has_no_first_sound() -> None:
    assert first_sound([silence(1), silence(0.0012)]) is None
    assert first_sound([]) is None


def test_a_constant_offset_is_silence() -> None:
    assert first_sound([silence(1, offset=0.2)]) is None
    assert first_sound([np.stack([silence(1, 0.2), silence(1, -0.3)], axis=1)]) is None


def test_sound_is_found_where_it_begins() -> None:
    tone = next(ToneSource(level_dbfs=-30).blocks(4_800))
    assert first_sound([silence(2), tone]) == 96_000


def test_the_search_stops_at_the_sound() -> None:
    def source() -> Iterator[Samples]:
        yield silence(0.5)
        yield next(ToneSource().blocks(4_800))
        pytest.fail("read on after the first sound")

    assert first_sound(source()) is not None


@pytest.mark.parametrize(("level", "found"), [(-50, True), (-60, False)])
def test_the_threshold_divides(level: float, found: bool) -> None:
    # A sine's RMS is 3 dB under its peak.
    quiet = ToneSource(level_dbfs=level, seconds=0.5)
    assert (first_sound(quiet, threshold_dbfs=-60) is not None) is found


def test_one_channel_that_sounds_is_enough() -> None:
    tone = next(ToneSource(level_dbfs=-30).blocks(4_800))
    assert first_sound([np.stack([np.zeros_like(tone), tone], axis=1)]) == 0
