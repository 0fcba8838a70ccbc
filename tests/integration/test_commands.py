"""The commands that measure, run whole."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from bench.processes import LOA, Bench, wait_until

pytestmark = pytest.mark.realtime

# For a process to end by itself; whoever hangs, hangs for good.
ENDS_S = 20


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LOA, *words], capture_output=True, text=True, timeout=60, check=False)


def test_the_demo_finds_everybody_in_step_and_nobody_speaking_out_of_turn(tmp_path: Path) -> None:
    done = _run("demo", "--seconds", "15", "--json", str(tmp_path / "demo.json"))
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "demo.json").read_text())
    assert figures["speakers"] == figures["sounded"] == 6
    assert figures["silent_when_not_addressed"] is True
    assert figures["interrupted_and_resumed"] is True
    assert figures["spread_ms"] < 0.2
    # Unknown, where a speaker paused just then; test_arbitration measures it.
    assert figures["change_over_ms"] is None or figures["change_over_ms"] < 1
    # None on a quiet machine; on a busy one a process may sleep through a frame.
    assert figures["frames_lost"] <= 20


def test_ctrl_c_ends_the_demo_and_everything_it_started(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [*LOA, "demo", "--keep", str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    with demo, demo.stdout:
        wait_until((tmp_path / "live-centre.log").exists, "the demo's voice")
        demo.send_signal(signal.SIGINT)
        assert demo.wait(10) == 130
    listed = subprocess.run(["pgrep", "-f", str(tmp_path)], capture_output=True, check=False)
    assert listed.stdout == b""


@pytest.mark.parametrize(("delay_ms", "frame_ms"), [("40", "10"), ("20", "5")])
def test_the_latency_bench_finds_the_playout_delay(
    tmp_path: Path, delay_ms: str, frame_ms: str
) -> None:
    words = ["--seconds", "4", "--playout-delay", delay_ms, "--frame-ms", frame_ms, "--seed", "7"]
    files = ["--json", str(tmp_path / "x.json"), "--plot", str(tmp_path / "x.svg")]
    done = _run("bench", "latency", *words, *files)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "x.json").read_text())
    # The median is a matter of the design; the tail, of how busy this machine is.
    assert figures["p50_ms"] == pytest.approx(float(delay_ms), abs=0.5)
    assert figures["seed"] == 7
    assert figures["environment"]["commit"]
    assert "<svg" in (tmp_path / "x.svg").read_text()


def test_a_tone_plays_until_ctrl_c_and_says_how_long_it_was(station: Bench) -> None:
    station.start_speaker("one", "--output", "null")
    station.wait_until_idle(["one"])
    words = ["tone", "--server", station.address, "--to", "one"]
    voice = station.start("live", *words, log="tone")
    # 440 Hz at a peak of -20 dBFS is -23 dBFS.
    wait_until(lambda: abs(station.speakers()["one"].get("level_dbfs", -96) + 23) < 1, "the tone")
    voice.send_signal(signal.SIGINT)
    assert voice.stdout is not None
    said = voice.stdout.read()
    assert voice.wait(ENDS_S) == 0
    assert "live-1 ended after" in said


def test_a_pipe_output_carries_the_sound(station: Bench) -> None:
    speaker = station.start_speaker("one", "--output", "pipe")
    assert speaker.stdout is not None
    station.wait_until_idle(["one"])
    station.start("live", "tone", "--server", station.address, "--to", "one", log="tone")
    heard, deadline = b"", time.monotonic() + 30
    while _level(heard[-9600:]) < 0.06:  # a peak of -20 dBFS is an RMS of 0.0707
        assert time.monotonic() < deadline
        heard += os.read(speaker.stdout.fileno(), 4096)
    speaker.send_signal(signal.SIGTERM)
    assert speaker.wait(ENDS_S) == 0


def test_a_speaker_that_asks_for_sound_too_early_says_what_to_do(station: Bench) -> None:
    station.start_speaker("one", "--output", "null", "--buffer-ms", "100")
    station.wait_until_idle(["one"])
    station.start("live", "tone", "--server", station.address, "--to", "one", log="tone")
    wait_until(lambda: "too late" in station.log("one"), "a word")
    assert "--buffer-ms" in station.log("one")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_voice_that_is_told_to_stop_ends_in_good_order(station: Bench, number: int) -> None:
    station.start_speaker("one", "--output", "null")
    station.wait_until_idle(["one"])
    voice = station.start("live", "tone", "--server", station.address, "--to", "one", log="tone")
    wait_until(lambda: station.speakers()["one"]["packets_received"] > 0, "the tone")
    voice.send_signal(number)
    assert voice.wait(ENDS_S) == 0
    # For a voice that says no farewell the producer waits for 5 s, and for its last words 1.3 s.
    wait_until(lambda: not station.get("/api/v1/programmes"), "the programme's end", 5)


def test_figures_that_could_not_be_written_are_refused_beforehand() -> None:
    done = _run("demo", "--json", "/nowhere/x.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "/nowhere/x.json" in done.stderr


def _level(pcm: bytes) -> float:
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2") / 32768
    return float(np.sqrt(np.mean(samples**2))) if len(samples) else 0.0
