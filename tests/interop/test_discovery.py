"""Stations and loudspeakers that find each other: real processes, two networks and a cable."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest

from bench.demo import VOICE
from bench.measure import Recording, offset_seconds
from bench.processes import Bench, end, wait_until

pytestmark = pytest.mark.realtime

_CLONE_NEWNET = 0x40000000
_OWN = Path("/proc/thread-self/ns/net")
_STATION, _SPEAKER = "10.76.0.1", "10.76.0.2"
_DISCOVERY = Path(__file__).parent.parent / "support" / "discovery.py"
_libc = ctypes.CDLL(None, use_errno=True)


class Cable:
    """Two network namespaces joined by a cable. This thread is in the station's."""

    def __init__(self, held: ExitStack) -> None:
        self._speaker = _fresh_network(held)
        _sh("ip link set lo up")
        self._station = _fresh_network(held)
        _sh(
            "ip link set lo up && ip link add loa0 type veth peer name loa1 "
            f"&& ip link set loa1 netns /proc/{os.getpid()}/fd/{self._speaker.fileno()} "
            f"&& ip address add {_STATION}/24 dev loa0 && ip link set loa0 up"
        )
        with self.at_the_speakers():
            _sh(f"ip address add {_SPEAKER}/24 dev loa1 && ip link set loa1 up")

    @contextmanager
    def at_the_speakers(self) -> Iterator[None]:
        """This thread, and every process it starts, at the other end."""
        _libc.setns(self._speaker.fileno(), _CLONE_NEWNET)
        try:
            yield
        finally:
            _libc.setns(self._station.fileno(), _CLONE_NEWNET)


def _fresh_network(held: ExitStack) -> TextIO:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        pytest.skip(f"needs a network namespace: {os.strerror(ctypes.get_errno())}")
    return held.enter_context(_OWN.open())


def _sh(script: str) -> None:
    made = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"needs iproute2 and network namespaces: {made.stderr.strip()}")


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Skips where there are no namespaces."""
    with _OWN.open() as before, ExitStack() as held:
        held.callback(lambda: _libc.setns(before.fileno(), _CLONE_NEWNET))
        yield Cable(held)


@pytest.fixture
def bench(cable: Cable, tmp_path: Path) -> Iterator[Bench]:
    """Everything started in it ends before the networks do."""
    with Bench(tmp_path) as bench:
        yield bench


@contextmanager
def advertised(bench: Bench, name: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """A station's discovery; what it finds is in the log of that name."""
    with (bench.folder / f"{name}.log").open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, str(_DISCOVERY), name, str(port), "0.0.0.0"],
            stdin=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield process
        finally:
            process.communicate(timeout=10)


def look(bench: Bench, cable: Cable, name: str, *options: str) -> subprocess.Popen[str]:
    """A loudspeaker that has not been told where the station is."""
    with cable.at_the_speakers():
        words = ["--name", name, "--output", "null", *options]
        return bench.start("speaker", *words, log=name)


