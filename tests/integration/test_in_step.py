"""One voice, many loudspeaker processes, each with a wrong clock and a wrong crystal.

Ten loudspeakers at once: four to be in step, two not addressed, two without the drift servo and
two without the time exchange, to show that the measurement sees it when either is missing.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from bench.demo import VOICE, wrong_world
from bench.measure import MeasureError, Recording, is_silent, offset_seconds
from bench.processes import Bench, wait_until
from bench.quality import NoPesqError, pesq_wb, through_opus
from codec.format import SAMPLE_RATE, Samples
from codec.opus import EncoderSettings
from codec.sources.file import FileSource

pytestmark = pytest.mark.realtime

ADDRESSED = ("a", "b", "c", "d")
UNADDRESSED = ("e", "f")
NO_SERVO = ("no-servo-1", "no-servo-2")
NO_EXCHANGE = ("no-exchange-1", "no-exchange-2")
SECONDS = 60.0
WINDOW_NS = 5_000_000_000
LIMIT_S = 200e-6
# D, and what a loudspeaker asks for ahead: room for a machine that takes a processor away.
DELAY_MS, BUFFER_MS = 1000, 300


@dataclass(frozen=True, slots=True)
class Heard:
    recordings: dict[str, Recording]
    rows: dict[str, dict[str, float]]
    stale: int
    began_ns: int

    def windows(self) -> Iterator[int]:
        return itertools.islice(itertools.count(self.began_ns, WINDOW_NS), int(SECONDS / 5))


def _start(bench: Bench) -> None:
    draw = random.Random(20261120)
    for number, name in enumerate((*ADDRESSED, *UNADDRESSED, *NO_SERVO, *NO_EXCHANGE)):
        world = wrong_world(draw, number)
        if name in NO_SERVO:
            # Two crystals that differ: alike, they would drift in step.
            world |= {"servo": False, "dac_ppm": 40 if name.endswith("1") else -40}
        if name in NO_EXCHANGE:
            world |= {
                "time_exchange": False,
                "clock_offset_s": 0.02 if name.endswith("1") else -0.005,
            }
        words = ("--buffer-ms", str(BUFFER_MS), *(["--multicast"] if number % 2 else []))
        bench.start_speaker(name, *words, simulate=world)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    folder = tmp_path_factory.mktemp("in_step")
    everybody = (*ADDRESSED, *NO_SERVO, *NO_EXCHANGE)
    with Bench(folder) as bench:
        bench.start_station()
        _start(bench)
        bench.wait_until_idle((*everybody, *UNADDRESSED))
        words = [str(VOICE), "--repeat", "9", "--server", bench.address, "--to", *everybody]
        voice = bench.start("live", *words, "--playout-delay-ms", str(DELAY_MS), log="live")
        assert voice.wait(90) == 0, bench.log("live")
        wait_until(lambda: not bench.get("/api/v1/programmes"), "the programme's end")
        rows, stale = bench.speakers(), bench.get("/api/v1/station")["sender"]["stale"]
    recordings = {n: Recording.load(bench.recording(n)) for n in (*everybody, *UNADDRESSED)}
    return Heard(recordings, rows, stale, _first_sound_ns(recordings["a"]))


def _first_sound_ns(recording: Recording) -> int:
    loud = int(np.argmax(np.abs(recording.samples) > 0.01))
    return recording.first_sample_time_ns + loud * 1_000_000_000 // recording.rate


def _worst_s(heard: Heard, names: tuple[str, ...]) -> float:
    return max(
        abs(offset_seconds(heard.recordings[one], heard.recordings[two], at, WINDOW_NS).seconds)
        for at in heard.windows()
        for one, two in itertools.combinations(names, 2)
    )


def test_any_two_addressed_agree_within_200_us_in_every_window(heard: Heard) -> None:
    worst_s = _worst_s(heard, ADDRESSED)
    print(f"largest distance between any two in any 5 s window: {worst_s * 1e6:.1f} us")
    assert worst_s < LIMIT_S


def test_the_addressed_lost_no_packet(heard: Heard) -> None:
    for figure in ("underruns", "packets_late"):
        print({name: heard.rows[name][figure] for name in ADDRESSED}, figure)
    # What the sender slept over it does not send, and says so: nothing else may be missing.
    lost = {name: heard.rows[name]["packets_lost"] for name in ADDRESSED}
    assert {name: n for name, n in lost.items() if n > heard.stale} == {}


def test_the_others_are_silent(heard: Heard) -> None:
    assert all(is_silent(heard.recordings[name]) for name in UNADDRESSED)


def test_without_the_drift_servo_they_are_not_in_step(heard: Heard) -> None:
    assert _worst_s(heard, NO_SERVO) > LIMIT_S


def test_without_the_time_exchange_they_are_not_in_step(heard: Heard) -> None:
    try:
        worst_s = _worst_s(heard, NO_EXCHANGE)
    except MeasureError:
        return  # so far apart that nothing is in common, or nothing sounded at all
    assert worst_s > LIMIT_S


def _clips(
    heard: Heard, name: str, seconds: float, count: int
) -> Iterator[tuple[Samples, Samples]]:
    """Speech as spoken, and as heard at a loudspeaker, aligned to the sample."""
    spoken = np.concatenate([*FileSource(VOICE)] * 9)
    clip = round(seconds * SAMPLE_RATE)
    clip_ns = round(seconds * 1e9)
    recording = heard.recordings[name]
    # Roughly, from the first loud sample of either; exactly, by correlation.
    begin_ns = heard.began_ns - _first_sound_ns(Recording(spoken, SAMPLE_RATE, 0))
    for start in range(SAMPLE_RATE, SAMPLE_RATE + count * clip, clip):
        original = spoken[start : start + clip]
        at_ns = begin_ns + start * 1_000_000_000 // SAMPLE_RATE
        reference = Recording(original, SAMPLE_RATE, at_ns)
        late_s = offset_seconds(reference, recording, at_ns, clip_ns, search_s=0.5).seconds
        first, _ = recording.index_at(at_ns + round(late_s * 1e9))
        yield original, recording.samples[first : first + clip]


def test_speech_is_within_a_tenth_of_pesq_of_opus_alone(heard: Heard) -> None:
    try:
        for name in ("a", "d"):
            for spoken, sounded in _clips(heard, name, 10.0, 5):
                alone = pesq_wb(spoken, through_opus(spoken, EncoderSettings()))
                ours = pesq_wb(spoken, sounded)
                print(f"PESQ-WB at {name}: {ours:.3f}, Opus alone {alone:.3f}")
                assert ours > alone - 0.1
    except NoPesqError as error:
        pytest.skip(str(error))
