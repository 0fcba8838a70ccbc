"""Real processes on either side of a real `loa impair`: a station, and loudspeakers that call it.

All are on this machine, at two addresses of its own. What loudspeakers play is recorded with the
true time, which all of them are hidden from.
"""

import json
import random
import signal
import socket
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.demo import VOICE, wrong_world
from bench.impair_replay import (
    NEIGHBOURS,
    READING_NOISE_US,
    WINDOW_S,
    Met,
    Watch,
)
from bench.measure import Recording, offset_seconds
from bench.network import SECOND
from bench.processes import Bench, ProcessError, end, wait_until
from bench.sync_pairs import CRYSTAL_PPM
from bench.trace import load_trace
from server.pace import time_s
from transport.net.clocks import now_ns

HERE, THERE = "127.0.0.1", "127.0.0.2"
_END_S = 5
_VOICE_S = 60
# A voice begins so long before it is looked at, for its delay and what starts with it.
_BEGINS_S = 9.0
_TRIES = 1_000
_OPTIONS = ("--delivery", "wan", "--buffer-ms", "120")


def station_port() -> int:
    """The first of five that are free at both addresses, for TCP and UDP; ProcessError if none."""
    draw = random.Random()
    for _ in range(_TRIES):
        first = draw.randrange(20_000, 32_000)
        if all(_is_free(address, first + step) for step in range(5) for address in (HERE, THERE)):
            return first
    raise ProcessError("no five ports in a row are free here")


