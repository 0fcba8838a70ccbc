import json
import wave
from pathlib import Path

import numpy as np
import pytest

from bench.measure import Recording
from codec.format import SAMPLE_RATE, Samples
from endpoints.outputs.wav import WavSink
from endpoints.simulate import Crystal, Simulation

START_NS = 123_456_789_012
HERTZ = 1_000.0


def true_tone(crystal: Crystal, length_s: float) -> Samples:
    """What this card must be given so that a perfect tone sounds in the room."""
    indices = range(round(length_s * SAMPLE_RATE))
    seconds = np.array([crystal.seconds_at(index) for index in indices])
    return (0.5 * np.sin(2 * np.pi * HERTZ * seconds)).astype(np.float32)


def recorded(path: Path, crystal: Crystal, sound: Samples, period: int = 240) -> Recording:
    sink = WavSink(path, crystal)
    sink.start(START_NS)
    for start in range(0, len(sound), period):
        sink.write(sound[start : start + period])
    sink.close()
    return Recording.load(path)


@pytest.mark.parametrize("period", [60, 240, 7_200])
@pytest.mark.parametrize("dac_ppm", [-300, 0, 50])
def test_a_tone_through_a_wandering_crystal_is_exact_in_true_time(
    tmp_path: Path, dac_ppm: float, period: int
) -> None:
    crystal = Crystal(Simulation(dac_ppm=dac_ppm, dac_wander_ppm=5, seed=3))
    recording = recorded(tmp_path / "a.wav", crystal, true_tone(crystal, 1), period)
    # Before the first sample there is silence, which the interpolator smooths.
    heard = recording.samples[16:]
    seconds = np.arange(16, 16 + len(heard)) / SAMPLE_RATE
    error = heard - 0.5 * np.sin(2 * np.pi * HERTZ * seconds)
    assert len(heard) > 0.99 * SAMPLE_RATE
    assert np.abs(error).max() < 1.5e-4
    assert np.sqrt(np.mean(error**2)) < 4e-5  # of which 9e-6 are those of 16 bits


def test_without_the_resampling_the_same_tone_would_be_off(tmp_path: Path) -> None:
    """So that the test above means something."""
    crystal = Crystal(Simulation(dac_ppm=50))
    perfect = Crystal(Simulation())
    recording = recorded(tmp_path / "a.wav", perfect, true_tone(crystal, 1))
    seconds = np.arange(len(recording.samples)) / SAMPLE_RATE
    error = recording.samples - 0.5 * np.sin(2 * np.pi * HERTZ * seconds)
    assert np.abs(error).max() > 0.1


def test_beside_it_lies_the_true_time_of_its_first_sample(tmp_path: Path) -> None:
    recorded(tmp_path / "a.wav", Crystal(Simulation()), np.zeros(480, np.float32))
    assert json.loads((tmp_path / "a.wav.json").read_text()) == {
        "sample_rate": SAMPLE_RATE,
        "first_sample_time_ns": START_NS,
        "clock": "CLOCK_BOOTTIME",
    }


def test_quiet_sound_is_rounded_and_not_cut(tmp_path: Path) -> None:
    sound = np.full(9_600, 0.6 / 32_767, np.float32)
    recording = recorded(tmp_path / "a.wav", Crystal(Simulation()), sound)
    assert set((recording.samples[100:] * 32_768).tolist()) == {1.0}


def test_what_is_too_loud_is_clipped(tmp_path: Path) -> None:
    sound = np.full(9_600, 3.0, np.float32)
    recording = recorded(tmp_path / "a.wav", Crystal(Simulation()), sound)
    assert recording.samples.max() <= 1.0
    assert recording.samples[100:].min() == pytest.approx(1.0, abs=1e-4)


def test_the_file_is_whole_after_each_flush(tmp_path: Path) -> None:
    """A process that is killed leaves a recording that can be read."""
    sink = WavSink(tmp_path / "a.wav", Crystal(Simulation()))
    sink.start(START_NS)
    lengths = []
    for _ in range(100):
        sink.write(np.ones(480, np.float32))
        with wave.open(str(tmp_path / "a.wav"), "rb") as file:
            lengths.append(file.getnframes())
            assert len(file.readframes(1 << 20)) == 2 * lengths[-1]
    sink.close()
    written = 480 * np.arange(1, 101)
    assert all(written - np.array(lengths) >= 0)
    assert max(written - np.array(lengths)) <= SAMPLE_RATE // 5 + 2 * 480


def test_a_recording_of_nothing_is_a_recording(tmp_path: Path) -> None:
    sink = WavSink(tmp_path / "a.wav", Crystal(Simulation()))
    sink.start(START_NS)
    sink.close()
    assert len(Recording.load(tmp_path / "a.wav").samples) == 0


def test_a_folder_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        WavSink(tmp_path / "no" / "a.wav", Crystal(Simulation()))


def test_its_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    sink = WavSink(tmp_path / "a.wav", Crystal(Simulation(dac_ppm=-300)))
    sink.start(START_NS)
    held = []
    for _ in range(500):
        sink.write(np.zeros(480, np.float32))
        held.append(len(sink._history) + sum(map(len, sink._pending)))
    sink.close()
    assert max(held[250:]) <= max(held[:250])
    assert max(held) < SAMPLE_RATE // 2
