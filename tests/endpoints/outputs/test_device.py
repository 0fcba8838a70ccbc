"""A sound card that lives on trio's virtual clock: its times, its holes, its going and coming."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
import trio
from trio.testing import MockClock

from codec.format import SAMPLE_RATE, Samples
from codec.soundcard import SoundCardError
from endpoints.outputs.base import OutputError
from endpoints.outputs.card import OpenCard
from endpoints.outputs.device import DeviceOutput

SECOND = 1_000_000_000
WORLD_NS = 77 * SECOND
FRAMES = 120
LATENCY_S = 0.0125
WALL_S = 1_790_000_000.0


@dataclass
class WorldClock:
    """Goes on while the machine sleeps, for `sleeps_s` from `at_s` on; timers and cards do not."""

    at_s: float = 1e9
    sleeps_s: float = 0.0

    def now_ns(self) -> int:
        now_s = trio.current_time()
        return WORLD_NS + round((now_s + (self.sleeps_s if now_s >= self.at_s else 0.0)) * SECOND)

    def of_kernel_stamp(self, realtime_ns: int) -> int | None:
        return realtime_ns


@dataclass
class FakeCard:
    """Asks for 2.5 ms at a time and plays them `LATENCY_S` later, on a wall clock of its own."""

    refuses: list[str] = field(default_factory=list)
    hangs_after: float = 1e9  # seconds of the world
    ends_at: float = 1e9
    skips_at: float = 1e9
    skip_s: float = 0.0
    frames: int = FRAMES
    says_dac: bool = True
    callback_clock_s: float = WALL_S
    underflow_at: int = -1
    channels: int = 1
    opened: list[tuple[float, bool]] = field(default_factory=list)
    closed: int = 0
    played: list[tuple[float, Samples]] = field(default_factory=list)
    latency_s: float = LATENCY_S
    _tasks: trio.CancelScope | None = None
    nursery: trio.Nursery | None = None
    into: OpenCard | None = None
    number: int = 0

    @property
    def time_s(self) -> float:
        return WALL_S + trio.current_time()

    async def open(self, into: OpenCard, *, again: bool) -> None:
        self.opened.append((trio.current_time(), again))
        if self.refuses:
            raise SoundCardError(self.refuses.pop(0))
        into.stream = self
        self._tasks = trio.CancelScope()
        assert self.nursery is not None
        self.nursery.start_soon(self._play, into, self._tasks)

    async def close(self) -> None:
        self.closed += 1
        if self._tasks is not None:
            self._tasks.cancel()
            self._tasks = None

    async def _play(self, into: OpenCard, tasks: trio.CancelScope) -> None:
        self.into, self.number, began_s = into, 0, trio.current_time()
        with tasks:
            while trio.current_time() < self.hangs_after:
                if trio.current_time() >= self.ends_at:
                    self.ends_at = 1e9
                    into.finished()
                    return
                self.call()
                if trio.current_time() >= self.skips_at:
                    began_s, self.skips_at = began_s + self.skip_s, 1e9
                await trio.sleep_until(began_s + self.number * self.frames / SAMPLE_RATE)
                # Once more, for a test may have called meanwhile.
                await trio.sleep_until(began_s + self.number * self.frames / SAMPLE_RATE)
            await trio.sleep_forever()

    def call(self) -> None:
        """What the card's thread does every 2.5 ms."""
        assert self.into is not None
        now_s = trio.current_time()
        out = np.full((self.frames, self.channels), np.nan, np.float32)
        times = SimpleNamespace(
            outputBufferDacTime=self.callback_clock_s + now_s + LATENCY_S if self.says_dac else 0.0,
            currentTime=self.callback_clock_s + now_s if self.says_dac else 0.0,
        )
        status = SimpleNamespace(output_underflow=self.number == self.underflow_at)
        self.number += 1
        self.into.callback(out, self.frames, times, status)
        assert np.array_equal(out, np.repeat(out[:, :1], self.channels, axis=1))
        self.played.append((now_s + LATENCY_S, out[:, 0]))


class Puller:
    """Gives each sample the time, in seconds of the world, at which it was said to sound."""

    def __init__(self, during: Callable[[int], None] = lambda _: None) -> None:
        self.calls: list[tuple[float, int, float]] = []
        self._during = during

    def __call__(self, samples: int, sounds_at_ns: int) -> Samples:
        at_s = (sounds_at_ns - WORLD_NS) / SECOND
        self.calls.append((trio.current_time(), samples, at_s))
        self._during(len(self.calls))
        return (at_s + np.arange(samples) / SAMPLE_RATE).astype(np.float32)


