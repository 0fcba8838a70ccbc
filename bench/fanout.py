"""One packet to thousands of addresses: what it costs us, and what the kernel alone charges.

Ours is the whole way of a frame: sealed and signed, through the ring, to everybody. Beside it runs
the same loop of sendmmsg in C, in turns, so that both meet the same moods of the machine. All
figures are of processor time: nobody waits here but for whoever else uses the machine.
"""

import argparse
import csv
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import comb
from pathlib import Path
from typing import Self

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bench.fanout_peers import gstreamer_us, snapserver_us
from bench.fanout_sender import SEALED_BYTES
from bench.measure import MeasureError
from bench.report import plot_cdf, table, write_json
from server.processes.ring import MAX_DATAGRAM
from server.sender.pacing import MOST_CHUNK

SIZES = (120, 160, 225)
FIRST_ADDRESS = "127.1.0.1"
MAX_DESTINATIONS = 1 << 22
# So many packets a run: a tenth of a second or two.
_RUN_PACKETS = 60_000
_PLAIN_RUNS = 5
# As the supervisor's children: idle threads of a library for matrices eat what is measured.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_COLUMNS = {
    "packet_bytes": "bytes",
    "us_per_packet": "loa",
    "c_us_per_packet": "C",
    "ratio_to_c": "ratio",
    "ratio_low": "from",
    "ratio_high": "to",
    "sendto_us_per_packet": "sendto",
    "gstreamer_us_per_packet": "gst",
    "snapserver_us_per_packet": "snap",
}
_LOOP = Path(__file__).with_name("fanout_loop.c")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this bench alone."""
    parser.add_argument(
        "--destinations", type=int, default=5_000, metavar="N", help="(%(default)s)"
    )
    parser.add_argument(
        "--packet-bytes",
        type=int,
        metavar="B",
        help=f"of the sealed packet ({', '.join(map(str, SIZES))})",
    )
    parser.add_argument(
        "--pairs", type=int, default=15, metavar="N", help="runs of each, in turns (%(default)s)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write each run here")
    parser.add_argument(
        "--no-peers", action="store_true", help="leave GStreamer and snapserver out"
    )


@dataclass(frozen=True, slots=True)
class Task:
    """What is sent: `frames` packets of so many bytes to so many addresses, from `seed`."""

    destinations: int
    packet_bytes: int
    port: int
    seed: int

    @property
    def frames(self) -> int:
        """How many packets to everybody a run has."""
        return max(1, round(_RUN_PACKETS / self.destinations))

    @property
    def words(self) -> list[str]:
        """Those that all loops are given alike, but for the chunk of the one in C."""
        return [str(self.frames), FIRST_ADDRESS, str(self.port)]


class Loop:
    """A process that sends a run whenever it is told to, and says what it took."""

    def __init__(
        self, words: Sequence[str], task: Task, env: Mapping[str, str] | None = None
    ) -> None:
        self._packets = task.frames * task.destinations
        self._name = Path(words[0]).name
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run_us(self) -> float:
        """Processor time of one run, us a packet; MeasureError if the process is gone."""
        assert self._process.stdin is not None  # noqa: S101 - it was opened as a pipe
        assert self._process.stdout is not None  # noqa: S101 - likewise
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline()) / 1e3 / self._packets
        except (OSError, ValueError):
            raise MeasureError(f"{self._name} ended before it was told to") from None


def our_loop(how: str, task: Task) -> Loop:
    """Ours, by "sendmmsg" or "sendto", in the environment that the station's senders have."""
    counts = [str(task.destinations), str(task.packet_bytes)]
    words = [sys.executable, "-P", "-m", "bench.fanout_sender", how, *counts]
    return Loop([*words, *task.words, str(task.seed)], task, {**os.environ, **_ENVIRONMENT})


def c_loop(program: Path, task: Task) -> Loop:
    """The kernel's price."""
    counts = [str(task.destinations), str(task.packet_bytes), str(MOST_CHUNK)]
    return Loop([str(program), *counts, *task.words], task)