def _is_free(address: str, port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


class Impaired:
    """A proxy before `port`, until it is ended."""

    def __init__(self, bench: Bench, port: int, *words: str, listen: str = "") -> None:
        """ProcessError if it does not start."""
        listen = listen or f"{THERE}:{port}"
        given = ("--listen", listen, "--to", f"{HERE}:{port}", *words)
        self._bench = bench
        self._process = bench.start("impair", *given, log="impair")
        assert self._process.stdout is not None  # noqa: S101 - it was opened as a pipe
        self.out = self._process.stdout
        self.ready = json.loads(self.out.readline() or "{}")
        self.ready_ns = now_ns()
        if not self.ready:
            raise ProcessError(f"loa impair did not start: {bench.log('impair')}")

    def end(self, number: int = signal.SIGINT) -> dict[str, Any]:
        """What it says at its end; ProcessError if it complains of anything."""
        self._process.send_signal(number)
        lines = [json.loads(line) for line in self.out]
        status, complaint = self._process.wait(_END_S), self._bench.log("impair")
        if status != 0 or complaint or lines[-1]["event"] != "end":
            raise ProcessError(f"loa impair ended with {status}: {complaint}")
        figures: dict[str, Any] = lines[-1]
        return figures


@dataclass(frozen=True, slots=True)
class Heard:
    """What a loudspeaker behind the proxy was like, and another that was not."""

    figures: dict[str, Any]
    rows: dict[str, dict[str, Any]]
    apart_s: float

    @property
    def packets(self) -> int:
        """Of the stream itself: repairs are sent in bad moments, and are lost more than others."""
        return int(self.rows["near"]["packets_received"])

    @property
    def loss(self) -> float:
        """The share that did not come through at once."""
        return float(self.rows["far"]["packets_lost"]) / self.packets


def hear(bench: Bench, *words: str) -> Heard:
    """A voice to a loudspeaker before and another behind a proxy of these options."""
    port = station_port()
    bench.start_station(port=port)
    impaired = Impaired(bench, port, *words, "--every", "0")
    draw = random.Random(20261121)
    for number, (name, where) in enumerate({"near": HERE, "far": THERE}.items()):
        world = wrong_world(draw, number)
        bench.start_speaker(name, "--server", f"{where}:{port}", *_OPTIONS, simulate=world)
    bench.wait_until_idle(("near", "far"))
    said = (str(VOICE), "--repeat", "2", "--zone", "all", "--server", bench.address)
    voice = bench.start("live", *said, log="live")
    wait_until(lambda: bench.speakers()["far"]["state"] == "playing", "its sound")
    began_ns = now_ns()
    if voice.wait(_VOICE_S) != 0:
        raise ProcessError(f"the voice failed: {bench.log('live')}")
    wait_until(lambda: {row["state"] for row in bench.speakers().values()} == {"idle"}, "the end")
    rows = bench.speakers()
    figures = impaired.end()
    pair = [Recording.load(bench.recording(name)) for name in ("near", "far")]
    apart = offset_seconds(pair[0], pair[1], began_ns + SECOND, 8 * SECOND, 0.2)
    return Heard(figures, rows, apart.seconds)


@dataclass(frozen=True, slots=True, eq=False)
class Stepped:
    """How far apart real neighbours were, (pairs, windows), and what their exchanges met."""

    apart_us: NDArray[np.float64]
    met: tuple[Met, ...]
    watch: Watch
    figures: dict[str, Any]


def step(bench: Bench, path: str, seed: int, settle_s: float, seconds: float) -> Stepped:
    """Neighbours behind a proxy that records, compared for so long after settling."""
    port, folder = station_port(), bench.folder / "traces"
    bench.start_station(port=port)
    words = ("--profile", path, "--seed", str(seed), "--every", "0", "--record", str(folder))
    impaired = Impaired(bench, port, *words)
    names = [f"neighbour-{number}" for number in range(NEIGHBOURS)]
    for number, name in enumerate(names):
        where = ("--server", f"{THERE}:{port}")
        bench.start_speaker(name, *where, *_OPTIONS, simulate=_world(seed, number))
    bench.wait_until_idle(names)
    began_ns = now_ns()
    _rest_until(began_ns, settle_s - _BEGINS_S)
    said = (str(VOICE), "--repeat", "100", "--zone", "all", "--server", bench.address)
    voice = bench.start("live", *said, log="live")
    _rest_until(began_ns, settle_s + seconds + 1)
    figures = impaired.end()
    end(voice)
    watch = Watch(settle_s, seconds, time_s(NEIGHBOURS))
    recordings = [Recording.load(bench.recording(name)) for name in names]
    apart_us = np.array([_apart_us(pair, began_ns, watch) for pair in combinations(recordings, 2)])
    ready_s = (impaired.ready_ns - began_ns) / SECOND
    return Stepped(apart_us, _met(folder, port, ready_s, figures["recorded"]), watch, figures)


def _world(seed: int, number: int) -> dict[str, Any]:
    """A wrong clock and a wrong crystal, like those of the simulation."""
    draw = random.Random(f"{seed} {number}")
    skews = {
        name: draw.uniform(-CRYSTAL_PPM, CRYSTAL_PPM) for name in ("clock_skew_ppm", "dac_ppm")
    }
    own = {"dac_wander_ppm": 1, "reading_noise_us": READING_NOISE_US}
    return {**wrong_world(draw, number), **skews, **own}


def _rest_until(began_ns: int, after_s: float) -> None:
    time.sleep(max(0.0, after_s - (now_ns() - began_ns) / SECOND))


def _apart_us(pair: tuple[Recording, Recording], began_ns: int, watch: Watch) -> list[float]:
    window_ns = round(WINDOW_S * SECOND)
    first_ns = began_ns + round(watch.settle_s * SECOND)
    return [
        1e6 * offset_seconds(*pair, first_ns + number * window_ns, window_ns).seconds
        for number in range(watch.windows)
    ]


def _met(
    folder: Path, port: int, ready_s: float, recorded: dict[str, dict[str, float]]
) -> tuple[Met, ...]:
    """Of each loudspeaker, in the order in which they first asked.

    ProcessError if one has begun anew, so that what it met is in two traces.
    """
    if f"{port}-{NEIGHBOURS + 1}-up.trace" in recorded:
        raise ProcessError("a loudspeaker asked for the time from two ports")
    met = []
    for number in range(1, NEIGHBOURS + 1):
        files = [f"{port}-{number}-{way}.trace" for way in ("down", "up")]
        down, up = (load_trace(folder / file) for file in files)
        met.append(Met(down, up, ready_s + recorded[files[1]]["first_s"]))
    return tuple(met)