def port_taken() -> socket.socket:
    """The port of multicast DNS, by a program that does not share it."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", 5353))
    return udp


def says(bench: Bench, log: str, text: str) -> None:
    wait_until(lambda: text in bench.log(log), f"{text!r} of {log}: {bench.log(log)}")


def test_a_station_and_a_loudspeaker_find_each_other(bench: Bench, cable: Cable) -> None:
    bench.start_station("--bind", _STATION, "--insecure")
    look(bench, cable, "Sân trường")
    bench.wait_until_idle(["Sân trường"])
    assert f"found the station Bench at {bench.address}" in bench.log("Sân trường")
    wait_until(lambda: bool(bench.get("/api/found")), "the loudspeaker in the station's list")
    (found,) = bench.get("/api/found")
    assert (found["name"], found["address"]) == ("Sân trường", _SPEAKER)


def test_having_found_each_other_they_play(bench: Bench, cable: Cable) -> None:
    names = {"by-unicast": (), "by-multicast": ("--multicast",)}
    bench.start_station("--bind", _STATION, "--insecure")
    for name, options in names.items():
        look(bench, cable, name, "--output", f"wav:{bench.recording(name)}", *options)
    bench.wait_until_idle(tuple(names))
    words = (str(VOICE), "--zone", "all", "--server", bench.address, "--playout-delay-ms", "120")
    voice = bench.start("live", *words, log="live")
    assert voice.wait(30) == 0, bench.log("live")
    wait_until(lambda: not bench.get("/api/programmes"), "the programme's end")
    one, other = (Recording.load(bench.recording(name)) for name in names)
    loud = int(np.argmax(np.abs(one.samples) > 0.01))
    began_ns = one.first_sample_time_ns + loud * 1_000_000_000 // one.rate
    offset = offset_seconds(one, other, began_ns, 5_000_000_000)
    print(f"two networks: {abs(offset.seconds) * 1e6:.1f} us apart")
    assert offset.correlation > 0.99
    assert abs(offset.seconds) < 200e-6


def test_a_loudspeaker_that_is_there_first_waits_for_the_station(
    bench: Bench, cable: Cable
) -> None:
    look(bench, cable, "a")
    says(bench, "a", "no station found on this network yet; looking on (or give --server HOST)")
    with advertised(bench, "Hội trường", 7460):
        says(bench, "a", f"found the station Hội trường at {_STATION}:7460")


def test_of_two_stations_none_is_chosen_though_they_bear_one_name(
    bench: Bench, cable: Cable
) -> None:
    with advertised(bench, "Trường", 7460), advertised(bench, "Trường", 8460):
        # Whom they have found is listed already, so both are.
        speaker = look(bench, cable, "given", "--server", f"{_STATION}:9")
        wait_until(lambda: bench.log("Trường").count("given") == 2, "both stations")
        speaker = look(bench, cable, "a")
        assert speaker.wait(20) == 2
    assert bench.log("a").splitlines()[1:] == [
        "loa speaker: several stations answer: choose one with --server",
        f"  Trường at {_STATION}:7460",
        f"  Trường at {_STATION}:8460",
    ]


def test_a_station_that_was_killed_is_found_again_under_its_name(
    bench: Bench, cable: Cable
) -> None:
    with advertised(bench, "A", 7460) as first:
        look(bench, cable, "given", "--server", f"{_STATION}:9")
        says(bench, "A", "given")
        first.kill()
    with advertised(bench, "A", 7460):
        look(bench, cable, "a")
        says(bench, "a", f"found the station A at {_STATION}:7460")
    assert "another station" not in bench.log("A")


def test_a_loudspeaker_that_ends_is_forgotten_by_its_goodbye(bench: Bench, cable: Cable) -> None:
    with advertised(bench, "A", 7460):
        speaker = look(bench, cable, "a", "--server", f"{_STATION}:9")
        says(bench, "A", f"come: a {_SPEAKER} None")
        assert end(speaker, signal.SIGTERM) == 0
        says(bench, "A", f"gone: a {_SPEAKER} None")


def test_without_multicast_dns_an_address_will_do(bench: Bench, cable: Cable) -> None:
    with cable.at_the_speakers():
        there = port_taken()
    with there, port_taken():
        bench.start_station("--bind", _STATION, "--insecure")
        with advertised(bench, "Bench", 9):
            look(bench, cable, "a", "--server", bench.address)
            bench.wait_until_idle(["a"])
            says(bench, "Bench", "no discovery: Address already in use")
        assert "another program keeps UDP port 5353 to itself" in bench.log("a")


def test_who_wants_nobody_to_know_is_not_announced(bench: Bench, cable: Cable) -> None:
    with advertised(bench, "A", 7460):
        look(bench, cable, "hidden", "--server", f"{_STATION}:9", "--no-discovery")
        says(bench, "hidden", "station not found")
        look(bench, cable, "open", "--server", f"{_STATION}:9")
        says(bench, "A", "open")
        assert "hidden" not in bench.log("A")
