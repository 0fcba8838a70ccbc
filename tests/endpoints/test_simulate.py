import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.simulate import Crystal, SimulatedClock, Simulation, SimulationError

SECOND = 1_000_000_000
WORLDS = st.builds(
    Simulation,
    dac_ppm=st.floats(-1000, 1000),
    dac_wander_ppm=st.floats(0, 100),
    seed=st.integers(0, 2**32),
)


# ------------------------------------------------------------------ what is asked for
def test_nothing_is_a_perfect_world() -> None:
    assert Simulation.parse("{}") == Simulation()


def test_everything_can_be_asked_for() -> None:
    text = """{"clock_offset_s": -7.25, "clock_skew_ppm": 40, "dac_ppm": -30, "dac_wander_ppm": 2,
               "reading_noise_us": 50, "seed": 9, "servo": false, "time_exchange": false}"""
    expected = Simulation(-7.25, 40, -30, 2, 50, 9, servo=False, time_exchange=False)
    assert Simulation.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "wants JSON"),
        ("{", "wants JSON"),
        ("dac_ppm=30", "wants JSON"),
        ("5", "wants JSON"),
        ("null", "wants JSON"),
        ('"dac_ppm"', "wants JSON"),
        ("[]", "wants JSON"),
        ('["dac_ppm"]', "wants JSON"),
        ("NaN", "wants JSON"),
        ("[" * 100_000, "wants JSON"),
        ('{"dac_pm": 30}', "knows .*dac_ppm.*not dac_pm"),
        ('{"dac_ppm": "30"}', "dac_ppm: '30' is not a number"),
        ('{"dac_ppm": null}', "dac_ppm: None is not a number"),
        ('{"dac_ppm": true}', "dac_ppm: True is not a number"),
        ('{"dac_ppm": [30]}', "dac_ppm: .* is not a number"),
        ('{"servo": 1}', "servo: 1 is not true or false"),
        ('{"servo": "no"}', "servo: 'no' is not true or false"),
        ('{"seed": 1.5}', "seed: 1.5 is not a whole number"),
        ('{"clock_offset_s": NaN}', "clock_offset_s: nan is not a number"),
        ('{"clock_offset_s": Infinity}', "clock_offset_s: inf is too much; at most"),
        ('{"clock_offset_s": 1e300}', "clock_offset_s: .* at most"),
        ('{"clock_skew_ppm": 1001}', "clock_skew_ppm: .* at most"),
        ('{"dac_ppm": -1000000}', "dac_ppm: .* at most"),
        ('{"dac_wander_ppm": 1e9}', "dac_wander_ppm: .* at most"),
        ('{"reading_noise_us": 1e12}', "reading_noise_us: .* at most"),
    ],
)
def test_rubbish_is_refused_and_the_message_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(SimulationError, match=says) as refused:
        Simulation.parse(text)
    assert "\n" not in str(refused.value)


@given(st.text(max_size=60))
def test_arbitrary_text_is_refused_and_nothing_worse(text: str) -> None:
    with pytest.raises(SimulationError):
        Simulation.parse(text)


# ------------------------------------------------------------------ the crystal
@given(WORLDS, st.floats(0, 86_400))
def test_phase_and_its_inverse_agree(world: Simulation, seconds: float) -> None:
    crystal = Crystal(world)
    # A day is 4e9 samples, of which a float holds a millionth.
    assert crystal.seconds_at(crystal.samples_at(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(WORLDS, st.floats(0, 4e9))
def test_the_inverse_and_phase_agree(world: Simulation, samples: float) -> None:
    crystal = Crystal(world)
    assert crystal.samples_at(crystal.seconds_at(samples)) == pytest.approx(samples, abs=1e-4)


@given(WORLDS)
def test_a_crystal_begins_at_nought_and_runs_forward(world: Simulation) -> None:
    crystal = Crystal(world)
    phases = [crystal.samples_at(second) for second in range(0, 300, 7)]
    assert phases[0] == 0
    assert all(np.diff(phases) > 0)


def test_without_wander_the_rate_is_what_was_asked_for() -> None:
    crystal = Crystal(Simulation(dac_ppm=50))
    assert crystal.samples_at(1_000) == pytest.approx(48_000_000 + 2_400)


@pytest.mark.parametrize("seed", range(5))
def test_wander_stays_within_what_was_asked_for_and_is_there(seed: int) -> None:
    crystal = Crystal(Simulation(dac_ppm=20, dac_wander_ppm=3, seed=seed))
    phases = np.array([crystal.samples_at(second) for second in range(600)])
    off_ppm = (np.diff(phases) / 48_000 - 1) * 1e6 - 20
    assert np.abs(off_ppm).max() <= 3
    assert np.ptp(off_ppm) > 3


def test_two_seeds_are_two_crystals_and_one_is_one() -> None:
    crystals = [Crystal(Simulation(dac_wander_ppm=3, seed=seed)) for seed in (1, 1, 2)]
    one, same, other = (crystal.samples_at(45.0) for crystal in crystals)
    assert one == same != other


# ------------------------------------------------------------------ the clock
class TrueClock:
    """The world's time, set by the test."""

    def __init__(self) -> None:
        self.ns = 1_000 * SECOND

    def now_ns(self) -> int:
        return self.ns

    def of_kernel_stamp(self, realtime_ns: int) -> int | None:
        return None if realtime_ns < 0 else realtime_ns - 500


def test_a_simulated_clock_is_off_and_runs_fast() -> None:
    true = TrueClock()
    clock = SimulatedClock(true, Simulation(clock_offset_s=-3.5, clock_skew_ppm=100))
    assert clock.now_ns() == true.ns - 3_500_000_000
    true.ns += 10 * SECOND
    assert clock.now_ns() == true.ns - 3_500_000_000 + 1_000_000


def test_a_kernel_stamp_is_as_this_clock_would_have_made_it() -> None:
    true = TrueClock()
    clock = SimulatedClock(true, Simulation(clock_offset_s=2))
    assert clock.of_kernel_stamp(true.ns + 500) == clock.of_true(true.ns)
    assert clock.of_kernel_stamp(-1) is None


def test_a_perfect_world_changes_nothing() -> None:
    true = TrueClock()
    assert SimulatedClock(true, Simulation()).now_ns() == true.ns
    assert math.isclose(Crystal(Simulation()).seconds_at(48_000), 1.0)
