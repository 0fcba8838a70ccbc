"""Clocks that are set, machines that stand still, boots at another time: whole processes.

What sounds at a loudspeaker is compared with what sounds at another one that nothing happens to,
tenth by tenth of a second. It may be silent; it must never be anything else.
"""

import itertools
import os
import shutil
import signal
import subprocess
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.demo import VOICE
from bench.measure import Recording
from bench.processes import Bench, wait_until
from codec.format import SAMPLE_RATE
from codec.pcm import pcm16
from codec.sources.file import FileSource
from tests.support.clocks_of_processes import WallClock, booted_ago, can_boot_at_another_time
from tests.support.ports import port_of_its_own
from tests.support.recordings import recorded
from tests.support.staleness import longest_silence_s, outcome, said_before
from transport.net.clocks import now_ns

pytestmark = pytest.mark.realtime

SECOND = 1_000_000_000
IN_STEP_S = 200e-6
BACK_S = 10.0
STEP_S = 300
SLEEP_S = 7.0
# A busy machine may take half a second from whoever sends, and as much from whoever plays.
DELAY_S = 1.2
BUFFER_MS = 500

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
needs_time_namespace = pytest.mark.skipif(
    not can_boot_at_another_time(), reason="no time namespace can be made here"
)


def spoken(bench: Bench, number: int) -> Path:
    """A minute and more of speech in which nothing is said twice, nor in that of the next number.

    The voice goes on at another speed each time, or backwards.
    """
    path = bench.folder / f"spoken{number}.wav"
    voice = np.concatenate([*FileSource(VOICE)])
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        for turn in range(12):
            speed = 0.75 + 0.25 * number + 0.02 * turn
            places = np.arange(0, len(voice) - 1, speed)
            said = np.interp(places, np.arange(len(voice)), voice).astype(np.float32)
            file.writeframes(pcm16(said[:: -1 if turn % 2 else 1].copy()))
    return path


def speak(bench: Bench, number: int = 0) -> subprocess.Popen[str]:
    """To all, until the test ends."""
    words = [str(spoken(bench, number)), "--server", bench.address, "--to", "all"]
    delay = f"{DELAY_S * 1e3:.0f}"
    return bench.start("live", *words, "--playout-delay-ms", delay, log=f"live{number}")


def speaker(bench: Bench, name: str, **options: Any) -> subprocess.Popen[str]:
    """One with a buffer that a busy machine does not empty."""
    return bench.start_speaker(name, "--buffer-ms", str(BUFFER_MS), **options)


def wait_for_sound(bench: Bench, *names: str, born_s: float = 0.0) -> None:
    """Of what is on air, at all of these; their processes began after `born_s` (monotonic)."""

    def sounds() -> bool:
        most_s, rows = time.monotonic() - born_s, bench.speakers()
        on_air = {row["name"] for row in bench.rows("/api/v1/programmes")}
        here = [rows.get(name, {}) for name in names]
        return all(
            row.get("hearing") in on_air and row["level_dbfs"] > -50 and row["uptime_s"] < most_s
            for row in here
        )

    wait_until(sounds, f"sound at {', '.join(names)}", 30)


def rest(seconds: float) -> int:
    """The time after it, as the recordings have it."""
    time.sleep(seconds)
    return now_ns()


def heard(bench: Bench, name: str, until_ns: int, booted_s: int = 0) -> Recording:
    """Up to then at least, of a loudspeaker whose machine was started so much earlier."""
    own = recorded(bench.recording(name), until_ns + booted_s * SECOND)
    return Recording(own.samples, own.rate, own.first_sample_time_ns - booted_s * SECOND)


def check_both(
    bench: Bench, names: tuple[str, str], times_ns: list[tuple[int, int, int]], what: str
) -> None:
    """Both are back in step, and neither sounds anything of before.

    Times are when the station ceased, when it went on, and until when they were heard.
    """
    recordings = [heard(bench, name, times_ns[-1][-1]) for name in names]
    for ceased_ns, went_on_ns, ended_ns in times_ns:
        found = outcome(recordings[0], recordings[1], went_on_ns, ended_ns)
        print(f"{what}: {found}")
        assert found.back_s < BACK_S
        assert abs(found.apart_s) < IN_STEP_S
        assert [
            said_before(recording, ceased_ns, ended_ns, DELAY_S) for recording in recordings
        ] == [[], []]


