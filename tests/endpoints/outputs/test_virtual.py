"""The simulated sound card on trio's virtual clock."""

from collections.abc import Callable

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from codec.format import SAMPLE_RATE, Samples
from endpoints.outputs.base import OutputError, Pull
from endpoints.outputs.virtual import NullSink, VirtualDevice
from endpoints.simulate import Crystal, Simulation

SECOND = 1_000_000_000
WORLD_NS = 77 * SECOND
PERIOD, BUFFER = 240, 480


def true_now_ns() -> int:
    return WORLD_NS + round(trio.current_time() * SECOND)


class ListSink:
    """Keeps what it is given; fails where it is told to."""

    def __init__(self, fails: str = "", error: OSError | None = None) -> None:
        self.started_ns = -1
        self.blocks: list[Samples] = []
        self.lengths: list[int] = []
        self.closed = 0
        self._fails, self._error = fails, error

    def start(self, true_ns: int) -> None:
        self.started_ns = true_ns
        self._fail("start")

    def write(self, samples: Samples) -> None:
        self.lengths.append(len(samples))
        if len(samples) == PERIOD:  # longer ones are silence, and an hour of it is much
            self.blocks.append(samples)
        self._fail(f"write {len(self.lengths)}")

    def close(self) -> None:
        self.closed += 1
        self._fail("close")

    def _fail(self, where: str) -> None:
        if self._error is not None and where in self._fails:
            raise self._error


class Puller:
    """Counts upwards, and notes when it was asked for what."""

    def __init__(self, during: Callable[[int], None] = lambda _: None) -> None:
        self.calls: list[tuple[int, int, int]] = []
        self._during = during

    def __call__(self, samples: int, sounds_at_ns: int) -> Samples:
        self.calls.append((true_now_ns(), samples, sounds_at_ns))
        self._during(len(self.calls))
        return np.full(samples, len(self.calls), np.float32)


def device(sink: ListSink | NullSink, simulation: Simulation | None = None) -> VirtualDevice:
    world = simulation or Simulation()
    return VirtualDevice(
        sink,
        Crystal(world),
        true_now_ns,
        lambda true_ns: true_ns + 5,
        period_samples=PERIOD,
        buffer_samples=BUFFER,
        reading_noise_us=world.reading_noise_us,
        seed=world.seed,
    )


async def run_for(seconds: float, card: VirtualDevice, pull: Pull) -> None:
    with trio.move_on_after(seconds):
        await card.run(pull)


@pytest.mark.trio
async def test_it_pulls_a_period_at_a_time_one_buffer_ahead(autojump_clock: MockClock) -> None:
    sink, pull = ListSink(), Puller()
    await run_for(1.0, device(sink), pull)
    assert sink.started_ns == WORLD_NS + 10_000_000
    asked_ns, samples, sounds_ns = np.array(pull.calls[:200]).T
    assert set(samples) == {PERIOD}
    assert np.array_equal(sounds_ns, sink.started_ns + 5 + 5_000_000 * np.arange(200))
    assert np.abs(sounds_ns - 5 - 10_000_000 - asked_ns).max() < 1_000
    assert [block[0] for block in sink.blocks] == list(range(1, len(sink.blocks) + 1))


@pytest.mark.trio
@pytest.mark.parametrize("dac_ppm", [-300, 300])
async def test_it_pulls_at_its_crystals_rate(autojump_clock: MockClock, dac_ppm: float) -> None:
    sink = ListSink()
    await run_for(60.0, device(sink, Simulation(dac_ppm=dac_ppm)), Puller())
    played = sum(map(len, sink.blocks)) - BUFFER
    assert played == pytest.approx(60 * SAMPLE_RATE * (1 + dac_ppm * 1e-6), abs=2 * PERIOD)


@pytest.mark.trio
async def test_readings_are_as_noisy_as_asked_for(autojump_clock: MockClock) -> None:
    sink, pull = ListSink(), Puller()
    await run_for(5.0, device(sink, Simulation(reading_noise_us=50, seed=1)), pull)
    sounds_ns = np.array([sounds for _, _, sounds in pull.calls])
    noise_us = (sounds_ns - sink.started_ns - 5_000_000 * np.arange(len(sounds_ns))) / 1e3
    assert np.std(noise_us) == pytest.approx(50, rel=0.1)
    assert np.mean(noise_us) == pytest.approx(0, abs=5)


@pytest.mark.trio
@pytest.mark.parametrize(
    ("busy_s", "missed_periods"), [(0.0101, 1), (0.0149, 1), (0.0151, 2), (0.5, 99)]
)
async def test_a_late_pull_is_heard_as_silence_and_counted(
    mock_clock: MockClock, busy_s: float, missed_periods: int
) -> None:
    """Two periods lie in the buffer; when they have sounded, every one that begins is missed."""
    mock_clock.autojump_threshold = 0
    sink = ListSink()
    pull = Puller(lambda call: mock_clock.jump(busy_s) if call == 10 else None)
    card = device(sink)
    await run_for(2.0, card, pull)
    assert card.underruns == 1
    sound = np.concatenate(sink.blocks)
    # The silence fills the hole to the sample.
    periods = (pull.calls[-1][2] - 5 - sink.started_ns) // 5_000_000 + 1
    assert sum(sink.lengths) == periods * PERIOD
    assert np.array_equal(sound[: 9 * PERIOD], np.repeat(np.arange(1, 10), PERIOD))
    assert 10 not in sound  # it came too late for its place
    # After the hole every sample is where it belongs in time again.
    _, _, sounds_ns = pull.calls[10]
    assert sounds_ns - 5 == sink.started_ns + (9 + missed_periods) * 5_000_000


@pytest.mark.trio
async def test_a_pull_in_the_last_moment_is_not_late(mock_clock: MockClock) -> None:
    mock_clock.autojump_threshold = 0
    card = device(ListSink())
    await run_for(2.0, card, Puller(lambda call: mock_clock.jump(0.0099) if call == 10 else None))
    assert card.underruns == 0


@pytest.mark.trio
async def test_an_hour_asleep_is_played_as_silence_a_little_at_a_time(
    mock_clock: MockClock,
) -> None:
    """At once it would be 700 MB, and what a recording does with it many times that."""
    mock_clock.autojump_threshold = 0
    sink = ListSink()
    card = device(sink)
    pull = Puller(lambda call: mock_clock.jump(3_600) if call == 10 else None)
    await run_for(3_601.0, card, pull)
    assert card.underruns == 1
    assert max(sink.lengths) <= SAMPLE_RATE
    assert sum(sink.lengths) == pytest.approx(3_601 * SAMPLE_RATE, abs=BUFFER + PERIOD)


@pytest.mark.trio
@pytest.mark.parametrize("fails", ["start", "write 3", "write 3, close"])
async def test_a_sink_that_fails_ends_it_with_one_line(
    autojump_clock: MockClock, fails: str
) -> None:
    sink = ListSink(fails, BrokenPipeError(32, "Broken pipe"))
    with pytest.raises(OutputError, match=r"^the output failed: Broken pipe$"):
        await device(sink).run(Puller())
    assert sink.closed == 1


@pytest.mark.trio
async def test_the_sink_is_closed_when_it_is_cancelled(autojump_clock: MockClock) -> None:
    sink = ListSink()
    await run_for(0.1, device(sink), Puller())
    assert sink.closed == 1


@pytest.mark.trio
async def test_a_mistake_of_the_players_is_not_taken_for_the_outputs(
    autojump_clock: MockClock,
) -> None:
    def wrong(samples: int, sounds_at_ns: int) -> Samples:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        await device(NullSink()).run(wrong)