def compiled(folder: Path) -> Path | None:
    """The loop in C; None if there is no compiler, MeasureError if it does not like the loop."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    program = folder / "fanout_loop"
    words = [compiler, "-O2", "-o", str(program), str(_LOOP)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MeasureError(f"{compiler}: {done.stderr.strip().splitlines()[0]}")
    return program


@contextmanager
def sink() -> Iterator[int]:
    """A port on every address of loopback, where all is dropped for want of room."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        udp.bind(("0.0.0.0", 0))  # noqa: S104 - whatever of 127/8 is sent to
        yield int(udp.getsockname()[1])


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Bounds of the true median, right 19 times of 20, by order statistics; ValueError for none.

    With fewer than six values that much cannot be said, and the least and largest are given.
    """
    if not values:
        raise ValueError("no values were measured")
    ordered, below, rank = sorted(values), 0.0, 0
    while 2 * rank + 1 < len(ordered):
        below += comb(len(ordered), rank) / 2 ** len(ordered)
        if below > 0.025:
            break
        rank += 1
    low = max(0, rank - 1)
    return ordered[low], ordered[-1 - low]


def alternate(
    ours: Callable[[], float],
    theirs: Callable[[], float] | None,
    pairs: int,
    tick: Callable[[], None],
) -> list[tuple[float, float]]:
    """(ours, theirs) of each pair, one after the other; NaN where there are no others."""
    found = []
    for _ in range(pairs):
        found.append((ours(), theirs() if theirs is not None else float("nan")))
        tick()
    return found


def figures(task: Task, pairs: Sequence[tuple[float, float]]) -> dict[str, object]:
    """One size as a row; what was not measured is None."""
    ours = [own for own, _ in pairs]
    row: dict[str, object] = {
        "destinations": task.destinations,
        "packet_bytes": task.packet_bytes,
        "us_per_packet": statistics.median(ours),
        **dict.fromkeys(("c_us_per_packet", "ratio_to_c", "ratio_low", "ratio_high")),
    }
    theirs = [other for _, other in pairs if other == other]  # noqa: PLR0124 - NaN is not itself
    if theirs:
        ratios = [other / own for own, other in pairs]
        low, high = median_interval(ratios)
        row["c_us_per_packet"] = statistics.median(theirs)
        row |= {"ratio_to_c": statistics.median(ratios), "ratio_low": low, "ratio_high": high}
    return row


def measure(
    task: Task, program: Path | None, pairs: int, tick: Callable[[], None]
) -> tuple[dict[str, object], list[tuple[float, float]]]:
    """The row of one size, and its runs."""
    with ExitStack() as held:
        ours = held.enter_context(our_loop("sendmmsg", task))
        theirs = held.enter_context(c_loop(program, task)) if program is not None else None
        for loop in (ours, theirs):  # once unmeasured: pages and caches
            if loop is not None:
                loop.run_us()
        runs = alternate(ours.run_us, theirs.run_us if theirs is not None else None, pairs, tick)
        plain = held.enter_context(our_loop("sendto", task))
        plain.run_us()
        row = figures(task, runs)
        row["sendto_us_per_packet"] = statistics.median(plain.run_us() for _ in range(_PLAIN_RUNS))
    return row, runs


def run(options: argparse.Namespace) -> None:
    """Measure and report."""
    sizes = _checked(options)
    rows, runs = [], {}
    with (
        tempfile.TemporaryDirectory(prefix="loa-fanout-") as folder,
        sink() as port,
        Progress(console=Console(stderr=True), transient=True) as progress,
    ):
        program = compiled(Path(folder))
        bar = progress.add_task("pairs", total=len(sizes) * options.pairs)
        for size in sizes:
            task = Task(options.destinations, size, port, options.seed)
            row, runs[size] = measure(task, program, options.pairs, partial(progress.advance, bar))
            peers = not options.no_peers
            row["gstreamer_us_per_packet"] = gstreamer_us(task, FIRST_ADDRESS) if peers else None
            rows.append(row)
        progress.update(bar, description="snapserver")
        snap_us = None if options.no_peers else snapserver_us(Path(folder))
    for row in rows:
        row["snapserver_us_per_packet"] = snap_us
    report(rows, runs, options)


def _checked(options: argparse.Namespace) -> tuple[int, ...]:
    """The sizes to measure; ValueError for options that make no sense."""
    sizes = SIZES if options.packet_bytes is None else (options.packet_bytes,)
    if not 1 <= options.destinations <= MAX_DESTINATIONS:
        raise ValueError(f"--destinations: 1 to {MAX_DESTINATIONS}")
    if not all(SEALED_BYTES <= size <= MAX_DATAGRAM for size in sizes):
        raise ValueError(f"--packet-bytes: {SEALED_BYTES} to {MAX_DATAGRAM}")
    if options.pairs < 1:
        raise ValueError("--pairs: at least 1")
    if options.csv is not None and not options.csv.absolute().parent.is_dir():
        raise ValueError(f"--csv: {options.csv}: there is no such folder")
    return sizes


def report(
    rows: Sequence[Mapping[str, object]],
    runs: Mapping[int, Sequence[tuple[float, float]]],
    options: argparse.Namespace,
) -> None:
    """Table, JSON (the largest size at the top, all under "sizes"), plot and raw runs."""
    title = f"{options.destinations} destinations: us of processor a packet, ratio to C, "
    title += f"median of {options.pairs} pairs"
    known = {n: short for n, short in _COLUMNS.items() if any(row[n] is not None for row in rows)}
    table(title, [{short: row[name] for name, short in known.items()} for row in rows])
    if options.json is not None:
        write_json(options.json, {**rows[-1], "pairs": options.pairs, "sizes": rows}, options.seed)
    if options.csv is not None:
        with options.csv.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(("packet_bytes", "pair", "us_per_packet", "c_us_per_packet"))
            lines.writerows(
                (size, n, *pair) for size, of in runs.items() for n, pair in enumerate(of)
            )
    if options.plot is not None:
        series = {}
        for size, of in runs.items():
            ours, theirs = np.array(of).T
            series[f"loa, {size} bytes"] = ours
            if not np.isnan(theirs).any():
                series[f"C, {size} bytes"] = theirs
        plot_cdf(
            options.plot, series, "us of processor a packet", f"{options.destinations} destinations"
        )
