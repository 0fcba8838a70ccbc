"""Processes that die and return, in real time."""

import os
import random
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing

import numpy as np
import pytest
import trio

from bench.demo import VOICE
from bench.measure import offset_seconds
from bench.processes import Bench, end, wait_until
from endpoints.app import Loudspeaker, SpeakerSettings
from endpoints.outputs.virtual import NullSink, VirtualDevice
from endpoints.simulate import Crystal, Simulation
from endpoints.station.enrol import Enrolment, Wish
from endpoints.station.store import SpeakerStore
from tests.support.ports import port_of_its_own
from tests.support.recordings import recorded
from transport.net.clocks import HostClock, now_ns
from transport.security.enrolment import EnrolmentCode

pytestmark = pytest.mark.realtime

SECOND = 1_000_000_000
WINDOW_NS = 1_500_000_000
HUNDRED = 100


def _speak(bench: Bench, to: str, *source: str) -> None:
    words = [*source, "--server", bench.address, "--to", to]
    bench.start("live", *words, "--playout-delay-ms", "200", log="live")


def _speaker(bench: Bench, name: str, clock_offset_s: float = 3.0) -> Callable[[], None]:
    """Starts a loudspeaker; what is returned kills it without warning."""
    world = {"clock_offset_s": clock_offset_s, "clock_skew_ppm": 30, "dac_ppm": -30}
    process = bench.start_speaker(name, "--buffer-ms", "40", simulate=world)

    def kill() -> None:
        process.kill()
        process.wait()  # it has its state to itself until it is gone

    return kill


def _level(bench: Bench, name: str) -> float:
    return float(bench.speakers().get(name, {}).get("level_dbfs", -96.0))


def _offset_s(bench: Bench, one: str, two: str, started_ns: int) -> float:
    """2 s after the start of the other.

    Or when its output is a second old, if that is later: a busy machine begins a process late.
    """
    at_ns = started_ns + 2 * SECOND
    begun = recorded(bench.recording(two), at_ns, started_ns)
    at_ns = max(at_ns, begun.first_sample_time_ns + SECOND)
    first, second = (recorded(bench.recording(n), at_ns + WINDOW_NS) for n in (one, two))
    return offset_seconds(first, second, at_ns, WINDOW_NS).seconds


def test_a_speaker_started_or_restarted_in_mid_programme_is_in_step_within_two_seconds(
    station: Bench,
) -> None:
    _speaker(station, "first")
    station.wait_until_idle(["first"])
    _speak(station, "all", str(VOICE), "--repeat", "50")
    wait_until(lambda: _level(station, "first") > -60, "the first to sound")

    started_ns = now_ns()
    kill = _speaker(station, "second", clock_offset_s=-7.0)
    started = _offset_s(station, "first", "second", started_ns)
    kill()

    restarted_ns = now_ns()
    _speaker(station, "second", clock_offset_s=9.0)
    restarted = _offset_s(station, "first", "second", restarted_ns)

    print(
        f"2 s after its start: {started * 1e6:.1f} us; after its restart: {restarted * 1e6:.1f} us"
    )
    assert abs(started) < 200e-6
    assert abs(restarted) < 200e-6


async def _one_of_a_hundred(
    station: Bench, number: int, code: EnrolmentCode, clock: HostClock, device: VirtualDevice
) -> None:
    name, multicast = f"s{number}", bool(number % 2)
    uniform, draw = random.SystemRandom().random, secrets.token_bytes
    with closing(SpeakerStore.open(station.state(name))) as store:
        await Enrolment(store, code, Wish(name, multicast), uniform, draw, lambda _: None).run()
        settings = SpeakerSettings(multicast)
        await Loudspeaker(settings, store, clock, device, lambda _: None).run()


async def _hundred_speakers(
    station: Bench, restart: Callable[[], None], back: Callable[[], float]
) -> float:
    """One hundred whole loudspeakers in one process, each with its own sockets and output."""
    clock = HostClock()
    names = {"names": [f"s{number}" for number in range(HUNDRED)]}
    codes = station.send("POST", "/api/v1/enrolments", names)["codes"]
    async with trio.open_nursery() as nursery:
        for number, row in enumerate(codes):
            crystal = Crystal(Simulation(seed=number))
            device = VirtualDevice(
                NullSink(),
                crystal,
                clock.now_ns,
                lambda ns: ns,
                period_samples=4800,
                buffer_samples=9600,
            )
            code = EnrolmentCode.parse(row["code"])
            nursery.start_soon(_one_of_a_hundred, station, number, code, clock, device)
        await trio.to_thread.run_sync(back)
        await trio.to_thread.run_sync(restart)
        seconds = await trio.to_thread.run_sync(back)
        nursery.cancel_scope.cancel()
    return seconds


def test_a_station_killed_and_restarted_is_found_by_a_hundred_speakers_within_ten_seconds(
    station: Bench,
) -> None:
    # `--port 0` would choose others the second time.
    port = port_of_its_own()
    end(station.station)
    station.start_station(port=port)

    def restart() -> None:
        restarted_s.append(time.monotonic())
        station.kill_station()
        station.start_station(port=port)

    def everybody_back() -> float:
        def back() -> bool:
            states = [row["state"] for row in station.speakers().values()]
            return states.count("idle") == HUNDRED

        wait_until(back, "a hundred loudspeakers, joined and in step")
        return time.monotonic()

    restarted_s: list[float] = []
    back_s = trio.run(_hundred_speakers, station, restart, everybody_back)
    took_s = back_s - restarted_s[0]
    print(f"all {HUNDRED} back {took_s:.1f} s after the station was killed")
    assert took_s < 10


@pytest.mark.parametrize("module", ["server.producer", "server.sender", "server"])
def test_sound_is_back_within_a_second_when_a_process_of_the_station_is_killed(
    station: Bench, module: str
) -> None:
    _speaker(station, "one")
    station.wait_until_idle(["one"])
    # A voice pauses for up to 0.35 s, and what a busy machine takes would come on top of that.
    _speak(station, "one", "tone")
    wait_until(lambda: _level(station, "one") > -60, "sound")
    wait_until(lambda: station.speakers()["one"]["packets_received"] > 200, "two seconds of sound")
    killed_ns = now_ns()
    _kill_child(station, module)
    recording = recorded(station.recording("one"), killed_ns + 3 * SECOND)
    gap_s = _longest_silence_s(recording.window(killed_ns, 3 * SECOND).samples, recording.rate)
    print(f"{module} killed: longest silence {gap_s:.2f} s")
    assert gap_s < (1.0 if module == "server.producer" else 0.5)


def _kill_child(bench: Bench, module: str) -> None:
    """The one that is at work: a sender has a spare beside it, which only its name tells."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,comm=,args=", "--ppid", str(bench.station.pid)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in listed.splitlines():
        pid, name, arguments = line.split(maxsplit=2)
        if f"-m {module} " in arguments and not name.startswith("loa-spare"):
            os.kill(int(pid), signal.SIGKILL)
            return
    raise AssertionError(f"{module} is not running: {listed}")


def _longest_silence_s(samples: np.ndarray, rate: int) -> float:
    longest = run = 0
    for block in np.array_split(np.abs(samples), len(samples) * 100 // rate):
        run = run + 1 if block.max() < 0.002 else 0
        longest = max(longest, run)
    return longest / 100
