"""Gains that turn at stated positions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.dsp.fade import FADE_SAMPLES, Fader
from codec.format import Samples

NOW = 1_790_000_000 * 48_000


def gains(fader: Fader, begin: int, end: int) -> Samples:
    return fader.gains(NOW, np.arange(begin, end, dtype=np.float64))


def test_nothing_is_heard_before_the_first_turn() -> None:
    fader = Fader()
    assert fader.target == 0
    assert fader.is_silent(NOW, NOW + 1000)
    assert not gains(fader, 0, 1000).any()


def test_a_turn_begins_at_its_position_and_takes_5_ms() -> None:
    fader = Fader()
    fader.turn(1.0, NOW + 100)
    heard = gains(fader, 0, 1000)
    assert not heard[:101].any()
    assert 0 < heard[101] < heard[220] < heard[339] < 1
    assert np.all(heard[100 + FADE_SAMPLES :] == 1)


@pytest.mark.parametrize("offset", [0, 17, FADE_SAMPLES, 5000])
def test_two_that_turn_against_each_other_sum_to_one(offset: int) -> None:
    one, other = Fader(), Fader()
    one.turn(1.0, NOW)
    for fader, target in ((one, 0.0), (other, 1.0)):
        fader.turn(target, NOW + offset)
    both = gains(one, offset, 9000) + gains(other, offset, 9000)
    alone = gains(one, 0, offset)[-1:]
    assert np.all(both <= 1 + 1e-6)
    assert np.allclose(both[FADE_SAMPLES:], 1)
    assert np.allclose(both[0], alone, atol=0.02)


def test_silence_is_known_block_by_block() -> None:
    fader = Fader()
    fader.turn(1.0, NOW + 500)
    fader.turn(0.0, NOW + 2000)
    silent = [fader.is_silent(NOW + at, NOW + at + 240) for at in range(0, 3000, 240)]
    ends = 2000 + FADE_SAMPLES
    assert silent == [at + 240 <= 500 or at >= ends for at in range(0, 3000, 240)]


@given(st.lists(st.tuples(st.integers(0, 600), st.booleans()), max_size=12), st.integers(1, 500))
def test_no_history_of_turns_makes_a_click_or_depends_on_blocks(
    steps: list[tuple[int, bool]], block: int
) -> None:
    whole, cut = Fader(), Fader()
    at = 0
    for step, on in steps:
        at += step
        whole.turn(float(on), NOW + at)
        cut.turn(float(on), NOW + at)
    end = at + 2 * FADE_SAMPLES
    expected = gains(whole, 0, end)
    # The steepest a raised cosine of 240 samples can be.
    assert np.max(np.abs(np.diff(expected)), initial=0) <= np.pi / 2 / FADE_SAMPLES + 1e-6
    pieces = []
    for begin in range(0, end, block):
        until = min(begin + block, end)
        piece = gains(cut, begin, until)
        assert cut.is_silent(NOW + begin, NOW + until) <= (not piece.any())
        pieces.append(gains(cut, begin, until))
    assert np.array_equal(np.concatenate(pieces), expected)
