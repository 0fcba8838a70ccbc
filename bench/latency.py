"""Capture of a sample to its time at the loudspeaker's (virtual) DAC, whole processes.

Chirps go through a real station to a real loudspeaker process whose clock and crystal are wrong.
A chirp's latency is the true time at which the microphone hears it, less the true time at which
the source captured it. A chirp that is not heard counts as infinitely late.
"""

import argparse
import math
import random
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.progress import track

from bench.demo import wrong_world
from bench.measure import Recording, find_markers
from bench.processes import Bench, end
from bench.report import percentiles, plot_cdf, table, write_json
from codec.format import SAMPLE_RATE, Samples
from server.live.client import LiveClient

_BLOCK_SAMPLES = SAMPLE_RATE // 200
_CHIRP_SAMPLES = SAMPLE_RATE // 50
_EVERY_SAMPLES = SAMPLE_RATE // 10
# The tail sounds D after the last block, and is written within 0.2 s.
_TAIL_S = 1.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this bench alone."""
    parser.add_argument(
        "--playout-delay", type=float, default=40.0, metavar="MS", help="D (%(default)s)"
    )
    parser.add_argument("--frame-ms", type=float, default=10.0, help="(%(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="(%(default)s)")
    parser.add_argument(
        "--delivery", choices=("unicast", "multicast"), default="multicast", help="(%(default)s)"
    )


def chirp() -> Samples:
    """20 ms from 500 to 3,500 Hz under a Hann window: no speech resembles it."""
    t = np.arange(_CHIRP_SAMPLES) / SAMPLE_RATE
    sweep = 500 * t + 3000 / (2 * t[-1]) * t**2
    marker: Samples = (0.5 * np.hanning(_CHIRP_SAMPLES) * np.sin(2 * np.pi * sweep)).astype(
        np.float32
    )
    return marker


def _chirps(seconds: float) -> Iterator[Samples]:
    period = np.zeros(_EVERY_SAMPLES, np.float32)
    period[:_CHIRP_SAMPLES] = chirp()
    for _ in range(int(seconds * SAMPLE_RATE / _EVERY_SAMPLES)):
        yield from np.split(period, _EVERY_SAMPLES // _BLOCK_SAMPLES)


def run(options: argparse.Namespace) -> None:
    """Measure and report."""
    with tempfile.TemporaryDirectory(prefix="loa-bench-") as folder:
        delays_ms, row = _measure(options, Path(folder))
    heard = np.array([math.inf if delay is None else delay for delay in delays_ms])
    figures = {
        "playout_delay_ms": options.playout_delay,
        "frame_ms": options.frame_ms,
        **percentiles(heard, "ms"),
        "markers": len(heard),
        "not_heard": int(np.sum(np.isinf(heard))),
        "packets_late": row["packets_late"],
        "packets_lost": row["packets_lost"],
        "underruns": row["underruns"],
        "device_buffer_ms": _buffer_ms(options),
        "device_latency_ms": 0.0,
    }
    table("capture to DAC", [{"figure": name, "value": value} for name, value in figures.items()])
    if options.json is not None:
        write_json(options.json, figures, options.seed)
    if options.plot is not None:
        label = f"D {options.playout_delay:g} ms, {options.frame_ms:g} ms frames"
        plot_cdf(options.plot, {label: heard[np.isfinite(heard)]}, "latency, ms", "capture to DAC")


def _buffer_ms(options: argparse.Namespace) -> float:
    """What a sound card would be set to for such a D; a part of D, not added to it."""
    return min(10.0, float(options.playout_delay) / 4)


def _measure(
    options: argparse.Namespace, folder: Path
) -> tuple[list[float | None], dict[str, int]]:
    with Bench(folder) as bench:
        bench.start_station()
        world = wrong_world(random.Random(options.seed), options.seed)
        words = ["--buffer-ms", str(_buffer_ms(options))]
        words += ["--multicast"] if options.delivery == "multicast" else []
        speaker = bench.start_speaker("one", *words, simulate=world)
        bench.wait_until_idle(["one"])
        began_ns = _speak(options, bench)
        time.sleep(_TAIL_S)
        row = bench.speakers()["one"]
        end(speaker)
        recording = Recording.load(bench.recording("one"))
    step_ns = _EVERY_SAMPLES * 1_000_000_000 // SAMPLE_RATE
    emitted = [began_ns + n * step_ns for n in range(int(options.seconds * 1e9 / step_ns))]
    search_ns = round(options.playout_delay * 1e6) + step_ns // 2
    return find_markers(recording, chirp(), emitted, min(search_ns, step_ns * 4 // 5)), row


def _speak(options: argparse.Namespace, bench: Bench) -> int:
    request = {
        "to": ["one"],
        "frame_ms": options.frame_ms,
        "playout_delay_ms": options.playout_delay,
        "bitrate": 64_000,
    }
    client = LiveClient(bench.address, request, bench.credentials)
    blocks = int(options.seconds * SAMPLE_RATE / _BLOCK_SAMPLES)
    # A deque of no length runs an iterator to its end.
    deque(track(client.speak(_chirps(options.seconds)), "chirping", total=blocks), maxlen=0)
    client.finish()
    return client.progress.began_ns