def test_what_is_stale_is_heard_as_stale() -> None:
    """Or the tests below would show nothing."""
    voice = np.concatenate([*FileSource(VOICE)])
    calm = Recording(voice, SAMPLE_RATE, 0)
    assert outcome(calm, calm, SECOND, 6 * SECOND).stale_s == []
    assert said_before(calm, SECOND, 6 * SECOND, DELAY_S) == []
    wrong = voice.copy()
    wrong[3 * SAMPLE_RATE : 7 * SAMPLE_RATE // 2] = voice[SAMPLE_RATE : 3 * SAMPLE_RATE // 2]
    other = Recording(wrong, SAMPLE_RATE, 0)
    found = outcome(calm, other, SECOND, 6 * SECOND)
    assert found.stale_s
    assert all(1.9 < at_s < 2.6 for at_s in found.stale_s)
    assert found.back_s > 2.3
    assert said_before(other, SECOND, 6 * SECOND, DELAY_S)


# ------------------------------------------------------------------ wall clocks that are set
@needs_compiler
def test_the_wall_clock_of_a_loudspeaker_is_set(station: Bench, tmp_path: Path) -> None:
    wall = WallClock(tmp_path / "wall")
    speaker(station, "calm")
    speaker(station, "set", env=wall.env)
    station.wait_until_idle(["calm", "set"])
    speak(station)
    wait_for_sound(station, "calm", "set")
    times_ns = [rest(2.0)]
    for seconds in (STEP_S, 0, -STEP_S):
        wall.step(seconds)
        times_ns.append(rest(4.0))
    calm, other = (heard(station, name, times_ns[-1]) for name in ("calm", "set"))
    for began_ns, ended_ns in itertools.pairwise(times_ns):
        found = outcome(calm, other, began_ns, ended_ns)
        print(f"the loudspeaker's wall clock is set: {found}")
        assert found.stale_s == []
        assert found.back_s < BACK_S
        assert abs(found.apart_s) < IN_STEP_S


@needs_compiler
def test_the_wall_clock_of_the_station_is_set(bench: Bench, tmp_path: Path) -> None:
    """A loudspeaker that comes meanwhile is let in, too: certificates are no clocks."""
    wall = WallClock(tmp_path / "wall")
    bench.start_station(env=wall.env)
    names = ("calm", "other")
    for name in names:
        speaker(bench, name)
    bench.wait_until_idle(names)
    speak(bench)
    wait_for_sound(bench, *names)
    for seconds in (STEP_S, -STEP_S):
        set_ns = rest(1.0)
        wall.step(seconds)
        later_ns = rest(4.0)
        name = f"came{seconds}"
        speaker(bench, name)
        wait_for_sound(bench, name)
        came_ns = now_ns()
        ended_ns = rest(3.0)
        calm, other, newcomer = (heard(bench, one, ended_ns) for one in (*names, name))
        found = outcome(calm, other, set_ns, later_ns)
        assert found.stale_s == []
        assert found.back_s < BACK_S
        assert abs(found.apart_s) < IN_STEP_S
        silent_s = longest_silence_s(calm, set_ns, later_ns)
        print(f"the longest silence after that: {silent_s:.2f} s")
        assert silent_s < 3  # of four
        # What it was told to sound may be on its way to its output still.
        came_ns = max(came_ns, newcomer.first_sample_time_ns)
        new = outcome(calm, newcomer, came_ns, ended_ns)
        print(f"the station's wall clock is set: {found}; who comes meanwhile: {new}")
        assert (new.stale_s, abs(new.apart_s) < IN_STEP_S) == ([], True)
    assert bench.speakers()["calm"]["packets_lost"] == 0


# ------------------------------------------------------------------ boots at another time
@needs_time_namespace
def test_a_station_is_restarted_with_another_boot_time(bench: Bench) -> None:
    port = port_of_its_own()
    bench.start_station(port=port)
    names = ("calm", "other")
    for name in names:
        speaker(bench, name)
    bench.wait_until_idle(names)
    speak(bench)
    wait_for_sound(bench, *names)
    times_ns = []
    for number, booted_s in enumerate((STEP_S, 0), 1):
        killed_ns = rest(1.0)
        bench.kill_station()
        bench.start_station(port=port, under=booted_ago(booted_s) if booted_s else ())
        answered_ns = now_ns()
        speak(bench, number)
        wait_for_sound(bench, *names)
        times_ns.append((killed_ns, answered_ns, rest(3.0)))
    check_both(bench, names, times_ns, "the station is restarted with another boot time")


@needs_time_namespace
def test_a_loudspeaker_is_restarted_with_another_boot_time(station: Bench) -> None:
    processes = {name: speaker(station, name) for name in ("calm", "was0")}
    processes["was300"] = speaker(station, "was300", under=booted_ago(STEP_S))
    station.wait_until_idle([*processes])
    speak(station)
    wait_for_sound(station, *processes)
    first_ns = rest(0.5)
    middle_ns = rest(3.0)
    calm = heard(station, "calm", middle_ns)
    for name, booted_s in (("was0", 0), ("was300", STEP_S)):
        found = outcome(calm, heard(station, name, middle_ns, booted_s), first_ns, middle_ns)
        print(f"booted {booted_s} s earlier: {found}")
        assert (found.stale_s, abs(found.apart_s) < IN_STEP_S) == ([], True)
        processes[name].send_signal(signal.SIGKILL)
        processes[name].wait()
    killed_ns, killed_s = now_ns(), time.monotonic()
    speaker(station, "was0", under=booted_ago(STEP_S))
    speaker(station, "was300")
    wait_for_sound(station, "was0", "was300", born_s=killed_s)
    ended_ns = rest(3.0)
    calm = heard(station, "calm", ended_ns)
    for name, booted_s in (("was0", STEP_S), ("was300", 0)):
        recording = heard(station, name, ended_ns, booted_s)
        found = outcome(calm, recording, recording.first_sample_time_ns, ended_ns)
        back_s = found.back_s + (recording.first_sample_time_ns - killed_ns) / SECOND
        print(f"{name} is restarted, booted {booted_s} s earlier: {back_s:.1f} s later {found}")
        assert back_s < BACK_S
        assert (found.stale_s, abs(found.apart_s) < IN_STEP_S) == ([], True)


# ------------------------------------------------------------------ processes that stand still
def test_a_loudspeaker_that_stood_still_plays_nothing_of_before(station: Bench) -> None:
    """For 7 s, and for so long that the station has ended its session."""
    still_s = {"short": SLEEP_S, "long": 12.0}
    processes = {name: speaker(station, name) for name in ("calm", *still_s)}
    station.wait_until_idle([*processes])
    speak(station)
    wait_for_sound(station, *processes)
    time.sleep(1.0)
    began_s = time.monotonic()
    for name in still_s:
        processes[name].send_signal(signal.SIGSTOP)
    went_on_ns = {}
    for name, seconds in still_s.items():
        time.sleep(began_s + seconds - time.monotonic())
        processes[name].send_signal(signal.SIGCONT)
        went_on_ns[name] = now_ns()
    ended_ns = rest(8.0)
    calm = heard(station, "calm", ended_ns)
    for name, seconds in still_s.items():
        found = outcome(calm, heard(station, name, ended_ns), went_on_ns[name], ended_ns)
        print(f"a loudspeaker stood still for {seconds:.0f} s: {found}")
        assert found.back_s < BACK_S
        assert (found.stale_s, abs(found.apart_s) < IN_STEP_S) == ([], True)


def test_a_station_that_stood_still_sends_nothing_of_before(station: Bench) -> None:
    """Its sender alone, then all of it."""
    names = ("calm", "other")
    for name in names:
        speaker(station, name)
    station.wait_until_idle(names)
    speak(station)
    wait_for_sound(station, *names)
    times_ns = []
    for stopped in (children(station, "server.sender"), [station.station.pid, *children(station)]):
        began_ns = rest(1.0)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(SLEEP_S)
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        times_ns.append((began_ns, now_ns(), rest(6.0)))
    check_both(station, names, times_ns, "the station stood still")


def children(bench: Bench, module: str = "server") -> list[int]:
    """Those of the station's processes that run this module, or part of it."""
    words = ["ps", "-o", "pid=,args=", "--ppid", str(bench.station.pid)]
    listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if f"-m {module}" in line]
