"""The gain along what is invented and what returns."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.dsp.conceal import HOLD_SAMPLES, SILENT_SAMPLES, Mender
from codec.dsp.fade import FADE_SAMPLES
from codec.format import Samples

MS = 48


def loud(samples: int, start: int = 0) -> Samples:
    along = 2 * np.pi * 200 / 48_000 * np.arange(start, start + samples)
    sine: Samples = np.sin(along).astype(np.float32)
    return sine


def ones(samples: int) -> Samples:
    """Loud, and the gain can be read from it."""
    return np.ones(samples, np.float32)


def gap(mender: Mender, samples: int, block: int = 120) -> Samples:
    return np.concatenate([mender.invented(ones(block)) for _ in range(samples // block)])


def mended() -> Mender:
    mender = Mender()
    mender.sent(ones(960))
    return mender


def test_what_was_sent_is_passed_on_untouched() -> None:
    mender = Mender()
    for start in range(0, 9_600, 960):
        block = loud(960, start)
        assert mender.sent(block) is block


def test_concealment_is_whole_for_60_ms_and_silent_from_120_ms_on() -> None:
    gains = gap(mended(), 12_000)
    assert (gains[:HOLD_SAMPLES] == 1).all()
    falling = gains[HOLD_SAMPLES + 1 : SILENT_SAMPLES]
    assert (np.diff(falling) < 0).all()
    assert falling[len(falling) // 2] == pytest.approx(0.5, abs=0.01)
    assert not gains[SILENT_SAMPLES:].any()


@pytest.mark.parametrize("block", [120, 960, 2_880])
def test_the_gain_does_not_depend_on_how_time_is_cut(block: int) -> None:
    assert np.allclose(gap(mended(), 11_520, block), gap(mended(), 11_520, 40), atol=1e-6)


def test_after_a_short_gap_nothing_is_changed() -> None:
    mender = mended()
    gap(mender, HOLD_SAMPLES)
    block = loud(960)
    assert mender.sent(block) is block


@pytest.mark.parametrize("missing", [80 * MS, 90 * MS, 100 * MS, 120 * MS, 400 * MS, 5_000 * MS])
def test_what_returns_fades_in_over_5_ms_from_where_the_gain_is(missing: int) -> None:
    mender = mended()
    before = gap(mender, missing)
    after = np.concatenate([mender.sent(ones(120)) for _ in range(4)])
    assert after[0] == pytest.approx(before[-1], abs=0.002)
    assert (np.diff(after[:FADE_SAMPLES]) >= 0).all()
    assert (after[FADE_SAMPLES:] == 1).all()


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 100)), min_size=1, max_size=30))
def test_the_gain_never_steps(pieces: list[tuple[bool, int]]) -> None:
    """No more between two samples than a fade of 5 ms does."""
    mender = mended()
    gains = []
    for is_sent, count in pieces:
        block = ones(count * 120)
        gains.append(mender.sent(block) if is_sent else mender.invented(block))
    steepest = np.pi / 2 / FADE_SAMPLES
    heard = np.concatenate(([np.float32(1)], *gains))
    assert np.abs(np.diff(heard)).max() <= steepest * 1.001
    assert heard.min() >= 0
    assert heard.max() <= 1


def test_a_return_that_breaks_off_goes_on_from_where_it_was() -> None:
    mender = mended()
    gap(mender, SILENT_SAMPLES)
    back = mender.sent(ones(120))
    again = gap(mender, HOLD_SAMPLES)
    assert 0 < back[-1] < 1
    assert again == pytest.approx(back[-1], abs=0.01)


def test_a_pause_keeps_its_comfort_noise_until_the_next_frame_must_have_come() -> None:
    mender = Mender()
    mender.sent(ones(960) * np.float32(0.005))
    gains = gap(mender, 24_000)
    assert (gains[: 400 * MS] == 1).all()
    assert gains[-1] == pytest.approx(0, abs=1e-3)
    assert all(0 <= before - after < 0.01 for before, after in pairwise(gains))


def test_what_follows_nothing_is_not_faded() -> None:
    mender = mended()
    gap(mender, SILENT_SAMPLES)
    mender.begin()
    block = ones(960)
    assert mender.sent(block) is block