async def run_for(
    seconds: float,
    card: FakeCard,
    pull: Puller,
    said: list[str],
    clock: WorldClock | None = None,
) -> DeviceOutput:
    output = DeviceOutput(card, clock or WorldClock(), said.append)
    async with trio.open_nursery() as nursery:
        card.nursery = nursery
        with trio.move_on_after(seconds):
            await output.run(pull)
        nursery.cancel_scope.cancel()
    return output


def errors_us(card: FakeCard, begin_s: float, end_s: float) -> np.ndarray:
    """By how much what sounded was not what should have, for whole blocks within these times."""
    return np.array(
        [
            1e6 * (float(block[0]) - at_s)
            for at_s, block in card.played
            if begin_s <= at_s < end_s and block.all()
        ]
    )


@pytest.mark.trio
async def test_every_sample_sounds_when_the_player_was_told(autojump_clock: MockClock) -> None:
    card, pull, said = FakeCard(), Puller(), list[str]()
    output = await run_for(2.0, card, pull, said)
    errors = errors_us(card, 0.05, 2.0)
    assert len(errors) > 700
    assert np.abs(errors).max() < 1.0
    assert {samples for _, samples, _ in pull.calls} == {240}
    assert (output.underruns, said, output.fault) == (0, [], "")
    assert card.opened == [(0.0, False)]
    assert card.closed == 1


@pytest.mark.trio
async def test_it_keeps_a_buffer_ready_and_no_more(autojump_clock: MockClock) -> None:
    card, pull = FakeCard(), Puller()
    await run_for(1.0, card, pull, [])
    ahead_ms = [1e3 * (at_s - now_s - LATENCY_S) for now_s, _, at_s in pull.calls[5:]]
    assert max(ahead_ms) < 10.1
    assert min(ahead_ms) > 4.9


@pytest.mark.trio
async def test_a_card_that_wants_much_at_once_is_given_twice_that(
    autojump_clock: MockClock,
) -> None:
    card = FakeCard(frames=1024)
    output = await run_for(2.0, card, Puller(), [])
    assert output.underruns == 0
    assert np.abs(errors_us(card, 0.2, 2.0)).max() < 1.0


@pytest.mark.trio
async def test_both_channels_sound_alike(autojump_clock: MockClock) -> None:
    card = FakeCard(channels=2)
    await run_for(0.5, card, Puller(), [])
    assert np.abs(errors_us(card, 0.1, 0.5)).max() < 1.0


@pytest.mark.trio
async def test_a_callback_on_another_clock_than_the_streams_is_understood(
    autojump_clock: MockClock,
) -> None:
    card, said = FakeCard(callback_clock_s=1_000.0), list[str]()
    await run_for(1.0, card, Puller(), said)
    assert np.abs(errors_us(card, 0.1, 1.0)).max() < 1.0
    assert said == []


@pytest.mark.trio
async def test_a_card_that_tells_no_time_is_taken_at_its_stated_latency_and_said_once(
    autojump_clock: MockClock,
) -> None:
    card, said = FakeCard(says_dac=False, ends_at=0.5), list[str]()
    await run_for(4.0, card, Puller(), said)
    assert np.abs(errors_us(card, 2.0, 4.0)).max() < 1.0
    assert [line for line in said if "does not tell when its samples sound" in line] == said[:1]
    assert len(said) == 3  # and that it went and came


@pytest.mark.trio
async def test_a_player_that_is_late_is_heard_as_silence_and_counted(
    mock_clock: MockClock,
) -> None:
    """Its block comes when the card has played silence in its place, and is not played late."""
    mock_clock.autojump_threshold = 0
    card = FakeCard()

    def be_slow(call: int) -> None:
        for _ in range(10 if call == 20 else 0):
            mock_clock.jump(FRAMES / SAMPLE_RATE)
            card.call()

    output = await run_for(1.0, card, Puller(be_slow), [])
    assert output.underruns == 1
    silent = [at_s for at_s, block in card.played if at_s > 0.1 and not block.any()]
    assert 5 <= len(silent) <= 8
    assert np.abs(errors_us(card, 0.05, 1.0)).max() < 1.0


