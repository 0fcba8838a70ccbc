"""Real processes behind `loa impair`, beside what the simulation says of the same bad networks.

Loss: how much a real loudspeaker loses of a voice, and where 95 % of simulated runs lie. Step: how
far apart four real neighbours play, what each of their exchanges for the time met being recorded,
and where 95 % of simulated runs lie in which these delays are replayed from anywhere in them; and
in the same order, where what remains is the loudspeakers' own clocks.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console
from rich.progress import Progress

from bench.impair_replay import Interval, losses, rms_us, steps
from bench.impair_scene import hear, step
from bench.processes import Bench
from bench.report import plot_cdf, table, write_json

LOSS_PATHS = ("R20", "M2")
STEP_PATH = "L1"
LEAST_RUNS = 40
_RTT_MS = "100"
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """One figure of real processes, beside all simulated ones."""

    what: str
    profile: str
    real: float
    simulated: tuple[float, ...]

    def row(self) -> dict[str, object]:
        """As a table and JSON have it."""
        interval = Interval.of(self.simulated)
        return {
            "what": self.what,
            "profile": self.profile,
            "runs": len(self.simulated),
            "real": self.real,
            "low": interval.low,
            "middle": interval.middle,
            "high": interval.high,
            "inside": interval.holds(self.real),
        }


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this bench alone."""
    parser.add_argument(
        "--runs", type=int, default=400, metavar="N", help="simulated, for loss (%(default)s)"
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=20.0,
        metavar="S",
        help="before neighbours are compared (%(default)g)",
    )


def run(options: argparse.Namespace) -> None:
    """Measure and report."""
    if not LEAST_RUNS <= options.runs <= 100_000:
        raise ValueError(f"--runs {options.runs}: use {LEAST_RUNS} to 100000, for 95 % of them")
    if not 15 <= options.settle <= 600:
        raise ValueError(f"--settle {options.settle:g}: use 15 to 600 seconds")
    found = _measured(options)
    rows = [one.row() for one in found]
    table("real processes, and 95 % of simulated runs", rows)
    if options.json is not None:
        about = {"settle_s": options.settle, "seconds": _SECONDS}
        write_json(options.json, {"rows": rows, **about}, options.seed)
    if options.plot is not None:
        anywhere, in_order = found[-2:]
        series = {
            "simulated": np.array(anywhere.simulated),
            "in the same order": np.array(in_order.simulated),
            "real": np.array([anywhere.real]),
        }
        plot_cdf(options.plot, series, "apart, us", f"{STEP_PATH}, delays replayed")


def _measured(options: argparse.Namespace) -> list[Evidence]:
    found = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(LOSS_PATHS) + 1)
        for path in LOSS_PATHS:
            progress.update(task, description=f"loss, {path}")
            found.append(loss(path, options.seed, options.runs))
            progress.advance(task)
        progress.update(task, description=f"step, {STEP_PATH}")
        return found + in_step(STEP_PATH, options.seed, options.runs, options.settle, _SECONDS)


def loss(path: str, seed: int, runs: int) -> Evidence:
    """The share of a voice's packets that a real loudspeaker loses."""
    with _bench() as bench:
        heard = hear(bench, "--profile", path, "--rtt-ms", _RTT_MS, "--seed", str(seed))
    return Evidence("loss", path, heard.loss, tuple(losses(path, heard.packets, runs)))


def in_step(path: str, seed: int, runs: int, settle_s: float, seconds: float) -> list[Evidence]:
    """How far apart real neighbours are, in us: beside delays in any order, and in the same."""
    with _bench() as bench:
        stepped = step(bench, path, seed, settle_s, seconds)
    real_us = rms_us(stepped.apart_us)
    return [
        Evidence(what, path, real_us, tuple(steps(stepped.met, stepped.watch, n, in_order=order)))
        for what, n, order in (
            ("apart, us", max(LEAST_RUNS, runs // 4), False),
            ("apart, us (in order)", LEAST_RUNS, True),
        )
    ]


@contextmanager
def _bench() -> Iterator[Bench]:
    with TemporaryDirectory(prefix="loa-") as folder, Bench(Path(folder)) as bench:
        yield bench
