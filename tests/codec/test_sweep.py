"""Two loudspeakers in one recording: of rooms, horns, noise, and clocks that are wrong."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from codec.dsp import sweep
from codec.dsp.sweep import SLOTS_S, SweepError, measure
from codec.format import SAMPLE_RATE, Samples
from tests.support.rooms import Reals, Room, horn, recorded, through

CLEAN = (np.ones(1), np.ones(1))
ROOM = Room()
# The direct sound is as loud as all the rest, and half a millisecond before a louder echo.
CAVE = Room(direct_db=0, first_ms=0.5)


def drawn(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def errors_us(room: Room, snr_db: float, count: int, *, unlike: bool = False) -> list[float]:
    """Of so many recordings; each is within twice what it was said to be uncertain by."""
    errors = []
    for seed in range(count):
        draw = drawn(20261121 + seed)
        later_s, ppm = draw.uniform(-0.03, 0.03), draw.choice([-50.0, 50.0])
        ways: tuple[Reals, Reals] = (room.response(draw), room.response(draw))
        if unlike:
            ways = (through(ways[0], horn(400, 6500)), through(ways[1], horn(350, 5500)))
        heard = recorded(draw, later_s, ways, snr_db=snr_db, recorder_ppm=ppm)
        said = measure(heard)
        assert said.drift_ppm == pytest.approx(ppm, abs=1)
        error_s = said.later_s - later_s
        assert abs(error_s) < 2 * said.uncertainty_s < 200e-6
        errors.append(abs(error_s) * 1e6)
    return errors


# ------------------------------------------------------------------ how exact it is
@pytest.mark.parametrize(
    ("room", "snr_db", "unlike"),
    [(ROOM, 20.0, False), (CAVE, 10.0, False), (CAVE, 10.0, True)],
    ids=["a room", "a cave", "two horns in a cave"],
)
def test_it_is_exact_to_30_us_in_rooms(room: Room, snr_db: float, unlike: bool) -> None:
    errors = errors_us(room, snr_db, 6, unlike=unlike)
    print(f"median {np.median(errors):.1f} us, worst {max(errors):.1f} us")
    assert np.median(errors) < 10
    assert max(errors) < 30


@pytest.mark.parametrize("later_s", [0.0, 1.234e-3, -0.0371, 0.2])
def test_in_the_open_it_is_exact_to_a_microsecond(later_s: float) -> None:
    said = measure(recorded(drawn(1), later_s, CLEAN))
    assert said.later_s == pytest.approx(later_s, abs=1e-6)
    assert 10e-6 <= said.uncertainty_s < 12e-6


def test_the_direct_sound_counts_and_not_the_loudest() -> None:
    way = np.zeros(1000)
    way[0], way[700] = 0.7, 1.0
    said = measure(recorded(drawn(1), 0.002, (np.ones(1), way)))
    assert said.later_s == pytest.approx(0.002, abs=2e-6)


def test_a_loudspeaker_that_is_wired_the_wrong_way_round_is_heard_at_the_same_time() -> None:
    said = measure(recorded(drawn(1), 0.002, (np.ones(1), -np.ones(1))))
    assert said.later_s == pytest.approx(0.002, abs=1e-6)


def test_what_a_horn_distorts_is_out_of_the_way() -> None:
    heard = recorded(drawn(1), 0.002, CLEAN).astype(np.float64)
    said = measure(((heard + 0.5 * heard**2 + 0.3 * heard**3) / 2).astype(np.float32))
    assert said.later_s == pytest.approx(0.002, abs=5e-6)


def test_more_noise_makes_it_less_certain_and_it_says_so() -> None:
    quiet, loud = (measure(recorded(drawn(3), 0.01, CLEAN, snr_db=snr)) for snr in (20, -20))
    assert quiet.snr_db == pytest.approx(loud.snr_db + 40, abs=3)
    assert loud.uncertainty_s > quiet.uncertainty_s + 1e-6


def test_the_recorder_s_clock_does_not_count() -> None:
    for ppm in (-200.0, 200.0):
        said = measure(recorded(drawn(1), 0.002, CLEAN, recorder_ppm=ppm))
        assert said.drift_ppm == pytest.approx(ppm, abs=0.5)
        assert said.later_s == pytest.approx(0.002, abs=2e-6)


@pytest.mark.parametrize("start_s", [0.0, 0.3, 1.7])
def test_a_recording_may_begin_and_end_anywhere(start_s: float) -> None:
    heard = recorded(drawn(1), -0.004, CLEAN, start_s=start_s, snr_db=30)
    assert measure(heard).later_s == pytest.approx(-0.004, abs=3e-6)


def test_it_may_be_very_faint() -> None:
    heard = recorded(drawn(1), -0.004, CLEAN, snr_db=20) * np.float32(1e-4)
    assert measure(heard).later_s == pytest.approx(-0.004, abs=3e-6)


# ------------------------------------------------------------------ what it does not tell
def silenced(heard: Samples, parts: list[tuple[int, int]]) -> Samples:
    """Without the sweeps (whose, which) of a recording that began 0.5 s before the first."""
    heard = heard.copy()
    for whose, which in parts:
        begin = int((SLOTS_S[whose][which] + 0.4) * SAMPLE_RATE)
        heard[begin : begin + int(1.5 * SAMPLE_RATE)] = 0
    noise = drawn(7).standard_normal(len(heard)) * 1e-3
    return (heard + noise).astype(np.float32)


def whole() -> Samples:
    return recorded(drawn(1), 0.001, CLEAN, snr_db=30)


def refused() -> Iterator[tuple[str, Samples, str]]:
    noise = drawn(1).standard_normal(14 * SAMPLE_RATE).astype(np.float32) * np.float32(0.1)
    yield "noise", noise, "no sweeps stand out of the noise"
    yield "silence", np.zeros(14 * SAMPLE_RATE, np.float32), "silent throughout"
    yield "nothing", np.zeros(0, np.float32), "shorter than the sweeps"
    yield "its beginning alone", whole()[: 10 * SAMPLE_RATE], "shorter than the sweeps"
    yield "an hour", np.zeros(181 * SAMPLE_RATE, np.float32), "longer than 180 s"
    yield "one of them", silenced(whole(), [(1, n) for n in range(3)]), "the second loudspeaker"
    yield "the other", silenced(whole(), [(0, n) for n in range(3)]), "the first loudspeaker"
    yield "too much noise", recorded(drawn(1), 0.0, CLEAN, snr_db=-40), "no sweeps stand out"
    far = recorded(drawn(1), 0.4, CLEAN)
    yield "two that are far apart", far, "more than 0.25 s apart"
    uneven = recorded(drawn(1), 0.0, CLEAN, late_by_s=(0.0, 0.002, 0.0))
    yield "one that jumps", uneven, "do not keep time by"


REFUSED = {name: (sound, why) for name, sound, why in refused()}


@pytest.mark.parametrize("what", REFUSED)
def test_what_does_not_tell_is_refused_in_one_line(what: str) -> None:
    sound, why = REFUSED[what]
    with pytest.raises(SweepError, match=why) as caught:
        measure(sound)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", [*itertools.product((0, 1), range(3))])
def test_a_sweep_less_is_never_taken_for_another(missing: tuple[int, int]) -> None:
    with pytest.raises(SweepError):
        measure(silenced(whole(), [missing]))


def test_one_who_began_to_record_too_late_is_not_told_the_opposite() -> None:
    padding = drawn(2).standard_normal(4 * SAMPLE_RATE).astype(np.float32) * np.float32(0.01)
    late = np.concatenate((whole()[2 * SAMPLE_RATE :], padding))
    with pytest.raises(SweepError, match="the first loudspeaker"):
        measure(late)


def test_a_recording_has_one_channel() -> None:
    with pytest.raises(ValueError, match="one-dimensional"):
        measure(np.zeros((SAMPLE_RATE, 2), np.float32))


# ------------------------------------------------------------------ what is played
def test_they_never_sweep_at_the_same_time_and_there_is_time_for_echoes() -> None:
    played = sweep.schedule()
    assert played.shape == (12 * SAMPLE_RATE, 2)
    assert 0.49 < np.abs(played).max() <= 0.5
    sounding = np.abs(played) > 0
    assert not np.any(sounding[:, 0] & sounding[:, 1])
    starts = sorted(itertools.chain(*SLOTS_S))
    assert min(np.diff(starts)) >= sweep.SWEEP_S + 0.75


def test_what_is_played_measures_as_nothing_at_all() -> None:
    said = measure(sweep.schedule().sum(axis=1))
    assert said.later_s == pytest.approx(0, abs=1e-7)
    assert said.drift_ppm == pytest.approx(0, abs=0.01)
