"""Stations and loudspeakers that find each other: real processes, two networks and a cable."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from bench.demo import VOICE
from bench.measure import Recording
from bench.processes import Bench, end, wait_until
from endpoints.station.store import KnownStation, SpeakerState, SpeakerStore
from server.keys.folder import KeyFolder
from tests.support.cable import SPEAKER, STATION, Cable, laid_cable
from tests.support.integrator import SECOND_NS, fit
from transport.control.address import StationAddress
from transport.security.keys import shown_fingerprint

pytestmark = pytest.mark.realtime

_DISCOVERY = Path(__file__).parent.parent / "support" / "discovery.py"
# Nobody is there.
_NOWHERE = StationAddress(STATION, 9)


@pytest.fixture
def cable() -> Iterator[Cable]:
    """Skips where there are no namespaces."""
    with laid_cable() as cable:
        yield cable


@pytest.fixture
def bench(cable: Cable, tmp_path: Path) -> Iterator[Bench]:
    """Everything started in it ends before the networks do."""
    with Bench(tmp_path) as bench:
        yield bench


@pytest.fixture
def other(cable: Cable, tmp_path: Path) -> Iterator[Bench]:
    """Another station's, in the same network."""
    (tmp_path / "other").mkdir()
    with Bench(tmp_path / "other") as bench:
        yield bench


def root_of(bench: Bench) -> bytes:
    """The root that a station's loudspeakers trust."""
    return KeyFolder(bench.data.keys).load().certificate.root


