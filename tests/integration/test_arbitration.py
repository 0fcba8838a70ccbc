"""Two microphones to two overlapping zones: who is heard where, and the change-over in step."""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from bench.demo import STORM, VOICE, wrong_world
from bench.measure import Recording, apart_ns, change_over_ns, is_silent, offset_seconds
from bench.processes import Bench, end, wait_until
from codec.format import SAMPLE_RATE
from tests.support.microphone import microphone
from transport.net.clocks import now_ns

pytestmark = pytest.mark.realtime

# Both are in "north" and "south"; each of the others in one of them alone.
BOTH = ("b", "c", "b-group", "c-group")
NORTH, SOUTH, NOBODY = "north-alone", "south-alone", "elsewhere"
ZONES = {"north": [NORTH, *BOTH], "south": [SOUTH, *BOTH]}
LIMIT_NS = 1_000_000
WINDOW_NS = 1_000_000_000
# D, and what a loudspeaker asks for ahead: room for a machine that takes a processor away.
DELAY_MS, BUFFER_MS = 1000, 300
# Half of the steepest a raised cosine of 5 ms turns in one sample, times pi.
FADE_SLOPE = np.pi / 2 / 240


@dataclass(frozen=True, slots=True)
class Heard:
    """Recordings, and roughly when the urgent voice came and went, CLOCK_BOOTTIME."""

    recordings: dict[str, Recording]
    came_ns: int
    went_ns: int


@contextmanager
def _voice(bench: Bench, name: str, zone: str, priority: str, source: int) -> Iterator[None]:
    words = ["-", "--raw", "s16le:48000:1", "--zone", zone, "--priority", priority]
    words += ["--server", bench.address, "--playout-delay-ms", str(DELAY_MS)]
    process = bench.start("live", *words, log=name, stdin=source)
    yield
    assert end(process) == 0, bench.log(name)


def _first_words_ns(bench: Bench, zone: str) -> int:
    """Roughly when a voice that has just begun is first heard."""

    def live() -> bool:
        return any(
            p["zones"] == [zone] and p["seconds"] > 0 for p in bench.get("/api/v1/programmes")
        )

    wait_until(live, f"a voice in {zone}")
    return _heard_ns()


def _heard_ns() -> int:
    """When it is heard what is said now."""
    return now_ns() + DELAY_MS * 1_000_000


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    draw = random.Random(20261121)
    everybody = (NORTH, SOUTH, NOBODY, *BOTH)
    with Bench(tmp_path_factory.mktemp("arbitration")) as bench:
        bench.start_station()
        for number, name in enumerate(everybody):
            words = ["--buffer-ms", str(BUFFER_MS), *(["--multicast"] if "group" in name else [])]
            bench.start_speaker(name, *words, simulate=wrong_world(draw, number))
        bench.wait_until_idle(everybody)
        bench.define_zones(ZONES)
        with microphone(VOICE) as one, microphone(STORM) as other:
            with _voice(bench, "low", "north", "live", one):
                _first_words_ns(bench, "north")
                time.sleep(4)  # it is heard alone for a while
                with _voice(bench, "high", "south", "priority", other):
                    came_ns = _first_words_ns(bench, "south")
                    time.sleep(5)  # and then interrupted
                went_ns = _heard_ns()
                time.sleep(3)  # and then resumed
            wait_until(lambda: not bench.get("/api/v1/programmes"), "the end of both")
    recordings = {name: Recording.load(bench.recording(name)) for name in everybody}
    return Heard(recordings, came_ns, went_ns)


def _urgent_ns(heard: Heard) -> tuple[int, int]:
    """When the urgent voice was first heard, and last: nothing else is meant for SOUTH."""
    south = heard.recordings[SOUTH]
    loud = np.flatnonzero(np.abs(south.samples) > 1e-3)
    first, last = (int(loud[n]) * 1_000_000_000 // SAMPLE_RATE for n in (0, -1))
    return south.first_sample_time_ns + first, south.first_sample_time_ns + last


def _same(heard: Heard, one: str, other: str, at_ns: int) -> bool:
    pair = heard.recordings[one], heard.recordings[other]
    offset = offset_seconds(*pair, at_ns, WINDOW_NS)
    return abs(offset.seconds) < 200e-6 and offset.correlation > 0.99


@pytest.mark.parametrize("name", BOTH)
def test_where_both_are_meant_the_urgent_voice_is_heard_while_it_lasts(
    heard: Heard, name: str
) -> None:
    begins_ns, ends_ns = _urgent_ns(heard)
    assert _same(heard, name, NORTH, begins_ns - 2 * WINDOW_NS)
    assert _same(heard, name, SOUTH, begins_ns + WINDOW_NS)
    assert _same(heard, name, SOUTH, ends_ns - 2 * WINDOW_NS)
    assert _same(heard, name, NORTH, ends_ns + WINDOW_NS)


def test_where_one_is_meant_nothing_else_is_heard(heard: Heard) -> None:
    assert is_silent(heard.recordings[NOBODY])
    begins_ns, ends_ns = _urgent_ns(heard)
    # The pipe had spoken a little before it was asked how long, and its process ends when all is
    # said; the other voice is heard for 4 s before, and for 3 s after.
    assert abs(begins_ns - heard.came_ns) < 2 * WINDOW_NS
    assert abs(ends_ns - heard.went_ns) < 2 * WINDOW_NS


def _changes_ns(heard: Heard, name: str, *, back: bool) -> tuple[int, int]:
    pair = heard.recordings[NORTH], heard.recordings[SOUTH]
    before, after = reversed(pair) if back else pair
    return change_over_ns(heard.recordings[name], before, after, _urgent_ns(heard)[back], 0.25)


@pytest.mark.parametrize("back", [False, True], ids=["interrupted", "resumed"])
def test_all_change_over_within_a_millisecond(heard: Heard, *, back: bool) -> None:
    spans = {name: _changes_ns(heard, name, back=back) for name in BOTH}
    known_to_ns = max(latest - earliest for earliest, latest in spans.values())
    apart = apart_ns(list(spans.values()))
    print(f"change-over: {apart / 1e6:.3f} ms apart, each known to {known_to_ns / 1e6:.3f} ms")
    assert apart + known_to_ns < LIMIT_NS


@pytest.mark.parametrize("back", [False, True], ids=["interrupted", "resumed"])
@pytest.mark.parametrize("name", BOTH)
def test_no_change_over_clicks(heard: Heard, name: str, *, back: bool) -> None:
    """No step is larger than the two voices' own there, and what the fade itself adds."""
    at_ns, _ = _changes_ns(heard, name, back=back)
    around = at_ns - 20_000_000, 45_000_000
    own = [heard.recordings[n].window(*around).samples for n in (NORTH, SOUTH)]
    steps = [float(np.max(np.abs(np.diff(samples)))) for samples in own]
    fade = FADE_SLOPE * float(np.max(np.abs(own[0])) + np.max(np.abs(own[1])))
    step = float(np.max(np.abs(np.diff(heard.recordings[name].window(*around).samples))))
    print(f"{name}: largest step {step:.4f}; the voices' own {max(steps):.4f}, the fade {fade:.4f}")
    assert step <= max(steps) * 1.05 + fade
