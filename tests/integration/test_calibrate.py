"""Two real loudspeakers, one behind an amplifier that nobody knows of, brought in step by ear."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from bench.processes import Bench
from codec.dsp.resample import interpolate
from codec.format import SAMPLE_RATE, Samples
from codec.pcm import pcm16
from tests.support.recordings import recorded
from transport.net.clocks import now_ns

pytestmark = pytest.mark.realtime

AMPLIFIER_S = 0.007
LIMIT_US = 150


def _play(bench: Bench) -> int:
    """Both sweep; when that began, by the clock of their recordings."""
    began_ns = now_ns()
    done = bench.run("calibrate", "a", "b", "--play", "--after", "1")
    assert (done.returncode, done.stderr) == (0, "")
    return began_ns


def _heard(bench: Bench, began_ns: int, path: Path) -> Path:
    """What a telephone between the two has heard since then."""
    late_s, ended_ns = {"a": 0.0, "b": AMPLIFIER_S}, now_ns()
    one, other = (_since(bench.recording(n), began_ns, ended_ns, late_s[n]) for n in late_s)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes(pcm16((one + other) / np.float32(2)))
    return path


def _since(path: Path, began_ns: int, ended_ns: int, late_s: float) -> Samples:
    """What sounds so much late, from then till then."""
    recording = recorded(path, ended_ns)
    first_s = (began_ns - recording.first_sample_time_ns) / 1e9 - late_s
    count = (ended_ns - began_ns) * SAMPLE_RATE // 1_000_000_000
    places = first_s * SAMPLE_RATE + np.arange(count)
    padded = np.pad(recording.samples, (0, count))
    return interpolate(padded, np.asarray(places, np.float64))


def test_what_is_heard_late_is_in_step_after_it_was_calibrated(
    station: Bench, tmp_path: Path
) -> None:
    for number, name in enumerate("ab"):
        world = {"dac_ppm": 30.0 - 60.0 * number, "clock_offset_s": 0.02 * number}
        station.start_speaker(name, "--buffer-ms", "300", simulate=world)
    station.wait_until_idle("ab")
    before = _heard(station, _play(station), tmp_path / "before.wav")
    words = ["calibrate", "a", "b", "--recording"]
    stored = station.run(*words, str(before), "--json")
    assert stored.returncode == 0, stored.stderr
    told = json.loads(stored.stdout)
    print(f"before: {told}")
    assert told["later_us"] == pytest.approx(AMPLIFIER_S * 1e6, abs=LIMIT_US)
    assert station.speakers()["b"]["trim_us"] == told["trim_us"] == round(-told["later_us"])
    after = _heard(station, _play(station), tmp_path / "after.wav")
    checked = station.run(*words, str(after), "--dry-run", "--json")
    assert checked.returncode == 0, checked.stderr
    told = json.loads(checked.stdout)
    print(f"after: {told}")
    assert abs(told["later_us"]) < LIMIT_US