@contextmanager
def advertised(
    bench: Bench, name: str, port: int, root: str = ""
) -> Iterator[subprocess.Popen[str]]:
    """A station's discovery; what it finds is in the log of that name."""
    with (bench.folder / f"{name}.log").open("a") as errors:
        process = subprocess.Popen(
            [sys.executable, str(_DISCOVERY), name, str(port), "0.0.0.0", root],
            stdin=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield process
        finally:
            process.communicate(timeout=10)


def look(bench: Bench, cable: Cable, name: str, *options: str) -> subprocess.Popen[str]:
    """A loudspeaker at the other end that knows where its station was, and no more.

    It is enrolled the first time, with the code that an operator would type.
    """
    words = ["--state", str(bench.state(name))]
    if not bench.state(name).exists():
        words += ["--enrol", bench.code(name)]
    if "--output" not in options:
        words += ["--output", "null"]
    with cable.at_the_speakers():
        return bench.start("speaker", *words, *options, log=name)


def enrolled(bench: Bench, name: str, root: bytes = bytes(32)) -> None:
    """A loudspeaker's state: it belongs to the station of this root, which was nowhere."""
    store = SpeakerStore.open(bench.state(name))
    known = KnownStation(_NOWHERE, root, generation=1, session_number=0)
    store.write(SpeakerState(store.state.seed, name, known))
    store.close()


def start(bench: Bench, port: int) -> None:
    """A station at the cable's end."""
    bench.start_station("--bind", STATION, port=port)


def port_taken() -> socket.socket:
    """The port of multicast DNS, by a program that does not share it."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("", 5353))
    return udp


def says(bench: Bench, log: str, text: str) -> None:
    wait_until(lambda: text in bench.log(log), f"{text!r} of {log}: {bench.log(log)}")


def test_a_station_lists_the_loudspeakers_that_it_finds(bench: Bench, cable: Cable) -> None:
    start(bench, 0)
    look(bench, cable, "Sân trường")
    bench.wait_until_idle(["Sân trường"])
    wait_until(lambda: bool(bench.get("/api/v1/found")), "the loudspeaker in the station's list")
    (found,) = bench.get("/api/v1/found")
    assert (found["name"], found["address"]) == ("Sân trường", SPEAKER)


def test_at_two_ends_of_a_cable_they_play(bench: Bench, cable: Cable) -> None:
    names = {"by-unicast": (), "by-multicast": ("--multicast",)}
    start(bench, 0)
    for name, options in names.items():
        output = ("--output", f"wav:{bench.recording(name)}", "--buffer-ms", "250")
        look(bench, cable, name, *output, *options)
    bench.wait_until_idle(tuple(names))
    # So much of D and of buffers leaves a busy machine time.
    words = (str(VOICE), "--zone", "all", "--server", bench.address, "--playout-delay-ms", "1000")
    voice = bench.start("live", *words, log="live")
    assert voice.wait(30) == 0, bench.log("live")
    wait_until(lambda: not bench.get("/api/v1/programmes"), "the programme's end")
    one, other = (Recording.load(bench.recording(name)) for name in names)
    loud = int(np.argmax(np.abs(one.samples) > 0.01))
    began_ns = one.first_sample_time_ns + loud * SECOND_NS // one.rate
    # The first second is left to whoever heard of it late, and one with a hole is not the median.
    offsets = [fit(one, other, began_ns + number * SECOND_NS) for number in range(1, 6)]
    apart_s = median(abs(offset.seconds) for offset in offsets)
    print(f"two networks: {apart_s * 1e6:.1f} us apart")
    assert median(offset.correlation for offset in offsets) > 0.99
    assert apart_s < 200e-6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ended", "killed"])
def test_a_station_that_has_moved_is_found_by_those_that_are_its_own(
    bench: Bench, cable: Cable, number: int
) -> None:
    start(bench, 27_460)
    look(bench, cable, "a")
    bench.wait_until_idle(["a"])
    end(bench.station, number)
    start(bench, 28_460)
    bench.wait_until_idle(["a"])
    assert f"joined the station at {STATION}:28460" in bench.log("a")


def test_a_loudspeaker_that_is_there_first_waits_for_its_station(
    bench: Bench, cable: Cable
) -> None:
    bench.data.create("Bench")
    keep_address(bench, cable, "a", 27_460)
    look(bench, cable, "a")
    says(bench, "a", f"station not found at {STATION}:27460")
    start(bench, 28_460)
    bench.wait_until_idle(["a"])


def keep_address(bench: Bench, cable: Cable, name: str, port: int) -> None:
    """A loudspeaker is enrolled with the station there, and both have gone."""
    start(bench, port)
    speaker = look(bench, cable, name)
    bench.wait_until_idle([name])
    assert end(speaker, signal.SIGTERM) == 0
    end(bench.station)


def test_of_two_stations_of_one_name_each_loudspeaker_chooses_its_own(
    bench: Bench, other: Bench, cable: Cable
) -> None:
    keep_address(bench, cable, "a", 27_460)
    keep_address(other, cable, "b", 27_460)
    start(bench, 28_460)
    start(other, 29_460)
    for mine, name in ((bench, "a"), (other, "b")):
        look(mine, cable, name)
        mine.wait_until_idle([name])
    assert f"joined the station at {STATION}:28460" in bench.log("a")
    assert f"joined the station at {STATION}:29460" in other.log("b")


def test_another_station_where_its_own_was_is_not_joined(
    bench: Bench, other: Bench, cable: Cable
) -> None:
    keep_address(bench, cable, "a", 27_460)
    start(other, 27_460)
    look(bench, cable, "a")
    says(bench, "a", f"station not found at {STATION}:27460")
    start(bench, 28_460)
    bench.wait_until_idle(["a"])
    assert other.speakers() == {}


def test_one_that_claims_to_be_its_own_is_asked_for_proof(
    bench: Bench, other: Bench, cable: Cable
) -> None:
    """Anybody can put our root into a TXT record."""
    keep_address(bench, cable, "a", 27_460)
    start(other, 29_460)
    with advertised(bench, "Bench", 29_460, shown_fingerprint(root_of(bench))):
        look(bench, cable, "a")
        says(bench, "a", f"station not found at {STATION}:29460")
        start(bench, 28_460)
        bench.wait_until_idle(["a"])
    assert other.speakers() == {}


def test_a_loudspeaker_that_ends_is_forgotten_by_its_goodbye(bench: Bench, cable: Cable) -> None:
    enrolled(bench, "a")
    with advertised(bench, "A", 7460):
        speaker = look(bench, cable, "a")
        says(bench, "A", f"come: a {SPEAKER} None")
        assert end(speaker, signal.SIGTERM) == 0
        says(bench, "A", f"gone: a {SPEAKER} None")


def test_without_multicast_dns_an_address_will_do(bench: Bench, cable: Cable) -> None:
    with cable.at_the_speakers():
        there = port_taken()
    with there, port_taken():
        start(bench, 0)
        with advertised(bench, "Bench", 9):
            look(bench, cable, "a")
            bench.wait_until_idle(["a"])
            says(bench, "Bench", "no discovery: Address already in use")
        says(bench, "a", "another program keeps UDP port 5353 to itself")


def test_who_wants_nobody_to_know_is_not_announced(bench: Bench, cable: Cable) -> None:
    with advertised(bench, "A", 7460):
        for name, options in {"hidden": ["--no-discovery"], "open": []}.items():
            enrolled(bench, name)
            look(bench, cable, name, *options)
            says(bench, name, "station not found")
        says(bench, "A", "open")
        assert "hidden" not in bench.log("A")
