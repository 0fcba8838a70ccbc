"""The line through a sound card's readings: smooth, and broken where the card has jumped."""

import numpy as np
import pytest

from codec.format import SAMPLE_RATE
from endpoints.outputs.dac import DacClock, Reading

SECOND = 1_000_000_000
MS = 1_000_000
US = 1_000
WORLD_NS = 77 * SECOND
FRAMES = 120


def reading(index: int, error_us: float = 0.0, start_ns: int = WORLD_NS) -> Reading:
    sounds_ns = start_ns + index * SECOND // SAMPLE_RATE + round(error_us * US)
    return Reading(index, sounds_ns, sounds_ns - 12 * MS)


def settled(seconds: float = 2.0, noise_us: float = 0.0) -> tuple[DacClock, int]:
    dac, draw = DacClock(), np.random.default_rng(1)
    last = round(seconds * SAMPLE_RATE)
    for index in range(0, last, FRAMES):
        dac.read(reading(index, float(draw.normal(0, noise_us))))
    return dac, last


def error_us(dac: DacClock, index: int, start_ns: int = WORLD_NS) -> float:
    return (dac.sounds_at_ns(index) - start_ns - index * SECOND // SAMPLE_RATE) / US


def test_nothing_is_known_without_readings() -> None:
    dac = DacClock()
    assert not dac.known
    with pytest.raises(ValueError, match="no readings"):
        dac.sounds_at_ns(0)


def test_a_burst_of_callbacks_that_fills_the_card_proves_nothing() -> None:
    dac = DacClock()
    for number in range(8):
        dac.read(Reading(number * FRAMES, WORLD_NS + number * 2_500_000, WORLD_NS + number * US))
    assert not dac.known


def test_noise_is_averaged_to_well_below_that_of_one_reading() -> None:
    dac, last = settled(noise_us=100.0)
    steps, before = [], error_us(dac, last)
    draw = np.random.default_rng(2)
    for index in range(last, last + SAMPLE_RATE, FRAMES):
        dac.read(reading(index, float(draw.normal(0, 100.0))))
        steps.append(error_us(dac, index) - before)
        before = error_us(dac, index)
    assert abs(error_us(dac, last)) < 30
    assert np.abs(steps).max() < 5


@pytest.mark.parametrize("wild_us", [-400_000.0, -1_500.0, 1_500.0, 400_000.0])
def test_one_or_two_wild_readings_move_nothing(wild_us: float) -> None:
    dac, last = settled()
    dac.read(reading(last, wild_us))
    dac.read(reading(last + FRAMES, wild_us))
    assert abs(error_us(dac, last)) < 0.01
    dac.read(reading(last + 2 * FRAMES))
    dac.read(reading(last + 3 * FRAMES, wild_us))
    assert abs(error_us(dac, last)) < 0.01


def test_wild_readings_that_do_not_agree_are_no_jump() -> None:
    dac, last = settled()
    for number in range(50):
        dac.read(reading(last + number * FRAMES, 5_000.0 * (number % 2 + 1)))
    assert abs(error_us(dac, last)) < 0.01


@pytest.mark.parametrize("jump_us", [-5_000.0, 1_200.0, 5_000.0, 2_000_000.0])
def test_a_jump_is_believed_at_the_third_reading(jump_us: float) -> None:
    dac, last = settled()
    for number in range(3):
        assert abs(error_us(dac, last)) < 0.01
        dac.read(reading(last + number * FRAMES, jump_us))
    assert abs(error_us(dac, last) - jump_us) < 0.01


@pytest.mark.parametrize("ppm", [-50.0, 50.0])
def test_a_crystal_is_followed_a_quarter_of_a_second_behind(ppm: float) -> None:
    dac = DacClock()
    for index in range(0, 10 * SAMPLE_RATE, FRAMES):
        dac.read(reading(index, ppm * index / SAMPLE_RATE))
    assert error_us(dac, index) - ppm * index / SAMPLE_RATE == pytest.approx(-ppm / 4, abs=0.5)