@pytest.mark.trio
async def test_a_hole_that_the_system_made_is_counted(autojump_clock: MockClock) -> None:
    output = await run_for(1.0, FakeCard(underflow_at=100), Puller(), [])
    assert output.underruns == 1


@pytest.mark.trio
async def test_a_card_that_skips_is_followed_within_a_few_callbacks(
    autojump_clock: MockClock,
) -> None:
    """What is in the queue sounds late; nothing later does."""
    card = FakeCard(skips_at=0.5, skip_s=0.03)
    await run_for(1.0, card, Puller(), [])
    assert np.abs(errors_us(card, 0.1, 0.5)).max() < 1.0
    assert np.abs(errors_us(card, 0.58, 1.0)).max() < 1.0


@pytest.mark.trio
@pytest.mark.parametrize(
    ("fault", "why"),
    [("ends", "its stream was ended"), ("hangs", "it took no samples for 3 s")],
)
async def test_a_card_that_vanishes_is_said_once_and_taken_back(
    autojump_clock: MockClock, fault: str, why: str
) -> None:
    card, pull, said = FakeCard(), Puller(), list[str]()
    if fault == "ends":
        card.ends_at = 1.0
    else:
        card.hangs_after = 1.0
    faults: list[str] = []

    async def watch(output: DeviceOutput) -> None:
        await trio.sleep(4.5)
        faults.append(output.fault)
        card.refuses[:], card.hangs_after = [], 1e9

    output = DeviceOutput(card, WorldClock(), said.append)
    card.refuses = []
    async with trio.open_nursery() as nursery:
        card.nursery = nursery
        nursery.start_soon(watch, output)
        nursery.start_soon(refuse_from, card, 0.9)
        with trio.move_on_after(10.0):
            await output.run(pull)
        nursery.cancel_scope.cancel()
    gone = f"the sound card is gone: {why}"
    assert said == [f"{gone}; silence until it returns", "the sound card is back and plays"]
    assert faults == [gone]
    assert output.fault == ""
    assert all(again for _, again in card.opened[1:])
    assert np.abs(errors_us(card, 6.5, 10.0)).max() < 1.0
    # Meanwhile the player went on by the machine's clock.
    away_s = 4.2 if fault == "hangs" else 1.2
    pulled = sum(samples for now_s, samples, _ in pull.calls if away_s <= now_s < away_s + 0.25)
    assert pulled == pytest.approx(0.25 * SAMPLE_RATE, abs=960)


async def refuse_from(card: FakeCard, seconds: float) -> None:
    await trio.sleep(seconds)
    card.refuses = ["not there yet"] * 100


@pytest.mark.trio
async def test_a_card_that_is_not_there_at_the_start_ends_it_with_one_line(
    autojump_clock: MockClock,
) -> None:
    said: list[str] = []
    with pytest.RaisesGroup(pytest.RaisesExc(OutputError, match=r"^no such card$")):
        await run_for(9.0, FakeCard(refuses=["no such card"]), Puller(), said)
    assert said == []


@pytest.mark.trio
async def test_a_card_that_never_asks_for_sound_ends_it_too(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(OutputError, match="takes no sound")):
        await run_for(9.0, FakeCard(hangs_after=0.0), Puller(), [])


@pytest.mark.trio
@pytest.mark.parametrize("sleeps_s", [0.2, 7.0, 60.0])
async def test_after_a_sleep_nothing_is_heard_that_the_card_did_not_have_before(
    autojump_clock: MockClock, sleeps_s: float
) -> None:
    card, pull, said = FakeCard(), Puller(), list[str]()
    output = await run_for(2.0, card, pull, said, WorldClock(1.0, sleeps_s))
    assert np.abs(errors_us(card, 0.05, 1.0)).max() < 1.0
    after = [(at_s, block) for at_s, block in card.played if at_s >= 1.0]
    stale = [at_s for at_s, block in after if block.any() and block[0] < at_s + sleeps_s - 0.001]
    # What the card itself buffers, and what was ready for it.
    assert max(stale) < 1.0 + LATENCY_S + 0.011
    sounding = [at_s for at_s, block in after if block.all() and at_s not in stale]
    assert sounding[0] < 1.05
    assert np.abs(errors_us(card, sounding[0], 2.0) / 1e6 - sleeps_s).max() < 1e-5
    assert (output.fault, said) == ("", [])
