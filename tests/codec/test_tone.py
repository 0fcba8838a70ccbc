import itertools

import numpy as np
import pytest

from codec.sources.tone import ToneSource


@pytest.mark.parametrize("block", [1, 97, 480, 4_801, 100_000])
def test_blocks_of_any_length_join_without_a_seam(block: int) -> None:
    total = 480 if block == 1 else 48_000
    source = ToneSource(437.5, level_dbfs=-6, seconds=total / 48_000)
    heard = np.concatenate(list(source.blocks(block)))
    n = np.arange(total)
    expected = 10 ** (-6 / 20) * np.minimum(1, n / 240) * np.sin(2 * np.pi * 437.5 * n / 48_000)
    assert heard.dtype == np.float32
    assert np.max(np.abs(heard - expected)) < 1e-6


def test_it_lasts_exactly_as_long_as_asked() -> None:
    lengths = [len(block) for block in ToneSource(seconds=0.025).blocks(480)]
    assert lengths == [480, 480, 240]


def test_without_seconds_it_does_not_end() -> None:
    assert sum(len(b) for b in itertools.islice(ToneSource(), 1_000)) == 480_000


def test_it_begins_softly() -> None:
    first = next(iter(ToneSource(5_000, level_dbfs=0)))
    assert np.max(np.abs(first[:24])) < 0.11
    assert np.max(np.abs(first[240:])) > 0.99


def test_stereo_is_the_same_on_both_sides() -> None:
    block = next(iter(ToneSource(channels=2)))
    assert block.shape == (480, 2)
    assert np.array_equal(block[:, 0], block[:, 1])
    assert np.any(block)


@pytest.mark.parametrize(
    "wrong", [{"frequency_hz": 0}, {"frequency_hz": 24_000}, {"level_dbfs": 1}, {"channels": 3}]
)
def test_tones_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ToneSource(**wrong)
